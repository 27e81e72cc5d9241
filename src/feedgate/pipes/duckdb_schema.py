"""What warehouse.sql declares, as DuckDB schemas, stored tables and views.

A table ``DB.SCHEMA.T`` is stored as ``DB._FEEDGATE."SCHEMA.T"`` with three columns more: the
landing a row came from, its row number and its line in the file. The author's name is a view
without them.
The load history and the fence lie in the same database, because DuckDB writes one database in a
transaction. NOT NULL, lengths and keys are no constraints here: the load checks the first two,
Snowflake does not enforce the third.

Invariant: nothing that holds values is ever dropped, and no change of a column's type loses a
value (``table_changes`` has the rule); what cannot be done so is a finding, and that column stays
as it was taken up last, which ``declared`` remembers beside the rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import duckdb

from feedgate.errors import DefinitionError, Finding
from feedgate.pipes.conversion import quoted
from feedgate.pipes.table_changes import (
    is_unfilled,
    keeps_values,
    required_text,
    retyped_text,
    stored_kind,
)
from feedgate.pipes.types import default_sql, storage_type
from feedgate.stack.warehouse import Column, Name, Table
from feedgate.stack.warehouse import Warehouse as Declared

__all__ = [
    "HIDDEN",
    "LINEAGE",
    "apply_database",
    "check_names",
    "database_of_file",
    "file_of_database",
    "hidden_table",
    "stored_table",
]

HIDDEN: Final = "_FEEDGATE"
LINEAGE: Final = ("_feedgate_landing", "_feedgate_row", "_feedgate_line")
_LINEAGE_TYPES: Final = ("VARCHAR", "BIGINT", "BIGINT")
_RESERVED: Final = ("SYSTEM", "TEMP", "MEMORY")  # DuckDB's own databases
_PLAIN_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,99}")
_NAME_BYTES_MAX: Final = 100
_SUFFIX: Final = ".duckdb"

_BOOKS: Final = """
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.load_history (
    pipe VARCHAR NOT NULL,
    landing_id VARCHAR NOT NULL,
    receipt_id VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    bucket VARCHAR NOT NULL,
    "key" VARCHAR NOT NULL,
    version_id VARCHAR NOT NULL,
    size BIGINT NOT NULL,
    sha256 VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    rows_parsed BIGINT NOT NULL,
    rows_loaded BIGINT NOT NULL,
    errors_seen BIGINT NOT NULL,
    message VARCHAR,
    errors VARCHAR NOT NULL,
    loaded_at_ms BIGINT NOT NULL,
    PRIMARY KEY (pipe, landing_id)
);
CREATE INDEX IF NOT EXISTS load_history_keys ON {schema}.load_history (pipe, bucket, "key");
CREATE TABLE IF NOT EXISTS {schema}.fence (pipe VARCHAR PRIMARY KEY, epoch BIGINT);
CREATE TABLE IF NOT EXISTS {schema}.declared (name VARCHAR PRIMARY KEY, definition VARCHAR);
"""


# -- names --------------------------------------------------------------------------------------


def file_of_database(name: str) -> str:
    """The file name of a database: its own where that is safe, else its bytes in hexadecimal."""
    if _PLAIN_NAME.fullmatch(name):
        return name + _SUFFIX
    return "hex-" + name.encode("utf-8").hex() + _SUFFIX


def database_of_file(file_name: str) -> str | None:
    """The database that a file holds; None if the file is none of ours."""
    stem = file_name.removesuffix(_SUFFIX)
    if stem == file_name:
        return None
    if not stem.startswith("hex-"):
        return stem if _PLAIN_NAME.fullmatch(stem) else None
    try:
        return bytes.fromhex(stem.removeprefix("hex-")).decode("utf-8")
    except ValueError:
        return None


def hidden_table(database: str, name: str) -> str:
    """The SQL name of one of our own tables."""
    return f"{quoted(database)}.{quoted(HIDDEN)}.{quoted(name)}"


def stored_table(name: Name) -> str:
    """The SQL name of the table that holds the rows of ``name``."""
    return hidden_table(name.database, _stored_name(name))


def _stored_name(name: Name) -> str:
    # a dot inside a quoted identifier must not look like the one between schema and table
    parts = (part.replace("%", "%25").replace(".", "%2E") for part in (name.schema, name.name))
    return ".".join(parts)


def check_names(declared: Declared) -> None:
    """Refuse names that DuckDB cannot tell apart or keeps for itself.

    Raises:
        DefinitionError: with every such name.
    """
    findings: list[Finding] = []
    for name in declared.databases:
        if name.upper() in _RESERVED:
            findings.append(Finding("error", f"`{name}` cannot be a database's name here"))
        elif len(name.encode("utf-8")) > _NAME_BYTES_MAX:
            findings.append(
                Finding("error", f"database name `{name}` is longer than {_NAME_BYTES_MAX} bytes")
            )
    for _database, schema in declared.schemas:
        if schema.upper() == HIDDEN:
            findings.append(Finding("error", f"schema `{schema}` is reserved"))
    findings += _twins("database", declared.databases)
    findings += _twins("schema", (f"{each[0]}.{each[1]}" for each in declared.schemas))
    findings += _twins("table", map(str, declared.tables))
    for table in declared.tables.values():
        for twin in _twins("column", (column.name for column in table.columns)):
            findings.append(Finding("error", twin.message, table.source))
        for column in table.columns:
            if column.name.lower() in LINEAGE:
                message = f"column `{column.name}` is reserved"
                findings.append(Finding("error", message, column.source or table.source))
    if findings:
        raise DefinitionError(findings)


def _twins(kind: str, names: Iterable[str]) -> list[Finding]:
    seen: dict[str, str] = {}
    found: list[Finding] = []
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            message = (
                f"{kind} names `{other}` and `{name}` differ only by case, which DuckDB ignores"
            )
            found.append(Finding("error", message, hint=f"rename one {kind}"))
    return found


# -- objects ------------------------------------------------------------------------------------


def apply_database(
    connection: duckdb.DuckDBPyConnection, database: str, declared: Declared
) -> tuple[dict[Name, Table], list[Finding]]:
    """Create and alter what ``declared`` says of one database, inside the caller's transaction.

    Returns its tables as they are now, and a finding for each column that could not become what is
    declared: such a column keeps its type, or, where it would be new, is left out.

    Raises:
        DefinitionError: a table of which nothing could be taken up.
    """
    for statement in _BOOKS.format(schema=f"{quoted(database)}.{quoted(HIDDEN)}").split(";"):
        if statement.strip():
            connection.execute(statement)
    schemas = {schema for owner, schema in declared.schemas if owner == database} | {"PUBLIC"}
    tables = [each for each in declared.tables.values() if each.name.database == database]
    for schema in sorted(schemas | {table.name.schema for table in tables}):
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(database)}.{quoted(schema)}")
    books = hidden_table(database, "declared")
    known = dict(connection.execute(f"SELECT name, definition FROM {books}").fetchall())  # noqa: S608
    findings: list[Finding] = []
    taken: dict[Name, Table] = {}
    for table in tables:
        earlier = known.get(_stored_name(table.name))
        taken[table.name] = table
        if earlier == _definition(table):
            continue
        now, faults = _apply_table(connection, table, _types(earlier))
        findings += faults
        if not now.columns:
            raise DefinitionError(findings)
        taken[table.name] = now
        _create_view(connection, now)
        connection.execute(
            f"INSERT OR REPLACE INTO {books} VALUES (?, ?)",  # noqa: S608
            [_stored_name(table.name), _definition(now)],
        )
    return taken, findings


def _definition(table: Table) -> str:
    """What ``declared`` remembers of a table: of each column what decides how it is stored."""
    return json.dumps(
        [
            [each.name, each.type, each.length, each.scale, each.nullable, each.default]
            for each in table.columns
        ]
    )


def _types(definition: str | None) -> dict[str, Column]:
    """The columns that ``declared`` remembers, by name without case; none of an older form."""
    if definition is None or not definition.startswith("["):
        return {}
    columns = (
        Column(name, kind, length, scale, nullable, default)
        for name, kind, length, scale, nullable, default in json.loads(definition)
    )
    return {column.name.casefold(): column for column in columns}


def _apply_table(
    connection: duckdb.DuckDBPyConnection, table: Table, earlier: Mapping[str, Column]
) -> tuple[Table, list[Finding]]:
    """Bring the stored table to what is declared, as far as that loses nothing.

    A column that is no longer declared stays stored and leaves the view: its values are kept, and
    declaring it again brings it back, so that going back to an earlier script always works.
    """
    present = _columns(connection, table.name)
    if not present:
        columns = [_column(column) for column in table.columns]
        columns += [f"{name} {kind}" for name, kind in zip(LINEAGE, _LINEAGE_TYPES, strict=True)]
        connection.execute(f"CREATE TABLE {stored_table(table.name)} ({', '.join(columns)})")
        return table, []
    findings: list[Finding] = []
    taken: list[Column] = []
    for column in table.columns:
        stored = present.get(column.name.casefold())
        if stored is None:
            faults = _add_column(connection, table, column)
            findings += faults
            taken += [] if faults else [column]
            continue
        name, kind = stored
        if name != column.name:
            connection.execute(
                f"ALTER TABLE {stored_table(table.name)}"
                f" RENAME COLUMN {quoted(name)} TO {quoted(column.name)}"
            )
        if kind == stored_kind(column):
            taken.append(column)
            continue
        faults = _change_type(connection, table, column, kind)
        findings += faults
        was = earlier.get(column.name.casefold())
        if not faults:
            taken.append(column)
        elif was is not None and stored_kind(was) == kind:
            kept = replace(column, type=was.type, length=was.length, scale=was.scale)
            taken.append(replace(kept, default=was.default))
    return replace(table, columns=tuple(taken)), findings


def _columns(connection: duckdb.DuckDBPyConnection, name: Name) -> Mapping[str, tuple[str, str]]:
    """Name and type of each stored column but our own, by its name without case."""
    rows = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns()"
        " WHERE database_name = ? AND schema_name = ? AND table_name = ? ORDER BY column_index",
        [name.database, HIDDEN, _stored_name(name)],
    ).fetchall()
    return {column.casefold(): (column, kind) for column, kind in rows if column not in LINEAGE}


def _add_column(
    connection: duckdb.DuckDBPyConnection, table: Table, column: Column
) -> list[Finding]:
    stored = stored_table(table.name)
    if is_unfilled(column) and _has_any(connection, stored, "true"):
        return [
            Finding(
                "error",
                f"{required_text(column, table.name)}, and the table has rows already",
                column.source or table.source,
                hint="give it a DEFAULT, or let it be NULL",
            )
        ]
    connection.execute(f"ALTER TABLE {stored} ADD COLUMN {_column(column)}")
    if (default := default_sql(column)) is not None:  # rows that are there get it, as on Snowflake
        connection.execute(f"UPDATE {stored} SET {quoted(column.name)} = {default}")  # noqa: S608
    return []


def _change_type(
    connection: duckdb.DuckDBPyConnection, table: Table, column: Column, kind: str
) -> list[Finding]:
    stored, wanted = stored_table(table.name), stored_kind(column)
    if keeps_values(kind, wanted):
        connection.execute(
            f"ALTER TABLE {stored} ALTER COLUMN {quoted(column.name)} SET DATA TYPE {wanted}"
        )
        return []
    if _has_any(connection, stored, f"{quoted(column.name)} IS NOT NULL"):
        return [
            Finding(
                "error",
                retyped_text(column, table.name, kind, wanted),
                column.source or table.source,
                hint="declare the type it has, or add a column of another name",
            )
        ]
    connection.execute(  # by way of NULL: no value is there to be cast
        f"ALTER TABLE {stored} ALTER COLUMN {quoted(column.name)}"
        f" SET DATA TYPE {wanted} USING CAST(NULL AS {wanted})"
    )
    return []


def _has_any(connection: duckdb.DuckDBPyConnection, stored: str, condition: str) -> bool:
    sql = f"SELECT 1 FROM {stored} WHERE {condition} LIMIT 1"  # noqa: S608 - our own names
    return bool(connection.execute(sql).fetchall())


def _column(column: Column) -> str:
    """Without DEFAULT: every INSERT is ours and gives it, and DuckDB's ALTER with a computed one
    needs a configuration that is not locked (tried, 1.5.5)."""
    return f"{quoted(column.name)} {storage_type(column)}"


def _create_view(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    view = f"{quoted(table.name.database)}.{quoted(table.name.schema)}.{quoted(table.name.name)}"
    columns: Sequence[str] = [quoted(column.name) for column in table.columns]
    connection.execute(
        f"CREATE OR REPLACE VIEW {view} AS"  # noqa: S608
        f" SELECT {', '.join(columns)} FROM {stored_table(table.name)}"
    )
