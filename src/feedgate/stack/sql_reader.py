"""A cursor over one statement's tokens, and Snowflake's ``KEY = value`` options.

The reader of options knows nothing of meanings: it gives each option with its place, so that
whoever knows the table of options can refuse an unknown one with line and column and go on to the
next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from feedgate.errors import Finding, Source
from feedgate.stack.sql_text import Script, SqlFault, Token, identifier_text

__all__ = ["Cursor", "Option", "Value", "shown"]

PARENTHESES_MAX = 16  # Snowflake's options nest two deep


@dataclass(frozen=True, slots=True)
class Value:
    """What stands right of an ``=``: a string, a bare word, a number, a list, or options."""

    kind: Literal["string", "word", "number", "list", "options", "name"]
    start: int
    text: str = ""
    items: tuple[Value, ...] = ()
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """One ``KEY = value``; ``key`` in upper case, ``start`` its offset."""

    key: str
    value: Value
    start: int


class Cursor:
    """A place in one statement. ``findings`` collects what does not stop the reading."""

    def __init__(self, script: Script, tokens: Sequence[Token], findings: list[Finding]) -> None:
        self.script = script
        self.findings = findings
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    # -- looking --------------------------------------------------------------------------------

    @property
    def token(self) -> Token | None:
        """The next token, None at the end of the statement."""
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def peek(self, ahead: int = 1) -> Token | None:
        """A token further on."""
        index = self._at + ahead
        return self._tokens[index] if index < len(self._tokens) else None

    @property
    def offset(self) -> int:
        """Where the next token begins; the end of the statement when there is none."""
        token = self.token
        return token.start if token else self._tokens[-1].end

    @property
    def previous_end(self) -> int:
        """Where the last token taken ends."""
        return self._tokens[self._at - 1].end

    @property
    def source(self) -> Source:
        """The place of the next token."""
        return self.script.source(self.offset)

    def at(self, *words: str) -> bool:
        """True if the next tokens are these bare words or symbols."""
        for ahead, word in enumerate(words):
            token = self.peek(ahead)
            if token is None or token.upper != word:
                return False
        return True

    # -- taking ---------------------------------------------------------------------------------

    def take(self) -> Token:
        """The next token. Raises ``SqlFault`` at the end."""
        token = self.token
        if token is None:
            raise self.fault("the statement ends too early")
        self._at += 1
        return token

    def accept(self, *words: str) -> bool:
        """Take these words if they come next."""
        if not self.at(*words):
            return False
        self._at += len(words)
        return True

    def expect(self, *words: str) -> None:
        """Take these words. Raises ``SqlFault`` if something else comes next."""
        for word in words:
            if not self.accept(word):
                raise self.fault(f"expected {word}, found {shown(self.token)}")

    def word(self, what: str) -> Token:
        """A bare word."""
        token = self.token
        if token is None or token.kind != "word":
            raise self.fault(f"expected {what}, found {shown(token)}")
        return self.take()

    def string(self, what: str) -> str:
        """A string constant."""
        token = self.token
        if token is None or token.kind != "string":
            raise self.fault(f"expected {what} in single quotes, found {shown(token)}")
        return self.take().text

    def integer(self, what: str) -> int:
        """A whole number."""
        token = self.token
        if token is None or token.kind != "number" or not token.text.isdigit():
            raise self.fault(f"expected {what}, found {shown(token)}")
        return int(self.take().text)

    def identifier(self, what: str) -> str:
        """A name as Snowflake stores it."""
        token = self.token
        if token is None or token.kind not in ("word", "quoted"):
            raise self.fault(f"expected {what}, found {shown(token)}")
        return identifier_text(self.take())

    def parts(self, what: str) -> tuple[str, ...]:
        """A name of one to three parts."""
        found = [self.identifier(what)]
        while self.at(".") and len(found) < 3:
            self.take()
            found.append(self.identifier(what))
        return tuple(found)

    def skip_parenthesis(self) -> None:
        """Take a ``( … )`` with all that nests in it."""
        depth = 0
        while True:
            symbol = self.take().upper
            depth += (symbol == "(") - (symbol == ")")
            if depth <= 0:
                return

    def mark(self) -> int:
        """This place, for ``reset``."""
        return self._at

    def reset(self, mark: int) -> None:
        """Go back to a marked place."""
        self._at = mark

    def skip_to(self, *symbols: str) -> None:
        """Go on to one of these symbols outside of any parenthesis, or to the end."""
        while self.token is not None and not any(self.at(symbol) for symbol in symbols):
            if self.at("("):
                self.skip_parenthesis()
            else:
                self.take()

    def end(self) -> None:
        """Require the end of the statement."""
        if self.token is not None:
            raise self.fault(f"unexpected {shown(self.token)}")

    # -- saying ---------------------------------------------------------------------------------

    def fault(
        self, message: str, *, hint: str | None = None, offset: int | None = None
    ) -> SqlFault:
        """An error at the next token, or at ``offset``."""
        place = self.offset if offset is None else offset
        return self.script.fault(place, message, hint=hint)

    def collect(self, message: str, *, hint: str | None = None, offset: int | None = None) -> None:
        """Note an error and go on."""
        self.findings.append(self.fault(message, hint=hint, offset=offset).finding)

    def remark(
        self,
        severity: Literal["warning", "ignored"],
        message: str,
        *,
        rule: str,
        hint: str | None = None,
        offset: int | None = None,
    ) -> None:
        """Note a warning, or what has no effect here."""
        finding = self.fault(message, hint=hint, offset=offset).finding
        self.findings.append(replace(finding, severity=severity, rule=rule))

    # -- options --------------------------------------------------------------------------------

    def options(self, *, until: tuple[str, ...] = ()) -> tuple[Option, ...]:
        """``KEY = value`` pairs, blanks or commas between, to the end or a word of ``until``."""
        found: dict[str, Option] = {}
        while self.token is not None and not any(self.at(word) for word in until):
            if self.accept(","):
                continue
            start = self.offset
            key = self.word("an option").upper
            if not self.accept("="):
                raise self.fault(f"expected = after {key}, found {shown(self.token)}")
            option = Option(key, self._value(), start)
            if key in found:
                self.collect(f"option {key} is given twice", offset=start)
            found[key] = option
        return tuple(found.values())

    def _value(self) -> Value:
        token = self.take()
        start = token.start
        if token.kind == "string":
            return Value("string", start, token.text)
        if token.kind == "symbol" and token.text == "(":
            return self._parenthesis(start)
        if token.kind == "symbol" and token.text in "+-" and self.token is not None:
            return Value("number", start, token.text.replace("+", "") + self.take().text)
        if token.kind == "number":
            return Value("number", start, token.text)
        if token.kind == "quoted" or self.at("."):
            return self._name_value(token)
        if token.kind == "word":
            return Value("word", start, token.text)
        raise self.fault(f"expected a value, found {shown(token)}", offset=start)

    def _name_value(self, first: Token) -> Value:
        """A name of several parts or in double quotes: FORMAT_NAME = db.schema."f"."""
        items = [Value("name", first.start, identifier_text(first))]
        while self.accept("."):
            start = self.offset
            items.append(Value("name", start, self.identifier("a name")))
        return Value("name", first.start, "", tuple(items))

    def _parenthesis(self, start: int) -> Value:
        self._depth += 1
        if self._depth > PARENTHESES_MAX:
            raise self.fault(f"options nest more than {PARENTHESES_MAX} parentheses", offset=start)
        value = self._inside_parenthesis(start)
        self._depth -= 1
        return value

    def _inside_parenthesis(self, start: int) -> Value:
        first, second = self.token, self.peek()
        if first is not None and first.kind == "word" and second is not None and second.text == "=":
            options = self.options(until=(")",))
            self.expect(")")
            return Value("options", start, options=options)
        items: list[Value] = []
        while not self.accept(")"):
            if not self.accept(","):
                items.append(self._value())
        return Value("list", start, items=tuple(items))


def shown(token: Token | None) -> str:
    """A token in a message."""
    if token is None:
        return "the end of the statement"
    return f"`{token.text if len(token.text) <= 40 else token.text[:40] + '…'}`"
