"""One SSH connection: who it is, its channels, its events, its end.

Everything that SSH offers besides SFTP is refused: by asyncssh's defaults (shell, exec, every kind
of forwarding), by options (pty, agent, X11) or by ``gaps`` (environment).
"""

from __future__ import annotations

import asyncio
import secrets
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

import asyncssh

from feedgate.errors import AccessDenied
from feedgate.files.deviations import Fidelity
from feedgate.files.home import HomeDirectory, SessionContext
from feedgate.gateway.lifecycle import Credentials, Supervision
from feedgate.identity.passwords import PasswordPool
from feedgate.identity.refusals import TEXTS, Refusal, RefusalCause
from feedgate.identity.users import GatewayUser
from feedgate.sftp.authentication import Authenticator, Identity
from feedgate.sftp.channel import SftpChannel
from feedgate.sftp.events import ConnectionEvents, SessionEvents
from feedgate.sftp.fastpath import speed_up
from feedgate.sftp.footprint import forget_handshake, slim_channel, slim_connection
from feedgate.sftp.gaps import (
    accept_service_request,
    bound_host_key_proofs,
    ignore_stray_replies,
    negotiated_kex,
    no_common_algorithm,
    refuse_environment,
    require_more,
    user_name_in_question,
    whole_offer,
)
from feedgate.sftp.handles import HandleRoom
from feedgate.sftp.session import SftpSession
from feedgate.sftp.transport import WIRE, Wire

__all__ = ["Login", "SshServer", "Surroundings"]


class Login(Protocol):
    """What the door asks at a login. Form: ``gateway.login.GatewayLogin``."""

    def user(self, user_name: str) -> GatewayUser | None:
        """The user as served now, disabled ones included, or None."""
        ...

    def open_home(self, context: SessionContext) -> HomeDirectory:
        """The home directory of one SFTP session.

        Raises:
            AccessDenied: the user's role cannot be assumed.
        """
        ...

    def still_valid(self, credentials: Credentials) -> bool:
        """Whether who got in by these may stay."""
        ...

    def used(self, user_name: str, fingerprint: str) -> None:
        """Somebody logged in with that SSH key."""
        ...

    def takes_passwords(self) -> bool:
        """Whether any user has a password, so that the method is offered to all."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a connection needs of its door."""

    login: Login
    supervision: Supervision
    passwords: PasswordPool
    events: ConnectionEvents
    server_id: str
    banner: str | None
    signature_algorithms: frozenset[bytes]
    channels_max: int
    tries_max: int
    room: HandleRoom
    handles_max: int
    window_bytes: int
    packet_bytes: int
    fast: bool
    fidelity: Fidelity
    now: Callable[[], float]
    opened: Callable[[SshServer], None]
    closed: Callable[[SshServer], None]


_KEX_MESSAGES: Final = {  # the first two are documented (cw-example-logs), the others alike
    "kex": "no matching key exchange method found",
    "host key": "no matching host key type found",
    "cipher": "no matching cipher found",
    "MAC": "no matching MAC found",
}


_LOGIN_TIMEOUT: Final = "Login timeout expired"  # asyncssh's reason; a test holds it
_DETAIL_CHARS_MAX: Final = 2_000  # an offer of algorithms has some 500
_VERSION_CHARS_MAX: Final = 255  # RFC 4253 §4.2


class SshServer(asyncssh.SSHServer):
    """asyncssh's owner object of one connection."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings
        self._connection: asyncssh.SSHServerConnection | None = None
        self._wire: Wire | None = None
        self._authenticator: Authenticator | None = None
        self._source_ip = ""
        self._ended_for: RefusalCause | None = None
        self._role_was_refused = False
        self._banner_sent = False
        self.identity: Identity | None = None
        self.session_id = secrets.token_hex(8)
        self.channels: set[SftpChannel] = set()
        in_all = surroundings.room.handles_max
        self._room = HandleRoom(
            min(surroundings.handles_max, max(1, in_all // 4)), surroundings.room
        )
        self.active_at = asyncio.get_running_loop().time()
        self._events = surroundings.events.with_fields(session_id=self.session_id)

    # -- the door's view ------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a file is open or a request waits."""
        return any(channel.busy for channel in self.channels)

    @property
    def number(self) -> int:
        """By which the supervisor knows this connection."""
        return self._wire.number if self._wire is not None else 0

    @property
    def credentials(self) -> Credentials | None:
        """By what it got in, once it has."""
        if self.identity is None:
            return None
        return Credentials(
            self.identity.user.user,
            self.identity.fingerprint,
            self.identity.by_password,
            self._source_ip,
        )

    def end(self, cause: RefusalCause) -> None:
        """The supervisor has no place for this connection."""
        self._ended_for = cause
        if self._connection is None:
            return
        if self.identity is not None:
            self._refused(cause)
        self._connection.disconnect(
            asyncssh.DISC_TOO_MANY_CONNECTIONS, TEXTS.get(cause, "Access was withdrawn")
        )

    def disconnect(self, reason: str) -> None:
        """Say why, and close. Sessions abandon what is open."""
        if self._connection is not None:
            self._connection.disconnect(asyncssh.DISC_BY_APPLICATION, reason)

    # -- opening and authentication -------------------------------------------------------------

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._wire = conn.get_extra_info(WIRE)
        peer = conn.get_extra_info("peername")
        self._source_ip = str(peer[0]) if peer else ""
        self._authenticator = Authenticator(
            user=self._around.login.user,
            signature_algorithms=self._around.signature_algorithms,
            events=self._events.with_fields(source_ip=self._source_ip),
            too_many=self._too_many_tries,
            passwords=self,
            source_ip=self._source_ip,
            now=self._around.now,
            tries_max=self._around.tries_max,
        )
        require_more(conn, self._is_complete)
        bound_host_key_proofs(conn)
        ignore_stray_replies(conn)
        if self._around.fast:
            slim_connection(conn)
        self._around.opened(self)

    def _too_many_tries(self) -> None:
        # not at once: asyncssh is in the middle of answering the try that was one too many
        asyncio.get_running_loop().call_soon(self._disconnect_tries)

    def _disconnect_tries(self) -> None:
        if self._connection is not None and self.identity is None:
            self._connection.disconnect(
                asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "Too many authentication failures"
            )

    def begin_auth(self, username: str) -> bool:
        """Every user must authenticate, unknown ones too: False would let them in without."""
        del username
        if self._around.banner is not None and not self._banner_sent:
            assert self._connection is not None
            self._banner_sent = True
            self._connection.send_auth_banner(self._around.banner)
        return True

    def public_key_auth_supported(self) -> bool:
        assert self._authenticator is not None
        assert self._connection is not None
        self._authenticator.count_request()
        accept_service_request(self._connection)
        return not self._authenticator.password_is_next

    def password_auth_supported(self) -> bool:
        """The same for every name, so that nobody learns whose password there is."""
        return self._around.login.takes_passwords()

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Asked for keys that are only offered as well: the answer is no proof of anything."""
        assert self._authenticator is not None
        return await self._authenticator.validate(username, key)

    async def validate_password(self, username: str, password: str) -> bool:
        assert self._authenticator is not None
        return await self._authenticator.validate_password(username, password)

    def _is_complete(self) -> bool:
        assert self._connection is not None
        assert self._authenticator is not None
        return self._authenticator.is_complete(user_name_in_question(self._connection))

    # form of ``authentication.PasswordDesk``

    async def delay_s(self, user_name: str) -> float:
        supervision = self._around.supervision
        return await supervision.password_delay_s(self.number, user_name, self._source_ip)

    async def matches(self, hashed: str | None, password: str) -> bool:
        return await self._around.passwords.matches(hashed, password)

    def wrong(self, user_name: str) -> None:
        self._around.supervision.failed(self._source_ip, user_name)

    def auth_completed(self) -> None:
        assert self._connection is not None
        assert self._authenticator is not None
        user_name = self._connection.get_extra_info("username")
        identity = self._authenticator.identity(user_name)
        if identity is None:
            self._events.error("authentication without a verified signature", user=user_name)
            self.disconnect("authentication failed")
            return
        self.identity = identity
        if self._wire is not None:
            self._wire.authenticated = True
        self.active_at = asyncio.get_running_loop().time()
        self._events = self._events.with_fields(user=user_name)
        self._connected(identity)
        if self._around.fast:
            forget_handshake(self._connection)
        self._around.supervision.authenticated(
            self.number,
            user_name,
            self._source_ip,
            self.session_id,
            fingerprint=identity.fingerprint,
            client_version=self._version_of_client(),
        )
        if identity.fingerprint:
            self._around.login.used(user_name, identity.fingerprint)

    def _connected(self, identity: Identity) -> None:
        connection = self._connection
        assert connection is not None
        user = identity.user.user
        ciphers = (
            connection.get_extra_info("recv_cipher"),
            connection.get_extra_info("send_cipher"),
        )
        self._events.emit(
            "CONNECTED",
            role=user.role_arn,
            ciphers=",".join(map(str, ciphers)),
            client=connection.get_extra_info("client_version"),
            source_ip=self._source_ip,
            home_dir="/" if user.home_directory_type == "LOGICAL" else user.home_directory,
            user_policy=user.policy,
            method="password" if identity.by_password else None,
            ssh_public_key=identity.key_body or None,
            ssh_public_key_fingerprint=identity.fingerprint or None,
            ssh_public_key_type=identity.key_type or None,
            kex=negotiated_kex(connection),
        )

    # -- channels -------------------------------------------------------------------------------

    def session_requested(
        self,
    ) -> tuple[asyncssh.SSHServerChannel[bytes], asyncssh.SSHServerSession[bytes]]:
        """One more channel; AWS Transfer too stops at ten on a connection.

        Raises:
            asyncssh.ChannelOpenError: there are enough, or nobody has authenticated.
        """
        if self.identity is None or self._connection is None or self._wire is None:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "not authenticated"
            )
        if len(self.channels) >= self._around.channels_max:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_RESOURCE_SHORTAGE, "too many sessions on this connection"
            )
        session = SftpChannel(
            open_session=self._open_session,
            outlet=self._wire,
            events=self._events,
            on_request=self._active,
            on_end=self.channels.discard,
        )
        channel = self._connection.create_server_channel(
            None, "strict", self._around.window_bytes, self._around.packet_bytes
        )
        refuse_environment(channel)
        if self._around.fast:
            speed_up(channel)
            slim_channel(channel)
        self.channels.add(session)
        return channel, session

    def _active(self) -> None:
        self.active_at = asyncio.get_running_loop().time()

    def _open_session(self) -> SftpSession:
        assert self.identity is not None
        assert self._connection is not None
        context = SessionContext(
            user=self.identity.user,
            session_id=self.session_id,
            ssh_key_fingerprint=self.identity.fingerprint,
            client_version=str(self._connection.get_extra_info("client_version") or ""),
            source_ip=self._source_ip,
            server_id=self._around.server_id,
        )
        try:
            home = self._around.login.open_home(context)
        except AccessDenied as error:
            self._tell_role_refused(str(error))
            raise
        events = SessionEvents(self._events)
        return SftpSession(
            home,
            events,
            room=self._room,
            now=self._around.now,
            fidelity=self._around.fidelity,
        )

    def _tell_role_refused(self, reason: str) -> None:
        assert self.identity is not None
        if not self._role_was_refused:  # once, however many channels the client tries
            self._role_was_refused = True
            self._refused(RefusalCause.ROLE_REFUSED, reason)

    # -- the end --------------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        if self.identity is not None:
            self._events.emit("DISCONNECTED")
            if exc is not None and not isinstance(exc, asyncssh.Error | OSError):
                # before authentication asyncssh raises whatever garbage makes it raise
                trace = "".join(traceback.format_exception(exc))
                self._events.error("a connection failed unexpectedly", trace=trace)
        else:
            self._tell_refusal(exc)
        self._connection = None
        self._around.closed(self)

    def _tell_refusal(self, error: Exception | None) -> None:
        """The one cause for which this connection did not log in; and AWS's KEX_FAILURE."""
        assert self._connection is not None
        assert self._authenticator is not None
        tried = self._authenticator.abandoned()
        missing = no_common_algorithm(self._connection)
        detail = ""
        if self._authenticator.tries and not self._authenticator.wrong_passwords:
            self._around.supervision.failed(self._source_ip, None)
        if missing is not None:
            kind, detail = missing
            self._events.emit(
                "KEX_FAILURE", source_ip=self._source_ip, message=_KEX_MESSAGES[kind], kex=detail
            )
            cause = RefusalCause.NO_COMMON_ALGORITHM
            detail = whole_offer(self._connection, kind)
        elif tried is not None:
            self._around.supervision.refused(
                replace(tried, client_version=self._version_of_client())
            )
            return
        else:
            cause = self._ended_for or self._silence(error)
        self._refused(cause, detail)

    def _silence(self, error: Exception | None) -> RefusalCause:
        """What a client did wrong that never tried to log in."""
        if isinstance(error, asyncssh.ConnectionLost) and error.reason == _LOGIN_TIMEOUT:
            return RefusalCause.LOGIN_TIMEOUT
        assert self._connection is not None
        began = self._connection.get_extra_info("recv_cipher") is not None
        return RefusalCause.NO_LOGIN if began else RefusalCause.NO_HANDSHAKE

    def _refused(self, cause: RefusalCause, detail: str = "") -> None:
        identity = self.identity
        named = user_name_in_question(self._connection) if self._connection else ""
        self._around.supervision.refused(
            Refusal(
                cause,
                self._around.now(),
                source_ip=self._source_ip,
                user_name=identity.user.user_name if identity else named,
                fingerprints=(identity.fingerprint,) if identity and identity.fingerprint else (),
                client_version=self._version_of_client(),
                detail=detail[:_DETAIL_CHARS_MAX],
            )
        )

    def _version_of_client(self) -> str:
        assert self._connection is not None
        return str(self._connection.get_extra_info("client_version") or "")[:_VERSION_CHARS_MAX]
