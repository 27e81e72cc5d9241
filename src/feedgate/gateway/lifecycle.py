"""What a worker needs from a door, whichever protocol it speaks, and what a door needs of it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from feedgate.identity.refusals import Refusal, RefusalCause
from feedgate.stack.resources import User

__all__ = ["Credentials", "Door", "Supervision", "Unsupervised"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """By what a session got in: asked again when users or definition change.

    ``fingerprint`` is that of the SSH key, empty where there was none; ``user`` is as it was then.
    """

    user: User
    fingerprint: str
    by_password: bool
    source_ip: str

    @property
    def user_name(self) -> str:
        """Who it is."""
        return self.user.user_name


class Door(Protocol):
    """A door for suppliers. Form: ``sftp.server.SftpDoor``. Runs on the worker's event loop."""

    async def start(self) -> None:
        """Load host keys, get ready to take connections."""
        ...

    def connect(self, sock: socket.socket, number: int = 0, *, proxied: bool = False) -> None:
        """Take over an accepted, connected socket, known to the supervisor by its number.

        One that is ``proxied`` begins with a PROXY protocol header.
        """
        ...

    def end(self, number: int, cause: RefusalCause) -> None:
        """Disconnect one connection, if it is still there."""
        ...

    async def drain(self, grace_s: float) -> None:
        """Let open transfers finish for ``grace_s`` seconds, then disconnect whoever is left."""
        ...

    async def recheck(self, still_valid: Callable[[Credentials], bool]) -> None:
        """End the sessions for which ``still_valid`` is False."""
        ...

    @property
    def connections(self) -> int:
        """How many connections are open."""
        ...


class Supervision(Protocol):
    """What a door tells and asks the supervisor. Form: ``gateway.report.Report``.

    ``number`` is the one that ``Door.connect`` was given. Nothing here raises: a supervisor that is
    gone ends the worker anyway.
    """

    async def admit(self, number: int, address: str) -> bool:
        """Whether a proxied connection may stay, now that the client's address is known."""
        ...

    def authenticated(
        self,
        number: int,
        user_name: str,
        address: str,
        session_id: str,
        *,
        fingerprint: str = "",
        client_version: str = "",
    ) -> None:
        """Somebody logged in; ``Door.end`` follows where that was one too many."""
        ...

    def failed(self, address: str, password_of: str | None) -> None:
        """A login failed; ``password_of`` names the user for whom a password was wrong."""
        ...

    async def password_delay_s(self, number: int, user_name: str, address: str) -> float:
        """How long the answer to a password waits."""
        ...

    def refused(self, refusal: Refusal) -> None:
        """A connection was refused, for this one cause."""
        ...

    def closed(self, number: int) -> None:
        """A connection that ``Door.connect`` was given is gone."""
        ...


class Unsupervised:
    """Form of ``Supervision`` for a door that runs alone: no limits but its own."""

    async def admit(self, number: int, address: str) -> bool:
        """Yes."""
        del number, address
        return True

    def authenticated(
        self,
        number: int,
        user_name: str,
        address: str,
        session_id: str,
        *,
        fingerprint: str = "",
        client_version: str = "",
    ) -> None:
        """Nobody counts."""

    def failed(self, address: str, password_of: str | None) -> None:
        """Nobody counts."""

    async def password_delay_s(self, number: int, user_name: str, address: str) -> float:
        """None."""
        del number, user_name, address
        return 0.0

    def refused(self, refusal: Refusal) -> None:
        """Nobody listens."""

    def closed(self, number: int) -> None:
        """Nobody counts."""
