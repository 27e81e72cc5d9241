"""The functions that a COPY's SELECT may call, one row each: Snowflake's meaning as DuckDB SQL.

A function that is not in the table is refused by name when the stack loads. Where DuckDB's function
of the same name differs (SUBSTR from 0, SPLIT_PART by an empty text, CONCAT of NULL), the row does
what Snowflake documents, or takes only constants for which the two agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from feedgate.errors import Unsupported
from feedgate.pipes.conversion import Conversion, all_of, literal, valid
from feedgate.pipes.types import SqlType, cast, duckdb_type, parse_json

__all__ = [
    "BOOLEAN",
    "FUNCTIONS",
    "NULL",
    "VARCHAR",
    "VARIANT",
    "Function",
    "Typed",
    "as_text",
    "as_type",
    "choose",
    "guarded",
    "require_text",
]

VARCHAR: Final = SqlType("VARCHAR")
VARIANT: Final = SqlType("VARIANT")
BOOLEAN: Final = SqlType("BOOLEAN")
NULL: Final = SqlType("NULL")
INTEGER: Final = SqlType("NUMBER", 38, 0)


@dataclass(frozen=True, slots=True)
class Typed:
    """A compiled expression. ``constant`` is the value of a literal, None otherwise."""

    conversion: Conversion
    type: SqlType
    constant: str | int | None = None

    @property
    def sql(self) -> str:
        """The value's SQL."""
        return self.conversion.value_sql


Options = Mapping[str, Any]
Build = Callable[[Sequence[Typed], Options], Typed]


@dataclass(frozen=True, slots=True)
class Function:
    """How many arguments a function takes, and what it becomes."""

    least: int
    most: int
    build: Build


def as_type(value: Typed, target: SqlType, options: Options) -> Typed:
    """``value::target``, its own faults first."""
    if value.type == NULL:
        return Typed(valid(f"CAST(NULL AS {duckdb_type(target)})"), target)
    done = value.conversion.then(lambda sql: cast(sql, value.type, target, options))
    return Typed(done, target)


def as_text(value: Typed) -> Typed:
    """The argument of a text function; Snowflake casts VARIANT and numbers by itself."""
    return value if value.type.name == "VARCHAR" else as_type(value, VARCHAR, {})


def guarded(conversion: Conversion, condition_sql: str) -> Conversion:
    """Faults count only where the value is asked for: CASE, IFF and COALESCE are lazy."""
    if not conversion.can_fail:
        return conversion
    error = f"(coalesce({condition_sql}, false) AND {conversion.error_sql})"
    return Conversion(conversion.value_sql, error, conversion.message_sql, conversion.code_sql)


def choose(values: Sequence[Typed]) -> tuple[SqlType, list[Typed]]:
    """The common type of several values, and the values cast to it.

    Raises:
        Unsupported: no common type without a cast that the author should write.
    """
    known = [value.type for value in values if value.type != NULL]
    target = known[0] if known else VARCHAR
    for other in known[1:]:
        target = _wider(target, other)
    return target, [
        value if value.type == target else as_type(value, target, {}) for value in values
    ]


def _wider(left: SqlType, right: SqlType) -> SqlType:
    names = {left.name, right.name}
    if names == {"NUMBER"}:
        scale = max(left.scale or 0, right.scale or 0)
        whole = max((each.length or 38) - (each.scale or 0) for each in (left, right))
        return SqlType("NUMBER", min(38, whole + scale), scale)
    if names == {"VARCHAR"}:
        return VARCHAR
    if len(names) == 1:
        return left if left.fraction_digits >= right.fraction_digits else right
    if "VARIANT" in names:
        return VARIANT
    if names == {"NUMBER", "FLOAT"}:
        return SqlType("FLOAT")
    raise Unsupported(
        f"{left.name} and {right.name} have no common type here", hint="cast one of them"
    )


# -- text ---------------------------------------------------------------------------------------


def _text(template: str, result: SqlType = VARCHAR) -> Build:
    """A function of one text; ``{}`` is the argument."""

    def build(arguments: Sequence[Typed], _options: Options) -> Typed:
        given = as_text(arguments[0])
        return Typed(all_of((given.conversion,), template.format(given.sql)), result)

    return build


def _trim(name: str) -> Build:
    def build(arguments: Sequence[Typed], _options: Options) -> Typed:
        texts = [as_text(each) for each in arguments]
        sql = f"{name}({', '.join(each.sql for each in texts)})"
        return Typed(all_of([each.conversion for each in texts], sql), VARCHAR)

    return build


def _number_constant(value: Typed, what: str) -> int:
    if not isinstance(value.constant, int):
        raise Unsupported(f"{what} must be a whole number written out")
    return value.constant


def _text_constant(value: Typed, what: str) -> str:
    if not isinstance(value.constant, str) or not value.constant:
        raise Unsupported(f"{what} must be a text written out, and not empty")
    return value.constant


def _substr(arguments: Sequence[Typed], _options: Options) -> Typed:
    given = as_text(arguments[0])
    start = _number_constant(arguments[1], "the start of SUBSTR") or 1  # Snowflake: 0 means 1
    sql = f"substr({given.sql}, {start}"
    if len(arguments) == 3:
        sql += f", {max(0, _number_constant(arguments[2], 'the length of SUBSTR'))}"
    return Typed(all_of((given.conversion,), sql + ")"), VARCHAR)


def _side(name: str) -> Build:
    def build(arguments: Sequence[Typed], _options: Options) -> Typed:
        given = as_text(arguments[0])
        count = max(0, _number_constant(arguments[1], f"the length of {name.upper()}"))
        return Typed(all_of((given.conversion,), f"{name}({given.sql}, {count})"), VARCHAR)

    return build


def _split_part(arguments: Sequence[Typed], _options: Options) -> Typed:
    given = as_text(arguments[0])
    delimiter = _text_constant(arguments[1], "the delimiter of SPLIT_PART")
    part = _number_constant(arguments[2], "the part of SPLIT_PART") or 1
    sql = f"split_part({given.sql}, {literal(delimiter)}, {part})"
    return Typed(all_of((given.conversion,), sql), VARCHAR)


def _replace(arguments: Sequence[Typed], _options: Options) -> Typed:
    given = as_text(arguments[0])
    sought = _text_constant(arguments[1], "what REPLACE looks for")
    put = as_text(arguments[2]) if len(arguments) == 3 else Typed(valid("''"), VARCHAR)
    sql = f"replace({given.sql}, {literal(sought)}, {put.sql})"
    return Typed(all_of((given.conversion, put.conversion), sql), VARCHAR)


def _concat(arguments: Sequence[Typed], _options: Options) -> Typed:
    """NULL if any part is NULL, as ``||``; DuckDB's concat leaves NULLs out."""
    texts = [as_text(each) for each in arguments]
    sql = "(" + " || ".join(each.sql for each in texts) + ")"
    return Typed(all_of([each.conversion for each in texts], sql), VARCHAR)


# -- choices ------------------------------------------------------------------------------------


def _coalesce(arguments: Sequence[Typed], _options: Options) -> Typed:
    target, values = choose(arguments)
    parts = [values[0].conversion]
    for index, value in enumerate(values[1:], 1):
        before = " AND ".join(f"{each.sql} IS NULL" for each in values[:index])
        parts.append(guarded(value.conversion, before))
    sql = f"coalesce({', '.join(each.sql for each in values)})"
    return Typed(all_of(parts, sql), target)


def _nullif(arguments: Sequence[Typed], _options: Options) -> Typed:
    if arguments[0].type.name == "VARIANT":
        raise Unsupported("NULLIF of a VARIANT is not done here", hint="cast it: $1:a::VARCHAR")
    _target, (left, right) = choose(arguments)
    sql = f"nullif({left.sql}, {right.sql})"
    return Typed(all_of((left.conversion, right.conversion), sql), left.type)


def _iff(arguments: Sequence[Typed], _options: Options) -> Typed:
    condition = arguments[0]
    if condition.type.name != "BOOLEAN":
        raise Unsupported("the first argument of IFF must be a condition")
    target, (chosen, other) = choose(arguments[1:])
    sql = f"(CASE WHEN {condition.sql} THEN {chosen.sql} ELSE {other.sql} END)"
    parts = (
        condition.conversion,
        guarded(chosen.conversion, condition.sql),
        guarded(other.conversion, f"NOT coalesce({condition.sql}, false)"),
    )
    return Typed(all_of(parts, sql), target)


# -- conversions --------------------------------------------------------------------------------


def require_text(value: Typed) -> None:
    """Snowflake's TRY_ functions take text only. Raises ``Unsupported``."""
    if value.type.name not in ("VARCHAR", "NULL"):
        raise Unsupported(
            f"a TRY_ function takes VARCHAR, not {value.type.name}", hint="cast it: $1:a::VARCHAR"
        )


def _lenient(build: Build) -> Build:
    """TRY_: the conversion's own fault becomes NULL; those of its argument stand."""

    def lenient(arguments: Sequence[Typed], options: Options) -> Typed:
        require_text(arguments[0])
        done = build(arguments, options)
        return Typed(
            all_of([each.conversion for each in arguments], done.conversion.value_sql), done.type
        )

    return lenient


def _to(target: SqlType, option: str | None = None) -> Build:
    """A cast; a second argument is the format, which stands for the file format's ``option``."""

    def build(arguments: Sequence[Typed], options: Options) -> Typed:
        given = arguments[0]
        if given.type.name == "NUMBER" and option is not None:
            given = as_text(given)  # an epoch
        if len(arguments) == 1:
            return as_type(given, target, options)
        assert option is not None
        form = _text_constant(arguments[1], f"the format of {target.name}")
        return as_type(as_text(given), target, {**options, option: form})

    return build


def _to_number(arguments: Sequence[Typed], options: Options) -> Typed:
    numbers = arguments[1:]
    if numbers and isinstance(numbers[0].constant, str):
        raise Unsupported(
            "TO_NUMBER with a format is not done here", hint="take signs out with REPLACE"
        )
    precision = _number_constant(numbers[0], "the precision") if numbers else 38
    scale = _number_constant(numbers[1], "the scale") if len(numbers) == 2 else 0
    if not 1 <= precision <= 38 or not 0 <= scale <= min(precision, 37):
        raise Unsupported(f"NUMBER({precision},{scale}) does not exist")
    return as_type(arguments[0], SqlType("NUMBER", precision, scale), options)


def _parse_json(arguments: Sequence[Typed], _options: Options) -> Typed:
    given = as_text(arguments[0])
    return Typed(given.conversion.then(lambda sql: parse_json(sql, VARIANT)), VARIANT)


def _now(sql: str, result: SqlType) -> Build:
    return lambda _arguments, _options: Typed(valid(sql), result)


def _conversions() -> dict[str, Function]:
    found: dict[str, Function] = {}
    rows: list[tuple[tuple[str, ...], int, Build]] = [
        (("DATE",), 2, _to(SqlType("DATE"), "DATE_FORMAT")),
        (("TIME",), 2, _to(SqlType("TIME"), "TIME_FORMAT")),
        (("BINARY",), 2, _to(SqlType("BINARY"), "BINARY_FORMAT")),
        (("DOUBLE",), 1, _to(SqlType("FLOAT"))),
        (("BOOLEAN",), 1, _to(BOOLEAN)),
        (("NUMBER", "DECIMAL", "NUMERIC"), 3, _to_number),
        *(
            ((name,), 2, _to(SqlType(stored), "TIMESTAMP_FORMAT"))
            for name, stored in (
                ("TIMESTAMP", "TIMESTAMP_NTZ"),
                ("TIMESTAMP_NTZ", "TIMESTAMP_NTZ"),
                ("TIMESTAMP_LTZ", "TIMESTAMP_LTZ"),
                ("TIMESTAMP_TZ", "TIMESTAMP_TZ"),
            )
        ),
    ]
    for names, most, build in rows:
        for name in names:
            found[f"TO_{name}"] = Function(1, most, build)
            found[f"TRY_TO_{name}"] = Function(1, most, _lenient(build))
    return found


FUNCTIONS: Final[Mapping[str, Function]] = {
    **_conversions(),
    "TO_VARCHAR": Function(1, 1, _to(VARCHAR)),
    "TO_VARIANT": Function(1, 1, _to(VARIANT)),
    "TO_CHAR": Function(1, 1, _to(VARCHAR)),
    "PARSE_JSON": Function(1, 1, _parse_json),
    "TRY_PARSE_JSON": Function(1, 1, _lenient(_parse_json)),
    "UPPER": Function(1, 1, _text("upper({})")),
    "LOWER": Function(1, 1, _text("lower({})")),
    "LENGTH": Function(1, 1, _text("length({})", INTEGER)),
    "LEN": Function(1, 1, _text("length({})", INTEGER)),
    "TRIM": Function(1, 2, _trim("trim")),
    "LTRIM": Function(1, 2, _trim("ltrim")),
    "RTRIM": Function(1, 2, _trim("rtrim")),
    "SUBSTR": Function(2, 3, _substr),
    "SUBSTRING": Function(2, 3, _substr),
    "LEFT": Function(2, 2, _side("left")),
    "RIGHT": Function(2, 2, _side("right")),
    "SPLIT_PART": Function(3, 3, _split_part),
    "REPLACE": Function(2, 3, _replace),
    "CONCAT": Function(1, 64, _concat),
    "NULLIF": Function(2, 2, _nullif),
    "NVL": Function(2, 2, _coalesce),
    "IFNULL": Function(2, 2, _coalesce),
    "COALESCE": Function(2, 64, _coalesce),
    "IFF": Function(3, 3, _iff),
    "CURRENT_TIMESTAMP": Function(0, 1, _now("now()", SqlType("TIMESTAMP_LTZ"))),
    "CURRENT_DATE": Function(0, 0, _now("CAST(now() AT TIME ZONE 'UTC' AS DATE)", SqlType("DATE"))),
}
