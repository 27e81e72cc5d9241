"""A pipe compiled for DuckDB: the SQL of its COPY, and how its files are parsed. No connection.

Each batch of records is one ``insert_sql``, whose WHERE leaves out what cannot be converted; only
if fewer rows than records went in are ``faults_sql`` or ``count_sql`` asked. A clean file therefore
costs one evaluation of its expressions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from feedgate.limits import LOAD_READ_BYTES
from feedgate.pipes.conversion import literal, quoted, valid
from feedgate.pipes.csv import csv_batches
from feedgate.pipes.csv_grammar import grammar
from feedgate.pipes.decode import joined, text_blocks
from feedgate.pipes.dialect import CopyPlan, Target, column_label, copy_plan
from feedgate.pipes.duckdb_schema import LINEAGE, stored_table
from feedgate.pipes.ndjson import json_batches, json_format
from feedgate.pipes.records import Batch
from feedgate.pipes.types import default_sql, not_null
from feedgate.stack.sql_options import effective_options
from feedgate.stack.warehouse import Pipe, Table
from feedgate.stack.warehouse import Warehouse as Declared

__all__ = ["BATCH", "PipePlan", "pipe_plan"]

BATCH: Final = "feedgate_batch"  # the name under which Arrow rows are registered
_LINEAGE_VALUES: Final = ("$landing", "_row_number", "_line")
_BROKEN_JSON: Final = "Error parsing JSON: it holds what the warehouse's JSON does not"


@dataclass(frozen=True, slots=True)
class PipePlan:
    """A pipe's COPY, compiled: its SQL, and how its files are parsed.

    ``insert_sql`` takes a batch's sound records, ``count_sql`` counts the others and ``faults_sql``
    gives their (row number, fault). ``fields`` are the file's fields, from 0, that fill a position
    of the table; empty where a SELECT computes. ``parse`` makes batches of an object's bytes.
    """

    pipe: str
    database: str
    table: str
    skip_file: bool
    insert_sql: str
    count_sql: str
    faults_sql: str
    fields: Mapping[int, int]
    parse: Callable[[Iterable[bytes]], Iterator[Batch]]


def pipe_plan(pipe: Pipe, declared: Declared) -> PipePlan:
    """Compile a pipe.

    Raises:
        DefinitionError: with every expression, cast or format that is not done here.
    """
    copy = pipe.copy
    table = declared.tables[copy.table]
    given = copy_plan(copy, table)
    plan = replace(given, targets=(*given.targets, *_omitted(given, table)))
    is_json = copy.file_format.type == "JSON"
    width = max(1, plan.fields)
    relation, error, fault = _relation(width, is_json), plan.error_sql, plan.fault_sql
    if is_json:
        broken = (
            f"{{'column_name': NULL, 'position': 0, 'message': {literal(_BROKEN_JSON)},"
            " 'code': '100069'}"
        )
        error, fault = f"(_broken OR {error})", f"CASE WHEN _broken THEN {broken} ELSE {fault} END"
    return PipePlan(
        pipe=str(pipe.name),
        database=copy.table.database,
        table=str(copy.table),
        skip_file=copy.on_error == "SKIP_FILE",
        insert_sql=_insert(plan, relation, is_json),
        count_sql=f"SELECT count(*) FROM {relation} WHERE {error}",  # noqa: S608
        faults_sql=(
            f"SELECT _row_number, {fault} FROM {relation} WHERE {error}"  # noqa: S608
            " ORDER BY 1 LIMIT $at_most"
        ),
        fields={each.position: index for index, each in enumerate(given.targets)}
        if copy.select is None and not is_json
        else {},
        parse=_parser(given, pipe, width),
    )


def _insert(plan: CopyPlan, relation: str, is_json: bool) -> str:
    """INSERT … SELECT of the records that convert.

    A condition holds the expression of the value it judges. Values are computed once, in an inner
    SELECT, and the conditions name them; OFFSET 0 keeps DuckDB from merging the two again, which
    would plan and compute every expression twice (measured: half the time of a small load).
    """
    values: list[str] = []
    conditions = ["_broken"] if is_json else []
    for index, each in enumerate(plan.targets):
        value, error = each.conversion.value_sql, each.conversion.error_sql
        values.append(f"{value} AS _v{index}")
        if each.conversion.can_fail:
            # a bare column's name may be a part of another name, and costs nothing twice
            conditions.append(error.replace(value, f"_v{index}") if "(" in value else error)
    names = [*(quoted(each.column.name) for each in plan.targets), *LINEAGE]
    taken = [*(f"_v{index}" for index in range(len(values))), *_LINEAGE_VALUES]
    sound = f" WHERE NOT ({' OR '.join(conditions)})" if conditions else ""
    return (
        f"INSERT INTO {stored_table(plan.table.name)} ({', '.join(names)})"  # noqa: S608 - our SQL
        f" SELECT {', '.join(taken)} FROM (SELECT *, {', '.join(values)} FROM {relation} OFFSET 0)"
        f"{sound}"
    )


def _omitted(plan: CopyPlan, table: Table) -> Iterator[Target]:
    """The columns that the COPY does not name: their default, or NULL if they may be."""
    filled = {each.column.name for each in plan.targets}
    for position, column in enumerate(table.columns, 1):
        if column.name not in filled:
            given = valid(f"({default_sql(column) or 'NULL'})")
            yield Target(column, position, given if column.nullable else not_null(given))


def _relation(width: int, is_json: bool) -> str:
    """The parsed records and their metadata, as ``dialect`` wants them."""
    columns = ", ".join(f"c{number}" for number in range(1, width + 1))
    if is_json:
        parsed = "TRY_CAST(c1 AS JSON)"
        columns = f"{parsed} AS c1, c1 IS NOT NULL AND {parsed} IS NULL AS _broken"
    return (
        f"(SELECT {columns}, _row_number, _line, $filename AS _filename,"  # noqa: S608
        " make_timestamp($modified_us) AS _last_modified,"
        " to_timestamp($scanned_s) AS _start_scan_time,"
        f" $content_key AS _content_key FROM {BATCH})"
    )


def _parser(plan: CopyPlan, pipe: Pipe, width: int) -> Callable[[Iterable[bytes]], Iterator[Batch]]:
    form = pipe.copy.file_format
    options = effective_options(form)
    is_csv = form.type == "CSV"
    csv_grammar = grammar(options) if is_csv else None
    plain = pipe.copy.select is None

    def label(number: int) -> str:
        if not plain or number > len(plan.targets):
            return f"${number}"
        return column_label(plan.table, plan.targets[number - 1].position)

    def parse(chunks: Iterable[bytes]) -> Iterator[Batch]:
        pieces = text_blocks(
            chunks,
            compression=options["COMPRESSION"],
            replace_invalid=options["REPLACE_INVALID_CHARACTERS"],
            skip_bom=options["SKIP_BYTE_ORDER_MARK"],
        )
        blocks = joined(pieces, LOAD_READ_BYTES // 2)
        if csv_grammar is None:
            return json_batches(blocks, json_format(options))
        return csv_batches(
            blocks, csv_grammar, width=width, count_columns=plan.counts_fields, label=label
        )

    return parse
