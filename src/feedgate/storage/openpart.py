"""The part that an upload is writing: its file, its writer, and what they need to be durable."""

from __future__ import annotations

import fcntl
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from feedgate import limits
from feedgate.kms.envelope import DataKey
from feedgate.storage import parts
from feedgate.storage.reader import part_reader
from feedgate.storage.surroundings import Surroundings

__all__ = ["OpenPart"]


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


class OpenPart:
    """Used by one thread at a time. The file is locked while it is open: its session lives."""

    def __init__(
        self, store: Surroundings, object_id: str, data_key: DataKey, number: int = 1
    ) -> None:
        self.data_key = data_key
        self.object_id = object_id
        self.number = number
        self._store = store
        self._reader: parts.PartReader | None = None
        self._readable = -1  # bytes of ciphertext that the reader is for
        self.fd = store.files.create(object_id, number)
        fcntl.flock(self.fd, fcntl.LOCK_EX)  # says that this session lives, see `resume`
        self.written = 0  # bytes of ciphertext in the file
        self._synced_at = 0
        self._space_at = 0
        self._sync = _Sync(self.fd)
        self.writer = parts.PartWriter(
            data_key.plaintext, parts.associated_data(object_id, number), self._write_out
        )
        self._finished = False

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
        self._finished = True
        self.writer.finish()
        self._store.crash_at("part-written")
        self._sync.wait()
        os.fdatasync(self.fd)
        self._store.files.sync_directory(self.object_id)
        self._store.crash_at("part-synced")

    def pread(self, offset: int, length: int) -> bytes:
        """Plaintext that was written so far, sealed or not, finished or not."""
        readable = self.written if self._finished else self.writer.write_out_sealed()
        if readable != self._readable or self._reader is None:
            key, number = self.data_key.plaintext, self.number
            cut = not self._finished
            self._reader = (
                part_reader(self.fd, key, self.object_id, number, readable, cut=cut)
                if readable
                else None
            )
            self._readable = readable
        sealed = self._reader.size if self._reader is not None else 0
        data = b""
        if self._reader is not None and offset < sealed:
            data = self._reader.pread(offset, length)
        if len(data) < length and not self._finished:
            at = offset + len(data) - sealed
            data += self.writer.kept[at : at + length - len(data)]
        return data

    def take_fd(self) -> int:
        """The file of a part that is durable, and its lock, for who goes on reading it."""
        assert self._finished
        fd, self.fd = self.fd, -1
        return fd

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
