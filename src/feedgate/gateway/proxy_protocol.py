"""The header by which a proxy tells for whom it opened a connection: PROXY protocol 1 and 2.

https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt, sections 2.1 and 2.2. Read only from
addresses that the operator trusts, and there always: a connection without a header is refused, as
the specification demands. Strict, because what is read here decides about limits and policies.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from feedgate.limits import PROXY_HEADER_BYTES_MAX, PROXY_HEADER_S

__all__ = ["HeaderError", "client_of_v1", "client_of_v2", "read_header"]

_V2_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V1_BYTES_MAX: Final = 107  # "PROXY TCP6 …" with the longest addresses, CRLF included
_LOCAL, _PROXY = 0, 1
_UNSPEC, _TCP4, _TCP6 = 0x00, 0x11, 0x21

Client = tuple[str, int]


class HeaderError(Exception):
    """What came is no header, or not the header of a TCP connection."""


async def read_header(sock: socket.socket) -> Client | None:
    """Read a header and not a byte more; the client, None where the proxy speaks for itself.

    Raises:
        HeaderError: there is none, or it is damaged.
        TimeoutError: it did not come in time.
        OSError: the connection broke.
    """
    async with asyncio.timeout(PROXY_HEADER_S):
        # the shortest header of version 1 is longer than the signature of version 2
        start = await _exactly(sock, len(_V2_SIGNATURE))
        if start == _V2_SIGNATURE:
            head = await _exactly(sock, 4)
            size = int.from_bytes(head[2:], "big")
            if size > PROXY_HEADER_BYTES_MAX:
                raise HeaderError(f"a header of {size} bytes")
            return client_of_v2(head[0], head[1], await _exactly(sock, size))
        if not start.startswith(b"PROXY "):
            raise HeaderError("no header")
        line = start
        while not line.endswith(b"\r\n"):
            if len(line) >= _V1_BYTES_MAX:
                raise HeaderError("a line without an end")
            line += await _exactly(sock, 1)  # what follows belongs to SSH
        return client_of_v1(line)


async def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    loop = asyncio.get_running_loop()
    while len(data) < size:
        more = await loop.sock_recv(sock, size - len(data))
        if not more:
            raise HeaderError("it ended within the header")
        data += more
    return data


def client_of_v1(line: bytes) -> Client | None:
    """The client of a line ``PROXY TCP4|TCP6|UNKNOWN …``, CRLF included. Raises ``HeaderError``."""
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError:
        raise HeaderError("a line that is not ASCII") from None
    if not text.startswith("PROXY ") or not text.endswith("\r\n"):
        raise HeaderError("no header")
    if text == "PROXY UNKNOWN\r\n" or text.startswith("PROXY UNKNOWN "):
        return None
    words = text[6:-2].split(" ")
    if len(words) != 5 or words[0] not in ("TCP4", "TCP6"):
        raise HeaderError("a line that is not of TCP4, TCP6 or UNKNOWN")
    family = IPv4Address if words[0] == "TCP4" else IPv6Address
    try:
        source, _target = family(words[1]), family(words[2])
    except ValueError:
        raise HeaderError("an address that is none") from None
    port, _target_port = map(_port, words[3:])
    return str(source), port


def _port(word: str) -> int:
    if not (word.isascii() and word.isdigit()) or (len(word) > 1 and word[0] == "0"):
        raise HeaderError("a port that is none")
    if int(word) > 65535:
        raise HeaderError("a port that is none")
    return int(word)


def client_of_v2(version: int, family: int, body: bytes) -> Client | None:
    """The client out of the two bytes after the signature, and what the length counts.

    Values after the addresses (TLVs) are skipped. Raises ``HeaderError``.
    """
    command = version & 0x0F
    if version >> 4 != 2 or command not in (_LOCAL, _PROXY):
        raise HeaderError("a version or command that is unknown")
    if command == _LOCAL:  # a health check of the proxy's own: whatever follows is to be ignored
        return None
    if family == _UNSPEC:
        return None
    if family == _TCP4:
        if len(body) < 12:
            raise HeaderError("a header that is too short")
        return str(IPv4Address(body[:4])), int(struct.unpack(">H", body[8:10])[0])
    if family == _TCP6:
        if len(body) < 36:
            raise HeaderError("a header that is too short")
        return str(IPv6Address(body[:16])), int(struct.unpack(">H", body[32:34])[0])
    raise HeaderError("a connection that is not TCP")
