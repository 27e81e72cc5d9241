"""Between asyncssh and the socket: packets gathered into few writes, and bounds of our own.

asyncssh takes ``tunnel=``, any object with ``create_server(factory, host, port)``; ``Tunnel`` keeps
the factory, and each accepted socket gets a ``Wire`` with a connection of that factory. That is the
public way to put something between the two (design §7): asyncssh writes each SSH packet by itself,
an empty SSH_MSG_IGNORE before it included; written singly, get took half as long again.

What asyncssh does not do and the wire does: it stops replies while unsent bytes pile up, bounds
what a client may send before it has authenticated, and sends the last packets of a connection
before it closes, even where asyncssh says ``abort``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import asyncssh

from feedgate.limits import (
    PREAUTH_BYTES_MAX,
    TRANSPORT_BUFFER_BYTES_MAX,
    TRANSPORT_GATHER_BYTES,
    TRANSPORT_LINGER_S,
)

__all__ = [
    "WIRE",
    "ConnectionFactory",
    "GatheringTransport",
    "HandshakeTurns",
    "PlainWire",
    "Tunnel",
    "Wire",
]

# the name under which a connection's ``get_extra_info`` finds its wire
WIRE = "feedgate.wire"

ConnectionFactory = Callable[[str, int], asyncssh.SSHServerConnection]


class Tunnel:
    """What asyncssh listens through: it never listens, sockets come from the supervisor."""

    def __init__(self) -> None:
        self.factory: ConnectionFactory | None = None

    async def create_server(self, factory: ConnectionFactory, host: str, port: int) -> Tunnel:
        """Called by ``asyncssh.listen``; ``factory`` makes a server connection."""
        del host, port
        self.factory = factory
        return self

    def close(self) -> None:
        """There is nothing to close."""

    async def wait_closed(self) -> None:
        """There is nothing to wait for."""


class GatheringTransport(asyncio.Transport):
    """The transport that asyncssh sees: ``write`` gathers, ``call_soon`` flushes once."""

    def __init__(self, transport: asyncio.Transport, wire: Wire) -> None:
        super().__init__()
        self._transport = transport
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._gathered: list[bytes] = []
        self._bytes = 0
        self._flush_soon = False
        self._corked = False
        self._linger: asyncio.TimerHandle | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == WIRE:
            return self._wire
        if name == "peername" and self._wire.peername is not None:
            return self._wire.peername
        return self._transport.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Gather one SSH packet. It must not change afterwards."""
        self._gathered.append(data)  # type: ignore[arg-type]
        self._bytes += len(data)
        if self._bytes >= TRANSPORT_GATHER_BYTES:
            self.flush()
        elif not self._flush_soon and not self._corked:
            self._flush_soon = True
            self._loop.call_soon(self._flush_late)

    def _flush_late(self) -> None:
        self._flush_soon = False
        self.flush()

    def cork(self) -> None:
        """Whoever writes next calls ``flush`` in the same breath."""
        self._corked = True

    def flush(self) -> None:
        """Hand everything gathered to the socket."""
        self._corked = False
        gathered, self._gathered, self._bytes = self._gathered, [], 0
        if gathered and not self._transport.is_closing():
            self._transport.write(gathered[0] if len(gathered) == 1 else b"".join(gathered))

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        """Flush, close, and cut the connection if the peer does not take its last bytes."""
        self.flush()
        self._transport.close()
        if self._linger is None:
            self._linger = self._loop.call_later(TRANSPORT_LINGER_S, self._transport.abort)

    def abort(self) -> None:
        """As ``close``: asyncssh aborts right after it wrote SSH_MSG_DISCONNECT."""
        self.close()

    def lost(self) -> None:
        """The socket is gone."""
        self._gathered.clear()
        if self._linger is not None:
            self._linger.cancel()


class HandshakeTurns:
    """Bytes of clients that have not logged in: one client's at each turn of the event loop.

    A step of a handshake costs milliseconds. Taken as they come, those of a hundred newcomers would
    run one after another before any open session is answered; so it waits for one at most.
    A client whose bytes wait is not read from, so each has one piece waiting at most.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Wire, bytes]] = deque()

    def wait(self, wire: Wire, data: bytes) -> None:
        """Take ``data`` to ``wire``'s connection when it is its turn."""
        self._waiting.append((wire, data))
        if len(self._waiting) == 1:
            self._loop.call_soon(self._take_one)

    def _take_one(self) -> None:
        wire, data = self._waiting.popleft()
        if self._waiting:
            self._loop.call_soon(self._take_one)
        wire.turn_came(data)


class Wire(asyncio.BaseProtocol):
    """One client's socket and its SSH connection. Form of ``channel.Outlet``.

    How bytes are received is ``PlainWire``'s or ``fastpath.FastWire``'s business.
    """

    def __init__(self, factory: ConnectionFactory) -> None:
        self.connection = factory("", 0)
        self.authenticated = False
        self.turns: HandshakeTurns | None = None
        self._tcp: asyncio.Transport | None = None
        self._is_lost = False
        self.number = 0  # by which the supervisor knows this connection
        self.peername: tuple[str, int] | None = None  # where a proxy told us of another
        self._transport: GatheringTransport | None = None
        self._preauth_bytes = 0
        self._writable: asyncio.Event | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tcp = cast("asyncio.Transport", transport)  # uvloop's derives from nothing of asyncio
        tcp.set_write_buffer_limits(high=TRANSPORT_BUFFER_BYTES_MAX)
        self._tcp = tcp
        self._transport = GatheringTransport(tcp, self)
        self.connection.connection_made(self._transport)

    def may_go_on(self, size: int) -> bool:
        """Count bytes that came before authentication; False when they were too many."""
        self._preauth_bytes += size
        if self._preauth_bytes <= PREAUTH_BYTES_MAX:
            return True
        self.connection.abort()
        return False

    def early(self, data: bytes) -> None:
        """Bytes came before authentication."""
        if not self.may_go_on(len(data)):
            return
        if self.turns is None or self._tcp is None:
            self.connection.data_received(data)
        else:
            self._tcp.pause_reading()
            self.turns.wait(self, data)

    def turn_came(self, data: bytes) -> None:
        """Give asyncssh what waited."""
        if self._is_lost:
            return
        self.connection.data_received(data)
        if self._tcp is not None and not self._tcp.is_closing():
            self._tcp.resume_reading()

    def eof_received(self) -> bool | None:
        self.connection.eof_received()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if self._transport is not None:
            self._transport.lost()
        self.resume_writing()
        self.connection.connection_lost(exc)

    # -- the way out ----------------------------------------------------------------------------

    def pause_writing(self) -> None:
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def cork(self) -> None:
        """What asyncssh writes next waits for ``flush``, which must follow at once."""
        if self._transport is not None:
            self._transport.cork()

    def flush(self) -> None:
        """Hand what asyncssh has written to the socket now, not at the loop's next turn."""
        if self._transport is not None:
            self._transport.flush()

    @property
    def blocked(self) -> bool:
        """Whether unsent bytes pile up."""
        return self._writable is not None

    async def writable(self) -> None:
        """Returns once they do not, or the connection is gone."""
        if self._writable is not None:
            await self._writable.wait()


class PlainWire(Wire, asyncio.Protocol):
    """A wire that gives asyncssh whatever comes."""

    def data_received(self, data: bytes) -> None:
        if self.authenticated:
            self.connection.data_received(data)
        else:
            self.early(data)
