"""Snowflake's types out of text and JSON, on a real DuckDB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedgate.errors import Unsupported
from feedgate.pipes.conversion import Conversion
from feedgate.pipes.types import SqlType, cast, convert, default_sql, storage_type
from feedgate.stack.warehouse import Column


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB in memory."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    yield connection
    connection.close()


def column(text: str, *, nullable: bool = True) -> Column:
    """A column from `NUMBER(10,2)`."""
    name, _, arguments = text.partition("(")
    numbers = [int(part) for part in arguments.rstrip(")").split(",") if part]
    length = numbers[0] if numbers else None
    scale = numbers[1] if len(numbers) > 1 else None
    return Column("C", name, length, scale, nullable)


def run(
    con: duckdb.DuckDBPyConnection,
    conversion: Conversion,
    value: str | None,
    type_: str = "VARCHAR",
) -> tuple[str | None, str | None, str | None]:
    """(value as text, message, code) of one conversion of one value."""
    shown = f"CAST({conversion.value_sql} AS VARCHAR)"
    row = con.execute(
        f"SELECT {shown}, {conversion.error_sql}, {conversion.message_sql}, {conversion.code_sql}"
        f" FROM (SELECT CAST($1 AS {type_}) AS x)",
        [value],
    ).fetchall()[0]
    assert row[1] in (True, False), "error_sql is never NULL"
    return (row[0], row[2], row[3]) if row[1] else (row[0], None, None)


GOOD = [
    ("NUMBER", "42", "42"),
    ("NUMBER", " 42 ", "42"),
    ("NUMBER", "2.5", "3"),
    ("NUMBER", "-2.5", "-3"),
    ("NUMBER", "+5", "5"),
    ("NUMBER", "1e3", "1000"),
    ("NUMBER", "12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
    ("NUMBER(10,2)", "1.005", "1.01"),
    ("NUMBER(10,2)", ".5", "0.50"),
    ("FLOAT", "1.5", "1.5"),
    ("FLOAT", "NaN", "nan"),
    ("FLOAT", "-inf", "-inf"),
    ("VARCHAR(3)", "äöü", "äöü"),
    ("VARCHAR", " kept ", " kept "),
    *(("BOOLEAN", word, "true") for word in ("true", "T", "Yes", "y", "ON", "1")),
    *(("BOOLEAN", word, "false") for word in ("FALSE", "f", "no", "N", "off", "0")),
    ("DATE", "2024-01-02", "2024-01-02"),
    ("DATE", "2024-1-2", "2024-01-02"),
    ("DATE", "02-JAN-2024", "2024-01-02"),
    ("DATE", "01/02/2024", "2024-01-02"),
    ("DATE", "2024-01-02T23:00:00-05:00", "2024-01-02"),
    ("DATE", "20240102", "1970-08-23"),  # epoch seconds, Snowflake's own trap
    ("DATE", "9999-12-31", "9999-12-31"),
    ("TIME", "12:30", "12:30:00"),
    ("TIME", "12:30:01.123456789", "12:30:01.123456789"),
    ("TIME(3)", "12:30:01.123456789", "12:30:01.123"),
    ("TIME", "1:05 PM", "13:05:00"),
    ("TIMESTAMP_NTZ", "2024-01-02", "2024-01-02 00:00:00"),
    ("TIMESTAMP_NTZ", "2024-01-02 03:04", "2024-01-02 03:04:00"),
    ("TIMESTAMP_NTZ", "2024-01-02T03", "2024-01-02 03:00:00"),
    ("TIMESTAMP_NTZ", "2024-01-02T03:04:05.123456789", "2024-01-02 03:04:05.123456789"),
    ("TIMESTAMP_NTZ", "2024-01-02T03:04:05+02:00", "2024-01-02 03:04:05"),
    ("TIMESTAMP_NTZ", "2024-01-02T03:04:05Z", "2024-01-02 03:04:05"),
    ("TIMESTAMP_NTZ", "01/02/2024 03:04:05", "2024-01-02 03:04:05"),
    ("TIMESTAMP_NTZ", "Thu, 21 Dec 2000 16:01:07 +0200", "2000-12-21 16:01:07"),
    ("TIMESTAMP_NTZ", "Thu Dec 21 16:01:07 +0200 2000", "2000-12-21 16:01:07"),
    ("TIMESTAMP_NTZ", "1700000000", "2023-11-14 22:13:20"),
    ("TIMESTAMP_NTZ", "1700000000123", "2023-11-14 22:13:20.123"),
    ("TIMESTAMP_NTZ", "1700000000123456789", "2023-11-14 22:13:20.123456789"),
    ("TIMESTAMP_NTZ(6)", "9999-12-31 23:59:59", "9999-12-31 23:59:59"),
    ("TIMESTAMP_NTZ(3)", "2024-01-02 03:04:05.123999", "2024-01-02 03:04:05.123"),
    ("TIMESTAMP_NTZ(0)", "2024-01-02 03:04:05.999", "2024-01-02 03:04:05"),
    ("TIMESTAMP_LTZ", "2024-01-02 03:04:05", "2024-01-02 03:04:05+00"),
    ("TIMESTAMP_TZ", "2024-01-02 03:04:05 +02:00", "2024-01-02 01:04:05+00"),
    ("TIMESTAMP_TZ", "2024-01-02T03:04:05+0200", "2024-01-02 01:04:05+00"),
    ("TIMESTAMP_TZ", "2024-01-02T03:04:05.5Z", "2024-01-02 03:04:05.5+00"),
    ("TIMESTAMP_TZ", "2024-01-02 03:04Z", "2024-01-02 03:04:00+00"),
    ("TIMESTAMP_TZ", "2024-01-02", "2024-01-02 00:00:00+00"),
    ("TIMESTAMP_TZ", "Thu Dec 21 16:01:07 +0200 2000", "2000-12-21 14:01:07+00"),
    ("VARIANT", '{"a": 1}', '{"a": 1}'),
    ("VARIANT", "null", "null"),
    ("VARIANT", " ", None),
    ("VARIANT", '{"x.y":1,"x":{"y":1}}', '{"x.y":1,"x":{"y":1}}'),
    ("OBJECT", '{"a": 1}', '{"a": 1}'),
    ("ARRAY", "[1,2]", "[1,2]"),
    ("ARRAY", "7", "[7]"),
    ("BINARY", "6162", "ab"),
    ("BINARY", "", ""),
]


@pytest.mark.parametrize(("type_", "text", "expected"), GOOD)
def test_text_becomes_the_type(
    con: duckdb.DuckDBPyConnection, type_: str, text: str, expected: str | None
) -> None:
    """A text that Snowflake reads gives the value that Snowflake stores."""
    declared = column(type_)
    conversion = convert("x", declared, {})
    assert run(con, conversion, text) == (expected, None, None)
    stored = con.execute(
        f"SELECT typeof({conversion.value_sql}) FROM (SELECT CAST($1 AS VARCHAR) AS x)", [text]
    ).fetchall()[0][0]
    assert stored == storage_type(declared).replace("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE")


BAD = [
    ("NUMBER", "abc", "Numeric value 'abc' is not recognized", "100038"),
    ("NUMBER", "", "Numeric value '' is not recognized", "100038"),
    ("NUMBER", "1,000", "Numeric value '1,000' is not recognized", "100038"),
    ("NUMBER", "1_000", "Numeric value '1_000' is not recognized", "100038"),
    ("NUMBER", "0x10", "Numeric value '0x10' is not recognized", "100038"),
    ("NUMBER(3,0)", "1000", "Numeric value '1000' is out of range", "100039"),
    ("NUMBER(3,0)", "999.5", "Numeric value '999.5' is out of range", "100039"),
    ("FLOAT", "1.2.3", "Numeric value '1.2.3' is not recognized", "100038"),
    ("FLOAT", "1e999", "Numeric value '1e999' is out of range", "100039"),
    ("VARCHAR(3)", "abcd", "User character length limit (3) exceeded by string 'abcd'", "100074"),
    ("BOOLEAN", "maybe", "Boolean value 'maybe' is not recognized", "100037"),
    ("DATE", "2024-02-30", "Date '2024-02-30' is not recognized", "100040"),
    ("DATE", "2024/01/02", "Date '2024/01/02' is not recognized", "100040"),
    ("DATE", "infinity", "Date 'infinity' is not recognized", "100040"),
    ("DATE", "13/13/2024", "Date '13/13/2024' is not recognized", "100040"),
    ("TIME", "25:00", "Time '25:00' is not recognized", "100108"),
    ("TIMESTAMP_NTZ", "yesterday", "Timestamp 'yesterday' is not recognized", "100035"),
    ("TIMESTAMP_NTZ", "epoch", "Timestamp 'epoch' is not recognized", "100035"),
    ("TIMESTAMP_TZ", "2024-01-02 24:00:00", "Timestamp '2024-01-02 24:00:00' is not recognized",
     "100035"),
    ("VARIANT", "{a:1}", "Error parsing JSON: not a JSON value: '{a:1}'", "100069"),
    ("VARIANT", '{"a":1,"b":{"c":1,"c":2}}',
     "Error parsing JSON: duplicate object attribute in '{\"a\":1,\"b\":{\"c\":1,\"c\":2}}'",
     "100069"),
    ("OBJECT", "[1]", "Failed to cast variant value [1] to OBJECT", "100071"),
    ("BINARY", "zz", "The following string is not a legal hex-encoded value: 'zz'", "100115"),
    ("BINARY", "616", "The following string is not a legal hex-encoded value: '616'", "100115"),
    ("BINARY(1)", "6162", "Binary value '6162' is too long and would be truncated", "100145"),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "text", "message", "code"), BAD)
def test_text_is_refused(
    con: duckdb.DuckDBPyConnection, type_: str, text: str, message: str, code: str
) -> None:
    """A text that Snowflake refuses is a fault with Snowflake's words, and never raises."""
    _value, found, number = run(con, convert("x", column(type_), {}), text)
    assert (found, number) == (message, code)


@pytest.mark.parametrize("type_", sorted({row[0] for row in GOOD}))
def test_null_is_null(con: duckdb.DuckDBPyConnection, type_: str) -> None:
    """NULL converts to NULL without a fault; in a NOT NULL column it is one."""
    assert run(con, convert("x", column(type_), {}), None) == (None, None, None)
    assert run(con, convert("x", column(type_, nullable=False), {}), None) == (
        None,
        "NULL result in a non-nullable column",
        "100072",
    )


@pytest.mark.parametrize(
    "text", ["9999-12-31", "1677-09-21 00:12:44.5", "2262-04-12", "0001-01-01"]
)
def test_nanoseconds_out_of_range_say_what_to_declare(
    con: duckdb.DuckDBPyConnection, text: str
) -> None:
    """A moment that nanoseconds do not reach is refused with the way out, never wrapped."""
    _value, found, _code = run(con, convert("x", column("TIMESTAMP_NTZ"), {}), text)
    assert found is not None
    assert found.endswith("declare TIMESTAMP_NTZ(6)")


FORMATS = [
    ("DATE", "DATE_FORMAT", "DD.MM.YYYY", "31.12.2024", "2024-12-31"),
    ("DATE", "DATE_FORMAT", "YYYYMMDD", "20240102", "2024-01-02"),
    ("DATE", "DATE_FORMAT", "DD-MON-YY", "02-jan-69", "2069-01-02"),
    ("DATE", "DATE_FORMAT", "DD-MON-YY", "02-jan-70", "1970-01-02"),
    ("DATE", "DATE_FORMAT", "MMMM DD, YYYY", "January 02, 2024", "2024-01-02"),
    ("TIME", "TIME_FORMAT", "HH12:MI:SS AM", "01:02:03 PM", "13:02:03"),
    ("TIME", "TIME_FORMAT", "HH24:MI:SS.FF", "01:02:03.123456789", "01:02:03.123456789"),
    ("TIMESTAMP_NTZ", "TIMESTAMP_FORMAT", 'YYYY-MM-DD"T"HH24:MI:SS.FF3', "2024-01-02T03:04:05.678",
     "2024-01-02 03:04:05.678"),
    ("TIMESTAMP_NTZ", "TIMESTAMP_FORMAT", "YYYY-MM-DD HH24:MI:SS TZHTZM",
     "2024-01-02 03:04:05 +0200", "2024-01-02 03:04:05"),
    ("TIMESTAMP_TZ", "TIMESTAMP_FORMAT", "YYYY-MM-DD HH24:MI:SS TZH:TZM",
     "2024-01-02 03:04:05 +02:00", "2024-01-02 01:04:05+00"),
    ("TIMESTAMP_NTZ(6)", "TIMESTAMP_FORMAT", "YYYY-MM-DD HH24:MI:SS.FF9",
     "9999-12-31 23:59:59.999999999", "9999-12-31 23:59:59.999999"),
    ("TIMESTAMP_NTZ", "TIMESTAMP_FORMAT", "DD/MM/YY HH24:MI:SS.FF9",
     "02/01/24 03:04:05.123456789", "2024-01-02 03:04:05.123456789"),
]  # fmt: skip


@pytest.mark.parametrize("row", FORMATS)
def test_explicit_format(con: duckdb.DuckDBPyConnection, row: tuple[str, ...]) -> None:
    """An explicit format reads its own texts, and names itself where a text does not fit."""
    type_, option, form, text, expected = row
    conversion = convert("x", column(type_), {option: form})
    assert run(con, conversion, text) == (expected, None, None)
    kind = option.partition("_")[0].lower()
    assert run(con, conversion, "no")[1:] == (
        f"Can't parse 'no' as {kind} with format '{form}'",
        "100096",
    )


def test_unknown_format_element_is_refused() -> None:
    """An element that is not read is refused by name when the stack loads."""
    with pytest.raises(Unsupported, match="element `Q`"):
        convert("x", column("DATE"), {"DATE_FORMAT": "YYYY-Q"})


def test_truncatecolumns(con: duckdb.DuckDBPyConnection) -> None:
    """TRUNCATECOLUMNS=TRUE and ENFORCE_LENGTH=FALSE cut a text that is too long."""
    for options in ({"TRUNCATECOLUMNS": True}, {"ENFORCE_LENGTH": False}):
        converted = convert("x", column("VARCHAR(3)"), options)
        assert run(con, converted, "abcd") == ("abc", None, None)


_HOSTILE = [
    "", " ", "-", "9" * 40, "-" + "9" * 19, "9223372036854775807", "-9223372036854775808",
    "31536000000000000", "1e9999", "1e-9999", "NaN", "-inf", "infinity", "epoch", "0000-00-00",
    "10000-01-01", "1677-09-21 00:12:44.5", "2262-04-11 23:47:16.854775807", "2024-01-02\n",
    "2024-01-02T03:04:05+99:99", "24:00", "23:59:59.9999999999", "{", "[" * 300, '{"a":1,"a":2}',
    "\0", "a\0b", "\\", "'", "YWI", "====", "٣", "\ud7ff", "😀" * 300, "01/02/2024 25:00:00",
]  # fmt: skip
_TEXT = st.one_of(
    st.sampled_from(_HOSTILE),
    st.text('0123456789-:./ TZ+eE{}[]",abMjnP', max_size=25),
    st.text(max_size=12),
)
_FORMS: list[dict[str, Any]] = [
    {},
    {
        "DATE_FORMAT": "DD-MON-YY",
        "TIME_FORMAT": "HH12:MI:SS.FF3 AM",
        "TIMESTAMP_FORMAT": "DY, DD MON YYYY HH24:MI:SS.FF TZHTZM",
        "BINARY_FORMAT": "BASE64",
    },
]


@pytest.mark.parametrize("options", _FORMS, ids=["auto", "formats"])
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(_TEXT, min_size=1, max_size=40))
def test_no_value_raises(
    con: duckdb.DuckDBPyConnection, options: dict[str, Any], texts: list[str]
) -> None:
    """Whatever a supplier sends, a conversion gives a value or a told fault, never an exception."""
    outputs = []
    for type_ in sorted({row[0] for row in GOOD}):
        for expression, source in (("x", None), ("to_json(x)", SqlType("VARIANT"))):
            made = convert(expression, column(type_), options, source=source)
            silent = f"({made.message_sql} IS NULL OR {made.code_sql} IS NULL)"
            outputs.append(f"CAST({made.value_sql} AS VARCHAR)")
            outputs.append(f"{made.error_sql} AND {silent}")
    rows = con.execute(
        f"SELECT {', '.join(outputs)} FROM (SELECT unnest(CAST($1 AS VARCHAR[])) AS x)", [texts]
    ).fetchall()
    assert len(rows) == len(texts)
    assert not any(silent for row in rows for silent in row[1::2]), "a fault without its words"


BINARY_FORMATS: list[tuple[dict[str, Any], str, str | None]] = [
    ({"BINARY_FORMAT": "BASE64"}, "YWI=", "ab"),
    ({"BINARY_FORMAT": "BASE64"}, "YWI", None),
    ({"BINARY_FORMAT": "UTF8"}, "ab", "ab"),
]


@pytest.mark.parametrize(("options", "text", "expected"), BINARY_FORMATS)
def test_binary_format(
    con: duckdb.DuckDBPyConnection, options: dict[str, Any], text: str, expected: str | None
) -> None:
    """BINARY_FORMAT decides how the text of a BINARY column is read."""
    value, fault, _code = run(con, convert("x", column("BINARY"), options), text)
    assert (value, fault is None) == (expected, expected is not None)


VARIANTS = [
    ("NUMBER(10,2)", "1.5", "1.50", None),
    ("NUMBER(10,2)", '"1.5"', "1.50", None),
    ("NUMBER", "true", None, "Failed to cast variant value true to FIXED"),
    ("NUMBER", '"abc"', None, 'Failed to cast variant value "abc" to FIXED'),
    ("NUMBER", "null", None, None),
    ("VARCHAR", '"text"', "text", None),
    ("VARCHAR", '{"a":1}', '{"a":1}', None),
    ("VARCHAR", "null", None, None),
    ("VARCHAR(2)", '"abc"', "abc", "User character length limit (2) exceeded by string 'abc'"),
    ("BOOLEAN", "5", "true", None),
    ("BOOLEAN", '"yes"', "true", None),
    ("DATE", '"2024-01-02"', "2024-01-02", None),
    ("TIMESTAMP_NTZ", '"x"', None, 'Failed to cast variant value "x" to TIMESTAMP_NTZ'),
    ("VARIANT", "null", "null", None),
    ("OBJECT", "[1]", None, "Failed to cast variant value [1] to OBJECT"),
    ("ARRAY", "null", None, None),
]


@pytest.mark.parametrize(("type_", "text", "expected", "fault"), VARIANTS)
def test_variant_becomes_the_type(
    con: duckdb.DuckDBPyConnection,
    type_: str,
    text: str,
    expected: str | None,
    fault: str | None,
) -> None:
    """A VARIANT is cast as Snowflake casts it; a JSON null is SQL NULL except in a VARIANT."""
    converted = convert("x", column(type_), {}, source=SqlType("VARIANT"))
    value, found, _code = run(con, converted, text, "JSON")
    assert (value, found) == (expected, fault)


TYPED = [
    ("NUMBER(5,1)", "NUMBER(3,0)", "2.5", "3"),
    ("FLOAT", "NUMBER", "2.5", "3"),
    ("NUMBER", "BOOLEAN", "2", "true"),
    ("BOOLEAN", "VARCHAR", "true", "true"),
    ("DATE", "TIMESTAMP_NTZ", "2024-01-02", "2024-01-02 00:00:00"),
    ("TIMESTAMP_NTZ(6)", "TIMESTAMP_NTZ", "2024-01-02 03:04:05.5", "2024-01-02 03:04:05.5"),
    ("TIMESTAMP_LTZ", "TIMESTAMP_NTZ", "2024-01-02 03:04:05+00", "2024-01-02 03:04:05"),
    ("TIMESTAMP_NTZ", "DATE", "2024-01-02 03:04:05", "2024-01-02"),
    ("TIMESTAMP_NTZ", "TIME", "2024-01-02 03:04:05", "03:04:05"),
    ("TIMESTAMP_NTZ", "VARCHAR", "2024-01-02 03:04:05.6", "2024-01-02 03:04:05.600"),
    ("TIMESTAMP_LTZ", "VARCHAR", "2024-01-02 03:04:05+00", "2024-01-02 03:04:05.000 +0000"),
    ("NUMBER(5,2)", "VARIANT", "1.50", "1.5"),
    ("BINARY", "VARCHAR", "ab", "6162"),
]


@pytest.mark.parametrize(("source", "target", "value", "expected"), TYPED)
def test_typed_cast(
    con: duckdb.DuckDBPyConnection, source: str, target: str, value: str, expected: str
) -> None:
    """A computed value is cast to the column's type."""
    given, wanted = column(source), column(target)
    converted = convert("x", wanted, {}, source=SqlType(given.type, given.length, given.scale))
    assert run(con, converted, value, storage_type(given)) == (expected, None, None)


def test_nanoseconds_from_a_wide_timestamp(con: duckdb.DuckDBPyConnection) -> None:
    """Narrowing a computed timestamp to nanoseconds is a fault of the row, not an exception."""
    converted = cast("x", SqlType("TIMESTAMP_NTZ", 6), SqlType("TIMESTAMP_NTZ", 9), {})
    value, fault, _code = run(con, converted, "9999-12-31 00:00:00", "TIMESTAMP")
    assert value is None
    assert fault is not None


def test_casts_that_make_no_sense_are_refused() -> None:
    """A pair of types without a cast is refused by name."""
    with pytest.raises(Unsupported, match="from DATE to NUMBER"):
        cast("x", SqlType("DATE"), SqlType("NUMBER"), {})
    with pytest.raises(Unsupported, match="from VARCHAR to OBJECT"):
        convert("x", column("OBJECT"), {}, parse_variant=False)


def test_select_text_into_variant_is_a_string(con: duckdb.DuckDBPyConnection) -> None:
    """A VARCHAR that a SELECT computes becomes a JSON string in a VARIANT column."""
    converted = convert("x", column("VARIANT"), {}, parse_variant=False)
    assert run(con, converted, "1") == ('"1"', None, None)


DEFAULTS = [
    ("NUMBER(10,2)", "0", "0.00"),
    ("VARCHAR", "'n/a'", "n/a"),
    ("BOOLEAN", "TRUE", "true"),
    ("DATE", "'2024-01-02'", "2024-01-02"),
]


@pytest.mark.parametrize(("type_", "text", "expected"), DEFAULTS)
def test_default(con: duckdb.DuckDBPyConnection, type_: str, text: str, expected: str) -> None:
    """A literal default has the column's type."""
    declared = column(type_)
    sql = default_sql(Column("C", declared.type, declared.length, declared.scale, default=text))
    assert con.execute(f"SELECT CAST({sql} AS VARCHAR)").fetchall() == [(expected,)]
    assert default_sql(declared) is None


@pytest.mark.parametrize("type_", ["TIMESTAMP_NTZ", "TIMESTAMP_NTZ(3)", "TIMESTAMP_LTZ", "DATE",
                                   "TIME", "TIME(0)"])  # fmt: skip
def test_current_time_defaults(con: duckdb.DuckDBPyConnection, type_: str) -> None:
    """CURRENT_TIMESTAMP and its kin are defaults of the column's own type."""
    declared = column(type_)
    word = {"DATE": "CURRENT_DATE", "TIME": "CURRENT_TIME()"}.get(
        declared.type, "CURRENT_TIMESTAMP()"
    )
    sql = default_sql(Column("C", declared.type, declared.length, default=word))
    found = con.execute(f"SELECT typeof({sql})").fetchall()[0][0]
    assert found == storage_type(declared).replace("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE")
