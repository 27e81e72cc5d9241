"""The door: algorithms, what SSH offers besides SFTP, limits, revocation, draining."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

import asyncssh
import paramiko
import pytest
from raw_client import text, u32, u64

from feedgate.errors import Unsupported
from feedgate.sftp.gaps import require_safe_groups
from feedgate.sftp.policies import SECURITY_POLICIES, served


def kexinit(port: int) -> list[list[str]]:
    """The name lists of the server's first key exchange message."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b"SSH-2.0-test\r\n")
        data = b""
        while b"\n" not in data:
            data += sock.recv(1)
        packet = b""
        while len(packet) < 4 or len(packet) < 4 + int.from_bytes(packet[:4], "big"):
            packet += sock.recv(65536)
    position, lists = 4 + 1 + 1 + 16, []
    for _ in range(8):
        size = int.from_bytes(packet[position : position + 4], "big")
        names = packet[position + 4 : position + 4 + size].decode()
        lists.append(names.split(","))
        position += 4 + size
    return lists


@pytest.mark.parametrize("name", SECURITY_POLICIES)
def test_offers_what_the_policy_says(make_door: Callable[..., Any], name: str) -> None:
    """KEXINIT lists the policy's algorithms in its order, and nothing else."""
    door = make_door(security_policy_name=name)
    policy, _lost = served(name)
    kexs, keys, *rest = kexinit(door.port)
    assert tuple(kexs[: len(policy.kexs)]) == policy.kexs
    assert set(kexs[len(policy.kexs) :]) == {"ext-info-s", "kex-strict-s-v00@openssh.com"}
    there = {"rsa-sha2-256", "rsa-sha2-512", "ssh-ed25519", "ssh-rsa"}
    assert keys == [key for key in policy.host_key_algorithms if key in there]
    macs = [mac for mac in policy.macs if not mac.startswith("umac")]
    assert [tuple(names) for names in rest[:2]] == [policy.ciphers] * 2
    assert [[mac for mac in names if "umac" not in mac] for names in rest[2:4]] == [macs] * 2
    assert rest[4:6] == [["none"], ["none"]]


def test_version_line(make_door: Callable[..., Any]) -> None:
    """The first line names no library; AWS's is a setting."""
    for options, line in (
        ({}, b"SSH-2.0-feedgate\r\n"),
        ({"server_version": "AWS_SFTP_1.2"}, b"SSH-2.0-AWS_SFTP_1.2\r\n"),
    ):
        door = make_door(**options)
        with socket.create_connection(("127.0.0.1", door.port), timeout=5) as sock:
            assert sock.makefile("rb").readline() == line


def test_an_unknown_policy_ends_the_start(make_door: Callable[..., Any]) -> None:
    """Refused by name before any connection."""
    with pytest.raises(Unsupported, match="`Nonsense`"):
        make_door(security_policy_name="Nonsense")


def test_no_common_algorithm(door: Any) -> None:
    """A client without anything in common is logged as AWS does."""
    done = door.ssh("-o", "MACs=hmac-sha1", "-o", "Ciphers=aes128-ctr", "x")
    assert done.returncode == 255
    door.wait_for(lambda: door.events("KEX_FAILURE"))
    event = door.events("KEX_FAILURE")[0]
    assert (event["message"], event["kex"]) == ("no matching MAC found", "hmac-sha1")
    door.ssh("-o", "KexAlgorithms=diffie-hellman-group14-sha1", "x")
    door.wait_for(lambda: len(door.events("KEX_FAILURE")) == 2)
    event = door.events("KEX_FAILURE")[1]
    assert event["message"] == "no matching key exchange method found"
    assert event["kex"].startswith("diffie-hellman-group14-sha1")
    assert event["source-ip"] == "127.0.0.1"


def test_short_groups_are_not_served() -> None:
    """Group exchange starts at 2,048 bits, and stays so when asked twice."""
    require_safe_groups()
    require_safe_groups()
    from asyncssh import kex_dh

    assert min(group[0] for group in kex_dh._dh_gex_groups) == 2048
    assert kex_dh._group1_p.bit_length() == 2048


@pytest.mark.parametrize("algorithm", ["rsa-sha2-256", "rsa-sha2-512", "ssh-ed25519"])
def test_host_keys(door: Any, algorithm: str) -> None:
    """Each host key algorithm works, also while clients that chose another connect."""
    for one in (algorithm, "rsa-sha2-512", algorithm):
        done = door.ssh("-o", f"HostKeyAlgorithms={one}", "-s", "nosuch")
        assert "subsystem request failed" in done.stderr


def test_two_clients_two_rsa_algorithms(door: Any) -> None:
    """One client's choice of signature algorithm does not sign for another."""

    async def connect(algorithm: str) -> str:
        async with asyncssh.connect(
            "127.0.0.1",
            door.port,
            username=door.user,
            client_keys=[str(door.key)],
            known_hosts=None,
            config=None,
            server_host_key_algs=[algorithm],
        ) as connection:
            return str(connection.get_extra_info("username"))

    async def many() -> list[str]:
        return await asyncio.gather(
            *(connect(algorithm) for algorithm in ("rsa-sha2-256", "rsa-sha2-512") * 8)
        )

    assert door.call(many()) == [door.user] * 16


def test_further_host_keys_are_learned(door: Any) -> None:
    """OpenSSH's UpdateHostKeys learns the keys it did not use, by their proofs."""
    hosts = door.folder / "known_hosts"
    done = door.sftp("pwd", options=("-o", "HostKeyAlgorithms=ssh-ed25519,rsa-sha2-512"))
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in hosts.read_text().splitlines()] == ["ssh-ed25519"]
    done = door.sftp("pwd", options=("-o", "UpdateHostKeys=yes"))
    assert done.returncode == 0, done.stderr
    kinds = sorted(line.split()[1] for line in hosts.read_text().splitlines())
    assert kinds == ["ssh-ed25519", "ssh-rsa"]


# -- what is not SFTP -----------------------------------------------------------------------------


def test_no_shell_no_command_no_other_subsystem(door: Any) -> None:
    """Shell, command, scp's old protocol and unknown subsystems are refused; SFTP still works."""
    for words in ([], ["id"], ["scp -t /x"], ["-s", "netconf"], ["-t", "-t"], ["-s", "SFTP"]):
        done = door.ssh(*words)
        assert done.returncode != 0
        assert done.stdout == ""
        assert "request failed" in done.stderr
    (door.folder / "f").write_text("x")
    scp = door.ssh_words("scp")
    target = f"{door.user}@127.0.0.1:/f"
    assert subprocess.run([*scp, "-O", door.folder / "f", target], check=False).returncode != 0
    assert subprocess.run([*scp, "-s", door.folder / "f", target], check=False).returncode == 0
    assert door.store.files == {b"/f": b"x"}


def test_no_forwarding(door: Any) -> None:
    """No way through: direct TCP, streams, tunnels, agent, X11, listening; SFTP still works."""
    raw = door.raw()
    transport = raw.transport
    for kind, rest in (
        ("direct-tcpip", (("127.0.0.1", 22), ("127.0.0.1", 1))),
        ("forwarded-tcpip", (("127.0.0.1", 22), ("127.0.0.1", 1))),
        ("x11", (("127.0.0.1", 1), ("127.0.0.1", 1))),
        ("auth-agent@openssh.com", (None, None)),
        ("tun@openssh.com", (None, None)),
        ("direct-streamlocal@openssh.com", (None, None)),
    ):
        with pytest.raises((paramiko.ChannelException, paramiko.SSHException)):
            transport.open_channel(kind, dest_addr=rest[0], src_addr=rest[1], timeout=5)
        if not transport.is_active():
            raw = door.raw()
            transport = raw.transport
    with pytest.raises(paramiko.SSHException):
        transport.request_port_forward("127.0.0.1", 0)
    channel = transport.open_session()
    with pytest.raises(paramiko.SSHException):
        channel.get_pty()
    channel = transport.open_session()
    with pytest.raises(paramiko.SSHException):
        channel.invoke_shell()
    channel = transport.open_session()
    with pytest.raises(paramiko.SSHException):
        channel.request_x11()
    raw = door.raw()
    channel = raw.transport.open_session()
    message = paramiko.Message()
    message.add_bytes(b"\x62" + u32(channel.remote_chanid) + text(b"env") + b"\1")
    message.add_bytes(text(b"A") + text(b"B"))
    channel._event_pending()
    raw.transport._send_user_message(message)
    with pytest.raises(paramiko.SSHException):
        channel._wait_for_event()
    session = door.raw().sftp()
    assert session.init()[0] == 3


# -- limits ---------------------------------------------------------------------------------------


def test_silent_clients_are_cut(make_door: Callable[..., Any]) -> None:
    """Who says nothing, half a line, or stops after the key exchange is cut in time."""
    door = make_door(login_timeout_s=0.3)
    started = time.monotonic()
    socks = [socket.create_connection(("127.0.0.1", door.port), timeout=5) for _ in range(3)]
    socks[1].sendall(b"SSH-2.0-half")
    transport = paramiko.Transport(socks[2])
    transport.start_client(timeout=5)
    for sock in socks[:2]:
        while sock.recv(4096):
            pass
    door.wait_for(lambda: not transport.is_active())
    assert time.monotonic() - started < 3
    door.wait_for(lambda: door.door.connections == 0)


@pytest.mark.parametrize("seed", range(12))
def test_garbage_before_authentication(door: Any, seed: int) -> None:
    """Random bytes instead of, after, or inside the first messages end that connection only."""
    chosen = random.Random(seed)
    with socket.create_connection(("127.0.0.1", door.port), timeout=5) as sock:
        if seed % 3:
            sock.sendall(b"SSH-2.0-test\r\n")
        if seed % 3 == 2:
            body = b"\x04\x14" + chosen.randbytes(200)
            sock.sendall(u32(len(body)) + body)
        with contextlib.suppress(OSError):
            sock.sendall(chosen.randbytes(70_000) + b"\n")
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
    door.wait_for(lambda: door.door.connections == 0)
    assert door.errors == []
    assert door.raw().sftp().init()[0] == 3


def test_preauth_flood_is_cut(door: Any) -> None:
    """No more than a megabyte is taken from who has not authenticated."""
    transport = paramiko.Transport(socket.create_connection(("127.0.0.1", door.port), timeout=5))
    transport.start_client(timeout=5)
    sent = 0
    message = paramiko.Message()
    message.add_bytes(b"\2" + text(bytes(30_000)))
    with contextlib.suppress(EOFError):
        while sent < 8 * 1024 * 1024:
            transport._send_message(message)
            sent += 30_000
    assert sent < 8 * 1024 * 1024
    door.wait_for(lambda: door.door.connections == 0)
    assert door.events("CONNECTED") == []


def test_connection_limit(make_door: Callable[..., Any]) -> None:
    """A surplus connection is closed and logged, those that are there go on, room comes back."""
    door = make_door(connections_max=2)
    first, second = door.raw(), door.raw()
    assert door.door.connections == 2
    with pytest.raises(Exception):  # noqa: B017, PT011 - paramiko's word for a closed socket varies
        door.raw()
    door.wait_for(lambda: door.events("CONNECTION_REJECTED"))
    assert first.sftp().init()[0] == 3
    second.close()
    door.wait_for(lambda: door.door.connections == 1)
    door.raw().sftp().init()


def test_idle_connections_are_cut(make_door: Callable[..., Any]) -> None:
    """Without a request for the idle time a connection ends; with one now and then it does not."""
    door = make_door(idle_timeout_s=0.6)
    idle, busy = door.raw(), door.raw()
    session = busy.sftp()
    session.init()
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        assert session.request(17, text(b"/")).type == 105
        time.sleep(0.1)
    assert not idle.transport.is_active()
    assert busy.transport.is_active()


def test_a_peer_that_vanished_before_it_was_served(door: Any) -> None:
    """A socket that is dead on arrival is closed and leaves no trace."""

    async def connect_dead() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname())
        server, _address = listener.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        door.door.connect(server)
        listener.close()

    door.call(connect_dead())
    door.wait_for(lambda: door.door.connections == 0)
    assert door.errors == []
    door.raw().sftp().init()


# -- revocation and draining ----------------------------------------------------------------------


def test_recheck_ends_withdrawn_sessions(door: Any) -> None:
    """Users and keys that are gone are disconnected, their uploads abandoned; others stay."""
    door.login.add("second_user", door.other_key.with_suffix(".pub").read_text())
    gone, stays = door.raw(), door.raw(door.other_key, "second_user")
    session = gone.sftp()
    session.init()
    session.open_write()
    door.login.disable(door.user)
    door.call(door.door.recheck(door.login.still_valid))
    door.wait_for(lambda: not gone.transport.is_active())
    door.wait_for(lambda: door.store.homes[-1].closed)
    assert door.store.uploads[0].abandons == 1
    assert stays.sftp().init()[0] == 3
    assert door.door.connections == 1


def test_drain_lets_transfers_finish(door: Any) -> None:
    """Idle connections go at once, new ones are refused, an upload under way completes."""
    idle, working = door.raw(), door.raw()
    session = working.sftp()
    session.init()
    handle = session.open_write(b"/f")
    session.write(handle, 0, b"one")
    drained = asyncio.run_coroutine_threadsafe(door.door.drain(10), door._loop)
    door.wait_for(lambda: not idle.transport.is_active())
    with pytest.raises(Exception):  # noqa: B017, PT011 - paramiko's word for a closed socket varies
        door.raw()
    assert session.write(handle, 3, b"two")[0] == 0
    assert not drained.done()
    assert session.close_handle(handle) == (0, b"Success")
    drained.result(5)
    assert door.store.files == {b"/f": b"onetwo"}
    door.wait_for(lambda: not working.transport.is_active())


def test_drain_waits_for_a_close_under_way(door: Any) -> None:
    """A CLOSE that waits for the disk is answered before the door closes."""
    release = door.on_loop(lambda: asyncio.get_running_loop().create_future())
    door.store.hold_close = lambda: release
    session = door.raw().sftp()
    session.init()
    request_id = session.send_request(4, session.open_write(b"/f"))
    door.wait_for(lambda: door.store.uploads[0].closes)
    drained = asyncio.run_coroutine_threadsafe(door.door.drain(10), door._loop)
    time.sleep(0.1)
    assert not drained.done()
    door.on_loop(lambda: release.set_result(None))
    reply = session.receive()
    assert (reply.id, reply.status) == (request_id, (0, b"Success"))
    drained.result(5)
    assert list(door.store.files) == [b"/f"]


def test_drain_ends_after_its_grace(door: Any) -> None:
    """What is not finished by then is abandoned before drain returns."""
    session = door.raw().sftp()
    session.init()
    session.write(session.open_write(b"/f"), 0, b"half")
    started = time.monotonic()
    door.call(door.door.drain(0.3))
    assert 0.25 < time.monotonic() - started < 3
    assert door.store.uploads[0].abandons == 1
    assert door.store.homes[-1].closed == 1
    assert door.store.files == {}


def test_close_events_reach_the_terminal(door: Any) -> None:
    """Who watches sees each finished upload with user, path and size."""
    session = door.raw().sftp()
    session.init()
    handle = session.open_write(b"/f")
    session.request(6, handle, u64(0), text(b"data"))
    session.close_handle(handle)
    door.wait_for(lambda: door.seen)
    event = door.seen[0]
    assert event["activity-type"] == "CLOSE"
    assert (event["user"], event["path"]) == (door.user, "/bucket/f")
    assert event["bytes-in"] == "4"
    assert 0 <= event["seconds"] < 5


def test_hostile_names_stay_in_their_line(door: Any) -> None:
    """Newlines and control characters of a client cannot forge a log line."""
    transport = paramiko.Transport(socket.create_connection(("127.0.0.1", door.port), timeout=5))
    transport.local_version = 'SSH-2.0-x"}{"activity-type":"CONNECTED'
    transport.start_client(timeout=5)
    key = paramiko.Ed25519Key.from_private_key_file(str(door.key))
    with pytest.raises(paramiko.AuthenticationException):
        transport.auth_publickey('a"{"activity-type":"CONNECTED"}', key)
    transport.close()
    assert door.events("CONNECTED") == []
    assert door.events("AUTH_FAILURE")[0]["user"] == 'a"{"activity-type":"CONNECTED"}'
