"""Rows of uploads that are not finished: what a gateway still knows of them after a crash.

A row is *owned* while a session writes, *kept* (no owner) once that session was lost and its bytes
wait for a resume by the same user. Its state says where the bytes lie; a sequential upload, which
nearly every one is, never changes its state while it runs: all that its open part holds lies in
order. It changes before a write breaks that order, and after a truncation, so that whatever a crash
leaves in the open part, the state that goes with it is known.

The state is sealed under the data key with the key and the user: who can write the database cannot
give a partial to another user, nor rearrange it, unnoticed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from feedgate import limits
from feedgate.database import Transaction
from feedgate.database.engine import Row
from feedgate.errors import Integrity
from feedgate.storage.extents import Extent

__all__ = [
    "Partial",
    "PartialState",
    "begin_row",
    "claim",
    "condemn",
    "find_partials",
    "keep_row",
    "partials_of_user",
    "save_state",
    "state_seal",
    "unfinished",
]


@dataclass(frozen=True, slots=True)
class PartialState:
    """Where an unfinished upload's bytes lie.

    ``parts``: by number, the ciphertext size of each part that is no longer written, and whether it
    was cut: then it counts up to its last whole segment. ``open_part``: the one being written, 0
    for none. ``follows``: its plaintext lies in order from this offset; -1: as the extents say.
    """

    parts: Mapping[int, tuple[int, bool]] = field(default_factory=dict)
    extents: tuple[Extent, ...] = ()
    open_part: int = 0
    follows: int = -1

    def text(self) -> str:
        """As it is stored and sealed."""
        parts = [[number, size, int(cut)] for number, (size, cut) in self.parts.items()]
        extents = [[e.offset, e.length, e.part, e.part_offset] for e in self.extents]
        return json.dumps([parts, extents, self.open_part, self.follows], separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> PartialState:
        """The inverse of ``text``; the seal has been checked, so a fault is damage."""
        try:
            parts, extents, open_part, follows = json.loads(text)
            return cls(
                {int(number): (int(size), bool(cut)) for number, size, cut in parts},
                tuple(Extent(*map(int, extent)) for extent in extents),
                int(open_part),
                int(follows),
            )
        except (ValueError, TypeError) as error:
            raise Integrity("the state of an unfinished upload is damaged") from error


@dataclass(frozen=True, slots=True)
class Partial:
    """A row of ``upload``. ``size``: bytes that may be resumed from, 0 while it is owned."""

    object_id: str
    bucket: str
    key: str
    owner: str
    lease_until_ms: int
    kms_key_arn: str
    wrapped_key: bytes
    bucket_key: bool
    user: str
    began_ms: int
    size: int
    state: str
    seal: bytes


def state_seal(data_key: bytes, partial: Partial) -> bytes:
    """HMAC-SHA256 under the data key over whose partial this is, of what, and its state."""
    facts = [partial.bucket, partial.key, partial.object_id, partial.user, partial.state]
    message = b"feedgate upload row 1\x00" + json.dumps(facts).encode("ascii")
    return hmac.digest(data_key, message, hashlib.sha256)


_COLUMNS: Final = (
    "object_id, bucket, key, owner, lease_until_ms, kms_key_arn, wrapped_key, bucket_key, user,"
    " began_ms, size, state, seal"
)
_OF_KEY: Final = (
    f"SELECT {_COLUMNS} FROM upload WHERE user = ? AND bucket = ? AND key = ?"  # noqa: S608
    " AND condemned = 0 AND lease_until_ms > ? ORDER BY began_ms DESC, object_id LIMIT ?"
)

Reads = Callable[[str, tuple[Any, ...]], list[Row]]


def begin_row(tx: Transaction, partial: Partial) -> None:
    """Write the row of an upload that is about to have a file."""
    tx.execute(
        f"INSERT INTO upload({_COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            partial.object_id,
            partial.bucket,
            partial.key.encode(),
            partial.owner,
            partial.lease_until_ms,
            partial.kms_key_arn,
            partial.wrapped_key,
            partial.bucket_key,
            partial.user,
            partial.began_ms,
            partial.size,
            partial.state,
            partial.seal,
        ),
    )


def save_state(tx: Transaction, partial: Partial) -> bool:
    """Write back owner, lease, size, state and seal; False when the upload was given up."""
    tx.execute(
        "UPDATE upload SET owner = ?, lease_until_ms = ?, size = ?, state = ?, seal = ?"
        " WHERE object_id = ? AND condemned = 0",
        (
            partial.owner,
            partial.lease_until_ms,
            partial.size,
            partial.state,
            partial.seal,
            partial.object_id,
        ),
    )
    return tx.changes() > 0


def keep_row(tx: Transaction, partial: Partial) -> bool:
    """Make it the one partial of its user and key; False when the upload was given up."""
    if not save_state(tx, partial):
        return False
    tx.execute(
        "UPDATE upload SET condemned = 1 WHERE user = ? AND bucket = ? AND key = ? AND owner = ''"
        " AND object_id <> ?",
        (partial.user, partial.bucket, partial.key.encode(), partial.object_id),
    )
    return True


def claim(tx: Transaction, partial: Partial, owner: str, lease_until_ms: int) -> bool:
    """Make a kept partial a session's; False when another session was first, or it is gone."""
    tx.execute(
        "UPDATE upload SET owner = ?, lease_until_ms = ?"
        " WHERE object_id = ? AND owner = '' AND condemned = 0",
        (owner, lease_until_ms, partial.object_id),
    )
    return tx.changes() > 0


def condemn(tx: Transaction, partial: Partial) -> None:
    """Give it up, unless another session has taken it meanwhile."""
    tx.execute(
        "UPDATE upload SET condemned = 1 WHERE object_id = ? AND owner = ?",
        (partial.object_id, partial.owner),
    )


def find_partials(read: Reads, user: str, bucket: str, key: bytes, now_ms: int) -> list[Partial]:
    """A user's unfinished uploads of a key, the newest first."""
    rows = read(_OF_KEY, (user, bucket, key, now_ms, limits.PARTIALS_OF_KEY_MAX))
    return [_partial(row) for row in rows]


def partials_of_user(read: Reads, user: str, bucket: str) -> list[Partial]:
    """Everything in a bucket that nobody owns and that waits for this user."""
    rows = read(
        f"SELECT {_COLUMNS} FROM upload WHERE user = ? AND bucket = ? AND owner = ''"  # noqa: S608
        " AND condemned = 0",
        (user, bucket),
    )
    return [_partial(row) for row in rows]


def unfinished(tx: Transaction, owner: str | None = None) -> int:
    """Say of uploads whose owner is dead that nobody owns them; how many there were.

    Those that a user may resume are kept for ``PARTIAL_S`` from their last sign of life, the others
    are given up. ``owner`` None means all.
    """
    who, params = ("owner = ?", (owner,)) if owner is not None else ("owner <> ''", ())
    tx.execute(
        f"UPDATE upload SET owner = '', lease_until_ms = lease_until_ms + ?"  # noqa: S608
        f" WHERE {who} AND condemned = 0 AND user <> ''",
        ((limits.PARTIAL_S - limits.UPLOAD_LEASE_S) * 1000, *params),
    )
    kept = tx.changes()
    tx.execute(
        f"UPDATE upload SET condemned = 1 WHERE {who} AND condemned = 0",  # noqa: S608
        params,
    )
    return kept + tx.changes()


def _partial(row: Row) -> Partial:
    object_id, bucket, key, *middle = row
    return Partial(object_id, bucket, key.decode(), *middle)
