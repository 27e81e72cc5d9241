"""What may be deleted, and when: parts of versions and uploads that nothing refers to any more.

A part is removed only because a row says that it is dead: its object version was replaced or
deleted and nobody still wants it, or its upload was given up or its lease expired. Absence from the
index is never a reason. Order: condemn in a transaction, unlink, fsync the directory, and only then
forget the row, so a crash anywhere means that it is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from feedgate import limits
from feedgate.database import Database, Transaction
from feedgate.storage.partfiles import PartFiles, disk_error
from feedgate.storage.partial import unfinished

__all__ = ["Wanted", "collect", "recover", "release"]

Wanted = Callable[[Collection[str]], Collection[str]]
"""Of these object ids, those that an unloaded landing or a reload window still needs."""


def collect(
    database: Database,
    folder: Path,
    now_ms: int,
    *,
    wanted: Wanted = lambda _object_ids: (),
) -> int:
    """Remove what is dead; returns how many part files went. Only the supervisor calls it.

    Cheap when there is nothing to do: two index look-ups.
    """
    files = PartFiles(folder)
    try:
        return _collect_uploads(database, files, now_ms) + _collect_versions(
            database, files, wanted
        )
    except OSError as error:
        raise disk_error(error, "remove a part that nothing refers to") from error


def recover(database: Database) -> int:
    """At the start of a gateway no owner of an upload is alive. Returns how many uploads had one.

    What its user may resume is kept for a while, the rest is given up. The caller holds
    ``gateway.lock``.
    """
    return database.write_now(unfinished)


def release(database: Database, owner: str) -> int:
    """As ``recover``, for one owner, whose process is known to be dead. Returns how many."""
    return database.write_now(lambda tx: unfinished(tx, owner))


def _collect_uploads(database: Database, files: PartFiles, now_ms: int) -> int:
    dead = "SELECT object_id FROM upload WHERE condemned = 1 OR lease_until_ms <= ? LIMIT ?"
    removed = 0
    while database.read(dead, (now_ms, limits.GARBAGE_BATCH)):

        def condemn(tx: Transaction) -> list[str]:
            # from here on `publish` refuses, so what is unlinked next can never become visible
            ids = [row[0] for row in tx.execute(dead, (now_ms, limits.GARBAGE_BATCH))]
            tx.executemany(
                "UPDATE upload SET condemned = 1 WHERE object_id = ?", [(i,) for i in ids]
            )
            return ids

        object_ids = database.write_now(condemn)
        removed += files.remove_all(object_ids)

        def forget(tx: Transaction, ids: list[str] = object_ids) -> None:
            tx.executemany("DELETE FROM upload WHERE object_id = ?", [(i,) for i in ids])

        database.write_now(forget)
    return removed


def _collect_versions(database: Database, files: PartFiles, wanted: Wanted) -> int:
    removed, after = 0, 0
    while True:
        rows = database.read(
            # never the parts of an object that is still current somewhere
            "SELECT id, object_id, layout <> 'inline' FROM object_version AS dead"
            " INDEXED BY object_superseded WHERE is_current = 0 AND id > ? AND NOT EXISTS("
            "SELECT 1 FROM object_version AS live WHERE live.object_id = dead.object_id"
            " AND live.is_current = 1) ORDER BY id LIMIT ?",
            (after, limits.GARBAGE_BATCH),
        )
        if not rows:
            return removed
        after = rows[-1][0]
        kept = frozenset(wanted([object_id for _, object_id, _ in rows]))
        doomed = [row for row in rows if row[1] not in kept]
        removed += files.remove_all(object_id for _, object_id, in_file in doomed if in_file)

        def forget(tx: Transaction, ids: list[tuple[int]] = [(row[0],) for row in doomed]) -> None:  # noqa: B006
            tx.executemany("DELETE FROM object_inline WHERE id = ?", ids)
            tx.executemany("DELETE FROM object_version WHERE id = ?", ids)

        if doomed:
            database.write_now(forget)
