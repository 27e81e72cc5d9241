"""A COPY as DuckDB SQL, on a real DuckDB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from feedgate.errors import DefinitionError, Source
from feedgate.pipes.dialect import CopyPlan, column_label, copy_plan, dialect_findings
from feedgate.stack.warehouse import Column, CopyInto, FileFormat, Name, Table, Warehouse
from feedgate.stack.warehouse_sql import parse_warehouse

METADATA = (
    "'in/a.csv' AS _filename, CAST(7 AS BIGINT) AS _row_number,"
    " TIMESTAMP '2024-01-02 03:04:05.678' AS _last_modified,"
    " TIMESTAMPTZ '2024-01-02 03:04:06+00' AS _start_scan_time, 'etag' AS _content_key"
)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB in memory."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    yield connection
    connection.close()


def plan(
    expression: str,
    type_: str = "VARCHAR",
    *,
    file_type: str = "CSV",
    options: dict[str, Any] | None = None,
    column: Column | None = None,
) -> CopyPlan:
    """The plan of a COPY of one expression into one column."""
    name = Name("D", "S", "T")
    table = Table(name, (column or Column("C", type_),))
    copy = CopyInto(
        table=name,
        columns=None,
        stage=Name("D", "S", "ST"),
        path="",
        select=(expression,),
        pattern=None,
        file_format=FileFormat(file_type, options or {}),
        on_error="SKIP_FILE",
        source=Source("w.sql", 10, 1),
        stage_alias="T",
        select_sources=(Source("w.sql", 12, 5),),
    )
    return copy_plan(copy, table)


def run(
    con: duckdb.DuckDBPyConnection, planned: CopyPlan, *fields: str | None, json_: bool = False
) -> tuple[str | None, str | None]:
    """(value as text, fault's message) of one row."""
    columns = ", ".join(
        f"CAST(${index} AS {'JSON' if json_ else 'VARCHAR'}) AS c{index}"
        for index in range(1, len(fields) + 1)
    )
    relation = f"(SELECT {columns}, {METADATA})"
    value = planned.targets[0].conversion.value_sql
    row = con.execute(
        f"SELECT CAST({value} AS VARCHAR), {planned.error_sql}, {planned.fault_sql}"
        f" FROM {relation}",
        list(fields),
    ).fetchall()[0]
    assert row[1] in (True, False)
    assert row[1] == (row[2] is not None)
    return row[0], (row[2]["message"] if row[2] else None)


TEXTS = [
    ("$1", "x", "x"),
    ("t.$1", "x", "x"),
    ("T.$1 AS alias", "x", "x"),
    ("$1 alias", "x", "x"),
    ("'it''s'", "x", "it's"),
    ("UPPER($1)", "é", "É"),
    ("lower($1)", "X", "x"),
    ("TRIM($1)", "  x ", "x"),
    ("LTRIM($1, '0')", "0042", "42"),
    ("RTRIM($1, 'x')", "axx", "a"),
    ("SUBSTR($1, 2, 2)", "abcd", "bc"),
    ("SUBSTRING($1, 0, 2)", "abcd", "ab"),
    ("SUBSTR($1, -2)", "abcd", "cd"),
    ("LEFT($1, 2)", "abcd", "ab"),
    ("RIGHT($1, 2)", "abcd", "cd"),
    ("SPLIT_PART($1, '/', 2)", "a/b/c", "b"),
    ("SPLIT_PART($1, '/', -1)", "a/b/c", "c"),
    ("SPLIT_PART($1, '/', 0)", "a/b/c", "a"),
    ("REPLACE($1, '.', ',')", "1.5", "1,5"),
    ("REPLACE($1, '-')", "1-5", "15"),
    ("CONCAT($1, '-', $1)", "a", "a-a"),
    ("$1 || '-' || $1", "a", "a-a"),
    ("$1 || NULL", "a", None),
    ("NULLIF($1, '')", "", None),
    ("NVL(NULLIF($1, ''), 'none')", "", "none"),
    ("COALESCE(NULLIF($1, ''), NULL, 'z')", "", "z"),
    ("IFF($1 = 'a', 'yes', 'no')", "a", "yes"),
    ("CASE WHEN $1 = 'a' THEN 'A' WHEN $1 = 'b' THEN 'B' ELSE '?' END", "b", "B"),
    ("CASE $1 WHEN 'a' THEN 'A' END", "b", None),
    ("IFF($1 IN ('a', 'b'), 'in', 'out')", "b", "in"),
    ("IFF($1 NOT IN ('a', 'b'), 'out', 'in')", "b", "in"),
    ("IFF($1 LIKE 'a%', 'like', 'not')", "abc", "like"),
    ("IFF($1 NOT LIKE 'a%', 'not', 'like')", "abc", "like"),
    ("IFF($1::NUMBER BETWEEN 1 AND 3, 'in', 'out')", "2", "in"),
    ("IFF(NOT $1::BOOLEAN OR $1 IS NULL, 'f', 't')", "off", "f"),
    ("IFF($1 IS NOT NULL AND $1 <> 'x', 'a', 'b')", "y", "a"),
    ("TRY_CAST($1 AS NUMBER)", "x", None),
    ("TRY_TO_NUMBER($1, 10, 2)", "1.005", "1.01"),
    ("TRY_TO_DATE($1, 'DD.MM.YYYY')", "x", None),
    ("TO_DATE($1, 'DD.MM.YYYY')", "31.12.2024", "2024-12-31"),
    ("TO_TIMESTAMP_NTZ($1)", "2024-01-02T03:04:05Z", "2024-01-02 03:04:05.000"),
    ("TO_TIME($1, 'HH24MI')", "1230", "12:30:00"),
    ("TO_NUMBER($1, 10, 1)", "1.25", "1.3"),
    ("TO_VARCHAR($1::BOOLEAN)", "yes", "true"),
    ("LENGTH($1)", "abc", "3"),
    ("METADATA$FILENAME", "x", "in/a.csv"),
    ("t.metadata$file_row_number", "x", "7"),
    ("METADATA$FILE_LAST_MODIFIED", "x", "2024-01-02 03:04:05.678"),
    ("METADATA$START_SCAN_TIME", "x", "2024-01-02 03:04:06.000 +0000"),
    ("METADATA$FILE_CONTENT_KEY", "x", "etag"),
    ("SPLIT_PART(METADATA$FILENAME, '/', 1)", "x", "in"),
    ('PARSE_JSON($1):a[1]."b c"::VARCHAR', '{"a":[0,{"b c":"deep"}]}', "deep"),
    ("-1.5", "x", "-1.5"),
    ("NULL", "x", None),
]


@pytest.mark.parametrize(("expression", "field", "expected"), TEXTS)
def test_expressions_over_csv(
    con: duckdb.DuckDBPyConnection, expression: str, field: str, expected: str | None
) -> None:
    """An expression over a text field gives Snowflake's value."""
    assert run(con, plan(expression), field) == (expected, None)


DOCUMENT = json.dumps(
    {
        "id": "a1",
        "n": 1.5,
        "s": "2.5",
        "nothing": None,
        "list": [10, {"k": "v"}],
        "a.b": "dotted",
        "Case": "upper",
        "at": "2024-01-02T03:04:05Z",
        "yes": True,
        "obj": {"x": 1},
    }
)
VALUES = [
    ("$1:id::VARCHAR", "VARCHAR", "a1"),
    ("$1:id", "VARCHAR", "a1"),
    ("t.$1:list[1].k::STRING", "VARCHAR", "v"),
    ("$1:list[1]:k", "VARCHAR", "v"),
    ("$1['list'][0]::INT", "NUMBER", "10"),
    ('$1:"a.b"', "VARCHAR", "dotted"),
    ("$1:case", "VARCHAR", None),
    ("$1:Case", "VARCHAR", "upper"),
    ("$1:missing.deeper[3]", "VARCHAR", None),
    ("$1:nothing::VARCHAR", "VARCHAR", None),
    ("$1:nothing", "VARIANT", "null"),
    ("$1:missing", "VARIANT", None),
    ("$1:n::NUMBER(10,2)", "NUMBER", "2"),
    ("$1:n", "FLOAT", "1.5"),
    ("$1:s::NUMBER(5,1)", "FLOAT", "2.5"),
    ("$1:at::TIMESTAMP_NTZ", "TIMESTAMP_NTZ", "2024-01-02 03:04:05"),
    ("$1:at", "DATE", "2024-01-02"),
    ("$1:yes", "BOOLEAN", "true"),
    ("$1:yes", "VARCHAR", "true"),
    ("$1:obj", "OBJECT", '{"x":1}'),
    ("$1:obj", "VARCHAR", '{"x":1}'),
    ("$1:list", "ARRAY", '[10,{"k":"v"}]'),
    ("NVL($1:missing, 'none')", "VARCHAR", "none"),
    ("TO_VARIANT('[1]')", "VARIANT", '"[1]"'),
    ("'[1]'::VARIANT", "VARIANT", '"[1]"'),
    ("PARSE_JSON('[1]')", "VARIANT", "[1]"),
    ("TRY_PARSE_JSON('[1')", "VARIANT", None),
    ("UPPER($1:id)", "VARCHAR", "A1"),
    ("IFF($1:id = 'a1', $1:n, 0)", "FLOAT", "1.5"),
    ("IFF($1:n > 1, 'big', 'small')", "VARCHAR", "big"),
    ("IFF($1:nothing IS NULL, 'sql', 'json')", "VARCHAR", "json"),
]


@pytest.mark.parametrize(("expression", "type_", "expected"), VALUES)
def test_expressions_over_json(
    con: duckdb.DuckDBPyConnection, expression: str, type_: str, expected: str | None
) -> None:
    """Paths into the one value of a JSON record; JSON null is SQL NULL once it is cast."""
    planned = plan(expression, type_, file_type="JSON")
    assert run(con, planned, DOCUMENT, json_=True) == (expected, None)


FAULTS = [
    ("$1::NUMBER", "VARCHAR", "abc", "Numeric value 'abc' is not recognized"),
    ("$1", "NUMBER", "abc", "Numeric value 'abc' is not recognized"),
    ("TO_DATE($1, 'YYYY')", "DATE", "abc", "Can't parse 'abc' as date with format 'YYYY'"),
    ("UPPER($1::DATE)", "VARCHAR", "abc", "Date 'abc' is not recognized"),
    ("PARSE_JSON($1):a", "VARCHAR", "{", "Error parsing JSON: not a JSON value: '{'"),
    (
        "TRY_CAST(TO_VARCHAR($1::NUMBER) AS DATE)",
        "DATE",
        "x",
        "Numeric value 'x' is not recognized",
    ),
    ("COALESCE(NULL, $1::NUMBER)", "NUMBER", "x", "Numeric value 'x' is not recognized"),
]


@pytest.mark.parametrize(("expression", "type_", "field", "message"), FAULTS)
def test_faults_of_a_row(
    con: duckdb.DuckDBPyConnection, expression: str, type_: str, field: str, message: str
) -> None:
    """A value that cannot be converted is a fault of its row, wherever the cast stands."""
    assert run(con, plan(expression, type_), field)[1] == message


LAZY = [
    "IFF($1 = '', NULL, $1::NUMBER)",
    "CASE WHEN $1 = '' THEN 0 ELSE $1::NUMBER END",
    "COALESCE(NULLIF($1, '')::NUMBER, 0)",
    "CASE $1 WHEN '' THEN 0 ELSE $1::NUMBER END",
]


@pytest.mark.parametrize("expression", LAZY)
def test_branches_that_are_not_taken_do_not_fail(
    con: duckdb.DuckDBPyConnection, expression: str
) -> None:
    """A cast in a branch is a fault only in the rows that come to it."""
    planned = plan(expression, "NUMBER")
    assert run(con, planned, "")[1] is None
    assert run(con, planned, "5") == ("5", None)
    assert run(con, planned, "x")[1] == "Numeric value 'x' is not recognized"


def test_not_null_and_label(con: duckdb.DuckDBPyConnection) -> None:
    """A NULL in a NOT NULL column is a fault that names the column as Snowflake does."""
    planned = plan("$1", column=Column("my col", "VARCHAR", nullable=False))
    assert run(con, planned, None) == (None, "NULL result in a non-nullable column")
    assert column_label(planned.table, 1) == '"T"["my col":1]'


REFUSED = [
    ("FOO($1)", "12:5: function FOO is not done in a pipe here"),
    ("NVL($1, FOO($1))", "12:13: function FOO is not done in a pipe here"),
    ("NVL($1,\n FOO($1))", "13:2: function FOO is not done in a pipe here"),
    ("$1 + 1", "12:8: arithmetic (`+`) is not done in a pipe here"),
    ("$1:a", "12:7: VARCHAR has no parts to go into"),
    ("x.$1", "12:5: `X` is not the alias of the stage"),
    ("name", "12:5: `name` is neither a field nor a function"),
    ('"name"', "12:5: expected a value, found `name`"),
    ("*", "12:5: expected a value, found `*`"),
    ("$0", "12:5: there is no field $0"),
    ("$1 $2", "12:8: unexpected `$`"),
    ("TRIM()", "12:5: TRIM takes 1 to 2 arguments, not 0"),
    ("(SELECT 1)", "12:6: `SELECT` is neither a field nor a function"),
    ("$1::GEOGRAPHY", "12:9: type GEOGRAPHY is not stored here"),
    ("CASE END", "12:10: `END` is neither a field nor a function"),
    ("TO_DATE($1, 'Q')", "12:21: format `Q`: element `Q` is not read here"),
    ("$1::DATE::NUMBER", "12:21: a cast from DATE to NUMBER is not done here"),
    ("NVL($1, 0)", "12:15: VARCHAR and NUMBER have no common type here"),
    ("SUBSTR($1, $2)", "12:19: the start of SUBSTR must be a whole number written out"),
    ("TRY_CAST($1::NUMBER AS DATE)", "12:33: a TRY_ function takes VARCHAR, not NUMBER"),
    ("SUM($1)", "12:5: function SUM is not done in a pipe here"),
    ("PARSE_JSON($1):\"a*\"",
     "12:20: a key with `*`, a quote or a backslash is not read here: `a*`"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "message"), REFUSED)
def test_refused_with_place(expression: str, message: str) -> None:
    """What is not done is refused by name, with line and column in the author's file."""
    with pytest.raises(DefinitionError) as caught:
        plan(expression)
    (found,) = caught.value.findings
    assert found.source is not None
    assert f"{found.source.line}:{found.source.column}: {found.message}" == message


def test_json_has_one_value() -> None:
    """`$2` of a JSON record does not exist."""
    with pytest.raises(DefinitionError, match=r"JSON has only \$1"):
        plan("$2", file_type="JSON")


@pytest.mark.parametrize("expression", ["(" * 200 + "$1" + ")" * 200, "NOT " * 2000 + "TRUE"])
def test_nesting_is_bounded(expression: str) -> None:
    """An expression nested beyond reason is refused, not a crash."""
    with pytest.raises(DefinitionError, match="nests more than"):
        plan(expression)


def test_size_is_bounded() -> None:
    """An expression whose SQL would explode is refused before it does."""
    nested = "$1"
    for _ in range(35):
        nested = f"TO_VARCHAR({nested}::NUMBER)"
    for expression in (nested, "$1" + "::NUMBER::VARCHAR" * 100):
        with pytest.raises(DefinitionError, match="too long"):
            plan(expression)


def test_no_conversion_becomes_a_join(con: duckdb.DuckDBPyConnection) -> None:
    """A boolean inside other casts stays a projection; as hash joins it took a second a batch."""
    planned = plan("TRIM(IFF($1:b::BOOLEAN, $1:a, NULL))", "TIMESTAMP_NTZ", file_type="JSON")
    shown = con.execute(
        f"EXPLAIN SELECT {planned.fault_sql} FROM (SELECT CAST('{{}}' AS JSON) AS c1)"
    ).fetchall()
    assert "JOIN" not in str(shown)


# -- whole pipes --------------------------------------------------------------------------------

SCRIPT = """
CREATE DATABASE d; CREATE SCHEMA s;
CREATE TABLE t (id NUMBER NOT NULL, name VARCHAR(3), at DATE);
CREATE TABLE v (j VARIANT);
CREATE STORAGE INTEGRATION si TYPE=EXTERNAL_STAGE STORAGE_PROVIDER='S3' ENABLED=TRUE
  STORAGE_AWS_ROLE_ARN='arn:aws:iam::000000000000:role/r' STORAGE_ALLOWED_LOCATIONS=('*');
CREATE STAGE st URL='s3://bkt/' STORAGE_INTEGRATION=si;
"""


def warehouse(text: str) -> Warehouse:
    """A warehouse with more statements."""
    return parse_warehouse([("w.sql", SCRIPT + text)], {})


def pipe_plan(text: str) -> CopyPlan:
    """The plan of the one pipe of a script."""
    found = warehouse(f"CREATE PIPE p AUTO_INGEST=TRUE AS COPY INTO {text}")
    (pipe,) = found.pipes.values()
    return copy_plan(pipe.copy, found.tables[pipe.copy.table])


def test_plain_copy_fills_columns_by_position() -> None:
    """Without a SELECT the n-th field fills the n-th column, and the count is asked."""
    planned = pipe_plan("t FROM @st")
    assert [(each.column.name, each.position) for each in planned.targets] == [
        ("ID", 1),
        ("NAME", 2),
        ("AT", 3),
    ]
    assert (planned.fields, planned.counts_fields) == (3, True)


def test_column_list_changes_the_order() -> None:
    """A column list says which columns the fields fill, in its own order."""
    planned = pipe_plan("t (at, id) FROM @st FILE_FORMAT=(ERROR_ON_COLUMN_COUNT_MISMATCH=FALSE)")
    assert [(each.column.name, each.position) for each in planned.targets] == [("AT", 3), ("ID", 1)]
    assert planned.targets[0].conversion.value_sql.count("c1") > 0
    assert (planned.fields, planned.counts_fields) == (2, False)


def test_select_reads_as_many_fields_as_it_names() -> None:
    """The highest `$n` tells how many fields the relation needs; the count is never asked."""
    planned = pipe_plan("t (id, name) FROM (SELECT $7, $2 FROM @st)")
    assert (planned.fields, planned.counts_fields) == (7, False)


def test_first_fault_in_order_of_columns(con: duckdb.DuckDBPyConnection) -> None:
    """A row with several faults tells the first, with column, place and number."""
    planned = pipe_plan("t FROM @st")
    row = con.execute(
        f"SELECT {planned.fault_sql} FROM (SELECT '1' AS c1, 'long' AS c2, 'x' AS c3)"
    ).fetchall()[0][0]
    assert row == {
        "column_name": '"T"["NAME":2]',
        "position": 2,
        "message": "User character length limit (3) exceeded by string 'long'",
        "code": "100074",
    }


def test_plain_json_is_the_value(con: duckdb.DuckDBPyConnection) -> None:
    """A plain COPY of JSON keeps each record whole."""
    planned = pipe_plan("v FROM @st FILE_FORMAT=(TYPE=JSON)")
    assert run(con, planned, '{"a":null}', json_=True) == ('{"a":null}', None)
    assert planned.error_sql == "false"


def test_csv_into_variant_parses(con: duckdb.DuckDBPyConnection) -> None:
    """A plain field is parsed as JSON for a VARIANT column; a selected one is a JSON string."""
    assert run(con, pipe_plan("v FROM @st"), "[1]") == ("[1]", None)
    assert run(con, pipe_plan("v FROM (SELECT $1 FROM @st)"), "[1]") == ('"[1]"', None)


def test_findings_of_all_pipes() -> None:
    """Every fault of every pipe is told before anything runs."""
    found = warehouse(
        "CREATE PIPE one AUTO_INGEST=TRUE AS COPY INTO t FROM (SELECT FOO($1), $2, BAR($3)"
        " FROM @st);\n"
        "CREATE PIPE two AUTO_INGEST=TRUE AS COPY INTO t FROM @st"
        " FILE_FORMAT=(DATE_FORMAT='YYYY-Q');\n"
    )
    lines = SCRIPT.count("\n")
    assert [
        (each.source.line - lines if each.source else 0, each.message)
        for each in dialect_findings(found)
    ] == [
        (1, "function FOO is not done in a pipe here"),
        (1, "function BAR is not done in a pipe here"),
        (2, "format `YYYY-Q`: element `Q` is not read here"),
    ]


def test_format_of_the_file_is_used_by_casts(con: duckdb.DuckDBPyConnection) -> None:
    """DATE_FORMAT of the file format is how a SELECT's casts read dates."""
    planned = plan("$1::DATE", "DATE", options={"DATE_FORMAT": "DD.MM.YYYY"})
    assert run(con, planned, "31.12.2024") == ("2024-12-31", None)
