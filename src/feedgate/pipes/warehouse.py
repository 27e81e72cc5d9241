"""The Warehouse protocol: where pipes load to, and where an operator's queries go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from feedgate.errors import CouldNot, Finding, RowError
from feedgate.ledger.receipts import Landing, LoadStatus
from feedgate.stack.warehouse import Pipe
from feedgate.stack.warehouse import Warehouse as Declared

__all__ = [
    "Applied",
    "History",
    "LoadRequest",
    "LoadResult",
    "OutOfMemory",
    "QueryResult",
    "Warehouse",
    "load_identity",
]


class OutOfMemory(CouldNot):
    """The warehouse's memory did not suffice: the same again may fail for ever."""


def load_identity(landing: Landing) -> str:
    """What makes two loads the same: the landing that brought the bytes, whatever their name."""
    return landing.origin_landing_id or landing.landing_id


def _nothing() -> None:
    """No crash point."""


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """One landing for one pipe.

    ``chunks`` are the object's bytes as the pipe's integration may read them, taken once;
    ``now`` is a clock in Unix seconds. ``before_commit`` is called when all is written and nothing
    is visible yet.
    """

    pipe: Pipe
    landing: Landing
    chunks: Iterable[bytes] = field(compare=False)
    now: Callable[[], float] = field(compare=False)
    before_commit: Callable[[], None] = field(default=_nothing, compare=False)


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What became of a load, as COPY reports it.

    ``errors`` are the first ``limits.LOAD_ERRORS_KEPT_MAX`` of ``errors_seen`` refused records, in
    file order; their messages hold the supplier's values, so they go to receipts and never to logs.
    ``message`` holds no value.
    """

    status: LoadStatus
    rows_parsed: int
    rows_loaded: int
    errors_seen: int
    loaded_at_ms: int
    message: str | None = None
    errors: tuple[RowError, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """What a pipe knows about a landing and about its key.

    ``result``: this landing was tried already. ``loaded_sha256``: the bytes that the pipe last
    loaded, at least in part, from an object of that bucket and key; None if it never did.
    """

    result: LoadResult | None = None
    loaded_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Rows of str, int, float, Decimal, bool or None; ``types`` are the warehouse's names.

    ``truncated``: there are more rows than ``limits.QUERY_ROWS_MAX``.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Applied:
    """What was taken up: the declaration with its tables as they are, and a finding for each column
    that was refused."""

    declared: Declared
    refused: tuple[Finding, ...] = ()


class Warehouse(Protocol):
    """Databases, tables, rows and the load history that lies beside them.

    Forms: ``DuckDBWarehouse``; Snowflake later. One thread loads, another may query. A fault of the
    surroundings is ``errors.CouldNot``: nothing was changed, the caller may try again. Any other
    error is final.
    """

    def apply(self, declared: Declared) -> Applied:
        """Make what is declared and not there; keep all else. May be called again and again.

        A column that cannot become what is declared without losing values keeps its type, or stays
        away; all else is done.

        Raises:
            DefinitionError: a pipe cannot do without such a column; nothing was changed.
        """
        ...

    def history(self, pipe: Pipe, landing: Landing) -> History:
        """What the pipe's load history says."""
        ...

    def load(self, request: LoadRequest) -> LoadResult:
        """Load one landing: rows, history and the fence's check in one commit, or nothing.

        A second load of the same (pipe, ``load_identity``) changes nothing and returns the recorded
        result. A file that cannot be loaded is a result, recorded likewise. What ``chunks`` raises
        passes through and leaves nothing.

        Raises:
            OutOfMemory: nothing was changed.
            CouldNot: likewise, for another fault of the surroundings.
        """
        ...

    def query(self, sql: str) -> QueryResult:
        """Run one SELECT (or DESCRIBE, SHOW, EXPLAIN) that can change and read nothing else.

        Raises:
            UsageError: the query is at fault or not allowed.
            CouldNot: it took longer than ``limits.QUERY_TIMEOUT_S``.
        """
        ...

    def close(self) -> None:
        """Idempotent."""
        ...
