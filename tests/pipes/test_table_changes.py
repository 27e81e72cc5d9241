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
    assert [kind for _table, kind, _text in found] == [kind for kind, _words in expected]
    for (table, _kind, text), (_expected, words) in zip(found, expected, strict=True):
        assert table == "D.S.T"
        assert words in text


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
