"""What a COPY does to each record, as DuckDB SQL over the parsed fields. Pure.

The relation that the SQL runs over has ``c1`` … ``cN`` (VARCHAR fields of CSV) or ``c1`` (JSON),
and ``_filename``, ``_row_number``, ``_last_modified`` (TIMESTAMP), ``_start_scan_time``
(TIMESTAMPTZ), ``_content_key`` for the METADATA$ columns. Nothing in the SQL raises on a value: a
row that cannot be loaded is one whose ``error_sql`` is true, and ``fault_sql`` then says in which
column and why, in Snowflake's words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from feedgate.errors import DefinitionError, FeedgateError, Finding, Source, Unsupported
from feedgate.pipes.conversion import Conversion, literal
from feedgate.pipes.expression import SQL_CHARS_MAX, Input, compile_expression
from feedgate.pipes.functions import NULL, VARIANT
from feedgate.pipes.types import convert
from feedgate.stack.sql_options import effective_options
from feedgate.stack.sql_reader import Cursor
from feedgate.stack.sql_text import Script, SqlFault, cut
from feedgate.stack.warehouse import Column, CopyInto, Table, Warehouse

__all__ = ["CopyPlan", "Target", "column_label", "copy_plan", "dialect_findings"]


@dataclass(frozen=True, slots=True)
class Target:
    """One column that the COPY fills. ``position`` is its place in the table, from 1."""

    column: Column
    position: int
    conversion: Conversion


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """A COPY as SQL.

    ``fields``: how many fields a record should have (plain CSV), or the highest ``$n`` that the
    SELECT reads; the relation must have as many columns ``c1`` …. ``counts_fields``: whether a
    record with another number of fields is an error, which a SELECT never asks.
    """

    targets: tuple[Target, ...]
    fields: int
    counts_fields: bool
    table: Table

    @property
    def error_sql(self) -> str:
        """Boolean, never NULL: the row cannot be loaded."""
        failing = [each.conversion.error_sql for each in self.targets if each.conversion.can_fail]
        return f"({' OR '.join(failing)})" if failing else "false"

    @property
    def fault_sql(self) -> str:
        """STRUCT(column_name, position, message, code) of a failed row's first fault, else NULL."""
        branches = [
            f"WHEN {each.conversion.error_sql} THEN {{"
            f"'column_name': {literal(column_label(self.table, each.position))},"
            f" 'position': {each.position}, 'message': {each.conversion.message_sql},"
            f" 'code': {each.conversion.code_sql}}}"
            for each in self.targets
            if each.conversion.can_fail
        ]
        if not branches:
            nothing = (
                'STRUCT(column_name VARCHAR, "position" INTEGER, message VARCHAR, code VARCHAR)'
            )
            return f"CAST(NULL AS {nothing})"
        return f"(CASE {' '.join(branches)} END)"


def column_label(table: Table, position: int) -> str:
    """A column as Snowflake's messages name it: ``"ORDERS"["AMOUNT":3]``."""
    return f'"{table.name.name}"["{table.columns[position - 1].name}":{position}]'


def copy_plan(copy: CopyInto, table: Table) -> CopyPlan:
    """Compile a COPY into ``table``.

    Raises:
        DefinitionError: with every expression, cast or format that is not done here.
    """
    options = {**effective_options(copy.file_format), **copy.options}
    positions = {column.name: index for index, column in enumerate(table.columns, 1)}
    names = copy.columns if copy.columns is not None else tuple(positions)
    columns = [table.columns[positions[name] - 1] for name in names]
    faults: list[Finding] = []
    targets: list[Target] = []
    fields = len(columns)
    if copy.select is None:
        conversions = _plain(copy, columns, options, faults)
    else:
        conversions, fields = _transformed(copy, columns, options, faults)
    if faults:
        raise DefinitionError(faults)
    for column, conversion in zip(columns, conversions, strict=True):
        targets.append(Target(column, positions[column.name], conversion))
    plain_csv = copy.select is None and copy.file_format.type == "CSV"
    counts = plain_csv and bool(options["ERROR_ON_COLUMN_COUNT_MISMATCH"])
    return CopyPlan(tuple(targets), fields, counts, table)


def dialect_findings(warehouse: Warehouse) -> tuple[Finding, ...]:
    """Every fault of every pipe's COPY, for ``check`` and before ``up`` opens the door."""
    found: list[Finding] = []
    for pipe in warehouse.pipes.values():
        try:
            copy_plan(pipe.copy, warehouse.tables[pipe.copy.table])
        except DefinitionError as error:
            found.extend(error.findings)
    return tuple(found)


def _plain(
    copy: CopyInto, columns: list[Column], options: Mapping[str, Any], faults: list[Finding]
) -> list[Conversion]:
    source = VARIANT if copy.file_format.type == "JSON" else None
    found: list[Conversion] = []
    for index, column in enumerate(columns, 1):
        try:
            found.append(convert(f"c{index}", column, options, source=source))
        except FeedgateError as error:
            place = copy.file_format.source or copy.source
            faults.append(Finding("error", error.message, place, hint=error.hint))
    return found


def _transformed(
    copy: CopyInto, columns: list[Column], options: Mapping[str, Any], faults: list[Finding]
) -> tuple[list[Conversion], int]:
    assert copy.select is not None
    given = Input(copy.file_format.type, copy.stage_alias, options)
    found: list[Conversion] = []
    fields = 0
    for index, (text, column) in enumerate(zip(copy.select, columns, strict=True)):
        base = copy.select_sources[index] if index < len(copy.select_sources) else copy.source
        try:
            conversion, read = _value(text, given, column)
        except SqlFault as fault:
            faults.append(_moved(fault.finding, base))
            continue
        except FeedgateError as error:
            faults.append(Finding("error", error.message, base, hint=error.hint))
            continue
        found.append(conversion)
        fields = max(fields, read)
    return found, fields


def _value(text: str, given: Input, column: Column) -> tuple[Conversion, int]:
    script = Script("", text, text, ((0, 0, False),))
    statements = cut(script)
    value, fields = compile_expression(Cursor(script, statements[0], []), given)
    if value.type == NULL:
        return convert("NULL", column, given.options), fields
    done = value.conversion.then(
        lambda sql: convert(sql, column, given.options, source=value.type, parse_variant=False)
    )
    if done.size > SQL_CHARS_MAX:
        raise Unsupported("the expression becomes too long", hint="take casts apart")
    return done, fields


def _moved(finding: Finding, base: Source | None) -> Finding:
    """The place within the expression, as a place in the author's file."""
    inner = finding.source
    if base is None or inner is None:
        return Finding("error", finding.message, base, hint=finding.hint)
    column = inner.column + (base.column - 1 if inner.line == 1 else 0)
    place = Source(base.file, base.line + inner.line - 1, column)
    return Finding("error", finding.message, place, hint=finding.hint)
