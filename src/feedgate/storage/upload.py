"""One object being written: packets in any order become one encrypted part, or inline bytes.

Invariants:

- Until the bytes outgrow what lies inline there is no row, no file and no data key: a small upload
  costs memory only, and nothing at all is left of one that is given up.
- From then on there is a row in ``upload`` (owner, lease, wrapped data key) before there is a file.
- Bytes are appended to the one open part, whatever their offset; the extents say where they belong.
  So nothing sealed is ever sealed again. The window in memory makes nearly every upload sequential.
- An upload may change an object: it lies beneath what is written, and is copied where it shows when
  the upload is finished, into a part of the new object. Nothing is ever shared between objects.
- An upload that a user may resume has a state in its row that holds for whatever a crash leaves of
  the open part (``partial``): it is written before the order of the bytes is broken.
- What all uploads of a process hold for reordering is bounded: above ``UPLOADS_HELD_BYTES_MAX`` an
  upload that holds more than its share appends what it holds, as if its own window were full.
- The first error is final: a part that failed half-way cannot be trusted to continue.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Final

from feedgate import limits
from feedgate.errors import CouldNot, FeedgateError, Unsupported
from feedgate.kms.envelope import DataKey
from feedgate.storage import parts
from feedgate.storage.bucket import Buffer, ObjectInfo, ObjectReader, StagedObject
from feedgate.storage.extents import Extent, ExtentMap
from feedgate.storage.index import Layout, VersionRow, etag_of, key_bytes, new_version, staged
from feedgate.storage.inline import InlineSeal
from feedgate.storage.layers import Beneath, hole_bytes, overlay, sha256_of, wants_rewrite
from feedgate.storage.openpart import OpenPart
from feedgate.storage.partfiles import FirstError
from feedgate.storage.partial import PartialState
from feedgate.storage.resume import Resumed, ended, told_bytes
from feedgate.storage.surroundings import Surroundings
from feedgate.storage.uploadrow import UploadRow
from feedgate.storage.window import Window
from feedgate.storage.window import held as _held

__all__ = ["EmbeddedUpload"]

_WINDOW: Final = limits.REORDER_WINDOW_BYTES
_INLINE_BYTES: Final = limits.INLINE_OBJECT_BYTES_MAX - parts.OVERHEAD_BYTES


class EmbeddedUpload:
    """One upload into the embedded bucket: an ``Upload``.

    ``user``: who may resume it; nobody where that is empty. ``over``: the object that it changes,
    given back at the end. ``resumed``: what an earlier session left, which this one took over.
    """

    def __init__(
        self,
        store: Surroundings,
        key: str,
        *,
        object_id: str,
        owner: str,
        metadata: Mapping[str, str],
        user: str = "",
        over: ObjectReader | None = None,
        resumed: Resumed | None = None,
    ) -> None:
        self.object_id = object_id
        self.size = 0
        self.metadata = dict(metadata)
        self._store = store
        self._key = key
        self._key_bytes = key_bytes(key)
        self._window = Window()
        self._counted = 0  # of the window's cost, in what the process holds
        self._extents = ExtentMap()
        self._sha256 = hashlib.sha256()
        self._next = 0  # where the bytes appended last end: what continues them is not held
        self._part: OpenPart | None = None
        self._number = 1  # of the part that was begun last
        self._follows = 0  # the open part's bytes lie in order from here; -1: they do not
        self._certain = limits.OBJECT_BYTES_MAX  # bytes below it are not being written over
        self._saved_at = 0  # bytes of the open part when the state was written last
        self._row = UploadRow(
            store,
            key,
            object_id=object_id,
            owner=owner,
            user=user,
            partial=None if resumed is None else resumed.partial,
        )
        self._beneath: Beneath | None = None
        self._resumed = resumed
        self._failed: FeedgateError | None = None
        self._over = False
        self._inline = InlineSeal(store, key, object_id)
        if over is not None:
            self._beneath = Beneath(over, over.info.size)
            self.size = over.info.size
        if resumed is not None:
            self._extents = ExtentMap(resumed.extents)
            self.size = self._next = self._follows = resumed.size

    # -- writing -------------------------------------------------------------------------------

    def write(self, offset: int, pieces: Sequence[Buffer]) -> None:
        """Write ``pieces`` one after another from ``offset``, in any order and over one another.

        Raises:
            NoSpace: the floor of free space or the disk is reached. Final.
            Unsupported: beyond S3's largest object, after too large a hole, or too scattered.
            CouldNot: the disk, the database or the KMS key failed, or the lease was lost. Final.
        """
        self._check_open()
        length = sum(map(len, pieces))
        if not length:
            return
        end = offset + length
        self._check_end(offset, end)
        self._inline.forget()
        with FirstError(self._fail):
            self._write(offset, end, pieces)
        self._count_held()
        self.size = max(self.size, end)

    def sync(self) -> None:
        """Make durable what was written: the open part ends, and what comes next is another.

        Raises as ``write``, and ``CouldNot`` when it was asked for too often. Blocks.
        """
        self._check_open()
        if self._part is None and not self._window:
            return
        if self._resumed is not None and len(self._resumed.earlier.sizes) >= limits.PARTS_MAX:
            raise CouldNot(f"`{self._key}` was synced more than {limits.PARTS_MAX} times")
        with FirstError(self._fail):
            self._part = self._part or self._begin_part()
            self._flush_window()
            assert self._row.partial is not None
            self._resumed = ended(self._part, self._resumed, self._row.partial, self._extents)
            self._part = None
            self._follows = self._next if self._next == self._extents.contiguous() else -1
            self._certain = limits.OBJECT_BYTES_MAX
            if self._row.user:
                self._row.save(self._data_key, self._state(0))
        self._count_held()

    def truncate(self, size: int) -> None:
        """Cut the object to ``size`` bytes, or extend it with zeros. Raises as ``write``."""
        self._check_open()
        self._check_end(size, size)
        self._inline.forget()
        with FirstError(self._fail):
            if size < self.size:
                self._window.cut(size)
                if self._beneath is not None:
                    self._beneath.cut(size)
                if self._extents.reaches(size):
                    self._extents.cut(size)
                    self._next = min(self._next, size)
                    self._break_order(size)
            self.size = size
        self._count_held()

    def pread(self, offset: int, length: int) -> bytes:
        """What was written so far, over the object that is changed; short only at the end.

        Raises:
            Integrity: stored bytes do not verify.
            CouldNot: the disk failed.
        """
        end = min(offset + length, self.size)
        if self._failed is not None:
            raise self._failed
        if offset >= end:
            return b""
        return overlay(
            offset,
            end,
            beneath=self._beneath,
            extents=self._extents,
            window=self._window,
            read_part=self._read_part,
        )

    def _read_part(self, number: int, offset: int, length: int) -> bytes:
        if self._part is not None and number == self._part.number:
            return self._part.pread(offset, length)
        assert self._resumed is not None
        return self._resumed.earlier.readers[number].pread(offset, length)

    def _check_open(self) -> None:
        assert not self._over, "the upload is over"
        if self._failed is not None:
            raise self._failed

    def _check_end(self, offset: int, end: int) -> None:
        if end > limits.OBJECT_BYTES_MAX:
            raise Unsupported(f"an object has at most {limits.OBJECT_BYTES_MAX >> 40} TiB")
        if offset - self.size > limits.HOLE_BYTES_MAX:
            raise Unsupported(f"{offset - self.size} bytes before offset {offset} were left out")

    def _write(self, offset: int, end: int, pieces: Sequence[Buffer]) -> None:
        if self._part is None:
            if self._lies_inline(end) and not self._window_is_full():
                self._hold(offset, pieces)
                return
            self._part = self._begin_part()
            self._drain()
        if self._row.user and self._extents.overlaps(offset, end):
            self._break_order(offset)
        if offset == self._next and not (self._window and self._window.overlaps(offset, end)):
            self._append(offset, pieces, end - offset)
        else:
            self._hold(offset, pieces)
        if self._window:
            self._drain()
            if self._window_is_full():
                self._flush_window()
        if self._follows < 0 and self._part.written - self._saved_at >= limits.EARLY_SYNC_BYTES:
            self._save_state()
        self._row.renew()

    def _lies_inline(self, end: int) -> bool:
        return self._resumed is None and max(self.size, end) <= _INLINE_BYTES

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
            if offset != self._next and self._follows >= 0:
                self._break_order(offset)
            self._append(offset, run, sum(map(len, run)))
        self._next = self._extents.end  # where most writers go on, who went back for a header

    def _append(self, offset: int, pieces: Sequence[Buffer], length: int) -> None:
        part = self._part
        assert part is not None
        self._extents.put(offset, length, part.number, part.writer.size)
        if len(self._extents) > limits.EXTENTS_OPEN_MAX:
            raise Unsupported(
                f"the writes lie too scattered: over {limits.EXTENTS_OPEN_MAX} extents"
            )
        if self._extents.sequential:
            for piece in pieces:
                self._sha256.update(piece)
        part.writer.write(pieces)
        self._next = offset + length

    # -- the row and the lease -----------------------------------------------------------------

    def _begin_part(self) -> OpenPart:
        store = self._store
        store.space.check()
        number = self._next_number()
        if self._resumed is None:
            data_key = store.kms.generate_data_key(store.context(self._key))
            self._row.begin(data_key, self._state(number))
        else:
            data_key = self._resumed.data_key
            self._row.save(data_key, self._state(number))
        return OpenPart(store, self.object_id, data_key, number)

    def _next_number(self) -> int:
        """The number of the next part; a crash may have left a file that no state names."""
        if self._resumed is not None:
            self._number = max(self._number, *self._resumed.earlier.sizes) + 1
            while self._store.files.path(self.object_id, self._number).exists():
                self._number += 1
        elif self._part is not None:
            self._number += 1
        return self._number

    def _state(self, open_part: int) -> PartialState:
        closed = self._resumed.earlier.sizes if self._resumed is not None else {}
        if self._follows >= 0:
            # what the open part holds is told by where it begins
            extents = tuple(extent for extent in self._extents if extent.part != open_part)
        else:
            extents = self._extents.below(self._certain)
        return PartialState(closed, extents, open_part, self._follows)

    def _break_order(self, offset: int) -> None:
        """From now on the row's state says which bytes count: those below ``offset``.

        What is about to be written over must not come back in a resume after a crash. At most twice
        until the state is written with everything, however often such writes come.
        """
        if offset >= self._certain:
            return
        self._certain = offset if self._follows >= 0 else 0
        self._follows = -1
        if self._row.user and self._row.exists:
            number = self._part.number if self._part is not None else 0
            self._row.save(self._data_key, self._state(number))

    def _save_state(self) -> None:
        """Once nothing waits in memory, all that was written counts again after a crash."""
        part = self._part
        assert part is not None
        self._saved_at = part.written
        if self._row.user and not self._window and len(self._extents) <= limits.EXTENTS_MAX:
            self._certain = limits.OBJECT_BYTES_MAX
            self._row.save(part.data_key, self._state(part.number))

    @property
    def _data_key(self) -> DataKey:
        if self._part is not None:
            return self._part.data_key
        assert self._resumed is not None
        return self._resumed.data_key

    # -- the end -------------------------------------------------------------------------------

    def finish(self) -> StagedObject:
        """Seal, make durable, and describe for ``publish``. Blocks; call it once.

        Raises:
            NoSpace, CouldNot, Unsupported: as ``write``; nothing of the object will be visible.
        """
        self._check_open()
        self._over = True
        with FirstError(self._fail):
            if self._part is None and self._lies_inline(self.size):
                row = self._finish_inline()
            else:
                row = self._finish_parts()
        self._count_held()
        self._let_go()
        return staged(row)

    def _finish_inline(self) -> VersionRow:
        sealed = self._inline.seal(self._beneath, self._window, self.size)
        self._drop_window()
        layout = Layout(True, {}, ())
        return self._version(sealed.data_key, sealed.sha256, layout, sealed.ciphertext)

    def seal_ahead(self) -> None:
        """Do now what ``finish`` must if nothing more is written, while nobody waits."""
        is_open = not self._over and self._failed is None
        if is_open and self._part is None and self._lies_inline(self.size):
            self._inline.try_ahead(self._beneath, self._window, self.size)

    def _finish_parts(self) -> VersionRow:
        if self._part is None and (self._window or self._resumed is None):
            self._part = self._begin_part()
        self._flush_window()
        if hole_bytes(self._beneath, self._extents, self.size) > limits.HOLE_BYTES_MAX:
            raise Unsupported(f"more than {limits.HOLE_BYTES_MAX >> 20} MiB were never written")
        earlier = self._resumed.earlier.sizes.values() if self._resumed is not None else ()
        written = self._part.writer.size if self._part is not None else 0
        if wants_rewrite(self._beneath, self._extents, earlier, written, self.size):
            layout, sha256 = self._rewrite()
        else:
            if self._part is not None:
                self._part.make_durable()
            layout = Layout(False, self._part_sizes(), tuple(self._extents))
            whole = self._extents.sequential and self._next == self.size
            sha256 = self._sha256.hexdigest() if whole else sha256_of(self.pread, self.size)
        return self._version(self._data_key, sha256, layout, None)

    def _part_sizes(self) -> dict[int, int]:
        """The ciphertext sizes of the parts that the extents name."""
        earlier = self._resumed.earlier.sizes if self._resumed is not None else {}
        sizes = {number: size for number, (size, _cut) in earlier.items()}
        if self._part is not None:
            sizes[self._part.number] = self._part.written
        named = {extent.part for extent in self._extents}
        return {number: size for number, size in sizes.items() if number in named}

    def _rewrite(self) -> tuple[Layout, str]:
        """Write everything once more, in order, as one part; the others are not needed then."""
        old = [*(self._resumed.earlier.sizes if self._resumed is not None else ())]
        old += [self._part.number] if self._part is not None else []
        data_key = self._data_key
        target = OpenPart(self._store, self.object_id, data_key, self._next_number())
        try:
            sha256 = hashlib.sha256()
            for offset in range(0, self.size, limits.UPLOAD_BATCH_BYTES):
                data = self.pread(offset, limits.UPLOAD_BATCH_BYTES)
                sha256.update(data)
                target.writer.write([data])
            target.make_durable()
            extents = (Extent(0, self.size, target.number, 0),) if self.size else ()
            if self._row.user:  # a crash from here on finds the new part
                closed = {target.number: (target.written, False)}
                self._row.save(data_key, PartialState(closed, extents))
            for number in old:
                self._store.files.path(self.object_id, number).unlink(missing_ok=True)
        finally:
            target.close()
        return Layout(False, {target.number: target.written}, extents), sha256.hexdigest()

    def _version(
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
            metadata=self.metadata,
        )
        return new_version(info, data_key, layout, inline, bucket_key=self._row.bucket_key)

    def keep(self) -> int:
        """The session is lost: keep what its user may resume; how many bytes, 0 for none.

        What was written is kept as far as it has no gap. Never raises; ends the upload as ``abort``
        does.
        """
        if self._over or self._failed is not None or not self._row.user or not self._row.exists:
            self.abort()
            return 0
        self._over = True
        try:
            with FirstError(self._fail):
                kept = self._keep()
        except FeedgateError:
            kept = 0
        if not kept:
            self.abort()
        self._drop_window()
        self._let_go()
        return kept

    def _keep(self) -> int:
        if self._window:
            if self._part is None:
                self._part = self._begin_part()
            self._flush_window()
        size = told_bytes(self._extents.contiguous(), self._row.told)
        if not size:
            return 0
        self._extents.cut(size)
        self.size = size
        closed = dict(self._resumed.earlier.sizes) if self._resumed is not None else {}
        extents = tuple(self._extents)
        data_key = self._data_key
        if len(closed) >= limits.PARTS_MAX or len(extents) > limits.EXTENTS_MAX:
            layout, _sha256 = self._rewrite()
            closed = {number: (written, False) for number, written in layout.parts.items()}
            extents = layout.extents
        elif self._part is not None:
            self._part.make_durable()
            closed[self._part.number] = (self._part.written, False)
        self._store.crash_at("partial-before-commit")
        return size if self._row.keep(data_key, PartialState(closed, extents), size) else 0

    def abort(self) -> None:
        """Forget the bytes, unless they were published. Idempotent; never raises."""
        self._over = True
        self._drop_window()
        try:
            self._let_go()
            if self._row.give_up():
                self._store.files.path(self.object_id, self._number).unlink(missing_ok=True)
        except (OSError, FeedgateError):
            return  # garbage collection does it when the lease has expired

    def _let_go(self) -> None:
        part, self._part = self._part, None
        if part is not None:
            part.close()
        if self._resumed is not None:
            self._resumed.earlier.close()
        if self._beneath is not None:
            self._beneath.reader.close()

    def _fail(self, error: FeedgateError) -> None:
        self._failed = error
        self._drop_window()

    def _drop_window(self) -> None:
        self._window = Window()
        self._count_held()
