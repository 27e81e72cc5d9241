"""What a row error says is never stored in clear."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from feedgate.database import Database
from feedgate.errors import CouldNot, Integrity, RowError
from feedgate.ledger.receipts import Landing, PipeLoad
from feedgate.ledger.sealing import WITHHELD
from feedgate.ledger.store import MIGRATIONS, Ledger, new_ulid, record_landing

T0 = 1_795_000_000_000
CANARY = "CANARY-Numeric value is not recognized"
ERROR = RowError(CANARY, line=3, character=7, row=2, column_name="AMOUNT", code="100038")


class Reversing:
    """A sealer whose work the test can see; ``usable`` False: its key cannot be used."""

    usable = True

    def seal(self, text: bytes, context: bytes) -> bytes:
        self._need()
        return context + b"|" + text[::-1]

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        self._need()
        if not sealed.startswith(context + b"|"):
            raise Integrity("the texts of a receipt do not verify")
        return sealed[len(context) + 1 :][::-1]

    def _need(self) -> None:
        if not self.usable:
            raise CouldNot("the KMS key `k` is disabled")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database with the ledger's tables and one landing."""
    made = Database(tmp_path)
    made.migrate(MIGRATIONS)
    made.write_now(lambda tx: record_landing(tx, LANDING))
    yield made
    made.close()


LANDING = Landing(
    landing_id=new_ulid(T0, bytes(10)),
    bucket="landing",
    key="acme/1.csv",
    version_id="v1",
    object_id="object-1",
    size=1,
    sha256="ab" * 32,
    etag="etag",
    kms_key_arn=None,
    user_name="acme",
    session_id="9ca9a0e1cec6ad9d",
    ssh_key_fingerprint="SHA256:abc",
    client_version="SSH-2.0-OpenSSH_9.6",
    source_ip="192.0.2.7",
    path="/1.csv",
    landed_at_ms=T0,
)
FAILED = PipeLoad(
    LANDING.landing_id, "DB.S.P", "DB.S.T", "LOAD_FAILED", errors_seen=1, errors=(ERROR,)
)


def only_load(ledger: Ledger) -> PipeLoad:
    """The landing's load as a receipt shows it."""
    found = ledger.receipt(LANDING.landing_id)
    assert found is not None
    [load] = found.loads
    return load


def stored(database: Database) -> bytes:
    """Everything in the table of loads."""
    return repr(database.read("SELECT * FROM loads")).encode()


def test_texts_are_sealed_and_come_back(database: Database) -> None:
    """With a sealer an error comes back whole, and its text is nowhere in the table."""
    ledger = Ledger(database, sealer=Reversing())
    ledger.record([FAILED])
    assert only_load(ledger) == FAILED
    assert CANARY.encode() not in stored(database)
    assert ledger.receipts(10)[0].loads == (FAILED,)


def test_without_a_sealer_only_positions_are_kept_and_shown(database: Database) -> None:
    """No sealer: line, character, row, column and code stay, the text is withheld."""
    from dataclasses import replace

    plain = Ledger(database)
    bare = replace(FAILED, errors=(replace(ERROR, message=WITHHELD),))
    plain.record([FAILED])
    assert only_load(plain) == bare
    assert CANARY.encode() not in stored(database)
    Ledger(database, sealer=Reversing()).record([FAILED])
    assert only_load(plain) == bare


def test_an_unusable_key_leaves_positions_and_the_reason(database: Database) -> None:
    """Reading tells why there is no text; recording is not held up and keeps the positions."""
    sealer = Reversing()
    ledger = Ledger(database, sealer=sealer)
    ledger.record([FAILED])
    sealer.usable = False
    load = only_load(ledger)
    assert load.errors_sealed == "the KMS key `k` is disabled"
    assert [(error.line, error.message) for error in load.errors] == [(3, WITHHELD)]
    ledger.record([FAILED])
    sealer.usable = True
    assert [error.message for error in only_load(ledger).errors] == [WITHHELD]


def test_texts_are_bound_to_their_landing_and_pipe(database: Database) -> None:
    """Sealed texts that were moved to another pipe's row are not shown as that pipe's."""
    ledger = Ledger(database, sealer=Reversing())
    ledger.record([FAILED])
    database.write_now(lambda tx: tx.execute("UPDATE loads SET pipe = 'DB.S.OTHER'"))
    assert only_load(ledger).errors_sealed == "the texts of a receipt do not verify"


def test_rows_of_before_are_read(database: Database) -> None:
    """A row that was written before texts were sealed still shows them."""
    Ledger(database).record([FAILED])
    text = '[{"message":"old text","line":3}]'
    database.write_now(lambda tx: tx.execute("UPDATE loads SET errors = ?", (text,)))
    assert only_load(Ledger(database)).errors == (RowError("old text", 3),)
