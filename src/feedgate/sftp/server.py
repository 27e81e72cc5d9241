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
from feedgate.limits import (
    CHANNEL_PACKET_BYTES,
    CHANNEL_WINDOW_BYTES,
    CONNECTIONS_MAX,
    IDLE_TIMEOUT_S,
    KEEPALIVE_COUNT_MAX,
    KEEPALIVE_INTERVAL_S,
    LOGIN_TIMEOUT_S,
    POLL_S,
    RECEIVE_BUFFER_BYTES,
    SFTP_CHANNELS_MAX,
)
from feedgate.sftp import fastpath
from feedgate.sftp.connection import Login, SshServer, Surroundings
from feedgate.sftp.descriptors import handles_that_fit, raise_descriptor_limit
from feedgate.sftp.events import ConnectionEvents
from feedgate.sftp.gaps import require_safe_groups, require_version
from feedgate.sftp.handles import HandleRoom
from feedgate.sftp.memory import keep_freed_memory
from feedgate.sftp.policies import SecurityPolicy, served
from feedgate.sftp.transport import ConnectionFactory, PlainWire, Tunnel, Wire
from feedgate.telemetry import EventLog

__all__ = ["Login", "SftpDoor"]

_PROOF = "rsa-sha2-512"
_DRAIN_POLL_S = 0.02
_END_S = 5  # for sessions to abandon what is open, once all are disconnected


class SftpDoor:
    """Form of ``gateway.lifecycle.Door``. Used on one event loop; asyncio's or uvloop's.

    ``host_keys`` are private keys in OpenSSH's PEM form, of each type the active one first;
    ``host_key_changes`` is asked for others, which new connections get. ``server_version`` is what
    follows ``SSH-2.0-`` in the first line (AWS Transfer's is ``AWS_SFTP_1.2``). ``banner`` is the
    text shown before authentication. ``on_event`` sees each CLOSE, as the log does. ``handles_max``
    are those of all connections together, by default as many as descriptors allow. ``fast`` allows
    the fast path where asyncssh is a version that it was tested with.
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
        handles_max: int | None = None,
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
        self._handles_max = handles_max
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
        self._surroundings = Surroundings(
            login=self._login,
            events=self._events,
            server_id=self._server_arn.rpartition("/")[2],
            banner=self._banner,
            signature_algorithms=frozenset(name.encode() for name in policy.user_key_algorithms),
            channels_max=self._channels_max,
            room=HandleRoom(self._handles_max or handles_that_fit(descriptors)),
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
            password_auth=False,
            kbdint_auth=False,
            host_based_auth=False,
            gss_host=None,
            authorized_client_keys=None,
            login_timeout=self._login_timeout_s,
            keepalive_interval=KEEPALIVE_INTERVAL_S,
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

    def connect(self, sock: socket.socket) -> None:
        """Take over an accepted, connected TCP socket. Never raises; a surplus one is closed."""
        if self._draining or len(self._servers) + len(self._accepting) >= self._connections_max:
            self._reject(sock)
            return
        task = asyncio.get_running_loop().create_task(self._connect(sock))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    def _reject(self, sock: socket.socket) -> None:
        reason = "the gateway is stopping" if self._draining else "too many connections"
        try:
            source_ip = sock.getpeername()[0]
        except OSError:
            source_ip = None
        sock.close()
        self._events.emit("CONNECTION_REJECTED", source_ip=source_ip, message=reason)

    async def _connect(self, sock: socket.socket) -> None:
        factory = self._tunnel.factory
        assert factory is not None, "the door is not started"
        try:
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: self._wire(factory), sock)
        except OSError as error:
            sock.close()  # the client was gone before we looked
            self._log.debug("a connection ended before it began", reason=str(error))

    def _closed(self, server: SshServer) -> None:
        self._servers.discard(server)
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
        """AWS Transfer ends connections that were idle for 1,800 s."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(self._idle_timeout_s / 4, 30))
            idle_since = loop.time() - self._idle_timeout_s
            for server in tuple(self._servers):
                if server.identity is not None and server.active_at < idle_since:
                    server.disconnect("idle for too long")

    def recheck(self, still_valid: Callable[[str, str], bool]) -> None:
        """End the sessions for which ``still_valid(user_name, fingerprint)`` is False."""
        for server in tuple(self._servers):
            identity = server.identity
            if identity is None:
                continue
            if not still_valid(identity.user.user_name, identity.fingerprint):
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
