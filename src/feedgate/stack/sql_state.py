"""What a script has declared so far, and how its names resolve.

Snowflake's rules: CREATE DATABASE makes the database and its PUBLIC schema current, CREATE SCHEMA
the schema; a name of fewer than three parts is completed from these. DuckDB compares names without
case, so two names that differ only by case are refused, whichever kind of object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feedgate.errors import Source
from feedgate.stack.sql_reader import Cursor
from feedgate.stack.sql_text import SqlFault
from feedgate.stack.warehouse import (
    FileFormat,
    Name,
    Pipe,
    Stage,
    StorageIntegration,
    Table,
)

__all__ = ["ConsequentFault", "Creation", "Declared", "creation"]


class ConsequentFault(SqlFault):
    """A fault that follows from one already found, and is not told to the author."""


class Creation:
    """The modifiers of one CREATE: where it stands, OR REPLACE, IF NOT EXISTS."""

    def __init__(self, start: int, *, replace: bool) -> None:
        self.start = start
        self.replace = replace
        self.if_not_exists = False


def creation(cursor: Cursor) -> Creation:
    """Take ``CREATE [OR REPLACE]``; ``OR ALTER`` is refused by name."""
    start = cursor.offset
    cursor.expect("CREATE")
    if cursor.at("OR", "ALTER"):
        raise cursor.fault(
            "CREATE OR ALTER is not done yet", hint="write CREATE TABLE IF NOT EXISTS"
        )
    return Creation(start, replace=cursor.accept("OR", "REPLACE"))


class Declared:
    """The objects of a script while it is read."""

    def __init__(self) -> None:
        self.databases: dict[str, Source] = {}
        self.schemas: dict[tuple[str, str], Source] = {}
        self.tables: dict[Name, Table] = {}
        self.file_formats: dict[Name, FileFormat] = {}
        self.integrations: dict[str, StorageIntegration] = {}
        self.stages: dict[Name, Stage] = {}
        self.pipes: dict[Name, Pipe] = {}
        self.broken: set[str] = set()
        self._by_folded: dict[tuple[str, str], Any] = {}  # kind and name without case
        self.database: str | None = None
        self.schema: str | None = None

    def missing(self, cursor: Cursor, kind: str, name: Any, offset: int) -> SqlFault:
        """The fault of naming what is not declared; silent if its own statement was at fault."""
        last = name.name if isinstance(name, Name) else str(name).rpartition(".")[2]
        fault = cursor.fault(f"{kind} `{name}` is not declared", offset=offset)
        return ConsequentFault(fault.finding) if last.casefold() in self.broken else fault

    # -- databases and schemas ------------------------------------------------------------------

    def add_database(self, cursor: Cursor, made: Creation, name: str, source: Source) -> None:
        """Declare a database with its PUBLIC schema and make them current."""
        self.require_free(cursor, made, "database", self.databases, name)
        self.databases.setdefault(name, source)
        self.schemas.setdefault((name, "PUBLIC"), source)
        self.database, self.schema = name, "PUBLIC"

    def add_schema(
        self, cursor: Cursor, made: Creation, parts: tuple[str, ...], source: Source
    ) -> None:
        """Declare a schema and make it current."""
        database = parts[0] if len(parts) == 2 else self.database
        if database is None:
            raise cursor.fault("there is no current database", hint="CREATE DATABASE comes first")
        self.require_database(cursor, database, made.start)
        pair = (database, parts[-1])
        if pair != (database, "PUBLIC"):
            self.require_free(cursor, made, "schema", self.schemas, pair)
        self.schemas.setdefault(pair, source)
        self.database, self.schema = pair

    def require_database(self, cursor: Cursor, name: str, offset: int) -> None:
        """Raises ``SqlFault`` unless the script has created the database."""
        if name not in self.databases:
            raise self.missing(cursor, "database", name, offset)

    def use_schema(self, cursor: Cursor, database: str, schema: str, offset: int) -> None:
        """Make a declared schema current."""
        self.require_database(cursor, database, offset)
        if (database, schema) not in self.schemas:
            raise self.missing(cursor, "schema", f"{database}.{schema}", offset)
        self.database, self.schema = database, schema

    # -- objects in a schema --------------------------------------------------------------------

    def resolve(self, cursor: Cursor, parts: tuple[str, ...], offset: int) -> Name:
        """The full name of ``parts``. Raises ``SqlFault`` if its schema is not declared."""
        database = parts[0] if len(parts) == 3 else self.database
        schema = parts[-2] if len(parts) > 1 else self.schema
        if (database is None or schema is None) and self.broken:
            raise self.missing(cursor, "schema", next(iter(self.broken)), offset)
        if database is None or schema is None:
            raise cursor.fault(
                f"`{'.'.join(parts)}` has no database and schema",
                hint="CREATE or USE them first",
                offset=offset,
            )
        self.require_database(cursor, database, offset)
        if (database, schema) not in self.schemas:
            raise self.missing(cursor, "schema", f"{database}.{schema}", offset)
        return Name(database, schema, parts[-1])

    def name(self, cursor: Cursor, what: str) -> Name:
        """Take a name and resolve it."""
        offset = cursor.offset
        return self.resolve(cursor, cursor.parts(what), offset)

    def require_free(
        self, cursor: Cursor, made: Creation, kind: str, objects: Mapping[Any, Any], name: Any
    ) -> None:
        """Raises ``SqlFault`` if the script has declared an object of that name already.

        On Snowflake OR REPLACE would take what the first one holds, and IF NOT EXISTS would ignore
        the second: one of two declarations means nothing. Only a database or schema may be made
        sure of more than once.
        """
        shown = ".".join(name) if isinstance(name, tuple) else str(name)
        if name in objects:
            if made.if_not_exists and kind in ("database", "schema"):
                return
            declared = objects[name]
            where = declared if isinstance(declared, Source) else declared.source
            raise cursor.fault(
                f"{kind} `{shown}` is declared already at {where}",
                hint="keep one of the two",
                offset=made.start,
            )
        other = self._by_folded.setdefault((kind, _folded(name)), name)
        if other != name:
            raise cursor.fault(
                f"{kind} `{shown}` differs from `{other}` only by case", offset=made.start
            )


def _folded(name: Any) -> str:
    if isinstance(name, Name):
        name = (name.database, name.schema, name.name)
    return ("\0".join(name) if isinstance(name, tuple) else str(name)).casefold()
