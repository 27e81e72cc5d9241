"""What asyncssh holds for each connection and an idle one does not need: given back, or shared.

Measured, of the 35 KiB that a session takes without this module: options of its own, equal to the
door's (8 KiB, and another thread's work in each login); both sides' SSH_MSG_KEXINIT, which only the
next key exchange replaces (2 KiB); sets and queues that stay empty (1 KiB).

Guard: as for ``fastpath``, private parts are touched with versions that it was tested with only;
the door calls here where the fast path is allowed. Without it a session costs more, nothing else.
"""

# ruff: noqa: SLF001 - what this module is for

from __future__ import annotations

import asyncio
from typing import Any, Final

import asyncssh

__all__ = ["forget_handshake", "slim_channel", "slim_connection"]

# of host keys and certificates that a client trusts or not: a server only keeps them empty
_EMPTY_SETS: Final = (
    *("_trusted_host_keys", "_trusted_ca_keys", "_revoked_host_keys", "_x509_revoked_certs"),
)
_NOTHING: Final[frozenset[object]] = frozenset()


class _Closed:
    """As ``asyncio.Event``, whose queue is there only once somebody waits."""

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: asyncio.Event | None = None

    def set(self) -> None:
        self._is_set = True
        if self._event is not None:
            self._event.set()

    def is_set(self) -> bool:
        return self._is_set

    async def wait(self) -> bool:
        if not self._is_set:
            if self._event is None:
                self._event = asyncio.Event()
            await self._event.wait()
        return True


async def _nothing_to_reload() -> None:
    """The door reads no configuration file, so no ``Match`` in one can apply to a user."""


def slim_connection(connection: asyncssh.SSHServerConnection) -> None:
    """Called when a connection was made, before anything was received."""
    ssh: Any = connection
    # asyncssh works out all options again for each login, on another thread, and keeps them
    assert hasattr(ssh, "reload_config")
    ssh.reload_config = _nothing_to_reload
    for name in _EMPTY_SETS:
        assert getattr(ssh, name) == set(), name
        setattr(ssh, name, _NOTHING)
    _close_lazily(ssh)


def slim_channel(channel: asyncssh.SSHServerChannel[bytes]) -> None:
    """Called when a channel was made, before anything can wait for its end."""
    _close_lazily(channel)


def forget_handshake(connection: asyncssh.SSHServerConnection) -> None:
    """Called once nobody will ask any more what was offered. Each key exchange sets both anew."""
    ssh: Any = connection
    assert hasattr(ssh, "_kex")
    if ssh._kex is None and ssh._kex_complete:  # they are part of what a key exchange signs
        assert hasattr(ssh, "_client_kexinit")
        assert hasattr(ssh, "_server_kexinit")
        ssh._client_kexinit = ssh._server_kexinit = b""


def _close_lazily(owner: Any) -> None:
    event = owner._close_event
    assert not event.is_set()
    assert not event._waiters
    owner._close_event = _Closed()
