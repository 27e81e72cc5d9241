"""Directories out of keys, a page at a time.

S3 has no directories: what lies under ``dir/`` is one. A page of keys is fetched, turned into names
and forgotten, so a directory of 100,000 files takes no more memory than one page, and no read
transaction outlives a page. Names come in S3's order; those that live as long as the listing are
seen exactly once.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from feedgate.access.guarded import GuardedBucket
from feedgate.errors import AccessDenied
from feedgate.files.mapping import child_name
from feedgate.files.objects import StoredObject, modified_s
from feedgate.limits import LIST_KEYS_MAX, READDIR_NAMES_MAX

__all__ = ["BucketDirectory", "Directory", "Entry", "VirtualDirectory"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory, or the answer to STAT. Directories have no size and no time.

    AWS Transfer lists a prefix with size 0 and the epoch as its time; ``modified_s`` is Unix time.
    """

    name: bytes
    kind: Literal["file", "directory"]
    size: int = 0
    modified_s: int = 0


class Directory(Protocol):
    """A directory handle."""

    s3_path: str

    async def read(self) -> list[Entry]:
        """The next names, at most ``READDIR_NAMES_MAX``; empty at the end.

        Raises:
            AccessDenied: the role session may not list (AWS shows that at READDIR).
        """
        ...

    async def close(self) -> None:
        """Forget the rest. Idempotent."""
        ...


class VirtualDirectory:
    """A level above the mappings: its names are known when it is opened."""

    def __init__(self, path: str, entries: Sequence[Entry]) -> None:
        self.s3_path = path
        self._entries = deque(entries)

    async def read(self) -> list[Entry]:
        """The next names; empty at the end."""
        return _take(self._entries)

    async def close(self) -> None:
        """Forget the rest."""
        self._entries.clear()


class BucketDirectory:
    """What lies under a prefix. ``open_page`` has fetched the first page already."""

    def __init__(self, bucket: GuardedBucket, prefix: str, *, s3_path: str) -> None:
        self.s3_path = s3_path
        self._bucket = bucket
        self._prefix = prefix
        self._start_after: str | None = ""
        self._refusal: AccessDenied | None = None
        self._entries: deque[Entry] = deque()
        self._names = _Names(prefix)

    def open_page(self) -> bool:
        """Fetch the first page; whether anything lies under the prefix, as far as can be told.

        A refusal is kept for the first ``read``: AWS shows it at READDIR, not at OPENDIR.
        """
        try:
            return self._fetch()
        except AccessDenied as refusal:
            self._refusal = refusal
            return True

    async def read(self) -> list[Entry]:
        """The next names; empty at the end. Raises ``AccessDenied``."""
        if self._refusal is not None:
            raise self._refusal
        while not self._entries and self._start_after is not None:
            self._fetch()
        return _take(self._entries)

    async def close(self) -> None:
        """Forget the rest."""
        self._entries.clear()
        self._start_after = None

    def _fetch(self) -> bool:
        assert self._start_after is not None
        page = self._bucket.list(
            self._prefix, delimiter="/", start_after=self._start_after, max_keys=LIST_KEYS_MAX
        )
        self._entries.extend(self._names.entries(page.objects, page.common_prefixes))
        self._start_after = page.next_start_after
        return bool(page.objects or page.common_prefixes)


class _Names:
    """Keys and common prefixes → entries, across pages.

    ``a`` and ``a/b`` may both exist; a directory cannot show one name twice, so the file is shown,
    as STAT finds the file first. In key order ``a`` comes before ``a/``, and between them only
    names that begin with ``a``: so only names that begin the present one need remembering.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._files: list[bytes] = []

    def entries(
        self, objects: Sequence[StoredObject], common_prefixes: Sequence[str]
    ) -> Iterator[Entry]:
        # the order of code points is that of UTF-8 bytes
        merged: Iterable[tuple[str, StoredObject | None]] = ((item.key, item) for item in objects)
        if common_prefixes:
            prefixes = ((prefix, None) for prefix in common_prefixes)
            merged = heapq.merge(merged, prefixes, key=lambda pair: pair[0])
        for key, item in merged:
            name = child_name(self._prefix, key)
            if name is None:
                continue
            while self._files and not name.startswith(self._files[-1]):
                self._files.pop()
            if item is not None:
                self._files.append(name)
                yield file_entry(name, item)
            elif name not in self._files:
                yield Entry(name, "directory")


def file_entry(name: bytes, item: StoredObject) -> Entry:
    """An object as a file."""
    return Entry(name, "file", item.size, modified_s(item))


def _take(entries: deque[Entry]) -> list[Entry]:
    return [entries.popleft() for _ in range(min(READDIR_NAMES_MAX, len(entries)))]
