"""What a worker needs from a door, whichever protocol it speaks."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

__all__ = ["Door"]


class Door(Protocol):
    """A door for suppliers. Form: ``sftp.server.SftpDoor``. Runs on the worker's event loop."""

    async def start(self) -> None:
        """Load host keys, get ready to take connections."""
        ...

    def connect(self, sock: socket.socket) -> None:
        """Take over an accepted, connected socket."""
        ...

    async def drain(self, grace_s: float) -> None:
        """Let open transfers finish for ``grace_s`` seconds, then disconnect whoever is left."""
        ...

    def recheck(self, still_valid: Callable[[str, str], bool]) -> None:
        """End the sessions for which ``still_valid(user_name, fingerprint)`` is False."""
        ...

    @property
    def connections(self) -> int:
        """How many connections are open."""
        ...
