"""An upload: packets in whatever order they come, in bounded memory, visible only at CLOSE.

The event loop only collects pieces. At ``UPLOAD_BATCH_BYTES`` they go to a worker thread, which
hashes, encrypts and writes them while the client is still sending; one thread at a time serves an
upload, so its writes keep their order. A small upload (``UPLOAD_INLINE_BYTES_MAX``) never leaves
the loop: a hand-over would cost more than its work.

Invariants:

- ``queued`` bytes are in the hands of a thread or wait for one; above ``UPLOAD_QUEUE_BYTES_MAX``
  ``write`` suspends, which stops the channel.
- All uploads of a process together keep ``UPLOADS_QUEUED_BYTES_MAX`` in memory here. Once they do,
  each hands over at ``UPLOAD_SHARE_BYTES`` and waits until that is written; a pause ends with the
  upload's own job, so none waits for another client.
- At most one job of an upload runs; ``abort`` is called only when none runs.
- What went wrong is remembered and raised by ``close``; nothing is published after it.
- Once ``close`` has begun it runs to its end, even if whoever awaited it is gone: the client had
  sent everything, and a half-run commit must not be guessed about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeVar

from feedgate.errors import FeedgateError, Unsupported
from feedgate.files.objects import MODIFIED, Attributes, Buffer, Staged, StoredUpload
from feedgate.files.quota import Room
from feedgate.limits import (
    SFTP_READ_BYTES_MAX,
    UPLOAD_BATCH_BYTES,
    UPLOAD_BATCH_PIECES_MAX,
    UPLOAD_INLINE_BYTES_MAX,
    UPLOAD_QUEUE_BYTES_MAX,
    UPLOAD_SHARE_BYTES,
    UPLOAD_THREADS,
    UPLOADS_QUEUED_BYTES_MAX,
)

__all__ = ["BLANK", "Beginning", "Run", "UploadThreads", "WriteFile", "upload_threads"]

T = TypeVar("T")

# a piece costs Python about this much beside its bytes: a client of 1-byte packets pays for it
_PIECE_OVERHEAD_BYTES: Final = 128
_SMALL_PIECE_BYTES: Final = 4 * 1024


@dataclass(slots=True)
class Run:
    """Pieces that follow one another without a gap, from ``offset``."""

    offset: int
    pieces: list[Buffer] = field(default_factory=list)
    size: int = 0

    @property
    def end(self) -> int:
        """The offset after the last byte."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a file that is opened for writing holds at first.

    ``exists``: an object, or what an earlier upload left, and the client did not ask to truncate
    it; then CLOSE without a write changes nothing. ``unseen``: the user may not know whether one
    exists, so the first write must begin at 0, and replaces it whole. ``begins_at``: the offsets at
    which the first write may begin beside 0, None for any; ``reason`` says why.
    """

    exists: bool = False
    unseen: Exception | None = None
    begins_at: tuple[int, ...] | None = None
    reason: str = ""


BLANK: Final = Beginning()


class UploadThreads:
    """The few threads that write the uploads of this process, and what these have in memory.

    ``held_bytes`` is what all open uploads have collected and queued; counted in the event loop.
    """

    def __init__(self, threads: int = UPLOAD_THREADS) -> None:
        self.open_uploads = 0
        self.held_bytes = 0
        self._threads = threads
        self._executor: ThreadPoolExecutor | None = None

    @property
    def executor(self) -> ThreadPoolExecutor:
        """Made when first needed."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="upload")
        return self._executor

    @property
    def is_full(self) -> bool:
        """Whether uploads must get by with their share."""
        return self.held_bytes > UPLOADS_QUEUED_BYTES_MAX


_process_threads = UploadThreads()


def upload_threads() -> UploadThreads:
    """Those of this process: a bound on threads means nothing if each session had its own."""
    return _process_threads


class WriteFile:
    """A handle for writing. Methods are called serially, ``abandon`` at any time.

    ``upload`` is None when the judge refused: bytes are then counted and dropped, and ``close``
    raises ``refusal``, for AWS Transfer shows write refusals at CLOSE.
    ``beginning`` says what the file holds before anything is written. ``append``: each write goes
    to the end, whatever its offset (SFTP draft 02, 6.3). ``room`` bounds how long the file may
    become. ``modified_s``: its time, should the client give none later.
    """

    def __init__(
        self,
        *,
        s3_path: str,
        upload: StoredUpload | None,
        refusal: Exception | None,
        publish: Callable[[Staged], Awaitable[str]],
        threads: UploadThreads,
        room: Room | None = None,
        beginning: Beginning = BLANK,
        append: bool = False,
        modified_s: int | None = None,
        on_landed: Callable[[str], None] = lambda _landing_id: None,
        on_end: Callable[[WriteFile], None] = lambda _file: None,
    ) -> None:
        self.s3_path = s3_path
        self.size = upload.size if upload is not None else 0
        self.landing_id: str | None = None
        self._upload = upload
        self._error = refusal
        self._publish = publish
        self._threads = threads
        self._room_left = room
        self._beginning = beginning
        self._append = append
        self._modified_s = modified_s
        self._on_landed = on_landed
        self._on_end = on_end
        self._runs: list[Run] = []
        self._buffered = 0
        self._pieces = 0
        self._wrote = False  # or truncated: there is something to land
        self._in_order = 0  # everything below it was written by this handle
        self._spilled = False
        self._waiting: list[Run] = []
        self._queued = 0
        self._job: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._closed = False
        self._closing: asyncio.Task[None] | None = None
        self._ended = False
        threads.open_uploads += 1

    @property
    def modified_s(self) -> int:
        """Unix time; unless its client gave one, an upload has none before it lands."""
        return self._modified_s or 0

    # -- writing --------------------------------------------------------------------------------

    async def write(self, offset: int, data: Buffer | Sequence[Buffer]) -> None:
        """Take bytes at ``offset``; they belong to the upload from now on.

        Suspends only when the threads lag by more than ``UPLOAD_QUEUE_BYTES_MAX``, or memory for
        all uploads is used up.

        Raises:
            Unsupported: the first bytes do not begin where they can, see ``Beginning``.
            FeedgateError: an earlier write failed; ``close`` raises the same.
        """
        assert not self._closed, "a write after close"
        assert not self._ended, "a write after abandon"
        pieces = [data] if isinstance(data, bytes | bytearray | memoryview) else list(data)
        size = sum(map(len, pieces))
        if self._error is not None and self._upload is not None:
            raise self._error
        if size == 0:
            return
        if not self._wrote:
            self._check_begin(offset)
        if self._append:
            offset = self.size
        if self._room_left is not None:
            try:
                self._room_left.check(offset + size)
            except FeedgateError as error:
                self._error = error
                raise
        self._wrote = True
        self.size = max(self.size, offset + size)
        if self._upload is None:
            return
        self._collect(offset, pieces, size)
        is_full = self._threads.is_full
        batch = UPLOAD_SHARE_BYTES if is_full else UPLOAD_BATCH_BYTES
        is_over = offset < self._in_order
        if offset <= self._in_order:
            self._in_order = max(self._in_order, offset + size)
        if is_over and self._spilled:
            # a resume after a crash must not bring back what the client was told is replaced
            self._hand_over()
            await self._settled()
        elif self._buffered >= batch or self._pieces >= UPLOAD_BATCH_PIECES_MAX:
            self._hand_over()
            while self._queued > (0 if self._threads.is_full else UPLOAD_QUEUE_BYTES_MAX):
                self._room = asyncio.get_running_loop().create_future()
                await self._room

    def _check_begin(self, offset: int) -> None:
        begins_at = self._beginning.begins_at
        if offset == 0 or begins_at is None or offset in begins_at:
            return
        self._error = Unsupported(
            f"`{self.s3_path}` cannot be resumed at offset {offset}: {self._beginning.reason}",
            hint="send the file again from its start",
        )
        raise self._error

    async def read(self, offset: int, length: int) -> bytes:
        """What the file holds so far, written or found; empty at and after its end.

        Raises:
            AccessDenied: writing was refused, which shows at CLOSE, too.
            Integrity: stored bytes do not verify.
        """
        assert not self._ended, "a read after close"
        if self._error is not None:
            raise self._error
        assert self._upload is not None
        length = min(length, SFTP_READ_BYTES_MAX, self.size - offset)
        if length <= 0:
            return b""
        return await self._work(lambda upload: upload.pread(offset, length))

    async def set_attributes(self, attributes: Attributes) -> None:
        """FSETSTAT: a time is kept, a size truncates or extends; scp sets what it has written.

        Raises:
            FeedgateError: as ``write``.
        """
        assert not self._closed, "attributes after close"
        if attributes.modified_s is not None:
            self._modified_s = attributes.modified_s
        size = attributes.size
        if size is None or size == self.size:
            return
        if self._error is not None and self._upload is not None:
            raise self._error
        if self._room_left is not None:
            self._room_left.check(size)
        if self._upload is not None:
            await self._work(lambda upload: upload.truncate(size))
        self._wrote = True
        self.size = size
        self._in_order = min(self._in_order, size)

    async def sync(self) -> None:
        """What was written is durable when this returns, though visible only after CLOSE.

        Raises:
            AccessDenied: writing was refused, so that nothing was kept.
            FeedgateError: as ``write``; or it was asked for too often.
        """
        assert not self._closed, "a sync after close"
        if self._error is not None:
            raise self._error
        if self._wrote:
            self._spilled = True  # a small one, too, has to reach the disk now: in a thread
            await self._work(lambda upload: upload.sync())

    async def _work(self, work: Callable[[StoredUpload], T]) -> T:
        """Do something with the upload once it has all bytes; in a thread, unless it is small."""
        upload = self._upload
        assert upload is not None
        if self._is_small():
            runs, self._runs = self._runs, []
            self._threads.held_bytes -= self._buffered + self._pieces * _PIECE_OVERHEAD_BYTES
            self._buffered = self._pieces = 0
            self._write_runs(runs)
            return work(upload)
        if self._buffered:
            self._hand_over()
        await self._settled()
        if self._error is not None:
            raise self._error
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads.executor, work, upload)

    def _collect(self, offset: int, pieces: list[Buffer], size: int) -> None:
        if size < _SMALL_PIECE_BYTES:
            pieces = [b"".join(pieces)]  # so that a small piece does not hold a large buffer
        run = self._runs[-1] if self._runs else None
        if run is None or run.end != offset:
            run = Run(offset)
            self._runs.append(run)
        run.pieces += pieces
        run.size += size
        self._buffered += size
        self._pieces += len(pieces)
        self._threads.held_bytes += size + len(pieces) * _PIECE_OVERHEAD_BYTES

    def _hand_over(self) -> None:
        self._spilled = True
        self._queued += self._buffered + self._pieces * _PIECE_OVERHEAD_BYTES
        self._waiting += self._runs
        self._runs, self._buffered, self._pieces = [], 0, 0
        if self._job is None:
            self._start_job()

    def _start_job(self) -> None:
        runs, self._waiting = self._waiting, []
        bytes_in_job = self._queued
        loop = asyncio.get_running_loop()
        self._job = loop.run_in_executor(self._threads.executor, self._write_runs, runs)
        self._job.add_done_callback(lambda job: self._job_done(job, bytes_in_job))

    def _job_done(self, job: asyncio.Future[None], bytes_in_job: int) -> None:
        self._job = None
        self._release(bytes_in_job)
        error = None if job.cancelled() else job.exception()
        if error is not None and self._error is None:
            assert isinstance(error, Exception)
            self._error = error
        if self._error is not None:
            self._release(self._queued)
            self._waiting = []
        if self._waiting:
            self._start_job()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _release(self, queued: int) -> None:
        self._queued -= queued
        self._threads.held_bytes -= queued

    def _write_runs(self, runs: Sequence[Run]) -> None:
        assert self._upload is not None
        for run in runs:
            self._upload.write(run.offset, run.pieces)

    def work_ahead(self) -> None:
        """Nobody waits: do what a CLOSE that comes next will need. Never raises."""
        is_open = not self._closed and not self._ended and self._error is None
        if self._upload is None or not is_open or not self._is_small():
            return
        runs, self._runs = self._runs, []
        try:
            self._write_runs(runs)
            self._upload.seal_ahead()
        except Exception as error:
            self._error = error

    # -- the end --------------------------------------------------------------------------------

    async def close(self) -> None:
        """Make the bytes durable, then object and landing visible in one commit.

        Returns when both are on disk. With nothing written to an existing object that was opened
        without truncation, nothing changes.

        Raises:
            AccessDenied: the judge refused when the file was opened, or refuses now.
            FeedgateError: what an earlier write met, or what sealing and committing meet.
        """
        assert not self._closed, "closed twice"
        self._closed = True
        if self._is_small():
            await self._close()  # awaits the database alone, which commits what was queued
            return
        self._closing = asyncio.create_task(self._close())
        self._closing.add_done_callback(_retrieve)
        await asyncio.shield(self._closing)

    def _is_small(self) -> bool:
        # by its size, not by what was sent: one byte at a far offset makes a large object
        return not self._spilled and max(self.size, self._buffered) <= UPLOAD_INLINE_BYTES_MAX

    async def _close(self) -> None:
        try:
            await self._settled()
            if self._error is not None:
                raise self._error
            assert self._upload is not None
            if self._beginning.exists and not self._wrote:
                if self._beginning.unseen is not None:
                    raise self._beginning.unseen  # neither keeping nor emptying can be promised
                await self._give_back()
                return
            staged = await self._finish()
            self.landing_id = await self._publish(staged)
        except asyncio.CancelledError:
            raise  # the commit may have happened: the bytes must stay, garbage collection decides
        except BaseException:
            await self._abort()
            raise
        finally:
            self._end()
        self._on_landed(self.landing_id)

    async def _finish(self) -> Staged:
        runs, self._runs = self._runs, []
        if self._is_small():
            return self._write_and_finish(runs)
        self._spilled = True
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads.executor, self._write_and_finish, runs)

    def _write_and_finish(self, runs: Sequence[Run]) -> Staged:
        assert self._upload is not None
        self._write_runs(runs)
        if self._modified_s is not None:
            self._upload.metadata[MODIFIED] = str(self._modified_s)
        return self._upload.finish()

    async def abandon(self) -> None:
        """The connection is lost: keep what its user may resume, forget the rest.

        Never raises; a close under way goes on.
        """
        if self._closing is not None:
            await asyncio.wait([self._closing])
        if self._closed or self._ended:
            return
        if self._is_small():
            self._runs = []
            await self._abort()
        else:
            if self._buffered:
                self._hand_over()
            await self._settled()
            await self._give_back()
        self._end()

    async def _settled(self) -> None:
        """No job runs and none waits."""
        while self._job is not None:
            await asyncio.wait([self._job])
            await asyncio.sleep(0)  # its callback, which may start the next one, runs first

    async def _give_back(self) -> None:
        """End the upload as it is: what may be resumed is kept."""
        if self._error is not None or self._upload is None:
            await self._abort()
            return
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads.executor, self._upload.keep)

    async def _abort(self) -> None:
        if self._upload is None:
            return
        if self._spilled:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._threads.executor, self._upload.abort)
        else:
            self._upload.abort()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._threads.open_uploads -= 1
            self._release(self._queued)
            self._threads.held_bytes -= self._buffered + self._pieces * _PIECE_OVERHEAD_BYTES
            self._buffered = self._pieces = 0
            if self._room is not None and not self._room.done():
                self._room.set_result(None)
            self._on_end(self)


def _retrieve(closing: asyncio.Task[None]) -> None:
    """Take the exception of a close that nobody awaits any more, or asyncio reports it as lost."""
    if not closing.cancelled():
        closing.exception()
