"""What this package needs of objects, as protocols; their forms come out of ``access.guarded``.

(And of a client's attributes, whose form the door has.)

Declared here and not imported from ``storage``: whoever holds one of these got it from a bucket
that judged the request first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

__all__ = [
    "MODIFIED",
    "Attributes",
    "Buffer",
    "Opened",
    "Staged",
    "StoredObject",
    "StoredReader",
    "StoredUpload",
    "modified_s",
]

MODIFIED: Final = "mtime"  # user metadata, Unix seconds; rclone's name for it on S3

Buffer: TypeAlias = bytes | bytearray | memoryview

# sealed bytes between a bucket's `finish` and its `publish`: the bucket's own business
Staged: TypeAlias = Any
# what a bucket's `open` gave, handed back to it by whoever changes that object
Opened: TypeAlias = Any


class StoredObject(Protocol):
    """Facts of one object version; times are Unix milliseconds."""

    @property
    def bucket(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def version_id(self) -> str: ...
    @property
    def object_id(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def etag(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def kms_key_arn(self) -> str | None: ...
    @property
    def last_modified_ms(self) -> int: ...
    @property
    def metadata(self) -> Mapping[str, str]: ...


class StoredReader(Protocol):
    """An open object version."""

    @property
    def info(self) -> StoredObject:
        """What was opened."""
        ...

    def pread(self, offset: int, length: int) -> bytes:
        """Bytes at ``offset``, short only at the end."""
        ...

    def close(self) -> None:
        """Give the lease back. Idempotent."""
        ...


class StoredUpload(Protocol):
    """An object being written; called from one thread at a time."""

    size: int
    metadata: dict[str, str]

    def write(self, offset: int, pieces: Sequence[Buffer]) -> None:
        """Write ``pieces`` one after another from ``offset``."""
        ...

    def sync(self) -> None:
        """Make durable what was written; blocks."""
        ...

    def truncate(self, size: int) -> None:
        """Cut to ``size`` bytes, or extend with zeros."""
        ...

    def pread(self, offset: int, length: int) -> bytes:
        """What was written so far, over the object that is changed; short only at the end."""
        ...

    def seal_ahead(self) -> None:
        """Do now what ``finish`` must if nothing more is written."""
        ...

    def finish(self) -> Staged:
        """Seal and make durable; may block long."""
        ...

    def keep(self) -> int:
        """Keep what its user may resume, how many bytes; 0 is an ``abort``. Never raises."""
        ...

    def abort(self) -> None:
        """Forget the bytes. Idempotent; never raises."""
        ...


class Attributes(Protocol):
    """What SETSTAT carries, as far as it matters here."""

    @property
    def size(self) -> int | None:
        """The size to truncate or extend to; None leaves it."""
        ...

    @property
    def modified_s(self) -> int | None:
        """The time of modification in Unix seconds; None leaves it."""
        ...


def modified_s(item: StoredObject) -> int:
    """An object's time for SFTP: what its sender gave it, else when it was stored."""
    try:
        return int(float(item.metadata[MODIFIED]))
    except (KeyError, ValueError, OverflowError):
        return item.last_modified_ms // 1000
