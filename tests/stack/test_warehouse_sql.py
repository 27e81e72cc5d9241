"""warehouse.sql: what is read, what is refused, and where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgate.errors import DefinitionError, Finding
from feedgate.limits import WAREHOUSE_SQL_CHARS_MAX
from feedgate.stack.sql_objects import location_within
from feedgate.stack.sql_pattern import PatternError, compile_pattern
from feedgate.stack.sql_text import cut, substitute
from feedgate.stack.warehouse import FileFormat, Name, Pipe, Stage, Warehouse
from feedgate.stack.warehouse_sql import (
    CSV_DEFAULTS,
    JSON_DEFAULTS,
    effective_options,
    parse_warehouse,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "landing" / "warehouse.sql"
VALUES = {
    "SnowflakeRoleArn": "arn:aws:iam::000000000000:role/snowflake",
    "LandingBucketName": "landing",
}
BASE = """\
CREATE DATABASE d; CREATE SCHEMA s;
CREATE TABLE t (a NUMBER, b VARCHAR);
CREATE TABLE v (j VARIANT);
CREATE FILE FORMAT csv_ff TYPE=CSV ESCAPE_UNENCLOSED_FIELD=NONE;
CREATE FILE FORMAT json_ff TYPE=JSON;
CREATE STORAGE INTEGRATION si TYPE=EXTERNAL_STAGE STORAGE_PROVIDER='S3' ENABLED=TRUE
  STORAGE_AWS_ROLE_ARN='arn:aws:iam::000000000000:role/r'
  STORAGE_ALLOWED_LOCATIONS=('s3://landing/in/') STORAGE_BLOCKED_LOCATIONS=('s3://landing/in/no/');
CREATE STAGE st URL='s3://landing/in/' STORAGE_INTEGRATION=si FILE_FORMAT=(FORMAT_NAME=csv_ff);
"""
BASE_LINES = BASE.count("\n")


def parse(text: str, *, base: bool = True, values: dict[str, str] | None = None) -> Warehouse:
    """A warehouse out of a script that follows the base script."""
    return parse_warehouse([("w.sql", (BASE if base else "") + text)], values or VALUES)


def faults(text: str, *, base: bool = True) -> list[str]:
    """The faults of a script, lines counted from its own first line."""
    with pytest.raises(DefinitionError) as caught:
        parse(text, base=base)
    return [_moved(each, BASE_LINES if base else 0) for each in caught.value.findings]


def _moved(finding: Finding, lines: int) -> str:
    assert finding.source is not None
    return f"{finding.source.line - lines}:{finding.source.column}: {finding.message}"


def pipe(options: str = "", *, source: str = "@st", into: str = "t") -> Pipe:
    """The pipe of one COPY."""
    text = f"CREATE PIPE p AUTO_INGEST=TRUE AS COPY INTO {into} FROM {source} {options};"
    return next(iter(parse(text).pipes.values()))


def csv_options(text: str) -> dict[str, object]:
    """The options of one CSV file format."""
    found = parse(f"CREATE FILE FORMAT f TYPE=CSV {text};").file_formats
    return dict(found[Name("D", "S", "F")].options)


# -- the example --------------------------------------------------------------------------------


def test_example_is_read_without_remarks() -> None:
    """The shipped script declares what it says, and nothing in it needs a warning."""
    found = parse_warehouse([("warehouse.sql", EXAMPLE.read_text())], VALUES)
    assert found.findings == ()
    assert found.databases == ("LANDING",)
    assert [str(name) for name in found.tables] == ["LANDING.RAW.ORDERS", "LANDING.RAW.EVENTS"]
    assert {str(each.name): each.url for each in found.stages.values()} == {
        "LANDING.RAW.ORDERS_STAGE": "s3://landing/jeffrey_aven/orders/",
        "LANDING.RAW.EVENTS_STAGE": "s3://landing/jeffrey_aven/events/",
    }
    orders, events = found.pipes.values()
    assert (orders.auto_ingest, orders.copy.on_error, orders.copy.select) == (
        True,
        "SKIP_FILE",
        None,
    )
    assert orders.copy.file_format.options["SKIP_HEADER"] == 1
    assert (events.copy.on_error, events.copy.file_format.type) == ("CONTINUE", "JSON")
    assert events.copy.select is not None
    assert events.copy.select[0] == "$1:id::VARCHAR"
    assert found.integrations["LANDING_INT"].allowed_locations == ("s3://landing/",)


def test_statements_are_the_authors_bytes() -> None:
    """A statement is a slice of the script, comments and odd layout inside it included."""
    text = "create  DATABASE -- why; not\n  d /* ; */ COMMENT='a;b' ;\n\nUSE ROLE \"r;x\";\n"
    found = parse(text, base=False)
    assert [each.text for each in found.statements] == [
        "create  DATABASE -- why; not\n  d /* ; */ COMMENT='a;b'",
        'USE ROLE "r;x"',
    ]
    assert [str(each.source) for each in found.statements] == ["w.sql:1:1", "w.sql:4:1"]
    assert [each.kind for each in found.statements] == ["CREATE DATABASE", "USE"]


def test_scripts_are_one_session() -> None:
    """Several files are read in order, with the current schema carried over."""
    found = parse_warehouse([("1.sql", "CREATE DATABASE d;"), ("2.sql", "CREATE TABLE t (a INT)")],
                            {})  # fmt: skip
    assert list(found.tables) == [Name("D", "PUBLIC", "T")]


ODD = """\
a -- c ; d
; b // ; x
/*;*/ c ; 'it''s' 'a\\'b;' $$ x;'y $$ "q;""r" x.$1:a."b c"[0]::NUMBER(10,2) || t.$2 <> 1.5e3
METADATA$FILENAME é_1 @st/a-b.c/x=1/ 'é😀' <= >= != => _x$y $1 12 /* a /* b */ "select"; select
"""


@pytest.mark.parametrize("text", [EXAMPLE.read_text(), ODD, BASE], ids=["example", "odd", "base"])
def test_tokens_are_those_of_sqlglot(text: str) -> None:
    """Every token begins and ends where sqlglot's Snowflake tokenizer says."""
    script, _faults = substitute("w.sql", text, VALUES)
    ours = [(each.start, each.end) for tokens in cut(script) for each in tokens]
    theirs: list[tuple[int, int]] = []
    for token in sqlglot.tokenize(script.text, read="snowflake"):
        raw = script.text[token.start : token.end + 1]
        if re.fullmatch(r"[A-Za-z]+(\s+[A-Za-z]+)+", raw):  # `FILE FORMAT` is one token there
            words = re.finditer(r"[A-Za-z]+", raw)
            theirs += [(token.start + w.start(), token.start + w.end()) for w in words]
        elif raw != ";":
            theirs.append((token.start, token.end + 1))
    assert ours == theirs


# -- substitution -------------------------------------------------------------------------------


def test_values_are_put_in() -> None:
    """`&{Name}` becomes its value, `&&` a plain ampersand."""
    text = (
        "CREATE STAGE x URL='s3://&{LandingBucketName}/in/' STORAGE_INTEGRATION=si COMMENT='a&&b';"
    )
    stage = parse(text).stages[Name("D", "S", "X")]
    assert (stage.url, stage.comment) == ("s3://landing/in/", "a&b")


def test_places_are_those_before_substitution() -> None:
    """A fault right of a value, which is longer than its name, keeps the author's column."""
    text = "CREATE DATABASE d COMMENT='&{LandingBucketName}'; USE ROLE r; DROP TABLE x;"
    assert faults(text, base=False) == ["1:63: DROP TABLE is not done here"]


SUBSTITUTION = [
    ("CREATE DATABASE\n  x COMMENT='&{Nope}'", "2:14: `&{Nope}` has no value"),
    ("CREATE DATABASE &{LandingBucketNam}", "1:17: `&{LandingBucketNam}` has no value"),
    ("CREATE DATABASE x COMMENT='R&D'", "1:29: `&D` would be substituted by SnowSQL"),
    ("CREATE DATABASE x COMMENT='&{'", "1:28: `&{` has no closing brace on its line"),
]


@pytest.mark.parametrize(("text", "message"), SUBSTITUTION)
def test_substitution_faults(text: str, message: str) -> None:
    """An unknown or malformed variable is refused with its place."""
    assert message in faults(text, base=False)


def test_variables_in_comments_do_not_count() -> None:
    """What stands in a comment needs no value."""
    assert parse("-- &{Nope} and R&D\n/* &{Nope} */ CREATE DATABASE d;", base=False).databases


def test_near_name_is_suggested() -> None:
    """A misspelt name comes with the one that was meant."""
    with pytest.raises(DefinitionError) as caught:
        parse("CREATE DATABASE &{LandingBucketNam}", base=False)
    assert caught.value.findings[0].hint == "did you mean `LandingBucketName`?"


@pytest.mark.parametrize("value", ["it's", 'a"b', "a\nb", "a;b", "a\\b", "a$$b"])
def test_values_cannot_break_out(value: str) -> None:
    """A value that could end a string or a statement is refused."""
    with pytest.raises(DefinitionError, match="holds a quote, escape or separator"):
        parse("CREATE DATABASE d COMMENT='&{V}'", base=False, values={"V": value})


# -- words --------------------------------------------------------------------------------------

UNENDED = [
    ("CREATE DATABASE d COMMENT='x", "1:27: string without an end"),
    ("/* x\n", "1:1: comment without an end"),
    ('\nCREATE DATABASE "d', "2:17: quoted name without an end"),
    ("CREATE DATABASE d COMMENT=$$x", "1:27: `$$` string without an end"),
]


@pytest.mark.parametrize(("text", "message"), UNENDED)
def test_unended(text: str, message: str) -> None:
    """A string or comment that does not end is named where it begins."""
    assert faults(text, base=False) == [message]


STRINGS = [
    (r"'it''s'", "it's"),
    (r"'a\tb'", "a\tb"),
    (r"'\\N'", "\\N"),
    (r"'\x41\u0042\103'", "ABC"),
    (r"'\q'", "q"),
    ("$$it's \\t$$", "it's \\t"),
    ("'-- no comment // ;'", "-- no comment // ;"),
    ("'é😀'", "é😀"),
]


@pytest.mark.parametrize(("text", "expected"), STRINGS)
def test_strings(text: str, expected: str) -> None:
    """Strings are decoded as Snowflake's string constants, `$$` strings not at all."""
    found = parse(f"CREATE STAGE x URL='s3://landing/in/' STORAGE_INTEGRATION=si COMMENT={text}")
    assert found.stages[Name("D", "S", "X")].comment == expected


def test_byte_order_mark_is_skipped() -> None:
    """A script saved with a byte order mark is read."""
    assert parse("\ufeffCREATE DATABASE d", base=False).databases == ("D",)


def test_script_too_long() -> None:
    """A script above the bound is refused before it is cut."""
    with pytest.raises(DefinitionError, match="more than"):
        parse(" " * (WAREHOUSE_SQL_CHARS_MAX + 1), base=False)


REFUSED = [
    ("DROP TABLE t", "1:1: DROP TABLE is not done here"),
    ("ALTER PIPE p REFRESH", "1:1: ALTER PIPE is not done here"),
    ("INSERT INTO t VALUES (1)", "1:1: INSERT is not done here"),
    ("SELECT 1", "1:1: SELECT is not done here"),
    ("CREATE VIEW x AS SELECT 1", "1:1: CREATE VIEW is not done here"),
    ("CREATE NOTIFICATION INTEGRATION x", "1:1: CREATE NOTIFICATION INTEGRATION is not done here"),
    ("CREATE OR ALTER TABLE x (a INT)", "1:8: CREATE OR ALTER is not done yet"),
    ("CREATE TEMPORARY TABLE x (a INT)", "1:8: CREATE `TEMPORARY` TABLE is not done here"),
    ("CREATE TABLE x AS SELECT 1", "1:16: CREATE TABLE … `AS` is not done yet"),
    ("CREATE TABLE x LIKE t", "1:16: CREATE TABLE … `LIKE` is not done yet"),
    ("CALL f('a;b')", "1:1: CALL is not done here"),
    ("EXECUTE IMMEDIATE $$ a; b $$", "1:1: EXECUTE is not done here"),
    ("REMOVE @st", "1:1: REMOVE is not done here"),
    ("SET x = 1", "1:1: SET is not done here"),
    ("CREATE DATABASE e e", "1:20: expected = after E, found the end of the statement"),
    ("CREATE SCHEMA", "1:14: expected a schema, found the end of the statement"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_refused_by_name(text: str, message: str) -> None:
    """A statement that is not done here is refused by its name."""
    assert faults(text) == [message]


def test_every_fault_is_told_once() -> None:
    """All faults come together, in the order of their places, without what follows from another."""
    text = """CREATE FILE FORMAT f TYPE=CSV NOPE=1 SKIP_HEADER=x;
CREATE TABLE u (a GEOGRAPHY, b NUMBER(99), c VARCHAR);
CREATE STAGE bad URL=5 STORAGE_INTEGRATION=missing;
CREATE PIPE p AUTO_INGEST=TRUE AS COPY INTO u FROM @bad;
"""
    assert faults(text) == [
        "1:31: unknown option NOPE of a CSV file format",
        "1:50: SKIP_HEADER takes a whole number, not `x`",
        "2:19: type GEOGRAPHY is not stored here",
        "2:32: NUMBER(99,0) does not exist",
        "3:22: URL takes a string in single quotes, not `5`",
        "3:44: storage integration `MISSING` is not declared",
    ]


# -- file formats -------------------------------------------------------------------------------

OPTIONS = [
    (r"FIELD_DELIMITER='\t'", {"FIELD_DELIMITER": "\t"}),
    (r"FIELD_DELIMITER='\\t'", {"FIELD_DELIMITER": "\t"}),
    ("FIELD_DELIMITER='0x7C'", {"FIELD_DELIMITER": "|"}),
    (r"FIELD_DELIMITER='\\x7c'", {"FIELD_DELIMITER": "|"}),
    (r"FIELD_DELIMITER='\\174'", {"FIELD_DELIMITER": "|"}),
    ("FIELD_DELIMITER='||'", {"FIELD_DELIMITER": "||"}),
    ("FIELD_DELIMITER=NONE", {"FIELD_DELIMITER": None}),
    ("FIELD_DELIMITER='none'", {"FIELD_DELIMITER": None}),
    (r"RECORD_DELIMITER='\r\n'", {"RECORD_DELIMITER": "\r\n"}),
    ("FIELD_OPTIONALLY_ENCLOSED_BY='0x27'", {"FIELD_OPTIONALLY_ENCLOSED_BY": "'"}),
    ("FIELD_OPTIONALLY_ENCLOSED_BY=''''", {"FIELD_OPTIONALLY_ENCLOSED_BY": "'"}),
    ("FIELD_OPTIONALLY_ENCLOSED_BY='\"'", {"FIELD_OPTIONALLY_ENCLOSED_BY": '"'}),
    (r"ESCAPE='\\'", {"ESCAPE": "\\"}),
    (r"ESCAPE='\\\\'", {"ESCAPE": "\\"}),
    ("ESCAPE_UNENCLOSED_FIELD=NONE", {"ESCAPE_UNENCLOSED_FIELD": None}),
    (r"NULL_IF=('', '\\N' 'NULL')", {"NULL_IF": ("", "\\N", "NULL")}),
    ("NULL_IF=()", {"NULL_IF": ()}),
    ("NULL_IF='x'", {"NULL_IF": ("x",)}),
    ("SKIP_HEADER=2, TRIM_SPACE=TRUE", {"SKIP_HEADER": 2, "TRIM_SPACE": True}),
    ("COMPRESSION='gzip'", {"COMPRESSION": "GZIP"}),
    ("ENCODING='UTF-8'", {"ENCODING": "UTF8"}),
    ("DATE_FORMAT=auto", {"DATE_FORMAT": "AUTO"}),
    ("DATE_FORMAT='DD.MM.YYYY'", {"DATE_FORMAT": "DD.MM.YYYY"}),
    ("BINARY_FORMAT=base64", {"BINARY_FORMAT": "BASE64"}),
    ("ERROR_ON_COLUMN_COUNT_MISMATCH=FALSE", {"ERROR_ON_COLUMN_COUNT_MISMATCH": False}),
]


@pytest.mark.parametrize(("text", "expected"), OPTIONS)
def test_csv_options(text: str, expected: dict[str, object]) -> None:
    """Option values are decoded as Snowflake decodes them."""
    assert csv_options(text) == expected


WRONG_OPTIONS = [
    ("TYPE=PARQUET", "1:22: file format TYPE=PARQUET is not done yet"),
    ("TYPE=FOO", "1:22: `FOO` is not a file format TYPE"),
    ("STRIP_OUTER_ARRAY=TRUE",
     "1:22: unknown option STRIP_OUTER_ARRAY of a CSV file format; it belongs to TYPE=JSON"),
    ("TYPE=JSON SKIP_HEADER=1",
     "1:32: unknown option SKIP_HEADER of a JSON file format; it belongs to TYPE=CSV"),
    ("TYPE=JSON STRIP_NULL_VALUES=TRUE", "1:32: STRIP_NULL_VALUES=TRUE is not done yet"),
    ("COMPRESSION=ZSTD", "1:22: COMPRESSION=ZSTD is not done yet"),
    ("COMPRESSION=FOO", "1:34: COMPRESSION takes AUTO or GZIP or NONE, not `FOO`"),
    ("ENCODING='WINDOWS1252'", "1:22: ENCODING=WINDOWS1252 is not done yet"),
    ("PARSE_HEADER=TRUE", "1:22: PARSE_HEADER=TRUE is not done yet"),
    ("TRIM_SPACE='maybe'", "1:33: TRIM_SPACE takes TRUE or FALSE, not `maybe`"),
    ("ESCAPE='ab'", "1:29: ESCAPE takes one single-byte character, or NONE, not `ab`"),
    ("FIELD_OPTIONALLY_ENCLOSED_BY='|'",
     "1:51: FIELD_OPTIONALLY_ENCLOSED_BY takes a single quote, a double quote or NONE, not `|`"),
    ("FIELD_DELIMITER=''", "1:38: FIELD_DELIMITER takes 1 to 20 characters, not `( … )`"),
    ("FIELD_DELIMITER='0xFF'",
     "1:38: FIELD_DELIMITER takes a delimiter that is valid UTF-8, not `0xFF`"),
    (r"FIELD_DELIMITER='a' RECORD_DELIMITER='ab'",
     "1:22: FIELD_DELIMITER and RECORD_DELIMITER contain one another"),
    ("SKIP_HEADER=1 SKIP_HEADER=2", "1:36: option SKIP_HEADER is given twice"),
    ("SKIP_HEADER 1", "1:34: expected = after SKIP_HEADER, found `1`"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG_OPTIONS)
def test_wrong_options(text: str, message: str) -> None:
    """A wrong option is named with line and column."""
    assert message in faults(f"CREATE FILE FORMAT f {text};")


def test_parentheses_are_bounded() -> None:
    """Options nested beyond reason are refused, not a crash."""
    text = "CREATE FILE FORMAT f NULL_IF=" + "(" * 5000 + ")" * 5000
    assert faults(text) == ["1:46: options nest more than 16 parentheses"]


def test_effective_options_are_defaults_and_what_was_said() -> None:
    """Every option of the type has a value; the older name of one JSON option counts."""
    assert effective_options(FileFormat()) == CSV_DEFAULTS
    changed = effective_options(FileFormat("CSV", {"SKIP_HEADER": 3}))
    assert (changed["SKIP_HEADER"], changed["FIELD_DELIMITER"]) == (3, ",")
    assert effective_options(FileFormat("JSON")) == JSON_DEFAULTS
    older = effective_options(FileFormat("JSON", {"IGNORE_UTF8_ERRORS": True}))
    assert older["REPLACE_INVALID_CHARACTERS"] is True


# -- tables -------------------------------------------------------------------------------------

TYPES = [
    ("NUMBER", ("NUMBER", 38, 0)),
    ("number(10)", ("NUMBER", 10, 0)),
    ("DECIMAL(10,2)", ("NUMBER", 10, 2)),
    ("INT", ("NUMBER", 38, 0)),
    ("BYTEINT", ("NUMBER", 38, 0)),
    ("FLOAT8", ("FLOAT", None, None)),
    ("DOUBLE PRECISION", ("FLOAT", None, None)),
    ("VARCHAR(20)", ("VARCHAR", 20, None)),
    ("STRING", ("VARCHAR", None, None)),
    ("CHAR", ("VARCHAR", 1, None)),
    ("CHAR VARYING(5)", ("VARCHAR", 5, None)),
    ("BOOLEAN", ("BOOLEAN", None, None)),
    ("DATE", ("DATE", None, None)),
    ("TIME(3)", ("TIME", 3, None)),
    ("TIMESTAMP", ("TIMESTAMP_NTZ", None, None)),
    ("DATETIME(6)", ("TIMESTAMP_NTZ", 6, None)),
    ("TIMESTAMP WITH TIME ZONE", ("TIMESTAMP_TZ", None, None)),
    ("TIMESTAMP_LTZ(0)", ("TIMESTAMP_LTZ", 0, None)),
    ("VARIANT", ("VARIANT", None, None)),
    ("OBJECT", ("OBJECT", None, None)),
    ("ARRAY", ("ARRAY", None, None)),
    ("VARBINARY(8)", ("BINARY", 8, None)),
]


@pytest.mark.parametrize(("text", "expected"), TYPES)
def test_types(text: str, expected: tuple[str, int | None, int | None]) -> None:
    """Every synonym of a type is stored under one name."""
    column = parse(f"CREATE TABLE x (c {text} NOT NULL)").tables[Name("D", "S", "X")].columns[0]
    assert (column.type, column.length, column.scale) == expected
    assert column.nullable is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("c GEOGRAPHY", "1:19: type GEOGRAPHY is not stored here"),
        ("c VECTOR(FLOAT,3)", "1:19: type VECTOR is not stored here"),
        ("c MAP(VARCHAR,INT)", "1:19: type MAP is not stored here"),
        ("c ARRAY(INT)", "1:19: structured ARRAY(…) is not done yet"),
        ("c BLOB", "1:19: `BLOB` is not a type of Snowflake's"),
        ("c TIME(12)", "1:19: a time has at most 9 fraction digits"),
        ("c INT AUTOINCREMENT", "1:23: column attribute AUTOINCREMENT is not done yet"),
        ("c INT IDENTITY(1,1)", "1:23: column attribute IDENTITY is not done yet"),
        ("c INT DEFAULT a+1", "1:31: DEFAULT `a` is not done yet"),
        ('c INT, "c" INT', "1:24: column `c` differs only by case"),
        ("c INT, C INT", "1:24: column `C` is named twice"),
        ("c INT, PRIMARY KEY (d)", "1:1: a constraint names `D`, which is no column"),
        ("c INT, FOREIGN KEY (c) REFERENCES t(a)", "1:24: constraint `FOREIGN` is not done yet"),
    ],
)
def test_columns_refused(text: str, message: str) -> None:
    """A column that cannot be kept as declared is refused with its place."""
    assert message in faults(f"CREATE TABLE x ({text})")


def test_column_attributes() -> None:
    """Defaults, comments and keys are recorded; a primary key is NOT NULL."""
    table = parse(
        "CREATE OR REPLACE TRANSIENT TABLE x (a INT PRIMARY KEY, b VARCHAR DEFAULT 'it''s'"
        " COMMENT 'text', c TIMESTAMP DEFAULT current_timestamp(), d NUMBER(3,1) DEFAULT -1.5,"
        " e BOOLEAN DEFAULT true NULL, UNIQUE (b, c) NOT ENFORCED) COMMENT='all'"
    ).tables[Name("D", "S", "X")]
    assert [each.default for each in table.columns] == [
        None,
        "'it''s'",
        "CURRENT_TIMESTAMP()",
        "-1.5",
        "TRUE",
    ]
    assert [each.nullable for each in table.columns] == [False, True, True, True, True]
    assert (table.columns[1].comment, table.comment) == ("text", "all")
    assert (table.primary_key, table.unique) == (("A",), (("B", "C"),))


# -- names --------------------------------------------------------------------------------------


def test_names_resolve_as_in_a_session() -> None:
    """CREATE and USE move the current schema; quoted names are exact."""
    found = parse(
        """CREATE DATABASE one; CREATE SCHEMA a; CREATE DATABASE two;
        CREATE TABLE t1 (x INT); USE DATABASE one; CREATE TABLE t2 (x INT);
        USE SCHEMA a; CREATE TABLE t3 (x INT); USE two.public; CREATE TABLE "t 4" (x INT);
        CREATE TABLE one.a.t5 (x INT); USE one; CREATE TABLE a.t6 (x INT);""",
        base=False,
    )
    assert [str(name) for name in found.tables] == [
        "TWO.PUBLIC.T1",
        "ONE.PUBLIC.T2",
        "ONE.A.T3",
        'TWO.PUBLIC."t 4"',
        "ONE.A.T5",
        "ONE.A.T6",
    ]
    assert (found.current_database, found.current_schema) == ("ONE", "PUBLIC")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CREATE TABLE t (a INT)", "1:14: `T` has no database and schema"),
        ("USE DATABASE x", "1:5: database `X` is not declared"),
        ("CREATE DATABASE d; CREATE TABLE s.t (a INT)", "1:33: schema `D.S` is not declared"),
        ("CREATE DATABASE d; CREATE TABLE t (a INT); CREATE TABLE t (a INT)",
         "1:44: table `D.PUBLIC.T` is declared already at w.sql:1:33"),
        ('CREATE DATABASE d; CREATE TABLE t (a INT); CREATE TABLE "t" (a INT)',
         '1:44: table `D.PUBLIC."t"` differs from `D.PUBLIC.T` only by case'),
    ],
)  # fmt: skip
def test_names_refused(text: str, message: str) -> None:
    """A name without its schema, a second one, and one that differs only by case are refused."""
    assert faults(text, base=False) == [message]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("IF NOT EXISTS ", "OR REPLACE"),
        ("", "OR REPLACE"),
        ("", "IF NOT EXISTS"),
        ("IF NOT EXISTS ", "IF NOT EXISTS"),
    ],
)
def test_declared_twice(first: str, second: str) -> None:
    """A second declaration is refused with both places, whatever modifiers the two have."""
    again = "CREATE OR REPLACE TABLE x" if second == "OR REPLACE" else f"CREATE TABLE {second} x"
    found = faults(f"CREATE TABLE {first}x (a INT);\n{again} (b INT);")
    (fault,) = found
    assert fault.startswith("2:1: table `D.S.X` is declared already at w.sql:")


def test_database_and_schema_may_be_made_sure_of() -> None:
    """Each script may begin with its database and schema; replacing them is refused."""
    parse("CREATE DATABASE IF NOT EXISTS d; CREATE SCHEMA IF NOT EXISTS d.s;")
    for text in ("CREATE OR REPLACE DATABASE d;", "CREATE OR REPLACE SCHEMA d.s;"):
        (fault,) = faults(text)
        assert "is declared already at" in fault


# -- integrations and stages --------------------------------------------------------------------

INTEGRATION = (
    "CREATE STORAGE INTEGRATION i TYPE=EXTERNAL_STAGE STORAGE_PROVIDER='S3' ENABLED=TRUE "
    "STORAGE_AWS_ROLE_ARN='arn:aws:iam::000000000000:role/r' STORAGE_ALLOWED_LOCATIONS=('*')"
)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("'S3'", "'GCS'", "STORAGE_PROVIDER=GCS is not done here, only S3"),
        ("role/r", "user/r", "`arn:aws:iam::000000000000:user/r` is not the ARN of a role"),
        ("('*')", "('b')", "STORAGE_ALLOWED_LOCATIONS: `b` is not `s3://bucket/prefix/`"),
        ("ENABLED=TRUE ", "", "storage integration `I` lacks ENABLED"),
        ("ENABLED=TRUE", "ENABLED=TRUE FOO=1", "unknown option FOO of a storage integration"),
        ("TYPE=EXTERNAL_STAGE", "", "storage integration `I` lacks TYPE"),
    ],
)
def test_integration_faults(old: str, new: str, message: str) -> None:
    """What a storage integration lacks or gets wrong is named."""
    (found,) = faults(INTEGRATION.replace(old, new))
    assert found.endswith(message)


STAGES = [
    ("URL='s3://landing/other/' STORAGE_INTEGRATION=si",
     "1:20: `s3://landing/other/` lies in no STORAGE_ALLOWED_LOCATIONS of `SI`"),
    ("URL='s3://landing/input/' STORAGE_INTEGRATION=si",
     "1:20: `s3://landing/input/` lies in no STORAGE_ALLOWED_LOCATIONS of `SI`"),
    ("URL='s3://landing/in/no/x/' STORAGE_INTEGRATION=si",
     "1:20: `s3://landing/in/no/x/` lies in STORAGE_BLOCKED_LOCATIONS of `SI`"),
    ("URL='gcs://landing/in/' STORAGE_INTEGRATION=si",
     "1:20: `gcs://landing/in/` is not `s3://bucket/prefix/`"),
    ("URL='s3://landing/in/' CREDENTIALS=(AWS_KEY_ID='x')",
     "1:39: stage option CREDENTIALS is not done here"),
    ("STORAGE_INTEGRATION=si", "1:1: stage `D.S.X` lacks URL"),
    ("URL='s3://landing/in/'", "1:1: stage `D.S.X` lacks STORAGE_INTEGRATION"),
    ("URL='s3://landing/in/' STORAGE_INTEGRATION=si ENCRYPTION=(TYPE='AWS_CSE' MASTER_KEY='x')",
     "1:74: ENCRYPTION TYPE=AWS_CSE is not done here"),
    ("URL='s3://landing/in/' STORAGE_INTEGRATION=si FOO=1", "1:62: unknown option FOO of a stage"),
    ("URL='s3://landing/in/' STORAGE_INTEGRATION=si FILE_FORMAT=(FORMAT_NAME=nope)",
     "1:87: file format `D.S.NOPE` is not declared"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), STAGES)
def test_stage_faults(text: str, message: str) -> None:
    """A stage outside its integration, or with what is not done, is refused with its place."""
    assert message in faults(f"CREATE STAGE x {text}")


def stage(text: str) -> Stage:
    """A stage with more options."""
    script = f"CREATE STAGE x URL='s3://landing/in/' STORAGE_INTEGRATION=si {text}"
    return parse(script).stages[Name("D", "S", "X")]


@pytest.mark.parametrize(
    "text",
    [
        "FILE_FORMAT=(FORMAT_NAME=json_ff)",
        "FILE_FORMAT=(FORMAT_NAME='json_ff')",
        "FILE_FORMAT=(FORMAT_NAME=d.s.json_ff)",
        "FILE_FORMAT=(FORMAT_NAME='D.S.\"JSON_FF\"')",
        "FILE_FORMAT=json_ff",
        "FILE_FORMAT=(TYPE=JSON)",
        "FILE_FORMAT=(TYPE='json', STRIP_OUTER_ARRAY=FALSE)",
    ],
)
def test_file_format_of_a_stage(text: str) -> None:
    """A stage's file format is named in any of Snowflake's ways, or written in place."""
    assert stage(text).file_format.type == "JSON"


def test_stage_options_without_effect_are_remarked() -> None:
    """What concerns only Snowflake is kept, and said to do nothing here."""
    found = parse(
        "CREATE STAGE x URL='s3://landing/in/' STORAGE_INTEGRATION=si"
        " ENCRYPTION=(TYPE='AWS_SSE_KMS' KMS_KEY_ID='k') DIRECTORY=(ENABLE=TRUE AUTO_REFRESH=TRUE)"
    )
    assert [(each.severity, each.message) for each in found.findings] == [
        ("ignored", "ENCRYPTION has no effect here"),
        ("ignored", "DIRECTORY has no effect here"),
    ]


@pytest.mark.parametrize(
    ("url", "location", "within"),
    [
        ("s3://b/in/", "*", True),
        ("s3://b/in/", "s3://b/", True),
        ("s3://b/in/", "s3://b/in", True),
        ("s3://b/in", "s3://b/in/", True),
        ("s3://b/internal/", "s3://b/in", False),
        ("s3://bb/", "s3://b", False),
        ("s3://b/", "s3://b/in/", False),
    ],
)
def test_locations_are_paths(url: str, location: str, *, within: bool) -> None:
    """A location holds whole path components, never part of one."""
    assert location_within(url, location) is within


# -- pipes --------------------------------------------------------------------------------------


def test_pipe_defaults() -> None:
    """A pipe takes the stage's file format, skips bad files and has no pattern."""
    copy = pipe().copy
    assert (copy.table, copy.stage, copy.path) == (
        Name("D", "S", "T"),
        Name("D", "S", "ST"),
        "",
    )
    assert (copy.on_error, copy.pattern, copy.columns, copy.select) == (
        "SKIP_FILE",
        None,
        None,
        None,
    )
    assert copy.file_format.name == Name("D", "S", "CSV_FF")


def test_copy_file_format_takes_the_place_of_the_stages() -> None:
    """COPY's own file format is taken whole: nothing is merged from the stage's."""
    copy = pipe("FILE_FORMAT=(TYPE=CSV FIELD_OPTIONALLY_ENCLOSED_BY='\"')").copy
    assert copy.file_format.options == {"FIELD_OPTIONALLY_ENCLOSED_BY": '"'}


SOURCES = [
    ("@st/2024/", "2024/"),
    ("@d.s.st/a-b_c.d/x=1/", "a-b_c.d/x=1/"),
    ('@"ST"/with/', "with/"),
    ("'@st/a b/'", "a b/"),
    ("'@d.s.st'", ""),
    ("@st/", ""),
]


@pytest.mark.parametrize(("text", "path"), SOURCES)
def test_stage_paths(text: str, path: str) -> None:
    """The path after a stage's name is what follows without a blank, or all of a quoted text."""
    assert pipe(source=text).copy.path == path


def test_pipe_body_in_parentheses_and_comment_that_says_as() -> None:
    """AS in a comment is no AS, and the whole COPY may stand in parentheses."""
    found = parse(
        "CREATE PIPE p COMMENT='AS COPY' AUTO_INGEST=TRUE AS (COPY INTO t (b, a) FROM @st"
        " PATTERN='.*[.]csv' ON_ERROR=CONTINUE)"
    ).pipes[Name("D", "S", "P")]
    assert (found.comment, found.copy.columns) == ("AS COPY", ("B", "A"))
    assert (found.copy.pattern, found.copy.on_error) == (".*[.]csv", "CONTINUE")


def test_select_is_cut_at_its_commas() -> None:
    """Expressions keep their text and their places; commas inside parentheses do not count."""
    copy = pipe(source="(SELECT NVL($1, 0), -- one\n  x.$2 AS b FROM @st/in/ x)").copy
    assert copy.select == ("NVL($1, 0)", "x.$2 AS b")
    assert copy.stage_alias == "X"
    assert [each.line - BASE_LINES for each in copy.select_sources] == [1, 2]
    assert copy.select_sources[1].column == 3


def test_comment_on_pipe_is_its_comment() -> None:
    """COMMENT ON PIPE replaces the comment; other comments change nothing here."""
    text = "CREATE PIPE p AUTO_INGEST=TRUE AS COPY INTO t FROM @st; COMMENT ON TABLE t IS 'x';"
    found = parse(text + "COMMENT IF EXISTS ON PIPE p IS 'new'").pipes
    assert found[Name("D", "S", "P")].comment == "new"


PIPES = [
    ("t FROM @st FORCE=TRUE", "a pipe may not say FORCE"),
    ("t FROM @st PURGE=FALSE", "a pipe may not say PURGE"),
    ("t FROM @st FILES=('a.csv')", "a pipe may not say FILES"),
    ("t FROM @st VALIDATION_MODE=RETURN_ERRORS", "a pipe may not say VALIDATION_MODE"),
    ("t FROM @st ON_ERROR=ABORT_STATEMENT", "a pipe may not say ON_ERROR = ABORT_STATEMENT"),
    ("t FROM @st ON_ERROR='SKIP_FILE_5%'", "ON_ERROR = SKIP_FILE_5% is not done yet"),
    ("t FROM @st MATCH_BY_COLUMN_NAME=CASE_SENSITIVE", "MATCH_BY_COLUMN_NAME is not done yet"),
    ("t FROM @st NOPE=1", "unknown option NOPE of COPY INTO"),
    ("t FROM @st TRUNCATECOLUMNS=TRUE ENFORCE_LENGTH=TRUE",
     "TRUNCATECOLUMNS and ENFORCE_LENGTH contradict each other"),
    ("nope FROM @st", "table `D.S.NOPE` is not declared"),
    ("t FROM @nope", "stage `D.S.NOPE` is not declared"),
    ("t (a, z) FROM @st", "table `D.S.T` has no column `Z`"),
    ("t (a, a) FROM @st", "column `A` is named twice"),
    ("t FROM @~/x", "user and table stages are not done here"),
    ("t FROM @%t", "user and table stages are not done here"),
    ("t FROM 's3://landing/in/'", "a pipe reads from a stage, not from `s3://landing/in/`"),
    ("t FROM @st/a//b", "a comment begins inside the path"),
    ("t FROM @st FILE_FORMAT=(TYPE=JSON)", "JSON fills exactly one column of type VARIANT,"
     " OBJECT or ARRAY"),
    ("t FROM (SELECT $1 FROM @st)", "the SELECT gives 1 values for 2 columns of `D.S.T`"),
    ("t FROM (SELECT $1, $2 FROM @st WHERE $1 = 1)", "a pipe's SELECT has no WHERE"),
    ("t FROM (SELECT $1, $2 FROM @st x ORDER BY 1)", "a pipe's SELECT has no ORDER"),
    ("t FROM (SELECT DISTINCT $1, $2 FROM @st)", "a pipe's SELECT has no `DISTINCT`"),
    ("t FROM (SELECT $1, $2 FROM @st (FILE_FORMAT => csv_ff))",
     "options of a stage inside FROM are not done in a pipe"),
    ("t FROM @st PATTERN='(?=a)'",
     "PATTERN `(?=a)`: `(?` other than `(?:` is not read here, at character 2 of the pattern"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), PIPES)
def test_pipe_faults(text: str, message: str) -> None:
    """What a pipe may not say, or does not say rightly, is named."""
    found = faults(f"CREATE PIPE p AUTO_INGEST=TRUE AS COPY INTO {text}")
    assert message in [each.split(": ", 1)[1] for each in found]


@pytest.mark.parametrize("option", ["ERROR_INTEGRATION=x", "AWS_SNS_TOPIC='x'", "INTEGRATION='X'"])
def test_pipe_header_refusals(option: str) -> None:
    """A header option that is not done is refused by name."""
    (found,) = faults(f"CREATE PIPE p AUTO_INGEST=TRUE {option} AS COPY INTO t FROM @st")
    assert f"{option.split('=', maxsplit=1)[0]} of a pipe is not done here" in found


def test_not_null_column_that_nothing_fills() -> None:
    """A COPY that could never load a row is refused when the stack loads."""
    found = faults(
        "CREATE TABLE x (a INT, n INT NOT NULL);\n"
        "CREATE PIPE p AUTO_INGEST=TRUE AS COPY INTO x (a) FROM @st"
    )
    assert found == [
        "2:45: column `N` of `D.S.X` is NOT NULL, has no DEFAULT, and the COPY leaves it out"
    ]


WARNINGS = [
    ("CREATE PIPE p AUTO_INGEST=TRUE AS COPY INTO t FROM @st PATTERN='a.*'", "pipe-pattern"),
    ("CREATE OR REPLACE PIPE p AUTO_INGEST=TRUE AS COPY INTO t FROM @st", "pipe-replace"),
    ("CREATE PIPE p AS COPY INTO t FROM @st", "pipe-auto-ingest"),
    ("CREATE PIPE p AUTO_INGEST=TRUE AS COPY INTO t FROM (SELECT $1, CURRENT_TIMESTAMP()"
     " FROM @st)", "pipe-now"),
    ("CREATE PIPE p AUTO_INGEST=TRUE AS COPY INTO t FROM @st/orders", "stage-slash"),
    ("CREATE STAGE x URL='s3://landing/in' STORAGE_INTEGRATION=si", "stage-slash"),
    ("CREATE FILE FORMAT x TYPE=CSV", "unenclosed-escape"),
    ("GRANT USAGE ON SCHEMA s TO ROLE r", "grant"),
    ("USE WAREHOUSE w", "use"),
    ("CREATE TABLE x (a INT) CLUSTER BY (a)", "table-option"),
    ("CREATE FILE FORMAT x TYPE=JSON TRIM_SPACE=TRUE", "format-option"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "rule"), WARNINGS)
def test_warnings(text: str, rule: str) -> None:
    """A likely mistake, or what has no effect, is one finding that does not stop anything."""
    (found,) = parse(text).findings
    assert found.rule == rule
    assert found.severity in ("warning", "ignored")
    assert found.source is not None


# -- patterns -----------------------------------------------------------------------------------

_ATOMS = ["a", "b", "ab", ".", "[ab]", "[^a]", "\\d", "\\.", "(a|b)", "(?:ab|)", "[[:alpha:]]"]
_QUANTIFIERS = ["", "*", "+", "?", "{2}", "{0,2}", "{1,}", "*?"]
_PIECES = st.tuples(st.sampled_from(_ATOMS), st.sampled_from(_QUANTIFIERS)).map("".join)
_PATTERNS = st.lists(st.lists(_PIECES, max_size=4).map("".join), min_size=1, max_size=2).map(
    "|".join
)


@settings(max_examples=300, deadline=None)
@given(_PATTERNS, st.text("ab.1", max_size=7))
def test_pattern_equals_fullmatch(pattern: str, text: str) -> None:
    """The automaton says what Python's backtracking matcher says."""
    known = re.fullmatch(pattern.replace("[[:alpha:]]", "[A-Za-z]"), text)
    assert compile_pattern(pattern).matches(text) is (known is not None)


@pytest.mark.timeout(5)
def test_pattern_cannot_run_for_ever() -> None:
    """Patterns that make a backtracking matcher hang are linear here."""
    for pattern in ("(a*)*b", "(a|a)*b", "(a+)+b", ".*a.*a.*a.*a.*a.*b"):
        assert compile_pattern(pattern).matches("a" * 1024) is False


@pytest.mark.parametrize(
    "pattern",
    ["(a", "a)", "[a", "*a", "a**", "(?!a)", "(?i", r"\1", r"\b", "a\\", "a{3,1}", "a^b", "[[:x:]]",
     "(a{999}){999}", "a" * 2000, "(" * 40 + "a" + ")" * 40],
)  # fmt: skip
def test_patterns_refused(pattern: str) -> None:
    """What is not a pattern of Snowflake's, or too large, is refused."""
    with pytest.raises(PatternError):
        compile_pattern(pattern)


def test_pattern_anchors_and_case() -> None:
    """Anchors at the ends say nothing, and `(?i)` ignores case."""
    assert compile_pattern("^.*[.]csv$").matches("x.csv")
    assert compile_pattern("(?i).*[.]CSV").matches("x.csv")
    assert not compile_pattern(".*[.]CSV").matches("x.csv")
    assert not compile_pattern(".*").matches("a\nb")
