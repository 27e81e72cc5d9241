"""The Bucket protocol: S3's semantics, which a directory cannot give.

``a`` and ``a/b`` both exist; keys are any UTF-8 up to 1,024 bytes; listing is by prefix and
delimiter in key order (UTF-8 bytes); replacing is atomic; nothing is visible before ``publish``.

Who retries: nobody here; an error is final for the call. Blocking and thread-safe unless said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from feedgate.database import Transaction

__all__ = [
    "Bucket",
    "Buffer",
    "Listing",
    "ObjectInfo",
    "ObjectReader",
    "StagedObject",
    "Upload",
]

Buffer: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object version. ``last_modified_ms`` is Unix time; ``etag`` is opaque (SSE-KMS)."""

    bucket: str
    key: str
    version_id: str
    object_id: str
    size: int
    etag: str
    sha256: str
    kms_key_arn: str | None
    last_modified_ms: int
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listing:
    """One page in key order. ``next_start_after`` is None on the last page."""

    objects: tuple[ObjectInfo, ...]
    common_prefixes: tuple[str, ...]
    next_start_after: str | None


class ObjectReader(Protocol):
    """An open object version; stays readable when its key is deleted or replaced meanwhile."""

    info: ObjectInfo

    def pread(self, offset: int, length: int) -> bytes:
        """Bytes at ``offset``; short only at the end. Raises ``errors.Integrity`` on tampering."""
        ...

    def close(self) -> None:
        """Idempotent; must be called, for a garbage lease hangs on it."""
        ...


@dataclass(frozen=True, slots=True)
class StagedObject:
    """Bytes that are durable and not yet visible; ``publish`` takes it. ``row`` is the form's."""

    bucket: str
    key: str
    object_id: str
    size: int
    sha256: str
    kms_key_arn: str | None
    row: object


class Upload(Protocol):
    """One object being written. Called from one thread at a time, not always the same one."""

    object_id: str
    size: int  # the highest byte written so far + 1, or what truncation made of it
    metadata: dict[str, str]  # what the object will have; may be changed until ``finish``

    def write(self, offset: int, pieces: Sequence[Buffer]) -> None:
        """Write ``pieces`` one after another from ``offset``.

        Any order inside the reorder window (``limits.REORDER_WINDOW_BYTES``); a gap that is never
        filled reads as zeros. Raises ``errors.Unsupported`` for what cannot be held, ``NoSpace``.
        """
        ...

    def sync(self) -> None:
        """Make durable what was written: after a crash its user may resume from there. Blocks.

        Raises as ``write``, and ``errors.CouldNot`` when it was asked for too often.
        """
        ...

    def truncate(self, size: int) -> None:
        """Cut to ``size`` bytes, or extend with zeros. Raises as ``write``."""
        ...

    def pread(self, offset: int, length: int) -> bytes:
        """What was written so far, over the object that is changed; short only at the end."""
        ...

    def seal_ahead(self) -> None:
        """Do now what ``finish`` must if nothing more is written, while nobody waits."""
        ...

    def finish(self) -> StagedObject:
        """Seal and make durable (fdatasync of part, fsync of its directory); may block long."""
        ...

    def keep(self) -> int:
        """The session is lost: keep what the upload's user may resume, and end it.

        Returns how many bytes a resume begins with; 0 when there is nothing to keep, and then it is
        an ``abort``. Never raises.
        """
        ...

    def abort(self) -> None:
        """Forget the bytes. Idempotent; never raises."""
        ...


class Bucket(Protocol):
    """One bucket. Forms: ``storage.embedded``; cloud buckets later."""

    name: str

    def head(self, key: str) -> ObjectInfo | None:
        """The current version, or None."""
        ...

    def head_in(self, tx: Transaction, key: str) -> ObjectInfo | None:
        """As ``head``, seeing what the transaction and those committed with it have written."""
        ...

    def holds_below(self, prefix: str) -> bool:
        """Whether any key starts with ``prefix``, which is not empty; cheaper than a listing."""
        ...

    def keys_below_in(self, tx: Transaction, prefix: str, keys_max: int) -> tuple[str, ...]:
        """The first keys that start with ``prefix``, which is not empty; seen as by ``head_in``."""
        ...

    def list(
        self,
        prefix: str = "",
        *,
        delimiter: str = "",
        start_after: str = "",
        max_keys: int = 1000,
    ) -> Listing:
        """ListObjectsV2: keys and common prefixes together count against ``max_keys``."""
        ...

    def used_bytes(self, owner: str, tx: Transaction | None = None) -> int:
        """Bytes of the current objects that ``owner`` sent, in all buckets of this store.

        ``owner`` is their metadata's ``user-agent-id``. With ``tx``, seen as by ``head_in``.
        """
        ...

    def open(self, key: str) -> ObjectReader | None:
        """Open the current version, or None where there is none."""
        ...

    def open_version(self, object_id: str, version_id: str) -> ObjectReader | None:
        """Open one version, current or replaced, wherever it was moved; None when it is gone."""
        ...

    def begin_upload(
        self,
        key: str,
        *,
        owner: str,
        metadata: Mapping[str, str] | None = None,
        user: str = "",
        over: ObjectReader | None = None,
    ) -> Upload:
        """Start an object. ``owner`` names the session that holds the lease. Raises ``NoSpace``.

        ``user``: who may resume it when the session is lost; nobody where that is empty. ``over``:
        the open object whose bytes it begins with; the upload closes it.
        """
        ...

    def has_partial(self, key: str, user: str) -> bool:
        """Whether there may be something for ``user`` to resume or drop at ``key``: cheap."""
        ...

    def partial_size(self, key: str, user: str) -> int | None:
        """How much ``user`` may resume from at ``key``; None where there is nothing.

        After a crash the first look reads what it left, and may block long.
        """
        ...

    def resume_upload(self, key: str, *, owner: str, user: str) -> Upload | None:
        """Take over what ``user`` may resume; None where there is nothing any more."""
        ...

    def drop_partials(self, key: str, user: str) -> int:
        """Forget what ``user`` might resume at ``key``; how many there were."""
        ...

    def partial_bytes(self, user: str) -> int:
        """How many bytes of this bucket are kept for ``user`` to resume."""
        ...

    def set_metadata(
        self, tx: Transaction, key: str, changes: Mapping[str, str | None]
    ) -> ObjectInfo | None:
        """Set or remove (None) user metadata of the current version; None where there is none.

        Version, bytes and last-modified time stay.
        """
        ...

    def publish(self, tx: Transaction, staged: StagedObject) -> ObjectInfo:
        """Make a staged object the key's current version inside the caller's transaction."""
        ...

    def delete(self, tx: Transaction, key: str) -> bool:
        """Remove the current version; False where there was none."""
        ...

    def move(self, tx: Transaction, source: str, target: str) -> ObjectInfo:
        """Give an object another key (replacing what is there). Raises ``errors.NotFound``."""
        ...
