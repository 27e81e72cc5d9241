"""One select expression of a COPY: Snowflake's text in, DuckDB's SQL out. Pure.

The reader is our own and not sqlglot's: sqlglot turns Snowflake's date formats into strptime's and
its functions into nodes that differ from version to version, and keeps no positions in most of
them; here what is not understood is refused with its place, and nothing passes by being unknown.
Precedence is Snowflake's: ``OR``, ``AND``, ``NOT``, comparison,
``||``, sign, then ``::`` and ``:`` which bind tightest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from feedgate.errors import FeedgateError
from feedgate.pipes.conversion import Conversion, all_of, literal, valid
from feedgate.pipes.functions import (
    BOOLEAN,
    FUNCTIONS,
    NULL,
    VARCHAR,
    VARIANT,
    Typed,
    as_text,
    as_type,
    choose,
    guarded,
    require_text,
)
from feedgate.pipes.types import SqlType
from feedgate.stack.sql_reader import Cursor, shown
from feedgate.stack.sql_table import read_type
from feedgate.stack.sql_text import Token

__all__ = ["SQL_CHARS_MAX", "Input", "compile_expression"]

SQL_CHARS_MAX: Final = 100_000  # value, error and message: DuckDB plans that in some 0.3 s
NESTING_MAX: Final = 40
FIELDS_MAX: Final = 10_000

_METADATA: Final[Mapping[str, tuple[str, SqlType]]] = {
    "METADATA$FILENAME": ("_filename", VARCHAR),
    "METADATA$FILE_ROW_NUMBER": ("_row_number", SqlType("NUMBER", 38, 0)),
    "METADATA$FILE_LAST_MODIFIED": ("_last_modified", SqlType("TIMESTAMP_NTZ", 6)),
    "METADATA$START_SCAN_TIME": ("_start_scan_time", SqlType("TIMESTAMP_LTZ")),
    "METADATA$FILE_CONTENT_KEY": ("_content_key", VARCHAR),
}
_COMPARISONS = ("=", "<>", "!=", "<=", ">=", "<", ">")
_ARITHMETIC = ("+", "-", "*", "/", "%")
_WHOLE = re.compile(r"\d{1,18}")
_SAFE_KEY = re.compile(r'[^"*\\]+')


@dataclass(frozen=True, slots=True)
class Input:
    """What the expression reads: ``type`` CSV or JSON, the stage's alias, the format's options."""

    type: str
    alias: str | None
    options: Mapping[str, Any]


class _Compiler:
    """Recursive descent; every method takes its tokens from the cursor and gives a ``Typed``."""

    def __init__(self, cursor: Cursor, given: Input) -> None:
        self.cursor = cursor
        self.given = given
        self.fields = 0
        self._nesting = 0

    def expression(self) -> Typed:
        self._deeper()
        found = self._or()
        self._nesting -= 1
        return found

    def _deeper(self) -> None:
        self._nesting += 1
        if self._nesting > NESTING_MAX:
            raise self.cursor.fault(f"the expression nests more than {NESTING_MAX} levels")

    def _bounded(self, made: Typed) -> Typed:
        """A cast names its operand several times, so text may double at each step."""
        if made.conversion.size > SQL_CHARS_MAX:
            raise self.cursor.fault("the expression becomes too long", hint="take casts apart")
        return made

    def _or(self) -> Typed:
        left = self._and()
        while self.cursor.accept("OR"):
            left = self._logic(left, self._and(), "OR")
        return left

    def _and(self) -> Typed:
        left = self._not()
        while self.cursor.accept("AND"):
            left = self._logic(left, self._not(), "AND")
        return left

    def _logic(self, left: Typed, right: Typed, word: str) -> Typed:
        for side in (left, right):
            if side.type.name != "BOOLEAN":
                raise self.cursor.fault(f"{word} joins conditions, not {side.type.name}")
        when = left.sql if word == "AND" else f"NOT coalesce({left.sql}, false)"
        parts = (left.conversion, guarded(right.conversion, when))
        return self._bounded(Typed(all_of(parts, f"({left.sql} {word} {right.sql})"), BOOLEAN))

    def _not(self) -> Typed:
        if not self.cursor.accept("NOT"):
            return self._comparison()
        self._deeper()
        inner = self._not()
        self._nesting -= 1
        if inner.type.name != "BOOLEAN":
            raise self.cursor.fault(f"NOT takes a condition, not {inner.type.name}")
        return Typed(all_of((inner.conversion,), f"(NOT {inner.sql})"), BOOLEAN)

    # -- comparisons ----------------------------------------------------------------------------

    def _comparison(self) -> Typed:
        left = self._concatenation()
        for symbol in _COMPARISONS:
            if self.cursor.accept(symbol):
                return self._compare(left, self._concatenation(), symbol)
        if self.cursor.accept("IS"):
            negated = "NOT " if self.cursor.accept("NOT") else ""
            self.cursor.expect("NULL")
            return Typed(all_of((left.conversion,), f"({left.sql} IS {negated}NULL)"), BOOLEAN)
        negate = self.cursor.at("NOT") and self.cursor.accept("NOT")
        if self.cursor.accept("IN"):
            return self._in(left, negate=negate)
        if self.cursor.accept("BETWEEN"):
            low = self._concatenation()
            self.cursor.expect("AND")
            high = self._concatenation()
            above, below = self._compare(left, low, ">="), self._compare(left, high, "<=")
            both = self._logic(above, below, "AND")
            return self._negated(both) if negate else both
        if self.cursor.accept("LIKE"):
            return self._like(left, negate=negate)
        if negate:
            raise self.cursor.fault(
                f"expected IN, BETWEEN or LIKE, found {shown(self.cursor.token)}"
            )
        return left

    def _negated(self, inner: Typed) -> Typed:
        return Typed(all_of((inner.conversion,), f"(NOT {inner.sql})"), BOOLEAN)

    def _in(self, left: Typed, *, negate: bool) -> Typed:
        self.cursor.expect("(")
        found = self._compare(left, self.expression(), "=")
        while self.cursor.accept(","):
            found = self._logic(found, self._compare(left, self.expression(), "="), "OR")
        self.cursor.expect(")")
        return self._negated(found) if negate else found

    def _like(self, left: Typed, *, negate: bool) -> Typed:
        pattern = self._concatenation()
        if not isinstance(pattern.constant, str):
            raise self.cursor.fault("LIKE takes a pattern written out")
        text = as_text(left)
        like = Typed(all_of((text.conversion,), f"({text.sql} LIKE {pattern.sql})"), BOOLEAN)
        return self._negated(like) if negate else like

    def _compare(self, left: Typed, right: Typed, symbol: str) -> Typed:
        """A VARIANT is compared as what it is compared with."""
        pair = []
        for side, other in ((left, right), (right, left)):
            if side.type.name == "VARIANT" and other.type.name in ("NUMBER", "FLOAT"):
                pair.append(as_type(side, SqlType("FLOAT"), {}))
            elif side.type.name == "VARIANT":
                pair.append(as_type(side, VARCHAR if other.type == NULL else other.type, {}))
            else:
                pair.append(side)
        if left.type.name == right.type.name == "VARIANT":
            pair = [as_text(left), as_text(right)]
        _type, (one, two) = choose(pair)
        operator = "<>" if symbol == "!=" else symbol
        parts = (one.conversion, two.conversion)
        return Typed(all_of(parts, f"({one.sql} {operator} {two.sql})"), BOOLEAN)

    # -- operators on values --------------------------------------------------------------------

    def _concatenation(self) -> Typed:
        left = self._sign()
        while True:
            if self.cursor.accept("||"):
                left = self._bounded(FUNCTIONS["CONCAT"].build((left, self._sign()), {}))
                continue
            for symbol in _ARITHMETIC:
                if self.cursor.at(symbol):
                    raise self.cursor.fault(f"arithmetic (`{symbol}`) is not done in a pipe here")
            return left

    def _sign(self) -> Typed:
        for symbol in "+-":
            if self.cursor.at(symbol):
                offset = self.cursor.offset
                self.cursor.take()
                number = self._postfix()
                if number.constant is None or number.type.name not in ("NUMBER", "FLOAT"):
                    raise self.cursor.fault("a sign stands only before a number", offset=offset)
                if symbol == "+":
                    return number
                constant = (
                    -number.constant if isinstance(number.constant, int) else f"-{number.sql}"
                )
                return Typed(valid(f"(-{number.sql})"), number.type, constant)
        return self._postfix()

    def _postfix(self) -> Typed:
        value = self._primary()
        path: list[str] = []
        while True:
            if self.cursor.at("::"):
                value, path = self._cast(self._extract(value, path)), []
            elif self.cursor.at(":") or (path and self.cursor.at(".")):
                self._require_variant(value)
                self.cursor.take()
                path.append(self._key())
            elif self.cursor.at("["):
                self._require_variant(value)
                path.append(self._subscript())
            else:
                return self._extract(value, path)

    def _cast(self, value: Typed) -> Typed:
        self.cursor.expect("::")
        target = SqlType(*read_type(self.cursor))
        return self._bounded(as_type(value, target, self.given.options))

    def _require_variant(self, value: Typed) -> None:
        if value.type.name not in ("VARIANT", "OBJECT", "ARRAY"):
            raise self.cursor.fault(
                f"{value.type.name} has no parts to go into", hint="write PARSE_JSON($1):key"
            )

    def _key(self) -> str:
        token = self.cursor.token
        if token is None or token.kind not in ("word", "quoted"):
            raise self.cursor.fault(f"expected a key, found {shown(token)}")
        return self._quoted_key(self.cursor.take())

    def _quoted_key(self, token: Token) -> str:
        if not _SAFE_KEY.fullmatch(token.text):
            raise self.cursor.fault(
                f"a key with `*`, a quote or a backslash is not read here: `{token.text}`",
                offset=token.start,
            )
        return f'."{token.text}"'

    def _subscript(self) -> str:
        self.cursor.expect("[")
        token = self.cursor.take()
        if token.kind == "string":
            step = self._quoted_key(token)
        elif token.kind == "number" and _WHOLE.fullmatch(token.text):
            step = f"[{token.text}]"
        else:
            raise self.cursor.fault("a subscript is a number or a text", offset=token.start)
        self.cursor.expect("]")
        return step

    def _extract(self, value: Typed, path: list[str]) -> Typed:
        if not path:
            return value
        sql = f"json_extract({value.sql}, {literal('$' + ''.join(path))})"
        return Typed(all_of((value.conversion,), sql), VARIANT)

    # -- primaries ------------------------------------------------------------------------------

    def _primary(self) -> Typed:
        token = self.cursor.token
        if token is None:
            raise self.cursor.fault("the expression ends too early")
        if token.kind == "string":
            self.cursor.take()
            return Typed(valid(literal(token.text)), VARCHAR, token.text)
        if token.kind == "number":
            return self._number(self.cursor.take())
        if self.cursor.accept("("):
            inner = self.expression()
            self.cursor.expect(")")
            return inner
        if self.cursor.at("$"):
            return self._field()
        return self._named(token)

    def _number(self, token: Token) -> Typed:
        text = token.text
        if _WHOLE.fullmatch(text):
            return Typed(valid(text), SqlType("NUMBER", len(text), 0), int(text))
        if re.fullmatch(r"\d{1,19}\.\d{1,18}", text):
            whole, _, fraction = text.partition(".")
            type_ = SqlType("NUMBER", len(whole) + len(fraction), len(fraction))
            return Typed(
                valid(f"CAST('{text}' AS DECIMAL({type_.length},{type_.scale}))"), type_, text
            )
        if re.fullmatch(r"\d+(\.\d*)?[eE][+-]?\d+", text):
            return Typed(valid(f"CAST('{text}' AS DOUBLE)"), SqlType("FLOAT"), text)
        raise self.cursor.fault(f"the number `{text}` is not read here", offset=token.start)

    def _field(self) -> Typed:
        """``$1``: a field of a CSV record, or the one value of JSON."""
        start = self.cursor.offset
        self.cursor.expect("$")
        number = self.cursor.integer("the number of a field")
        if not 1 <= number <= FIELDS_MAX:
            raise self.cursor.fault(f"there is no field ${number}", offset=start)
        if self.given.type == "JSON":
            if number != 1:
                raise self.cursor.fault(f"JSON has only $1, not ${number}", offset=start)
            self.fields = 1
            return Typed(valid("c1"), VARIANT)
        self.fields = max(self.fields, number)
        return Typed(valid(f"c{number}"), VARCHAR)

    def _named(self, token: Token) -> Typed:
        following = self.cursor.peek()
        if following is not None and following.text == "." and following.kind == "symbol":
            self._alias()
            if self.cursor.at("$"):
                return self._field()
            token = self.cursor.word("$1 or a METADATA$ column")
        elif token.kind != "word":
            raise self.cursor.fault(f"expected a value, found {shown(token)}")
        else:
            self.cursor.take()
        word = token.upper
        if word in _METADATA:
            column, type_ = _METADATA[word]
            return Typed(valid(column), type_)
        if word in _CONSTANTS:
            return _CONSTANTS[word]
        if word == "CASE":
            return self._case()
        if word in ("CAST", "TRY_CAST"):
            return self._cast_call(word)
        return self._call(token)

    def _alias(self) -> None:
        offset = self.cursor.offset
        name = self.cursor.identifier("an alias")
        if name != self.given.alias:
            raise self.cursor.fault(f"`{name}` is not the alias of the stage", offset=offset)
        self.cursor.expect(".")

    def _call(self, token: Token) -> Typed:
        name = token.upper
        function = FUNCTIONS.get(name)
        bare = function is not None and function.least == 0
        if not self.cursor.at("(") and not bare:
            raise self.cursor.fault(
                f"`{token.text}` is neither a field nor a function",
                hint="fields are $1, $2 …; text stands in single quotes",
                offset=token.start,
            )
        if function is None:
            raise self.cursor.fault(
                f"function {name} is not done in a pipe here", offset=token.start
            )
        arguments: list[Typed] = []
        if self.cursor.accept("("):
            while not self.cursor.accept(")"):
                arguments.append(self.expression())
                if not self.cursor.at(")"):
                    self.cursor.expect(",")
        if not function.least <= len(arguments) <= function.most:
            raise self.cursor.fault(
                f"{name} takes {function.least} to {function.most} arguments, not {len(arguments)}",
                offset=token.start,
            )
        return self._bounded(function.build(arguments, self.given.options))

    def _cast_call(self, word: str) -> Typed:
        self.cursor.expect("(")
        value = self.expression()
        self.cursor.expect("AS")
        target = SqlType(*read_type(self.cursor))
        self.cursor.expect(")")
        if word == "TRY_CAST":
            require_text(value)
        done = self._bounded(as_type(value, target, self.given.options))
        if word == "CAST":
            return done
        return Typed(all_of((value.conversion,), done.sql), target)

    def _case(self) -> Typed:
        subject = None if self.cursor.at("WHEN") else self.expression()
        conditions: list[Typed] = []
        values: list[Typed] = []
        while self.cursor.accept("WHEN"):
            given = self.expression()
            conditions.append(given if subject is None else self._compare(subject, given, "="))
            if conditions[-1].type.name != "BOOLEAN":
                raise self.cursor.fault("WHEN takes a condition")
            self.cursor.expect("THEN")
            values.append(self.expression())
        if not conditions:
            raise self.cursor.fault("CASE without WHEN")
        otherwise = self.expression() if self.cursor.accept("ELSE") else Typed(valid("NULL"), NULL)
        self.cursor.expect("END")
        target, chosen = choose([*values, otherwise])
        return self._bounded(Typed(_case_conversion(conditions, chosen), target))


def _case_conversion(conditions: list[Typed], chosen: list[Typed]) -> Conversion:
    """Faults of a branch count only in rows that come to it."""
    parts: list[Conversion] = []
    missed: list[str] = []
    branches: list[str] = []
    for condition, value in zip(conditions, chosen, strict=False):
        before = " AND ".join(missed) or "true"
        parts.append(guarded(condition.conversion, before))
        parts.append(guarded(value.conversion, f"{before} AND {condition.sql}"))
        missed.append(f"NOT coalesce({condition.sql}, false)")
        branches.append(f"WHEN {condition.sql} THEN {value.sql}")
    parts.append(guarded(chosen[-1].conversion, " AND ".join(missed)))
    return all_of(parts, f"(CASE {' '.join(branches)} ELSE {chosen[-1].sql} END)")


_CONSTANTS: Final[Mapping[str, Typed]] = {
    "TRUE": Typed(valid("true"), BOOLEAN),
    "FALSE": Typed(valid("false"), BOOLEAN),
    "NULL": Typed(valid("NULL"), NULL),
}


def compile_expression(cursor: Cursor, given: Input) -> tuple[Typed, int]:
    """One expression and the highest field it reads.

    Raises:
        SqlFault: with the place of what is not read here.
    """
    compiler = _Compiler(cursor, given)
    try:
        found = compiler.expression()
        if cursor.accept("AS"):
            cursor.identifier("an alias")
        elif cursor.token is not None and cursor.token.kind in ("word", "quoted"):
            cursor.take()
    except FeedgateError as error:  # a cast or a format that is not done: no place of its own
        raise cursor.fault(error.message, hint=error.hint) from error
    cursor.end()
    return found, compiler.fields
