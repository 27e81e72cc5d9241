"""Snowflake's column types in DuckDB: what stores them, and how text and JSON become them.

In the path: a parsed field or a select expression comes in as SQL; a ``Conversion`` goes out, from
which the loader builds its INSERT and finds the rows that cannot be loaded. Why not DuckDB's casts
alone: they raise where a pipe must go on, ignore the length of a VARCHAR, and accept what Snowflake
refuses (``1_000``, ``2024/01/02``) and the other way round (``on``, ``02-JAN-2024``).

Stated losses: TIMESTAMP_LTZ and TIMESTAMP_TZ keep microseconds and no offset (TIMESTAMPTZ); a JSON
number with a fraction keeps a double's 17 digits; see ``temporal`` for time zones and ranges.
Messages and numbers are Snowflake's where they are known (facts: COPY INTO's own texts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from feedgate.errors import Unsupported
from feedgate.pipes.conversion import Conversion, all_of, literal, message, valid
from feedgate.pipes.temporal import (
    AUTO,
    MICROSECOND_DIGITS,
    NANOSECOND_DIGITS,
    date_from_text,
    time_from_moment,
    time_from_text,
    timestamp,
    timestamp_from_moment,
)
from feedgate.stack.warehouse import Column

__all__ = [
    "SqlType",
    "cast",
    "column_type",
    "convert",
    "default_sql",
    "duckdb_type",
    "not_null",
    "parse_json",
    "storage_type",
]

_NUMBER_GRAMMAR = r"'\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*'"
# lists, for DuckDB makes a hash join of each IN with six constants (seen in EXPLAIN, 1.5.5)
_TRUE = "['true', 't', 'yes', 'y', 'on', '1']"
_FALSE = "['false', 'f', 'no', 'n', 'off', '0']"
_BASE64 = r"'([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?'"
_TIMESTAMPS = ("TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ")
_SEMI_STRUCTURED = ("VARIANT", "OBJECT", "ARRAY")
# what Snowflake calls a type when a VARIANT cannot be cast to it
_VARIANT_TARGETS = {"NUMBER": "FIXED", "FLOAT": "REAL", "VARCHAR": "TEXT"}


@dataclass(frozen=True, slots=True)
class SqlType:
    """A Snowflake type; ``length`` and ``scale`` as in ``stack.warehouse.Column``."""

    name: str
    length: int | None = None
    scale: int | None = None

    @property
    def fraction_digits(self) -> int:
        """Precision of a time; Snowflake's default is 9."""
        return NANOSECOND_DIGITS if self.length is None else self.length

    def __str__(self) -> str:
        if self.length is None:
            return self.name
        if self.scale is None:
            return f"{self.name}({self.length})"
        return f"{self.name}({self.length},{self.scale})"


def column_type(column: Column) -> SqlType:
    """The type of a declared column."""
    return SqlType(column.type, column.length, column.scale)


def storage_type(column: Column) -> str:
    """DuckDB's type for a column, as in CREATE TABLE."""
    return duckdb_type(column_type(column))


def duckdb_type(target: SqlType) -> str:
    """DuckDB's type for a Snowflake type. NULLs, lengths and formats are the conversion's work."""
    if target.name == "NUMBER":
        return f"DECIMAL({target.length or 38},{target.scale or 0})"
    if target.name == "TIME":
        return "TIME_NS" if target.fraction_digits > MICROSECOND_DIGITS else "TIME"
    if target.name == "TIMESTAMP_NTZ":
        return "TIMESTAMP_NS" if target.fraction_digits > MICROSECOND_DIGITS else "TIMESTAMP"
    return _STORED_AS[target.name]


_STORED_AS = {
    "FLOAT": "DOUBLE",
    "VARCHAR": "VARCHAR",
    "BOOLEAN": "BOOLEAN",
    "DATE": "DATE",
    "TIMESTAMP_LTZ": "TIMESTAMPTZ",
    "TIMESTAMP_TZ": "TIMESTAMPTZ",
    "VARIANT": "JSON",
    "OBJECT": "JSON",
    "ARRAY": "JSON",
    "BINARY": "BLOB",
}


def convert(
    expr_sql: str,
    column: Column,
    options: Mapping[str, Any],
    *,
    source: SqlType | None = None,
    parse_variant: bool = True,
) -> Conversion:
    """A value for ``column``, NOT NULL included.

    ``expr_sql`` is of type ``source`` (default VARCHAR: a field of a file). ``options`` are the
    file format's effective options and the COPY's, as ``effective_options`` and ``CopyInto`` give
    them. ``parse_variant``: a field of a plain COPY is parsed as JSON for a VARIANT column; a
    VARCHAR that a SELECT computes becomes a JSON string.

    Raises:
        Unsupported: a cast that is not done here, or a format with an unknown element.
    """
    target = column_type(column)
    given = source or SqlType("VARCHAR")
    if target.name in _SEMI_STRUCTURED and given.name == "VARCHAR" and parse_variant:
        converted = parse_json(expr_sql, target)
    else:
        converted = cast(expr_sql, given, target, options)
    return converted if column.nullable else not_null(converted)


def not_null(converted: Conversion) -> Conversion:
    """The same value; NULL is Snowflake's error 100072 unless another fault made it."""
    missing = Conversion(
        converted.value_sql,
        f"({converted.value_sql} IS NULL)",
        literal("NULL result in a non-nullable column"),
        literal("100072"),
    )
    return all_of((converted, missing), converted.value_sql)


def default_sql(column: Column) -> str | None:
    """DuckDB's DEFAULT expression for a column, None where it has none."""
    if column.default is None:
        return None
    function = column.default.strip().upper().removesuffix("()")
    if function in _DEFAULT_FUNCTIONS:
        return f"CAST({_DEFAULT_FUNCTIONS[function]} AS {storage_type(column)})"
    return f"CAST({column.default} AS {storage_type(column)})"


_DEFAULT_FUNCTIONS = {
    "CURRENT_TIMESTAMP": "CAST(now() AT TIME ZONE 'UTC' AS VARCHAR)",
    "SYSDATE": "CAST(now() AT TIME ZONE 'UTC' AS VARCHAR)",
    "CURRENT_DATE": "CAST(now() AT TIME ZONE 'UTC' AS DATE)",
    "CURRENT_TIME": "strftime(now() AT TIME ZONE 'UTC', '%H:%M:%S.%f')",
    "UUID_STRING": "uuid()",
}


def cast(expr_sql: str, source: SqlType, target: SqlType, options: Mapping[str, Any]) -> Conversion:
    """``expr_sql::target`` with Snowflake's rules.

    Raises:
        Unsupported: the pair of types is not cast here.
    """
    if source.name == "VARCHAR" and target.name in _SEMI_STRUCTURED:
        return _json(expr_sql, source, target, options)
    if source.name == "VARCHAR":
        return _from_text(expr_sql, target, options)
    if source.name in _SEMI_STRUCTURED:
        return _from_variant(expr_sql, target, options)
    if source.name == target.name and source.name != "NUMBER":
        return _same_type(expr_sql, source, target, options)
    found = _TYPED.get((source.name, target.name))
    if found is None:
        raise Unsupported(f"a cast from {source.name} to {target.name} is not done here")
    return found(expr_sql, source, target, options)


# -- from text ----------------------------------------------------------------------------------


def _from_text(x: str, target: SqlType, options: Mapping[str, Any]) -> Conversion:
    return _TEXT[target.name](x, target, options)


def _text_number(x: str, target: SqlType, _options: Mapping[str, Any]) -> Conversion:
    """DuckDB rounds half away from zero, as Snowflake does; it also reads ``1_000``."""
    value = f"(CASE WHEN NOT contains({x}, '_') THEN TRY_CAST({x} AS {duckdb_type(target)}) END)"
    return _numeric(value, x)


def _text_float(x: str, _target: SqlType, _options: Mapping[str, Any]) -> Conversion:
    number = f"TRY_CAST({x} AS DOUBLE)"
    value = (
        f"(CASE WHEN NOT contains({x}, '_')"
        f" AND NOT (isinf({number}) AND regexp_matches({x}, '[0-9]')) THEN {number} END)"
    )
    return _numeric(value, x)


def _numeric(value: str, x: str) -> Conversion:
    is_number = f"regexp_full_match({x}, {_NUMBER_GRAMMAR})"
    beyond = message("Numeric value '{}' is out of range", x)
    unknown = message("Numeric value '{}' is not recognized", x)
    return Conversion(
        value,
        f"({x} IS NOT NULL AND {value} IS NULL)",
        f"(CASE WHEN {is_number} THEN {beyond} ELSE {unknown} END)",
        f"(CASE WHEN {is_number} THEN '100039' ELSE '100038' END)",
    )


def _text_varchar(x: str, target: SqlType, options: Mapping[str, Any]) -> Conversion:
    if target.length is None:
        return valid(x)
    if options.get("TRUNCATECOLUMNS") is True or options.get("ENFORCE_LENGTH") is False:
        return valid(f"left({x}, {target.length})")
    template = f"User character length limit ({target.length}) exceeded by string '{{}}'"
    too_long = f"coalesce(length({x}) > {target.length}, false)"
    return Conversion(x, too_long, message(template, x), literal("100074"))


def _text_boolean(x: str, _target: SqlType, _options: Mapping[str, Any]) -> Conversion:
    value = (
        f"(CASE WHEN list_contains({_TRUE}, lower({x})) THEN true"
        f" WHEN list_contains({_FALSE}, lower({x})) THEN false END)"
    )
    return _fault(value, x, "Boolean value '{}' is not recognized", "100037")


def _text_date(x: str, _target: SqlType, options: Mapping[str, Any]) -> Conversion:
    return date_from_text(x, options.get("DATE_FORMAT") or AUTO)


def _text_time(x: str, target: SqlType, options: Mapping[str, Any]) -> Conversion:
    form = options.get("TIME_FORMAT") or AUTO
    return time_from_text(x, form, precision=target.fraction_digits)


def _text_timestamp(x: str, target: SqlType, options: Mapping[str, Any]) -> Conversion:
    form = options.get("TIMESTAMP_FORMAT") or AUTO
    return timestamp(x, target.name, form, precision=target.fraction_digits)


def _text_binary(x: str, target: SqlType, options: Mapping[str, Any]) -> Conversion:
    form = str(options.get("BINARY_FORMAT") or "HEX").upper()
    if form in ("UTF8", "UTF-8"):
        decoded = valid(f"encode({x})")
    elif form == "BASE64":
        value = f"(CASE WHEN regexp_full_match({x}, {_BASE64}) THEN from_base64({x}) END)"
        template = "The following string is not a legal base64-encoded value: '{}'"
        decoded = _fault(value, x, template, "100116")
    else:
        value = f"(CASE WHEN regexp_full_match({x}, '([0-9A-Fa-f]{{2}})*') THEN unhex({x}) END)"
        template = "The following string is not a legal hex-encoded value: '{}'"
        decoded = _fault(value, x, template, "100115")
    if target.length is None:
        return decoded
    length = f"octet_length({decoded.value_sql})"
    too_long = Conversion(
        decoded.value_sql,
        f"coalesce({length} > {target.length}, false)",
        message("Binary value '{}' is too long and would be truncated", x),
        literal("100145"),
    )
    return all_of((decoded, too_long), decoded.value_sql)


def parse_json(x: str, target: SqlType) -> Conversion:
    """PARSE_JSON of a VARCHAR expression, then the cast to VARIANT, OBJECT or ARRAY.

    An empty text is NULL, and an object that names a key twice is refused.
    """
    empty = f"trim({x}, {literal(chr(32) + chr(9) + chr(10) + chr(13))}) = ''"
    sound = f"(CASE WHEN NOT ({empty}) AND json_valid({x}) THEN {x} END)"
    parsed = f"CAST({sound} AS JSON)"
    broken = Conversion(
        parsed,
        f"coalesce(NOT ({empty}) AND NOT json_valid({x}), false)",
        message("Error parsing JSON: not a JSON value: '{}'", x),
        literal("100069"),
    )
    twice = Conversion(
        parsed,
        f"EXISTS (SELECT 1 FROM json_tree({sound}) GROUP BY parent, key HAVING count(*) > 1)",  # noqa: S608 - our own expression
        message("Error parsing JSON: duplicate object attribute in '{}'", x),
        literal("100069"),
    )
    checked = all_of((broken, twice), parsed)
    return checked.then(lambda value: _from_variant(value, target, {}))


def _fault(value: str, x: str, template: str, code: str) -> Conversion:
    error = f"({x} IS NOT NULL AND {value} IS NULL)"
    return Conversion(value, error, message(template, x), literal(code))


_Text = Callable[[str, SqlType, Mapping[str, Any]], Conversion]
_TEXT: dict[str, _Text] = {
    "NUMBER": _text_number,
    "FLOAT": _text_float,
    "VARCHAR": _text_varchar,
    "BOOLEAN": _text_boolean,
    "DATE": _text_date,
    "TIME": _text_time,
    "TIMESTAMP_NTZ": _text_timestamp,
    "TIMESTAMP_LTZ": _text_timestamp,
    "TIMESTAMP_TZ": _text_timestamp,
    "BINARY": _text_binary,
}


# -- from VARIANT -------------------------------------------------------------------------------


def _from_variant(j: str, target: SqlType, options: Mapping[str, Any]) -> Conversion:
    """A JSON null becomes SQL NULL by any cast except one to VARIANT, which keeps it."""
    if target.name == "VARIANT":
        return valid(j)
    if target.name == "OBJECT":
        value = f"(CASE WHEN json_type({j}) = 'OBJECT' THEN {j} END)"
        return _variant_fault(value, j, target)
    if target.name == "ARRAY":
        present = f"(CASE WHEN json_type({j}) <> 'NULL' THEN {j} END)"
        return valid(
            f"(CASE WHEN json_type({j}) = 'ARRAY' THEN {j}"
            f" WHEN {present} IS NOT NULL THEN json_array({j}) END)"
        )
    text = f"({j} ->> '$')"
    if target.name == "VARCHAR":
        return _text_varchar(text, target, options)
    if target.name == "BOOLEAN":
        number = f"TRY_CAST({text} AS DOUBLE) <> 0"
        value = (
            f"(CASE WHEN json_type({j}) IN ('BIGINT', 'UBIGINT', 'DOUBLE') THEN {number}"
            f" ELSE {_from_text(text, target, options).value_sql} END)"
        )
        return _variant_fault(value, j, target)
    return _variant_fault(_from_text(text, target, options).value_sql, j, target)


def _variant_fault(value: str, j: str, target: SqlType) -> Conversion:
    known = _VARIANT_TARGETS.get(target.name, target.name)
    template = f"Failed to cast variant value {{}} to {known}"
    error = f"(({j} ->> '$') IS NOT NULL AND {value} IS NULL)"
    return Conversion(value, error, message(template, j), literal("100071"))


# -- from what an expression computed -----------------------------------------------------------


def _same_type(x: str, source: SqlType, target: SqlType, options: Mapping[str, Any]) -> Conversion:
    """Only the precision may differ."""
    if source.name in ("TIME", *_TIMESTAMPS) and source.fraction_digits != target.fraction_digits:
        return _moment(x, source, target, options)
    if source.name == "BINARY" and target.length is not None:
        return _fault_binary(x, target)
    return valid(x)


def _fault_binary(x: str, target: SqlType) -> Conversion:
    too_long = f"coalesce(octet_length({x}) > {target.length}, false)"
    template = "Binary value '{}' is too long and would be truncated"
    return Conversion(x, too_long, message(template, f"hex({x})"), literal("100145"))


def _number(x: str, _source: SqlType, target: SqlType, _options: Mapping[str, Any]) -> Conversion:
    value = f"TRY_CAST({x} AS {duckdb_type(target)})"
    return _fault(value, x, "Numeric value '{}' is out of range", "100039")


def _plain(x: str, _source: SqlType, target: SqlType, _options: Mapping[str, Any]) -> Conversion:
    return valid(f"CAST({x} AS {duckdb_type(target)})")


def _json(x: str, source: SqlType, target: SqlType, _options: Mapping[str, Any]) -> Conversion:
    if target.name != "VARIANT":
        raise Unsupported(
            f"a cast from {source.name} to {target.name} is not done here", hint="use PARSE_JSON"
        )
    return valid(f"to_json({x})")


def _moment(x: str, source: SqlType, target: SqlType, _options: Mapping[str, Any]) -> Conversion:
    moment, digits = _wall(x, source), target.fraction_digits
    if target.name == "TIME":
        return time_from_moment(x, moment, precision=digits)
    return timestamp_from_moment(x, moment, target.name, precision=digits)


def _wall(x: str, source: SqlType) -> str:
    zoned = source.name in ("TIMESTAMP_LTZ", "TIMESTAMP_TZ")
    return f"({x} AT TIME ZONE 'UTC')" if zoned else x


def _date(x: str, source: SqlType, _target: SqlType, _options: Mapping[str, Any]) -> Conversion:
    return valid(f"CAST({_wall(x, source)} AS DATE)")


def _varchar(x: str, source: SqlType, target: SqlType, options: Mapping[str, Any]) -> Conversion:
    """Snowflake's default output formats: timestamps with three digits, booleans in lower case."""
    text = f"CAST({x} AS VARCHAR)"
    if source.name in _TIMESTAMPS:
        text = f"strftime({_wall(x, source)}, '%Y-%m-%d %H:%M:%S.%g')"
        if source.name != "TIMESTAMP_NTZ":
            text = f"({text} || ' +0000')"
    elif source.name == "TIME":
        text = f"left(CAST({x} AS VARCHAR), 8)"
    elif source.name == "BINARY":
        text = f"hex({x})"
    return _text_varchar(text, target, options)


_Typed = Callable[[str, SqlType, SqlType, Mapping[str, Any]], Conversion]


def _typed_casts() -> dict[tuple[str, str], _Typed]:
    casts: dict[tuple[str, str], _Typed] = {
        ("NUMBER", "NUMBER"): _number,
        ("FLOAT", "NUMBER"): _number,
        ("BOOLEAN", "NUMBER"): _number,
        ("NUMBER", "FLOAT"): _plain,
        ("BOOLEAN", "FLOAT"): _plain,
        ("NUMBER", "BOOLEAN"): _plain,
        ("FLOAT", "BOOLEAN"): _plain,
    }
    for stamp in _TIMESTAMPS:
        casts["DATE", stamp] = _moment
        casts[stamp, "DATE"] = _date
        casts[stamp, "TIME"] = _moment
        for other in _TIMESTAMPS:
            casts.setdefault((stamp, other), _moment)
    for name in ("NUMBER", "FLOAT", "BOOLEAN", "DATE", "TIME", "BINARY", *_TIMESTAMPS):
        casts[name, "VARCHAR"] = _varchar
        if name != "BINARY":
            casts[name, "VARIANT"] = _json
    return casts


_TYPED = _typed_casts()
