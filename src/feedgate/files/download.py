"""A download: one pread and decrypt per request, in the loop.

Read-ahead in a thread made it worse on two cores (1.04 against 0.88 of OpenSSH's time); a bucket
across a network will need it.
"""

from __future__ import annotations

from collections.abc import Callable

from feedgate.errors import Unsupported
from feedgate.files.objects import Attributes, StoredReader, modified_s
from feedgate.limits import SFTP_READ_BYTES_MAX

__all__ = ["ReadFile"]


class ReadFile:
    """A handle for reading one object version, which outlives the key's removal or replacement."""

    def __init__(
        self,
        reader: StoredReader,
        *,
        s3_path: str,
        on_end: Callable[[ReadFile], None] = lambda _file: None,
    ) -> None:
        self.s3_path = s3_path
        self.size = reader.info.size
        self.sha256 = reader.info.sha256
        self.modified_s = modified_s(reader.info)
        self._reader = reader
        self._on_end = on_end
        self._closed = False

    async def read(self, offset: int, length: int) -> bytes:
        """At most ``SFTP_READ_BYTES_MAX`` bytes from ``offset``; empty at and after the end.

        Raises:
            Integrity: the stored bytes do not verify.
        """
        assert not self._closed, "a read after close"
        if offset >= self.size:
            return b""
        return self._reader.pread(offset, min(length, SFTP_READ_BYTES_MAX, self.size - offset))

    def pread(self, offset: int, length: int) -> bytes:
        """As ``read``, of any length and in any thread, one at a time."""
        return self._reader.pread(offset, length)

    async def set_attributes(self, attributes: Attributes) -> None:
        """FSETSTAT: accepted and without effect. Raises ``Unsupported`` for another size."""
        if attributes.size not in (None, self.size):
            raise Unsupported("changing the size of a stored object is not supported")

    async def close(self) -> None:
        """Give the object back. Idempotent."""
        if not self._closed:
            self._closed = True
            self._reader.close()
            self._on_end(self)
