"""Where an object's bytes lie: an ordered list of extents over parts. Pure.

Bytes are appended to the open part in whatever order they come, so a part may hold bytes that a
later write covered; the extents say which count. What no extent covers was never written and reads
as zeros.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Extent", "ExtentMap", "hole_bytes"]


@dataclass(frozen=True, slots=True)
class Extent:
    """``length`` bytes of the object from ``offset`` lie in part ``part`` from ``part_offset``."""

    offset: int
    length: int
    part: int
    part_offset: int

    @property
    def end(self) -> int:
        return self.offset + self.length


class ExtentMap:
    """Extents in order, without overlaps; a later ``put`` covers an earlier one.

    ``sequential`` is true while every ``put`` continued the one before it from offset 0.
    """

    __slots__ = ("_extents", "sequential")

    def __init__(self, extents: Sequence[Extent] = ()) -> None:
        """``extents`` came out of another map, so they are in order; then nothing is sequential."""
        self._extents = list(extents)
        self.sequential = not extents

    def __len__(self) -> int:
        return len(self._extents)

    def __iter__(self) -> Iterator[Extent]:
        return iter(self._extents)

    def put(self, offset: int, length: int, part: int, part_offset: int) -> None:
        """Say that these bytes of the object now lie there."""
        extents = self._extents
        last = extents[-1] if extents else None
        self.sequential = self.sequential and offset == (last.end if last else 0)
        if last is not None and offset >= last.end:
            if (offset, part, part_offset) == (last.end, last.part, last.part_offset + last.length):
                extents[-1] = Extent(last.offset, last.length + length, part, last.part_offset)
                return
        elif last is not None:
            self._clear(offset, offset + length)
        at = bisect_right(extents, offset, key=lambda extent: extent.offset)
        extents.insert(at, Extent(offset, length, part, part_offset))

    def cut(self, size: int) -> None:
        """Forget what lies at ``size`` and beyond."""
        if self._extents and self._extents[-1].end > size:
            self.sequential = False
            self._clear(size, self._extents[-1].end)

    def between(self, begin: int, end: int) -> Iterator[Extent]:
        """The extents that lie, in part at least, in [begin, end)."""
        at = bisect_right(self._extents, begin, key=lambda extent: extent.end)
        while at < len(self._extents) and self._extents[at].offset < end:
            yield self._extents[at]
            at += 1

    def overlaps(self, begin: int, end: int) -> bool:
        """Whether any extent lies, in part at least, in [begin, end)."""
        return self.reaches(begin) and any(True for _ in self.between(begin, end))

    @property
    def end(self) -> int:
        """The offset after the last byte."""
        return self._extents[-1].end if self._extents else 0

    def reaches(self, size: int) -> bool:
        """Whether anything lies beyond the first ``size`` bytes."""
        return self.end > size

    def below(self, size: int) -> tuple[Extent, ...]:
        """What lies in the first ``size`` bytes."""
        return tuple(
            Extent(e.offset, min(e.end, size) - e.offset, e.part, e.part_offset)
            for e in self._extents
            if e.offset < size
        )

    def contiguous(self) -> int:
        """How many bytes from the object's first are there without a gap."""
        end = 0
        for extent in self._extents:
            if extent.offset != end:
                break
            end = extent.end
        return end

    def _clear(self, begin: int, end: int) -> None:
        """Take [begin, end) away from what is there."""
        extents = self._extents
        first = bisect_right(extents, begin, key=lambda extent: extent.offset)
        if first and extents[first - 1].end > begin:
            first -= 1
        after = first
        left: list[Extent] = []
        while after < len(extents) and extents[after].offset < end:
            old = extents[after]
            if old.offset < begin:
                left.append(Extent(old.offset, begin - old.offset, old.part, old.part_offset))
            if old.end > end:
                skip = end - old.offset
                left.append(Extent(end, old.end - end, old.part, old.part_offset + skip))
            after += 1
        extents[first:after] = left


def hole_bytes(extents: Sequence[Extent], size: int) -> int:
    """How many of the object's bytes no extent covers."""
    return size - sum(extent.length for extent in extents)
