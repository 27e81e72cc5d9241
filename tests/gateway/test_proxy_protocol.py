"""PROXY protocol headers, as the specification writes them and as an attacker might."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedgate.gateway import proxy_protocol
from feedgate.gateway.proxy_protocol import HeaderError, client_of_v1, client_of_v2, read_header
from feedgate.limits import PROXY_HEADER_BYTES_MAX

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(body: bytes, *, command: int = 0x21, family: int = 0x11, size: int | None = None) -> bytes:
    """A header of version 2."""
    length = len(body) if size is None else size
    return SIGNATURE + bytes([command, family]) + struct.pack(">H", length) + body


V4 = socket.inet_aton("203.0.113.9") + socket.inet_aton("192.0.2.1") + struct.pack(">HH", 4711, 22)
V6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::9")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + struct.pack(">HH", 4711, 22)
)


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 22\r\n", ("203.0.113.9", 4711)),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 4711 22\r\n", ("2001:db8::9", 4711)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::1 65535 65535\r\n", None),
        (v2(V4), ("203.0.113.9", 4711)),
        (v2(V6, family=0x21), ("2001:db8::9", 4711)),
        (v2(V4 + b"\x03\x00\x04abcd"), ("203.0.113.9", 4711)),
        (v2(b"", command=0x20, family=0), None),
        (v2(b"whatever", command=0x20), None),
        (v2(b"", family=0), None),
    ],
)
def test_headers(header: bytes, client: tuple[str, int] | None) -> None:
    """Both versions and families, UNKNOWN and LOCAL; what follows the header is left for SSH."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        theirs.sendall(header + b"SSH-2.0-x\r\n")
        assert asyncio.run(read_header(ours)) == client
        assert ours.recv(100) == b"SSH-2.0-x\r\n"


@pytest.mark.parametrize(
    "header",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 4711\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 22 \r\n",
        b"PROXY TCP4  203.0.113.9 192.0.2.1 4711 22\r\n",
        b"PROXY TCP4 2001:db8::9 2001:db8::1 4711 22\r\n",
        b"PROXY TCP4 203.0.113.999 192.0.2.1 4711 22\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 65536 22\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 04711 22\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 -1 22\r\n",
        b"PROXY UDP4 203.0.113.9 192.0.2.1 4711 22\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        b"proxy TCP4 203.0.113.9 192.0.2.1 4711 22\r\n",
        b"PROXY UNKNOWNx\r\n",
        v2(V4, command=0x31),
        v2(V4, command=0x22),
        v2(V4, family=0x12),
        v2(V4, family=0x31),
        v2(V4[:11]),
        v2(V6[:20], family=0x21),
        v2(b"", size=PROXY_HEADER_BYTES_MAX + 1),
        SIGNATURE[:-1] + b"x" + b"\x21\x11\0\x0c" + V4,
        b"",
    ],
)
def test_what_is_no_header(header: bytes) -> None:
    """Everything else is refused, and nothing is read beyond the bounds."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        theirs.sendall(header)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(HeaderError):
            asyncio.run(read_header(ours))


def test_a_header_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a header holds a place for a bounded time."""
    monkeypatch.setattr(proxy_protocol, "PROXY_HEADER_S", 0.05)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        theirs.sendall(b"PROXY TCP4 203.0.113.9 ")
        with pytest.raises(TimeoutError):
            asyncio.run(read_header(ours))


@given(st.binary(max_size=120))
def test_any_line_is_read_or_refused(line: bytes) -> None:
    """No line leads to anything but an address or HeaderError."""
    try:
        client = client_of_v1(b"PROXY " + line + b"\r\n")
    except HeaderError:
        return
    assert client is None or 0 <= client[1] <= 65535


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=60))
def test_any_binary_header_is_read_or_refused(version: int, family: int, body: bytes) -> None:
    """The same for version 2."""
    try:
        client = client_of_v2(version, family, body)
    except HeaderError:
        return
    assert client is None or 0 <= client[1] <= 65535
