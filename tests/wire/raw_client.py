"""A client that sends whatever a test wants: raw SFTP packets over paramiko's SSH."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko

GCM = "aes128-gcm@openssh.com"


def u32(value: int) -> bytes:
    """A 32-bit field."""
    return struct.pack(">I", value)


def u64(value: int) -> bytes:
    """A 64-bit field."""
    return struct.pack(">Q", value)


def text(value: bytes) -> bytes:
    """A string field."""
    return u32(len(value)) + value


@dataclass(frozen=True)
class Reply:
    """One packet of the server; ``body`` is what follows the id."""

    type: int
    id: int
    body: bytes

    @property
    def status(self) -> tuple[int, bytes]:
        """Code and text of a STATUS."""
        assert self.type == 101, self
        code, size = struct.unpack(">II", self.body[:8])
        return code, self.body[8 : 8 + size]

    @property
    def handle(self) -> bytes:
        """The handle of a HANDLE, as a string field."""
        assert self.type == 102, self.status
        return self.body

    @property
    def names(self) -> list[tuple[bytes, bytes]]:
        """File and long names of a NAME."""
        assert self.type == 104, self.status
        found, position = [], 4
        for _ in range(int.from_bytes(self.body[:4], "big")):
            pair = []
            for _ in range(2):
                size = int.from_bytes(self.body[position : position + 4], "big")
                pair.append(self.body[position + 4 : position + 4 + size])
                position += 4 + size
            position += 4 if self.body[position : position + 4] == bytes(4) else 24
            found.append((pair[0], pair[1]))
        return found


class RawTransport:
    """An authenticated SSH connection without any SFTP on it."""

    def __init__(
        self, port: int, user: str, key: Path | None, *, cipher: str = GCM, **options: Any
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.transport = paramiko.Transport(self.socket, **options)
        self.transport.get_security_options().ciphers = (cipher,)
        self.transport.start_client(timeout=10)
        if key is not None:
            self.transport.auth_publickey(user, paramiko.Ed25519Key.from_private_key_file(str(key)))

    def sftp(self) -> RawSftp:
        """A channel with the SFTP subsystem, not yet initialised."""
        return RawSftp(self.transport)

    def close(self) -> None:
        """Close as a client does."""
        self.transport.close()

    def kill(self) -> None:
        """End the TCP connection without a word, with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        self.transport.close()


class RawSftp:
    """One SFTP channel."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self.channel = transport.open_session(timeout=10)
        self.channel.settimeout(10)
        self.channel.invoke_subsystem("sftp")
        self._next_id = 0

    def init(self, version: int = 3) -> tuple[int, bytes]:
        """INIT, and the server's version and extensions."""
        self.send(bytes([1]) + u32(version))
        packet = self.receive_packet()
        assert packet[0] == 2
        return int.from_bytes(packet[1:5], "big"), packet[5:]

    def send(self, packet: bytes) -> None:
        """A packet, its length put before it."""
        self.channel.sendall(u32(len(packet)) + packet)

    def send_request(self, packet_type: int, *fields: bytes) -> int:
        """A request with the next id; that id."""
        self._next_id += 1
        self.send(bytes([packet_type]) + u32(self._next_id) + b"".join(fields))
        return self._next_id

    def request(self, packet_type: int, *fields: bytes) -> Reply:
        """A request and its reply."""
        request_id = self.send_request(packet_type, *fields)
        reply = self.receive()
        assert reply.id == request_id
        return reply

    def receive(self) -> Reply:
        """The next reply."""
        packet = self.receive_packet()
        return Reply(packet[0], int.from_bytes(packet[1:5], "big"), packet[5:])

    def receive_packet(self) -> bytes:
        """The next packet; raises EOFError when the channel is closed."""
        return self._exactly(int.from_bytes(self._exactly(4), "big"))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.channel.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    # -- what tests need often ----------------------------------------------------------------

    def open_write(self, path: bytes = b"/f", flags: int = 2 | 8 | 16) -> bytes:
        """OPEN for writing; the handle."""
        return self.request(3, text(path), u32(flags), u32(0)).handle

    def open_read(self, path: bytes) -> bytes:
        """OPEN for reading; the handle."""
        return self.request(3, text(path), u32(1), u32(0)).handle

    def write(self, handle: bytes, offset: int, data: bytes) -> tuple[int, bytes]:
        """WRITE; its status."""
        return self.request(6, handle, u64(offset), text(data)).status

    def close_handle(self, handle: bytes) -> tuple[int, bytes]:
        """CLOSE; its status."""
        return self.request(4, handle).status
