"""Data keys of the data folder and what they seal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from feedgate.database import Database
from feedgate.errors import CouldNot, Integrity
from feedgate.gateway.folder import DataFolder
from feedgate.gateway.sealing import (
    DEFAULT_KMS_KEY,
    folder_data_key,
    receipt_sealer,
    sealed_under,
)
from feedgate.gateway.services import open_database
from feedgate.kms.keyring import Keyring


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A data folder with a keyring."""
    made = DataFolder.create(tmp_path / "data")
    Keyring.create(made.keyring).ensure(DEFAULT_KMS_KEY, enable_rotation=False, now_ms=0)
    return made


@pytest.fixture
def database(folder: DataFolder) -> Iterator[Database]:
    """Its database."""
    opened = open_database(folder)
    yield opened
    opened.close()


def test_what_one_process_seals_another_unseals(folder: DataFolder, database: Database) -> None:
    """Two sealers of a folder share its data key; equal texts are sealed to different bytes."""
    one, other = receipt_sealer(folder, database), receipt_sealer(folder, database)
    sealed = one.seal(b"text", b"a")
    assert other.unseal(sealed, b"a") == b"text"
    assert one.seal(b"text", b"a") != sealed
    assert sealed_under(database, DEFAULT_KMS_KEY) == ("the texts of receipts",)


def test_changed_or_moved_texts_do_not_unseal(folder: DataFolder, database: Database) -> None:
    """Another context, any changed byte or a cut are refused."""
    sealer = receipt_sealer(folder, database)
    sealed = sealer.seal(b"text", b"a")
    with pytest.raises(Integrity):
        sealer.unseal(sealed, b"b")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(Integrity):
            sealer.unseal(bytes(changed), b"a")
    for length in range(len(sealed)):
        with pytest.raises(Integrity):
            sealer.unseal(sealed[:length], b"a")


def test_the_kms_key_decides(folder: DataFolder, database: Database) -> None:
    """No text without a KMS key that may be used; a keyring that lost it says so."""
    sealed = receipt_sealer(folder, database).seal(b"text", b"a")
    keyring = Keyring.open(folder.keyring)
    keyring.set_enabled(DEFAULT_KMS_KEY, False)
    with pytest.raises(CouldNot, match="is disabled"):
        receipt_sealer(folder, database).unseal(sealed, b"a")
    folder.keyring.unlink()
    with pytest.raises(CouldNot, match="cannot read the keyring"):
        receipt_sealer(folder, database).unseal(sealed, b"a")
    Keyring.create(folder.keyring)
    with pytest.raises(CouldNot, match="the texts of receipts cannot be decrypted"):
        receipt_sealer(folder, database).unseal(sealed, b"a")


def test_a_wrapped_key_is_bound_to_its_name(folder: DataFolder, database: Database) -> None:
    """The warehouse's wrapped key does not pass for that of the receipts."""
    keyring = Keyring.open(folder.keyring)
    folder_data_key(database, keyring, "warehouse", kms_key_arn=lambda: DEFAULT_KMS_KEY)
    database.write_now(lambda tx: tx.execute("UPDATE sealed_key SET name = 'receipts'"))
    with pytest.raises(Integrity):
        folder_data_key(database, keyring, "receipts", kms_key_arn=lambda: DEFAULT_KMS_KEY)
