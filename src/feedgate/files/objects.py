"""What this package needs of objects, as protocols; their forms come out of ``access.guarded``.

(And of a client's attributes, whose form the door has.)

Declared here and not imported from ``storage``: whoever holds one of these got it from a bucket
that judged the request first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

__all__ = ["Attributes", "Buffer", "Staged", "StoredObject", "StoredReader", "StoredUpload"]

Buffer: TypeAlias = bytes | bytearray | memoryview

# sealed bytes between a bucket's `finish` and its `publish`: the bucket's own business
Staged: TypeAlias = Any


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

    def write(self, offset: int, pieces: Sequence[Buffer]) -> None:
        """Write ``pieces`` one after another from ``offset``."""
        ...

    def finish(self) -> Staged:
        """Seal and make durable; may block long."""
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
