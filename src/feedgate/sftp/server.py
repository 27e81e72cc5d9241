"""The SFTP door: accepted sockets in, SFTP sessions on home directories out.

asyncssh is configured here and nowhere else. It never listens: ``connect`` gives each socket that
the supervisor accepted to the connection factory which ``transport.Tunnel`` took from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import asyncssh

from feedgate.errors import CouldNot
from feedgate.files.deviations import Fidelity
from feedgate.gateway.lifecycle import Credentials, Supervision, Unsupervised
from feedgate.gateway.proxy_protocol import HeaderError, read_header
from feedgate.identity.passwords import PasswordPool
from feedgate.identity.refusals import Refusal, RefusalCause
from feedgate.limits import (
    AUTH_TRIES_MAX,
    CHANNEL_PACKET_BYTES,
    CHANNEL_WINDOW_BYTES,
    CONNECTIONS_MAX,
    EXPIRY_WATCH_S,
    IDLE_TIMEOUT_S,
    KEEPALIVE_COUNT_MAX,
    LOGIN_TIMEOUT_S,
    POLL_S,
    RECEIVE_BUFFER_BYTES,
    SFTP_CHANNELS_MAX,
    SFTP_HANDLES_MAX,
    UNRESPONSIVE_S,
)
from feedgate.sftp import fastpath
from feedgate.sftp.connection import Login, SshServer, Surroundings
from feedgate.sftp.descriptors import handles_that_fit, raise_descriptor_limit
from feedgate.sftp.events import ConnectionEvents
from feedgate.sftp.gaps import require_safe_groups, require_version
from feedgate.sftp.handles import HandleRoom
from feedgate.sftp.memory import keep_freed_memory
from feedgate.sftp.policies import SecurityPolicy, served
from feedgate.sftp.transport import ConnectionFactory, HandshakeTurns, PlainWire, Tunnel, Wire
from feedgate.telemetry import EventLog

__all__ = ["Login", "SftpDoor"]

_PROOF = "rsa-sha2-512"
_DRAIN_POLL_S = 0.02
_RECHECKED_AT_ONCE = 50
_END_S = 5  # for sessions to abandon what is open, once all are disconnected


class SftpDoor:
    """Form of ``gateway.lifecycle.Door``. Used on one event loop; asyncio's or uvloop's.

    ``host_keys`` are private keys in OpenSSH's PEM form, of each type the active one first;
    ``host_key_changes`` is asked for others, which new connections get. ``server_version`` is what
    follows ``SSH-2.0-`` in the first line (AWS Transfer's is ``AWS_SFTP_1.2``). ``banner`` is the
    text shown before authentication. ``on_event`` sees each CLOSE, as the log does. ``handles_max``
    are those of all connections together, by default as many as descriptors allow. ``fast`` allows
    the fast path where asyncssh is a version that it was tested with. ``supervision`` counts for
    the gateway as a whole; without it only the limits given here hold.
    """

    def __init__(
        self,
        *,
        host_keys: Sequence[bytes],
        host_key_changes: Callable[[], Sequence[bytes] | None] = lambda: None,
        security_policy_name: str,
        login: Login,
        log: EventLog,
        server_arn: str,
        banner: str | None = None,
        server_version: str = "feedgate",
        on_event: Callable[[dict[str, Any]], None] = lambda _event: None,
        login_timeout_s: float = LOGIN_TIMEOUT_S,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
        connections_max: int = CONNECTIONS_MAX,
        channels_max: int = SFTP_CHANNELS_MAX,
        tries_max: int = AUTH_TRIES_MAX,
        unresponsive_s: float = UNRESPONSIVE_S,
        supervision: Supervision | None = None,
        handles_max: int | None = None,
        connection_handles_max: int = SFTP_HANDLES_MAX,
        fast: bool = True,
        fidelity: Fidelity = Fidelity(),  # noqa: B008 - a value
        now: Callable[[], float] = time.time,
    ) -> None:
        self._host_keys = host_keys
        self._host_key_changes = host_key_changes
        self._policy_name = security_policy_name
        self._login = login
        self._log = log
        self._events = ConnectionEvents(log, {"resource_arn": server_arn}, on_event)
        self._server_arn = server_arn
        self._banner = banner
        self._server_version = server_version
        self._login_timeout_s = login_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._connections_max = connections_max
        self._channels_max = channels_max
        self._tries_max = tries_max
        self._unresponsive_s = unresponsive_s
        self._supervision = supervision if supervision is not None else Unsupervised()
        self._passwords = PasswordPool()
        self._handles_max = handles_max
        self._connection_handles_max = connection_handles_max
        self._wire: Callable[[ConnectionFactory], Wire] = PlainWire
        self._fast = fast
        self._fidelity = fidelity
        self._now = now
        self._tunnel = Tunnel()
        self._servers: set[SshServer] = set()
        self._accepting: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._watches: list[asyncio.Task[None]] = []
        self._empty = asyncio.Event()
        self._draining = False

    @property
    def connections(self) -> int:
        """How many connections are open, those that have not authenticated included."""
        return len(self._servers)

    async def start(self) -> None:
        """Load the host keys and get ready to take connections.

        Raises:
            Unsupported: the security policy is not known.
            CouldNot: a host key cannot be read.
        """
        require_version()
        require_safe_groups()
        keep_freed_memory()
        descriptors = raise_descriptor_limit()
        policy = self._policy()
        if self._fast and not fastpath.available():
            self._log.warning("transfers are slower", reason=f"asyncssh {asyncssh.__version__}")
            self._fast = False
        if self._fast:
            buffer = memoryview(bytearray(RECEIVE_BUFFER_BYTES))
            self._wire = lambda factory: fastpath.FastWire(factory, buffer)
        self._passwords.warm_up()
        self._turns = HandshakeTurns()
        self._surroundings = Surroundings(
            login=self._login,
            supervision=self._supervision,
            passwords=self._passwords,
            events=self._events,
            server_id=self._server_arn.rpartition("/")[2],
            banner=self._banner,
            signature_algorithms=frozenset(name.encode() for name in policy.user_key_algorithms),
            channels_max=self._channels_max,
            tries_max=self._tries_max,
            room=HandleRoom(self._handles_max or handles_that_fit(descriptors)),
            handles_max=self._connection_handles_max,
            window_bytes=CHANNEL_WINDOW_BYTES,
            packet_bytes=CHANNEL_PACKET_BYTES,
            fast=self._fast,
            fidelity=self._fidelity,
            now=self._now,
            opened=self._servers.add,
            closed=self._closed,
        )
        await self._listen(policy)
        self._watches = [
            asyncio.create_task(self._watch_idle()),
            asyncio.create_task(self._watch_host_keys(policy)),
        ]

    async def _listen(self, policy: SecurityPolicy) -> None:
        """Let asyncssh make the factory of connections; a second time, for those to come.

        Raises:
            CouldNot: a host key cannot be read, or none fits the policy.
        """
        surroundings = self._surroundings
        await asyncssh.listen(
            "",
            0,
            tunnel=self._tunnel,
            config=None,
            server_factory=lambda: SshServer(surroundings),
            server_version=self._server_version,
            server_host_keys=_key_pairs(self._host_keys, policy),
            send_server_host_keys=True,
            kex_algs=list(policy.kexs),
            encryption_algs=list(policy.ciphers),
            mac_algs=list(policy.macs),
            compression_algs=None,
            signature_algs=list(policy.user_key_algorithms),
            public_key_auth=True,
            password_auth=True,
            kbdint_auth=False,
            host_based_auth=False,
            gss_host=None,
            authorized_client_keys=None,
            login_timeout=self._login_timeout_s,
            keepalive_interval=self._unresponsive_s / KEEPALIVE_COUNT_MAX,
            keepalive_count_max=KEEPALIVE_COUNT_MAX,
            allow_pty=False,
            agent_forwarding=False,
            x11_forwarding=False,
            rdns_lookup=False,
            line_editor=False,
            encoding=None,
        )

    async def _watch_host_keys(self, policy: SecurityPolicy) -> None:
        """Take up changed host keys; with those it cannot read, go on with the ones it has."""
        told = ""
        while True:
            await asyncio.sleep(POLL_S / 2)
            before = self._host_keys
            try:
                self._host_keys = self._host_key_changes() or before
                if self._host_keys is not before:
                    await self._listen(policy)
                    self._log.info("host keys changed", count=len(self._host_keys))
                told = ""
            except Exception as error:  # one bad round must not end all later ones
                self._host_keys = before
                if str(error) != told:
                    told = str(error)
                    self._log.error("could not take up the host keys", reason=told)

    def _policy(self) -> SecurityPolicy:
        policy, lost = served(self._policy_name)
        if lost:
            self._log.warning(
                "algorithms of the security policy cannot be served here",
                policy=policy.name,
                algorithms=",".join(lost),
            )
        return policy

    # -- connections ----------------------------------------------------------------------------

    def connect(self, sock: socket.socket, number: int = 0, *, proxied: bool = False) -> None:
        """Take over an accepted, connected TCP socket. Never raises; a surplus one is closed.

        ``number`` is the supervisor's; a ``proxied`` one begins with a PROXY protocol header.
        """
        if self._draining or len(self._servers) + len(self._accepting) >= self._connections_max:
            stopping = self._draining
            self._reject(
                sock,
                number,
                RefusalCause.STOPPING if stopping else RefusalCause.TOO_MANY_CONNECTIONS,
            )
            return
        task = asyncio.get_running_loop().create_task(self._connect(sock, number, proxied))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    def end(self, number: int, cause: RefusalCause) -> None:
        """Disconnect one connection, if it is still there."""
        for server in tuple(self._servers):
            if server.number == number:
                server.end(cause)

    def _reject(
        self, sock: socket.socket, number: int, cause: RefusalCause, detail: str = ""
    ) -> None:
        try:
            source_ip = str(sock.getpeername()[0])
        except OSError:
            source_ip = ""
        sock.close()
        self._events.emit(
            "CONNECTION_REJECTED", source_ip=source_ip, cause=cause, message=detail or None
        )
        refusal = Refusal(cause, self._now(), source_ip=source_ip, detail=detail)
        self._supervision.refused(refusal)
        self._supervision.closed(number)

    async def _connect(self, sock: socket.socket, number: int, proxied: bool) -> None:
        factory = self._tunnel.factory
        assert factory is not None, "the door is not started"
        try:
            client = await self._behind_proxy(sock, number) if proxied else None
        except (HeaderError, TimeoutError, OSError) as error:
            self._reject(sock, number, RefusalCause.PROXY_HEADER, str(error) or "not in time")
            return
        if proxied and client is None:  # refused, and the supervisor has said why
            sock.close()
            self._supervision.closed(number)
            return

        def wire() -> Wire:
            made = self._wire(factory)
            made.number, made.peername, made.turns = number, client, self._turns
            return made

        try:
            await asyncio.get_running_loop().connect_accepted_socket(wire, sock)
        except OSError as error:
            sock.close()  # the client was gone before we looked
            self._supervision.closed(number)
            self._log.debug("a connection ended before it began", reason=str(error))

    async def _behind_proxy(self, sock: socket.socket, number: int) -> tuple[str, int] | None:
        """For whom a proxy opened the connection; None where he may not come in."""
        sock.setblocking(False)
        proxy = sock.getpeername()
        client = await read_header(sock) or (str(proxy[0]), int(proxy[1]))
        return client if await self._supervision.admit(number, client[0]) else None

    def _closed(self, server: SshServer) -> None:
        self._servers.discard(server)
        self._supervision.closed(server.number)
        for task in (channel.task for channel in server.channels):
            if task is not None:
                self._ending.add(task)
                task.add_done_callback(self._ended)
        self._look_whether_empty()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        self._look_whether_empty()

    def _look_whether_empty(self) -> None:
        if self._servers or self._ending:
            self._empty.clear()
        else:
            self._empty.set()

    async def _watch_idle(self) -> None:
        """AWS Transfer ends connections that were idle for 1,800 s; expired ones end here, too."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(self._idle_timeout_s / 4, EXPIRY_WATCH_S))
            idle_since, now = loop.time() - self._idle_timeout_s, self._now()
            for server in tuple(self._servers):
                if server.identity is None:
                    continue
                if server.active_at < idle_since:
                    server.disconnect("idle for too long")
                elif server.identity.valid_until <= now:
                    server.disconnect("access was withdrawn")

    async def recheck(self, still_valid: Callable[[Credentials], bool]) -> None:
        """End the sessions for which ``still_valid`` is False.

        That reads the user, 0.1 ms each: other sessions get the loop in between.
        """
        for count, server in enumerate(tuple(self._servers), 1):
            if count % _RECHECKED_AT_ONCE == 0:
                await asyncio.sleep(0)
            credentials = server.credentials
            if credentials is not None and not still_valid(credentials):
                server.disconnect("access was withdrawn")

    # -- the end --------------------------------------------------------------------------------

    async def drain(self, grace_s: float) -> None:
        """Take no more connections, let open files finish, then disconnect whoever is left.

        A connection without an open file is disconnected at once. Returns when every session has
        abandoned what it had open.
        """
        self._draining = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_s
        while self._servers and loop.time() < deadline:
            for server in tuple(self._servers):
                if not server.busy:
                    server.disconnect("the gateway is stopping")
            await asyncio.sleep(_DRAIN_POLL_S)
        for server in tuple(self._servers):
            server.disconnect("the gateway is stopping")
        for watch in self._watches:
            watch.cancel()
        self._passwords.close()
        self._look_whether_empty()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), _END_S)


def _key_pairs(host_keys: Sequence[bytes], policy: SecurityPolicy) -> list[asyncssh.SSHKeyPair]:
    """A key pair for each host key algorithm of the policy, loaded once, and one for each key.

    The first key of an algorithm signs key exchange. The further pairs are those that asyncssh
    announces and proves with; there is one for each key, which for RSA signs with SHA-512:
    OpenSSH's client takes that whatever was negotiated, except ``rsa-sha2-256`` by its own wish.

    A pair to each algorithm, not to each key: asyncssh notes the algorithm that a client chose on
    the pair, which connections share, so with one RSA pair two clients could sign for each other.
    It also keeps asyncssh from offering ``ssh-rsa`` (SHA-1) where the policy does not.

    Raises:
        CouldNot: a key cannot be read.
    """
    by_algorithm: dict[str, asyncssh.SSHKeyPair] = {}
    proving: list[asyncssh.SSHKeyPair] = []
    for pem in host_keys:
        try:
            # our own file, and its RSA check would cost a tenth of a second
            key = asyncssh.import_private_key(pem, unsafe_skip_rsa_key_validation=True)
        except asyncssh.KeyImportError as error:
            raise CouldNot(f"a host key cannot be read: {error}") from error
        known = [algorithm.decode() for algorithm in key.sig_algorithms]
        names = [name for name in known if name in policy.host_key_algorithms]
        for name in names:
            if name not in by_algorithm:
                by_algorithm[name] = _key_pair(key, name)
        if names:
            proving.append(_key_pair(key, _PROOF if _PROOF in names else names[0]))
    if not by_algorithm:
        raise CouldNot(f"no host key fits the security policy `{policy.name}`")
    signing = [by_algorithm[name] for name in policy.host_key_algorithms if name in by_algorithm]
    return signing + proving


def _key_pair(key: asyncssh.SSHKey, algorithm: str) -> asyncssh.SSHKeyPair:
    pair: asyncssh.SSHKeyPair = asyncssh.load_keypairs([key])[0]
    pair.host_key_algorithms = (algorithm.encode(),)
    pair.set_sig_algorithm(algorithm.encode())
    return pair
