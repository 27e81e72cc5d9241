"""One object being written: packets in any order become one encrypted part, or inline bytes.

Invariants:

- Until the bytes outgrow what lies inline there is no row, no file and no data key: a small upload
  costs memory only, and nothing at all is left of one that is given up.
- From then on there is a row in ``upload`` (owner, lease, wrapped data key) before there is a file.
- Bytes are appended to the one open part, whatever their offset; the extents say where they belong.
  So nothing sealed is ever sealed again. The window in memory makes nearly every upload sequential.
- What all uploads of a process hold for reordering is bounded: above ``UPLOADS_HELD_BYTES_MAX`` an
  upload that holds more than its share appends what it holds, as if its own window were full.
- The first error is final: a part that failed half-way cannot be trusted to continue.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from feedgate import limits
from feedgate.database import Database, Transaction
from feedgate.errors import CouldNot, FeedgateError, Unsupported
from feedgate.kms.envelope import DataKey, KmsKey, s3_encryption_context
from feedgate.storage import parts
from feedgate.storage.bucket import Buffer, ObjectInfo, StagedObject
from feedgate.storage.extents import ExtentMap, hole_bytes
from feedgate.storage.index import Layout, VersionRow, etag_of, key_bytes, row_seal
from feedgate.storage.partfiles import PartFiles, SpaceFloor, disk_error
from feedgate.storage.reader import PartsReader, part_reader
from feedgate.storage.window import Window

__all__ = ["EmbeddedUpload", "Surroundings"]

_INLINE_BYTES: Final = limits.INLINE_OBJECT_BYTES_MAX - parts.OVERHEAD_BYTES
_PART: Final = 1  # an upload has one part; what is appended to an object later begins another


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a bucket's uploads and readers work with."""

    bucket: str
    arn: str
    database: Database
    files: PartFiles
    space: SpaceFloor
    kms: KmsKey  # new objects are under this one
    kms_key: Callable[[str], KmsKey]  # by ARN, for objects that are under another
    bucket_key_enabled: bool
    now_ms: Callable[[], int]
    crash_at: Callable[[str], None]

    def context(self, key: str, *, bucket_key: bool | None = None) -> dict[str, str]:
        """The encryption context of an object's data key."""
        enabled = self.bucket_key_enabled if bucket_key is None else bucket_key
        return s3_encryption_context(self.arn, key, bucket_key_enabled=enabled)


class _Held:
    """What the uploads of this process hold in their windows, in bytes of cost."""

    def __init__(self) -> None:
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def is_full(self) -> bool:
        return self._bytes > limits.UPLOADS_HELD_BYTES_MAX

    def change(self, by: int) -> None:
        with self._lock:
            self._bytes += by


_held = _Held()


class _Sync:
    """fdatasync in the background, so that little is left to do at CLOSE; one at a time a file."""

    _pool: ThreadPoolExecutor | None = None
    _pool_start = threading.Lock()

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._running: Future[None] | None = None

    def early(self) -> None:
        """Start one unless one is running. Raises what the last one raised."""
        if self._running is not None:
            if not self._running.done():
                return
            self._running.result()
        with self._pool_start:
            if _Sync._pool is None:
                _Sync._pool = ThreadPoolExecutor(limits.SYNC_THREADS, "feedgate-sync")
        self._running = _Sync._pool.submit(os.fdatasync, self._fd)

    def wait(self) -> None:
        """Wait for the one that is running, if any. Raises what it raised: that is final."""
        running, self._running = self._running, None
        if running is not None:
            running.result()


class _OpenPart:
    """The part's file, its writer, and what hangs on them until they are durable."""

    def __init__(self, store: Surroundings, object_id: str, data_key: DataKey) -> None:
        self.data_key = data_key
        self.object_id = object_id
        self._store = store
        self.fd = store.files.create(object_id, _PART)
        self.written = 0  # bytes of ciphertext in the file
        self._synced_at = 0
        self._space_at = 0
        self._sync = _Sync(self.fd)
        self.writer = parts.PartWriter(
            data_key.plaintext, parts.associated_data(object_id, _PART), self._write_out
        )

    def _write_out(self, view: memoryview) -> None:
        if self.written - self._space_at >= limits.SPACE_CHECK_BYTES:
            self._store.space.check()
            self._space_at = self.written
        at = 0
        while at < len(view):
            at += os.write(self.fd, view[at:])
        self.written += at
        if self.written - self._synced_at >= limits.EARLY_SYNC_BYTES:
            self._sync.early()
            self._synced_at = self.written

    def make_durable(self) -> None:
        """Write out, then fdatasync the file, then fsync its directory. Raises ``OSError``."""
        self.writer.finish()
        self._store.crash_at("part-written")
        self._sync.wait()
        os.fdatasync(self.fd)
        self._store.files.sync_directory(self.object_id)
        self._store.crash_at("part-synced")

    def close(self) -> None:
        """Let go of the file, once no background sync uses its descriptor any more."""
        try:
            self._sync.wait()
        except OSError:
            pass  # whoever closes without having made it durable does not want it
        finally:
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1


class EmbeddedUpload:
    """One upload into the embedded bucket: an ``Upload``."""

    def __init__(
        self,
        store: Surroundings,
        key: str,
        *,
        object_id: str,
        owner: str,
        metadata: Mapping[str, str],
    ) -> None:
        self.object_id = object_id
        self.size = 0
        self._store = store
        self._key = key
        self._key_bytes = key_bytes(key)
        self._owner = owner
        self._metadata = dict(metadata)
        self._window = Window()
        self._counted = 0  # of the window's cost, in what the process holds
        self._extents = ExtentMap()
        self._sha256 = hashlib.sha256()
        self._next = 0  # where the bytes appended last end: what continues them is not held
        self._part: _OpenPart | None = None
        self._lease_until_ms = 0
        self._failed: FeedgateError | None = None
        self._over = False

    # -- writing -------------------------------------------------------------------------------

    def write(self, offset: int, pieces: Sequence[Buffer]) -> None:
        """Write ``pieces`` one after another from ``offset``, in any order and over one another.

        Raises:
            NoSpace: the floor of free space or the disk is reached. Final.
            Unsupported: beyond S3's largest object, after too large a hole, or too scattered.
            CouldNot: the disk, the database or the KMS key failed, or the lease was lost. Final.
        """
        assert not self._over, "the upload is over"
        if self._failed is not None:
            raise self._failed
        length = sum(map(len, pieces))
        if not length:
            return
        end = offset + length
        if end > limits.OBJECT_BYTES_MAX:
            raise Unsupported(f"an object has at most {limits.OBJECT_BYTES_MAX >> 40} TiB")
        if offset - self.size > limits.HOLE_BYTES_MAX:
            raise Unsupported(f"{offset - self.size} bytes before offset {offset} were left out")
        with _Final(self):
            self._write(offset, end, pieces)
        self._count_held()
        self.size = max(self.size, end)

    def _write(self, offset: int, end: int, pieces: Sequence[Buffer]) -> None:
        if self._part is None:
            if max(self.size, end) <= _INLINE_BYTES and not self._window_is_full():
                self._hold(offset, pieces)
                return
            self._part = self._begin_part()
            self._drain()
        if offset == self._next and not (self._window and self._window.overlaps(offset, end)):
            self._append(offset, pieces, end - offset)
        else:
            self._hold(offset, pieces)
        if self._window:
            self._drain()
            if self._window_is_full():
                self._flush_window()
        self._renew_lease()

    def _window_is_full(self) -> bool:
        cost = self._window.cost
        return cost > _WINDOW or (cost > limits.UPLOAD_SHARE_BYTES and _held.is_full)

    def _count_held(self) -> None:
        if self._window.cost != self._counted:
            _held.change(self._window.cost - self._counted)
            self._counted = self._window.cost

    def _hold(self, offset: int, pieces: Sequence[Buffer]) -> None:
        for piece in pieces:
            self._window.put(offset, bytes(piece))
            offset += len(piece)

    def _drain(self) -> None:
        run = self._window.take_run(self._next)
        if run:
            self._append(self._next, run, sum(map(len, run)))

    def _flush_window(self) -> None:
        """Append what is held without what is missing before it: each run becomes an extent."""
        for offset, run in self._window.take_all():
            self._append(offset, run, sum(map(len, run)))

    def _append(self, offset: int, pieces: Sequence[Buffer], length: int) -> None:
        part = self._part
        assert part is not None
        self._extents.put(offset, length, _PART, part.writer.size)
        if len(self._extents) > limits.EXTENTS_MAX:
            raise Unsupported(f"the writes lie too scattered: over {limits.EXTENTS_MAX} extents")
        if self._extents.sequential:
            for piece in pieces:
                self._sha256.update(piece)
        part.writer.write(pieces)
        self._next = offset + length

    # -- the row and the lease -----------------------------------------------------------------

    def _begin_part(self) -> _OpenPart:
        store = self._store
        store.space.check()
        data_key = store.kms.generate_data_key(store.context(self._key))
        lease_until_ms = store.now_ms() + limits.UPLOAD_LEASE_S * 1000
        row = (
            self.object_id,
            store.bucket,
            self._key_bytes,
            self._owner,
            lease_until_ms,
            data_key.kms_key_arn,
            data_key.wrapped,
            store.bucket_key_enabled,
        )
        store.database.write_now(
            lambda tx: tx.execute("INSERT INTO upload VALUES(?,?,?,?,?,0,?,?,?)", row)
        )
        self._lease_until_ms = lease_until_ms
        return _OpenPart(store, self.object_id, data_key)

    def _renew_lease(self) -> None:
        now_ms = self._store.now_ms()
        if self._lease_until_ms - now_ms > limits.UPLOAD_LEASE_S * 1000 // 2:
            return
        until_ms = now_ms + limits.UPLOAD_LEASE_S * 1000

        def renew(tx: Transaction) -> int:
            tx.execute(
                "UPDATE upload SET lease_until_ms = ? WHERE object_id = ? AND condemned = 0",
                (until_ms, self.object_id),
            )
            return tx.changes()

        if not self._store.database.write_now(renew):
            raise CouldNot("the upload was idle for too long, its bytes were given up")
        self._lease_until_ms = until_ms

    # -- the end -------------------------------------------------------------------------------

    def finish(self) -> StagedObject:
        """Seal, make durable, and describe for ``publish``. Blocks; call it once.

        Raises:
            NoSpace, CouldNot, Unsupported: as ``write``; nothing of the object will be visible.
        """
        assert not self._over, "the upload is over"
        if self._failed is not None:
            raise self._failed
        self._over = True
        with _Final(self):
            part = self._part
            row = self._finish_inline() if part is None else self._finish_part(part)
        self._count_held()
        return StagedObject(
            bucket=row.info.bucket,
            key=row.info.key,
            object_id=row.info.object_id,
            size=row.info.size,
            sha256=row.info.sha256,
            kms_key_arn=row.info.kms_key_arn,
            row=row,
        )

    def _finish_inline(self) -> VersionRow:
        plaintext = bytearray(self.size)
        for offset, run in self._window.take_all():
            at = offset
            for piece in run:
                plaintext[at : at + len(piece)] = piece
                at += len(piece)
        data_key = self._store.kms.generate_data_key(self._store.context(self._key))
        associated = parts.associated_data(self.object_id, _PART)
        ciphertext = parts.seal(data_key.plaintext, associated, plaintext)
        sha256 = hashlib.sha256(plaintext).hexdigest()
        return self._row(data_key, sha256, Layout(True, {}, ()), ciphertext)

    def _finish_part(self, part: _OpenPart) -> VersionRow:
        self._flush_window()
        if hole_bytes(tuple(self._extents), self.size) > limits.HOLE_BYTES_MAX:
            raise Unsupported(f"more than {limits.HOLE_BYTES_MAX >> 20} MiB were never written")
        part.make_durable()
        layout = Layout(False, {_PART: part.written}, tuple(self._extents))
        sequential = self._extents.sequential
        sha256 = self._sha256.hexdigest() if sequential else self._read_back(part, layout)
        part.close()
        return self._row(part.data_key, sha256, layout, None)

    def _read_back(self, part: _OpenPart, layout: Layout) -> str:
        reader = part_reader(part.fd, part.data_key.plaintext, self.object_id, _PART, part.written)
        whole = PartsReader({_PART: reader}, layout.extents, self.size)
        sha256 = hashlib.sha256()
        for offset in range(0, self.size, limits.UPLOAD_BATCH_BYTES):
            sha256.update(whole.pread(offset, limits.UPLOAD_BATCH_BYTES))
        return sha256.hexdigest()

    def _row(
        self, data_key: DataKey, sha256: str, layout: Layout, inline: bytes | None
    ) -> VersionRow:
        info = ObjectInfo(
            bucket=self._store.bucket,
            key=self._key,
            version_id=os.urandom(16).hex(),
            object_id=self.object_id,
            size=self.size,
            etag=etag_of(sha256),
            sha256=sha256,
            kms_key_arn=data_key.kms_key_arn,
            last_modified_ms=self._store.now_ms(),
            metadata=self._metadata,
        )
        text = layout.text()
        seal = row_seal(data_key.plaintext, info, text)
        bucket_key = self._store.bucket_key_enabled
        return VersionRow(info, data_key.wrapped, bucket_key, seal, text, inline)

    def abort(self) -> None:
        """Forget the bytes, unless they were published. Idempotent; never raises."""
        self._over = True
        self._drop_window()
        part, self._part = self._part, None
        leased, self._lease_until_ms = self._lease_until_ms, 0
        try:
            if part is not None:
                part.close()
            if leased and self._store.database.write_now(self._condemn):
                self._store.files.path(self.object_id, _PART).unlink(missing_ok=True)
        except (OSError, FeedgateError):
            return  # garbage collection does it when the lease has expired

    def _condemn(self, tx: Transaction) -> int:
        # the row is gone once the object was published: then its part must stay
        tx.execute("UPDATE upload SET condemned = 1 WHERE object_id = ?", (self.object_id,))
        return tx.changes()

    def _fail(self, error: FeedgateError) -> None:
        self._failed = error
        self._drop_window()

    def _drop_window(self) -> None:
        self._window = Window()
        self._count_held()


_WINDOW: Final = limits.REORDER_WINDOW_BYTES


class _Final:
    """Makes the first error of an upload its last, and the operating system's errors ours."""

    __slots__ = ("_upload",)

    def __init__(self, upload: EmbeddedUpload) -> None:
        self._upload = upload

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, FeedgateError):
            self._upload._fail(error)  # noqa: SLF001
        elif isinstance(error, OSError):
            failed = disk_error(error, "write the object")
            self._upload._fail(failed)  # noqa: SLF001
            raise failed from error
