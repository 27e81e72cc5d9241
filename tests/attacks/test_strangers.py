"""Peers that have not logged in: raw bytes on the socket, before and instead of SSH."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import paramiko
import pytest
from raw_client import RawTransport, text, u32

pytestmark = pytest.mark.integration

BANNER = b"SSH-2.0-attacker\r\n"
LOGIN_TIMEOUT_S = 30


@pytest.fixture
def dial(target: Any) -> Iterator[Any]:
    """Makes plain connections that are closed after the test."""
    made: list[socket.socket] = []

    def connect() -> socket.socket:
        made.append(socket.create_connection(("127.0.0.1", target.port), timeout=10))
        return made[-1]

    yield connect
    for connection in made:
        connection.close()


def answer(connection: socket.socket, timeout_s: float = 10) -> bytes:
    """All that comes until the gateway closes; fails if it does not."""
    connection.settimeout(timeout_s)
    data = b""
    with suppress(ConnectionError):
        while more := connection.recv(65_536):
            data += more
    return data


def send(connection: socket.socket, data: bytes) -> None:
    """Send, to a peer that may have closed already."""
    with suppress(ConnectionError):
        connection.sendall(data)


def plain_packet(payload: bytes, *, padding: int | None = None, length: int | None = None) -> bytes:
    """An SSH packet as before key exchange, with lies on demand (RFC 4253 §6)."""
    pad = 8 - (len(payload) + 5) % 8
    pad += 8 if pad < 4 else 0
    size = len(payload) + pad + 1 if length is None else length
    return struct.pack(">IB", size, pad if padding is None else padding) + payload + bytes(pad)


def kexinit(**lists: bytes) -> bytes:
    """A KEXINIT payload; a named list replaces the usual one."""
    usual = {
        "kex": b"curve25519-sha256",
        "host": b"ssh-ed25519",
        **dict.fromkeys(("cipher_in", "cipher_out"), b"aes128-gcm@openssh.com"),
        **dict.fromkeys(("mac_in", "mac_out"), b"hmac-sha2-256-etm@openssh.com"),
        **dict.fromkeys(("compress_in", "compress_out"), b"none"),
        **dict.fromkeys(("language_in", "language_out"), b""),
    }
    fields = b"".join(map(text, {**usual, **lists}.values()))
    return bytes([20]) + os.urandom(16) + fields + b"\0" + u32(0)


@pytest.mark.parametrize(
    "first",
    [
        *(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-1.5-old\r\n", b"SSH-2.0-" + b"x" * 100_000),
        *(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), bytes(100_000)),
        *(b"junk\r\n" * 5_000 + BANNER, b"\n" * 100_000, os.urandom(100_000)),
        b"SSH-2.0-\xff\xfe\x1b[2J\r\n" + bytes(200),
    ],
    ids=[
        *("http", "version 1", "endless version", "tls", "zeros", "lines before", "empty lines"),
        *("random", "odd version"),
    ],
)
def test_not_ssh(target: Any, dial: Any, first: bytes) -> None:
    """Whatever is no SSH banner ends the connection without an answer but our own banner."""
    connection = dial()
    send(connection, first)
    connection.shutdown(socket.SHUT_WR)
    said = answer(connection)
    assert said.count(b"SSH-2.0-") <= 1
    assert len(said) < 3_000
    assert b"Traceback" not in said


@pytest.mark.parametrize(
    "packet",
    [
        *(u32(0), u32(1) + b"\0", u32(0xFFFFFFFF) + b"A" * 100, u32(300_000) + b"A" * 100),
        *(plain_packet(b"\x02hello", padding=255), plain_packet(b"\x02", padding=0)),
        *(plain_packet(b""), plain_packet(b"\x15"), plain_packet(kexinit()[:40])),
        plain_packet(b"\x14" + bytes(16) + u32(0xFFFFFFFF) + b"x"),
    ],
    ids=[
        *("length 0", "length 1", "length 4 GiB", "length 300,000", "padding beyond", "no padding"),
        *("no payload", "NEWKEYS first", "KEXINIT cut", "a list of 4 GiB"),
    ],
)
def test_packets_that_lie(target: Any, dial: Any, packet: bytes) -> None:
    """Lengths and paddings that lie, before key exchange: the connection ends, nothing grows."""
    connection = dial()
    send(connection, BANNER + packet)
    connection.shutdown(socket.SHUT_WR)
    assert len(answer(connection)) < 5_000


def test_half_a_banner(target: Any, dial: Any) -> None:
    """A hundred peers that begin and never go on cost others nothing."""
    for size in range(100):
        send(dial(), BANNER[: size % len(BANNER)])
    began = time.monotonic()
    target.serve_a_good_client()
    assert time.monotonic() - began < LOGIN_TIMEOUT_S / 3


def test_compression(target: Any, dial: Any) -> None:
    """Compression is not offered, and who offers nothing else does not get in."""
    transport = paramiko.Transport(("127.0.0.1", target.port))
    transport.get_security_options().compression = ("zlib@openssh.com", "zlib")
    with pytest.raises(paramiko.SSHException):
        transport.start_client(timeout=10)
    connection = dial()
    only = dict.fromkeys(("compress_in", "compress_out"), b"zlib,zlib@openssh.com")
    send(connection, BANNER + plain_packet(kexinit(**only)))
    offered, _, _reason = answer(connection).partition(b"No matching compression")
    assert b"none" in offered
    assert b"zlib" not in offered


@pytest.mark.parametrize("number", [2, 3, 4, 7, 20, 21, 50, 52, 53, 80, 90, 94, 192, 255])
def test_messages_amid_key_exchange(target: Any, dial: Any, number: int) -> None:
    """After KEXINIT with strict key exchange, whatever is not its next message ends all."""
    connection = dial()
    strict = kexinit(kex=b"curve25519-sha256,kex-strict-c-v00@openssh.com")
    send(connection, BANNER + plain_packet(strict) + plain_packet(bytes([number]) + bytes(40)))
    said = answer(connection)
    assert said.startswith(b"SSH-2.0-")


def test_a_key_exchange_of_lies(target: Any, dial: Any) -> None:
    """Public values that are too short, zero, or not on the curve are the end."""
    for value in (b"", bytes(32), b"\xff" * 32, b"x" * 31, b"x" * 30_000):
        connection = dial()
        send(connection, BANNER + plain_packet(kexinit()) + plain_packet(b"\x1e" + text(value)))
        connection.shutdown(socket.SHUT_WR)
        assert answer(connection).startswith(b"SSH-2.0-")


def test_a_second_login(target: Any) -> None:
    """A user who is in cannot become another by asking again."""
    transport = target.connect()
    session = transport.sftp()
    session.init()
    again = bytes([50]) + text(b"acme_retail") + text(b"ssh-connection") + text(b"none")
    for _ in range(10):
        transport.transport._send_user_message(paramiko.Message(again))
    with suppress(EOFError, OSError):
        session.close_handle(session.open_write(b"/still-mine"))
    watcher = target.sftp()
    handle = watcher.request(11, text(b"/")).handle
    watcher.request(12, handle)
    landed = [item["key"] for item in target.gateway.receipts() if "still-mine" in item["key"]]
    assert all(key.startswith("jeffrey_aven/") for key in landed)


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "a/b",
        "jeffrey_aven\0",
        "jeffrey_aven ",
        "JEFFREY_AVEN",
        "x" * 1_000,
        "a\nb",
    ],
    ids=ascii,
)
def test_names_of_no_user(target: Any, name: str) -> None:
    """A name that is no user's is refused in the same words as a wrong key, and logged escaped."""
    transport = paramiko.Transport(("127.0.0.1", target.port))
    transport.start_client(timeout=10)
    key = paramiko.Ed25519Key.from_private_key_file(str(target.key))
    with pytest.raises((paramiko.SSHException, EOFError)) as refused:
        transport.auth_publickey(name, key)
    assert "canary" not in str(refused.value)
    transport.close()


def test_a_name_that_looks_like_the_users(target: Any) -> None:
    """A name that SASLprep (RFC 4013) takes for the user's is that user everywhere, or refused."""
    twin = "\uff4aeffrey_aven"
    try:
        with_twin = RawTransport(target.port, twin, target.key)
    except paramiko.SSHException:
        return
    session = with_twin.sftp()
    session.init()
    session.close_handle(session.open_write(b"/twin"))
    with_twin.close()
    item = next(item for item in target.gateway.receipts() if item["path"] == "/twin")
    assert item["key"] == "jeffrey_aven/twin"
    assert twin not in target.gateway.log()
