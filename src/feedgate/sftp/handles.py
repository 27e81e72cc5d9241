"""Handles of one SFTP session: what a client has open, and how many bytes passed.

A handle is four bytes that are never used twice in a session. An upload's handle has three ends:
``close`` (the client said CLOSE), a refused ``close``, and ``abandon`` (every other end).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from feedgate.errors import CouldNot
from feedgate.files.home import Directory, Entry, ReadFile, WriteFile
from feedgate.limits import SFTP_HANDLES_MAX

__all__ = ["Download", "Handle", "Handles", "Listing", "Upload"]


@dataclass(slots=True)
class Upload:
    """A file open for writing."""

    file: WriteFile
    path: str
    bytes_in: int = 0


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


class Handles:
    """At most ``SFTP_HANDLES_MAX`` of them."""

    def __init__(self) -> None:
        self._open: dict[bytes, Handle] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Handle]:
        return iter(self._open.values())

    def require_room(self) -> None:
        """Raises ``CouldNot`` when no handle is left: asked before anything is opened."""
        if len(self._open) >= SFTP_HANDLES_MAX:
            raise CouldNot(f"more than {SFTP_HANDLES_MAX} handles are open")

    def add(self, handle: Handle) -> bytes:
        """Its name on the wire."""
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
        return handle

    def pop_all(self) -> list[Handle]:
        """Everything that is still open; nothing is afterwards."""
        handles = list(self._open.values())
        self._open.clear()
        return handles

    @property
    def transfers(self) -> int:
        """How many files are open, directories not counted."""
        return sum(not isinstance(handle, Listing) for handle in self._open.values())
