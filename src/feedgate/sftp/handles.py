"""Handles of one SFTP session: what a client has open, and how many bytes passed.

A handle is four bytes that are never used twice in a session. An upload's handle has three ends:
``close`` (the client said CLOSE), a refused ``close``, and ``abandon`` (every other end).

A handle takes a place of its connection, and with it one of the process; both are bounded.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from feedgate.errors import CouldNot
from feedgate.files.home import Directory, Entry, ReadFile, WriteFile

__all__ = ["Download", "Handle", "HandleRoom", "Handles", "Listing", "Upload"]


@dataclass(slots=True)
class Upload:
    """A file open for writing."""

    file: WriteFile
    path: str
    bytes_in: int = 0
    bytes_out: int = 0
    reads: bool = False  # opened for reading, too
    opened_at_s: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Download:
    """A file open for reading."""

    file: ReadFile
    path: str
    bytes_out: int = 0


@dataclass(slots=True)
class Listing:
    """An open directory; ``waiting`` are names that did not fit into the last reply."""

    directory: Directory
    path: str
    waiting: list[Entry] = field(default_factory=list)


Handle = Upload | Download | Listing


class HandleRoom:
    """Places for handles: ``handles_max`` of them, each taking one of ``within`` too."""

    __slots__ = ("_taken", "_within", "handles_max")

    def __init__(self, handles_max: int, within: HandleRoom | None = None) -> None:
        self.handles_max = handles_max
        self._taken = 0
        self._within = within

    def take(self) -> None:
        """Take a place. Raises ``CouldNot`` when none is left."""
        if self._taken >= self.handles_max:
            raise CouldNot(f"more than {self.handles_max} handles are open")
        if self._within is not None:
            self._within.take()
        self._taken += 1

    def give_back(self) -> None:
        """Give a place back that was taken."""
        assert self._taken > 0
        self._taken -= 1
        if self._within is not None:
            self._within.give_back()


class Handles:
    """Those of one session, in a room that it may share with others."""

    def __init__(self, room: HandleRoom) -> None:
        self.room = room
        self._open: dict[bytes, Handle] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Handle]:
        return iter(self._open.values())

    async def add(self, opening: Callable[[], Awaitable[Handle]]) -> bytes:
        """Open something once there is a place for it; its handle's name on the wire.

        Raises:
            CouldNot: there is none, and so nothing was opened; or what ``opening`` raises.
        """
        self.room.take()
        try:
            handle = await opening()
        except BaseException:
            self.room.give_back()
            raise
        name = self._next.to_bytes(4, "big")
        self._next += 1
        self._open[name] = handle
        return name

    def get(self, name: bytes) -> Handle:
        """Raises ``CouldNot`` when there is none."""
        try:
            return self._open[name]
        except KeyError:
            raise CouldNot("no such handle") from None

    def pop(self, name: bytes) -> Handle:
        """As ``get``; the handle is gone afterwards."""
        handle = self.get(name)
        del self._open[name]
        self.room.give_back()
        return handle

    def pop_each(self) -> Iterator[Handle]:
        """Everything that is still open, one after another; nothing is afterwards."""
        while self._open:
            yield self.pop(next(iter(self._open)))

    @property
    def transfers(self) -> int:
        """How many files are open, directories not counted."""
        return sum(not isinstance(handle, Listing) for handle in self._open.values())
