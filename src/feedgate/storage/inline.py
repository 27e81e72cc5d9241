"""A small object's bytes: put together, hashed and sealed in one go, to lie beside the row."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass

from feedgate.errors import FeedgateError
from feedgate.kms.envelope import DataKey
from feedgate.storage import parts
from feedgate.storage.layers import Beneath, canvas
from feedgate.storage.surroundings import Surroundings
from feedgate.storage.window import Window

__all__ = ["InlineSeal", "SealedInline"]


@dataclass(frozen=True, slots=True)
class SealedInline:
    """Everything of a small object that does not depend on when and as what it lands."""

    data_key: DataKey
    sha256: str
    ciphertext: bytes


class InlineSeal:
    """Seals one upload's held bytes: at its end, or ahead of it while nobody waits."""

    __slots__ = ("_ahead", "_key", "_object_id", "_store", "_tried")

    def __init__(self, store: Surroundings, key: str, object_id: str) -> None:
        self._store = store
        self._key = key
        self._object_id = object_id
        self._ahead: SealedInline | None = None
        self._tried = False

    def try_ahead(self, beneath: Beneath | None, window: Window, size: int) -> None:
        """Seal what is there now, for ``seal`` to find. Never raises.

        Only the first call does anything: many small writes must not cost a try each.
        """
        if not self._tried:
            self._tried = True
            with contextlib.suppress(FeedgateError):  # `seal` will meet it again
                self._ahead = self.seal(beneath, window, size)

    def forget(self) -> None:
        """The bytes change: what was sealed ahead is of no use."""
        self._ahead = None

    def seal(self, beneath: Beneath | None, window: Window, size: int) -> SealedInline:
        """Seal what ``window`` holds over what lies beneath it, under a fresh data key.

        Raises:
            CouldNot: the KMS key is disabled or pending deletion.
        """
        if self._ahead is not None:
            return self._ahead
        plaintext = canvas(beneath, size)
        for offset, piece in window.between(0, size):
            plaintext[offset : offset + len(piece)] = piece
        data_key = self._store.kms.generate_data_key(self._store.context(self._key))
        associated = parts.associated_data(self._object_id, 1)
        ciphertext = parts.seal(data_key.plaintext, associated, plaintext)
        return SealedInline(data_key, hashlib.sha256(plaintext).hexdigest(), ciphertext)
