"""The ledger in a real database: what is pending, receipts, loads, renames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedgate.database import Database
from feedgate.errors import Conflict, RowError, UsageError
from feedgate.ledger.receipts import Landing, PipeLoad, Receipt
from feedgate.ledger.store import (
    MIGRATIONS,
    Ledger,
    new_ulid,
    origin_of_object,
    record_landing,
)

T0 = 1_795_000_000_000


def landing(number: int, **changes: object) -> Landing:
    """The ``number``-th file of a supplier."""
    made = Landing(
        landing_id=new_ulid(T0 + number, number.to_bytes(10, "big")),
        bucket="landing",
        key=f"acme/{number}.csv",
        version_id=f"v{number}",
        object_id=f"object-{number}",
        size=number,
        sha256="ab" * 32,
        etag='"etag"',
        kms_key_arn=None,
        user_name="acme",
        session_id="9ca9a0e1cec6ad9d",
        ssh_key_fingerprint="SHA256:abc",
        client_version="SSH-2.0-OpenSSH_9.6",
        source_ip="192.0.2.7",
        path=f"/{number}.csv",
        landed_at_ms=T0 + number,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def load(of: Landing, pipe: str = "DB.S.P", **changes: object) -> PipeLoad:
    """A pipe's success with a landing."""
    made = PipeLoad(of.landing_id, pipe, "DB.S.T", "LOADED", rows_parsed=3, rows_loaded=3)
    return replace(made, **changes)  # type: ignore[arg-type]


class NoSecret:
    """A sealer that hides nothing; what is hidden from whom is tested in ``test_sealing``."""

    def seal(self, text: bytes, context: bytes) -> bytes:
        return text

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        return sealed


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database with the ledger's tables."""
    made = Database(tmp_path)
    made.migrate(MIGRATIONS)
    yield made
    made.close()


@pytest.fixture
def ledger(database: Database) -> Ledger:
    """A ledger whose clock stands still."""
    return Ledger(database, sealer=NoSecret(), now=lambda: T0 / 1000)


def write(database: Database, *landings: Landing) -> None:
    """Commit landings one after another."""
    for each in landings:
        database.write_now(lambda tx, each=each: record_landing(tx, each))


def test_pending_are_oldest_commit_first_until_finished(database: Database, ledger: Ledger) -> None:
    """The loader sees landings in commit order, whatever their ids' clocks say, and once."""
    first, second, third = landing(30), landing(10), landing(20)
    write(database, first, second, third)
    assert ledger.pending(2) == [first, second]
    ledger.finish(first.landing_id, third.landing_id)
    assert ledger.pending(10) == [second]
    ledger.finish(second.landing_id)
    ledger.finish(second.landing_id)
    assert ledger.pending(10) == []


def test_objects_of_pending_landings_are_wanted(database: Database, ledger: Ledger) -> None:
    """Garbage collection keeps the bytes of what no pipe was offered yet."""
    write(database, landing(1), landing(2))
    ledger.finish(landing(1).landing_id)
    assert set(ledger.wanted(["object-1", "object-2", "object-3"])) == {"object-2"}
    assert set(ledger.wanted([])) == set()


def test_objects_that_await_a_decision_are_wanted(database: Database, ledger: Ledger) -> None:
    """What a pipe would not load by itself is kept until somebody decided, its renames included."""
    waits, done = landing(1), landing(2)
    renamed = landing(
        3, kind="rename", object_id=waits.object_id, origin_landing_id=waits.landing_id
    )
    write(database, waits, done, renamed)
    every = [waits.object_id, done.object_id]
    ledger.record(
        [load(waits, "DB.S.P", status="AWAITING_DECISION"), load(waits, "DB.S.Q"), load(done)],
        finished=[waits.landing_id, done.landing_id, renamed.landing_id],
    )
    assert set(ledger.wanted(every)) == {waits.object_id}
    ledger.record([load(waits, "DB.S.P", status="LOADED")])
    assert set(ledger.wanted(every)) == set()


def test_directory_marker_is_never_pending(database: Database, ledger: Ledger) -> None:
    """MKDIR leaves a landing for the record that no pipe is offered and no list shows."""
    write(database, landing(1, kind="mkdir", key="acme/in/"))
    assert ledger.pending(10) == []
    assert ledger.receipts(10) == []
    assert len(ledger.receipts(10, kinds=("mkdir",))) == 1


def test_pending_uses_its_index(database: Database, ledger: Ledger) -> None:
    """Polling costs an index probe, however many landings lie in the table."""
    plan = database.read(
        "EXPLAIN QUERY PLAN SELECT landing_id FROM landings"
        " WHERE offered_at_ms IS NULL ORDER BY seq LIMIT 10"
    )
    assert "landings_pending" in str(plan)
    assert "TEMP B-TREE" not in str(plan)


def test_landing_is_written_once(database: Database) -> None:
    """A landing id cannot be recorded twice."""
    write(database, landing(1))
    with pytest.raises(Conflict):
        write(database, landing(1, key="other"))


def test_receipt_holds_the_landing_and_its_loads(database: Database, ledger: Ledger) -> None:
    """Loads come back as recorded, row errors included; a repeated load replaces the first."""
    one = landing(1, kms_key_arn="arn:aws:kms:us-east-1:0:key/k", path="/ü\n\x1b.csv")
    write(database, one)
    assert ledger.receipt(one.landing_id) == Receipt(one, (), offered=False)
    error = RowError(
        "not a number", line=3, character=7, row=2, column_name="AMOUNT", code="100038"
    )
    failed = load(one, status="LOAD_FAILED", rows_loaded=0, errors_seen=1, errors=(error,))
    good = load(one, "DB.S.Q", loaded_at_ms=T0 + 5, attempts=2, message="second try")
    ledger.record([failed, good], finished=[one.landing_id])
    assert ledger.receipt(one.landing_id) == Receipt(one, (failed, good))
    ledger.record([load(one)])
    assert ledger.receipt(one.landing_id) == Receipt(one, (load(one), good))


def test_receipts_are_listed_newest_first_by_page(database: Database, ledger: Ledger) -> None:
    """Paging by the last id of the page before shows every receipt once."""
    landings = [landing(number) for number in range(25)]
    write(database, *landings)
    seen: list[Landing] = []
    before: str | None = None
    while page := ledger.receipts(10, before=before):
        seen += [item.landing for item in page]
        before = page[-1].landing.landing_id
    assert seen == landings[::-1]


def test_receipts_are_filtered_by_user_and_status(database: Database, ledger: Ledger) -> None:
    """User and status narrow the list; PENDING shows what no pipe was offered yet."""
    one, two, three = landing(1), landing(2, user_name="bolt"), landing(3)
    write(database, one, two, three)
    ledger.record([load(one), load(two, status="LOAD_FAILED")], finished=map(_id, (one, two)))
    assert _numbers(ledger.receipts(10, user_name="bolt")) == [2]
    assert _numbers(ledger.receipts(10, status="LOADED")) == [1]
    assert _numbers(ledger.receipts(10, status="LOAD_FAILED")) == [2]
    assert _numbers(ledger.receipts(10, status="PENDING")) == [3]
    assert ledger.counts() == {"LANDINGS": 3, "PENDING": 1, "LOADED": 1, "LOAD_FAILED": 1}


def test_beginning_of_an_id_is_enough_where_it_is_unique(
    database: Database, ledger: Ledger
) -> None:
    """A unique beginning finds the receipt in either case; a shared one names two that match."""
    one, two = landing(1), landing(2)
    write(database, one, two)
    for text in (one.landing_id, one.landing_id[:-1].lower(), one.landing_id[:10]):
        found = ledger.receipt(text)
        assert found is not None
        assert found.landing == one
    with pytest.raises(UsageError, match="several receipts"):
        ledger.receipt(one.landing_id[:9])
    for text in ("", "7", one.landing_id + "0", "%", "U1"):
        assert ledger.receipt(text) is None


def test_rename_belongs_to_the_landing_that_brought_the_bytes(
    database: Database, ledger: Ledger
) -> None:
    """Origin, loads and successor are found through any number of renames."""
    first = landing(1)
    write(database, first)
    origin = (first.landing_id, False)
    assert database.write_now(lambda tx: origin_of_object(tx, "object-1")) == origin
    assert database.write_now(lambda tx: origin_of_object(tx, "object-9")) == (None, False)
    second = landing(
        2, object_id="object-1", kind="rename", origin_landing_id=first.landing_id, key="b"
    )
    third = landing(
        3, object_id="object-1", kind="rename", origin_landing_id=first.landing_id, key="c"
    )
    write(database, second, third, landing(4))
    assert database.write_now(lambda tx: origin_of_object(tx, "object-1")) == origin
    ledger.record([load(first), load(second, "DB.S.Q")])
    for each in (first, second, third):
        assert {item.pipe for item in ledger.family_loads(each)} == {"DB.S.P", "DB.S.Q"}
    assert ledger.successor(first) == third
    assert ledger.successor(second) == third
    assert ledger.successor(third) is None
    assert ledger.successor(landing(4)) is None


@given(
    first=st.tuples(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10)),
    second=st.tuples(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10)),
)
def test_ulids_sort_by_time_then_randomness(
    first: tuple[int, bytes], second: tuple[int, bytes]
) -> None:
    """Text order of ULIDs is the order of what they were made of."""
    assert (new_ulid(*first) < new_ulid(*second)) == (first < second)
    assert len(new_ulid(*first)) == 26


def test_ulid_of_the_specification() -> None:
    """The specification's own example decodes to the time that we encode."""
    assert new_ulid(1_469_918_176_385, bytes(10)).startswith("01ARYZ6S41")
    assert new_ulid(2**48 - 1, b"\xff" * 10) == "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"


def _id(item: Landing) -> str:
    return item.landing_id


def _numbers(receipts: object) -> list[int]:
    return [item.landing.size for item in receipts]  # type: ignore[attr-defined]


def test_no_pipe_is_offered_a_partial_upload(database: Database) -> None:
    """What a lost connection left has a receipt, and the loader never sees it."""
    partial = landing(1, is_partial=True)
    write(database, partial, landing(2))
    assert [item.landing_id for item in Ledger(database).pending(10)] == [landing(2).landing_id]
    found = Ledger(database).receipt(partial.landing_id)
    assert found is not None
    assert (found.offered, bool(found.landing.is_partial)) == (True, True)
    assert database.write_now(lambda tx: origin_of_object(tx, partial.object_id)) == (
        partial.landing_id,
        True,
    )
