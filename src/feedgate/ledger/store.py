"""The ledger's tables: landings in the order of their commits, and what pipes made of them.

``record_landing`` joins the transaction that makes an object visible. A landing is *pending* until
it was offered to the pipes; a partial index holds the pending ones, so that a loader's poll costs
the same with ten landings and with ten million.

Invariants: ``landings`` rows are written once, but for ``offered_at_ms``, which goes from NULL to a
time and never back; one row of ``loads`` per (landing, pipe); no text of a row error in clear.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final

import msgspec

from feedgate.database import Database, Transaction
from feedgate.database.engine import Migration
from feedgate.errors import CouldNot, RowError, UsageError
from feedgate.ledger.receipts import Landing, LandingKind, LoadStatus, PipeLoad, Receipt
from feedgate.ledger.sealing import Sealer, positions, seal_errors, unseal_errors

__all__ = [
    "FILE_KINDS",
    "MIGRATIONS",
    "ULID_CHARS",
    "Ledger",
    "new_ulid",
    "origin_of_object",
    "record_landing",
    "record_load",
]

MIGRATIONS = (
    Migration(
        "ledger",
        1,
        """
        CREATE TABLE landings (
            seq INTEGER PRIMARY KEY,
            landing_id TEXT NOT NULL UNIQUE,
            bucket TEXT NOT NULL,
            key TEXT NOT NULL,
            version_id TEXT NOT NULL,
            object_id TEXT NOT NULL,
            size INTEGER NOT NULL,
            sha256 TEXT NOT NULL,
            etag TEXT NOT NULL,
            kms_key_arn TEXT,
            user_name TEXT NOT NULL,
            session_id TEXT NOT NULL,
            ssh_key_fingerprint TEXT NOT NULL,
            client_version TEXT NOT NULL,
            source_ip TEXT NOT NULL,
            path TEXT NOT NULL,
            landed_at_ms INTEGER NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('put', 'rename', 'copy', 'mkdir')),
            origin_landing_id TEXT,
            offered_at_ms INTEGER
        ) STRICT;
        CREATE INDEX landings_pending ON landings (seq) WHERE offered_at_ms IS NULL;
        CREATE INDEX landings_object ON landings (object_id);
        CREATE INDEX landings_user ON landings (user_name, seq);
        CREATE INDEX landings_origin ON landings (origin_landing_id)
            WHERE origin_landing_id IS NOT NULL;
        CREATE TABLE loads (
            landing_id TEXT NOT NULL,
            pipe TEXT NOT NULL,
            table_name TEXT NOT NULL,
            status TEXT NOT NULL,
            rows_parsed INTEGER NOT NULL,
            rows_loaded INTEGER NOT NULL,
            errors_seen INTEGER NOT NULL,
            message TEXT,
            errors TEXT NOT NULL,
            loaded_at_ms INTEGER,
            attempts INTEGER NOT NULL,
            PRIMARY KEY (landing_id, pipe)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX loads_status ON loads (status);
        """,
    ),
    # `errors` has the positions from now on; older rows have texts there, too
    Migration("ledger", 2, "ALTER TABLE loads ADD COLUMN sealed_errors BLOB;"),
    Migration(
        "ledger", 3, "ALTER TABLE landings ADD COLUMN is_partial INTEGER NOT NULL DEFAULT 0;"
    ),
)

ULID_CHARS: Final = 26
FILE_KINDS: Final[tuple[LandingKind, ...]] = ("put", "rename", "copy")

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LANDING_COLUMNS: Final = tuple(field.name for field in fields(Landing))
_SELECT_LANDING: Final = f"SELECT {', '.join(_LANDING_COLUMNS)} FROM landings"  # noqa: S608
_LOAD_COLUMNS: Final = (
    "landing_id, pipe, table_name, status, rows_parsed, rows_loaded, errors_seen, message,"
    " errors, loaded_at_ms, attempts, sealed_errors"
)


def new_ulid(now_ms: int, randomness: bytes) -> str:
    """A ULID (github.com/ulid/spec): 48 bits of Unix milliseconds, 80 of randomness, 26 chars.

    Text order is time order, to the millisecond.
    """
    assert len(randomness) == 10
    assert 0 <= now_ms < 1 << 48
    number = now_ms << 80 | int.from_bytes(randomness, "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def record_landing(tx: Transaction, landing: Landing) -> None:
    """Write a landing in the transaction that makes its object visible.

    A directory's marker is no file, and a partial upload no whole one: no pipe is offered either.
    """
    is_offered = landing.kind in FILE_KINDS and not landing.is_partial
    offered_at_ms = None if is_offered else landing.landed_at_ms
    tx.execute(
        f"INSERT INTO landings ({', '.join(_LANDING_COLUMNS)}, offered_at_ms)"  # noqa: S608 - our own names
        f" VALUES ({', '.join('?' * len(_LANDING_COLUMNS))}, ?)",
        (*(getattr(landing, name) for name in _LANDING_COLUMNS), offered_at_ms),
    )


def origin_of_object(tx: Transaction, object_id: str) -> tuple[str | None, bool]:
    """The landing that brought an object's bytes, and whether it was partial.

    None for what came by another way.
    """
    rows = tx.execute(
        "SELECT COALESCE(origin_landing_id, landing_id), is_partial FROM landings"
        " WHERE object_id = ? ORDER BY seq LIMIT 1",
        (object_id,),
    )
    return (str(rows[0][0]), bool(rows[0][1])) if rows else (None, False)


def record_load(tx: Transaction, load: PipeLoad, sealed_errors: bytes | None = None) -> None:
    """Write what a pipe made of a landing, over what was recorded before.

    Texts of row errors are only kept in ``sealed_errors``, see ``sealing.seal_errors``.
    """
    tx.execute(
        f"INSERT INTO loads ({_LOAD_COLUMNS}) VALUES ({', '.join('?' * 12)})"  # noqa: S608
        " ON CONFLICT (landing_id, pipe) DO UPDATE SET table_name = excluded.table_name,"
        " status = excluded.status, rows_parsed = excluded.rows_parsed,"
        " rows_loaded = excluded.rows_loaded, errors_seen = excluded.errors_seen,"
        " message = excluded.message, errors = excluded.errors,"
        " loaded_at_ms = excluded.loaded_at_ms, attempts = excluded.attempts,"
        " sealed_errors = excluded.sealed_errors",
        (
            load.landing_id,
            load.pipe,
            load.table,
            load.status,
            load.rows_parsed,
            load.rows_loaded,
            load.errors_seen,
            load.message,
            msgspec.json.encode(positions(load.errors)).decode(),
            load.loaded_at_ms,
            load.attempts,
            sealed_errors,
        ),
    )


class Ledger:
    """Receipts for people, pending landings for the loader. Thread-safe; blocking; short.

    ``sealer`` keeps the texts of row errors and shows them; without one they are neither stored nor
    shown, only their positions.
    """

    def __init__(
        self,
        database: Database,
        *,
        sealer: Sealer | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._now = now

    # -- for the loader -------------------------------------------------------------------------

    def pending(self, limit: int) -> Sequence[Landing]:
        """Landings that no pipe was offered yet, in the order in which they became visible."""
        rows = self._database.read(
            f"{_SELECT_LANDING} WHERE offered_at_ms IS NULL ORDER BY seq LIMIT ?", (limit,)
        )
        return [Landing(*row) for row in rows]

    def record(self, loads: Sequence[PipeLoad], *, finished: Iterable[str] = ()) -> None:
        """Record what pipes made of landings, and which landings are done with, in one commit.

        Where the sealer cannot seal, positions alone are recorded: a load is never held up by it.
        """
        landing_ids = tuple(finished)
        sealed = [self._seal(load) for load in loads]  # before the transaction: it may need its own

        def write(tx: Transaction) -> None:
            for load, errors in zip(loads, sealed, strict=True):
                record_load(tx, load, errors)
            self._finish(tx, landing_ids)

        self._database.write_now(write)

    def _seal(self, load: PipeLoad) -> bytes | None:
        if self._sealer is None:
            return None
        try:
            return seal_errors(self._sealer, load)
        except CouldNot:
            return None

    def finish(self, *landing_ids: str) -> None:
        """Say that landings were offered to every pipe that covers them. Idempotent."""
        self._database.write_now(lambda tx: self._finish(tx, landing_ids))

    def _finish(self, tx: Transaction, landing_ids: Sequence[str]) -> None:
        now_ms = int(self._now() * 1000)
        for landing_id in landing_ids:
            tx.execute(
                "UPDATE landings SET offered_at_ms = ?"
                " WHERE landing_id = ? AND offered_at_ms IS NULL",
                (now_ms, landing_id),
            )

    def wanted(self, object_ids: Collection[str]) -> Collection[str]:
        """Of these objects, those that are not garbage: a landing of theirs waits to be offered.

        Or was offered, and what is to become of it waits for a decision: its bytes may be needed.
        """
        rows = self._database.read(
            "SELECT DISTINCT object_id FROM landings"
            " WHERE object_id IN (SELECT value FROM json_each(?))"
            " AND (offered_at_ms IS NULL OR EXISTS (SELECT 1 FROM loads WHERE"
            " loads.landing_id = landings.landing_id AND loads.status = 'AWAITING_DECISION'))",
            (msgspec.json.encode(list(object_ids)).decode(),),
        )
        return {str(row[0]) for row in rows}

    def family_loads(self, landing: Landing) -> Sequence[PipeLoad]:
        """Loads of the bytes under any name: of the landing that brought them, and of its renames.

        A renamed landing is offered only to pipes that are not among these (design §8). Errors come
        without their texts.
        """
        origin = landing.origin_landing_id or landing.landing_id
        rows = self._database.read(
            f"SELECT {_LOAD_COLUMNS} FROM loads WHERE landing_id = ? OR landing_id IN"  # noqa: S608
            " (SELECT landing_id FROM landings WHERE origin_landing_id = ?)",
            (origin, origin),
        )
        return [_load(row) for row in rows]

    def successor(self, landing: Landing) -> Landing | None:
        """The rename that last gave this landing's object another key, if there was one."""
        origin = landing.origin_landing_id or landing.landing_id
        rows = self._database.read(
            f"{_SELECT_LANDING} WHERE origin_landing_id = ?"  # noqa: S608
            " AND seq > (SELECT seq FROM landings WHERE landing_id = ?) ORDER BY seq DESC LIMIT 1",
            (origin, landing.landing_id),
        )
        return Landing(*rows[0]) if rows else None

    # -- for people -----------------------------------------------------------------------------

    def receipts(
        self,
        limit: int,
        *,
        user_name: str | None = None,
        status: LoadStatus | None = None,
        before: str | None = None,
        kinds: Sequence[LandingKind] = FILE_KINDS,
    ) -> Sequence[Receipt]:
        """Receipts, newest first, of files unless ``kinds`` says otherwise.

        ``before`` is the last landing id of the page before; ``status`` keeps the receipts with
        such a load, PENDING those that were not offered yet as well.
        """
        conditions = ["kind IN (SELECT value FROM json_each(?))"]
        values: list[str] = [msgspec.json.encode(kinds).decode()]
        if user_name is not None:
            conditions.append("user_name = ?")
            values.append(user_name)
        if before is not None:
            conditions.append("seq < (SELECT seq FROM landings WHERE landing_id = ?)")
            values.append(before)
        if status is not None:
            loaded = "landing_id IN (SELECT landing_id FROM loads WHERE status = ?)"
            conditions.append(
                f"({loaded} OR offered_at_ms IS NULL)" if status == "PENDING" else loaded
            )
            values.append(status)
        rows = self._database.read(
            f"SELECT {', '.join(_LANDING_COLUMNS)}, offered_at_ms FROM landings"  # noqa: S608
            f" WHERE {' AND '.join(conditions)} ORDER BY seq DESC LIMIT ?",
            (*values, limit),
        )
        return self._receipts(rows)

    def receipt(self, landing_id: str) -> Receipt | None:
        """The receipt of that id, or of the one id that begins so; None if there is none.

        Raises:
            UsageError: several ids begin so.
        """
        low = landing_id.upper()
        if not low or len(low) > ULID_CHARS or any(char not in _CROCKFORD for char in low):
            return None
        rows = self._database.read(
            f"SELECT {', '.join(_LANDING_COLUMNS)}, offered_at_ms FROM landings"  # noqa: S608
            " WHERE landing_id >= ? AND landing_id <= ? ORDER BY landing_id LIMIT 2",
            (low, low.ljust(ULID_CHARS, "Z")),
        )
        if len(rows) > 1:
            raise UsageError(
                f"several receipts begin with `{landing_id}`",
                hint=f"`{rows[0][0]}` and `{rows[1][0]}` do",
            )
        return self._receipts(rows)[0] if rows else None

    def counts(self) -> Mapping[str, int]:
        """``LANDINGS`` (files in all), ``PENDING`` (not offered yet), and loads by status."""
        files, pending = self._database.read(
            "SELECT (SELECT COUNT(*) FROM landings WHERE kind <> 'mkdir'),"
            " (SELECT COUNT(*) FROM landings WHERE offered_at_ms IS NULL)"
        )[0]
        found = {"LANDINGS": int(files), "PENDING": int(pending)}
        for status, count in self._database.read(
            "SELECT status, COUNT(*) FROM loads GROUP BY status"
        ):
            found[status] = found.get(status, 0) + int(count)
        return found

    def _receipts(self, rows: Sequence[tuple[Any, ...]]) -> Sequence[Receipt]:
        landing_ids = [row[0] for row in rows]
        loads: dict[str, list[PipeLoad]] = {landing_id: [] for landing_id in landing_ids}
        for row in self._database.read(
            f"SELECT {_LOAD_COLUMNS} FROM loads WHERE landing_id IN"  # noqa: S608
            " (SELECT value FROM json_each(?)) ORDER BY landing_id, pipe",
            (msgspec.json.encode(landing_ids).decode(),),
        ):
            loads[row[0]].append(self._unsealed(row))
        return [
            Receipt(Landing(*row[:-1]), tuple(loads[row[0]]), offered=row[-1] is not None)
            for row in rows
        ]

    def _unsealed(self, row: tuple[Any, ...]) -> PipeLoad:
        """A load with the texts of its errors, or with the reason why they cannot be shown."""
        load, sealed = _load(row), row[-1]
        if sealed is None or self._sealer is None:
            return load
        try:
            errors = unseal_errors(self._sealer, sealed, load.landing_id, load.pipe)
        except CouldNot as error:
            return replace(load, errors_sealed=error.message)
        return replace(load, errors=errors)


def _load(row: tuple[Any, ...]) -> PipeLoad:
    errors = msgspec.json.decode(row[8], type=tuple[RowError, ...])
    return PipeLoad(*(*row[:8], errors, *row[9:11]))
