"""The row of one upload, as the session that writes it changes it: lease, state, end.

There is none until the upload has a file, so a small one costs the database nothing.
"""

from __future__ import annotations

from dataclasses import replace

from feedgate import limits
from feedgate.database import Transaction
from feedgate.errors import CouldNot
from feedgate.kms.envelope import DataKey
from feedgate.storage.partial import (
    Partial,
    PartialState,
    begin_row,
    keep_row,
    save_state,
    state_seal,
)
from feedgate.storage.surroundings import Surroundings

__all__ = ["UploadRow"]

_LEASE_MS = limits.UPLOAD_LEASE_S * 1000


class UploadRow:
    """``user``: who may resume the upload. ``partial``: what was taken over, if anything."""

    def __init__(
        self,
        store: Surroundings,
        key: str,
        *,
        object_id: str,
        owner: str,
        user: str,
        partial: Partial | None,
    ) -> None:
        self.user = user
        self._store = store
        self._key = key
        self._object_id = object_id
        self._owner = owner
        self._row = partial

    @property
    def exists(self) -> bool:
        """Whether there is a row, and so maybe a file."""
        return self._row is not None

    @property
    def partial(self) -> Partial | None:
        """The row as it was written last, if there is one."""
        return self._row

    @property
    def told(self) -> int:
        """The bytes that this session, or one before it, was told to go on from."""
        return self._row.size if self._row is not None else 0

    @property
    def bucket_key(self) -> bool:
        """Whether the data key's encryption context is the bucket's."""
        return self._store.bucket_key_enabled if self._row is None else self._row.bucket_key

    def begin(self, data_key: DataKey, state: PartialState) -> None:
        """Write the row; it comes before the file."""
        store, now_ms = self._store, self._store.now_ms()
        row = Partial(
            object_id=self._object_id,
            bucket=store.bucket,
            key=self._key,
            owner=self._owner,
            lease_until_ms=now_ms + _LEASE_MS,
            kms_key_arn=data_key.kms_key_arn,
            wrapped_key=data_key.wrapped,
            bucket_key=store.bucket_key_enabled,
            user=self.user,
            began_ms=now_ms,
            size=0,
            state=state.text(),
            seal=b"",
        )
        row = replace(row, seal=state_seal(data_key.plaintext, row))
        store.database.write_now(lambda tx: begin_row(tx, row))
        self._row = row

    def save(self, data_key: DataKey, state: PartialState) -> None:
        """Say anew where the bytes lie. Raises ``CouldNot``: the upload was given up."""
        assert self._row is not None
        changed = replace(self._row, state=state.text())
        changed = replace(changed, seal=state_seal(data_key.plaintext, changed))
        if not self._store.database.write_now(lambda tx: save_state(tx, changed)):
            raise _given_up()
        self._row = changed

    def keep(self, data_key: DataKey, state: PartialState, size: int) -> bool:
        """Nobody owns it from now on, and its user may resume it; False when it was given up."""
        assert self._row is not None
        until_ms = self._store.now_ms() + self._store.partial_s * 1000
        kept = replace(self._row, owner="", lease_until_ms=until_ms, size=size, state=state.text())
        kept = replace(kept, seal=state_seal(data_key.plaintext, kept))
        self._row = None
        return self._store.database.write_now(lambda tx: keep_row(tx, kept))

    def renew(self) -> None:
        """Renew the lease once half of it is over. Raises ``CouldNot``: it was lost."""
        row, now_ms = self._row, self._store.now_ms()
        if row is None or row.lease_until_ms - now_ms > _LEASE_MS // 2:
            return
        until_ms = now_ms + _LEASE_MS

        def renew(tx: Transaction) -> int:
            tx.execute(
                "UPDATE upload SET lease_until_ms = ? WHERE object_id = ? AND condemned = 0",
                (until_ms, self._object_id),
            )
            return tx.changes()

        if not self._store.database.write_now(renew):
            raise _given_up()
        self._row = replace(row, lease_until_ms=until_ms)

    def give_up(self) -> bool:
        """Say that the bytes may go; False where there is no row, as once it was published."""
        if self._row is None:
            return False
        self._row = None

        def condemn(tx: Transaction) -> bool:
            tx.execute("UPDATE upload SET condemned = 1 WHERE object_id = ?", (self._object_id,))
            return tx.changes() > 0

        return self._store.database.write_now(condemn)


def _given_up() -> CouldNot:
    return CouldNot("the upload was idle for too long, its bytes were given up")
