"""Who gets in, and what the others can learn."""

from __future__ import annotations

import base64
import contextlib
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import paramiko
import pytest
from raw_client import text

from feedgate.errors import AccessDenied, CouldNot
from feedgate.limits import AUTH_FAILURE_S, AUTH_TRIES_MAX


def client(door: Any) -> paramiko.Transport:
    """A connection that has not authenticated."""
    sock = socket.create_connection(("127.0.0.1", door.port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport = paramiko.Transport(sock)
    transport.start_client(timeout=10)
    return transport


def key_of(path: Path) -> paramiko.PKey:
    """A private key."""
    return paramiko.Ed25519Key.from_private_key_file(str(path))


def refused(door: Any, user: str, key: Path) -> list[str]:
    """Try, be refused, and see which methods remain."""
    transport = client(door)
    try:
        with pytest.raises(paramiko.BadAuthenticationType) as raised:
            transport.auth_none(user)
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_publickey(user, key_of(key))
        return list(raised.value.allowed_types)
    finally:
        transport.close()


def test_the_key_decides(door: Any) -> None:
    """The user's key opens a session that knows user, key, client and address."""
    transport = door.raw()
    transport.sftp().init()
    context = door.store.homes[-1].context
    key = door.login.users[door.user].ssh_public_keys[0]
    assert context.user is door.login.users[door.user]
    assert context.ssh_key_fingerprint == key.fingerprint
    assert context.client_version.startswith("SSH-2.0-paramiko")
    assert context.source_ip == "127.0.0.1"
    assert context.server_id == "s-0123456789abcdef0"
    event = door.events("CONNECTED")[0]
    assert event["session-id"] == context.session_id
    assert len(context.session_id) == 16
    assert event["ssh-public-key-fingerprint"] == key.fingerprint
    assert event["ssh-public-key-type"] == "ssh-ed25519"
    assert event["ssh-public-key"] == key.body.split()[1]
    assert event["user"] == door.user
    assert event["role"].endswith(":role/transfer")
    assert event["home-dir"] == "/"
    assert event["source-ip"] == "127.0.0.1"
    assert event["resource-arn"].endswith("server/s-0123456789abcdef0")
    assert "aes" in event["ciphers"]
    assert event["kex"] == "curve25519-sha256@libssh.org"
    assert event["client"] == context.client_version
    transport.close()
    door.wait_for(lambda: door.events("DISCONNECTED"))


def test_refusals_look_alike(door: Any) -> None:
    """Unknown or disabled user, other key, impossible name: the same methods, the same answer."""
    door.login.add("disabled_one", door.key.with_suffix(".pub").read_text())
    door.login.disable("disabled_one")
    tries = [
        ("nobody_here", door.key),
        ("disabled_one", door.key),
        (door.user, door.other_key),
        ("root", door.key),
        ("x", door.key),
        ("../../etc", door.key),
        ("a\u00e9\u4e2d", door.key),
        (door.user + " ", door.key),
        (door.user.upper(), door.key),
    ]
    assert {tuple(refused(door, *one)) for one in tries} == {("publickey",)}
    events = door.events("AUTH_FAILURE")
    assert [event["user"] for event in events] == [user for user, _key in tries]
    assert {event["method"] for event in events} == {"publickey"}
    assert door.events("CONNECTED") == []
    assert door.store.homes == []


def test_refusals_take_the_same_time(door: Any) -> None:
    """A refusal takes its minimum, whatever was looked up; a good login does not wait for it."""
    lookup = door.login.user

    def slow_if_known(user_name: str) -> Any:
        if user_name == door.user:
            time.sleep(AUTH_FAILURE_S / 3)
        return lookup(user_name)

    door.login.user = slow_if_known
    times: dict[str, list[float]] = {}
    for _ in range(8):
        for user in (door.user, "nobody_here"):
            transport = client(door)
            started = time.perf_counter()
            with pytest.raises(paramiko.AuthenticationException):
                transport.auth_publickey(user, key_of(door.other_key))
            times.setdefault(user, []).append(time.perf_counter() - started)
            transport.close()
    known, unknown = (min(times[user]) for user in (door.user, "nobody_here"))
    assert min(known, unknown) >= AUTH_FAILURE_S
    assert abs(known - unknown) < AUTH_FAILURE_S / 4


def test_passwords_and_the_rest_are_refused(door: Any) -> None:
    """Nothing but a public key is even tried."""
    transport = client(door)
    for attempt in (
        lambda: transport.auth_password(door.user, "x"),
        lambda: transport.auth_interactive(door.user, lambda *_: ["x"]),
        lambda: transport.auth_none(door.user),
    ):
        with pytest.raises(paramiko.BadAuthenticationType) as raised:
            attempt()
        assert raised.value.allowed_types == ["publickey"]
    transport.close()


def test_a_key_that_is_offered_proves_nothing(door: Any) -> None:
    """Offering the user's key first and signing with another does not let anyone in."""
    transport = client(door)
    good = base64.b64decode(door.key.with_suffix(".pub").read_text().split()[1])

    class OtherKey(paramiko.Ed25519Key):
        """Says that it is the user's key, and signs with its own."""

        def asbytes(self) -> bytes:
            return good

    with pytest.raises(paramiko.AuthenticationException):
        transport.auth_publickey(door.user, OtherKey.from_private_key_file(str(door.other_key)))
    assert not transport.is_authenticated()
    assert door.events("AUTH_FAILURE")[-1]["message"] == "signature does not verify"
    transport.close()


def test_which_of_several_keys(make_door: Callable[..., Any], ssh_keys: Path) -> None:
    """With several keys of one user offered in turn, the one that signed is recorded."""
    door = make_door()
    door.login.add(
        door.user,
        *((ssh_keys / name).with_suffix(".pub").read_text() for name in ("user", "other", "rsa")),
    )
    for name in ("rsa", "other", "user"):
        assert door.ssh("-N", "-o", "ConnectTimeout=5", "-W", "x:1", key=ssh_keys / name).returncode
        printed = subprocess.run(
            ["ssh-keygen", "-lf", ssh_keys / name], capture_output=True, text=True, check=True
        )
        recorded = door.events("CONNECTED")[-1]["ssh-public-key-fingerprint"]
        assert recorded == printed.stdout.split()[1]


def test_sha1_signatures(make_door: Callable[..., Any], ssh_keys: Path) -> None:
    """``ssh-rsa`` signatures are taken only where the policy lists them."""
    for policy, works in (("2024-01", False), ("2018-11", True)):
        door = make_door(security_policy_name=f"TransferSecurityPolicy-{policy}")
        door.login.add(door.user, (ssh_keys / "rsa.pub").read_text())
        done = door.ssh(
            *("-s", "-o", "PubkeyAcceptedAlgorithms=ssh-rsa", "-o", "HostKeyAlgorithms=+ssh-rsa"),
            "nosuch",
            key=ssh_keys / "rsa",
        )
        assert bool(door.events("CONNECTED")) == works, done.stderr
        if not works:
            assert "Permission denied (publickey)" in done.stderr


def test_too_many_tries(door: Any, tmp_path: Path) -> None:
    """Six refused keys end the connection; other connections are not affected."""
    words = []
    for number in range(AUTH_TRIES_MAX + 2):
        path = tmp_path / f"key{number}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        words += ["-i", str(path)]
    done = door.ssh(*words, "x", key=door.other_key)
    assert "Too many authentication failures" in done.stderr
    assert len(door.events("AUTH_FAILURE")) == AUTH_TRIES_MAX
    door.raw().sftp().init()


def test_too_many_requests_of_any_method(door: Any) -> None:
    """Passwords cannot be tried for ever either, though none is ever looked at."""
    transport = client(door)
    tried = 0
    while transport.is_active() and tried < 200:
        with pytest.raises((paramiko.SSHException, EOFError)):
            transport.auth_password(door.user, "x")
        tried += 1
    assert tried <= 26
    door.wait_for(lambda: door.door.connections == 0)


def test_user_names_that_change(door: Any) -> None:
    """A connection that tried another name first is its last name's, whose key signed."""
    door.login.add("other_user", door.other_key.with_suffix(".pub").read_text())
    transport = client(door)
    with pytest.raises(paramiko.AuthenticationException):
        transport.auth_publickey("other_user", key_of(door.key))
    transport.auth_publickey(door.user, key_of(door.key))
    assert transport.is_authenticated()
    assert door.events("CONNECTED")[0]["user"] == door.user
    transport.close()


def test_database_trouble_is_a_refusal(door: Any) -> None:
    """Users that cannot be read let nobody in, and the log says so."""

    def broken(_user_name: str) -> Any:
        raise CouldNot("disk")

    door.login.user = broken
    assert refused(door, door.user, door.key) == ["publickey"]
    assert door.errors


def test_role_that_cannot_be_assumed(door: Any) -> None:
    """The user gets in, and no session; the reason stays in the log."""
    door.login.fault = AccessDenied("trust policy says no")
    with pytest.raises(paramiko.SSHException):
        door.raw().sftp()
    assert "trust policy" in door.events("ERROR")[0]["message"]


def test_banner(make_door: Callable[..., Any]) -> None:
    """The text before authentication is shown; without one, none is."""
    door = make_door(banner="For suppliers only\n")
    transport = client(door)
    with pytest.raises(paramiko.AuthenticationException):
        transport.auth_publickey("nobody_here", key_of(door.key))
    assert transport.get_banner() == b"For suppliers only\n"
    transport.close()


@pytest.mark.parametrize("message", [*range(50, 61), *range(80, 101), 192, 255])
def test_messages_before_authentication(door: Any, message: int) -> None:
    """Channel and success messages from who has not authenticated lead nowhere, and to an end."""
    transport = client(door)
    for number in (message, 90):
        packet = paramiko.Message()
        packet.add_byte(bytes([number]))
        packet.add_bytes(text(b"session") + bytes(12))
        with contextlib.suppress(EOFError):
            transport._send_message(packet)
    door.wait_for(lambda: not transport.is_active())
    assert not transport.is_authenticated()
    assert door.events("CONNECTED") == []
    assert door.store.homes == []
    assert door.errors == []


def test_names_that_are_no_text(door: Any) -> None:
    """Control characters and bad UTF-8 in a user name end the connection, whoever exists."""
    for user in ("a\nb", door.user + "\0", "\u202ea"):
        transport = client(door)
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_publickey(user, key_of(door.key))
        assert not transport.is_active()
    assert door.events("CONNECTED") == []


def test_injected_before_new_keys(
    make_door: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terrapin: with strict key exchange, a message slipped in before NEWKEYS disconnects."""
    door = make_door()
    original = asyncssh.connection.SSHConnection._send_kexinit

    def inject(self: Any) -> None:
        original(self)
        if self.is_client() and not self._recv_encryption:
            self.send_packet(asyncssh.constants.MSG_IGNORE, bytes(4))

    monkeypatch.setattr(asyncssh.connection.SSHConnection, "_send_kexinit", inject)

    async def connect() -> None:
        await asyncssh.connect(
            "127.0.0.1",
            door.port,
            username=door.user,
            client_keys=[str(door.key)],
            known_hosts=None,
            config=None,
        )

    with pytest.raises(asyncssh.Error):
        door.call(connect())
