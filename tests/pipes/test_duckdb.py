"""The warehouse on DuckDB: tables, loads with their history in one commit, encryption, sandbox."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pytest

from feedgate.errors import CouldNot, DefinitionError, Integrity, LoadError, RowError, UsageError
from feedgate.limits import LOAD_ERRORS_KEPT_MAX
from feedgate.pipes import duckdb_faults, duckdb_load, duckdb_query
from feedgate.pipes.duckdb import DuckDBWarehouse
from feedgate.pipes.duckdb_schema import database_of_file, file_of_database
from feedgate.pipes.warehouse import LoadRequest, OutOfMemory


def _kit() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "warehouse_kit", Path(__file__).with_name("warehouse_kit.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


kit = _kit()
HEADER = b"id,customer,amount,at\n"
GOOD = HEADER + b'1,"Mu,ller",10.005,2026-01-02 03:04:05\n2,,,\n'
BAD = HEADER + b"1,a,1,\n2,b,x,\n,c,3,\n4,much too long,4,\n5,e\n6,f,6,2026-01-01\n"


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[DuckDBWarehouse]:
    """An empty warehouse."""
    opened = DuckDBWarehouse(tmp_path / "warehouse", kit.KEY)
    opened.apply(kit.declared())
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBWarehouse]:
    """A warehouse with two orders, for what changes nothing."""
    opened = DuckDBWarehouse(tmp_path_factory.mktemp("asked"), kit.KEY)
    opened.apply(kit.declared())
    kit.load(opened, kit.declared(), "skipping", "L1", GOOD)
    yield opened
    opened.close()


def rows(warehouse: DuckDBWarehouse, sql: str) -> list[tuple[object, ...]]:
    """What a query gives."""
    return list(warehouse.query(sql).rows)


# -- loading ------------------------------------------------------------------------------------


def test_load(warehouse: DuckDBWarehouse) -> None:
    """A clean file's rows are visible, converted, with the default of the column left out."""
    result = kit.load(warehouse, kit.declared(), "skipping", "L1", GOOD)
    assert (result.status, result.rows_parsed, result.rows_loaded) == ("LOADED", 2, 2)
    assert (result.errors_seen, result.message, result.errors) == (0, None, ())
    assert rows(warehouse, "SELECT * FROM orders ORDER BY id") == [
        (1, "Mu,ller", Decimal("10.01"), "2026-01-02 03:04:05", "sftp"),
        (2, None, None, None, "sftp"),
    ]


FAULTS = (
    RowError("Numeric value 'x' is not recognized", 3, 5, 2, '"ORDERS"["AMOUNT":3]', "100038"),
    RowError("NULL result in a non-nullable column", 4, 1, 3, '"ORDERS"["ID":1]', "100072"),
    RowError(
        "User character length limit (10) exceeded by string 'much too long'",
        5,
        3,
        4,
        '"ORDERS"["CUSTOMER":2]',
        "100074",
    ),
    RowError(
        "Number of columns in file (2) does not match that of the corresponding table (4), use file"
        " format option error_on_column_count_mismatch=false to ignore this error",
        6,
        4,
        5,
        '"ORDERS"["CUSTOMER":2]',
        "100080",
    ),
)


def test_skip_file(warehouse: DuckDBWarehouse) -> None:
    """ON_ERROR = SKIP_FILE: one bad record and no row is loaded; every error is named."""
    result = kit.load(warehouse, kit.declared(), "skipping", "L1", BAD)
    assert (result.status, result.rows_parsed, result.rows_loaded) == ("LOAD_FAILED", 6, 0)
    assert result.errors == FAULTS
    assert result.errors_seen == 4
    assert rows(warehouse, "SELECT count(*) FROM orders") == [(0,)]


def test_continue(warehouse: DuckDBWarehouse) -> None:
    """ON_ERROR = CONTINUE: the good records are loaded, the others named likewise."""
    result = kit.load(warehouse, kit.declared(), "continuing", "L1", BAD)
    assert (result.status, result.rows_parsed, result.rows_loaded) == ("PARTIALLY_LOADED", 6, 2)
    assert result.errors == FAULTS
    assert rows(warehouse, "SELECT id FROM orders ORDER BY id") == [(1,), (6,)]


def test_nothing_to_load(warehouse: DuckDBWarehouse) -> None:
    """An empty file is loaded; one of which no record is good has failed, under CONTINUE too."""
    of = kit.declared()
    assert kit.load(warehouse, of, "skipping", "L1", b"").status == "LOADED"
    assert kit.load(warehouse, of, "continuing", "L2", HEADER + b"x,,,\n").status == "LOAD_FAILED"


def test_transformation_and_json(warehouse: DuckDBWarehouse) -> None:
    """SELECT over fields and over JSON; records that DuckDB's JSON refuses are errors."""
    of = kit.declared()
    assert kit.load(warehouse, of, "chosen", "L1", b"ab,x,7,z\n").status == "LOADED"
    assert rows(warehouse, "SELECT id, customer, source FROM orders") == [(7, "AB", "sftp")]
    lines = b'{"id":"a","n":1.10}\n{"n":2}\n{"id":"\\ud800"}\n{bad\n{"id":"b"}\n'
    result = kit.load(warehouse, of, "jsons", "L2", lines)
    assert (result.rows_loaded, result.errors_seen) == (2, 3)
    assert [(error.line, error.row) for error in result.errors] == [(2, 2), (3, 3), (4, 4)]
    assert rows(warehouse, "SELECT id, payload, file, row_number FROM events ORDER BY id") == [
        ("a", '{"id":"a","n":1.10}', "in/L2", 1),
        ("b", '{"id":"b"}', "in/L2", 5),
    ]


def test_second_load_of_a_landing_is_refused(warehouse: DuckDBWarehouse) -> None:
    """The same (pipe, landing) again changes nothing and gives the recorded result."""
    of = kit.declared()
    first = kit.load(warehouse, of, "skipping", "L1", GOOD)
    failed = kit.load(warehouse, of, "skipping", "L2", BAD)
    assert kit.load(warehouse, of, "skipping", "L1", GOOD) == first
    assert kit.load(warehouse, of, "skipping", "L2", GOOD) == failed
    assert rows(warehouse, "SELECT count(*) FROM orders") == [(2,)]
    renamed = LoadRequest(
        kit.pipe(of, "skipping"),
        kit.landing("L3", "in/other", GOOD, kind="rename", origin_landing_id="L1"),
        [GOOD],
        lambda: kit.NOW,
    )
    assert warehouse.load(renamed) == first


def test_primary_key_is_what_refuses(
    warehouse: DuckDBWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the look into the history the constraint still holds, and the rows roll back."""
    of = kit.declared()
    first = kit.load(warehouse, of, "skipping", "L1", GOOD)
    recorded = duckdb_load._recorded
    asked: list[int] = []

    def blind_once(*arguments: Any) -> Any:
        asked.append(1)
        return recorded(*arguments) if len(asked) > 1 else None

    monkeypatch.setattr(duckdb_load, "_recorded", blind_once)
    assert kit.load(warehouse, of, "skipping", "L1", GOOD) == first
    assert len(asked) == 2
    assert rows(warehouse, "SELECT count(*) FROM orders") == [(2,)]


def test_two_pipes_load_one_landing(warehouse: DuckDBWarehouse) -> None:
    """Another pipe has a history of its own."""
    of = kit.declared()
    kit.load(warehouse, of, "skipping", "L1", GOOD)
    kit.load(warehouse, of, "continuing", "L1", GOOD)
    assert rows(warehouse, "SELECT count(*) FROM orders") == [(4,)]


def test_history(warehouse: DuckDBWarehouse) -> None:
    """The history knows the landing's result, and the bytes last loaded under its key."""
    of = kit.declared()
    orders = kit.pipe(of, "skipping")
    first = kit.landing("L1", "in/a.csv", GOOD)
    assert warehouse.history(orders, first).result is None
    result = warehouse.load(LoadRequest(orders, first, [GOOD], lambda: kit.NOW))
    again = warehouse.history(orders, first)
    assert (again.result, again.loaded_sha256) == (result, None)
    later = warehouse.history(orders, kit.landing("L2", "in/a.csv", BAD))
    assert (later.result, later.loaded_sha256) == (None, first.sha256)
    assert warehouse.history(kit.pipe(of, "continuing"), first).result is None
    failed = kit.landing("L3", "in/b.csv", BAD)
    warehouse.load(LoadRequest(orders, failed, [BAD], lambda: kit.NOW))
    assert warehouse.history(orders, kit.landing("L4", "in/b.csv", GOOD)).loaded_sha256 is None


def test_damage_while_reading_leaves_nothing(warehouse: DuckDBWarehouse) -> None:
    """An object that stops verifying half way leaves no row and no history."""

    def chunks() -> Iterable[bytes]:
        yield GOOD
        raise Integrity("segment 2 does not verify")

    of = kit.declared()
    orders, first = kit.pipe(of, "continuing"), kit.landing("L1", "in/a.csv", GOOD)
    with pytest.raises(Integrity):
        warehouse.load(LoadRequest(orders, first, chunks(), lambda: kit.NOW))
    assert rows(warehouse, "SELECT count(*) FROM orders") == [(0,)]
    assert warehouse.history(orders, first).result is None
    assert warehouse.load(LoadRequest(orders, first, [GOOD], lambda: kit.NOW)).rows_loaded == 2


def test_file_that_cannot_be_decoded(warehouse: DuckDBWarehouse) -> None:
    """A damaged gzip is a failed load, recorded; none of its rows stay, under CONTINUE neither."""
    of = kit.declared()
    result = kit.load(warehouse, of, "continuing", "L1", b"\x1f\x8b" + b"\0" * 40)
    assert (result.status, result.rows_loaded) == ("LOAD_FAILED", 0)
    assert result.message is not None
    assert result.message.startswith("the gzip file is damaged")
    assert kit.load(warehouse, of, "continuing", "L1", GOOD) == result


def test_errors_are_counted_beyond_what_is_kept(warehouse: DuckDBWarehouse) -> None:
    """All errors are counted, the first hundred kept, in file order."""
    lines = b"".join(b"%d,a,x,\n" % n if n % 2 else b"%d,a\n" % n for n in range(1, 1001))
    result = kit.load(warehouse, kit.declared(), "continuing", "L1", HEADER + lines)
    assert (result.rows_parsed, result.errors_seen) == (1000, 1000)
    assert [error.row for error in result.errors] == list(range(1, LOAD_ERRORS_KEPT_MAX + 1))


def test_many_batches(warehouse: DuckDBWarehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of many batches is one transaction; an error in the last one undoes the first."""
    monkeypatch.setattr("feedgate.pipes.csv.LOAD_BATCH_ROWS", 10)
    lines = HEADER + b"".join(b'%d,"a",1,\n' % n for n in range(100))
    of = kit.declared()
    assert kit.load(warehouse, of, "skipping", "L1", lines).rows_loaded == 100
    failed = kit.load(warehouse, of, "skipping", "L2", lines + b"x,a,1,\n100,a,1,\ny,a,1,\n")
    assert [(error.row, error.line) for error in failed.errors] == [(101, 102), (103, 104)]
    assert rows(warehouse, "SELECT count(*) FROM orders") == [(100,)]


def test_fence(tmp_path: Path) -> None:
    """A loader whose pipe was taken over commits nothing."""
    of = kit.declared()
    warehouse = DuckDBWarehouse(tmp_path / "w", kit.KEY)
    warehouse.apply(of)
    connection = warehouse._ready()
    connection.execute("UPDATE landing._FEEDGATE.fence SET epoch = epoch + 1")
    with pytest.raises(CouldNot, match="taken over"):
        kit.load(warehouse, of, "skipping", "L1", GOOD)
    assert rows(warehouse, "SELECT count(*) FROM orders") == [(0,)]
    warehouse.close()
    warehouse = DuckDBWarehouse(tmp_path / "w", kit.KEY)
    warehouse.apply(of)
    assert kit.load(warehouse, of, "skipping", "L1", GOOD).status == "LOADED"
    warehouse.close()


KILLED = """
import importlib.util, os, signal, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("kit", sys.argv[1])
kit = importlib.util.module_from_spec(spec); spec.loader.exec_module(kit)
from feedgate.pipes.duckdb import DuckDBWarehouse
warehouse = DuckDBWarehouse(Path(sys.argv[2]), kit.KEY)
of = kit.declared(); warehouse.apply(of)
data = b"id,customer,amount,at\\n" + b"".join(b"%d,a,1,\\n" % n for n in range(1000))
kit.load(warehouse, of, "skipping", "before", data)
def kill(): os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[3] == "before-commit":
    kit.load(warehouse, of, "skipping", "L1", data, before_commit=kill)
kit.load(warehouse, of, "skipping", "L1", data)
kill()
"""


@pytest.mark.crash
@pytest.mark.parametrize(("point", "loaded"), [("before-commit", False), ("after-commit", True)])
def test_killed(tmp_path: Path, point: str, loaded: bool) -> None:
    """SIGKILL before the commit leaves nothing, after it everything; a repeat loads it once."""
    folder = tmp_path / "w"
    arguments = [str(Path(__file__).with_name("warehouse_kit.py")), str(folder), point]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    warehouse = DuckDBWarehouse(folder, kit.KEY)
    of = kit.declared()
    warehouse.apply(of)
    count = "SELECT count(*) FROM orders"
    assert rows(warehouse, count) == [(2000 if loaded else 1000,)]
    data = HEADER + b"".join(b"%d,a,1,\n" % n for n in range(1000))
    assert kit.load(warehouse, of, "skipping", "L1", data).rows_loaded == 1000
    assert rows(warehouse, count) == [(2000,)]
    warehouse.close()


# -- files --------------------------------------------------------------------------------------


def test_nothing_in_clear_on_disk(tmp_path: Path) -> None:
    """No value of a row, no object's name and no refused value is in the files' bytes."""
    canary = b"xqzcanary"
    warehouse = DuckDBWarehouse(tmp_path / "w", kit.KEY)
    of = kit.declared()
    warehouse.apply(of)
    line = b"%d," + canary + b",1,\n"
    kit.load(
        warehouse, of, "skipping", "xqzcanary-1", HEADER + b"".join(line % n for n in range(9))
    )
    kit.load(warehouse, of, "continuing", "L2", HEADER + b"1,a," + canary + b",\n")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wal" for path in files)
    assert all(canary not in path.read_bytes() for path in files)
    assert all(path.stat().st_mode & 0o077 == 0 for path in files if path.suffix == ".duckdb")
    warehouse.close()
    assert all(canary not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_another_key_does_not_open(tmp_path: Path) -> None:
    """The file opens with its own key only, and the message shows no key."""
    warehouse = DuckDBWarehouse(tmp_path / "w", kit.KEY)
    warehouse.apply(kit.declared())
    warehouse.close()
    with pytest.raises(CouldNot, match="made with another") as caught:
        DuckDBWarehouse(tmp_path / "w", b"x" * 32)
    assert b"x".hex() * 4 not in str(caught.value)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A database that another process has open is refused, and opens when that has ended."""
    code = (
        "import sys, time; from pathlib import Path; from feedgate.pipes.duckdb import *;"
        "from feedgate.stack.warehouse_sql import parse_warehouse;"
        "w = DuckDBWarehouse(Path(sys.argv[1]), b'k' * 32);"
        "w.apply(parse_warehouse([('w', 'CREATE DATABASE landing')], {}));"
        "print('open', flush=True); time.sleep(60)"
    )
    folder = tmp_path / "w"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(CouldNot, match="open in another process"):
            DuckDBWarehouse(folder, kit.KEY)
        holder.kill()
    DuckDBWarehouse(folder, kit.KEY).close()


def test_opens_fast(tmp_path: Path) -> None:
    """Opening and applying what is there already is quick (150 ms; threefold allowed here)."""
    warehouse = DuckDBWarehouse(tmp_path / "w", kit.KEY)
    warehouse.apply(kit.declared())
    warehouse.close()
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        warehouse = DuckDBWarehouse(tmp_path / "w", kit.KEY)
        warehouse.apply(kit.declared())
        taken.append(time.perf_counter() - began)
        warehouse.close()
    assert min(taken) < 0.45


@pytest.mark.parametrize("name", ["LANDING", "landing", "my db", "../x", "Ä.B", "a" * 100])
def test_file_names(name: str) -> None:
    """A database's file name is safe, and says which database it is."""
    file_name = file_of_database(name)
    assert "/" not in file_name
    assert file_name.isascii()
    assert database_of_file(file_name) == name
    assert database_of_file(file_name.upper()) is None
    assert database_of_file("notes.txt") is None
    assert database_of_file("hex-zz.duckdb") is None


# -- tables -------------------------------------------------------------------------------------

HEAD = "CREATE DATABASE landing; CREATE SCHEMA landing.raw;"


def test_columns_can_be_added(tmp_path: Path) -> None:
    """A new column joins in its place; what was loaded stays; a wider NUMBER is no loss."""
    warehouse = DuckDBWarehouse(tmp_path / "w", kit.KEY)
    of = kit.declared()
    warehouse.apply(of)
    kit.load(warehouse, of, "skipping", "L1", GOOD)
    changed = kit.declared(
        kit.SQL.replace(
            "id NUMBER(12,0) NOT NULL,", "id NUMBER(14,2) NOT NULL, kind VARCHAR DEFAULT 'k',"
        )
    )
    warehouse.apply(changed)
    assert rows(warehouse, "SELECT * FROM orders WHERE customer IS NOT NULL") == [
        (Decimal("1.00"), "k", "Mu,ller", Decimal("10.01"), "2026-01-02 03:04:05", "sftp")
    ]
    kit.load(warehouse, changed, "skipping", "L2", GOOD)
    assert rows(warehouse, "SELECT count(*) FROM orders") == [(4,)]
    warehouse.close()


@pytest.mark.parametrize(
    "kind", ["NUMBER(8,2)", "VARCHAR", "TIMESTAMP_NTZ"], ids=["narrower", "text", "time"]
)
def test_a_column_with_values_keeps_its_type(tmp_path: Path, kind: str) -> None:
    """A change that cannot keep every value is a finding with its place; the rest is taken up."""
    warehouse = DuckDBWarehouse(tmp_path / "w", kit.KEY)
    of = kit.declared()
    assert warehouse.apply(of).refused == ()
    kit.load(warehouse, of, "skipping", "L1", GOOD)
    before = rows(warehouse, "SELECT * FROM orders")
    changed = kit.declared(
        kit.SQL.replace("amount NUMBER(12,2)", f"amount {kind}, more VARCHAR DEFAULT 'm'")
    )
    for _again in range(2):  # the second time as after a restart
        applied = warehouse.apply(changed)
        (finding,) = applied.refused
        assert "without loss" in finding.message
        assert finding.source is not None
        assert finding.source.line
        assert rows(warehouse, "SELECT * EXCLUDE more FROM orders") == before
        assert rows(warehouse, "SELECT DISTINCT more FROM orders") == [("m",)]
    table = applied.declared.tables[kit.pipe(changed, "skipping").copy.table]
    columns = {column.name: column for column in table.columns}
    assert (columns["AMOUNT"].type, columns["AMOUNT"].length) == ("NUMBER", 12)
    kit.load(warehouse, applied.declared, "skipping", "L2", GOOD)
    assert rows(warehouse, "SELECT count(amount) FROM orders") == [(2,)]
    warehouse.close()
    warehouse = DuckDBWarehouse(tmp_path / "w", kit.KEY)
    assert len(warehouse.apply(changed).refused) == 1
    assert warehouse.apply(of).refused == ()
    warehouse.close()


@pytest.mark.parametrize("copied", ["(id, customer, more, at)", ""], ids=["by name", "by place"])
def test_a_pipe_that_needs_the_refused_column(warehouse: DuckDBWarehouse, copied: str) -> None:
    """A pipe that fills a column which cannot be there ends the change: nothing is altered."""
    kit.load(warehouse, kit.declared(), "skipping", "L1", GOOD)
    before = rows(warehouse, "SELECT * FROM orders")
    text = kit.SQL.replace("customer VARCHAR(10),", "customer VARCHAR(10), more DATE NOT NULL,")
    text = text.replace("(id, customer, amount, at)", copied)
    text = text.replace("(id, customer) FROM (", "(id, customer, more) FROM (")
    text = text.replace("UPPER(t.$1)", "UPPER(t.$1), t.$2")
    with pytest.raises(DefinitionError) as caught:
        warehouse.apply(kit.declared(text))
    (finding,) = caught.value.findings
    assert "rows already" in finding.message
    assert finding.source is not None
    assert rows(warehouse, "SELECT * FROM orders") == before


WITHOUT_AMOUNT = kit.SQL.replace(" amount NUMBER(12,2),", "").replace(
    "(id, customer, amount, at)", "(id, customer, source, at)"
)


def test_removed_column_keeps_its_values(warehouse: DuckDBWarehouse) -> None:
    """A column that is declared no more leaves the view; declared again, its values are back."""
    kit.load(warehouse, kit.declared(), "skipping", "L1", GOOD)
    without = kit.declared(WITHOUT_AMOUNT)
    warehouse.apply(without)
    assert warehouse.query("SELECT * FROM orders").columns == ("ID", "CUSTOMER", "AT", "SOURCE")
    kit.load(warehouse, without, "skipping", "L2", HEADER + b"3,c,here,\n")
    warehouse.apply(kit.declared())
    assert rows(warehouse, "SELECT id, amount, source FROM orders ORDER BY id") == [
        (1, Decimal("10.01"), "sftp"),
        (2, None, "sftp"),
        (3, None, "here"),
    ]


def test_a_column_that_comes_back_otherwise_is_left_out(warehouse: DuckDBWarehouse) -> None:
    """Values of a column that was out of the script are not read as another type."""
    kit.load(warehouse, kit.declared(), "skipping", "L1", GOOD)
    warehouse.apply(kit.declared(WITHOUT_AMOUNT))
    otherwise = WITHOUT_AMOUNT.replace(
        "customer VARCHAR(10),", "customer VARCHAR(10), amount DATE,"
    )
    (finding,) = warehouse.apply(kit.declared(otherwise)).refused
    assert "without loss" in finding.message
    assert "AMOUNT" not in warehouse.query("SELECT * FROM orders").columns
    warehouse.apply(kit.declared())
    assert rows(warehouse, "SELECT count(amount) FROM orders") == [(1,)]


def test_column_without_values_may_change_its_type(warehouse: DuckDBWarehouse) -> None:
    """A type may change where there is no value to lose, and back again."""
    as_text = kit.declared(kit.SQL.replace("amount NUMBER(12,2)", "amount VARCHAR"))
    warehouse.apply(as_text)
    warehouse.apply(kit.declared())
    kit.load(warehouse, kit.declared(), "skipping", "L1", HEADER + b"1,a,,\n")
    warehouse.apply(as_text)
    kit.load(warehouse, as_text, "skipping", "L2", HEADER + b"2,b,1.50,\n")
    assert rows(warehouse, "SELECT amount FROM orders ORDER BY id") == [(None,), ("1.50",)]
    (finding,) = warehouse.apply(kit.declared()).refused
    assert "without loss" in finding.message


def test_column_name_may_change_its_case(warehouse: DuckDBWarehouse) -> None:
    """DuckDB ignores a name's case, so that another spelling is the same column."""
    kit.load(warehouse, kit.declared(), "skipping", "L1", GOOD)
    warehouse.apply(kit.declared(kit.SQL.replace("source VARCHAR", '"source" VARCHAR')))
    assert warehouse.query("SELECT * FROM orders").columns[-1] == "source"
    assert rows(warehouse, "SELECT DISTINCT source FROM orders") == [("sftp",)]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("CREATE DATABASE temp;", "cannot be a database's name"),
        ("CREATE DATABASE a; CREATE SCHEMA a._feedgate;", "reserved"),
        (HEAD + 'CREATE TABLE t (a INT); CREATE TABLE "t" (a INT);', "only by case"),
        (HEAD + 'CREATE TABLE t (a INT, "a" INT);', "only by case"),
        (HEAD + "CREATE TABLE t (_feedgate_row INT);", "reserved"),
    ],
)
def test_names_that_duckdb_confuses(tmp_path: Path, sql: str, words: str) -> None:
    """Names that DuckDB keeps for itself or cannot tell apart are refused by name."""
    warehouse = DuckDBWarehouse(tmp_path / "w", kit.KEY)
    with pytest.raises(DefinitionError, match=words):
        warehouse.apply(kit.declared(sql))
    warehouse.close()


def test_a_database_more(tmp_path: Path) -> None:
    """A database declared later opens beside the others; names with dots do not collide."""
    warehouse = DuckDBWarehouse(tmp_path / "w", kit.KEY)
    warehouse.apply(kit.declared())
    kit.load(warehouse, kit.declared(), "skipping", "L1", GOOD)
    more = kit.SQL + (
        'CREATE DATABASE "my db"; CREATE SCHEMA "my db"."a.b";'
        'CREATE TABLE "my db"."a.b".c (x INT);'
        'CREATE SCHEMA "my db"."a"; CREATE TABLE "my db"."a"."b.c" (x INT, y INT);'
    )
    warehouse.apply(kit.declared(more))
    assert rows(warehouse, "SELECT count(*) FROM landing.raw.orders") == [(2,)]
    assert rows(warehouse, 'SELECT count(*) FROM "my db"."a.b".c') == [(0,)]
    assert len(warehouse.query('SELECT * FROM "my db"."a"."b.c"').columns) == 2
    warehouse.close()


# -- queries ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/hostname')",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '/etc/hostname'",
        "SELECT (SELECT count(*) FROM glob('/etc/*'))",
        "WITH a AS (SELECT * FROM read_blob('/etc/hostname')) SELECT * FROM a",
        "SELECT * FROM enable_logging(storage := 'file', storage_path := '/tmp/feedgate-log')",
        "SELECT * FROM query('SELECT 1')",
        "SELECT * FROM query_table('landing._FEED' || 'GATE.load_history')",
        "SELECT * FROM duckdb_secrets()",
        "SELECT write_log('x')",
        "SELECT * FROM landing._feedgate.load_history",
        "DESCRIBE landing._FEEDGATE.load_history",
        "EXPLAIN SELECT * FROM landing._feedgate.load_history",
        "INSERT INTO landing._feedgate.fence VALUES ('x', 1)",
        "EXPLAIN ANALYZE DELETE FROM landing._feedgate.fence",
        "DROP VIEW orders",
        "CREATE TABLE t (a INT)",
        "COPY orders TO '/tmp/feedgate-orders.csv'",
        "ATTACH '/tmp/feedgate.duckdb'",
        "SET memory_limit = '1GB'",
        "PRAGMA version",
        "PRAGMA database_list",
        "PRAGMA show_tables",
        "PRAGMA table_info('orders')",
        "EXPLAIN PRAGMA database_list",
        "SELECT * FROM duckdb_tables",
        "SELECT * FROM duckdb_columns()",
        "SELECT * FROM main.duckdb_views",
        "SELECT * FROM system.main.duckdb_views",
        "DESCRIBE duckdb_views",
        "SELECT (SELECT max(file) FROM pragma_database_list)",
        "SELECT * FROM pragma_database_list()",
        "FROM sqlite_master",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM landing.information_schema.tables",
        "SELECT * FROM pg_catalog.pg_class",
        "SELECT * FROM pg_class",
        "WITH duckdb_tables AS (SELECT 1) SELECT * FROM duckdb_tables",
        "SELECT * FROM (WITH pg_class AS (SELECT 1) FROM pg_class), pg_class",
        "SELECT current_setting('temp_directory')",
        "SELECT \"current_setting\"('temp_directory')",
        "SELECT system.main.current_setting('temp_directory')",
        "SELECT pg_get_viewdef(1)",
        "SELECT pg_sleep(1)",
        "SHOW TABLES FROM landing._feedgate",
        "SELECT " + "+".join(["1"] * 900),
        "SELECT " + "(SELECT " * 300 + "1" + ")" * 300,
        "SELECT '\udc00'",
        "SELECT '\0'",
        "LOAD httpfs",
        "CALL pragma_version()",
        "BEGIN",
        "SELECT 1; SELECT 2",
        "",
        "SELEC 1",
        "SELECT nope FROM orders",
        "SELECT 'x'::INT",
        ") FROM orders; SELECT (1",
    ],
)
def test_queries_refused(asked: DuckDBWarehouse, sql: str) -> None:
    """What is no single SELECT of tables is refused as the asker's fault; all goes on working."""
    with pytest.raises(UsageError) as caught:
        asked.query(sql)
    assert "\n" not in caught.value.message
    assert rows(asked, "SELECT count(*) FROM orders") == [(2,)]


def test_query_results(asked: DuckDBWarehouse) -> None:
    """Names, types and plain values: times in UTC and nested values as text, numbers as numbers."""
    found = asked.query(
        "SELECT 1 AS a, 1 AS a, 2.50::DECIMAL(5,2) AS d, 7::DECIMAL(38,0) AS n,"
        " TIMESTAMPTZ '2026-01-02 03:04:05+02' AS t, DATE '2026-01-02' AS day, [1, NULL] AS l,"
        " encode('é') AS b, NULL AS nothing, true AS yes -- a comment"
    )
    assert found.columns == ("a", "a", "d", "n", "t", "day", "l", "b", "nothing", "yes")
    assert found.types[2:6] == ("DECIMAL(5,2)", "DECIMAL(38,0)", "TIMESTAMP WITH TIME ZONE", "DATE")
    assert found.rows == (
        (
            1,
            1,
            Decimal("2.50"),
            7,
            "2026-01-02 01:04:05+00",
            "2026-01-02",
            "[1,null]",
            "C3A9",
            None,
            True,
        ),
    )
    assert found.truncated is False


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SHOW TABLES", [("EVENTS",), ("ORDERS",)]),
        ("SHOW DATABASES", [("LANDING",)]),
        ("SHOW SCHEMAS", [("LANDING", "PUBLIC"), ("LANDING", "RAW")]),
        ("SELECT count(*) FROM Landing.RAW.orders", [(2,)]),
        ("SELECT count(*) FROM raw.orders o JOIN orders p USING (id)", [(2,)]),
        ("WITH a AS (FROM orders), b AS (FROM a) SELECT count(*) FROM b, a", [(4,)]),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3)"
            " SELECT max(n) FROM r",
            [(3,)],
        ),
        ("SELECT pg_typeof(1)", [("integer",)]),
        ("SHOW ALL TABLES", [("LANDING", "RAW", "EVENTS"), ("LANDING", "RAW", "ORDERS")]),
        ("VALUES (1), (2);", [(1,), (2,)]),
        ("FROM range(2)", [(0,), (1,)]),
        ("WITH a AS (SELECT 3 AS x) SELECT x FROM a", [(3,)]),
    ],
)
def test_queries_allowed(
    asked: DuckDBWarehouse, sql: str, expected: list[tuple[object, ...]]
) -> None:
    """SELECT in all its forms, SHOW and DESCRIBE work; what is ours alone is not listed."""
    assert rows(asked, sql) == expected


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT nope FROM orders", 'Referenced column "nope" not found in FROM clause!'),
        ("SELEC 1", "syntax error at or near"),
        ("SELECT 'x'::INT", "Could not convert string 'x' to INT32"),
    ],
)
def test_faults_of_a_query(asked: DuckDBWarehouse, sql: str, words: str) -> None:
    """DuckDB's sentence stays as it is, and the hint says whose SQL it is."""
    with pytest.raises(UsageError) as caught:
        asked.query(sql)
    assert caught.value.message.startswith(words)
    assert caught.value.hint == "a query is written in DuckDB's SQL"


def test_unknown_table(asked: DuckDBWarehouse) -> None:
    """A table that is not there is named, and nothing that is not the author's is proposed."""
    with pytest.raises(UsageError) as caught:
        asked.query("SELECT * FROM raw.order")
    assert caught.value.message == "there is no table `raw.order` to query"
    assert caught.value.hint == "`SHOW ALL TABLES` lists the tables"


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT * FROM orders WHERE false", ("ID", "CUSTOMER", "AMOUNT", "AT", "SOURCE")),
        ("SELECT 1 AS a, 2 AS b LIMIT 0", ("a", "b")),
    ],
)
def test_empty_result(asked: DuckDBWarehouse, sql: str, columns: tuple[str, ...]) -> None:
    """A result without rows keeps its columns' names and types."""
    found = asked.query(sql)
    assert (found.columns, found.rows) == (columns, ())
    assert len(found.types) == len(columns)


def test_describe_and_explain(asked: DuckDBWarehouse) -> None:
    """DESCRIBE shows the author's columns and not the lineage; EXPLAIN shows a plan."""
    assert [row[0] for row in rows(asked, "DESCRIBE orders")] == [
        "ID",
        "CUSTOMER",
        "AMOUNT",
        "AT",
        "SOURCE",
    ]
    assert rows(asked, "EXPLAIN SELECT 1")


def test_query_bounds(asked: DuckDBWarehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows beyond the bound are cut and said so; a query that takes too long ends."""
    monkeypatch.setattr(duckdb_query, "QUERY_ROWS_MAX", 10)
    found = asked.query("FROM range(1000)")
    assert (len(found.rows), found.truncated) == (10, True)
    cursor = asked._ready().cursor()
    began = time.monotonic()
    with pytest.raises(CouldNot, match="longer than"):
        duckdb_query.run_query(
            cursor, "SELECT count(*) FROM range(1000000000) a, range(1000000000) b", timeout_s=0.2
        )
    assert time.monotonic() - began < 5
    assert duckdb_query.run_query(cursor, "SELECT 1").rows == ((1,),)


def test_query_while_a_database_joins(tmp_path: Path) -> None:
    """Opening anew ends the query that runs, and the next one works."""
    warehouse = DuckDBWarehouse(tmp_path / "w", kit.KEY)
    warehouse.apply(kit.declared())
    faults: list[Exception] = []

    def ask() -> None:
        try:
            warehouse.query("SELECT count(*) FROM range(1000000000) a, range(1000000000) b")
        except CouldNot as error:
            faults.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while not warehouse._asking:
        time.sleep(0.01)
    warehouse.apply(kit.declared(kit.SQL + "CREATE DATABASE more;"))
    asking.join()
    assert len(faults) == 1
    assert [row[0] for row in rows(warehouse, "SHOW DATABASES")] == ["LANDING", "MORE"]
    warehouse.close()


def test_what_spills_is_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query beyond the memory allowed spills, sealed, and leaves no file behind."""
    monkeypatch.setattr("feedgate.pipes.duckdb.WAREHOUSE_MEMORY_MIB", 60)
    warehouse = DuckDBWarehouse(tmp_path / "w", kit.KEY)
    warehouse.apply(kit.declared())
    spilt: list[bytes] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            for path in (tmp_path / "w").glob("spill/*"):
                with contextlib.suppress(OSError):
                    spilt.append(path.read_bytes())

    watching = threading.Thread(target=watch)
    watching.start()
    found = rows(
        warehouse,
        "SELECT max(s) FROM (SELECT 'xqzcanary' || (i * 7919 % 1000003) AS s,"
        " row_number() OVER (ORDER BY hash(i)) AS n FROM range(1500000) r(i) ORDER BY s)"
        " WHERE n > 1",
    )
    ended.set()
    watching.join()
    assert found == [("xqzcanary999999",)]
    assert any(spilt)
    assert not any(b"xqzcanary" in data for data in spilt)
    warehouse.close()
    assert not list((tmp_path / "w").glob("spill/*"))


def test_every_class_of_duckdb_has_its_kind() -> None:
    """Each exception class of DuckDB is in the map, so none is translated by chance."""
    classes = {
        each
        for each in vars(duckdb).values()
        if isinstance(each, type) and issubclass(each, duckdb.Error)
    }
    assert classes == set(duckdb_faults.FAULTS)
    assert isinstance(duckdb_faults.of_data(duckdb.IOException("x")), CouldNot)
    assert isinstance(duckdb_faults.of_data(duckdb.OutOfMemoryException("x")), OutOfMemory)
    refused = duckdb_faults.of_data(duckdb.ConversionException("Could not convert 'secret'"))
    assert isinstance(refused, LoadError)
    assert "secret" not in refused.message
    assert "secret" in refused.errors[0].message


def test_an_unusable_instance_is_opened_again(warehouse: DuckDBWarehouse) -> None:
    """After a fatal fault the next call works on a fresh instance of the same files."""
    of = kit.declared()
    kit.load(warehouse, of, "skipping", "L1", GOOD)
    warehouse._after_fault(duckdb.FatalException("broken"))
    assert rows(warehouse, "SELECT count(*) FROM orders") == [(2,)]
    assert kit.load(warehouse, of, "skipping", "L2", GOOD).status == "LOADED"


def test_imports_stay_light() -> None:
    """The package itself imports neither duckdb nor pyarrow: the CLI's help must stay quick."""
    code = "import sys, feedgate.pipes; print('duckdb' in sys.modules, 'pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
