"""One SSH channel that carries SFTP: bytes in, requests in order, replies gathered, bounds kept.

asyncssh calls in with bytes; one task a channel answers the requests. It runs on without a task
switch while handlers do not suspend, writes the replies to one burst together, and stops taking
requests while its own output cannot leave. What is bounded:

- requests that wait: above ``SFTP_BACKLOG_BYTES_MAX`` the channel stops reading; asyncssh then
  holds at most a window's bytes;
- replies that cannot leave: none is made while the channel's window or the socket is full;
- a turn: after ``SFTP_TURN_S`` other sessions get the loop.

The end: EOF lets the requests that came before it be answered; a closed channel, a lost connection
or a stream that cannot be followed drops them. In every case the request under way runs to its end,
then the session abandons what is open. The task is never cancelled by us.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import Callable
from typing import Protocol

import asyncssh

from feedgate.errors import FeedgateError
from feedgate.limits import SFTP_BACKLOG_BYTES_MAX, SFTP_REPLIES_BYTES, SFTP_TURN_S
from feedgate.sftp.events import ConnectionEvents
from feedgate.sftp.packets import Framer, MalformedError, Request
from feedgate.sftp.session import SftpSession

__all__ = ["Outlet", "SftpChannel"]


class Outlet(Protocol):
    """The connection's way out, shared by its channels. Form: ``transport.Wire``."""

    @property
    def blocked(self) -> bool:
        """Whether unsent bytes pile up."""
        ...

    async def writable(self) -> None:
        """Returns once they do not, or the connection is gone."""
        ...


class SftpChannel(asyncssh.SSHServerSession[bytes]):
    """``open_session`` makes the session when the client asks for the subsystem."""

    def __init__(
        self,
        *,
        open_session: Callable[[], SftpSession],
        outlet: Outlet,
        events: ConnectionEvents,
        on_request: Callable[[], None],
        on_end: Callable[[SftpChannel], None],
    ) -> None:
        self._open_session = open_session
        self._outlet = outlet
        self._events = events
        self._on_request = on_request
        self._on_end = on_end
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._session: SftpSession | None = None
        self._framer = Framer()
        self._requests: deque[Request] = deque()
        self._backlog = 0
        self._answering = False
        self._reading = True
        self._replies: list[bytes] = []
        self._reply_bytes = 0
        self._output_paused = False
        self._eof = False
        self._exit_status = 0
        self._lost = False
        self._wake: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a file is open, a request waits or is being answered, or a reply has not left."""
        return bool(
            self._answering
            or self._requests
            or self._replies
            or (self._session is not None and self._session.transfers)
        )

    # -- what asyncssh calls --------------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def subsystem_requested(self, subsystem: str) -> bool:
        """Only ``sftp``. Shell, exec, pty and the rest are refused by asyncssh's defaults."""
        if subsystem != "sftp":
            return False
        try:
            self._session = self._open_session()
        except FeedgateError as error:
            self._events.emit("ERROR", operation="SUBSYSTEM", message=str(error))
            return False
        except Exception:
            self._events.error("a session could not be opened", trace=traceback.format_exc())
            return False
        return True

    def session_started(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self._run())

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Bytes of the client; they belong to us from now on."""
        del datatype  # a client cannot send extended data: asyncssh refuses it
        if self._lost or self._eof:
            return
        try:
            requests = self._framer.feed(data)
        except MalformedError as error:
            self._refuse_stream(error)
            return
        if not requests:
            return
        self._requests += requests
        for request in requests:
            self._backlog += request.size
        if self._backlog > SFTP_BACKLOG_BYTES_MAX and self._reading:
            self._reading = False
            assert self._channel is not None
            self._channel.pause_reading()
        self._wake_up()

    def eof_received(self) -> bool:
        self._eof = True
        self._wake_up()
        return True  # replies to what came before still go out

    def pause_writing(self) -> None:
        self._output_paused = True

    def resume_writing(self) -> None:
        self._output_paused = False
        self._wake_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._wake_up()
        if self.task is None:
            self._on_end(self)

    # -- the task -------------------------------------------------------------------------------

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _sleep(self) -> None:
        """Until something happened."""
        self._wake = asyncio.get_running_loop().create_future()
        await self._wake
        self._wake = None

    async def _run(self) -> None:
        assert self._session is not None
        try:
            await self._answer_all(self._session)
        except Exception:
            self._events.error("a session failed unexpectedly", trace=traceback.format_exc())
        finally:
            await self._session.end()
            self._close()
            self._on_end(self)

    async def _answer_all(self, session: SftpSession) -> None:
        loop = asyncio.get_running_loop()
        turn_ends = loop.time() + SFTP_TURN_S
        while not self._lost:
            if self._output_blocked:
                await self._drain_output()
            elif self._requests:
                await self._answer_next(session)
                if loop.time() > turn_ends:
                    self._flush()
                    await asyncio.sleep(0)
                    turn_ends = loop.time() + SFTP_TURN_S
            else:
                self._flush()
                if self._eof:
                    return
                await self._sleep()
                turn_ends = loop.time() + SFTP_TURN_S

    async def _answer_next(self, session: SftpSession) -> None:
        request = self._requests.popleft()
        self._backlog -= request.size
        self._on_request()
        self._answering = True
        try:
            reply = await session.answer(request)
        except MalformedError as error:
            self._refuse_stream(error)
            return
        finally:
            self._answering = False
        self._replies.append(reply)
        self._reply_bytes += len(reply)
        if self._reply_bytes >= SFTP_REPLIES_BYTES:
            self._flush()
        if not self._reading and self._backlog <= SFTP_BACKLOG_BYTES_MAX // 2 and not self._lost:
            self._reading = True
            assert self._channel is not None
            self._channel.resume_reading()

    @property
    def _output_blocked(self) -> bool:
        return self._output_paused or self._outlet.blocked

    async def _drain_output(self) -> None:
        self._flush()
        if self._outlet.blocked:
            await self._outlet.writable()
        while self._output_paused and not self._lost:
            await self._sleep()

    def _flush(self) -> None:
        replies, self._replies, self._reply_bytes = self._replies, [], 0
        if replies and not self._lost:
            assert self._channel is not None
            try:
                self._channel.write(b"".join(replies))
            except OSError:
                self._lost = True

    def _refuse_stream(self, error: MalformedError) -> None:
        self._events.emit("ERROR", operation="PACKET", message=str(error))
        self._requests.clear()
        self._eof = True
        self._exit_status = 1
        self._wake_up()

    def _close(self) -> None:
        self._requests.clear()
        if not self._lost and self._channel is not None:
            self._channel.exit(self._exit_status)
