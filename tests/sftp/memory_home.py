"""Test double: a home directory in memory, with the interface of ``files.home.HomeDirectory``.

It stands in for mapping, judge and bucket until the whole is tested together (``tests/journey``),
and it can be told to fail, to wait, and to count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from feedgate.errors import Conflict, NotFound, Unsupported
from feedgate.files.home import Entry, SessionContext
from feedgate.files.quota import Space
from feedgate.limits import READDIR_NAMES_MAX


@dataclass
class MemoryStore:
    """What all sessions of a test share: files, directories, switches."""

    files: dict[bytes, bytes] = field(default_factory=dict)
    directories: set[bytes] = field(default_factory=set)
    modified_s: int = 0
    faults: dict[str, Exception] = field(default_factory=dict)
    homes: list[MemoryHome] = field(default_factory=list)
    uploads: list[MemoryUpload] = field(default_factory=list)
    hold_close: Callable[[], asyncio.Future[None] | None] = lambda: None
    hold_write: Callable[[], asyncio.Future[None] | None] = lambda: None
    keep_bytes: bool = True

    def entry(self, path: bytes) -> Entry:
        name = path.rpartition(b"/")[2] or b"/"
        if path in self.files:
            return Entry(name, "file", len(self.files[path]), self.modified_s)
        if path == b"/" or path in self.directories or self.children(path):
            return Entry(name, "directory")
        raise NotFound(f"no `{path!r}`")

    def children(self, path: bytes) -> list[bytes]:
        prefix = path.rstrip(b"/") + b"/"
        names = {
            other[len(prefix) :].split(b"/")[0]
            for other in (*self.files, *self.directories)
            if other.startswith(prefix) and other != prefix
        }
        return sorted(names)


class MemoryHome:
    """Form of the home directory for one session."""

    def __init__(self, store: MemoryStore, context: SessionContext) -> None:
        self.store = store
        self.context = context
        self.calls: list[tuple[object, ...]] = []
        self.closed = 0
        store.homes.append(self)

    def _called(self, name: str, *arguments: object) -> None:
        self.calls.append((name, *arguments))
        if name in self.store.faults:
            raise self.store.faults[name]

    def s3_path(self, path: bytes) -> str:
        return "/bucket" + _normal(path).decode("utf-8", "replace")

    async def realpath(self, path: bytes) -> bytes:
        self._called("realpath", path)
        return _normal(path)

    async def stat(self, path: bytes) -> Entry:
        self._called("stat", path)
        return self.store.entry(_normal(path))

    async def set_attributes(self, path: bytes, attributes: object) -> None:
        self._called("set_attributes", path, attributes)
        self.store.entry(_normal(path))

    async def open_read(self, path: bytes) -> MemoryDownload:
        self._called("open_read", path)
        normal = _normal(path)
        if normal not in self.store.files:
            raise NotFound("no such file")
        return MemoryDownload(self.store, self.s3_path(path), self.store.files[normal])

    async def open_write(
        self,
        path: bytes,
        *,
        create: bool = True,
        truncate: bool = True,
        exclusive: bool = False,
        append: bool = False,
        read: bool = False,
        modified_s: int | None = None,
    ) -> MemoryUpload:
        self._called("open_write", path, create, truncate, exclusive, append)
        del read, modified_s
        normal = _normal(path)
        if exclusive and normal in self.store.files:
            raise Conflict("exists")
        if not create and normal not in self.store.files:
            raise NotFound("no such file")
        upload = MemoryUpload(self.store, normal, self.s3_path(path))
        self.store.uploads.append(upload)
        return upload

    async def open_directory(self, path: bytes) -> MemoryDirectory:
        self._called("open_directory", path)
        normal = _normal(path)
        if self.store.entry(normal).kind != "directory":
            raise NotFound("not a directory")
        base = normal.rstrip(b"/")
        names = self.store.children(normal)
        entries = [self.store.entry(base + b"/" + name) for name in names]
        return MemoryDirectory(self.store, self.s3_path(path), entries)

    async def remove(self, path: bytes) -> None:
        self._called("remove", path)
        if self.store.files.pop(_normal(path), None) is None:
            raise NotFound("no such file")

    async def rename(self, old: bytes, new: bytes, *, replace: bool = False) -> None:
        self._called("posix_rename" if replace else "rename", old, new)
        source, target = _normal(old), _normal(new)
        if self.store.entry(source).kind == "directory":
            raise Unsupported("Cannot rename a directory")
        if target in self.store.files and not replace:
            raise Conflict("exists")
        self.store.files[target] = self.store.files.pop(source)

    async def mkdir(self, path: bytes) -> None:
        self._called("mkdir", path)
        if _normal(path) in self.store.directories:
            raise Conflict("exists")
        self.store.directories.add(_normal(path))

    async def rmdir(self, path: bytes) -> None:
        self._called("rmdir", path)
        if self.store.children(_normal(path)):
            raise Conflict("not empty")
        if _normal(path) not in self.store.directories:
            raise NotFound("no such directory")
        self.store.directories.remove(_normal(path))

    async def space(self, path: bytes) -> Space:
        self._called("space", path)
        return Space(1_000_000, 400_000)

    async def lose(self, file: MemoryUpload) -> None:
        await file.abandon()

    async def close(self) -> None:
        self.closed += 1


class MemoryUpload:
    """A file being written: visible in the store after ``close`` only."""

    def __init__(self, store: MemoryStore, path: bytes, s3_path: str) -> None:
        self.s3_path = s3_path
        self.path = path
        self.size = 0
        self.modified_s = 0
        self.closes = 0
        self.abandons = 0
        self.aheads = 0
        self.syncs = 0
        self.landing_id: str | None = None
        self.writes: list[tuple[int, int]] = []
        self._store = store
        self._content = bytearray()

    async def write(self, offset: int, data: Sequence[bytes | memoryview]) -> None:
        if "write" in self._store.faults:
            raise self._store.faults["write"]
        hold = self._store.hold_write()
        if hold is not None:
            await hold
        size = sum(map(len, data))
        self.size = max(self.size, offset + size)
        if not self._store.keep_bytes:
            return
        self.writes.append((offset, size))
        if len(self._content) < self.size:
            self._content.extend(bytes(self.size - len(self._content)))
        self._content[offset : offset + size] = b"".join(data)

    async def read(self, offset: int, length: int) -> bytes:
        return bytes(self._content[offset : offset + length])

    async def set_attributes(self, attributes: object) -> None:
        del attributes

    def work_ahead(self) -> None:
        """There is nothing to do ahead in memory; a test counts the calls."""
        self.aheads += 1

    async def close(self) -> None:
        self.closes += 1
        hold = self._store.hold_close()
        if hold is not None:
            await hold
        if "close" in self._store.faults:
            raise self._store.faults["close"]
        self._store.files[self.path] = bytes(self._content)

    async def sync(self) -> None:
        self.syncs += 1

    async def abandon(self) -> None:
        self.abandons += 1
        if "abandon" in self._store.faults:
            raise self._store.faults["abandon"]


class MemoryDownload:
    """A file being read."""

    def __init__(self, store: MemoryStore, s3_path: str, content: bytes) -> None:
        self.s3_path = s3_path
        self.size = len(content)
        self.sha256 = ""
        self.modified_s = store.modified_s
        self._store = store
        self._content = content
        self.closes = 0

    def pread(self, offset: int, length: int) -> bytes:
        return self._content[offset : offset + length]

    async def read(self, offset: int, length: int) -> bytes:
        if "read" in self._store.faults:
            raise self._store.faults["read"]
        return self._content[offset : offset + length]

    async def set_attributes(self, attributes: object) -> None:
        del attributes

    async def close(self) -> None:
        self.closes += 1


class MemoryDirectory:
    """A directory being read."""

    def __init__(self, store: MemoryStore, s3_path: str, entries: list[Entry]) -> None:
        self.s3_path = s3_path
        self._store = store
        self._entries = entries

    async def read(self) -> list[Entry]:
        if "readdir" in self._store.faults:
            raise self._store.faults["readdir"]
        page, self._entries = (
            self._entries[:READDIR_NAMES_MAX],
            self._entries[READDIR_NAMES_MAX:],
        )
        return page

    async def close(self) -> None:
        self._entries = []


def _normal(path: bytes) -> bytes:
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/" + b"/".join(parts)
