"""What a change of a declared table does to the rows that are stored: the one rule for it.

Pure. ``duckdb_schema`` follows it when it alters a table; who compares two definitions asks
``table_changes`` and so knows the same before anything is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

from feedgate.errors import Source
from feedgate.pipes.conversion import quoted
from feedgate.pipes.types import default_sql, storage_type
from feedgate.stack.warehouse import Column, Name, Table, Warehouse

__all__ = [
    "ChangeKind",
    "TableChange",
    "is_unfilled",
    "keeps_values",
    "required_text",
    "retyped_text",
    "stored_kind",
    "table_changes",
]

ChangeKind = Literal["added", "required", "removed", "retyped"]

_DECIMAL: Final = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_OWN_SPELLINGS: Final = {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}


class TableChange(NamedTuple):
    """One column that differs.

    ``added`` and ``removed`` are always done: a removed column leaves the table's view and keeps
    its values, which are back when it is declared again. ``required`` (new, NOT NULL and without a
    DEFAULT) is refused where the table has rows, ``retyped`` where the column has values; nothing
    is lost, the rest of the table goes on.
    """

    table: str
    kind: ChangeKind
    text: str
    column: str
    source: Source | None = None
    wanted: str = ""

    @property
    def question(self) -> str | None:
        """A query whose row ``in_the_way`` understands; None where nothing can be in the way."""
        if self.kind == "required":
            return f"SELECT count(*), NULL FROM {self.table}"  # noqa: S608 - declared names, quoted
        if self.kind == "retyped":
            name = quoted(self.column)
            return f"SELECT count({name}), any_value(typeof({name})) FROM {self.table}"  # noqa: S608
        return None

    def in_the_way(self, row: Sequence[object]) -> int:
        """How many values, or rows, keep the change from being done.

        What is stored counts, not what was declared: that may have been refused before.
        """
        count, kind = row
        if self.kind == "retyped" and isinstance(kind, str) and keeps_values(kind, self.wanted):
            return 0
        return int(str(count))


def table_changes(before: Warehouse, after: Warehouse) -> list[TableChange]:
    """Every difference of columns of the tables that both declare, in order of declaration."""
    changes: list[TableChange] = []
    for name, table in after.tables.items():
        if name in before.tables:
            changes += _column_changes(before.tables[name], table)
    return changes


def _column_changes(before: Table, after: Table) -> Iterator[TableChange]:
    old = {column.name.casefold(): column for column in before.columns}  # as DuckDB compares names
    new = {column.name.casefold() for column in after.columns}
    shown = str(after.name)
    for column in after.columns:
        earlier = old.get(column.name.casefold())
        place = column.source or after.source
        if earlier is not None:
            kinds = stored_kind(earlier), stored_kind(column)
            if not keeps_values(*kinds):
                text = retyped_text(column, after.name, *kinds)
                yield TableChange(shown, "retyped", text, earlier.name, place, kinds[1])
        elif is_unfilled(column):
            text = required_text(column, after.name)
            yield TableChange(shown, "required", text, column.name, place)
        else:
            text = f"column `{column.name}` of `{after.name}` is new"
            yield TableChange(shown, "added", text, column.name, place)
    for column in before.columns:
        if column.name.casefold() not in new:
            yield TableChange(
                shown,
                "removed",
                f"column `{column.name}` of `{after.name}` is no longer declared: its values are"
                " kept, but cannot be queried",
                column.name,
                after.source,
            )


def stored_kind(column: Column) -> str:
    """The type that stores a column, as DuckDB's catalog spells it."""
    kind = storage_type(column)
    return _OWN_SPELLINGS.get(kind, kind)


def keeps_values(before: str, after: str) -> bool:
    """Whether every value of one stored type is one of the other: equal, or a wider NUMBER."""
    if before == after:
        return True
    narrow, wide = _DECIMAL.fullmatch(before), _DECIMAL.fullmatch(after)
    if narrow is None or wide is None:
        return False
    digits, scale = int(narrow[1]), int(narrow[2])
    more_digits, more_scale = int(wide[1]), int(wide[2])
    return more_scale >= scale and more_digits - more_scale >= digits - scale


def is_unfilled(column: Column) -> bool:
    """Whether rows that are there already could give a new column no value that it allows."""
    return not column.nullable and default_sql(column) is None


def retyped_text(column: Column, table: Name, before: str, after: str) -> str:
    """What is wrong with a change of type."""
    return (
        f"column `{column.name}` of `{table}` is stored as {before} and cannot become {after}"
        " without loss"
    )


def required_text(column: Column, table: Name) -> str:
    """What is wrong with a new column that must have a value."""
    return f"new column `{column.name}` of `{table}` is NOT NULL and has no DEFAULT"
