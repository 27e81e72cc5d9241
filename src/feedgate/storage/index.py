"""The index: (bucket, key, version) → where the bytes are, in SQLite.

Keys are stored as their UTF-8 bytes, so SQLite's order is S3's. The layout (parts and extents) is
one JSON text in the row: it is only ever read whole, and it is what the row's seal covers.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from feedgate import limits
from feedgate.database import Database, Transaction
from feedgate.database.engine import Migration, Row
from feedgate.errors import Integrity, Unsupported
from feedgate.kms.envelope import DataKey
from feedgate.storage.bucket import Listing, ObjectInfo, StagedObject
from feedgate.storage.extents import Extent

__all__ = [
    "MIGRATIONS",
    "Layout",
    "VersionRow",
    "count_wrapped",
    "current_info",
    "current_row",
    "etag_of",
    "holds_below",
    "insert_version",
    "key_bytes",
    "key_bytes_if_any",
    "keys_below",
    "list_page",
    "new_version",
    "rekey_version",
    "rewrite_metadata",
    "row_seal",
    "staged",
    "supersede",
    "version_row",
]

MIGRATIONS = (
    Migration(
        "storage",
        1,
        """
        CREATE TABLE object_version(
            id INTEGER PRIMARY KEY,
            bucket TEXT NOT NULL,
            key BLOB NOT NULL,
            version_id TEXT NOT NULL,
            object_id TEXT NOT NULL,
            is_current INTEGER NOT NULL,
            size INTEGER NOT NULL,
            sha256 TEXT NOT NULL,
            last_modified_ms INTEGER NOT NULL,
            kms_key_arn TEXT NOT NULL,
            metadata TEXT NOT NULL,
            wrapped_key BLOB NOT NULL,
            bucket_key INTEGER NOT NULL,
            seal BLOB NOT NULL,
            layout TEXT NOT NULL
        ) STRICT;
        CREATE UNIQUE INDEX object_current ON object_version(bucket, key) WHERE is_current = 1;
        CREATE INDEX object_superseded ON object_version(id) WHERE is_current = 0;
        CREATE UNIQUE INDEX object_identity ON object_version(object_id, version_id);
        -- apart from the row: a listing must not wade through contents
        CREATE TABLE object_inline(
            id INTEGER PRIMARY KEY REFERENCES object_version(id),
            ciphertext BLOB NOT NULL
        ) STRICT;
        CREATE TABLE upload(
            object_id TEXT PRIMARY KEY,
            bucket TEXT NOT NULL,
            key BLOB NOT NULL,
            owner TEXT NOT NULL,
            lease_until_ms INTEGER NOT NULL,
            condemned INTEGER NOT NULL DEFAULT 0,
            kms_key_arn TEXT NOT NULL,
            wrapped_key BLOB NOT NULL,
            bucket_key INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX upload_owner ON upload(owner);
        """,
    ),
    # what a lost session left of an upload waits for its user (``storage.partial``)
    Migration(
        "storage",
        2,
        """
        ALTER TABLE upload ADD COLUMN user TEXT NOT NULL DEFAULT '';
        ALTER TABLE upload ADD COLUMN began_ms INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE upload ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE upload ADD COLUMN state TEXT NOT NULL DEFAULT '';
        ALTER TABLE upload ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
        CREATE INDEX upload_user ON upload(user, bucket, key);
        """,
    ),
)


# one text for one value; made once, for `json.dumps` with options builds an encoder at each call
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


_decode = msgspec.json.Decoder(dict[str, str]).decode


@dataclass(frozen=True, slots=True)
class Layout:
    """Parts by number with their ciphertext sizes in bytes, and the extents over them.

    ``inline``: there are no part files; part 1 lies beside the row.
    """

    inline: bool
    parts: Mapping[int, int]
    extents: tuple[Extent, ...]

    def text(self) -> str:
        """As it is stored and sealed."""
        if self.inline:
            return "inline"
        extents = [[e.offset, e.length, e.part, e.part_offset] for e in self.extents]
        return _canonical(
            {"parts": [list(item) for item in self.parts.items()], "extents": extents}
        )

    @classmethod
    def parse(cls, text: str) -> Layout:
        """The inverse of ``text``; the seal has been checked, so a fault is damage."""
        if text == "inline":
            return cls(True, {}, ())
        try:
            document = json.loads(text)
            parts = {int(number): int(size) for number, size in document["parts"]}
            extents = tuple(Extent(*map(int, extent)) for extent in document["extents"])
        except (ValueError, KeyError, TypeError) as error:
            raise Integrity("the layout of an object is damaged") from error
        return cls(False, parts, extents)


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One object version as stored: what others see of it, and what opens it.

    ``bucket_key``: the encryption context is the bucket's ARN. ``inline``: the ciphertext of a
    small object. ``row_id`` 0: not inserted yet.
    """

    info: ObjectInfo
    wrapped_key: bytes
    bucket_key: bool
    seal: bytes
    layout: str
    inline: bytes | None = None
    row_id: int = 0


def key_bytes(key: str) -> bytes:
    """The key as stored.

    Raises:
        Unsupported: S3 has no such key: empty, not UTF-8, or above 1,024 bytes.
    """
    try:
        data = key.encode("utf-8")
    except UnicodeEncodeError:
        raise Unsupported(f"the key {key!a} is not UTF-8") from None
    if not 0 < len(data) <= limits.OBJECT_KEY_BYTES_MAX:
        raise Unsupported(f"a key has 1 to {limits.OBJECT_KEY_BYTES_MAX} bytes, not {len(data)}")
    return data


def key_bytes_if_any(key: str) -> bytes | None:
    """The key as stored, or None where no object can have it."""
    try:
        return key_bytes(key)
    except Unsupported:
        return None


def etag_of(sha256: str) -> str:
    """The ETag: under SSE-KMS it is no MD5 on S3 either (S3 API Reference, Object)."""
    return sha256[:32]


def row_seal(data_key: bytes, info: ObjectInfo, layout: str) -> bytes:
    """HMAC-SHA256 under the object's data key over everything that says what the object is.

    Who can write the database but has no KMS key can then neither swap two objects' rows or
    ciphertexts nor cut or rearrange one unnoticed. Length of the result: 32 bytes.
    """
    identity = [info.bucket, info.key, info.version_id, info.object_id, info.size, info.sha256]
    text = _canonical([*identity, info.metadata, layout])
    message = b"feedgate object row 1\x00" + text.encode("ascii")
    return hmac.digest(data_key, message, hashlib.sha256)


def new_version(
    info: ObjectInfo, data_key: DataKey, layout: Layout, inline: bytes | None, *, bucket_key: bool
) -> VersionRow:
    """A version that is not inserted yet, sealed."""
    text = layout.text()
    seal = row_seal(data_key.plaintext, info, text)
    return VersionRow(info, data_key.wrapped, bucket_key, seal, text, inline)


def staged(row: VersionRow) -> StagedObject:
    """A version as ``publish`` takes it."""
    info = row.info
    return StagedObject(
        bucket=info.bucket,
        key=info.key,
        object_id=info.object_id,
        size=info.size,
        sha256=info.sha256,
        kms_key_arn=info.kms_key_arn,
        row=row,
    )


_INFO = "bucket, key, version_id, object_id, size, sha256, last_modified_ms, kms_key_arn, metadata"
_ROW = (
    f"{_INFO}, wrapped_key, bucket_key, seal, layout, ciphertext, object_version.id"
    " FROM object_version LEFT JOIN object_inline ON object_inline.id = object_version.id"
)
_SELECT = f"SELECT {_INFO} FROM object_version"  # noqa: S608 - constants
_CURRENT = f"SELECT {_ROW} WHERE bucket = ? AND key = ? AND is_current = 1"
_HEAD = _SELECT + " WHERE bucket = ? AND key = ? AND is_current = 1"
_BELOW = (
    "SELECT 1 FROM object_version WHERE bucket = ? AND key >= ? AND key < ? AND is_current = 1"
    " LIMIT 1"
)
_KEYS_BELOW = (
    "SELECT key FROM object_version WHERE bucket = ? AND key >= ? AND key < ? AND is_current = 1"
    " ORDER BY key LIMIT ?"
)
_IDENTITY = f"SELECT {_ROW} WHERE object_id = ? AND version_id = ? AND bucket = ?"

Reads = Callable[[str, tuple[Any, ...]], list[Row]]


def current_row(read: Reads, bucket: str, key: bytes) -> VersionRow | None:
    """The current version of a key; ``read`` is ``Database.read`` or ``Transaction.execute``."""
    rows = read(_CURRENT, (bucket, key))
    return _row(rows[0]) if rows else None


def current_info(read: Reads, bucket: str, key: bytes) -> ObjectInfo | None:
    """As ``current_row``, without what only a reader needs."""
    rows = read(_HEAD, (bucket, key))
    return _info(rows[0]) if rows else None


def holds_below(read: Reads, bucket: str, prefix: bytes) -> bool:
    """Whether any key starts with ``prefix``: one index seek."""
    return bool(read(_BELOW, (bucket, prefix, _after_all(prefix))))


def keys_below(read: Reads, bucket: str, prefix: bytes, keys_max: int) -> tuple[str, ...]:
    """The first ``keys_max`` keys that start with ``prefix``, in order."""
    rows = read(_KEYS_BELOW, (bucket, prefix, _after_all(prefix), keys_max))
    return tuple(row[0].decode() for row in rows)


def version_row(read: Reads, bucket: str, object_id: str, version_id: str) -> VersionRow | None:
    """One version, current or not, wherever it was moved."""
    rows = read(_IDENTITY, (object_id, version_id, bucket))
    return _row(rows[0]) if rows else None


def count_wrapped(read: Reads, kms_key_arn: str) -> int:
    """How many data keys are wrapped by a KMS key: of object versions, replaced ones among them
    until they are collected, and of uploads under way. Reads the whole table: not for a hot path.
    """
    [(versions,)] = read(
        "SELECT COUNT(*) FROM object_version WHERE kms_key_arn = ?", (kms_key_arn,)
    )
    [(uploads,)] = read(
        "SELECT COUNT(*) FROM upload WHERE kms_key_arn = ? AND condemned = 0", (kms_key_arn,)
    )
    return int(versions) + int(uploads)


def supersede(tx: Transaction, bucket: str, key: bytes) -> bool:
    """Make the key's current version one that garbage collection takes. False without one."""
    tx.execute(
        "UPDATE object_version SET is_current = 0 WHERE bucket = ? AND key = ? AND is_current = 1",
        (bucket, key),
    )
    return tx.changes() > 0


def insert_version(tx: Transaction, row: VersionRow) -> None:
    """Insert a version as the current one."""
    info = row.info
    [(row_id,)] = tx.execute(
        "INSERT INTO object_version(bucket, key, version_id, object_id, is_current, size, sha256,"
        " last_modified_ms, kms_key_arn, metadata, wrapped_key, bucket_key, seal, layout)"
        " VALUES(?,?,?,?,1,?,?,?,?,?,?,?,?,?) RETURNING id",
        (
            info.bucket,
            info.key.encode(),
            info.version_id,
            info.object_id,
            info.size,
            info.sha256,
            info.last_modified_ms,
            info.kms_key_arn,
            _canonical(info.metadata),
            row.wrapped_key,
            row.bucket_key,
            row.seal,
            row.layout,
        ),
    )
    if row.inline is not None:
        tx.execute("INSERT INTO object_inline VALUES(?,?)", (row_id, row.inline))


def rekey_version(tx: Transaction, row: VersionRow) -> None:
    """Write back a row whose key, wrapped data key and seal changed."""
    info = row.info
    tx.execute(
        "UPDATE object_version SET key = ?, kms_key_arn = ?, wrapped_key = ?, bucket_key = ?,"
        " seal = ? WHERE id = ?",
        (
            info.key.encode(),
            info.kms_key_arn,
            row.wrapped_key,
            row.bucket_key,
            row.seal,
            row.row_id,
        ),
    )


def rewrite_metadata(tx: Transaction, row: VersionRow) -> None:
    """Write back a row whose user metadata and seal changed."""
    tx.execute(
        "UPDATE object_version SET metadata = ?, seal = ? WHERE id = ?",
        (_canonical(row.info.metadata), row.seal, row.row_id),
    )


# -- listing -----------------------------------------------------------------------------------


def list_page(
    database: Database,
    bucket: str,
    *,
    prefix: str,
    delimiter: str,
    start_after: str,
    max_keys: int,
) -> Listing:
    """One page of ListObjectsV2.

    A common prefix costs one index seek however many keys it stands for. ``start_after`` equal to a
    common prefix means that this prefix was listed already, so a page's ``next_start_after`` can be
    one.
    """
    try:
        names = (prefix.encode(), delimiter.encode(), start_after.encode())
    except UnicodeEncodeError:
        return Listing((), (), None)  # no key is like that
    lister = _Lister(database, bucket, *names[:2])
    return lister.page(names[2], min(max_keys, limits.LIST_KEYS_MAX))


class _Lister:
    def __init__(self, database: Database, bucket: str, prefix: bytes, delimiter: bytes) -> None:
        self._database = database
        self._bucket = bucket
        self._prefix = prefix
        self._delimiter = delimiter
        self._upper = _after_all(prefix)

    def page(self, start_after: bytes, max_keys: int) -> Listing:
        objects: list[ObjectInfo] = []
        common: list[str] = []
        if max_keys <= 0:
            return Listing((), (), None)
        at = self._start(start_after)
        last = ""
        batch = limits.LIST_SEEK_KEYS if self._delimiter else max_keys + 1
        while True:
            rows = self._scan(at, batch)
            for row in rows:
                key = row[1]
                if key < at:
                    continue  # under a common prefix that was just listed
                if len(objects) + len(common) == max_keys:
                    return Listing(tuple(objects), tuple(common), last)
                shared = self._common_prefix(key)
                if shared is None:
                    objects.append(_info(row))
                    last = objects[-1].key
                    at = key + b"\x00"  # the next possible key
                else:
                    last = shared.decode()
                    common.append(last)
                    at = _after_all(shared) or key + b"\x00"
            if len(rows) < batch:
                return Listing(tuple(objects), tuple(common), None)
            # a batch that ended under a common prefix was mostly wasted: seek in small steps
            wasted = rows[-1][1] + b"\x00" != at
            batch = limits.LIST_SEEK_KEYS if wasted else min(batch * 4, max_keys + 1)

    def _start(self, start_after: bytes) -> bytes:
        if start_after < self._prefix:
            return self._prefix
        if self._common_prefix(start_after) == start_after:
            return _after_all(start_after) or start_after + b"\x00"
        return start_after + b"\x00"

    def _scan(self, at: bytes, batch: int) -> list[Row]:
        sql = _SELECT + " WHERE bucket = ? AND is_current = 1 AND key >= ?"
        params: tuple[Any, ...] = (self._bucket, at)
        if self._upper is not None:
            sql += " AND key < ?"
            params += (self._upper,)
        return self._database.read(f"{sql} ORDER BY key LIMIT ?", (*params, batch))

    def _common_prefix(self, key: bytes) -> bytes | None:
        if not self._delimiter or not key.startswith(self._prefix):
            return None
        at = key.find(self._delimiter, len(self._prefix))
        return None if at < 0 else key[: at + len(self._delimiter)]


def _after_all(prefix: bytes) -> bytes | None:
    """The least string above every string that starts with ``prefix``; None when there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


def _info(columns: Row) -> ObjectInfo:
    bucket, key, version_id, object_id, size, sha256, last_modified_ms, kms_key_arn, meta = columns
    return ObjectInfo(
        bucket=bucket,
        key=key.decode(),
        version_id=version_id,
        object_id=object_id,
        size=size,
        etag=etag_of(sha256),
        sha256=sha256,
        kms_key_arn=kms_key_arn,
        last_modified_ms=last_modified_ms,
        metadata=_metadata(meta),
    )


def _metadata(text: str) -> Mapping[str, str]:
    """User metadata as stored; for each name of a listing, so by the faster reader if it can."""
    try:
        return _decode(text)
    except msgspec.DecodeError:  # half a surrogate pair, which a str may hold
        found: Mapping[str, str] = json.loads(text)
        return found


def _row(columns: Row) -> VersionRow:
    wrapped_key, bucket_key, seal, layout, ciphertext, row_id = columns[9:]
    return VersionRow(
        _info(columns[:9]), wrapped_key, bool(bucket_key), seal, layout, ciphertext, row_id
    )
