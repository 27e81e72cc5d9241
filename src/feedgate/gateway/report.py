"""A worker's word to its supervisor: never lost while the worker lives, and never waited for.

The supervisor counts by what it hears here, so a full queue may not swallow a message: what does
not fit waits its turn, in order. Only news that nobody counts by is dropped when too much waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

from feedgate.gateway.process import Channel
from feedgate.identity.refusals import Refusal
from feedgate.limits import REPORTS_WAITING_MAX

__all__ = ["Report"]

_NEWS: Final = frozenset({"event", "load", "refused", "failed-login"})


class Report:
    """Form of ``lifecycle.Supervision``. Used on the worker's event loop."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque()
        self._is_writing = False
        self._asked: dict[int, asyncio.Future[Any]] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._waiting)

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message, now or as soon as the supervisor has room for it."""
        if not self._waiting:
            try:
                self._channel.send(kind, **fields)
            except BlockingIOError:
                pass
            except OSError:  # the supervisor is gone, and so is soon this worker
                return
            else:
                return
        if len(self._waiting) >= REPORTS_WAITING_MAX and kind in _NEWS:
            return
        self._waiting.append((kind, fields))
        if not self._is_writing:
            self._is_writing = True
            asyncio.get_running_loop().add_writer(self._channel.sock, self._send_waiting)

    def _send_waiting(self) -> None:
        try:
            while self._waiting:
                kind, fields = self._waiting[0]
                self._channel.send(kind, **fields)
                self._waiting.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._waiting.clear()
        self._is_writing = False
        asyncio.get_running_loop().remove_writer(self._channel.sock)

    # -- questions ----------------------------------------------------------------------------

    async def _ask(self, kind: str, number: int, **fields: Any) -> Any:
        """One question at a time for each connection."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self.send(kind, number=number, **fields)
        try:
            return await answer
        finally:
            if self._asked.get(number) is answer:
                del self._asked[number]

    def answered(self, number: int, value: Any) -> None:
        """The supervisor's answer came."""
        answer = self._asked.get(number)
        if answer is not None and not answer.done():
            answer.set_result(value)

    async def admit(self, number: int, address: str) -> bool:
        """See the protocol."""
        return bool(await self._ask("admit", number, address=address))

    async def password_delay_s(self, number: int, user_name: str, address: str) -> float:
        """See the protocol."""
        return float(await self._ask("password", number, user=user_name, address=address))

    # -- news ---------------------------------------------------------------------------------

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
        """See the protocol."""
        self.send(
            "authenticated",
            number=number,
            user=user_name,
            address=address,
            session_id=session_id,
            fingerprint=fingerprint,
            client_version=client_version,
        )

    def failed(self, address: str, password_of: str | None) -> None:
        """See the protocol."""
        self.send("failed-login", address=address, password_of=password_of)

    def refused(self, refusal: Refusal) -> None:
        """See the protocol."""
        self.send("refused", refusal=refusal.message())

    def closed(self, number: int) -> None:
        """See the protocol."""
        self.send("closed", number=number)
