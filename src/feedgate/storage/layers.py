"""What an upload holds before it is finished, in layers.

On top what waits in memory, below it the extents over parts, below them the object that the upload
changes; what none of them has reads as zeros.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass

from feedgate import limits
from feedgate.storage.bucket import ObjectReader
from feedgate.storage.extents import ExtentMap
from feedgate.storage.window import Window

__all__ = ["Beneath", "canvas", "hole_bytes", "overlay", "sha256_of", "wants_rewrite"]


@dataclass(slots=True)
class Beneath:
    """The first ``size`` bytes of the object that an upload changes."""

    reader: ObjectReader
    size: int

    def cut(self, size: int) -> None:
        """What was truncated does not come back when the upload grows again."""
        self.size = min(self.size, size)


def canvas(beneath: Beneath | None, size: int) -> bytearray:
    """An object of ``size`` bytes before anything was written to it."""
    plaintext = bytearray(size)
    if beneath is not None and beneath.size:
        data = beneath.reader.pread(0, min(size, beneath.size))
        plaintext[: len(data)] = data
    return plaintext


def overlay(
    begin: int,
    end: int,
    *,
    beneath: Beneath | None,
    extents: ExtentMap,
    window: Window,
    read_part: Callable[[int, int, int], bytes],
) -> bytes:
    """The upload's bytes in [begin, end). ``read_part`` takes part number, offset, length."""
    found = list(extents.between(begin, end))
    if len(found) == 1 and not window and found[0].offset <= begin and found[0].end >= end:
        return read_part(found[0].part, found[0].part_offset + begin - found[0].offset, end - begin)
    buffer = bytearray(end - begin)
    if beneath is not None and begin < min(end, beneath.size):
        data = beneath.reader.pread(begin, min(end, beneath.size) - begin)
        buffer[: len(data)] = data
    for extent in found:
        low, high = max(begin, extent.offset), min(end, extent.end)
        inner = extent.part_offset + low - extent.offset
        buffer[low - begin : high - begin] = read_part(extent.part, inner, high - low)
    for offset, piece in window.between(begin, end):
        low, high = max(begin, offset), min(end, offset + len(piece))
        buffer[low - begin : high - begin] = memoryview(piece)[low - offset : high - offset]
    return bytes(buffer)


def wants_rewrite(
    beneath: Beneath | None,
    extents: ExtentMap,
    earlier: Collection[tuple[int, bool]],
    written: int,
    size: int,
) -> bool:
    """Whether an object of ``size`` bytes may not consist of the parts as they are.

    ``earlier``: the ciphertext size of each part of the sessions before, and whether it was cut;
    ``written``: the bytes in the part of this one.
    """
    return (
        (beneath is not None and _covered(extents, beneath.size) < beneath.size)
        or any(cut for _size, cut in earlier)
        or len(earlier) >= limits.PARTS_MAX
        or len(extents) > limits.EXTENTS_MAX
        or sum(stored for stored, _cut in earlier) + written > 2 * size + limits.DEAD_BYTES_MAX
    )


def sha256_of(pread: Callable[[int, int], bytes], size: int) -> str:
    """The SHA-256 of so many bytes, read back; in hex."""
    sha256 = hashlib.sha256()
    for offset in range(0, size, limits.UPLOAD_BATCH_BYTES):
        sha256.update(pread(offset, limits.UPLOAD_BATCH_BYTES))
    return sha256.hexdigest()


def hole_bytes(beneath: Beneath | None, extents: ExtentMap, size: int) -> int:
    """How many of the upload's bytes were never written, nor lie in the object beneath."""
    held = _covered(extents, size)
    if beneath is not None:
        held += beneath.size - _covered(extents, beneath.size)
    return size - held


def _covered(extents: ExtentMap, size: int) -> int:
    return sum(min(extent.end, size) - extent.offset for extent in extents.between(0, size))
