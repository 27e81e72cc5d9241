"""A Snowflake script as text: ``&{Name}`` values put in, tokens with offsets, statements cut.

Snowflake receives the author's bytes, so nothing here rewrites a statement: a statement is a slice
of the substituted text. Places that people see are those of the file before substitution.

Why not sqlglot: its parser refuses valid STAGE text, leaves PIPE unread and turns formats into
strptime's (tried), so only its tokenizer would be left, for 0.15 s of import in each process. The
tokens are the same; a test holds them against sqlglot's.
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
    faults: list[tuple[int, str, str | None]] = []
    length = at = 0
    for match in _VARIABLE.finditer(text):
        out.append(text[at : match.start()])
        length += match.start() - at
        value, fault = _value(match, values)
        if fault:
            faults.append((length, *fault))
        out.append(value)
        moves += [(length, match.start(), True), (length + len(value), match.end(), False)]
        length += len(value)
        at = match.end()
    out.append(text[at:])
    script = Script(file, "".join(out), text, moves)
    return script, [
        (offset, script.fault(offset, message, hint=hint).finding)
        for offset, message, hint in faults
    ]


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


# -- tokens -------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<skip>\s+|--[^\n]*|//[^\n]*|/\*.*?\*/)
      | (?P<raw>\$\$.*?\$\$)
      | (?P<string>'(?:[^'\\]++|\\.|'')*+')
      | (?P<quoted>"(?:[^"]++|"")*+")
      | (?P<word>[^\W\d][\w$]*)
      | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
      | (?P<open>/\*|\$\$|['"])
      | (?P<symbol>::|\|\||<>|!=|<=|>=|=>|->|.)""",
    re.DOTALL | re.VERBOSE,
)
_OPENED = {"'": "string", '"': "quoted name", "$$": "`$$` string", "/*": "comment"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[0-7]{3}|.)|''", re.DOTALL)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "0": "\0"}


def cut(script: Script) -> list[list[Token]]:
    """The statements of a script, each a list of tokens without its semicolon.

    Raises:
        SqlFault: a string, quoted name or comment that does not end.
    """
    statements: list[list[Token]] = [[]]
    for match in _TOKEN.finditer(script.text):
        kind, raw = match.lastgroup, match.group()
        if kind == "skip":
            continue
        if kind == "open":
            raise script.fault(match.start(), f"{_OPENED[raw]} without an end")
        if raw == ";":
            statements.append([])
        else:
            statements[-1].append(_token(kind, raw, match.start(), match.end()))
    return [statement for statement in statements if statement]


def _token(kind: str | None, raw: str, start: int, end: int) -> Token:
    if kind == "word":
        return Token("word", raw, start, end)
    if kind == "string":
        return Token("string", _decode_string(raw), start, end)
    if kind == "raw":
        return Token("string", raw[2:-2], start, end)
    if kind == "quoted":
        return Token("quoted", raw[1:-1].replace('""', '"'), start, end)
    return Token("number" if kind == "number" else "symbol", raw, start, end)


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
