"""Renames: an object, or all that lies under a prefix, gets other keys in one transaction.

S3 has no rename; AWS Transfer copies and deletes, and refuses directories and names that are taken.
Here a rename moves index rows: either all of it happened or nothing did, and no reader finds both
names or none. A landing is recorded for each object. It refers to the landing that brought the
bytes, so that only pipes which newly cover the object are offered it.

The target is looked at inside the transaction, where the writes that share its commit are seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from feedgate.access.guarded import GuardedBucket
from feedgate.database import Transaction
from feedgate.errors import Conflict, NotFound, Unsupported
from feedgate.files.commit import Landings
from feedgate.files.lookup import exists, exists_in
from feedgate.files.mapping import Mapped
from feedgate.ledger.receipts import LandingKind
from feedgate.ledger.store import origin_of_object, record_landing
from feedgate.limits import RENAME_KEYS_MAX

__all__ = ["Renames"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Renames:
    """Those of one session."""

    landings: Landings

    async def file(
        self, bucket: GuardedBucket, source: Mapped, target: Mapped, *, replace: bool
    ) -> str | None:
        """Rename a file inside its bucket; its landing's id, None where nothing changed.

        ``replace`` takes the name from a file that has it, as POSIX does; without it that file
        stays (draft-ietf-secsh-filexfer-02, section 6.5).

        Raises:
            AccessDenied: the judge refuses to read, write or delete.
            NotFound: there is no such file.
            Conflict: the name is taken, or is a directory's.
        """
        if source.key == target.key and replace:
            return None
        if not replace and exists(bucket, target.key):
            raise _exists(target)

        def land(tx: Transaction) -> str:
            if not replace and exists_in(tx, bucket, target.key):
                raise _exists(target)
            if bucket.would_hide_in(tx, target.key):
                raise Conflict(f"`{target.path}` is a directory")
            return self._move(tx, bucket, source.key, target.key, target.path)

        return await self._write(land)

    async def directory(
        self, bucket: GuardedBucket, source: Mapped, target: Mapped, *, replace: bool
    ) -> str | None:
        """Rename all that lies under a prefix; as ``file``, each object judged.

        ``replace`` takes the name from a directory that is empty.

        Raises:
            AccessDenied: the judge refuses one of the objects, or to list them.
            NotFound: there is no such directory.
            Conflict: the name is taken, or lies inside the directory itself.
            Unsupported: more than ``RENAME_KEYS_MAX`` objects lie in it.
        """
        if source.key == target.key and replace:
            return None
        if target.prefix.startswith(source.prefix):
            raise Conflict(f"`{target.path}` lies in `{source.path}`, or is it")
        if target.is_file:
            raise _exists(target)

        def land(tx: Transaction) -> str:
            keys = bucket.keys_below_in(tx, source.prefix, RENAME_KEYS_MAX + 1)
            if not keys:
                raise NotFound(f"there is no directory `{source.path}`")
            if len(keys) > RENAME_KEYS_MAX:
                raise Unsupported(
                    f"`{source.path}` holds more than {RENAME_KEYS_MAX:,} objects",
                    hint="rename what lies in it, a part at a time",
                )
            self._make_room(tx, bucket, target, replace=replace)
            landing_id = ""
            for key in keys:
                rest = key[len(source.prefix) :]
                path = f"{target.path}/{rest}".removesuffix("/")
                landing_id = self._move(tx, bucket, key, target.prefix + rest, path)
            return landing_id

        return await self._write(land)

    def _make_room(
        self, tx: Transaction, bucket: GuardedBucket, target: Mapped, *, replace: bool
    ) -> None:
        if not bucket.is_taken_in(tx, target.prefix):
            return
        there = bucket.keys_below_in(tx, target.prefix, 2)
        if not replace or there != (target.prefix,):
            raise _exists(target)  # its marker alone gives way: the source's own takes its place

    def _move(
        self, tx: Transaction, bucket: GuardedBucket, source: str, target: str, path: str
    ) -> str:
        landings = self.landings
        landing_id = landings.new_id()
        info = bucket.move(tx, source, target)
        origin, is_partial = origin_of_object(tx, info.object_id)
        kind: LandingKind = "mkdir" if target.endswith("/") else "rename"
        landing = landings.landing(landing_id, info, path, kind, origin, is_partial=is_partial)
        record_landing(tx, landing)
        landings.crash_at("landing-before-commit")
        return landing_id

    async def _write(self, land: Callable[[Transaction], T]) -> T:
        done = await self.landings.database.write(land)
        self.landings.crash_at("landing-committed")
        return done


def _exists(target: Mapped) -> Conflict:
    return Conflict(f"`{target.path}` exists already")
