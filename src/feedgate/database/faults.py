"""What SQLite can go wrong with, as this project's errors: one row per apsw exception class.

A class mapped to None is misuse by our own code (or a stop asked for by it) and passes unchanged.
"""

from __future__ import annotations

from typing import Final

import apsw

from feedgate.errors import Conflict, CouldNot, FeedgateError, Integrity, NoSpace

__all__ = ["APSW_FAULTS", "translated"]

APSW_FAULTS: Final[dict[type[Exception], type[FeedgateError] | None]] = {
    # the surroundings
    apsw.FullError: NoSpace,
    apsw.IOError: CouldNot,
    apsw.CantOpenError: CouldNot,
    apsw.ReadOnlyError: CouldNot,
    apsw.PermissionsError: CouldNot,
    apsw.BusyError: CouldNot,
    apsw.LockedError: CouldNot,
    apsw.ProtocolError: CouldNot,
    apsw.NoMemError: CouldNot,
    apsw.NoLFSError: CouldNot,
    apsw.AuthError: CouldNot,
    # stored bytes
    apsw.CorruptError: Integrity,
    apsw.NotADBError: Integrity,
    apsw.FormatError: Integrity,
    # a row that must not be
    apsw.ConstraintError: Conflict,
    # our own code
    apsw.Error: None,
    apsw.AbortError: None,
    apsw.BindingsError: None,
    apsw.ConnectionClosedError: None,
    apsw.ConnectionNotClosedError: None,
    apsw.CursorClosedError: None,
    apsw.EmptyError: None,
    apsw.ExecTraceAbort: None,
    apsw.ExecutionCompleteError: None,
    apsw.ExtensionLoadingError: None,
    apsw.ForkingViolationError: None,
    apsw.IncompleteExecutionError: None,
    apsw.InternalError: None,
    apsw.InterruptError: None,
    apsw.InvalidContextError: None,
    apsw.MismatchError: None,
    apsw.MisuseError: None,
    apsw.NoFTS5Error: None,
    apsw.NotFoundError: None,
    apsw.RangeError: None,
    apsw.SQLError: None,
    apsw.SchemaChangeError: None,
    apsw.ThreadingViolationError: None,
    apsw.TooBigError: None,
    apsw.VFSFileClosedError: None,
    apsw.VFSNotImplementedError: None,
}

_WORDS: Final[dict[type[FeedgateError], str]] = {
    NoSpace: "no space left for the database",
    Integrity: "the database file is damaged",
    Conflict: "the row exists already or breaks a rule",
    CouldNot: "the database could not be read or written",
}


class _Translated:
    """``with translated:`` raises our error in place of apsw's, SQLite's words after a colon.

    A class without state, because it stands around every statement and a generator costs 3 us.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, apsw.Error):
            kind = APSW_FAULTS.get(type(error))
            if kind is not None:
                raise kind(f"{_WORDS[kind]}: {error}") from error


translated: Final = _Translated()
