"""One load: records in, rows and history out, in one transaction of one database.

In the path: ``decode`` → ``csv`` or ``ndjson`` → here → COMMIT. Memory holds one batch; nothing is
staged.

Invariants: rows, history row and the fence's check commit together; ``load_history``'s primary key
(pipe, landing) is what exactly once rests on; under SKIP_FILE a single error leaves no row. Values
reach SQL as Arrow columns or parameters, never as text.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import duckdb
import msgspec
import pyarrow as pa

from feedgate.errors import CouldNot, LoadError, RowError
from feedgate.ledger.receipts import Landing, LoadStatus
from feedgate.limits import LOAD_ERRORS_KEPT_MAX
from feedgate.pipes.duckdb_faults import kind_of, of_data
from feedgate.pipes.duckdb_plan import BATCH, PipePlan
from feedgate.pipes.duckdb_schema import hidden_table
from feedgate.pipes.records import Batch
from feedgate.pipes.warehouse import History, LoadRequest, LoadResult, load_identity

__all__ = ["load", "read_history"]

_RESULT: Final = "status, rows_parsed, rows_loaded, errors_seen, loaded_at_ms, message, errors"


# -- the history --------------------------------------------------------------------------------


def read_history(
    connection: duckdb.DuckDBPyConnection, plan: PipePlan, landing: Landing
) -> History:
    """What the pipe's history says of a landing and of its key."""
    books = hidden_table(plan.database, "load_history")
    rows = connection.execute(
        f'SELECT sha256 FROM {books} WHERE pipe = ? AND bucket = ? AND "key" = ?'  # noqa: S608
        " AND rows_loaded > 0 AND landing_id <> ? ORDER BY loaded_at_ms DESC LIMIT 1",
        [plan.pipe, landing.bucket, landing.key, load_identity(landing)],
    ).fetchall()
    return History(_recorded(connection, plan, landing), rows[0][0] if rows else None)


def _recorded(
    connection: duckdb.DuckDBPyConnection, plan: PipePlan, landing: Landing
) -> LoadResult | None:
    rows = connection.execute(
        f"SELECT {_RESULT} FROM {hidden_table(plan.database, 'load_history')}"  # noqa: S608
        " WHERE pipe = ? AND landing_id = ?",
        [plan.pipe, load_identity(landing)],
    ).fetchall()
    if not rows:
        return None
    status, parsed, loaded, seen, loaded_at_ms, message, errors = rows[0]
    kept = msgspec.json.decode(errors, type=tuple[RowError, ...])
    return LoadResult(status, parsed, loaded, seen, loaded_at_ms, message, kept)


def _record(
    connection: duckdb.DuckDBPyConnection,
    plan: PipePlan,
    landing: Landing,
    result: LoadResult,
    epoch: int,
) -> None:
    """Write the history row, if this loader is still the one that may load for the pipe.

    Raises:
        duckdb.ConstraintException: the landing has a row already.
        CouldNot: another loader has taken the pipe over.
    """
    values = (
        plan.pipe,
        load_identity(landing),
        landing.landing_id,
        plan.table,
        landing.bucket,
        landing.key,
        landing.version_id,
        landing.size,
        landing.sha256,
        result.status,
        result.rows_parsed,
        result.rows_loaded,
        result.errors_seen,
        result.message,
        msgspec.json.encode(result.errors).decode(),
        result.loaded_at_ms,
    )
    written = connection.execute(
        f"INSERT INTO {hidden_table(plan.database, 'load_history')}"  # noqa: S608 - our own names
        f" SELECT {', '.join('?' * len(values))} FROM {hidden_table(plan.database, 'fence')}"
        " WHERE pipe = ? AND epoch = ?",
        (*values, plan.pipe, epoch),
    ).fetchall()
    if written != [(1,)]:
        raise CouldNot(f"another loader has taken over pipe `{plan.pipe}`")


# -- the load -----------------------------------------------------------------------------------


def load(
    connection: duckdb.DuckDBPyConnection, plan: PipePlan, request: LoadRequest, epoch: int
) -> LoadResult:
    """Load one landing.

    Raises:
        duckdb.Error: nothing was changed.
        CouldNot: another loader has taken the pipe over; nothing was changed.
    """
    landing = request.landing
    recorded = _recorded(connection, plan, landing)
    if recorded is not None:
        return recorded
    try:
        return _loaded(connection, plan, request, epoch)
    except duckdb.ConstraintException:
        recorded = _recorded(connection, plan, landing)
        if recorded is None:
            raise
        return recorded  # whoever was faster loaded it
    except duckdb.Error as error:
        if kind_of(error) != "refuse":
            raise
        refused = of_data(error)
        errors = getattr(refused, "errors", ())
        failed = _failed(request, refused.message, errors)
    except LoadError as error:
        failed = _failed(request, error.message, error.errors)
    with _transaction(connection):
        _record(connection, plan, landing, failed, epoch)
    return failed


def _failed(request: LoadRequest, message: str, errors: Sequence[RowError]) -> LoadResult:
    kept = tuple(errors[:LOAD_ERRORS_KEPT_MAX])
    return LoadResult("LOAD_FAILED", 0, 0, len(errors), _ms(request.now), message, kept)


def _loaded(
    connection: duckdb.DuckDBPyConnection, plan: PipePlan, request: LoadRequest, epoch: int
) -> LoadResult:
    with _transaction(connection) as transaction:
        tally = _Tally(connection, plan, request)
        for batch in plan.parse(request.chunks):
            tally.take(batch)
        result = tally.result(_ms(request.now))
        if not tally.skipped:
            _record(connection, plan, request.landing, result, epoch)
            request.before_commit()
            return result
        transaction.rollback()
    with _transaction(connection):
        _record(connection, plan, request.landing, result, epoch)
        request.before_commit()
    return result


class _Tally:
    """Takes batches into the open transaction, counts, and keeps the first errors."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, plan: PipePlan, request: LoadRequest
    ) -> None:
        self._connection = connection
        self._plan = plan
        self._landing = request.landing
        self._metadata = {
            "filename": request.landing.key,
            "modified_us": request.landing.landed_at_ms * 1000,
            "scanned_s": request.now(),
            "content_key": request.landing.sha256,
        }
        self._parsed = self._loaded = self._seen = 0
        self._errors: list[RowError] = []

    @property
    def skipped(self) -> bool:
        """ON_ERROR = SKIP_FILE, and there is an error: nothing of the file may stay."""
        return self._plan.skip_file and self._seen > 0

    def take(self, batch: Batch) -> None:
        self._parsed += batch.records
        self._seen += len(batch.errors)
        found = list(batch.errors)
        if count := len(batch.lines):
            self._connection.register(BATCH, _arrow(batch))
            bad = self._insert(count) if not self.skipped else self._count()
            self._seen += bad
            if bad and len(self._errors) < LOAD_ERRORS_KEPT_MAX:
                found += self._faults(batch)
        found.sort(key=lambda error: error.row)
        self._errors += found[: LOAD_ERRORS_KEPT_MAX - len(self._errors)]

    def _insert(self, count: int) -> int:
        """Insert the sound rows; how many are not."""
        parameters = {**self._metadata, "landing": self._landing.landing_id}
        inserted = self._connection.execute(self._plan.insert_sql, parameters).fetchall()[0][0]
        self._loaded += inserted
        return count - int(inserted)

    def _count(self) -> int:
        return int(self._connection.execute(self._plan.count_sql, self._metadata).fetchall()[0][0])

    def _faults(self, batch: Batch) -> list[RowError]:
        rows = self._connection.execute(
            self._plan.faults_sql, {**self._metadata, "at_most": LOAD_ERRORS_KEPT_MAX}
        ).fetchall()
        found = []
        for number, fault in rows:
            index = bisect.bisect_left(batch.row_numbers, number)
            line, character = batch.locate(index, self._plan.fields.get(fault["position"], 0))
            found.append(
                RowError(
                    fault["message"], line, character, number, fault["column_name"], fault["code"]
                )
            )
        return found

    def result(self, loaded_at_ms: int) -> LoadResult:
        """What COPY would report."""
        loaded = 0 if self.skipped else self._loaded
        status: LoadStatus = "LOADED"
        message = None
        if self._seen:
            status = "PARTIALLY_LOADED" if loaded else "LOAD_FAILED"
            verb = "has" if self._seen == 1 else "have"
            message = f"{self._seen} of {self._parsed} records {verb} an error; ON_ERROR is "
            message += "SKIP_FILE: no row was loaded" if self._plan.skip_file else "CONTINUE"
        return LoadResult(
            status, self._parsed, loaded, self._seen, loaded_at_ms, message, tuple(self._errors)
        )


def _arrow(batch: Batch) -> pa.Table:
    columns = {
        f"c{number}": pa.array(values, pa.string()) if isinstance(values, list | tuple) else values
        for number, values in enumerate(batch.columns, 1)
    }
    columns["_row_number"] = _numbers(batch.row_numbers)
    columns["_line"] = _numbers(batch.lines)
    return pa.table(columns)


def _numbers(values: Sequence[int]) -> pa.Array:
    if isinstance(values, range):
        return pa.arange(values.start, values.stop)
    return pa.array(values, pa.int64())


class _Open:
    """A transaction that may be rolled back early."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.ended = False

    def rollback(self) -> None:
        self._connection.rollback()
        self.ended = True


@contextlib.contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[_Open]:
    connection.begin()
    transaction = _Open(connection)
    try:
        yield transaction
        if not transaction.ended:
            connection.commit()
    except BaseException:
        with contextlib.suppress(duckdb.Error):
            connection.rollback()
        raise


def _ms(now: Callable[[], float]) -> int:
    return int(now() * 1000)
