"""SFTP version 3 on the wire (draft-ietf-secsh-filexfer-02): framing, fields, replies.

A WRITE's payload stays in the pieces in which the channel delivered it: at 255 KiB a request,
joining and slicing it here would cost put a fifth of its time. Everything else is small and copied,
small pieces of a payload too: 255 KiB in channel packets of one byte take no more than twice that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, TypeAlias

from feedgate.errors import NotFound
from feedgate.limits import (
    SFTP_PACKET_BYTES_MAX,
    SFTP_PACKET_SLACK_BYTES,
    SFTP_PATH_BYTES_MAX,
)

__all__ = [
    "CLOSE",
    "EXTENDED",
    "FSETSTAT",
    "FSTAT",
    "INIT",
    "LSTAT",
    "MKDIR",
    "OPEN",
    "OPENDIR",
    "READ",
    "READDIR",
    "READLINK",
    "REALPATH",
    "REMOVE",
    "RENAME",
    "RMDIR",
    "SETSTAT",
    "STAT",
    "SYMLINK",
    "VERSION_NUMBER",
    "WRITE",
    "Buffer",
    "Fields",
    "Framer",
    "MalformedError",
    "Request",
    "attributes_reply",
    "data_reply",
    "extended_reply",
    "handle_reply",
    "name_reply",
    "status_reply",
    "string",
    "version_reply",
]

Buffer: TypeAlias = bytes | bytearray | memoryview

VERSION_NUMBER: Final = 3

INIT: Final = 1
VERSION: Final = 2
OPEN: Final = 3
CLOSE: Final = 4
READ: Final = 5
WRITE: Final = 6
LSTAT: Final = 7
FSTAT: Final = 8
SETSTAT: Final = 9
FSETSTAT: Final = 10
OPENDIR: Final = 11
READDIR: Final = 12
REMOVE: Final = 13
MKDIR: Final = 14
RMDIR: Final = 15
REALPATH: Final = 16
STAT: Final = 17
RENAME: Final = 18
READLINK: Final = 19
SYMLINK: Final = 20
STATUS: Final = 101
HANDLE: Final = 102
DATA: Final = 103
NAME: Final = 104
ATTRS: Final = 105
EXTENDED: Final = 200
EXTENDED_REPLY: Final = 201

_WRITE_FIXED = 1 + 4 + 4 + 8 + 4  # type, id, handle's length, offset, data's length
_HANDLE_BYTES_MAX = 256  # the draft's bound; ours are 4 bytes
_PIECE_BYTES_MIN: Final = 4 * 1024  # a smaller piece costs more than its bytes: copied together


class MalformedError(Exception):
    """A packet is not what it says. ``fatal``: the stream cannot be followed any more."""

    def __init__(self, message: str, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.fatal = fatal


class Request:
    """One request. ``body`` is what follows the id; a WRITE has ``payload`` and ``offset`` instead.

    For INIT, ``request_id`` is the client's version. ``body`` of a WRITE is its handle; ``payload``
    is None when its lengths contradict each other.
    """

    __slots__ = ("body", "offset", "packet_type", "payload", "request_id", "size")

    def __init__(self, packet_type: int, request_id: int, body: bytes, size: int) -> None:
        self.packet_type = packet_type
        self.request_id = request_id
        self.body = body
        self.size = size
        self.offset = 0
        self.payload: list[Buffer] | None = None


class Framer:
    """Bytes of a channel, in whatever pieces → requests.

    Invariant: either ``_head`` holds the beginning of a packet, or ``_request`` is a WRITE whose
    payload lacks ``_missing`` bytes, or both are empty.
    """

    def __init__(self) -> None:
        self._head = bytearray()
        self._request: Request | None = None
        self._missing = 0

    def feed(self, data: Buffer) -> list[Request]:
        """The requests that ``data`` completes.

        Pieces of ``data`` live on in their payloads: the caller must not reuse its memory.

        Raises:
            MalformedError: fatal; a length is out of bounds.
        """
        requests: list[Request] = []
        view = memoryview(data)
        position, end = 0, len(view)
        while position < end:
            if self._request is not None:
                position = self._take_payload(view, position, requests)
            elif self._head or end - position < 4:
                position = self._take_head(view, position, requests)
            else:
                length = _checked_length(view[position : position + 4])
                if end - position < 4 + length:
                    position = self._take_head(view, position, requests)
                else:
                    body = view[position + 4 : position + 4 + length]
                    requests.append(_whole(body))
                    position += 4 + length
        return requests

    def _take_payload(self, view: memoryview, position: int, requests: list[Request]) -> int:
        request = self._request
        assert request is not None
        assert request.payload is not None
        piece = view[position : position + self._missing]
        if len(piece) >= _PIECE_BYTES_MIN:
            request.payload.append(piece)
        elif request.payload and isinstance(request.payload[-1], bytearray):
            request.payload[-1] += piece
        else:
            request.payload.append(bytearray(piece))
        self._missing -= len(piece)
        if not self._missing:
            self._request = None
            requests.append(request)
        return position + len(piece)

    def _take_head(self, view: memoryview, position: int, requests: list[Request]) -> int:
        head = self._head
        while position < len(view):
            wanted = _head_wanted(head)
            piece = view[position : position + wanted]
            head += piece
            position += len(piece)
            if len(piece) < wanted or _head_wanted(head):
                continue
            self._head = bytearray()
            length = int.from_bytes(head[:4], "big")
            if len(head) == 4 + length:
                requests.append(_whole(memoryview(bytes(head))[4:]))
            else:
                self._request = _write_head(bytes(head))
                self._missing = 4 + length - len(head)
            break
        return position


def _checked_length(field: Buffer) -> int:
    length = int.from_bytes(field, "big")
    if not 5 <= length <= SFTP_PACKET_BYTES_MAX + SFTP_PACKET_SLACK_BYTES:
        raise MalformedError(f"packet of {length} bytes", fatal=True)
    return length


def _head_wanted(head: bytearray) -> int:
    """How many more bytes are to be collected; 0 when the rest is a WRITE's payload, or nothing."""
    have = len(head)
    if have < 4:
        return 4 - have
    length = _checked_length(head[:4])
    if have == 4:
        return 1
    if head[4] == WRITE and length >= _WRITE_FIXED:
        if have < 13:
            return 13 - have
        handle_bytes = int.from_bytes(head[9:13], "big")
        fixed = 4 + _WRITE_FIXED + handle_bytes
        if handle_bytes <= _HANDLE_BYTES_MAX and fixed <= 4 + length:
            if have < fixed:
                return fixed - have
            if int.from_bytes(head[fixed - 4 : fixed], "big") == 4 + length - fixed:
                return 0
    return 4 + length - have


def _whole(packet: memoryview) -> Request:
    """A packet without its length field."""
    packet_type = packet[0]
    if packet_type == WRITE:
        return _whole_write(packet)
    return Request(
        packet_type, int.from_bytes(packet[1:5], "big"), bytes(packet[5:]), len(packet) + 4
    )


def _whole_write(packet: memoryview) -> Request:
    size = len(packet)
    request = Request(WRITE, int.from_bytes(packet[1:5], "big"), b"", size + 4)
    if size >= _WRITE_FIXED:
        fixed = _WRITE_FIXED + int.from_bytes(packet[5:9], "big")
        if fixed <= size and int.from_bytes(packet[fixed - 4 : fixed], "big") == size - fixed:
            request.body = bytes(packet[9 : fixed - 12])
            request.offset = int.from_bytes(packet[fixed - 12 : fixed - 4], "big")
            request.payload = [packet[fixed:]] if fixed < size else []
    return request


def _write_head(head: bytes) -> Request:
    """A WRITE whose fields before the payload are there and agree with its length."""
    request = Request(
        WRITE,
        int.from_bytes(head[5:9], "big"),
        head[13:-12],
        4 + int.from_bytes(head[:4], "big"),
    )
    request.offset = int.from_bytes(head[-12:-4], "big")
    request.payload = []
    return request


class Fields:
    """Reads a request's body field by field. Raises ``MalformedError`` where it is too short."""

    __slots__ = ("_body", "_position")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._position = 0

    def uint32(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def uint64(self) -> int:
        return int.from_bytes(self._take(8), "big")

    def string(self) -> bytes:
        return self._take(self.uint32())

    def path(self) -> bytes:
        """A path as the client wrote it.

        Raises:
            NotFound: no file can be named so: it is too long, or holds a NUL.
        """
        path = self.string()
        if len(path) > SFTP_PATH_BYTES_MAX:
            raise NotFound("the path is too long")
        if b"\0" in path:
            raise NotFound("the path holds a NUL")
        return path

    def _take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._body):
            raise MalformedError("packet too short")
        taken = self._body[self._position : end]
        self._position = end
        return taken


# -- replies --------------------------------------------------------------------------------------

_STATUS = struct.Struct(">IBIII")
_DATA = struct.Struct(">IBII")
_HEAD = struct.Struct(">IBI")


def string(value: bytes) -> bytes:
    """A length and the bytes."""
    return len(value).to_bytes(4, "big") + value


def _reply(packet_type: int, request_id: int, body: bytes) -> bytes:
    return _HEAD.pack(5 + len(body), packet_type, request_id) + body


def version_reply(extensions: Iterable[tuple[bytes, bytes]]) -> bytes:
    """SSH_FXP_VERSION 3 with extension pairs."""
    body = b"".join(string(name) + string(value) for name, value in extensions)
    return _HEAD.pack(5 + len(body), VERSION, VERSION_NUMBER) + body


def status_reply(request_id: int, code: int, text: str) -> bytes:
    """SSH_FXP_STATUS, its text in English."""
    message = text.encode()
    head = _STATUS.pack(17 + len(message) + 2, STATUS, request_id, code, len(message))
    return head + message + b"\0\0\0\2en"


def handle_reply(request_id: int, handle: bytes) -> bytes:
    """SSH_FXP_HANDLE."""
    return _reply(HANDLE, request_id, string(handle))


def data_reply(request_id: int, data: bytes) -> bytes:
    """SSH_FXP_DATA."""
    return _DATA.pack(9 + len(data), DATA, request_id, len(data)) + data


def name_reply(request_id: int, names: list[bytes]) -> bytes:
    """SSH_FXP_NAME; each of ``names`` is file name, long name and attributes, encoded."""
    return _reply(NAME, request_id, len(names).to_bytes(4, "big") + b"".join(names))


def attributes_reply(request_id: int, attributes: bytes) -> bytes:
    """SSH_FXP_ATTRS."""
    return _reply(ATTRS, request_id, attributes)


def extended_reply(request_id: int, body: bytes) -> bytes:
    """SSH_FXP_EXTENDED_REPLY."""
    return _reply(EXTENDED_REPLY, request_id, body)
