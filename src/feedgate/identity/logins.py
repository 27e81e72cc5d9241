"""Who logged in and who was refused: one row for each cause, address and user, with its count.

The table answers "a supplier cannot connect" also after a restart, and what a stranger does to it
is bounded: a row counts however often the same happens, each class of rows has room of its own (so
that refusals never displace logins, nor names that nobody has those of users), and an address has
room for ``LOGINS_PER_ADDRESS_MAX`` invented names. What is older than ``LOGINS_KEPT_S`` goes.

An address is counted as ``gateway.admission.source_of`` says, a /64 of IPv6 as one; ``source_ip``
is the last one seen of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from feedgate.database import Database, Transaction
from feedgate.database.engine import Migration
from feedgate.identity.refusals import RefusalCause
from feedgate.limits import (
    FINGERPRINTS_TOLD_MAX,
    LOGINS_KEPT_MAX,
    LOGINS_KEPT_S,
    LOGINS_PER_ADDRESS_MAX,
)

__all__ = ["MIGRATIONS", "LoginRecord", "LoginStore"]

MIGRATIONS = (
    Migration(
        "logins",
        1,
        """
        CREATE TABLE logins (
            source TEXT NOT NULL,
            user_name TEXT NOT NULL,
            cause TEXT NOT NULL,
            class INTEGER NOT NULL,
            source_ip TEXT NOT NULL,
            count INTEGER NOT NULL,
            first_at_ms INTEGER NOT NULL,
            last_at_ms INTEGER NOT NULL,
            method TEXT NOT NULL,
            fingerprints TEXT NOT NULL,
            client_version TEXT NOT NULL,
            detail TEXT NOT NULL,
            PRIMARY KEY (source, user_name, cause)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX logins_by_time ON logins (class, last_at_ms);
        CREATE INDEX logins_by_user ON logins (user_name, last_at_ms);
        CREATE TABLE pardons (source TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
        """,
    ),
)

_ACCEPTED, _OF_USER, _OF_STRANGER = range(3)  # classes; each has room of its own
_SLACK: Final = 1.1  # what is too much goes many rows at a time


@dataclass(frozen=True, slots=True)
class LoginRecord:
    """``count`` connections of one kind. ``cause`` None: they logged in; times are Unix seconds.

    What varies among them is that of the last one: method, keys offered, client, detail.
    """

    cause: RefusalCause | None
    source: str
    user_name: str
    source_ip: str
    count: int
    first_at: float
    last_at: float
    method: str = ""
    fingerprints: tuple[str, ...] = ()
    client_version: str = ""
    detail: str = ""

    def followed_by(self, later: LoginRecord) -> LoginRecord:
        """Both as one."""
        return replace(later, count=self.count + later.count, first_at=self.first_at)


_SELECT: Final = """
    SELECT cause, source, user_name, source_ip, count, first_at_ms, last_at_ms, method,
        fingerprints, client_version, detail
    FROM logins WHERE last_at_ms >= ?
"""
_UPSERT: Final = """
    INSERT INTO logins (
        cause, source, user_name, source_ip, count, first_at_ms, last_at_ms, method,
        fingerprints, client_version, detail, class
    ) VALUES (
        ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,
        CASE WHEN ?1 = '' THEN 0  -- the classes above
             WHEN EXISTS (SELECT 1 FROM users WHERE user_name = ?3) THEN 1
             ELSE 2 END
    ) ON CONFLICT (source, user_name, cause) DO UPDATE SET
        class = excluded.class, source_ip = excluded.source_ip, count = count + excluded.count,
        last_at_ms = excluded.last_at_ms, method = excluded.method,
        fingerprints = excluded.fingerprints, client_version = excluded.client_version,
        detail = excluded.detail
"""
_SURPLUS: Final = """
    DELETE FROM logins WHERE (source, user_name, cause) IN (
        SELECT source, user_name, cause FROM logins WHERE class = ?1
        ORDER BY last_at_ms DESC LIMIT -1 OFFSET ?2
    )
"""
_SURPLUS_OF_ADDRESS: Final = """
    DELETE FROM logins WHERE (source, user_name, cause) IN (
        SELECT source, user_name, cause FROM logins WHERE source = ?1 AND class = ?2
        ORDER BY last_at_ms DESC LIMIT -1 OFFSET ?3
    )
"""


class LoginStore:
    """The table. Thread-safe; blocking."""

    def __init__(
        self,
        database: Database,
        *,
        now: Callable[[], float] = time.time,
        kept_max: int = LOGINS_KEPT_MAX,
    ) -> None:
        self._database = database
        self._now = now
        self._kept_max = kept_max

    def add(self, records: Sequence[LoginRecord]) -> None:
        """Count them in, in one transaction, and drop what is old or too much."""

        def write(tx: Transaction) -> None:
            tx.executemany(_UPSERT, (_row(record) for record in records))
            oldest_ms = int((self._now() - LOGINS_KEPT_S) * 1000)
            for kind in (_ACCEPTED, _OF_USER, _OF_STRANGER):
                tx.execute(
                    "DELETE FROM logins WHERE class = ? AND last_at_ms < ?", (kind, oldest_ms)
                )
                [[count]] = tx.execute("SELECT count(*) FROM logins WHERE class = ?", (kind,))
                if count > self._kept_max * _SLACK:
                    tx.execute(_SURPLUS, (kind, self._kept_max))
            for source in {record.source for record in records}:
                tx.execute(_SURPLUS_OF_ADDRESS, (source, _OF_STRANGER, LOGINS_PER_ADDRESS_MAX))

        self._database.write_now(write)

    def list(
        self,
        *,
        user_name: str | None = None,
        source: str | None = None,
        failed: bool = False,
        since: float = 0.0,
        count_max: int = LOGINS_KEPT_MAX,
    ) -> Sequence[LoginRecord]:
        """The last ``count_max`` records, newest first.

        ``failed`` leaves out who logged in; ``since`` (Unix time) what ended before.
        """
        sql = _SELECT
        parameters: list[str | int] = [int(since * 1000)]
        if user_name is not None:
            sql += " AND user_name = ?"
            parameters.append(user_name)
        if source is not None:
            sql += " AND source = ?"
            parameters.append(source)
        if failed:
            sql += " AND cause != ''"
        sql += " ORDER BY last_at_ms DESC LIMIT ?"
        rows = self._database.read(sql, (*parameters, count_max))
        return [_record(row) for row in rows]

    # -- pardons: an operator's word to a running supervisor --------------------------------------

    def pardon(self, source: str) -> None:
        """Ask the gateway to forget the failures of an address."""

        def write(tx: Transaction) -> None:
            tx.execute("INSERT OR IGNORE INTO pardons VALUES (?)", (source,))
            tx.execute(
                "DELETE FROM logins WHERE source = ? AND cause = ?",
                (source, RefusalCause.RATE_LIMITED.value),
            )

        self._database.write_now(write)

    def take_pardons(self) -> Sequence[str]:
        """The addresses to pardon; each is told once."""
        if not self._database.read("SELECT 1 FROM pardons LIMIT 1"):
            return ()
        rows = self._database.write_now(lambda tx: tx.execute("DELETE FROM pardons RETURNING *"))
        return [str(row[0]) for row in rows]


def _row(record: LoginRecord) -> tuple[Any, ...]:
    return (
        record.cause.value if record.cause is not None else "",
        record.source,
        record.user_name,
        record.source_ip,
        record.count,
        int(record.first_at * 1000),
        int(record.last_at * 1000),
        record.method,
        msgspec.json.encode(record.fingerprints[:FINGERPRINTS_TOLD_MAX]).decode(),
        record.client_version,
        record.detail,
    )


def _record(row: Iterable[Any]) -> LoginRecord:
    cause, source, user_name, source_ip, count, first_ms, last_ms, method, prints, *rest = row
    return LoginRecord(
        RefusalCause(cause) if cause else None,
        source,
        user_name,
        source_ip,
        count,
        first_ms / 1000,
        last_ms / 1000,
        method,
        tuple(msgspec.json.decode(prints)),
        *rest,
    )
