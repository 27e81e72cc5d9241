"""A Snowflake script as text: ``&{Name}`` values put in, tokens with offsets, statements cut.

Snowflake receives the author's bytes, so nothing here rewrites a statement: a statement is a slice
of the substituted text. Places that people see are those of the file before substitution.

sqlglot's Snowflake tokenizer knows strings, comments and ``$$`` texts; its parser is not used,
because it refuses valid STAGE text and leaves PIPE unread (facts: tried). Escapes are decoded here,
for sqlglot reads ``\\q`` and octal forms differently from version to version.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from feedgate.errors import Finding, Source

__all__ = ["Script", "SqlFault", "Token", "cut", "identifier_text", "substitute"]

Kind = Literal["word", "quoted", "string", "number", "symbol"]


class SqlFault(Exception):
    """One fault of a script; caught by ``parse_warehouse``, which collects them all."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


@dataclass(frozen=True, slots=True)
class Token:
    """``text``: words as written, strings and quoted names decoded. ``end`` is exclusive."""

    kind: Kind
    text: str
    start: int
    end: int

    @property
    def upper(self) -> str:
        """The word in upper case; a quoted name or string never equals a keyword."""
        return self.text.upper() if self.kind in ("word", "symbol") else ""


class Script:
    """One file after substitution, able to say where in the author's file an offset lies."""

    def __init__(
        self, file: str, text: str, original: str, moves: Sequence[tuple[int, int, bool]]
    ) -> None:
        self.file = file
        self.text = text
        self._moves = moves  # (offset in text, offset in original, is a substituted value)
        self._starts = [move[0] for move in moves]
        self._lines = [0, *(match.end() for match in re.finditer("\n", original))]

    def source(self, offset: int) -> Source:
        """The place in the author's file of an offset in ``text``."""
        index = bisect.bisect_right(self._starts, offset) - 1
        start, origin, value = self._moves[index]
        at = origin if value else origin + (offset - start)
        line = bisect.bisect_right(self._lines, at)
        return Source(self.file, line, at - self._lines[line - 1] + 1)

    def fault(self, offset: int, message: str, *, hint: str | None = None) -> SqlFault:
        """An error at an offset."""
        return SqlFault(Finding("error", message, self.source(offset), hint=hint))


_VARIABLE = re.compile(r"&(?:(&)|\{([^{}\n]*)\}|([A-Za-z_]\w*)|(\{))")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f'\"\\;]|\$\$")


def substitute(
    file: str, text: str, values: Mapping[str, str]
) -> tuple[Script, list[tuple[int, Finding]]]:
    """Put values for ``&{Name}`` (SnowSQL's variable substitution; ``&&`` is a plain ``&``).

    Returns the script and the faults with their offsets in the substituted text: a fault inside a
    comment does not count, which only the tokens can tell. Unlike SnowSQL a bare ``&name`` and a
    value that could end a string or a statement are refused.
    """
    text = text.removeprefix("\ufeff")
    out: list[str] = []
    moves: list[tuple[int, int, bool]] = [(0, 0, False)]
    faults: list[tuple[int, Finding]] = []
    length = at = 0
    for match in _VARIABLE.finditer(text):
        out.append(text[at : match.start()])
        length += match.start() - at
        value, fault = _value(match, values)
        if fault:
            message, hint = fault
            faults.append((length, Finding("error", message, _place(file, text, match), hint=hint)))
        out.append(value)
        moves += [(length, match.start(), True), (length + len(value), match.end(), False)]
        length += len(value)
        at = match.end()
    out.append(text[at:])
    return Script(file, "".join(out), text, moves), faults


def _value(
    match: re.Match[str], values: Mapping[str, str]
) -> tuple[str, tuple[str, str | None] | None]:
    escaped, name, bare, _open = match.groups()
    if escaped:
        return "&", None
    if bare:
        hint = f"write `&{{{bare}}}`, or `&&` for a plain `&`"
        return match.group(), (f"`&{bare}` would be substituted by SnowSQL", hint)
    if name is None:
        return match.group(), ("`&{` has no closing brace on its line", None)
    if name not in values:
        near = get_close_matches(name, list(values), n=1)
        hint = f"did you mean `{near[0]}`?" if near else "names are outputs, then parameters, `-D`"
        return match.group(), (f"`&{{{name}}}` has no value", hint)
    if _UNSAFE.search(values[name]):
        return "", (f"the value of `&{{{name}}}` holds a quote, escape or separator", None)
    return values[name], None


def _place(file: str, text: str, match: re.Match[str]) -> Source:
    before = text[: match.start()]
    return Source(file, before.count("\n") + 1, match.start() - (before.rfind("\n") + 1) + 1)


# -- tokens -------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\W\d][\w$]*")
_SPAN = re.compile(
    r"--[^\n]*|//[^\n]*|/\*.*?\*/|\$\$.*?\$\$|'(?:[^'\\]|\\.|'')*'|\"(?:[^\"]|\"\")*\"", re.DOTALL
)
_OPENER = re.compile(r"--|//|/\*|\$\$|['\"]")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[0-7]{3}|.)|''", re.DOTALL)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "0": "\0"}


def cut(script: Script) -> list[list[Token]]:
    """The statements of a script, each a list of tokens without its semicolon.

    Raises:
        SqlFault: a string, quoted name or comment that does not end.
    """
    import sqlglot  # noqa: PLC0415 - 0.15 s, and most commands read no warehouse.sql
    from sqlglot.errors import TokenError  # noqa: PLC0415

    _require_ended(script)
    try:
        raw = sqlglot.tokenize(script.text, read="snowflake")
    except TokenError as error:
        raise script.fault(0, "the script cannot be split into words") from error
    statements: list[list[Token]] = [[]]
    for each in raw:
        if each.token_type.name == "SEMICOLON":
            statements.append([])
        else:
            statements[-1].extend(_tokens(script.text, each.start, each.end + 1))
    return [statement for statement in statements if statement]


def _tokens(text: str, start: int, end: int) -> list[Token]:
    raw = text[start:end]
    if raw.startswith("$$"):
        return [Token("string", raw[2:-2], start, end)]
    if raw.startswith("'"):
        return [Token("string", _decode_string(raw), start, end)]
    if raw.startswith('"'):
        return [Token("quoted", raw[1:-1].replace('""', '"'), start, end)]
    if raw[:1].isdigit():
        return [Token("number", raw, start, end)]
    words = list(_WORD.finditer(raw))
    if words and "".join(raw.split()) == "".join(word.group() for word in words):
        # sqlglot joins `FILE FORMAT` and its like into one token
        return [Token("word", w.group(), start + w.start(), start + w.end()) for w in words]
    return [Token("symbol", raw, start, end)]


def _require_ended(script: Script) -> None:
    at = 0
    while opener := _OPENER.search(script.text, at):
        span = _SPAN.match(script.text, opener.start())
        if span is None:
            kinds = {"'": "string", '"': "quoted name", "$$": "`$$` string", "/*": "comment"}
            raise script.fault(opener.start(), f"{kinds[opener.group()]} without an end")
        at = span.end()


def _decode_string(raw: str) -> str:
    """A single-quoted string with its quotes, decoded as Snowflake does ("String constants")."""
    return _ESCAPE.sub(_unescape, raw[1:-1])


def _unescape(match: re.Match[str]) -> str:
    body = match.group(1)
    if body is None:
        return "'"
    if len(body) > 1:
        return chr(int(body, 8)) if body.isdigit() else chr(int(body[1:], 16))
    return _ESCAPED.get(body, body)


def identifier_text(token: Token) -> str:
    """The name that Snowflake stores: bare in upper case, quoted exact."""
    return token.text if token.kind == "quoted" else token.text.upper()
