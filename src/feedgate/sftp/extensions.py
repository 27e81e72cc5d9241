"""Extensions of SFTP version 3: one row each, advertised in VERSION, and each works.

Sources: OpenSSH's PROTOCOL, section 4, for the names that end in ``@openssh.com``;
draft-ietf-secsh-filexfer-extensions-00 for ``copy-data`` and ``check-file-*``. ``check-file`` is
paramiko's spelling of ``check-file-handle``: the same request, and the name again in the answer.

A copy or a hash of a large file takes long. Both give the event loop to others after each piece,
and end when the connection does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from feedgate.errors import CouldNot, Unsupported
from feedgate.files.digests import ALGORITHMS, Digested, digests
from feedgate.files.home import HomeDirectory
from feedgate.limits import (
    OBJECT_BYTES_MAX,
    SFTP_PACKET_BYTES_MAX,
    SFTP_READ_BYTES_MAX,
    SFTP_WRITE_BYTES_MAX,
)
from feedgate.sftp import packets, status
from feedgate.sftp.events import SessionEvents
from feedgate.sftp.handles import Download, Handles, Upload
from feedgate.sftp.packets import Buffer, Fields, Request, string

__all__ = ["EXTENSIONS", "Extension", "Extensions", "write_into"]

_STATVFS_BLOCK_BYTES: Final = 4096
_STATVFS_NAME_BYTES_MAX: Final = 255
_UINT64_MAX: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Extension:
    """A row: its name, what VERSION says of it, whether it may change something, handler."""

    name: bytes
    data: bytes
    writes: bool
    handler: Callable[[Extensions, Request, Fields], Awaitable[bytes]]


class Extensions:
    """Those of one session. ``is_gone`` says that nobody waits for an answer any more."""

    def __init__(
        self,
        home: HomeDirectory,
        handles: Handles,
        events: SessionEvents,
        is_gone: Callable[[], bool],
    ) -> None:
        self._home = home
        self._handles = handles
        self._events = events
        self._is_gone = is_gone

    async def _limits(self, request: Request, _fields: Fields) -> bytes:
        values = (
            SFTP_PACKET_BYTES_MAX,
            SFTP_READ_BYTES_MAX,
            SFTP_WRITE_BYTES_MAX,
            self._handles.room.handles_max,
        )
        return packets.extended_reply(request.request_id, _uint64s(*values))

    async def _posix_rename(self, request: Request, fields: Fields) -> bytes:
        old, new = fields.path(), fields.path()
        await self._home.rename(old, new, replace=True)
        self._events.path("RENAME", self._home.s3_path(old), self._home.s3_path(new))
        return _ok(request)

    async def _fsync(self, request: Request, fields: Fields) -> bytes:
        """An object that is read is on disk since it landed."""
        handle = self._handles.get(fields.string())
        if isinstance(handle, Upload):
            await handle.file.sync()
        elif not isinstance(handle, Download):
            raise CouldNot("a directory is not synced")
        return _ok(request)

    async def _statvfs(self, request: Request, fields: Fields) -> bytes:
        """The user's room, never the disk's: see ``HomeDirectory.space``. Files are not counted."""
        space = await self._home.space(fields.path())
        block = _STATVFS_BLOCK_BYTES
        blocks, free = space.total_bytes // block, space.free_bytes // block
        values = (block, block, blocks, free, free, 0, 0, 0, 0, 0, _STATVFS_NAME_BYTES_MAX)
        return packets.extended_reply(request.request_id, _uint64s(*values))

    async def _copy_data(self, request: Request, fields: Fields) -> bytes:
        """From an open file into one that is being written; length 0 goes to the end.

        EOF says that the file ended before the length was copied, as OpenSSH's server does.
        """
        source_name, read_at, length = fields.string(), fields.uint64(), fields.uint64()
        target_name, write_at = fields.string(), fields.uint64()
        source, target = self._handles.get(source_name), self._handles.get(target_name)
        if not isinstance(source, Download) and not (isinstance(source, Upload) and source.reads):
            raise CouldNot("the handle to copy from is not open for reading")
        if not isinstance(target, Upload):
            raise CouldNot("the handle to copy to is not open for writing")
        available = max(source.file.size - read_at, 0)
        rest = min(length, available) if length else available
        if write_at + rest > OBJECT_BYTES_MAX:
            raise CouldNot("the file would be too long")
        if source is target and abs(write_at - read_at) < rest:
            raise CouldNot("a range cannot be copied onto itself")
        while rest:
            data = await source.file.read(read_at, min(rest, SFTP_READ_BYTES_MAX))
            if self._is_gone():
                raise CouldNot("nobody waits for the copy any more")
            await write_into(target, write_at, [data])
            source.bytes_out += len(data)
            read_at, write_at, rest = read_at + len(data), write_at + len(data), rest - len(data)
            await asyncio.sleep(0)
        code = status.EOF if length > available else status.OK
        return packets.status_reply(request.request_id, code, status.TEXTS[code])

    async def _check_handle(self, request: Request, fields: Fields) -> bytes:
        handle = self._handles.get(fields.string())
        if not isinstance(handle, Download):
            raise CouldNot("the handle is not open for reading")
        return await self._check(request, fields, handle.file)

    async def _check_file(self, request: Request, fields: Fields) -> bytes:
        handle = self._handles.get(fields.string())
        if not isinstance(handle, Download):
            raise CouldNot("the handle is not open for reading")
        return await self._check(request, fields, handle.file, head=string(b"check-file"))

    async def _check_name(self, request: Request, fields: Fields) -> bytes:
        file = await self._home.open_read(fields.path())
        try:
            return await self._check(request, fields, file)
        finally:
            await file.close()

    async def _check(
        self, request: Request, fields: Fields, file: Digested, *, head: bytes = b""
    ) -> bytes:
        """The first algorithm of the client's list that is known here."""
        names = fields.string().decode("ascii", errors="replace").split(",")
        offset, length, block_bytes = fields.uint64(), fields.uint64(), fields.uint32()
        name = next((name for name in names if name in ALGORITHMS), None)
        if name is None:
            raise Unsupported("none of the hashes that the client knows is known here")
        found = await digests(
            file,
            name,
            offset=offset,
            length=length,
            block_bytes=block_bytes,
            is_gone=self._is_gone,
        )
        return packets.extended_reply(request.request_id, head + string(name.encode()) + found)

    # fmt: off
    rows = (
        Extension(b"limits@openssh.com",       b"1", False, _limits),
        Extension(b"posix-rename@openssh.com", b"1", True,  _posix_rename),
        Extension(b"fsync@openssh.com",        b"1", True,  _fsync),
        Extension(b"statvfs@openssh.com",      b"2", False, _statvfs),
        Extension(b"copy-data",                b"1", True,  _copy_data),
        Extension(b"check-file",               b"",  False, _check_file),
        Extension(b"check-file-handle",        b"",  False, _check_handle),
        Extension(b"check-file-name",          b"",  False, _check_name),
    )
    # fmt: on


EXTENSIONS: Final = {row.name: row for row in Extensions.rows}


async def write_into(handle: Upload, offset: int, payload: list[Buffer]) -> None:
    """WRITE: hand bytes to an upload, which owns them from now on.

    Raises:
        CouldNot: no object reaches that far.
    """
    size = sum(map(len, payload))
    if offset + size > OBJECT_BYTES_MAX:
        raise CouldNot("the file would be too long")
    await handle.file.write(offset, payload)
    handle.bytes_in += size


def _ok(request: Request) -> bytes:
    return packets.status_reply(request.request_id, status.OK, status.TEXTS[status.OK])


def _uint64s(*values: int) -> bytes:
    return b"".join(min(value, _UINT64_MAX).to_bytes(8, "big") for value in values)
