"""The warehouse on DuckDB: one encrypted file a database, all attached to one instance.

Why attached and not opened: DuckDB takes an encryption key only with ATTACH, and its httpfs
extension brings the cipher that may write (facts: duckdb 1.5.5). The extension comes from its
package and is loaded by path; DuckDB checks its signature; nothing is ever downloaded.

Invariants: after the last ATTACH no connection can touch another file (``enable_external_access``)
and none can undo that (``lock_configuration``); a new database therefore means opening anew. One
thread loads; queries come from another and take turns with an opening.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import duckdb
import duckdb_extension_httpfs

from feedgate.errors import CouldNot, DefinitionError, Finding, UsageError
from feedgate.ledger.receipts import Landing
from feedgate.limits import WAREHOUSE_MEMORY_MIB, WAREHOUSE_THREADS
from feedgate.pipes import duckdb_faults, duckdb_load, duckdb_query, duckdb_schema
from feedgate.pipes.conversion import literal, quoted
from feedgate.pipes.duckdb_plan import PipePlan, pipe_plan
from feedgate.pipes.warehouse import Applied, History, LoadRequest, LoadResult, QueryResult
from feedgate.stack.warehouse import Pipe
from feedgate.stack.warehouse import Warehouse as Declared

__all__ = ["DuckDBWarehouse"]

_KEY_BYTES = 32
_QUERY_END_S = 5.0  # what an interrupted query gets to end


class _MissingPandas(MetaPathFinder):
    """Says quickly that pandas is missing.

    DuckDB asks for it at every value that it is given, 48 times a load (tried, 1.5.5), and Python
    searches its whole path anew for a module that it did not find.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not installed", name=fullname)
        return None


if importlib.util.find_spec("pandas") is None:
    sys.meta_path.insert(0, _MissingPandas())


class DuckDBWarehouse:
    """The embedded form of ``pipes.warehouse.Warehouse``.

    Args:
        folder: holds the ``.duckdb`` files and, while a load is large, encrypted spill files.
        encryption_key: 32 bytes; every file is AES-256-GCM under it, its WAL too.

    Raises:
        CouldNot: a file is open in another process, or was made with another key.
    """

    def __init__(self, folder: Path, encryption_key: bytes) -> None:
        assert len(encryption_key) == _KEY_BYTES
        self._folder = folder
        self._key = encryption_key
        self._turn = threading.RLock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._asking: set[duckdb.DuckDBPyConnection] = set()
        self._attached: frozenset[str] = frozenset()
        self._epochs: dict[str, int] = {}
        self._plans: Mapping[str, PipePlan] = {}
        self._search_path: tuple[str, str] | None = None
        folder.mkdir(mode=0o700, exist_ok=True)
        found = (duckdb_schema.database_of_file(path.name) for path in folder.iterdir())
        if databases := frozenset(name for name in found if name is not None):
            self._open(databases)

    # -- the contract's methods -------------------------------------------------------------------

    def apply(self, declared: Declared) -> Applied:
        """Open what is declared and not open yet, create and alter, and take each pipe's fence."""
        duckdb_schema.check_names(declared)
        plans = _plans(declared)
        wanted = self._attached.union(declared.databases)
        if wanted != self._attached or self._connection is None:
            self._open(wanted)
        tables = dict(declared.tables)
        refused: list[Finding] = []
        for database in declared.databases:
            with self._transaction() as connection:
                taken, findings = duckdb_schema.apply_database(connection, database, declared)
                if findings:
                    kept = replace(declared, tables={**tables, **taken})
                    plans = _plans_without(declared, kept, findings)
                tables.update(taken)
                refused += findings
                for plan in plans.values():
                    if plan.database == database:
                        self._take_fence(connection, plan)
        self._plans = plans
        current = (declared.current_database, declared.current_schema)
        self._search_path = (current[0], current[1]) if current[0] and current[1] else None
        return Applied(replace(declared, tables=tables), tuple(refused))

    def history(self, pipe: Pipe, landing: Landing) -> History:
        """What the pipe's history says of this landing and of its key."""
        plan = self._plans[str(pipe.name)]
        connection = self._ready()
        try:
            return duckdb_load.read_history(connection, plan, landing)
        except duckdb.Error as error:
            self._after_fault(error)
            raise duckdb_faults.of_data(error) from error

    def load(self, request: LoadRequest) -> LoadResult:
        """Load one landing, as the contract says."""
        plan = self._plans[str(request.pipe.name)]
        connection = self._ready()
        try:
            return duckdb_load.load(connection, plan, request, self._epochs[plan.pipe])
        except duckdb.Error as error:
            self._after_fault(error)
            raise duckdb_faults.of_data(error) from error

    def query(self, sql: str) -> QueryResult:
        """Run one SELECT on a cursor of its own; bare names are the script's current schema's."""
        with self._turn:
            cursor = self._ready().cursor()
            self._asking.add(cursor)
        try:
            if self._search_path is not None:
                database, schema = self._search_path
                cursor.execute(f"USE {quoted(database)}.{quoted(schema)}")
            return duckdb_query.run_query(cursor, sql)
        finally:
            cursor.close()
            self._asking.discard(cursor)

    def close(self) -> None:
        """Close the files; a query that runs ends first."""
        with self._turn:
            deadline = time.monotonic() + _QUERY_END_S
            while self._asking and time.monotonic() < deadline:
                for cursor in tuple(self._asking):
                    with contextlib.suppress(duckdb.Error):
                        cursor.interrupt()
                time.sleep(0.01)
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # -- opening ----------------------------------------------------------------------------------

    def _open(self, databases: frozenset[str]) -> None:
        with self._turn:
            self.close()
            connection = duckdb.connect(
                ":memory:",
                config={
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                    "memory_limit": f"{WAREHOUSE_MEMORY_MIB}MiB",
                    "threads": WAREHOUSE_THREADS,
                    "temp_directory": str(self._folder / "spill"),
                    "python_enable_replacements": False,
                },
            )
            try:
                connection.execute(f"LOAD {literal(str(_extension()))}")
                connection.execute("SET GLOBAL temp_file_encryption = true")
                connection.execute("SET GLOBAL TimeZone = 'UTC'")
                for name in sorted(databases):
                    self._attach(connection, name)
                connection.execute("SET GLOBAL enable_external_access = false")
                connection.execute("SET GLOBAL lock_configuration = true")
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            self._attached = databases

    def _attach(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        path = self._folder / duckdb_schema.file_of_database(name)
        new = not path.exists()
        try:
            connection.execute(
                f"ATTACH {literal(str(path))} AS {quoted(name)}"
                f" (ENCRYPTION_KEY {literal(self._key.hex())})"
            )
        except duckdb.Error as error:
            raise duckdb_faults.of_opening(error, name) from None  # the cause would show the key
        if new:
            path.chmod(0o600)

    def _ready(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            if not self._attached:
                raise UsageError(
                    "the warehouse has no database", hint="warehouse.sql declares them"
                )
            self._open(self._attached)
        assert self._connection is not None
        return self._connection

    def _after_fault(self, error: duckdb.Error) -> None:
        """An instance that is unusable is opened again by whoever needs it next."""
        if duckdb_faults.kind_of(error) == "broken":
            self.close()

    # -- transactions -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        connection = self._ready()
        try:
            connection.begin()
            yield connection
            connection.commit()
        except BaseException as error:
            with contextlib.suppress(duckdb.Error):
                connection.rollback()
            if isinstance(error, duckdb.Error):
                self._after_fault(error)
                raise CouldNot(f"the warehouse could not do it: {error}") from error
            raise

    def _take_fence(self, connection: duckdb.DuckDBPyConnection, plan: PipePlan) -> None:
        """Once in this object's life: whoever had the pipe before can commit nothing any more."""
        if plan.pipe in self._epochs:
            return
        fence = duckdb_schema.hidden_table(plan.database, "fence")
        rows = connection.execute(
            f"INSERT INTO {fence} VALUES (?, 1)"  # noqa: S608 - our own name
            " ON CONFLICT (pipe) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
            [plan.pipe],
        ).fetchall()
        self._epochs[plan.pipe] = rows[0][0]


def _extension() -> Path:
    """The signed httpfs extension of exactly this DuckDB."""
    package = Path(duckdb_extension_httpfs.__file__).parent
    path = package / "extensions" / f"v{duckdb.__version__}" / "httpfs.duckdb_extension"
    if not path.exists():
        raise CouldNot(
            f"the httpfs extension of DuckDB {duckdb.__version__} is not installed",
            hint=f"install `duckdb-extension-httpfs=={duckdb.__version__}`",
        )
    return path


def _plans(declared: Declared) -> dict[str, PipePlan]:
    return {str(pipe.name): pipe_plan(pipe, declared) for pipe in declared.pipes.values()}


def _plans_without(
    declared: Declared, kept: Declared, findings: Sequence[Finding]
) -> dict[str, PipePlan]:
    """The pipes on tables that kept something. Raises ``DefinitionError``: one cannot do without.

    A COPY that names no columns fills each by its position, which moves where one is left out.
    """
    for pipe in kept.pipes.values():
        copy = pipe.copy
        there = {column.name for column in kept.tables[copy.table].columns}
        wanted = copy.columns or [column.name for column in declared.tables[copy.table].columns]
        if not there.issuperset(wanted):
            raise DefinitionError(findings)
    try:
        return _plans(kept)
    except DefinitionError as error:
        raise DefinitionError(findings) from error
