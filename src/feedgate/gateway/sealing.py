"""Data keys of the data folder itself, and what they seal: the warehouse, the texts of receipts.

Each is made at its first use and wrapped by the KMS key of the first bucket that a stage reads, so
that the rows and what is said about them are protected as the files are. The wrapped key lies in
the table ``sealed_key``; a KMS key that wraps one of them is still in use.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from feedgate.database import Database, Transaction
from feedgate.errors import CouldNot, Integrity, NotFound
from feedgate.gateway.definition import Definition, DefinitionStore
from feedgate.gateway.folder import DataFolder
from feedgate.kms.keyring import Keyring

__all__ = [
    "DEFAULT_KMS_KEY",
    "ReceiptSealer",
    "folder_data_key",
    "receipt_sealer",
    "sealed_under",
    "wrapping_kms_key",
]

# what encrypts buckets that name no KMS key of their own, as `aws/s3` does on AWS
DEFAULT_KMS_KEY: Final = "arn:aws:kms:local:000000000000:alias/feedgate"

_NAMES: Final = {"warehouse": "the warehouse", "receipts": "the texts of receipts"}
_FORMAT: Final = b"\x01"
_NONCE_BYTES: Final = 12


def folder_data_key(
    database: Database, keyring: Keyring, name: str, *, kms_key_arn: Callable[[], str]
) -> bytes:
    """Unwrap the data key called ``name``, making it at the first use under ``kms_key_arn``.

    Returns 32 bytes, the same to every process of the folder.

    Raises:
        CouldNot: the KMS key is disabled, pending deletion or gone from the keyring.
        Integrity: the wrapped key was changed.
    """
    assert name in _NAMES
    context = {"feedgate:sealed": name}  # not the stack's name, which an author may change
    wrapped = _wrapped(database, name)
    if wrapped is None:
        made = keyring.key(kms_key_arn()).generate_data_key(context)

        def insert(tx: Transaction) -> None:
            tx.execute(
                "INSERT INTO sealed_key (name, kms_key_arn, wrapped) VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO NOTHING",  # another process was first: its key counts
                (name, made.kms_key_arn, made.wrapped),
            )

        database.write_now(insert)
        wrapped = _wrapped(database, name)
        assert wrapped is not None
    arn, data_key = wrapped
    try:
        kms_key = keyring.key(arn)
    except NotFound as error:
        raise CouldNot(
            f"{_NAMES[name]} cannot be decrypted: {error.message}",
            hint="restore the keyring from its backup",
        ) from error
    return kms_key.decrypt(data_key, context)


def _wrapped(database: Database, name: str) -> tuple[str, bytes] | None:
    rows = database.read("SELECT kms_key_arn, wrapped FROM sealed_key WHERE name = ?", (name,))
    return (rows[0][0], rows[0][1]) if rows else None


def sealed_under(database: Database, kms_key_arn: str) -> tuple[str, ...]:
    """What of the data folder itself a KMS key still protects, in words."""
    rows = database.read("SELECT name FROM sealed_key WHERE kms_key_arn = ?", (kms_key_arn,))
    found = {row[0] for row in rows}
    return tuple(text for name, text in _NAMES.items() if name in found)


def wrapping_kms_key(definition: Definition) -> str:
    """The KMS key that protects the files which become rows."""
    warehouse = definition.warehouse
    for stage in warehouse.stages.values() if warehouse is not None else ():
        bucket = definition.stack.buckets.get(stage.url.removeprefix("s3://").split("/", 1)[0])
        if bucket is not None and bucket.kms_key_arn is not None:
            return bucket.kms_key_arn
    return DEFAULT_KMS_KEY


class ReceiptSealer:
    """Seals texts that may quote a supplier's file: a ``ledger.sealing.Sealer``. Thread-safe.

    Sealed: format 1 (1 byte) · nonce (12, random) · AES-256-GCM ciphertext · tag (16). The data key
    is unwrapped at the first use and then kept, so a command that shows no text needs no KMS key.
    """

    def __init__(self, database: Database, keyring: Callable[[], Keyring]) -> None:
        self._database = database
        self._keyring = keyring
        self._opened: AESGCM | None = None

    def seal(self, text: bytes, context: bytes) -> bytes:
        """Bound to ``context``. Raises ``CouldNot`` when the KMS key cannot be used."""
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + self._cipher().encrypt(nonce, text, _FORMAT + context)

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """The inverse.

        Raises:
            CouldNot: the KMS key cannot be used.
            Integrity: another context, or changed bytes.
        """
        nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        if sealed[:1] != _FORMAT or len(nonce) != _NONCE_BYTES:
            raise Integrity("the texts of a receipt are damaged")
        try:
            return self._cipher().decrypt(nonce, ciphertext, _FORMAT + context)
        except InvalidTag:
            raise Integrity("the texts of a receipt do not verify") from None

    def _cipher(self) -> AESGCM:
        if self._opened is None:
            key = folder_data_key(
                self._database, self._keyring(), "receipts", kms_key_arn=self._kms_key_arn
            )
            self._opened = AESGCM(key)
        return self._opened

    def _kms_key_arn(self) -> str:
        applied = DefinitionStore(self._database).applied()
        return DEFAULT_KMS_KEY if applied is None else wrapping_kms_key(applied)


def receipt_sealer(folder: DataFolder, database: Database) -> ReceiptSealer:
    """A sealer for a command that may not need it: the keyring is opened at the first use."""
    return ReceiptSealer(database, lambda: Keyring.open(folder.keyring))
