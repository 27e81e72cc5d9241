"""A worker: one event loop, the door in it. Nothing in memory that another process needs.

The supervisor hands it accepted sockets; it follows the generation of the definition and of the
users in the database once a second, and judges open sessions again when that changed.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from feedgate.errors import FeedgateError
from feedgate.gateway.lifecycle import Door, Supervision
from feedgate.gateway.login import GatewayLogin
from feedgate.gateway.process import Channel
from feedgate.gateway.report import Report
from feedgate.gateway.services import Services
from feedgate.identity.refusals import Refusal, RefusalCause
from feedgate.limits import POLL_S

__all__ = ["run_worker"]

DoorFactory = Callable[[Services, GatewayLogin, Supervision, Mapping[str, Any]], Door]


async def run_worker(
    channel: Channel, open_services: Callable[[], Services], door: DoorFactory
) -> None:
    """Serve until told to drain, or until the supervisor is gone."""
    worker = _Worker(channel, open_services, door)
    await worker.run()


class _Worker:
    def __init__(
        self, channel: Channel, open_services: Callable[[], Services], door: DoorFactory
    ) -> None:
        self._channel = channel
        self._open_services = open_services
        self._make_door = door
        self._services: Services | None = None
        self._login: GatewayLogin | None = None
        self._door: Door | None = None
        self._report = Report(channel)
        self._received = 0
        self._recheck_due = False
        self._messages: asyncio.Queue[tuple[dict[str, Any], socket.socket | None] | None]
        self._messages = asyncio.Queue()
        self._handlers: dict[str, Callable[[dict[str, Any], socket.socket | None], Awaitable[bool]]]
        self._handlers = {
            "start": self._on_start,
            "connection": self._on_connection,
            "end": self._on_end,
            "answer": self._on_answer,
            "drain": self._on_drain,
        }

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self._channel.sock.setblocking(False)
        loop.add_reader(self._channel.sock, self._readable)
        follower = asyncio.create_task(self._follow())
        try:
            while (item := await self._messages.get()) is not None:
                message, connection = item
                if not await self._handlers[message["kind"]](message, connection):
                    return
        finally:
            follower.cancel()
            loop.remove_reader(self._channel.sock)
            if self._services is not None:
                self._services.close()

    def _readable(self) -> None:
        try:
            self._messages.put_nowait(self._channel.receive())
        except BlockingIOError:
            return

    async def _on_start(self, message: dict[str, Any], _connection: object) -> bool:
        try:
            self._services = self._open_services()
            if self._channel.wants_events:
                self._services.on_event = lambda event: self._report.send("event", event=event)
            self._login = GatewayLogin(self._services)
            self._door = self._make_door(self._services, self._login, self._report, message["door"])
            await self._door.start()
        except FeedgateError as error:
            self._report.send("failed", message=str(error), hint=error.hint)
            return False
        self._report.send("ready")
        return True

    async def _on_connection(
        self, message: dict[str, Any], connection: socket.socket | None
    ) -> bool:
        self._received += 1
        assert self._door is not None
        number = int(message["number"])
        if connection is None:  # no descriptor was free to receive it with
            assert self._services is not None
            cause = RefusalCause.NO_DESCRIPTOR
            self._services.log.emit("CONNECTION_REJECTED", cause=cause)
            self._report.refused(Refusal(cause, time.time()))
            self._report.closed(number)
        else:
            self._door.connect(connection, number, proxied=bool(message["proxied"]))
        return True

    async def _on_end(self, message: dict[str, Any], _connection: object) -> bool:
        if self._door is not None:
            self._door.end(int(message["number"]), RefusalCause(message["cause"]))
        return True

    async def _on_answer(self, message: dict[str, Any], _connection: object) -> bool:
        self._report.answered(int(message["number"]), message["value"])
        return True

    async def _on_drain(self, message: dict[str, Any], _connection: object) -> bool:
        if self._door is not None:
            await self._door.drain(float(message["grace_s"]))
        self._report.send("drained")
        return False

    async def _follow(self) -> None:
        """Report the load, and take up a new generation. The report is also the heartbeat."""
        while True:
            await asyncio.sleep(POLL_S / 2)
            if self._door is None or self._services is None or self._login is None:
                continue
            self._report.send("load", connections=self._door.connections, received=self._received)
            try:
                await self._take_up(self._services, self._login, self._door)
            except Exception as error:  # one bad round must not end revocation for good
                self._services.log.error("could not take up a change", reason=repr(error))

    async def _take_up(self, services: Services, login: GatewayLogin, door: Door) -> None:
        self._recheck_due = services.users_changed() or self._recheck_due
        self._recheck_due = services.refresh() or self._recheck_due
        if self._recheck_due:
            login.renew_policies()
            await door.recheck(login.still_valid)
            self._recheck_due = False
