"""The supervisor: the listening socket, the children, and nothing that a supplier can reach.

It accepts, passes each socket to the least loaded worker, restarts what dies, and stops in order:
no new connections, open transfers get their grace, then the children end. It never parses a byte
that came over the network.

Invariants: the run lock is held from before the first child until after the last; the door opens
only when every child said ``ready``; FEEDGATE_CRASH_AT reaches a child's first life only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feedgate.errors import CouldNot, FeedgateError
from feedgate.gateway.admission import AdmissionLimits
from feedgate.gateway.folder import DataFolder, RunLock, write_atomically
from feedgate.gateway.process import Channel
from feedgate.gateway.reception import OnLogin, Reception
from feedgate.identity.refusals import Refusal
from feedgate.limits import (
    ACCEPT_BACKLOG,
    ACCEPT_PAUSE_S,
    CHILD_END_S,
    HEARTBEAT_S_MAX,
    POLL_S,
    RESTART_DELAY_S,
    RESTART_DELAY_S_MAX,
    START_TIMEOUT_S,
)
from feedgate.stack.access_tags import ANY_ADDRESS, AddressRules, Network
from feedgate.telemetry import EventLog

__all__ = ["ChildCommand", "GatewayOptions", "Supervisor"]

ChildCommand = Callable[[str, int], Sequence[str]]


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """What only this run needs; ``command(role, fd)`` is the argv of a child process.

    ``proxy_from``: whose connections begin with a PROXY protocol header. ``door`` goes to the
    workers: arguments of their doors.
    """

    folder: DataFolder
    listen_host: str
    listen_port: int
    command: ChildCommand
    ready_file: Path | None = None
    workers: int = 1
    grace_s: float = 30.0
    like_aws: bool = False
    admission: AdmissionLimits = field(default_factory=AdmissionLimits)
    proxy_from: tuple[Network, ...] = ()
    door: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Child:
    role: str
    process: subprocess.Popen[bytes]
    channel: Channel
    heard_at: float
    state: str = "starting"
    connections: int = 0
    sent: int = 0
    failure: FeedgateError | None = None

    def take_load(self, connections: int, received: int) -> None:
        """A worker's report counts what it has received; the rest is still on its way to it."""
        self.connections = connections + (self.sent - received)


class Supervisor:
    """One run of a gateway, from the lock to exit 0.

    ``on_event`` gets what a person at the terminal sees, ``on_refused`` each refused connection
    with its one cause, ``on_login`` each login, ``on_worker_gone`` the ids of the sessions that
    died with a worker. ``rules`` says which addresses the server refuses now, ``pardons`` whose
    failed logins the operator wants forgotten; both are asked once a second.
    """

    def __init__(
        self,
        options: GatewayOptions,
        log: EventLog,
        *,
        on_event: Callable[[dict[str, Any]], None] = lambda _event: None,
        on_refused: Callable[[Refusal], None] = lambda _refusal: None,
        on_worker_gone: Callable[[Sequence[str]], None] = lambda _session_ids: None,
        rules: Callable[[], AddressRules] = lambda: ANY_ADDRESS,
        on_login: OnLogin = lambda _user, _address, _fingerprint, _client: None,
        pardons: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._options = options
        self._log = log
        self._on_worker_gone = on_worker_gone
        self._rules = rules
        self._rules_at = 0.0
        self._pardons = pardons
        self._reception = Reception(
            options.admission,
            log,
            proxy_from=options.proxy_from,
            on_refused=on_refused,
            on_login=on_login,
        )
        self._on_event = on_event
        self._lock = RunLock(options.folder)
        self._selector = selectors.DefaultSelector()
        self._children: list[_Child] = []
        self._buried: list[_Child] = []
        self._is_open = False
        self._restart_at: list[tuple[float, str]] = []
        self._deaths: list[float] = []
        self._listener: socket.socket | None = None
        self._stopping = False
        self._wake_read, self._wake_write = socket.socketpair()

    def run(self, prepare: Callable[[], None], on_ready: Callable[[str, int], None]) -> None:
        """Serve until SIGTERM or SIGINT.

        ``prepare`` makes the definition ready (renders, checks, applies it) while the children
        already load their libraries; ``on_ready(host, port)`` is called once the door is open.

        Raises:
            Conflict: another gateway serves this data folder.
            CouldNot: the address cannot be bound, or a child could not start.
            FeedgateError: whatever ``prepare`` raises; no door was opened then.
        """
        self._lock.acquire()
        try:
            self._listener = self._bind()
            self._catch_signals()
            try:
                self._spawn_first()
                prepare()
                self._start_children()
                self._follow_rules()  # before the first connection, not after it
                host, port = self._listener.getsockname()[:2]
                self._announce(host, port)
                on_ready(host, port)
                self._spawn_more_workers()
                self._serve()
            finally:
                self._end_children()
        finally:
            self._clean_up()

    # -- opening ------------------------------------------------------------------------------

    def _bind(self) -> socket.socket:
        host, port = self._options.listen_host, self._options.listen_port
        try:
            family, kind, protocol, _name, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = socket.socket(family, kind, protocol)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            raise CouldNot(
                f"cannot listen on `{host}:{port}`: {error.strerror or error}",
                hint="choose another address with --listen HOST:PORT; port 0 picks a free one",
            ) from error
        listener.setblocking(False)
        return listener

    def _catch_signals(self) -> None:
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._on_wake)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_read.recv(4096)

    def _spawn_first(self) -> None:
        """The loader and one worker: the door need not wait for more of them to load."""
        for role in ("loader", "worker"):
            self._spawn(role, first_life=True)

    def _spawn_more_workers(self) -> None:
        for _ in range(self._options.workers - 1):
            self._start(self._spawn("worker", first_life=True))

    def _spawn(self, role: str, *, first_life: bool) -> _Child:
        channel, theirs = Channel.pair()
        environment = dict(os.environ)
        if not first_life:
            environment.pop("FEEDGATE_CRASH_AT", None)
        with theirs:
            process = subprocess.Popen(
                self._options.command(role, theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the supervisor, which drains them
            )
        channel.sock.setblocking(False)
        child = _Child(role, process, channel, heard_at=time.monotonic())
        self._children.append(child)
        self._selector.register(
            channel.sock, selectors.EVENT_READ, lambda: self._on_child_message(child)
        )
        return child

    def _start_children(self) -> None:
        for child in self._children:
            self._start(child)
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._buried or any(child.state == "starting" for child in self._children):
            self._turn(min(0.5, max(0.0, deadline - time.monotonic())))
            self._raise_failure()
            if self._stopping:
                return
            if time.monotonic() > deadline:
                raise CouldNot(
                    f"the gateway was not ready within {START_TIMEOUT_S} s",
                    hint="`feedgate logs` shows why",
                )

    def _start(self, child: _Child) -> None:
        with contextlib.suppress(OSError):  # it ended already, which is met elsewhere
            child.channel.send("start", door=dict(self._options.door))

    def _raise_failure(self) -> None:
        for child in [*self._children, *self._buried]:
            if child.failure is not None:
                raise child.failure
            if child.state == "starting" and child.process.poll() is not None:
                raise CouldNot(
                    f"the {child.role} ended with status {child.process.returncode} while starting",
                    hint="`feedgate logs` shows why",
                )

    def _announce(self, host: str, port: int) -> None:
        assert self._listener is not None
        self._is_open = True
        self._listener.listen(ACCEPT_BACKLOG)
        self._selector.register(self._listener, selectors.EVENT_READ, self._on_connection)
        write_atomically(
            self._options.folder.run_file,
            {
                "pid": os.getpid(),
                "sftp": {"host": host, "port": port},
                "started_at": time.time(),
                "workers": self._options.workers,
                "like_aws": self._options.like_aws,
            },
        )

    # -- serving ------------------------------------------------------------------------------

    def _serve(self) -> None:
        self._log.info("gateway is open", pid=os.getpid())
        while not self._stopping:
            self._turn(1.0)
            self._restart_due()
            self._end_silent()
            self._follow_rules()
        self._drain()

    def _turn(self, timeout_s: float) -> None:
        for key, _events in self._selector.select(timeout_s):
            key.data()

    def _on_connection(self) -> None:
        assert self._listener is not None
        try:
            connection, peer = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                time.sleep(ACCEPT_PAUSE_S)  # nothing is lost: the client waits in the backlog
            return
        with connection:
            workers = [c for c in self._children if c.role == "worker" and c.state == "ready"]
            self._reception.receive(connection, peer, workers)

    def _follow_rules(self) -> None:
        now = time.monotonic()
        if now - self._rules_at >= POLL_S:
            self._rules_at = now
            try:
                self._reception.take_rules(self._rules())
            except FeedgateError as error:  # the last good ones stay
                self._log.error("the server's lists of addresses were not read", reason=str(error))
            for address in self._pardons():
                self._reception.forgive(address)

    def _on_child_message(self, child: _Child) -> None:
        try:
            received = child.channel.receive()
        except BlockingIOError:
            return
        if received is None:
            self._on_child_gone(child)
            return
        message, _none = received
        child.heard_at = time.monotonic()
        kind = message["kind"]
        if kind in {"ready", "drained"}:
            child.state = kind
            if kind == "ready" and self._is_open:
                self._log.info(f"another {child.role} is ready", pid=child.process.pid)
        elif kind == "load":
            child.take_load(int(message["connections"]), int(message["received"]))
        elif kind == "event":
            self._on_event(message["event"])
        elif kind == "failed":
            child.failure = CouldNot(message["message"], hint=message.get("hint"))
        else:
            self._reception.heard(child, message)

    def _on_child_gone(self, child: _Child) -> None:
        """Bury a child, and start another a little later; more so when they die young."""
        if child not in self._children:
            return
        self._children.remove(child)
        self._selector.unregister(child.channel.sock)
        child.channel.close()
        _wait_or_kill(child.process)
        session_ids = self._reception.worker_gone(child)
        if self._stopping or not self._is_open:
            self._buried.append(child)  # while opening, `_raise_failure` tells why
            return
        reason = str(child.failure) if child.failure is not None else None
        self._log.error(f"the {child.role} died", status=child.process.returncode, reason=reason)
        if child.role == "worker":
            self._on_worker_gone(session_ids)
        now = time.monotonic()
        self._deaths = [at for at in self._deaths if now - at < RESTART_DELAY_S_MAX] + [now]
        delay_s = min(RESTART_DELAY_S * 2 ** (len(self._deaths) - 1), RESTART_DELAY_S_MAX)
        self._restart_at.append((now + delay_s, child.role))

    def _restart_due(self) -> None:
        now = time.monotonic()
        for due in [item for item in self._restart_at if item[0] <= now]:
            self._restart_at.remove(due)
            try:
                child = self._spawn(due[1], first_life=False)
            except OSError as error:
                self._log.error(f"could not start a {due[1]}", reason=str(error))
                self._restart_at.append((now + RESTART_DELAY_S_MAX, due[1]))
                continue
            self._start(child)

    def _end_silent(self) -> None:
        """A worker that says nothing for long is hung; its suppliers are better off without it."""
        for child in list(self._children):
            silent_s = time.monotonic() - child.heard_at
            if child.role == "worker" and silent_s > HEARTBEAT_S_MAX:
                self._log.error("a worker does not answer and is ended", silent_s=int(silent_s))
                child.process.kill()
                self._on_child_gone(child)

    # -- closing ------------------------------------------------------------------------------

    def _drain(self) -> None:
        """SIGTERM: stop accepting, let open transfers finish within the grace."""
        assert self._listener is not None
        self._selector.unregister(self._listener)
        self._listener.close()
        self._log.info("draining", grace_s=self._options.grace_s)
        workers = [child for child in self._children if child.role == "worker"]
        for child in workers:
            with contextlib.suppress(OSError):
                child.channel.send("drain", grace_s=self._options.grace_s)
        deadline = time.monotonic() + self._options.grace_s + 5
        while time.monotonic() < deadline:
            if all(c.state == "drained" or c not in self._children for c in workers):
                break
            self._turn(0.2)
        for child in [c for c in self._children if c.role == "loader"]:
            with contextlib.suppress(OSError):
                child.channel.send("drain", grace_s=5)

    def _end_children(self) -> None:
        for child in self._children:
            child.channel.close()  # a child whose supervisor is gone ends by itself
        for child in self._children:
            _wait_or_kill(child.process)

    def _clean_up(self) -> None:
        signal.set_wakeup_fd(-1)
        if self._listener is not None:
            self._listener.close()
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()
        with contextlib.suppress(OSError):
            self._options.folder.run_file.unlink()
        if self._options.ready_file is not None:
            with contextlib.suppress(OSError):
                self._options.ready_file.unlink()
        self._lock.release()


def _wait_or_kill(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(CHILD_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
