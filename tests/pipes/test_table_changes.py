"""What two definitions say about the columns of their tables."""

from __future__ import annotations

import pytest

from feedgate.pipes.table_changes import keeps_values, table_changes
from feedgate.stack.warehouse import Warehouse
from feedgate.stack.warehouse_sql import parse_warehouse


def declared(columns: str) -> Warehouse:
    """A warehouse with one table of these columns."""
    text = f"CREATE DATABASE d; CREATE SCHEMA s; CREATE TABLE t ({columns});"
    return parse_warehouse([("w.sql", text)], {})


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("a INT", "a INT", []),
        ("a VARCHAR(10)", "a VARCHAR(5) NOT NULL", []),
        ("a NUMBER(12,2)", "a NUMBER(14,4)", []),
        ("a NUMBER(12,2)", "a NUMBER(12,4)", [("retyped", "DECIMAL(12,4)")]),
        ("a INT", "a VARCHAR", [("retyped", "VARCHAR")]),
        ("a TIMESTAMP_LTZ", "a TIMESTAMP_TZ", []),
        ("a TIMESTAMP_LTZ", "a DATE", [("retyped", "TIMESTAMP WITH TIME ZONE")]),
        ("a INT", "a INT, b INT", [("added", "`B`")]),
        ("a INT", "a INT, b INT NOT NULL DEFAULT 1", [("added", "`B`")]),
        ("a INT", "a INT, b INT NOT NULL", [("required", "`B`")]),
        ("a INT, b INT", "b INT", [("removed", "`A`")]),
        ("a INT", '"a" INT', []),
    ],
)
def test_table_changes(before: str, after: str, expected: list[tuple[str, str]]) -> None:
    """Each column that differs is told with its kind, by the rule that the warehouse follows."""
    found = table_changes(declared(before), declared(after))
    assert [change.kind for change in found] == [kind for kind, _words in expected]
    for change, (_expected, words) in zip(found, expected, strict=True):
        assert change.table == "D.S.T"
        assert words in change.text
        assert change.source is not None
        assert change.source.line == 1


def test_tables_of_one_side_only() -> None:
    """A table that only one of the two declares is no change of a table."""
    empty = parse_warehouse([("w.sql", "CREATE DATABASE d;")], {})
    assert table_changes(empty, declared("a INT")) == []
    assert table_changes(declared("a INT"), empty) == []


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ("DECIMAL(5,2)", "DECIMAL(5,2)", True),
        ("DECIMAL(5,2)", "DECIMAL(6,3)", True),
        ("DECIMAL(5,2)", "DECIMAL(6,1)", False),
        ("DECIMAL(5,2)", "DOUBLE", False),
        ("TIMESTAMP", "TIMESTAMP_NS", False),
    ],
)
def test_keeps_values(before: str, after: str, kept: bool) -> None:
    """Digits before and after the point may only grow; every other type must stay as it is."""
    assert keeps_values(before, after) is kept


def test_what_is_stored_decides() -> None:
    """Values of the old type are in the way; values that have the new one already are not."""
    [retyped] = table_changes(declared("a VARCHAR"), declared('a NUMBER(12,2), "b c" INT'))[:1]
    assert retyped.question == 'SELECT count("A"), any_value(typeof("A")) FROM D.S.T'
    assert retyped.in_the_way((3, "VARCHAR")) == 3
    assert retyped.in_the_way((0, None)) == 0
    assert retyped.in_the_way((3, "DECIMAL(12,2)")) == 0
    assert retyped.in_the_way((3, "DECIMAL(5,2)")) == 0
    [required] = table_changes(declared("a INT"), declared("a INT, b INT NOT NULL"))
    assert required.in_the_way((2, None)) == 2
    [added] = table_changes(declared("a INT"), declared("a INT, b INT"))
    assert added.question is None
