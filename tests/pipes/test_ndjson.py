"""JSON values as Snowflake's CREATE FILE FORMAT page describes TYPE = JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedgate.errors import RowError
from feedgate.pipes import ndjson
from feedgate.pipes.ndjson import json_batches, json_format
from feedgate.stack.sql_options import effective_options
from feedgate.stack.warehouse import FileFormat

STEPS = [1, 2, 5, 1 << 20]
Value = tuple[int, str]  # line, text


def parse(text: str, step: int, **options: Any) -> tuple[list[Value], list[RowError]]:
    """The values with their lines, and the errors, of a text that arrives in pieces."""
    form = json_format(effective_options(FileFormat("JSON", options)))
    values: list[Value] = []
    errors: list[RowError] = []
    for batch in json_batches((text[at : at + step] for at in range(0, len(text), step)), form):
        values += zip(batch.lines, batch.columns[0], strict=True)
        errors += batch.errors
        assert [batch.locate(row, 0)[0] for row in range(len(batch.lines))] == list(batch.lines)
    return values, errors


STRIP = {"STRIP_OUTER_ARRAY": True}
CASES: list[tuple[str, str, dict[str, Any], list[Value]]] = [
    ("lines", '{"a":1}\n{"a":2}\n', {}, [(1, '{"a":1}'), (2, '{"a":2}')]),
    ("concatenated", '{"a":1}{"a":2} 3\n', {}, [(1, '{"a":1}'), (1, '{"a":2}'), (1, "3")]),
    ("value of several lines", '{\n "a":\n1\n}\n{}', {}, [(1, '{\n "a":\n1\n}'), (5, "{}")]),
    ("numbers stay text", '{"a":1.10,"b":1e400}', {}, [(1, '{"a":1.10,"b":1e400}')]),
    ("big integers", "123456789012345678901234567890", {}, [(1, "123456789012345678901234567890")]),
    ("an array is one value", "[1,\n2]", {}, [(1, "[1,\n2]")]),
    ("STRIP_OUTER_ARRAY", '[{"a":1},\n {"a":[2]}\n]', STRIP, [(1, '{"a":1}'), (2, '{"a":[2]}')]),
    ("several outer arrays", "[1] [] [2,3] 4", STRIP, [(1, "1"), (1, "2"), (1, "3"), (1, "4")]),
    ("ALLOW_DUPLICATE", '{"a":1,"a":2.50}', {"ALLOW_DUPLICATE": True}, [(1, '{"a":2.50}')]),
    ("numbers in pieces", "0.5 -1.0e+10\n12", {}, [(1, "0.5"), (1, "-1.0e+10"), (2, "12")]),
    ("nothing", " \n\n", {}, []),
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("text", "options", "values"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_values(text: str, options: dict[str, Any], values: list[Value], step: int) -> None:
    """Each value is the file's own characters, with its line, in whatever pieces it arrives."""
    assert parse(text, step, **options) == (values, [])


P = "Error parsing JSON: "
FAULTS: list[tuple[str, str, dict[str, Any], list[Value], list[RowError]]] = [
    (
        "bad line",
        '{"a":1}\n{bad}\n{"a":2}',
        {},
        [(1, '{"a":1}'), (3, '{"a":2}')],
        [RowError(P + "expecting property name enclosed in double quotes", 2, 2, 2)],
    ),
    (
        "cut line",
        '{"a":\n{"b":2\n{"c":3}',
        {},
        [(3, '{"c":3}')],
        [
            RowError(P + "expecting ',' delimiter", 3, 1, 1),
            RowError(P + "expecting ',' delimiter", 3, 1, 2),
        ],
    ),
    (
        "duplicate key",
        '{"a":1,"b":{"k":1,"k":2}}\n{}',
        {},
        [(2, "{}")],
        [RowError(P + 'duplicate object attribute "k"', 1, 1, 1)],
    ),
    ("NaN", '{"a":NaN}\n{}', {}, [(2, "{}")], [RowError(P + "NaN is no JSON number", 1, 1, 1)]),
    ("unfinished string", '{"a":"x', {}, [], [RowError(P + "unterminated string", 1, 6, 1)]),
    ("too deep", "[" * 100_000, {}, [], [RowError(P + "value is nested too deeply", 1, 1, 1)]),
    (
        "MULTI_LINE = FALSE",
        '{"a":\n1}\n{}',
        {"MULTI_LINE": False},
        [(3, "{}")],
        [RowError(P + "value spans lines, and MULTI_LINE is FALSE", 1, 1, 1)],
    ),
    (
        "outer array not closed",
        '[{"a":1},\n',
        STRIP,
        [(1, '{"a":1}')],
        [RowError(P + "the outer array is not closed", 1, 10, 2)],
    ),
    (
        "fault in an outer array ends the file",
        "[1, x, 2]\n{}",
        STRIP,
        [(1, "1")],
        [RowError(P + "expecting value", 1, 5, 2)],
    ),
    ("missing comma", "[1 2]", STRIP, [(1, "1")], [RowError(P + "missing comma", 1, 4, 2)]),
    (
        "invalid UTF-8",
        '{"a":"\udce9"}\n{}',
        {},
        [(2, "{}")],
        [RowError("Invalid UTF8 detected in string '0xE9'", 1, 7, 1)],
    ),
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("text", "options", "values", "errors"),
    [case[1:] for case in FAULTS],
    ids=[case[0] for case in FAULTS],
)
def test_faults(
    text: str, options: dict[str, Any], values: list[Value], errors: list[RowError], step: int
) -> None:
    """A value that cannot be parsed is one error with its place; no piece of it becomes a row."""
    if len(text) > 1000 and step < 1000:
        step = 1000
    assert parse(text, step, **options) == (values, errors)


def test_a_value_longer_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value beyond the bound ends the file."""
    monkeypatch.setattr(ndjson, "RECORD_CHARS_MAX", 100)
    values, errors = parse('{"a":1}\n{"a":"' + "x" * 1000, 50)
    assert values == [(1, '{"a":1}')]
    assert [(error.line, error.message) for error in errors] == [
        (2, "Value is longer than 100 characters")
    ]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    values=st.lists(JSON, max_size=5),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    step=st.integers(1, 30),
)
def test_round_trip(values: list[Any], indent: int | None, ascii_only: bool, step: int) -> None:
    """What json.dumps writes is read back, as lines and as the elements of an outer array."""
    texts = [json.dumps(each, indent=indent, ensure_ascii=ascii_only) for each in values]
    found, errors = parse("\n".join(texts), step)
    assert ([text for _line, text in found], errors) == (texts, [])
    stripped, errors = parse("[" + " ,\n".join(texts) + "]", step, STRIP_OUTER_ARRAY=True)
    assert ([text for _line, text in stripped], errors) == (texts, [])


MESS = st.text('{}[]",:01.eE+-\\u\n tfn\udce9', max_size=40) | st.lists(
    st.sampled_from(
        ['{"a":1}', "\n", "[", "]", ",", '{"a":1,"a":2}', "true", "nul", '"\\u00', "{", " "]
    ),
    max_size=12,
).map("".join)


@given(text=MESS, step=st.integers(1, 9), strip=st.booleans(), lines=st.booleans())
def test_pieces_make_no_difference(text: str, step: int, strip: bool, lines: bool) -> None:
    """Whatever a text holds, values and errors do not depend on the pieces it arrives in."""
    options = {"STRIP_OUTER_ARRAY": strip, "MULTI_LINE": lines}
    assert parse(text, step, **options) == parse(text, 1 << 20, **options)
