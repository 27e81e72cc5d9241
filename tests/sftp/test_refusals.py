"""Each connection that does not log in has one cause, told once."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko
import pytest
from cryptography.hazmat.primitives import hashes
from test_authentication import client, key_of
from test_passwords import give_password, set_tags

from feedgate.errors import AccessDenied
from feedgate.gateway.lifecycle import Unsupervised
from feedgate.identity.refusals import Refusal, RefusalCause
from feedgate.limits import AUTH_FAILURE_S
from feedgate.stack.access_tags import DENIED_TAG, EXPIRES_TAG


class Recorder(Unsupervised):
    """Keeps what a door tells."""

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []
        self.failures: list[tuple[str, str | None]] = []
        self.logins: list[tuple[int, str, str]] = []
        self.gone: list[int] = []
        self.admitted: list[str] = []
        self.admits = True

    def refused(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)

    def failed(self, address: str, password_of: str | None) -> None:
        self.failures.append((address, password_of))

    def authenticated(
        self, number: int, user_name: str, address: str, session_id: str, **client: str
    ) -> None:
        assert len(session_id) == 16
        assert client["client_version"].startswith("SSH-2.0-")
        self.logins.append((number, user_name, address))

    def closed(self, number: int) -> None:
        self.gone.append(number)

    async def admit(self, number: int, address: str) -> bool:
        del number
        self.admitted.append(address)
        return self.admits


@pytest.fixture
def seen() -> Recorder:
    """What the door told."""
    return Recorder()


@pytest.fixture
def watched(make_door: Callable[..., Any], seen: Recorder) -> Any:
    """A door that tells ``seen``."""
    return make_door(supervision=seen, login_timeout_s=2)


def one_refusal(door: Any, seen: Recorder) -> Refusal:
    """The one of the connection that has just ended."""
    door.wait_for(lambda: seen.gone and door.door.connections == 0)
    assert len(seen.refusals) == 1, seen.refusals
    return seen.refusals[0]


def try_key(door: Any, user: str, key: Path) -> None:
    """Be refused."""
    transport = client(door)
    with pytest.raises(paramiko.AuthenticationException):
        transport.auth_publickey(user, key_of(key))
    transport.close()


def test_refused_keys_look_alike(watched: Any) -> None:
    """Whatever is wrong with user, key or address: one text, one list of methods, one time."""
    public = watched.key.with_suffix(".pub").read_text()
    for name, prepare in {
        "disabled_one": watched.login.disable,
        "expired_one": lambda name: set_tags(watched, name, **{EXPIRES_TAG: "2020-01-01"}),
        "denied_here": lambda name: set_tags(watched, name, **{DENIED_TAG: "127.0.0.0/8"}),
        "has_no_key": watched.login.add,
        "key_expired": lambda name: watched.login.add(name, f'expiry-time="20200101" {public}'),
        "key_elsewhere": lambda name: watched.login.add(name, f'from="192.0.2.1" {public}'),
    }.items():
        watched.login.add(name, public)
        prepare(name)
    key = key_of(watched.key)
    names = [name for name in (*watched.login.users, "nobody_here", "x") if name != watched.user]
    shown = set()
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in names * 6:  # in turns: a slow moment of the machine hits all alike
        transport = client(watched)
        started = time.perf_counter()
        with pytest.raises(paramiko.AuthenticationException) as raised:
            transport.auth_publickey(name, key)
        times[name].append(time.perf_counter() - started)
        with pytest.raises(paramiko.BadAuthenticationType) as remaining:
            transport.auth_none(name)
        shown.add((str(raised.value), tuple(remaining.value.allowed_types)))
        transport.close()
    assert shown == {("Authentication failed.", ("publickey",))}
    least = [min(took) for took in times.values()]
    assert min(least) >= AUTH_FAILURE_S
    assert max(least) - min(least) < AUTH_FAILURE_S, times


def with_options(door: Any, options: str) -> None:
    """Put options before the user's key."""
    door.login.add(door.user, f"{options} {door.key.with_suffix('.pub').read_text()}")


@pytest.mark.parametrize(
    ("prepare", "user", "cause"),
    [
        (lambda _door: None, "nobody_here", RefusalCause.UNKNOWN_USER),
        (lambda door: door.login.disable(door.user), None, RefusalCause.USER_DISABLED),
        (
            lambda door: set_tags(door, door.user, **{EXPIRES_TAG: "2020-01-01"}),
            None,
            RefusalCause.USER_EXPIRED,
        ),
        (
            lambda door: set_tags(door, door.user, **{DENIED_TAG: "127.0.0.1"}),
            None,
            RefusalCause.USER_ADDRESS_REFUSED,
        ),
        (
            lambda door: with_options(door, 'expiry-time="20200101"'),
            None,
            RefusalCause.KEY_EXPIRED,
        ),
        (
            lambda door: with_options(door, 'from="192.0.2.0/24"'),
            None,
            RefusalCause.KEY_ADDRESS_REFUSED,
        ),
        (lambda door: door.login.add(door.user), None, RefusalCause.KEY_NOT_ON_FILE),
    ],
    ids=lambda value: value.value if isinstance(value, RefusalCause) else "",
)
def test_causes_of_a_refused_key(
    watched: Any, seen: Recorder, prepare: Callable[[Any], None], user: str | None, cause: Any
) -> None:
    """User, key and address are told apart to the operator, with the key's fingerprint."""
    fingerprint = watched.login.users[watched.user].ssh_public_keys[0].fingerprint
    prepare(watched)
    try_key(watched, user or watched.user, watched.key)
    refusal = one_refusal(watched, seen)
    assert refusal.cause is cause
    assert refusal.user_name == (user or watched.user)
    assert refusal.fingerprints == (fingerprint,)
    assert (refusal.source_ip, refusal.method, refusal.tries) == ("127.0.0.1", "publickey", 1)
    assert refusal.client_version.startswith("SSH-2.0-paramiko")
    assert seen.failures == [("127.0.0.1", None)]
    assert Refusal.of(refusal.message()) == refusal


def test_the_most_telling_try_counts(watched: Any, seen: Recorder, ssh_keys: Path) -> None:
    """Of an agent's keys, the one that is on file and expired says why, not the others."""
    watched.login.add("second_user", (ssh_keys / "other.pub").read_text())
    with_options(watched, 'expiry-time="20200101"')
    done = watched.ssh("-i", str(watched.key), "-N", "x", key=watched.other_key)
    assert done.returncode != 0
    refusal = one_refusal(watched, seen)
    assert refusal.cause is RefusalCause.KEY_EXPIRED
    assert (refusal.tries, len(refusal.fingerprints)) == (2, 2)


def test_causes_of_a_refused_password(watched: Any, seen: Recorder) -> None:
    """A wrong password is one, and each counts; a user without any is said to be that."""
    give_password(watched)
    watched.login.add("key_only")
    for user, detail in ((watched.user, ""), ("key_only", "the user has no password")):
        transport = client(watched)
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_password(user, "wrong but long enough")
        transport.close()
        refusal = one_refusal(watched, seen)
        assert (refusal.cause, refusal.detail) == (RefusalCause.WRONG_PASSWORD, detail)
        assert seen.failures == [("127.0.0.1", user)]
        for kept in (seen.refusals, seen.failures, seen.gone):
            kept.clear()


def test_the_password_that_never_came(watched: Any, seen: Recorder) -> None:
    """A client that has the key and gives up at the password is told as that."""
    give_password(watched, require_key=True)
    transport = client(watched)
    transport.auth_publickey(watched.user, key_of(watched.key))
    transport.close()
    refusal = one_refusal(watched, seen)
    assert refusal.cause is RefusalCause.SECOND_FACTOR_MISSING
    assert refusal.user_name == watched.user


def test_silence(watched: Any, seen: Recorder) -> None:
    """Who says nothing is cut off in time and told as a timeout; who hangs up, as no handshake."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", watched.port)) as silent:
        silent.settimeout(10)
        while silent.recv(4096):
            pass
    assert time.monotonic() - started < 5
    assert one_refusal(watched, seen).cause is RefusalCause.LOGIN_TIMEOUT
    seen.refusals.clear()
    seen.gone.clear()
    socket.create_connection(("127.0.0.1", watched.port)).close()
    assert one_refusal(watched, seen).cause is RefusalCause.NO_HANDSHAKE
    seen.refusals.clear()
    seen.gone.clear()
    client(watched).close()
    assert one_refusal(watched, seen).cause is RefusalCause.NO_LOGIN
    assert seen.failures == []


def test_no_common_algorithm(watched: Any, seen: Recorder) -> None:
    """What the client offered of the kind that was missing is told."""
    done = watched.ssh("-o", "KexAlgorithms=diffie-hellman-group1-sha1", "x")
    assert done.returncode != 0
    refusal = one_refusal(watched, seen)
    assert refusal.cause is RefusalCause.NO_COMMON_ALGORITHM
    assert refusal.detail.startswith("kex: diffie-hellman-group1-sha1")
    assert refusal.client_version.startswith("SSH-2.0-OpenSSH")


def test_signatures(watched: Any, seen: Recorder, ssh_keys: Path) -> None:
    """SHA-1 signatures have a cause of their own; who knows that they are refused sends none."""
    watched.login.add(watched.user, (ssh_keys / "rsa.pub").read_text())
    watched.ssh("-o", "PubkeyAcceptedAlgorithms=ssh-rsa", "x", key=ssh_keys / "rsa")
    refusal = one_refusal(watched, seen)
    assert (refusal.cause, refusal.user_name) == (RefusalCause.NO_LOGIN, watched.user)
    seen.refusals.clear()
    seen.gone.clear()

    class OldClient(paramiko.RSAKey):
        """Signs as clients did before 2016, whatever it is asked for."""

        HASHES = {**paramiko.RSAKey.HASHES, "ssh-rsa": hashes.SHA1}  # noqa: RUF012

        def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> paramiko.Message:
            return super().sign_ssh_data(data, "ssh-rsa")

    transport = client(watched)
    key = OldClient.from_private_key_file(str(ssh_keys / "rsa"))
    with pytest.raises(paramiko.AuthenticationException):
        transport.auth_publickey(watched.user, key)
    transport.close()
    refusal = one_refusal(watched, seen)
    assert (refusal.cause, refusal.detail) == (RefusalCause.SIGNATURE_ALGORITHM, "ssh-rsa")


def test_role_that_cannot_be_assumed(watched: Any, seen: Recorder) -> None:
    """A login that leads nowhere is told once, however many channels are tried."""
    watched.login.fault = AccessDenied("trust policy says no")
    transport = watched.raw()
    for _ in range(2):
        with pytest.raises(paramiko.SSHException):
            transport.sftp()
    transport.close()
    refusal = one_refusal(watched, seen)
    assert (refusal.cause, refusal.user_name) == (RefusalCause.ROLE_REFUSED, watched.user)
    assert "trust policy" in refusal.detail


def test_a_login_is_no_refusal(watched: Any, seen: Recorder) -> None:
    """Who logs in, after a wrong key too, is counted and not refused; the key's use is noted."""
    transport = client(watched)
    with pytest.raises(paramiko.AuthenticationException):
        transport.auth_publickey(watched.user, key_of(watched.other_key))
    transport.auth_publickey(watched.user, key_of(watched.key))
    transport.close()
    watched.wait_for(lambda: seen.gone)
    assert seen.refusals == []
    assert seen.logins == [(0, watched.user, "127.0.0.1")]
    fingerprint = watched.login.users[watched.user].ssh_public_keys[0].fingerprint
    assert watched.login.uses == [(watched.user, fingerprint)]


def test_one_too_many_is_told_why(watched: Any, seen: Recorder) -> None:
    """The supervisor's ``end`` disconnects with a reason, before and after the login."""
    transport = watched.raw()
    watched.on_loop(lambda: watched.door.end(0, RefusalCause.TOO_MANY_OF_USER))
    watched.wait_for(lambda: not transport.transport.is_active())
    refusal = one_refusal(watched, seen)
    assert (refusal.cause, refusal.user_name) == (RefusalCause.TOO_MANY_OF_USER, watched.user)
    seen.refusals.clear()
    seen.gone.clear()
    with socket.create_connection(("127.0.0.1", watched.port)) as silent:
        watched.wait_for(lambda: watched.door.connections == 1)
        watched.on_loop(lambda: watched.door.end(0, RefusalCause.DISPLACED))
        silent.settimeout(10)
        while silent.recv(4096):
            pass
    assert one_refusal(watched, seen).cause is RefusalCause.DISPLACED


def test_expiry_ends_open_sessions(make_door: Callable[..., Any]) -> None:
    """A user's expiry ends his open sessions when it comes."""
    clock = {"now": 1_700_000_000.0}
    door = make_door(now=lambda: clock["now"], idle_timeout_s=1)
    set_tags(door, door.user, **{EXPIRES_TAG: "2023-11-15T00:00:00Z"})
    transport = door.raw()
    session = transport.sftp()
    session.init()
    session.open_write()
    clock["now"] = 1_700_006_400.0
    door.wait_for(lambda: not transport.transport.is_active())
    assert door.store.files == {}


def test_behind_a_proxy(watched: Any, seen: Recorder) -> None:
    """The client's address is the header's everywhere; without a header there is no SSH."""
    door = watched.door

    def accept(header: bytes) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", 0))
        near = socket.create_connection(listener.getsockname())
        far, _peer = listener.accept()
        listener.close()
        near.sendall(header)
        watched.on_loop(lambda: door.connect(far, 7, proxied=True))
        return near

    near = accept(b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 22\r\n")
    transport = paramiko.Transport(near)
    transport.start_client(timeout=10)
    transport.auth_publickey(watched.user, key_of(watched.key))
    assert watched.events("CONNECTED")[0]["source-ip"] == "203.0.113.9"
    assert seen.admitted == ["203.0.113.9"]
    assert seen.logins == [(7, watched.user, "203.0.113.9")]
    transport.close()
    watched.wait_for(lambda: seen.gone == [7])
    near = accept(b"SSH-2.0-x_1\n")  # as long as what is read of it, so that no reset follows
    assert near.recv(100) == b""
    watched.wait_for(lambda: seen.refusals)
    assert seen.refusals[-1].cause is RefusalCause.PROXY_HEADER
    seen.admits = False
    near = accept(b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 22\r\n")
    assert near.recv(100) == b""
    watched.wait_for(lambda: seen.gone == [7, 7, 7])
    assert door.connections == 0
