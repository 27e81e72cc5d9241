"""The embedded form of a bucket: an index in SQLite, encrypted parts in the data folder.

Order at CLOSE: fdatasync of the part, fsync of its directory (``Upload.finish``), COMMIT
(``publish`` in the caller's transaction), and only then the supplier's OK. A replaced or deleted
version leaves the index at once; its bytes go with ``garbage.collect``.
"""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from feedgate import limits
from feedgate.database import Database, Transaction
from feedgate.errors import CouldNot, Integrity, NotFound
from feedgate.kms.envelope import KmsKey
from feedgate.storage import index, resume, usage
from feedgate.storage.bucket import Bucket, Listing, ObjectInfo, ObjectReader, StagedObject
from feedgate.storage.index import VersionRow
from feedgate.storage.partfiles import PartFiles, SpaceFloor
from feedgate.storage.partial import find_partials
from feedgate.storage.reader import EmbeddedReader, open_version
from feedgate.storage.surroundings import Surroundings
from feedgate.storage.upload import EmbeddedUpload

__all__ = ["MIGRATIONS", "EmbeddedBucket"]

MIGRATIONS = (*index.MIGRATIONS, *usage.MIGRATIONS)


class EmbeddedBucket:
    """One bucket in a data folder: a ``Bucket``. Thread-safe; any number of processes.

    ``folder`` is the data folder. New objects are encrypted under ``kms``; ``kms_key`` finds by its
    ARN the KMS key of an object that was written while the bucket had another.
    ``space_floor_bytes`` None means the default of ``limits``. ``crash_at`` is called with
    ``part-written`` and ``part-synced`` as an upload passes them.
    """

    def __init__(
        self,
        *,
        name: str,
        arn: str,
        database: Database,
        folder: Path,
        kms: KmsKey,
        bucket_key_enabled: bool,
        kms_key: Callable[[str], KmsKey] | None = None,
        space_floor_bytes: int | None = None,
        partial_s: int = limits.PARTIAL_S,
        crash_at: Callable[[str], None] = lambda _point: None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.name = name
        self._store = Surroundings(
            bucket=name,
            arn=arn,
            database=database,
            files=PartFiles(folder),
            space=SpaceFloor(folder, space_floor_bytes),
            kms=kms,
            kms_key=kms_key or self._no_other_kms_key,
            bucket_key_enabled=bucket_key_enabled,
            now_ms=now_ms,
            crash_at=crash_at,
            partial_s=partial_s,
        )

    # -- reading -------------------------------------------------------------------------------

    def head(self, key: str) -> ObjectInfo | None:
        """The current version, or None."""
        name = index.key_bytes_if_any(key)
        return index.current_info(self._store.database.read, self.name, name) if name else None

    def head_in(self, tx: Transaction, key: str) -> ObjectInfo | None:
        """As ``head``, seeing what the transaction and those committed with it have written."""
        name = index.key_bytes_if_any(key)
        return index.current_info(tx.execute, self.name, name) if name else None

    def holds_below(self, prefix: str) -> bool:
        """Whether any key starts with ``prefix``, which is not empty."""
        name = index.key_bytes_if_any(prefix)
        return name is not None and index.holds_below(self._store.database.read, self.name, name)

    def keys_below_in(self, tx: Transaction, prefix: str, keys_max: int) -> tuple[str, ...]:
        """The first keys that start with ``prefix``, which is not empty; seen as by ``head_in``."""
        name = index.key_bytes_if_any(prefix)
        return index.keys_below(tx.execute, self.name, name, keys_max) if name else ()

    def list(
        self,
        prefix: str = "",
        *,
        delimiter: str = "",
        start_after: str = "",
        max_keys: int = 1000,
    ) -> Listing:
        """ListObjectsV2; see ``index.list_page`` for what ``start_after`` may be."""
        return index.list_page(
            self._store.database,
            self.name,
            prefix=prefix,
            delimiter=delimiter,
            start_after=start_after,
            max_keys=max_keys,
        )

    def used_bytes(self, owner: str, tx: Transaction | None = None) -> int:
        """Bytes of the current objects that ``owner`` sent, in all buckets of this store."""
        read = self._store.database.read if tx is None else tx.execute
        return usage.used_bytes(read, owner)

    def open(self, key: str) -> EmbeddedReader | None:
        """Open the current version, or None where there is none.

        Raises:
            Integrity: the row or the bytes do not verify, or a part is missing.
            CouldNot: the KMS key is disabled or pending deletion, or the disk failed.
        """
        name = index.key_bytes_if_any(key)
        read = self._store.database.read
        return self._open(lambda: index.current_row(read, self.name, name) if name else None)

    def open_version(self, object_id: str, version_id: str) -> EmbeddedReader | None:
        """Open one version, current or replaced, wherever it was moved; None when it is gone.

        A loader reads what landed, not what has taken its key meanwhile. Raises as ``open``.
        """
        read = self._store.database.read
        return self._open(lambda: index.version_row(read, self.name, object_id, version_id))

    def _open(self, find: Callable[[], VersionRow | None]) -> EmbeddedReader | None:
        row = find()
        while row is not None:
            reader = open_version(self._store.files, row, self._data_key(row))
            if reader is not None:
                return reader
            again = find()  # replaced and collected between the look and the open?
            if again is not None and again.row_id == row.row_id:
                raise Integrity(f"a part of `{row.info.key}` in `{self.name}` is missing")
            row = again
        return None

    def _data_key(self, row: VersionRow) -> bytes:
        arn = row.info.kms_key_arn
        assert arn is not None
        key = row.info.key
        return self._store.data_key(arn, row.wrapped_key, key, bucket_key=row.bucket_key)

    def _no_other_kms_key(self, arn: str) -> KmsKey:
        raise CouldNot(f"an object in `{self.name}` is under another KMS key, `{arn}`")

    # -- writing -------------------------------------------------------------------------------

    def begin_upload(
        self,
        key: str,
        *,
        owner: str,
        metadata: Mapping[str, str] | None = None,
        user: str = "",
        over: ObjectReader | None = None,
    ) -> EmbeddedUpload:
        """Start an object. ``owner`` names the session that holds the lease.

        ``user`` may resume it when the session is lost; what changes an object (``over``) is not
        kept for that: the client would take the object for what it had sent.

        Raises:
            NoSpace: free space is below the floor.
            Unsupported: S3 has no such key.
        """
        self._store.space.check()
        return EmbeddedUpload(
            self._store,
            key,
            object_id=os.urandom(16).hex(),
            owner=owner,
            metadata=metadata or {},
            user=user if over is None else "",
            over=over,
        )

    def has_partial(self, key: str, user: str) -> bool:
        """Whether there may be something for ``user`` to resume or drop at ``key``: cheap."""
        name = index.key_bytes_if_any(key)
        store = self._store
        return name is not None and bool(
            find_partials(store.database.read, user, self.name, name, store.now_ms())
        )

    def partial_size(self, key: str, user: str) -> int | None:
        """How much ``user`` may resume from at ``key``; None where there is nothing.

        Raises:
            Integrity: the row or what it names was changed.
        """
        if index.key_bytes_if_any(key) is None:
            return None
        partial = resume.find_partial(self._store, key, user)
        return partial.size if partial is not None else None

    def resume_upload(self, key: str, *, owner: str, user: str) -> EmbeddedUpload | None:
        """Take over what ``user`` may resume; None where there is nothing any more.

        Raises:
            CouldNot: another session was faster.
            NoSpace: free space is below the floor.
            Integrity: the row or what it names was changed.
        """
        self._store.space.check()
        resumed = resume.resume(self._store, key, user, owner)
        if resumed is None:
            return None
        return EmbeddedUpload(
            self._store,
            key,
            object_id=resumed.partial.object_id,
            owner=owner,
            metadata={},
            user=user,
            resumed=resumed,
        )

    def drop_partials(self, key: str, user: str) -> int:
        """Forget what ``user`` might resume at ``key``; how many there were."""
        name = index.key_bytes_if_any(key)
        return resume.drop_partials(self._store, key, user) if name else 0

    def partial_bytes(self, user: str) -> int:
        """How many bytes of this bucket are kept for ``user`` to resume."""
        return resume.partial_bytes(self._store, user)

    def set_metadata(
        self, tx: Transaction, key: str, changes: Mapping[str, str | None]
    ) -> ObjectInfo | None:
        """Set or remove (None) user metadata of the current version; None where there is none.

        The row is sealed anew, with everything else that says what the object is.

        Raises:
            Integrity: the row does not verify.
        """
        name = index.key_bytes_if_any(key)
        row = index.current_row(tx.execute, self.name, name) if name else None
        if row is None:
            return None
        data_key = self._data_key(row)
        if not hmac.compare_digest(index.row_seal(data_key, row.info, row.layout), row.seal):
            raise Integrity(f"the index row of `{key}` in `{self.name}` does not verify")
        wanted = {**row.info.metadata, **changes}
        metadata = {name: value for name, value in wanted.items() if value is not None}
        changed = replace(row, info=replace(row.info, metadata=metadata))
        changed = replace(changed, seal=index.row_seal(data_key, changed.info, changed.layout))
        index.rewrite_metadata(tx, changed)
        return changed.info

    def publish(self, tx: Transaction, staged: StagedObject) -> ObjectInfo:
        """Make a staged object the key's current version inside the caller's transaction.

        Raises:
            CouldNot: the upload was given up meanwhile (lease expired, or aborted).
        """
        row = staged.row
        assert isinstance(row, VersionRow)
        assert staged.bucket == self.name
        if row.inline is None:
            tx.execute(
                "DELETE FROM upload WHERE object_id = ? AND condemned = 0", (staged.object_id,)
            )
            if tx.changes() != 1:
                raise CouldNot("the upload was idle for too long, its bytes were given up")
        row = replace(row, info=replace(row.info, last_modified_ms=self._store.now_ms()))
        index.supersede(tx, self.name, index.key_bytes(staged.key))
        index.insert_version(tx, row)
        return row.info

    def delete(self, tx: Transaction, key: str) -> bool:
        """Remove the current version; False where there was none."""
        name = index.key_bytes_if_any(key)
        return name is not None and index.supersede(tx, self.name, name)

    def move(self, tx: Transaction, source: str, target: str) -> ObjectInfo:
        """Give an object another key, replacing what is there; its bytes and identity stay.

        The data key is wrapped anew, under the bucket's KMS key of now and the target's encryption
        context, and the row sealed anew.

        Raises:
            NotFound: there is no ``source``.
            Integrity: the source's row does not verify.
        """
        target_bytes = index.key_bytes(target)
        name = index.key_bytes_if_any(source)
        row = index.current_row(tx.execute, self.name, name) if name else None
        if row is None:
            raise NotFound(f"there is no object `{source}` in `{self.name}`")
        if source == target:
            return row.info
        data_key = self._data_key(row)
        if not hmac.compare_digest(index.row_seal(data_key, row.info, row.layout), row.seal):
            raise Integrity(f"the index row of `{source}` in `{self.name}` does not verify")
        store = self._store
        if row.bucket_key and store.bucket_key_enabled and row.info.kms_key_arn == store.kms.arn:
            moved = replace(row, info=replace(row.info, key=target))
        else:
            moved = replace(
                row,
                info=replace(row.info, key=target, kms_key_arn=store.kms.arn),
                wrapped_key=store.kms.wrap(data_key, store.context(target)),
                bucket_key=store.bucket_key_enabled,
            )
        moved = replace(moved, seal=index.row_seal(data_key, moved.info, moved.layout))
        index.supersede(tx, self.name, target_bytes)
        index.rekey_version(tx, moved)
        return moved.info


if TYPE_CHECKING:  # the type checker holds the form to its protocol

    def _is_a_bucket(bucket: EmbeddedBucket) -> Bucket:
        return bucket
