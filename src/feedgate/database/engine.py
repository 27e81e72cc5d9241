"""SQLite through apsw: one writer at a time, group commit, short reads.

Invariants:

- Every connection runs WAL with synchronous=FULL, asserted when it is opened: a commit that
  returned is on disk. apsw bundles its SQLite; the system's may have the WAL-reset race that loses
  commits (https://www.sqlite.org/wal.html#walresetbug), so an affected one is refused.
- A write transaction lives under two locks: ``_turn`` among this process's threads and
  ``flock(writer.lock)`` among processes, both held from BEGIN IMMEDIATE to COMMIT. SQLite's own
  busy handler polls and starves (measured worst wait 830 ms against 10 ms).
- Whoever gets the turn commits for everyone who queued meanwhile: a lone caller pays no thread hop,
  a crowd shares one fsync. So a caller's function may run in another caller's thread.
- Each caller has a savepoint: an exception undoes that caller's rows only and is raised to that
  caller; a COMMIT that fails is raised to every caller in it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar, cast

import apsw

from feedgate import limits
from feedgate.database.faults import translated
from feedgate.database.place import refuse_network_file_system
from feedgate.errors import CouldNot

__all__ = ["Database", "Migration", "Row", "Transaction", "Value"]

T = TypeVar("T")
Value: TypeAlias = int | float | str | bytes | bytearray | memoryview | None
Row: TypeAlias = tuple[Any, ...]
Parameters: TypeAlias = Sequence[Value] | Mapping[str, Value]

_FIXED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))  # where the WAL-reset race is gone, by branch
_FILE = "feedgate.sqlite"
_APPLICATION_ID = 0x46454544  # "FEED"


@dataclass(frozen=True, slots=True)
class Migration:
    """Step ``number`` (from 1, without gaps) of the tables called ``name``.

    ``sql`` may hold several statements and no transaction of its own.
    """

    name: str
    number: int
    sql: str


class Transaction:
    """One caller's part of a write transaction; valid until the function that got it returns."""

    __slots__ = ("_connection",)

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection: apsw.Connection | None = connection

    def execute(self, sql: str, params: Parameters = ()) -> list[Row]:
        """Run one statement and return all of its rows.

        Raises:
            Conflict: a constraint forbids it; only this statement is undone.
            NoSpace, CouldNot, Integrity: the disk or the file failed.
        """
        assert self._connection is not None, "the transaction is over"
        with translated:
            return self._connection.execute(sql, params or None).fetchall()

    def executemany(self, sql: str, rows: Iterable[Parameters]) -> None:
        """Run one statement for each row of parameters."""
        assert self._connection is not None, "the transaction is over"
        with translated:
            self._connection.executemany(sql, rows).fetchall()

    def changes(self) -> int:
        """How many rows the last INSERT, UPDATE or DELETE changed."""
        assert self._connection is not None, "the transaction is over"
        return self._connection.changes()

    def _end(self) -> None:
        self._connection = None


class _Write(Generic[T]):
    """One queued write and, once ``done``, what became of it."""

    __slots__ = ("done", "error", "fn", "future", "value")

    def __init__(
        self, fn: Callable[[Transaction], T], future: asyncio.Future[T] | None = None
    ) -> None:
        self.fn = fn
        self.future = future
        self.value: T | None = None
        self.error: BaseException | None = None
        self.done = False

    def settle(self) -> None:
        """Tell an awaiting coroutine; runs on its event loop."""
        future = self.future
        assert future is not None
        if future.done():
            return  # cancelled meanwhile: the commit stands
        if self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(cast("T", self.value))


class Database:
    """The one SQLite file of a gateway, ``feedgate.sqlite`` in the data folder.

    Thread-safe; not for use across a fork (workers are spawned). Raises ``CouldNot`` when the
    folder lies on a network file system or cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        refuse_network_file_system(folder)
        _refuse_affected(apsw.sqlite_lib_version())
        self.path = folder / _FILE
        self._open: weakref.WeakSet[apsw.Connection] = weakref.WeakSet()
        self._local = threading.local()
        self._turn = threading.Lock()
        self._turn_of: int | None = None
        self._queue: deque[_Write[Any]] = deque()
        self._wake = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._thread_start = threading.Lock()
        self._closed = False
        self._broken: str | None = None
        try:
            # made here, before SQLite does: file, WAL and shared memory are the owner's only
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._lock_fd = os.open(
                folder / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise CouldNot(f"cannot open `{self.path}`: {error.strerror}") from error
        try:
            self._flock()
            try:
                self._writer = self._connect()
            finally:
                self._unflock()
        except BaseException:
            os.close(self._lock_fd)
            raise

    # -- writing -------------------------------------------------------------------------------

    def write_now(self, fn: Callable[[Transaction], T]) -> T:
        """Run ``fn`` in a transaction and return what it returns once that is durable. Blocks.

        ``fn`` must be short and free of other I/O: everyone waits for it. It may run in another
        thread than the caller's. What it raises is raised here and undoes its rows.

        Raises:
            NoSpace, CouldNot, Integrity: the commit failed; nothing of it is visible.
        """
        assert self._turn_of != threading.get_ident(), "a write inside a write"
        write = _Write(fn)
        self._queue.append(write)
        with self._turn:  # by the time it is ours another may have committed us along
            while not write.done:
                self._commit_some()
        if write.error is not None:
            raise write.error
        return cast("T", write.value)

    async def write(self, fn: Callable[[Transaction], T], *, at_once: bool = False) -> T:
        """As ``write_now``, from a coroutine; resolves on its event loop.

        Queued for the writer thread, which commits everyone waiting together. ``at_once`` says that
        nothing else is about to be written: if nobody waits or holds the turn, the commit runs
        right here, blocking the loop for one fsync instead of paying two thread hops.
        Cancelling the wait does not undo the write.
        """
        if at_once and not self._queue and self._turn.acquire(blocking=False):
            write: _Write[T] = _Write(fn)
            try:
                usable = not self._closed and self._broken is None
                if usable and self._flock(wait=False):
                    self._queue.append(write)
                    self._commit_some(locked=True)
                    if not write.done:
                        self._queue.remove(write)  # behind a whole group: join the next one
            finally:
                self._turn.release()
            if write.done:
                if write.error is not None:
                    raise write.error
                return cast("T", write.value)
            # another process commits: the loop must not wait for it
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append(_Write(fn, future))
        if self._closed:
            self._commit_all()  # that is, refuse: no writer thread is left to do it
        else:
            if self._thread is None:
                self._start_thread()
            self._wake.release()
        return await future

    def _start_thread(self) -> None:
        with self._thread_start:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="feedgate-writer", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while True:
            self._wake.acquire()
            self._commit_all()
            if self._closed:
                return

    def _commit_all(self) -> None:
        with self._turn:
            while self._queue:
                self._commit_some()

    def _commit_some(self, *, locked: bool = False) -> None:
        """Commit up to ``COMMIT_GROUP_MAX`` queued writes as one transaction. The turn is ours."""
        count = min(len(self._queue), limits.COMMIT_GROUP_MAX)
        group = [self._queue.popleft() for _ in range(count)]
        assert group, "whoever calls has queued something"
        self._turn_of = threading.get_ident()
        try:
            if self._closed:
                raise CouldNot("the database is closed")
            if self._broken is not None:
                raise CouldNot(self._broken, hint="restart the gateway")
            if not locked:
                self._flock()
            try:
                self._commit(group)
            finally:
                self._unflock()
        except BaseException as error:
            ours = isinstance(error, Exception)
            for write in group:
                if write.error is None:
                    write.error = error if ours else CouldNot("the process is stopping")
            if not ours:
                raise  # a signal's exception belongs to the thread that it struck
        finally:
            self._turn_of = None
            for write in group:
                write.done = True
            _settle(group)

    def _commit(self, group: Sequence[_Write[Any]]) -> None:
        connection = self._writer
        with translated:
            connection.execute("BEGIN IMMEDIATE")
        try:
            for write in group:
                self._run_one(connection, write, alone=len(group) == 1)
            if all(write.error is not None for write in group):
                connection.execute("ROLLBACK")
                return
            with translated:
                connection.execute("COMMIT")
        except BaseException as error:
            self._give_up(connection, error)
            raise

    def _run_one(self, connection: apsw.Connection, write: _Write[Any], *, alone: bool) -> None:
        tx = Transaction(connection)
        if not alone:
            connection.execute("SAVEPOINT caller")
        try:
            write.value = write.fn(tx)
        except Exception as error:
            write.error = error
            if not connection.in_transaction:  # SQLite undid everything, the others' rows too
                raise CouldNot(f"the transaction was undone: {error}") from error
            if not alone:
                connection.execute("ROLLBACK TO caller")
        finally:
            tx._end()  # noqa: SLF001
        if not alone:
            connection.execute("RELEASE caller")

    def _give_up(self, connection: apsw.Connection, error: BaseException) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        cause = error.__cause__
        code = getattr(cause, "extendedresult", None)
        if isinstance(cause, apsw.IOError) and code == apsw.SQLITE_IOERR_FSYNC:
            # after a failed fsync the kernel may call lost pages clean: a later success proves
            # nothing, so no later commit is promised
            self._broken = f"the database could not be synced to disk: {cause}"

    def _flock(self, *, wait: bool = True) -> bool:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def _unflock(self) -> None:
        fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    # -- reading -------------------------------------------------------------------------------

    def read(self, sql: str, params: Parameters = ()) -> list[Row]:
        """All rows of one SELECT: what was committed before it began. Bound it: one page."""
        with translated:
            return self._reader().execute(sql, params or None).fetchall()

    def read_together(self, fn: Callable[[Transaction], T]) -> T:
        """Several SELECTs that see one and the same state. Short: it holds back the WAL's reset."""
        connection = self._reader()
        tx = Transaction(connection)
        with translated:
            connection.execute("BEGIN")
        try:
            return fn(tx)
        finally:
            tx._end()  # noqa: SLF001
            connection.execute("ROLLBACK")

    def _reader(self) -> apsw.Connection:
        if self._closed:
            raise CouldNot("the database is closed")
        connection: apsw.Connection | None = getattr(self._local, "reader", None)
        if connection is None:
            with translated:
                connection = self._connect()
                connection.execute("PRAGMA query_only=ON")
            self._local.reader = connection
        return connection

    def _connect(self) -> apsw.Connection:
        with translated:
            connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
            connection.set_busy_timeout(limits.DATABASE_BUSY_MS)
            connection.execute(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
                f"PRAGMA wal_autocheckpoint={limits.WAL_CHECKPOINT_PAGES};"
                f"PRAGMA journal_size_limit={limits.WAL_BYTES_KEPT};"
                f"PRAGMA cache_size=-{limits.DATABASE_CACHE_KIB}"
            ).fetchall()
            mode = connection.pragma("journal_mode")
            synchronous = connection.pragma("synchronous")
        if mode != "wal" or synchronous != 2:
            raise CouldNot(
                f"`{self.path}` keeps no commits here: journal {mode}, synchronous {synchronous}",
                hint="choose a folder on a local disk with --data",
            )
        self._open.add(connection)
        return connection

    # -- format --------------------------------------------------------------------------------

    def migrate(self, package_migrations: Sequence[Migration]) -> None:
        """Bring the named tables up to date, in one transaction; a no-op when they are.

        Before existing tables are changed the file is copied to ``feedgate.sqlite.before-<n>``.

        Raises:
            CouldNot: the folder was written by a newer feedgate.
        """
        newest: dict[str, int] = {}
        for migration in package_migrations:
            assert migration.number == newest.get(migration.name, 0) + 1, migration
            newest[migration.name] = migration.number
        with self._turn:
            self._flock()
            try:
                self._migrate(package_migrations, newest)
            finally:
                self._unflock()

    def _migrate(self, migrations: Sequence[Migration], newest: Mapping[str, int]) -> None:
        connection = self._writer
        with translated:
            applied = _applied(connection)
            pending = [m for m in migrations if m.number > applied.get(m.name, 0)]
            for name, number in applied.items():
                if number > newest.get(name, number):
                    raise CouldNot(
                        f"`{self.path}` was written by a newer feedgate: its `{name}` has format"
                        f" {number}, this one knows {newest[name]}",
                        hint="install the newer feedgate, or choose another folder with --data",
                    )
            if not pending:
                return
            if any(m.name in applied for m in pending):
                self._copy_before(connection, sum(applied.values()))
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute(
                    f"PRAGMA application_id={_APPLICATION_ID};"
                    "CREATE TABLE IF NOT EXISTS migrations("
                    "name TEXT NOT NULL, number INTEGER NOT NULL,"
                    "PRIMARY KEY(name, number)) WITHOUT ROWID, STRICT"
                )
                for migration in pending:
                    connection.execute(migration.sql).fetchall()
                    connection.execute(
                        "INSERT INTO migrations VALUES(?,?)", (migration.name, migration.number)
                    )
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _copy_before(self, connection: apsw.Connection, number: int) -> None:
        copy = self.path.with_name(f"{_FILE}.before-{number}")
        copy.unlink(missing_ok=True)
        os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection.execute("VACUUM INTO ?", (str(copy),))

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Commit what is queued, then close every connection. Idempotent."""
        with self._turn:
            if self._closed:
                return
            while self._queue:
                self._commit_some()
            self._closed = True
        if self._thread is not None:
            self._wake.release()
            self._thread.join()
        for connection in list(self._open):
            connection.close(True)
        os.close(self._lock_fd)


def _settle(group: Sequence[_Write[Any]]) -> None:
    """Wake the coroutines of a group: one call per event loop, not one per write."""
    loops: dict[asyncio.AbstractEventLoop, list[_Write[Any]]] = {}
    for write in group:
        if write.future is not None:
            loops.setdefault(write.future.get_loop(), []).append(write)
    for loop, writes in loops.items():
        try:
            loop.call_soon_threadsafe(_settle_all, writes)
        except RuntimeError:
            continue  # that loop has ended: nobody waits


def _settle_all(writes: Sequence[_Write[Any]]) -> None:
    for write in writes:
        write.settle()


def _applied(connection: apsw.Connection) -> dict[str, int]:
    known = connection.execute(
        "SELECT 1 FROM sqlite_schema WHERE type='table' AND name='migrations'"
    ).fetchall()
    if not known:
        return {}
    rows = connection.execute("SELECT name, max(number) FROM migrations GROUP BY name")
    return {str(name): int(cast("int", number)) for name, number in rows}


def _refuse_affected(version: str) -> None:
    """Refuse an SQLite that has the WAL-reset race (3.7.0 to 3.51.2, but for the backports)."""
    numbers = tuple(int(part) for part in version.split(".")[:3])
    sound = numbers >= _FIXED[0] or any(
        numbers[:2] == fixed[:2] and numbers >= fixed for fixed in _FIXED[1:]
    )
    if not sound:
        raise CouldNot(
            f"SQLite {version} can lose commits in WAL mode", hint="install apsw 3.54.1 or newer"
        )
