"""Every error that crosses a package boundary.

::

    FeedgateError            what failed, where, and the next step
    ├── UsageError           the command's words are off (exit 2)
    ├── DefinitionError      template, script, policy or key is at fault; every finding (exit 1)
    ├── AccessDenied         the judge refused; carries the decision (exit 1)
    ├── NotFound             no such user, object, receipt, pipe (exit 1)
    ├── Conflict             it exists already, or is not empty (exit 1)
    ├── Unsupported          legal, but not done here (exit 1)
    ├── LoadError            a file could not become rows (exit 1)
    └── CouldNot             not running, network, disk (exit 4)
        ├── NoSpace          the floor of free space is reached
        └── Integrity        stored bytes or rows do not verify

Misuse by our own code is an assertion, never one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "AccessDenied",
    "Conflict",
    "CouldNot",
    "DefinitionError",
    "FeedgateError",
    "Finding",
    "Integrity",
    "LoadError",
    "NoSpace",
    "NotFound",
    "RowError",
    "Source",
    "Unsupported",
    "UsageError",
]


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """A place in one of the author's files. Lines and columns count from 1; 0 means unknown."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = self.file
        if self.line:
            place += f":{self.line}"
            if self.column:
                place += f":{self.column}"
        return place


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, warning or remark about a definition.

    ``severity``: ``error`` ends ``up``; ``warning`` is a likely mistake; ``ignored`` has no effect
    on a local run and says why.
    """

    severity: Literal["error", "warning", "ignored"]
    message: str
    source: Source | None = None
    resource: str | None = None
    hint: str | None = None
    rule: str | None = None

    def __str__(self) -> str:
        parts = [str(self.source)] if self.source else []
        if self.resource:
            parts.append(f"`{self.resource}`")
        parts.append(self.message)
        return ": ".join(parts)


class FeedgateError(Exception):
    """Base of all. ``message``: lower case, one line, input in backticks; ``hint``: what next."""

    exit_code = 1

    def __init__(
        self, message: str, *, source: Source | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.source = source
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.source}: {self.message}" if self.source else self.message


class UsageError(FeedgateError):
    """The command's words are off."""

    exit_code = 2


class DefinitionError(FeedgateError):
    """The definition is at fault; ``findings`` holds every fault, not only the first."""

    def __init__(self, findings: Sequence[Finding], *, hint: str | None = None) -> None:
        count = len(findings)
        super().__init__(
            str(findings[0]) if count == 1 else f"{count} faults in the definition", hint=hint
        )
        self.findings = tuple(findings)


class AccessDenied(FeedgateError):
    """The judge refused. ``decision`` is the ``iam.Decision`` that says which statement and why."""

    def __init__(self, message: str, *, decision: Any = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.decision = decision


class NotFound(FeedgateError):
    """There is no such thing."""


class Conflict(FeedgateError):
    """It exists already, is not empty, or was changed meanwhile."""


class Unsupported(FeedgateError):
    """Legal in the field's standards, but not done here."""


@dataclass(frozen=True, slots=True)
class RowError:
    """Where and why a record was refused. Positions count from 1; 0 means unknown."""

    message: str
    line: int = 0
    character: int = 0
    row: int = 0
    column_name: str | None = None
    code: str | None = None


class LoadError(FeedgateError):
    """A file could not become rows; ``errors`` are the row errors found, in file order."""

    def __init__(self, message: str, errors: Sequence[RowError] = (), **kw: Any) -> None:
        super().__init__(message, **kw)
        self.errors = tuple(errors)


class CouldNot(FeedgateError):
    """The surroundings did not allow it: not running, network, disk."""

    exit_code = 4


class NoSpace(CouldNot):
    """Free space is below the floor; reads, loads and receipts go on."""


class Integrity(CouldNot):
    """Stored bytes or rows do not verify against their authentication tag."""
