"""A relay that holds every byte back for a while: the delay of a network, on one machine.

Linux's netem would do it in the kernel, but needs root and a module that containers often lack. The
relay reads at once and writes later, each way, so TCP itself never waits: what is measured is how
the two ends of SSH keep a long line full.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import cast

import uvloop

__all__ = ["delayed"]

_HELD_BYTES_MAX = 256 * 1024 * 1024


class _Way(asyncio.Protocol):
    """One direction's receiving end."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.transport: asyncio.Transport | None = None
        self.other: _Way | None = None
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.held = 0
        self.due: asyncio.TimerHandle | None = None
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's derives from nothing
        self.transport.set_write_buffer_limits(high=_HELD_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        self.waiting.append((self.loop.time() + self.delay_s, data))
        self.held += len(data)
        assert self.held < _HELD_BYTES_MAX, "the line is longer than this relay"
        self._plan()

    def eof_received(self) -> bool:
        self.waiting.append((self.loop.time() + self.delay_s, b""))
        self._plan()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def _plan(self) -> None:
        if self.due is None and self.waiting:
            self.due = self.loop.call_at(self.waiting[0][0], self._send)

    def _send(self) -> None:
        self.due = None
        now = self.loop.time()
        other = self.other.transport if self.other is not None else None
        while self.waiting and self.waiting[0][0] <= now + 0.000_5:
            _at, data = self.waiting.popleft()
            self.held -= len(data)
            if other is None or other.is_closing():
                continue
            if data:
                other.write(data)
            elif other.can_write_eof():
                other.write_eof()
        self._plan()


async def _serve(port: int, delay_s: float, told: Connection) -> None:
    loop = asyncio.get_running_loop()
    tasks = set()

    async def connect(near: _Way) -> None:
        _transport, far = await loop.create_connection(lambda: _Way(delay_s), "127.0.0.1", port)
        near.other, far.other = far, near
        assert near.transport is not None
        near.transport.resume_reading()

    class Near(_Way):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            assert self.transport is not None
            self.transport.pause_reading()
            task = loop.create_task(connect(self))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await loop.create_server(lambda: Near(delay_s), "127.0.0.1", 0)
    told.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _run(port: int, delay_s: float, told: Connection) -> None:
    uvloop.run(_serve(port, delay_s, told))


@contextlib.contextmanager
def delayed(port: int, delay_s: float) -> Iterator[int]:
    """A loopback port that leads to ``port``, ``delay_s`` seconds away in each direction."""
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_run, args=(port, delay_s, theirs), daemon=True
    )
    process.start()
    try:
        yield int(mine.recv())
    finally:
        process.terminate()
        process.join()
