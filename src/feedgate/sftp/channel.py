"""One SSH channel that carries SFTP: bytes in, requests in order, replies gathered, bounds kept.

asyncssh calls in with bytes. Requests are answered right there while handlers do not suspend: a
task's switch costs as much as a small request. The first one that suspends, and whatever comes when
output cannot leave or a turn is over, goes to the channel's one task. Replies to one burst leave
together; the lines that were logged for them are written while the client reads. What is bounded:

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
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, Final, Protocol, cast

import asyncssh

from feedgate.errors import FeedgateError
from feedgate.limits import SFTP_BACKLOG_BYTES_MAX, SFTP_REPLIES_BYTES, SFTP_TURN_S
from feedgate.sftp.events import ConnectionEvents
from feedgate.sftp.packets import Framer, MalformedError, Request
from feedgate.sftp.session import SftpSession
from feedgate.telemetry import begin_burst, end_burst

__all__ = ["Outlet", "SftpChannel"]


_NO_REQUESTS: Final[deque[Request]] = deque(maxlen=0)  # of every idle channel: a deque takes 760 B


class Outlet(Protocol):
    """The connection's way out, shared by its channels. Form: ``transport.Wire``."""

    @property
    def blocked(self) -> bool:
        """Whether unsent bytes pile up."""
        ...

    async def writable(self) -> None:
        """Returns once they do not, or the connection is gone."""
        ...

    def cork(self) -> None:
        """What is written next waits for ``flush``, which must follow at once."""
        ...

    def flush(self) -> None:
        """Hand what was written to the socket now."""
        ...


class _Resumed:
    """Awaits the rest of a coroutine that ran up to ``waits_for`` outside of any task."""

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, bytes], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, bytes]:
        waits_for = self._waits_for
        while True:
            try:
                value = yield waits_for
            except BaseException as error:
                step = partial(self._coroutine.throw, error)
            else:
                step = partial(self._coroutine.send, value)
            try:
                waits_for = step()
            except StopIteration as stop:
                return cast("bytes", stop.value)


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
        self._requests = _NO_REQUESTS
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
        self._begun: _Resumed | None = None  # by ``_answer_now``, for the task
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
        if self._requests is _NO_REQUESTS:
            self._requests = deque(requests)
        else:
            self._requests += requests
        for request in requests:
            self._backlog += request.size
        if self._backlog > SFTP_BACKLOG_BYTES_MAX and self._reading:
            self._reading = False
            assert self._channel is not None
            self._channel.pause_reading()
        if self._wake is not None and not self._wake.done() and not self._output_blocked:
            self._answer_now()
        else:
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
        if self._session is not None:
            self._session.gone = True
        self._wake_up()
        if self.task is None:
            self._on_end(self)

    # -- answering at once ----------------------------------------------------------------------

    def _answer_now(self) -> None:
        """The task sleeps: answer here what does not suspend, and leave the rest to it."""
        assert self._session is not None
        loop = asyncio.get_running_loop()
        turn_ends = loop.time() + SFTP_TURN_S
        self._on_request()
        begin_burst()
        try:
            while self._requests and self._begun is None:
                self._begin_next(self._session)
                if self._output_blocked or loop.time() > turn_ends:
                    break
            self._flush()
        finally:
            end_burst()
        if not self._requests:
            self._requests = _NO_REQUESTS
            if self._begun is None:
                self._session.while_idle()
        if self._requests or self._begun is not None or self._eof or not self._reading:
            self._wake_up()

    def _begin_next(self, session: SftpSession) -> None:
        request = self._requests.popleft()
        self._backlog -= request.size
        coroutine = session.answer(request)
        self._answering = True
        try:
            waits_for = coroutine.send(None)
        except StopIteration as stop:
            self._answering = False
            self._keep_reply(stop.value)
        except MalformedError as error:
            self._answering = False
            self._refuse_stream(error)
        else:
            self._begun = _Resumed(coroutine, waits_for)

    # -- the task -------------------------------------------------------------------------------

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _sleep(self) -> None:
        """Until something happened."""
        if not self._requests:
            self._requests = _NO_REQUESTS
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
        while not self._lost or self._begun is not None:
            if self._begun is not None:
                begun, self._begun = self._begun, None
                await self._answer_with(begun)
            elif self._output_blocked:
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
                self._read_on()
                await self._sleep()
                turn_ends = loop.time() + SFTP_TURN_S

    async def _answer_next(self, session: SftpSession) -> None:
        request = self._requests.popleft()
        self._backlog -= request.size
        self._on_request()
        self._answering = True
        await self._answer_with(session.answer(request))
        self._read_on()

    async def _answer_with(self, answer: Awaitable[bytes]) -> None:
        try:
            reply = await answer
        except MalformedError as error:
            self._refuse_stream(error)
            return
        finally:
            self._answering = False
        self._keep_reply(reply)

    def _keep_reply(self, reply: bytes) -> None:
        self._replies.append(reply)
        self._reply_bytes += len(reply)
        if self._reply_bytes >= SFTP_REPLIES_BYTES:
            self._flush()

    def _read_on(self) -> None:
        """Read again once enough of what waited is answered."""
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
            self._outlet.cork()
            try:
                self._channel.write(replies[0] if len(replies) == 1 else b"".join(replies))
            except OSError:
                self._lost = True
            finally:
                self._outlet.flush()

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
