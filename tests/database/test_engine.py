"""The database engine: durable commits, groups, savepoints, migrations."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedgate import errors
from feedgate.database import Database, Transaction
from feedgate.database.engine import Migration, _refuse_affected
from feedgate.database.faults import APSW_FAULTS

TABLES = [
    Migration("notes", 1, "CREATE TABLE note(n INTEGER PRIMARY KEY, text TEXT)"),
    Migration(
        "notes",
        2,
        "CREATE TABLE reply(n INTEGER REFERENCES note(n) DEFERRABLE INITIALLY DEFERRED)",
    ),
]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database with the test's tables."""
    opened = Database(tmp_path)
    opened.migrate(TABLES)
    yield opened
    opened.close()


def insert(n: int, text: str = "") -> Callable[[Transaction], int]:
    """A write of one row that returns its number."""

    def fn(tx: Transaction) -> int:
        tx.execute("INSERT INTO note VALUES(?,?)", (n, text))
        return n

    return fn


def fail_after(n: int) -> Callable[[Transaction], int]:
    """A write of one row that then raises."""

    def fn(tx: Transaction) -> int:
        insert(n)(tx)
        raise ValueError(n)

    return fn


def numbers(database: Database) -> list[int]:
    """What is committed."""
    return [row[0] for row in database.read("SELECT n FROM note ORDER BY n")]


@contextlib.contextmanager
def turn_held(database: Database) -> Iterator[None]:
    """Keep a write open in another thread: what is written meanwhile queues as one group."""
    inside, go = threading.Event(), threading.Event()

    def hold(_tx: Transaction) -> None:
        inside.set()
        go.wait(10)

    thread = threading.Thread(target=database.write_now, args=(hold,))
    thread.start()
    assert inside.wait(10)
    try:
        yield
    finally:
        go.set()
        thread.join()


def test_write_returns_what_the_function_returns(database: Database) -> None:
    """A write gives back its function's value, and its rows are visible to every reader."""
    assert database.write_now(insert(7)) == 7
    assert numbers(database) == [7]
    thread_saw: list[int] = []
    thread = threading.Thread(target=lambda: thread_saw.extend(numbers(database)))
    thread.start()
    thread.join()
    assert thread_saw == [7]


def test_exception_undoes_the_write(database: Database) -> None:
    """What a function raises reaches its caller and its rows are gone."""
    with pytest.raises(ValueError, match="3"):
        database.write_now(fail_after(3))
    assert numbers(database) == []


def test_group_shares_one_commit_and_only_the_failing_caller_loses(database: Database) -> None:
    """Writes that wait together commit together; an exception undoes one caller's rows only."""
    commits = []

    def counted() -> bool:
        commits.append(1)
        return False

    database._writer.set_commit_hook(counted)

    async def run() -> list[object]:
        with turn_held(database):
            commits.clear()
            tasks = [
                asyncio.create_task(database.write(fail_after(n) if n == 2 else insert(n)))
                for n in range(5)
            ]
            await asyncio.sleep(0.05)
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(run())
    assert [r for r in results if not isinstance(r, Exception)] == [0, 1, 3, 4]
    assert isinstance(results[2], ValueError)
    assert numbers(database) == [0, 1, 3, 4]
    assert len(commits) == 2  # the one that held the turn, and the group


def test_failed_commit_is_raised_to_everyone(database: Database) -> None:
    """When COMMIT itself fails, every caller of the group gets the error and nothing is visible."""

    def dangling(tx: Transaction) -> None:
        tx.execute("INSERT INTO reply VALUES(99)")  # checked at COMMIT

    async def run() -> list[object]:
        with turn_held(database):
            tasks = [
                asyncio.create_task(database.write(fn)) for fn in (insert(1), dangling, insert(2))
            ]
            await asyncio.sleep(0.05)
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(run())
    assert [type(result) for result in results] == [errors.Conflict] * 3
    assert numbers(database) == []
    assert database.write_now(insert(5)) == 5


def test_full_disk_is_no_space_and_recovers(database: Database) -> None:
    """A full disk raises NoSpace to the caller; once there is room, writes go on."""
    pages = database._writer.pragma("page_count")
    database._writer.pragma("max_page_count", pages)
    with pytest.raises(errors.NoSpace):
        database.write_now(insert(1, "x" * 100_000))
    assert numbers(database) == []
    database._writer.pragma("max_page_count", 1_000_000)
    database.write_now(insert(1, "x" * 100_000))
    assert numbers(database) == [1]


def test_transaction_undone_by_sqlite_fails_the_whole_group(database: Database) -> None:
    """When SQLite rolls everything back by itself, no caller is told that his rows are there."""

    def undo_all(tx: Transaction) -> None:
        tx.execute("INSERT OR ROLLBACK INTO note VALUES(1, 'again')")

    async def run() -> list[object]:
        with turn_held(database):
            tasks = [
                asyncio.create_task(database.write(fn)) for fn in (insert(1), undo_all, insert(2))
            ]
            await asyncio.sleep(0.05)
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(run())
    assert [type(result) for result in results] == [
        errors.CouldNot,
        errors.Conflict,
        errors.CouldNot,
    ]
    assert numbers(database) == []


def test_failed_sync_is_final(database: Database) -> None:
    """After a failed fsync no later commit is promised."""
    cause = apsw.exception_for(apsw.SQLITE_IOERR)
    cause.extendedresult = apsw.SQLITE_IOERR_FSYNC
    error = errors.CouldNot("disk")
    error.__cause__ = cause
    database._give_up(database._writer, error)
    with pytest.raises(errors.CouldNot, match="synced"):
        database.write_now(insert(1))


def test_transaction_is_over_when_its_function_returns(database: Database) -> None:
    """A transaction that a function leaked cannot be used afterwards."""
    leaked = database.write_now(lambda tx: tx)
    with pytest.raises(AssertionError):
        leaked.execute("SELECT 1")


def test_write_inside_a_write_is_an_assertion(database: Database) -> None:
    """Nesting would wait for itself for ever, so it is refused at once."""
    with pytest.raises(AssertionError):
        database.write_now(lambda _tx: database.write_now(insert(1)))


def test_constraint_is_a_conflict_inside_the_transaction(database: Database) -> None:
    """A function may catch a Conflict and go on in the same transaction."""
    database.write_now(insert(1))

    def fn(tx: Transaction) -> str:
        try:
            insert(1)(tx)
        except errors.Conflict:
            insert(2)(tx)
            return "went on"
        return "no conflict"

    assert database.write_now(fn) == "went on"
    assert numbers(database) == [1, 2]


def test_at_once_commits_in_the_calling_thread(database: Database) -> None:
    """A lone write that asks for it runs in the loop's own thread."""
    ran_in: list[int] = []

    def fn(tx: Transaction) -> None:
        ran_in.append(threading.get_ident())
        insert(1)(tx)

    asyncio.run(database.write(fn, at_once=True))
    assert ran_in == [threading.get_ident()]
    assert numbers(database) == [1]


def test_at_once_does_not_block_on_another_process(database: Database) -> None:
    """While another process commits, an at-once write queues and the loop stays free."""
    fd = os.open(database.path.with_name("writer.lock"), os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)

    async def run() -> int:
        task = asyncio.create_task(database.write(insert(1), at_once=True))
        await asyncio.sleep(0.05)
        assert not task.done()
        os.close(fd)
        return await task

    assert asyncio.run(run()) == 1
    assert numbers(database) == [1]


def test_cancelled_wait_does_not_undo_the_write(database: Database) -> None:
    """Cancelling tells the caller nothing about the commit, which stands."""

    async def run() -> None:
        with turn_held(database):
            task = asyncio.create_task(database.write(insert(1)))
            await asyncio.sleep(0.02)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await database.write(insert(2))

    asyncio.run(run())
    assert numbers(database) == [1, 2]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(fates=st.lists(st.booleans(), min_size=1, max_size=20), threads=st.integers(1, 4))
def test_state_is_what_the_successful_callers_wrote(
    tmp_path_factory: pytest.TempPathFactory, fates: list[bool], threads: int
) -> None:
    """Whoever got a value has his row, whoever got an exception has none."""
    database = Database(tmp_path_factory.mktemp("db"))
    database.migrate(TABLES)
    told: dict[int, bool] = {}

    def work(mine: int) -> None:
        for n in range(mine, len(fates), threads):
            try:
                database.write_now(insert(n) if fates[n] else fail_after(n))
                told[n] = True
            except ValueError:
                told[n] = False

    workers = [threading.Thread(target=work, args=(mine,)) for mine in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert told == dict(enumerate(fates))
    assert numbers(database) == [n for n, fate in enumerate(fates) if fate]
    database.close()


CHILD = """
import sys
from pathlib import Path
from feedgate.database import Database
database = Database(Path(sys.argv[1]))
def add(tx):
    [(n,)] = tx.execute("SELECT coalesce(max(n), 0) + 1 FROM note")
    tx.execute("INSERT INTO note VALUES(?, ?)", (n, sys.argv[2]))
    return n
for _ in range(int(sys.argv[3])):
    print(database.write_now(add), flush=True)
"""


def child(folder: Path, name: str, count: int) -> subprocess.Popen[str]:
    """A process that appends numbers and prints each once it is durable."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), name, str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_take_turns(database: Database) -> None:
    """Read-modify-write in several processes at once loses no update."""
    folder = database.path.parent
    children = [child(folder, str(i), 60) for i in range(3)]
    for process in children:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert numbers(database) == list(range(1, 181))


@pytest.mark.crash
def test_kill_loses_no_acknowledged_commit(database: Database) -> None:
    """After kill -9 everything that was acknowledged is there, and the lock is free."""
    process = child(database.path.parent, "x", 1_000_000)
    assert process.stdout is not None
    for _ in range(100):
        acknowledged = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split("\n")
    acknowledged = max([acknowledged, *(int(line) for line in rest[:-1] if line)])
    process.wait()
    assert numbers(database)[:acknowledged] == list(range(1, acknowledged + 1))
    assert database.write_now(insert(10_000_000)) == 10_000_000


def test_every_connection_is_wal_and_full(database: Database) -> None:
    """Writer and readers all run WAL with synchronous=FULL; readers cannot write."""
    for connection in (database._writer, database._reader()):
        assert connection.pragma("journal_mode") == "wal"
        assert connection.pragma("synchronous") == 2
    with pytest.raises(errors.CouldNot):
        database.read("INSERT INTO note VALUES(1, '')")


def test_files_are_readable_by_their_owner_only(database: Database) -> None:
    """The database, its WAL and its lock have mode 0600."""
    database.write_now(insert(1))
    modes = {path.name: path.stat().st_mode & 0o777 for path in database.path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert {"feedgate.sqlite", "feedgate.sqlite-wal", "writer.lock"} <= set(modes)


def test_read_together_sees_one_state(database: Database) -> None:
    """Several SELECTs of one read_together do not see a commit in between."""

    def look(tx: Transaction) -> tuple[int, int]:
        [(before,)] = tx.execute("SELECT count(*) FROM note")
        thread = threading.Thread(target=database.write_now, args=(insert(1),))
        thread.start()
        thread.join()
        [(after,)] = tx.execute("SELECT count(*) FROM note")
        return before, after

    assert database.read_together(look) == (0, 0)
    assert numbers(database) == [1]


def test_closed_database_says_so(tmp_path: Path) -> None:
    """After close, which may be called twice, reads and writes raise CouldNot."""
    database = Database(tmp_path)
    database.migrate(TABLES)
    asyncio.run(database.write(insert(1)))
    database.close()
    database.close()
    with pytest.raises(errors.CouldNot):
        database.write_now(insert(2))
    for at_once in (False, True):
        with pytest.raises(errors.CouldNot):
            asyncio.run(asyncio.wait_for(database.write(insert(3), at_once=at_once), 5))
    with pytest.raises(errors.CouldNot):
        database.read("SELECT 1")


def test_migrations_are_applied_once(database: Database) -> None:
    """Migrating again changes nothing and makes no copy."""
    database.write_now(insert(1))
    database.migrate(TABLES)
    assert numbers(database) == [1]
    assert not list(database.path.parent.glob("*.before-*"))


def test_migration_of_existing_tables_copies_the_file_first(tmp_path: Path) -> None:
    """Before tables that exist are changed, the database is copied as it was."""
    database = Database(tmp_path)
    database.migrate(TABLES[:1])
    database.write_now(insert(1))
    database.migrate(TABLES)
    database.write_now(insert(2))
    copy = apsw.Connection(str(tmp_path / "feedgate.sqlite.before-1"))
    assert copy.execute("SELECT n FROM note").fetchall() == [(1,)]
    assert (tmp_path / "feedgate.sqlite.before-1").stat().st_mode & 0o777 == 0o600
    copy.close()
    database.close()


def test_failed_migration_leaves_nothing(database: Database) -> None:
    """All pending migrations apply or none."""
    broken = [
        Migration("other", 1, "CREATE TABLE other(n)"),
        Migration("other", 2, "CREATE TABLE other(n)"),
    ]
    with pytest.raises(apsw.SQLError):
        database.migrate(broken)
    assert not database.read("SELECT 1 FROM sqlite_schema WHERE name = 'other'")
    database.migrate(broken[:1])


def test_newer_format_is_refused_by_name(database: Database) -> None:
    """A folder that a newer feedgate wrote is refused, naming the tables."""
    with pytest.raises(errors.CouldNot, match="`notes` has format 2, this one knows 1"):
        database.migrate(TABLES[:1])


@pytest.mark.parametrize(
    ("version", "sound"),
    [
        ("3.40.1", False),
        ("3.44.5", False),
        ("3.44.6", True),
        ("3.45.0", False),
        ("3.50.7", True),
        ("3.51.2", False),
        ("3.51.3", True),
        ("3.54.1", True),
        ("4.0.0", True),
    ],
)
def test_sqlite_with_the_wal_race_is_refused(version: str, sound: bool) -> None:
    """SQLite 3.7.0 to 3.51.2 can lose commits, but for its backports."""
    if sound:
        _refuse_affected(version)
    else:
        with pytest.raises(errors.CouldNot):
            _refuse_affected(version)


@pytest.mark.crash
def test_torn_end_of_the_wal_loses_only_what_it_held(database: Database, tmp_path: Path) -> None:
    """A WAL whose end was torn off by a power cut opens with every commit before the tear."""
    for n in range(3):
        database.write_now(insert(n))
    torn = tmp_path / "torn"
    torn.mkdir()
    for name in ("feedgate.sqlite", "feedgate.sqlite-wal"):
        shutil.copyfile(database.path.with_name(name), torn / name)
    wal = torn / "feedgate.sqlite-wal"
    os.truncate(wal, wal.stat().st_size - 100)
    reopened = Database(torn)
    assert numbers(reopened) == [0, 1]
    reopened.write_now(insert(5))
    assert numbers(reopened) == [0, 1, 5]
    reopened.close()


def test_unusable_folders_are_refused_in_words(tmp_path: Path) -> None:
    """A folder that is not there, and a file that is no database, are our errors."""
    with pytest.raises(errors.CouldNot, match="No such file"):
        Database(tmp_path / "absent")
    (tmp_path / "feedgate.sqlite").write_bytes(b"not a database, but long enough to be read" * 100)
    with pytest.raises(errors.Integrity):
        Database(tmp_path)


def test_every_apsw_exception_has_a_row() -> None:
    """The map of faults names each exception class that this apsw has."""
    classes = {
        value
        for value in vars(apsw).values()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert set(APSW_FAULTS) == classes
