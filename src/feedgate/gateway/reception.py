"""What the supervisor does with a connection: refuse it, or hand it to a worker and keep count.

``Admission`` counts; here its word becomes messages, log lines and closed sockets. A connection
that came through a trusted proxy is counted when its worker has read the client's address, because
the supervisor parses no byte from the network.

Every refused connection ends in one ``Refusal`` at ``on_refused``: the supervisor's own, and what
workers report.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from feedgate import limits
from feedgate.gateway.admission import Admission, AdmissionLimits
from feedgate.gateway.process import Channel
from feedgate.identity.refusals import Refusal, RefusalCause
from feedgate.stack.access_tags import AddressRules, Network, is_within
from feedgate.telemetry import EventLog, utc_iso

__all__ = ["OnLogin", "Reception", "Worker"]

OnLogin = Callable[[str, str, str, str], None]  # user, address, key's fingerprint, client's version


class Worker(Protocol):
    """What is used of a child here."""

    channel: Channel
    connections: int
    sent: int


@dataclass(slots=True)
class _Given:
    worker: Worker
    address: str
    session_id: str | None = None  # once logged in


class Reception:
    """Used by the supervisor's one thread."""

    def __init__(
        self,
        bounds: AdmissionLimits,
        log: EventLog,
        *,
        proxy_from: Sequence[Network] = (),
        on_refused: Callable[[Refusal], None] = lambda _refusal: None,
        on_login: OnLogin = lambda _user, _address, _fingerprint, _client: None,
    ) -> None:
        self._admission = Admission(bounds)
        self._log = log
        self._proxy_from = tuple(proxy_from)
        self._on_refused = on_refused
        self._on_login = on_login
        self._given: dict[int, _Given] = {}  # those behind a proxy before they are counted, too
        self._next = 0
        self._logged_in = 0  # the second of which rejections are counted
        self._logged = 0
        self._untold = 0
        self._handlers: dict[str, Callable[[Worker, dict[str, Any]], None]] = {
            "admit": self._on_admit,
            "authenticated": self._on_authenticated,
            "failed-login": self._on_failed,
            "password": self._on_password,
            "refused": self._on_worker_refused,
            "closed": self._on_closed,
        }

    def take_rules(self, rules: AddressRules) -> None:
        """The server's lists of addresses, as they are from now on."""
        self._admission.rules = rules

    def forgive(self, address: str) -> None:
        """Forget the failed logins of an address, by the operator's word."""
        self._admission.forgive(address)
        self._log.info("failed logins were forgiven", source_ip=address)

    # -- connections --------------------------------------------------------------------------

    def receive(self, connection: socket.socket, peer: Any, workers: Sequence[Worker]) -> None:
        """Hand an accepted connection to the least loaded worker, or refuse it.

        The caller closes ``connection`` afterwards in either case; a worker has its own copy.
        """
        address = str(peer[0]) if peer else ""
        number = self._next
        self._next += 1
        proxied = bool(self._proxy_from) and is_within(address, self._proxy_from)
        if not workers:
            self._refuse(RefusalCause.NO_WORKER, address)
            return
        if proxied:
            if len(self._given) >= self._admission.bounds.connections:
                self._refuse(RefusalCause.TOO_MANY_CONNECTIONS, address)
                return
        elif not self._admit(number, address):
            return
        with contextlib.suppress(OSError):
            keep_alive(connection)
        for worker in sorted(workers, key=lambda child: child.connections):
            with contextlib.suppress(OSError):
                worker.channel.send(
                    "connection", connection=connection, number=number, proxied=proxied
                )
                worker.sent += 1
                worker.connections += 1
                self._given[number] = _Given(worker, address)
                return
        self._admission.closed(number)
        self._refuse(RefusalCause.NO_WORKER, address)

    def _admit(self, number: int, address: str) -> bool:
        cause, displaced = self._admission.admit(number, address, time.monotonic())
        for one in displaced:
            self._end(one, RefusalCause.DISPLACED)
        if cause is not None:
            self._refuse(cause, address)
        return cause is None

    def worker_gone(self, worker: Worker) -> list[str]:
        """Its connections died with it: the ids of their sessions."""
        gone = {one: given for one, given in self._given.items() if given.worker is worker}
        for number in gone:
            self._forget(number)
        return [given.session_id for given in gone.values() if given.session_id is not None]

    def _forget(self, number: int) -> None:
        self._given.pop(number, None)
        self._admission.closed(number)

    def _end(self, number: int, cause: RefusalCause) -> None:
        given = self._given.get(number)
        if given is not None:
            with contextlib.suppress(OSError):  # its worker is about to be found dead
                given.worker.channel.send("end", number=number, cause=cause)

    def _refuse(self, cause: RefusalCause, address: str) -> None:
        now, detail = time.time(), ""
        self._log_refused(cause, address, int(now))
        if cause is RefusalCause.RATE_LIMITED:
            end_s = self._admission.penalty_s(address, time.monotonic())
            detail = f"until {utc_iso(now + end_s)}"
        self._on_refused(Refusal(cause, now, source_ip=address, detail=detail))

    def _log_refused(self, cause: RefusalCause, address: str, second: int) -> None:
        """A flood may not fill the disk: so many lines a second, then their number."""
        if second != self._logged_in:
            if self._untold:
                self._log.warning("rejected connections that were not logged", count=self._untold)
            self._logged_in, self._logged, self._untold = second, 0, 0
        if self._logged < limits.REJECTIONS_LOGGED_MAX:
            self._logged += 1
            self._log.emit("CONNECTION_REJECTED", source_ip=address, cause=cause)
        else:
            self._untold += 1

    # -- what workers say ---------------------------------------------------------------------

    def heard(self, worker: Worker, message: dict[str, Any]) -> bool:
        """Take a worker's message; False if it is none of those about connections."""
        handler = self._handlers.get(message["kind"])
        if handler is None:
            return False
        handler(worker, message)
        return True

    def _on_admit(self, worker: Worker, message: dict[str, Any]) -> None:
        """A client's address came out of a proxy's header."""
        number, address = int(message["number"]), str(message["address"])
        admitted = self._admit(number, address)
        if admitted and number in self._given:
            self._given[number].address = address
        self._answer(worker, number, admitted)

    def _on_authenticated(self, _worker: Worker, message: dict[str, Any]) -> None:
        number, address = int(message["number"]), str(message["address"])
        if number in self._given:
            self._given[number].session_id = str(message["session_id"])
        cause = self._admission.authenticated(
            number, str(message["user"]), address, time.monotonic()
        )
        if cause is not None:
            self._end(number, cause)
            return
        fingerprint, client = str(message["fingerprint"]), str(message["client_version"])
        self._on_login(str(message["user"]), address, fingerprint, client)

    def _on_failed(self, _worker: Worker, message: dict[str, Any]) -> None:
        self._admission.failed(
            str(message["address"]), time.monotonic(), password_of=message["password_of"]
        )

    def _on_password(self, worker: Worker, message: dict[str, Any]) -> None:
        """A password is about to be tried: how long its answer waits."""
        delay_s = self._admission.password_delay_s(
            str(message["user"]), str(message["address"]), time.monotonic()
        )
        self._answer(worker, int(message["number"]), delay_s)

    def _on_worker_refused(self, _worker: Worker, message: dict[str, Any]) -> None:
        self._on_refused(Refusal.of(message["refusal"]))

    def _on_closed(self, _worker: Worker, message: dict[str, Any]) -> None:
        self._forget(int(message["number"]))

    @staticmethod
    def _answer(worker: Worker, number: int, value: object) -> None:
        with contextlib.suppress(OSError):
            worker.channel.send("answer", number=number, value=value)


def keep_alive(connection: socket.socket) -> None:
    """Let TCP find out about a peer that is gone, with unsent bytes and without.

    SSH's own keepalive notices it too, but only once the client has logged in.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", limits.TCP_KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", limits.TCP_KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", limits.TCP_KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", limits.UNRESPONSIVE_S * 1000),
    ):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
