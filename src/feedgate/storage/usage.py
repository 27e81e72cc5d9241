"""How much each sender's objects take: a counter that SQLite itself keeps, in the same transaction.

Triggers on ``object_version`` move the counters, so no way of writing an object can forget them and
nothing is summed when a quota is asked for. An object counts for who sent it (its metadata's
``user-agent-id``), wherever it was moved and whoever may read it, for as long as it is current.

``recount`` compares the counters with the objects and sets them right.
"""

from __future__ import annotations

from feedgate.database import Database, Transaction
from feedgate.database.engine import Migration
from feedgate.storage.index import Reads

__all__ = ["MIGRATIONS", "OWNER", "recount", "used_bytes"]

OWNER = "user-agent-id"  # of the user metadata that AWS Transfer gives an object

_OWNER_OF = "json_extract({row}.metadata, '$.\"" + OWNER + "\"')"
_OLD, _NEW = _OWNER_OF.format(row="OLD"), _OWNER_OF.format(row="NEW")
_COUNTED = (
    f"SELECT {_OWNER_OF.format(row='object_version')} AS owner, SUM(size), COUNT(*)"  # noqa: S608
    " FROM object_version WHERE is_current = 1 AND owner IS NOT NULL GROUP BY owner"
)
_REMOVED = "UPDATE usage SET bytes = bytes - OLD.size, objects = objects - 1 WHERE owner = " + _OLD  # noqa: S608

MIGRATIONS = (
    Migration(
        "usage",
        1,
        f"""
        CREATE TABLE usage(
            owner TEXT PRIMARY KEY,
            bytes INTEGER NOT NULL,
            objects INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        INSERT INTO usage {_COUNTED};
        CREATE TRIGGER usage_added AFTER INSERT ON object_version
        WHEN NEW.is_current = 1 AND {_NEW} IS NOT NULL BEGIN
            INSERT INTO usage VALUES({_NEW}, NEW.size, 1) ON CONFLICT(owner)
            DO UPDATE SET bytes = bytes + excluded.bytes, objects = objects + 1;
        END;
        CREATE TRIGGER usage_superseded AFTER UPDATE OF is_current ON object_version
        WHEN OLD.is_current = 1 AND NEW.is_current = 0 BEGIN
            {_REMOVED};
        END;
        CREATE TRIGGER usage_deleted AFTER DELETE ON object_version
        WHEN OLD.is_current = 1 BEGIN
            {_REMOVED};
        END;
        """,
    ),
)


def used_bytes(read: Reads, owner: str) -> int:
    """Bytes of the current objects that ``owner`` sent, in all buckets; one index look-up."""
    rows = read("SELECT bytes FROM usage WHERE owner = ?", (owner,))
    return int(rows[0][0]) if rows else 0


def recount(database: Database) -> int:
    """Compare the counters with the objects and set them right; how many owners' were wrong.

    Reads the whole index: for the start of a gateway, beside the door.
    """
    different = (
        f"SELECT COUNT(*) FROM (SELECT * FROM ({_COUNTED}) EXCEPT SELECT * FROM usage"  # noqa: S608
        " UNION ALL SELECT * FROM (SELECT * FROM usage WHERE objects <> 0 OR bytes <> 0"
        f" EXCEPT {_COUNTED}))"
    )
    if not database.read(different)[0][0]:
        return 0

    def rebuild(tx: Transaction) -> int:
        wrong = int(tx.execute(different)[0][0])
        tx.execute("DELETE FROM usage")
        tx.execute(f"INSERT INTO usage {_COUNTED}")
        return wrong

    return database.write_now(rebuild)
