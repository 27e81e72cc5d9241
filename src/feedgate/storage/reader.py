"""An open object: extents over parts, decrypted where they are read.

Each part's file is opened at once, so the object stays readable when its key is deleted or replaced
and its parts are removed meanwhile.
"""

from __future__ import annotations

import hmac
import os
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

from feedgate.errors import CouldNot, Integrity
from feedgate.storage import parts
from feedgate.storage.bucket import ObjectInfo
from feedgate.storage.extents import Extent
from feedgate.storage.index import Layout, VersionRow, row_seal
from feedgate.storage.partfiles import PartFiles, disk_error

__all__ = ["EmbeddedReader", "PartsReader", "open_version", "part_reader"]


def part_reader(
    fd: int, data_key: bytes, object_id: str, number: int, size: int, *, cut: bool = False
) -> parts.PartReader:
    """A reader of one part through its file. ``size`` is the ciphertext's. Raises ``Integrity``.

    ``cut``: as for ``PartReader``.
    """

    def read_at(offset: int, length: int) -> bytes:
        try:
            return os.pread(fd, length, offset)
        except OSError as error:
            raise disk_error(error, f"read a part of the object `{object_id}`") from error

    associated = parts.associated_data(object_id, number)
    return parts.PartReader(data_key, associated, size, read_at, cut=cut)


class PartsReader:
    """The plaintext of extents over parts; what no extent covers is zeros."""

    __slots__ = ("_ends", "_extents", "_readers", "_size", "_whole")

    def __init__(
        self, readers: Mapping[int, parts.PartReader], extents: Sequence[Extent], size: int
    ) -> None:
        self._readers = readers
        self._extents = extents
        self._ends = [extent.end for extent in extents]
        self._size = size
        # the common case by far: one sequential upload
        whole = len(extents) == 1 and extents[0] == Extent(0, size, extents[0].part, 0)
        self._whole = readers[extents[0].part] if whole else None

    def pread(self, offset: int, length: int) -> bytes:
        """Bytes at ``offset``; short only at the end."""
        end = min(offset + length, self._size)
        if offset >= end:
            return b""
        if self._whole is not None:
            return self._whole.pread(offset, end - offset)
        pieces: list[bytes] = []
        at = bisect_right(self._ends, offset)
        while offset < end:
            extent = self._extents[at] if at < len(self._extents) else None
            if extent is None or extent.offset > offset:
                stop = min(end, extent.offset) if extent is not None else end
                pieces.append(bytes(stop - offset))
            else:
                stop = min(end, extent.end)
                inner = extent.part_offset + offset - extent.offset
                pieces.append(self._readers[extent.part].pread(inner, stop - offset))
                at += 1
            offset = stop
        return b"".join(pieces)


class EmbeddedReader:
    """An open object version: an ``ObjectReader``. Thread-safe until it is closed."""

    __slots__ = ("_close", "_pread", "info")

    def __init__(
        self, info: ObjectInfo, pread: Callable[[int, int], bytes], close: Callable[[], None]
    ) -> None:
        self.info = info
        self._pread: Callable[[int, int], bytes] | None = pread
        self._close = close

    def pread(self, offset: int, length: int) -> bytes:
        """Bytes at ``offset``; short only at the end.

        Raises:
            Integrity: the stored bytes were changed, cut or swapped.
            CouldNot: the disk failed.
        """
        assert self._pread is not None, "the reader is closed"
        return self._pread(offset, length)

    def close(self) -> None:
        """Let go of the object. Idempotent."""
        if self._pread is not None:
            self._pread = None
            self._close()


def open_version(files: PartFiles, row: VersionRow, data_key: bytes) -> EmbeddedReader | None:
    """Open what a row describes; None when a part's file is gone.

    Raises:
        Integrity: the row's seal, the inline bytes or a part's end do not verify.
    """
    info = row.info
    if not hmac.compare_digest(row_seal(data_key, info, row.layout), row.seal):
        raise Integrity(f"the index row of `{info.key}` in `{info.bucket}` does not verify")
    layout = Layout.parse(row.layout)
    if layout.inline:
        plaintext = _open_inline(row, data_key)

        def pread_inline(offset: int, length: int) -> bytes:
            return plaintext[offset : offset + length]

        return EmbeddedReader(info, pread_inline, lambda: None)
    fds: list[int] = []

    def close() -> None:
        while fds:
            os.close(fds.pop())

    try:
        readers = {}
        for number, size in layout.parts.items():
            fds.append(files.open(info.object_id, number))
            if os.fstat(fds[-1]).st_size != size:
                raise Integrity(f"a part of `{info.key}` in `{info.bucket}` was cut")
            readers[number] = part_reader(fds[-1], data_key, info.object_id, number, size)
    except FileNotFoundError:
        close()
        return None
    except OSError as error:
        close()
        raise disk_error(error, f"open a part of `{info.key}` in `{info.bucket}`") from error
    except CouldNot:
        close()
        raise
    return EmbeddedReader(info, PartsReader(readers, layout.extents, info.size).pread, close)


def _open_inline(row: VersionRow, data_key: bytes) -> bytes:
    info = row.info
    if row.inline is None:
        raise Integrity(f"the bytes of `{info.key}` in `{info.bucket}` are gone")
    plaintext = parts.unseal(data_key, parts.associated_data(info.object_id, 1), row.inline)
    if len(plaintext) != info.size:
        raise Integrity(f"`{info.key}` in `{info.bucket}` was cut")
    return plaintext
