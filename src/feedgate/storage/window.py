"""Pieces of an upload that wait in memory for their turn.

Clients keep dozens of WRITE requests in flight, and servers in between may reorder them; what comes
early is held here until the bytes before it arrive. A later piece covers an earlier one.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from feedgate import limits

__all__ = ["Held", "Window", "held"]


class Held:
    """What the uploads of this process hold in their windows, in bytes of cost."""

    def __init__(self) -> None:
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def is_full(self) -> bool:
        """Whether each upload must get by with its share."""
        return self._bytes > limits.UPLOADS_HELD_BYTES_MAX

    def change(self, by: int) -> None:
        """Count bytes in, or out."""
        with self._lock:
            self._bytes += by


held = Held()


class Window:
    """Held pieces by offset, without overlaps. ``cost`` counts their bytes and a price for each."""

    __slots__ = ("_offsets", "_pieces", "cost")

    def __init__(self) -> None:
        self._offsets: list[int] = []
        self._pieces: list[bytes] = []
        self.cost = 0

    def __bool__(self) -> bool:
        return bool(self._offsets)

    def put(self, offset: int, piece: bytes) -> None:
        """Hold ``piece`` at ``offset``."""
        if piece:
            if self.overlaps(offset, offset + len(piece)):
                self._clear(offset, offset + len(piece))
            self._insert(offset, piece)

    def overlaps(self, begin: int, end: int) -> bool:
        """Whether anything in [begin, end) is held."""
        at = bisect_left(self._offsets, end) - 1
        return at >= 0 and self._offsets[at] + len(self._pieces[at]) > begin

    def take_run(self, offset: int) -> list[bytes]:
        """Remove and return the pieces that follow one another from exactly ``offset``."""
        first = bisect_left(self._offsets, offset)
        after = first
        while after < len(self._offsets) and self._offsets[after] == offset:
            offset += len(self._pieces[after])
            after += 1
        return self._remove(first, after)

    def between(self, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
        """The pieces that lie, in part at least, in [begin, end), with their offsets."""
        at = max(0, bisect_right(self._offsets, begin) - 1)
        while at < len(self._offsets) and self._offsets[at] < end:
            if self._offsets[at] + len(self._pieces[at]) > begin:
                yield self._offsets[at], self._pieces[at]
            at += 1

    def cut(self, size: int) -> None:
        """Forget what is held at ``size`` and beyond."""
        if self._offsets:
            end = self._offsets[-1] + len(self._pieces[-1])
            if end > size:
                self._clear(size, end)

    def take_all(self) -> Iterator[tuple[int, list[bytes]]]:
        """Remove everything, as runs in order of their offsets."""
        while self._offsets:
            offset = self._offsets[0]
            yield offset, self.take_run(offset)

    def _insert(self, offset: int, piece: bytes) -> None:
        at = bisect_left(self._offsets, offset)
        self._offsets.insert(at, offset)
        self._pieces.insert(at, piece)
        self.cost += len(piece) + limits.HELD_PIECE_OVERHEAD_BYTES

    def _remove(self, first: int, after: int) -> list[bytes]:
        pieces = self._pieces[first:after]
        del self._offsets[first:after], self._pieces[first:after]
        self.cost -= sum(map(len, pieces)) + limits.HELD_PIECE_OVERHEAD_BYTES * len(pieces)
        return pieces

    def _clear(self, begin: int, end: int) -> None:
        first = bisect_right(self._offsets, begin)
        if first and self._offsets[first - 1] + len(self._pieces[first - 1]) > begin:
            first -= 1
        after = bisect_left(self._offsets, end)
        if first == after:
            return
        low, high = self._offsets[first], self._offsets[after - 1]
        pieces = self._remove(first, after)
        # slices of bytes are copies: what is left of a piece must not keep all of it in memory
        if low < begin:
            self._insert(low, pieces[0][: begin - low])
        if high + len(pieces[-1]) > end:
            self._insert(end, pieces[-1][end - high :])
