"""DuckDB's exceptions in our terms: one map, whose completeness a test checks.

``retry``: the surroundings were at fault, nothing was changed, the same again may succeed.
``refuse``: the request is at fault, whoever made it. ``broken``: the instance is unusable and is
opened again. Messages may hold values of rows, so they never go to a log as they are.
"""

from __future__ import annotations

from typing import Final, Literal

import duckdb

from feedgate.errors import CouldNot, FeedgateError, LoadError, NoSpace, RowError
from feedgate.pipes.warehouse import OutOfMemory

__all__ = ["FAULTS", "Kind", "kind_of", "of_data", "of_opening"]

Kind = Literal["retry", "refuse", "broken"]

FAULTS: Final[dict[type[duckdb.Error], Kind]] = {
    duckdb.Error: "retry",
    duckdb.BinderException: "refuse",
    duckdb.CatalogException: "refuse",
    duckdb.ConnectionException: "broken",
    duckdb.ConstraintException: "refuse",
    duckdb.ConversionException: "refuse",
    duckdb.DataError: "refuse",
    duckdb.DatabaseError: "retry",
    duckdb.DependencyException: "refuse",
    duckdb.FatalException: "broken",
    duckdb.HTTPException: "retry",
    duckdb.IOException: "retry",
    duckdb.IntegrityError: "refuse",
    duckdb.InternalError: "broken",
    duckdb.InternalException: "broken",
    duckdb.InterruptException: "retry",
    duckdb.InvalidInputException: "refuse",
    duckdb.InvalidTypeException: "refuse",
    duckdb.NotImplementedException: "refuse",
    duckdb.NotSupportedError: "refuse",
    duckdb.OperationalError: "retry",
    duckdb.OutOfMemoryException: "retry",
    duckdb.OutOfRangeException: "refuse",
    duckdb.ParserException: "refuse",
    duckdb.PermissionException: "refuse",
    duckdb.ProgrammingError: "refuse",
    duckdb.SequenceException: "refuse",
    duckdb.SerializationException: "retry",
    duckdb.SyntaxException: "refuse",
    duckdb.TransactionException: "retry",
    duckdb.TypeMismatchException: "refuse",
}


def kind_of(error: duckdb.Error) -> Kind:
    """The row of the nearest class."""
    for each in type(error).__mro__:
        if each in FAULTS:
            return FAULTS[each]
    return "retry"


def of_data(error: duckdb.Error) -> FeedgateError:
    """A fault while loading: the file's if DuckDB refused a value, else the surroundings'."""
    if kind_of(error) == "refuse":
        # the text may hold values, so it is a row error, which stays on the receipt
        return LoadError("the warehouse refused the file", (RowError(_first_line(str(error))),))
    text = str(error)
    if isinstance(error, duckdb.OutOfMemoryException):
        return OutOfMemory("the warehouse has no memory left")
    if "No space left" in text:
        return NoSpace("the warehouse has no space left on its disk")
    return CouldNot(f"the warehouse could not do it: {_first_line(text)}")


def of_opening(error: duckdb.Error, name: str) -> FeedgateError:
    """A fault while opening database ``name``."""
    text = str(error)
    if "lock" in text.lower():
        return CouldNot(
            f"database `{name}` is open in another process",
            hint="`feedgate status` shows whether a gateway runs in this data folder",
        )
    if "encryption key" in text.lower():
        return CouldNot(
            f"database `{name}` does not open with this KMS key: it was made with another"
        )
    return CouldNot(f"database `{name}` cannot be opened: {_first_line(text)}")


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0]
