"""CSV as Snowflake's CREATE FILE FORMAT page describes TYPE = CSV, option by option."""

from __future__ import annotations

import csv as standard_csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedgate.errors import RowError
from feedgate.pipes import csv, csv_blocks
from feedgate.pipes.csv_grammar import grammar
from feedgate.pipes.decode import text_blocks
from feedgate.stack.sql_options import effective_options
from feedgate.stack.warehouse import FileFormat

QUOTED = {"FIELD_OPTIONALLY_ENCLOSED_BY": '"'}
Rows = list[tuple[str | None, ...]]


class Parsed:
    """Everything that a file's batches hold."""

    def __init__(self) -> None:
        self.rows: Rows = []
        self.lines: list[int] = []
        self.numbers: list[int] = []
        self.errors: list[RowError] = []
        self.places: list[list[tuple[int, int]]] = []

    def key(self) -> tuple[Any, ...]:
        return (self.rows, self.lines, self.numbers, self.errors, self.places)


def parse(
    data: bytes, width: int = 3, *, count: bool = True, step: int = 1 << 20, **options: Any
) -> Parsed:
    """Parse a file that arrives in chunks of ``step`` bytes."""
    effective = effective_options(FileFormat("CSV", options))
    blocks = text_blocks(
        (data[at : at + step] for at in range(0, len(data), step)),
        compression=effective["COMPRESSION"],
        replace_invalid=effective["REPLACE_INVALID_CHARACTERS"],
        skip_bom=effective["SKIP_BYTE_ORDER_MARK"],
    )
    parsed = Parsed()
    for batch in csv.csv_batches(
        blocks, grammar(effective), width=width, count_columns=count, label=lambda n: f"C{n}"
    ):
        columns = [
            list(column) if isinstance(column, list | tuple) else column.to_pylist()
            for column in batch.columns
        ]
        parsed.rows += zip(*columns, strict=True)
        parsed.lines += batch.lines
        parsed.numbers += batch.row_numbers
        parsed.errors += batch.errors
        parsed.places += [
            [batch.locate(row, column) for column in range(width)]
            for row in range(len(batch.lines))
        ]
    return parsed


def row(*fields: str | None) -> tuple[str | None, ...]:
    """A row."""
    return fields


# Each case: id, data, options, rows. Options and wording: docs.snowflake.com, CREATE FILE FORMAT.
CASES: list[tuple[str, bytes, dict[str, Any], Rows]] = [
    ("plain", b"1,2,3\n4,5,6\n", {}, [row("1", "2", "3"), row("4", "5", "6")]),
    ("no newline at the end", b"1,2,3\n4,5,6", {}, [row("1", "2", "3"), row("4", "5", "6")]),
    ("empty file", b"", {}, []),
    (
        "CRLF and LF are one logical newline",
        b"1,2,3\r\n4,5,6\n",
        {},
        [row("1", "2", "3"), row("4", "5", "6")],
    ),
    ("a lone CR is data", b"1,2\r,3\n", {}, [row("1", "2\r", "3")]),
    ("empty field is NULL", b",2,\n", {}, [row(None, "2", None)]),
    ("EMPTY_FIELD_AS_NULL = FALSE", b",2,\n", {"EMPTY_FIELD_AS_NULL": False}, [row("", "2", "")]),
    ("empty enclosed field is an empty string", b'"",2,\n', QUOTED, [row("", "2", None)]),
    ("quotes are data without an enclosure", b'"1",2,3\n', {}, [row('"1"', "2", "3")]),
    ("doubled quote", b'"a ""b"" c",2,3\n', QUOTED, [row('a "b" c', "2", "3")]),
    (
        "delimiter and newline in quotes",
        b'"a,b\nc",2,3\n4,5,6\n',
        QUOTED,
        [row("a,b\nc", "2", "3"), row("4", "5", "6")],
    ),
    ("CRLF in quotes stays", b'"a\r\nb",2,3\r\n', QUOTED, [row("a\r\nb", "2", "3")]),
    (
        "single quotes",
        b"'a,''b',2,3\n",
        {"FIELD_OPTIONALLY_ENCLOSED_BY": "'"},
        [row("a,'b", "2", "3")],
    ),
    ("a quote inside a field is data", b'a"b,2,3\n', QUOTED, [row('a"b', "2", "3")]),
    ("blanks before a quote are data", b'1, "x",3\n', QUOTED, [row("1", ' "x"', "3")]),
    (
        "TRIM_SPACE takes blanks around quotes",
        b'1, "x ",\t3 \n',
        {**QUOTED, "TRIM_SPACE": True},
        [row("1", "x ", "3")],
    ),
    ("NULL_IF by default", b"1,\\N,N\n", {}, [row("1", None, "N")]),
    (
        "NULL_IF list, enclosed too",
        b'NULL,"NULL",n/a\n',
        {**QUOTED, "NULL_IF": ("NULL", "n/a")},
        [row(None, None, None)],
    ),
    (
        "NULL_IF with an empty string",
        b'"",2,3\n',
        {**QUOTED, "NULL_IF": ("",)},
        [row(None, "2", "3")],
    ),
    ("NULL_IF = ()", b"\\N,2,3\n", {"NULL_IF": ()}, [row("\\N", "2", "3")]),
    ("escaped delimiter", b"a\\,b,2,3\n", {}, [row("a,b", "2", "3")]),
    ("escaped escape", b"a\\\\,2,3\n", {}, [row("a\\", "2", "3")]),
    ("escaped newline joins lines", b"a\\\nb,2,3\n", {}, [row("a\nb", "2", "3")]),
    ("escaped CRLF joins lines", b"a\\\r\nb,2,3\n", {}, [row("a\r\nb", "2", "3")]),
    ("an escape before anything else is data", b"C:\\temp,2,3\n", {}, [row("C:\\temp", "2", "3")]),
    (
        "ESCAPE_UNENCLOSED_FIELD = NONE",
        b"a\\,2,3\n",
        {"ESCAPE_UNENCLOSED_FIELD": None},
        [row("a\\", "2", "3")],
    ),
    (
        "ESCAPE works in enclosed fields, doubling too",
        b'"a\\"b""c",2,3\n',
        {**QUOTED, "ESCAPE": "\\"},
        [row('a"b"c', "2", "3")],
    ),
    (
        "ESCAPE_UNENCLOSED_FIELD does not work in enclosed ones",
        b'"a\\",2,3\n',
        QUOTED,
        [row("a\\", "2", "3")],
    ),
    (
        "SKIP_HEADER counts lines, not records",
        b'"h\nh",x\n1,2,3\n',
        {**QUOTED, "SKIP_HEADER": 2},
        [row("1", "2", "3")],
    ),
    ("SKIP_HEADER beyond the end", b"h\n", {"SKIP_HEADER": 5}, []),
    (
        "SKIP_BLANK_LINES",
        b"1,2,3\n\n\r\n4,5,6\n",
        {"SKIP_BLANK_LINES": True},
        [row("1", "2", "3"), row("4", "5", "6")],
    ),
    ("tab", b"1\t\t3\n", {"FIELD_DELIMITER": "\t"}, [row("1", None, "3")]),
    (
        "delimiter of several characters",
        b"1||2|||3\n",
        {"FIELD_DELIMITER": "||"},
        [row("1", "2", "|3")],
    ),
    ("delimiter beyond ASCII", "1é2é3\n".encode(), {"FIELD_DELIMITER": "é"}, [row("1", "2", "3")]),
    (
        "record delimiter of several characters",
        b"1,2,3~~4,5,6~~",
        {"RECORD_DELIMITER": "~~"},
        [row("1", "2", "3"), row("4", "5", "6")],
    ),
    ("byte order mark", b"\xef\xbb\xbf1,2,3\n", {}, [row("1", "2", "3")]),
    (
        "REPLACE_INVALID_CHARACTERS",
        b"\xe9,2,3\n",
        {"REPLACE_INVALID_CHARACTERS": True},
        [row("�", "2", "3")],
    ),
]


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    ("data", "options", "rows"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_fields(data: bytes, options: dict[str, Any], rows: Rows, step: int) -> None:
    """A file's fields are what the format's options say, in whatever chunks it arrives."""
    parsed = parse(data, step=step, **options)
    assert parsed.errors == []
    assert parsed.rows == rows


def test_one_field_without_delimiter() -> None:
    """FIELD_DELIMITER = NONE makes a record one field, RECORD_DELIMITER = NONE the file one."""
    assert parse(b"a,b\nc\n", 1, FIELD_DELIMITER=None).rows == [("a,b",), ("c",)]
    whole = parse(b"a\nb\n", 1, FIELD_DELIMITER=None, RECORD_DELIMITER=None)
    assert whole.rows == [("a\nb\n",)]


COUNT = (
    "Number of columns in file ({}) does not match that of the corresponding table (3), use file"
    " format option error_on_column_count_mismatch=false to ignore this error"
)
OPEN = 'End of file reached while expected to find the closing " of an enclosed field'
SPLIT = "Record delimiter found in an enclosed field, and MULTI_LINE is FALSE"
BLANK = "End of record reached while expected to parse column 'C1'"
FAULTS: list[tuple[str, bytes, dict[str, Any], list[RowError], list[int]]] = [
    ("too few", b"1,2\n4,5,6\n", {}, [RowError(COUNT.format(2), 1, 4, 1, "C2", "100080")], [2]),
    (
        "too many",
        b"1,2,3,4\n4,5,6\n",
        {},
        [RowError(COUNT.format(4), 1, 7, 1, "C3", "100080")],
        [2],
    ),
    (
        "trailing delimiter",
        b"1,2,3,\n",
        {},
        [RowError(COUNT.format(4), 1, 7, 1, "C3", "100080")],
        [],
    ),
    (
        "too many, with a newline in quotes",
        b'1,2,3,"a\nb"\n4,5,6\n',
        QUOTED,
        [RowError(COUNT.format(4), 1, 7, 1, "C3", "100080")],
        [2],
    ),
    ("blank line", b"1,2,3\n\n4,5,6\n", {}, [RowError(BLANK, 2, 1, 2, "C1")], [1, 3]),
    (
        "garbage after a quote",
        b'1,"a"b,3\n4,5,6\n',
        QUOTED,
        [RowError("Found character 'b' instead of field delimiter ','", 1, 6, 1, "C2")],
        [2],
    ),
    (
        "garbage after the last quote",
        b'1,2,"a"\x16\n4,5,6\n',
        QUOTED,
        [RowError("Found character '\\u0016' instead of record delimiter '\\n'", 1, 8, 1, "C3")],
        [2],
    ),
    (
        "a quote never closed",
        b'1,2,3\n4,"5,6\n7,8,9\n',
        QUOTED,
        [RowError(OPEN, 2, 3, 2, "C2")],
        [1],
    ),
    (
        "invalid UTF-8",
        b"1,2,3\n4,\xe9\xe8,6\n7,8,9\n",
        {},
        [RowError("Invalid UTF8 detected in string '0xE9E8'", 2, 3, 2)],
        [1, 3],
    ),
    (
        "invalid UTF-8 in a field of two lines",
        b'"\xe9\nb",2,3\n7,8,9\n',
        QUOTED,
        [RowError("Invalid UTF8 detected in string '0xE9'", 1, 2, 1)],
        [2],
    ),
    (
        "MULTI_LINE = FALSE",
        b'1,"a\nb",3\n4,5,6\n',
        {**QUOTED, "MULTI_LINE": False},
        [RowError(SPLIT, 1, 3, 1, "C2"), RowError(COUNT.format(2), 2, 5, 2, "C2", "100080")],
        [3],
    ),
]


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    ("data", "options", "errors", "numbers"),
    [case[1:] for case in FAULTS],
    ids=[case[0] for case in FAULTS],
)
def test_faults(
    data: bytes, options: dict[str, Any], errors: list[RowError], numbers: list[int], step: int
) -> None:
    """A record that cannot be parsed is one error with its place, and the next record is read."""
    parsed = parse(data, step=step, **options)
    assert parsed.errors == errors
    assert parsed.numbers == numbers


@pytest.mark.parametrize(
    ("count", "options"), [(False, {}), (True, {"ERROR_ON_COLUMN_COUNT_MISMATCH": False})]
)
def test_other_counts_of_columns_allowed(count: bool, options: dict[str, Any]) -> None:
    """Without the check of the column count a record is cut, or filled with NULL."""
    parsed = parse(b"1,2\n1,2,3,4\n1,2,3\n", count=count, **options)
    assert parsed.rows == [row("1", "2", None), row("1", "2", "3"), row("1", "2", "3")]
    assert parse(b"1,2,3,4\n" * 2, count=False).rows == [row("1", "2", "3")] * 2
    assert parse(b"1,2\n" * 2, count=False).rows == [row("1", "2", None)] * 2


def test_places() -> None:
    """Every field knows the physical line and the character at which it begins."""
    parsed = parse(b'h\na,b,c\r\n1,"x\ny",z\n\xc3\xa9\xc3\xa9,2,3\n', SKIP_HEADER=1, **QUOTED)
    assert parsed.lines == [2, 3, 5]
    assert parsed.places == [
        [(2, 1), (2, 3), (2, 5)],
        [(3, 1), (3, 3), (4, 4)],
        [(5, 1), (5, 4), (5, 6)],
    ]


def test_record_longer_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record beyond the bound ends the file: what follows it cannot be told from it."""
    monkeypatch.setattr(csv, "RECORD_CHARS_MAX", 100)
    parsed = parse(b'1,2,3\n"' + b"x" * 1000, step=50, **QUOTED)
    assert parsed.rows == [row("1", "2", "3")]
    assert [(error.line, error.row) for error in parsed.errors] == [(2, 2)]
    assert parsed.errors[0].message.startswith("Record is longer than")


FIELD = st.text(st.characters(exclude_categories=("Cs",)), max_size=8) | st.sampled_from(
    ["", '"', '""', "\n", "\r\n", ",", "\\", "\\N", ' "x" ', "\ufeff"]
)


@given(
    data=st.data(),
    width=st.integers(1, 4),
    quoting=st.sampled_from([standard_csv.QUOTE_ALL, standard_csv.QUOTE_MINIMAL]),
    end=st.sampled_from(["\n", "\r\n"]),
    step=st.sampled_from([1, 7, 1 << 20]),
)
def test_round_trip(data: st.DataObject, width: int, quoting: int, end: str, step: int) -> None:
    """What Python's csv.writer writes is read back, character for character."""
    rows = data.draw(st.lists(st.tuples(*[FIELD] * width), max_size=6))
    buffer = io.StringIO()
    writer = standard_csv.writer(buffer, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerows(rows)
    parsed = parse(
        buffer.getvalue().encode(),
        width,
        step=step,
        FIELD_OPTIONALLY_ENCLOSED_BY='"',
        ESCAPE_UNENCLOSED_FIELD=None,
        NULL_IF=(),
        EMPTY_FIELD_AS_NULL=False,
        SKIP_BYTE_ORDER_MARK=False,
    )
    assert parsed.errors == []
    assert parsed.rows == rows


MESS = st.text("ab,;\"'\\\n\r \té\ufeff", max_size=60)
MESSY_OPTIONS = st.fixed_dictionaries(
    {
        "FIELD_DELIMITER": st.sampled_from([",", ";", "a,", "\t", "é", None]),
        "RECORD_DELIMITER": st.sampled_from(["\n", "\n", "\n", "b", "\r", None]),
        "FIELD_OPTIONALLY_ENCLOSED_BY": st.sampled_from(['"', "'", None]),
        "ESCAPE": st.sampled_from([None, "\\"]),
        "ESCAPE_UNENCLOSED_FIELD": st.sampled_from([None, "\\"]),
        "TRIM_SPACE": st.booleans(),
        "SKIP_BLANK_LINES": st.booleans(),
        "EMPTY_FIELD_AS_NULL": st.booleans(),
        "SKIP_HEADER": st.integers(0, 1),
        "MULTI_LINE": st.booleans(),
        "ERROR_ON_COLUMN_COUNT_MISMATCH": st.booleans(),
    }
)


@given(text=MESS, options=MESSY_OPTIONS, step=st.integers(1, 20), broken=st.booleans())
def test_all_ways_through_agree(
    text: str, options: dict[str, Any], step: int, broken: bool
) -> None:
    """Chunks, pyarrow, splitting lines and the grammar's pattern all give the same."""
    data = text.encode() + (b"\xe9,1,2\n3,4,5" if broken else b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_blocks, "_SMALL_CHARS", 0)
        by_pyarrow = parse(data, **options).key()
    whole = parse(data, **options).key()
    in_chunks = parse(data, step=step, **options).key()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv._Reader, "_plain", lambda _self, _body: False)
        patch.setattr(csv._Reader, "_plain_run", lambda *_arguments: 0)
        slowly = parse(data, **options).key()
    assert by_pyarrow == whole == in_chunks == slowly


def test_pyarrow_takes_large_harmless_blocks() -> None:
    """A block beyond the bound, without anything special, does go through pyarrow."""
    line = b"1,\\N,3\n"
    data = line * (csv_blocks._SMALL_CHARS // len(line) + 10)
    options = effective_options(FileFormat("CSV", {"ESCAPE_UNENCLOSED_FIELD": None}))
    columns = csv_blocks.parse(data.decode(), grammar(options), 3)
    assert columns is not None
    assert columns[1].null_count == len(columns[1]) == data.count(b"\n")
    (batch,) = csv.csv_batches(
        [data.decode()], grammar(options), width=3, count_columns=True, label=str
    )
    assert batch.records == data.count(b"\n")
    assert batch.locate(batch.records - 1, 2) == (batch.records, 6)
