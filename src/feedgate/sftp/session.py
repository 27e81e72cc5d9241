"""Requests of one SFTP session → the user's home directory → one reply each.

``OPERATIONS`` is the table: name, packet type, whether it writes, handler. Handlers share a shape:
decode, ask the home directory, one reply, one log event. Paths go to ``files.home`` as they came.
Extensions have a table of their own. Anything in neither is SSH_FX_OP_UNSUPPORTED.

Invariants: ``answer`` is called for one request at a time; only ``_close`` closes an upload, and
``end``, which comes after the last answer, abandons what is left.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar, Final

from feedgate.errors import CouldNot, FeedgateError, Unsupported
from feedgate.files.deviations import Fidelity
from feedgate.files.home import Entry, HomeDirectory
from feedgate.limits import SFTP_NAMES_BYTES_MAX, SFTP_READ_BYTES_MAX
from feedgate.sftp import packets, status
from feedgate.sftp.attributes import Attributes, decode_attributes, encode_attributes, encode_name
from feedgate.sftp.events import SessionEvents
from feedgate.sftp.extensions import EXTENSIONS, Extensions, write_into
from feedgate.sftp.handles import Download, HandleRoom, Handles, Listing, Upload
from feedgate.sftp.packets import Fields, MalformedError, Request, string

__all__ = ["OPERATIONS", "Operation", "SftpSession"]

_PFLAG_READ: Final = 0x01
_PFLAG_WRITE: Final = 0x02
_PFLAG_APPEND: Final = 0x04
_PFLAG_CREATE: Final = 0x08
_PFLAG_TRUNCATE: Final = 0x10
_PFLAG_EXCLUSIVE: Final = 0x20
_PFLAG_NAMES: Final = (  # AWS Transfer spells a mode by these, in alphabetical order
    (_PFLAG_APPEND, "APPEND"),
    (_PFLAG_CREATE, "CREATE"),
    (_PFLAG_EXCLUSIVE, "EXCLUSIVE"),
    (_PFLAG_READ, "READ"),
    (_PFLAG_TRUNCATE, "TRUNCATE"),
    (_PFLAG_WRITE, "WRITE"),
)


@dataclass(frozen=True, slots=True)
class Operation:
    """A row: SFTP's name, packet type, whether it may change something, handler."""

    name: str
    packet_type: int
    writes: bool
    handler: Callable[[SftpSession, Request], Awaitable[bytes]]


class SftpSession:
    """One SFTP session of a user. Speaks packets; knows nothing of SSH."""

    def __init__(
        self,
        home: HomeDirectory,
        events: SessionEvents,
        *,
        room: HandleRoom,
        now: Callable[[], float],
        fidelity: Fidelity = Fidelity(),  # noqa: B008 - a value
    ) -> None:
        self._home = home
        self._events = events
        self._now = now
        self._fidelity = fidelity
        self._handles = Handles(room)
        self._extensions = Extensions(home, self._handles, events, lambda: self.gone)
        self._began = False
        self._said_ignored = False
        self._written: Upload | None = None  # since the client waited last
        self.gone = False  # set by the channel: nobody waits for an answer any more

    @property
    def transfers(self) -> int:
        """How many files are open."""
        return self._handles.transfers

    async def answer(self, request: Request) -> bytes:
        """The reply to one request.

        Raises:
            MalformedError: fatal; the session cannot go on.
        """
        if not self._began:
            return self._begin(request)
        operation = OPERATIONS.get(request.packet_type)
        if operation is None:
            if request.packet_type == packets.INIT:
                raise MalformedError("a second INIT", fatal=True)
            return _status(request, status.OP_UNSUPPORTED)
        try:
            return await operation.handler(self, request)
        except MalformedError:
            return _status(request, status.BAD_MESSAGE)
        except FeedgateError as error:
            code, text = status.status_of(error)
            self._events.refused(operation.name, request, code, text, error)
            return packets.status_reply(request.request_id, code, text)
        except Exception as error:
            self._events.failed(operation.name, error)
            return _status(request, status.FAILURE)

    def while_idle(self) -> None:
        """Every reply has left and nothing waits: use the time until the client's next request."""
        written, self._written = self._written, None
        if written is not None:
            written.file.work_ahead()

    async def end(self) -> None:
        """The channel is gone: lose uploads, close the rest, close the home. Never raises."""
        for handle in self._handles.pop_each():
            try:
                if isinstance(handle, Upload):
                    await self._home.lose(handle.file)
                    self._events.partial_close(handle)
                elif isinstance(handle, Download):
                    await handle.file.close()
                    self._events.close(handle)
                else:
                    await handle.directory.close()
            except Exception:
                self._events.internal("a handle could not be given back", traceback.format_exc())
        try:
            await self._home.close()
        except Exception:
            self._events.internal("the home directory did not close", traceback.format_exc())

    def _begin(self, request: Request) -> bytes:
        """INIT, which must come first; whatever version is offered, 3 is spoken."""
        if request.packet_type != packets.INIT:
            raise MalformedError("a request before INIT", fatal=True)
        self._began = True
        offered = EXTENSIONS.values() if self._fidelity.ours("extensions") else ()
        return packets.version_reply([(row.name, row.data) for row in offered])

    # -- files ----------------------------------------------------------------------------------

    async def _open(self, request: Request) -> bytes:
        fields = Fields(request.body)
        path = fields.path()
        flags = fields.uint32()
        attributes = decode_attributes(fields)
        mode = "|".join(name for flag, name in _PFLAG_NAMES if flags & flag)
        reads, writes = bool(flags & _PFLAG_READ), bool(flags & _PFLAG_WRITE)
        if (not writes and flags != _PFLAG_READ) or self._as_aws_refuses(flags):
            # aws facts §4: status 8 with this text
            text = f"Cannot open file in mode: {mode}"
            self._events.refused_open(self._home.s3_path(path), mode, text)
            return packets.status_reply(request.request_id, status.OP_UNSUPPORTED, text)

        async def open_file() -> Upload | Download:
            handle: Upload | Download
            if not writes:
                download = await self._home.open_read(path)
                handle = Download(download, download.s3_path)
            else:
                upload = await self._home.open_write(
                    path,
                    create=bool(flags & _PFLAG_CREATE),
                    truncate=bool(flags & _PFLAG_TRUNCATE),
                    exclusive=bool(flags & _PFLAG_EXCLUSIVE),
                    append=bool(flags & _PFLAG_APPEND),
                    read=reads,
                    modified_s=attributes.modified_s,
                )
                handle = Upload(upload, upload.s3_path, reads=reads)
            self._events.open(handle, mode)
            return handle

        return packets.handle_reply(request.request_id, await self._handles.add(open_file))

    def _as_aws_refuses(self, flags: int) -> bool:
        """Modes that AWS Transfer does not open a file in."""
        if flags & _PFLAG_READ and flags & _PFLAG_WRITE:
            return not self._fidelity.ours("read-write-open")
        return bool(flags & _PFLAG_APPEND) and not self._fidelity.ours("resume")

    def _take_attributes(self, operation: str) -> bool:
        """Whether to set attributes; False where AWS accepts and ignores them.

        Raises:
            Unsupported: AWS refuses; its words.
        """
        if self._fidelity.ours("setstat"):
            return True
        if not self._fidelity.setstat_no_op:
            raise Unsupported(f"{operation} unsupported")
        return False

    def _say_ignored(self, attributes: Attributes, path: str) -> None:
        """Modes and owners have no meaning here; the operator reads that once a session."""
        if attributes.permissions is None and not attributes.has_owner:
            return
        if not self._said_ignored:
            self._said_ignored = True
            self._events.ignored_attributes(path)

    async def _close(self, request: Request) -> bytes:
        handle = self._handles.pop(Fields(request.body).string())
        if isinstance(handle, Upload):
            try:
                await handle.file.close()
            except Exception as error:
                self._events.close(handle, error=error)
                raise
            self._events.close(handle)
        elif isinstance(handle, Download):
            await handle.file.close()
            self._events.close(handle)
        else:
            await handle.directory.close()
        return _status(request, status.OK)

    async def _read(self, request: Request) -> bytes:
        fields = Fields(request.body)
        handle = self._handles.get(fields.string())
        offset, length = fields.uint64(), fields.uint32()
        if isinstance(handle, Listing) or (isinstance(handle, Upload) and not handle.reads):
            raise CouldNot("the handle is not open for reading")
        data = await handle.file.read(offset, min(length, SFTP_READ_BYTES_MAX))
        if not data:
            return _status(request, status.EOF)
        handle.bytes_out += len(data)
        return packets.data_reply(request.request_id, data)

    async def _write(self, request: Request) -> bytes:
        payload = request.payload
        if payload is None:
            raise MalformedError("a WRITE whose lengths disagree")
        handle = self._handles.get(request.body)
        if not isinstance(handle, Upload):
            raise CouldNot("the handle is not open for writing")
        await write_into(handle, request.offset, payload)
        self._written = handle
        return _status(request, status.OK)

    async def _fstat(self, request: Request) -> bytes:
        handle = self._handles.get(Fields(request.body).string())
        if isinstance(handle, Listing):
            entry = Entry(b"", "directory")
        else:
            entry = Entry(b"", "file", handle.file.size, handle.file.modified_s)
        return packets.attributes_reply(request.request_id, encode_attributes(entry))

    async def _fsetstat(self, request: Request) -> bytes:
        fields = Fields(request.body)
        handle = self._handles.get(fields.string())
        attributes = decode_attributes(fields)
        if isinstance(handle, Listing):
            raise CouldNot("a directory has no attributes to set")
        if self._take_attributes("FSETSTAT"):
            await handle.file.set_attributes(attributes)
            self._say_ignored(attributes, handle.path)
        self._events.path("SETSTAT", handle.path)
        return _status(request, status.OK)

    # -- paths ----------------------------------------------------------------------------------

    async def _stat(self, request: Request) -> bytes:
        entry = await self._home.stat(Fields(request.body).path())
        return packets.attributes_reply(request.request_id, encode_attributes(entry))

    async def _setstat(self, request: Request) -> bytes:
        fields = Fields(request.body)
        path = fields.path()
        attributes = decode_attributes(fields)
        if self._take_attributes("SETSTAT"):
            await self._home.set_attributes(path, attributes)
            self._say_ignored(attributes, self._home.s3_path(path))
        self._events.path("SETSTAT", self._home.s3_path(path))
        return _status(request, status.OK)

    async def _realpath(self, request: Request) -> bytes:
        path = await self._home.realpath(Fields(request.body).path())
        name = string(path) + string(path) + b"\0\0\0\0"
        return packets.name_reply(request.request_id, [name])

    async def _remove(self, request: Request) -> bytes:
        path = Fields(request.body).path()
        await self._home.remove(path)
        self._events.path("DELETE", self._home.s3_path(path))
        return _status(request, status.OK)

    async def _rename(self, request: Request) -> bytes:
        fields = Fields(request.body)
        old, new = fields.path(), fields.path()
        await self._home.rename(old, new)
        self._events.path("RENAME", self._home.s3_path(old), self._home.s3_path(new))
        return _status(request, status.OK)

    async def _mkdir(self, request: Request) -> bytes:
        fields = Fields(request.body)
        path = fields.path()
        decode_attributes(fields)
        await self._home.mkdir(path)
        self._events.path("MKDIR", self._home.s3_path(path))
        return _status(request, status.OK)

    async def _rmdir(self, request: Request) -> bytes:
        path = Fields(request.body).path()
        await self._home.rmdir(path)
        self._events.path("RMDIR", self._home.s3_path(path))
        return _status(request, status.OK)

    # -- directories ----------------------------------------------------------------------------

    async def _opendir(self, request: Request) -> bytes:
        path = Fields(request.body).path()

        async def open_directory() -> Listing:
            directory = await self._home.open_directory(path)
            return Listing(directory, directory.s3_path)

        return packets.handle_reply(request.request_id, await self._handles.add(open_directory))

    async def _readdir(self, request: Request) -> bytes:
        handle = self._handles.get(Fields(request.body).string())
        if not isinstance(handle, Listing):
            raise CouldNot("the handle is not an open directory")
        entries = handle.waiting or await handle.directory.read()
        if not entries:
            return _status(request, status.EOF)
        names: list[bytes] = []
        size = 0
        now_s = self._now()
        for entry in entries:
            name = encode_name(entry, now_s)
            size += len(name)
            if names and size > SFTP_NAMES_BYTES_MAX:
                break
            names.append(name)
        handle.waiting = entries[len(names) :]
        return packets.name_reply(request.request_id, names)

    # -- the rest -------------------------------------------------------------------------------

    async def _refuse(self, request: Request) -> bytes:
        raise Unsupported("there are no links")

    async def _extended(self, request: Request) -> bytes:
        fields = Fields(request.body)
        row = EXTENSIONS.get(fields.string()) if self._fidelity.ours("extensions") else None
        if row is None:
            return _status(request, status.OP_UNSUPPORTED)
        return await row.handler(self._extensions, request, fields)

    # -- the table ---------------------------------------------------------------------------------

    # fmt: off
    operations: ClassVar = (
        Operation("OPEN",     packets.OPEN,     True,  _open),
        Operation("CLOSE",    packets.CLOSE,    True,  _close),
        Operation("READ",     packets.READ,     False, _read),
        Operation("WRITE",    packets.WRITE,    True,  _write),
        Operation("LSTAT",    packets.LSTAT,    False, _stat),
        Operation("FSTAT",    packets.FSTAT,    False, _fstat),
        Operation("SETSTAT",  packets.SETSTAT,  True,  _setstat),
        Operation("FSETSTAT", packets.FSETSTAT, True,  _fsetstat),
        Operation("OPENDIR",  packets.OPENDIR,  False, _opendir),
        Operation("READDIR",  packets.READDIR,  False, _readdir),
        Operation("REMOVE",   packets.REMOVE,   True,  _remove),
        Operation("MKDIR",    packets.MKDIR,    True,  _mkdir),
        Operation("RMDIR",    packets.RMDIR,    True,  _rmdir),
        Operation("REALPATH", packets.REALPATH, False, _realpath),
        Operation("STAT",     packets.STAT,     False, _stat),
        Operation("RENAME",   packets.RENAME,   True,  _rename),
        Operation("READLINK", packets.READLINK, False, _refuse),
        Operation("SYMLINK",  packets.SYMLINK,  True,  _refuse),
        Operation("EXTENDED", packets.EXTENDED, True,  _extended),
    )
    # fmt: on


OPERATIONS: Final = {row.packet_type: row for row in SftpSession.operations}


def _status(request: Request, code: int) -> bytes:
    return packets.status_reply(request.request_id, code, status.TEXTS[code])
