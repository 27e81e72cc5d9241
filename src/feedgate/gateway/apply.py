"""Applying a definition: the difference to what was applied last, and nothing else.

A change that deletes or replaces what holds data waits for ``yes``: the last good definition goes
on being served, and what waits is remembered for ``feedgate status``.

A KMS key that leaves the stack is retained in the keyring while anything is wrapped by it, as
``DeletionPolicy: Retain`` would, so what it wraps stays readable; one that wraps nothing is pending
deletion for its window. The application after the last object went finds it unused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from feedgate.database import Database, Transaction
from feedgate.errors import FeedgateError
from feedgate.gateway.changes import Change, difference
from feedgate.gateway.definition import Definition, DefinitionStore
from feedgate.gateway.folder import DataFolder
from feedgate.gateway.queries import ask
from feedgate.gateway.sealing import DEFAULT_KMS_KEY, sealed_under
from feedgate.identity.store import UserStore
from feedgate.kms.keyring import Keyring
from feedgate.storage.index import count_wrapped

__all__ = ["Outcome", "apply_definition"]

_PENDING_WINDOW_DAYS: Final = 30  # AWS::KMS::Key, PendingWindowInDays where it is not given


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an application did: ``changes`` in all; ``waiting`` of them need the operator's word."""

    changes: tuple[Change, ...]
    waiting: tuple[Change, ...] = ()
    first: bool = False

    @property
    def refused(self) -> tuple[Change, ...]:
        """Changes of columns whose values stand in the way; all else was applied without them."""
        return tuple(change for change in self.changes if change.refused)

    @property
    def applied(self) -> bool:
        return not self.waiting


def apply_definition(
    folder: DataFolder, database: Database, definition: Definition, *, yes: bool, now_ms: int
) -> Outcome:
    """Make a checked definition the served one, whole or not at all.

    Raises:
        DefinitionError: it has faults; nothing was changed.
    """
    definition.require_good()
    store = DefinitionStore(database)
    before = store.applied()
    served = None if before is None else (before.stack, before.warehouse)
    changes = difference(served, (definition.stack, definition.warehouse))
    if before is not None:
        changes = _told_what_is_wrapped(database, changes, before, definition)
        changes = tuple(_told_what_is_stored(folder, change) for change in changes)
    waiting = tuple(change for change in changes if change.destructive)
    if waiting and not yes:
        pending = tuple(str(change) for change in waiting)
        database.write_now(lambda tx: store.set_pending(tx, pending))
        return Outcome(changes, waiting)
    if before is not None and not changes and before == definition:
        if store.pending():  # the author took the change back
            database.write_now(lambda tx: store.set_pending(tx, ()))
        _settle_former_kms_keys(folder, database, before, definition, now_ms)
        return Outcome(())
    _ensure_kms_keys(folder, definition, now_ms)
    users = UserStore(database)

    def commit(tx: Transaction) -> None:
        users.apply_template(tx, definition.stack.users)
        store.apply(tx, definition, now_ms)

    database.write_now(commit)
    _settle_former_kms_keys(folder, database, before, definition, now_ms)
    return Outcome(changes, first=before is None)


def _ensure_kms_keys(folder: DataFolder, definition: Definition, now_ms: int) -> None:
    """Keys first: an object must never be written under a KMS key that is not on disk yet."""
    keyring = (
        Keyring.open(folder.keyring) if folder.keyring.exists() else Keyring.create(folder.keyring)
    )
    keyring.ensure(DEFAULT_KMS_KEY, enable_rotation=False, now_ms=now_ms)
    for key in definition.stack.kms_keys.values():
        keyring.ensure(key.arn, enable_rotation=key.enable_key_rotation, now_ms=now_ms)


def _settle_former_kms_keys(
    folder: DataFolder,
    database: Database,
    before: Definition | None,
    definition: Definition,
    now_ms: int,
) -> None:
    """Retain each KMS key that is in no stack any more but in use; schedule what is not.

    After the commit and at every application, changed or not: one whose last object went meanwhile
    is scheduled then, and one that an upload under way still used is taken back.
    """
    windows: Mapping[str, int] = {}
    if before is not None:
        windows = {arn: key.pending_window_days for arn, key in before.stack.kms_keys.items()}
    keyring = Keyring.open(folder.keyring)
    for arn, info in keyring.kms_keys().items():
        if arn == DEFAULT_KMS_KEY or arn in definition.stack.kms_keys:
            continue
        if _wrapped_by(database, arn):
            keyring.cancel_deletion(arn)
        elif info.state != "PendingDeletion":
            days = windows.get(arn, _PENDING_WINDOW_DAYS)
            keyring.schedule_deletion(arn, days=days, now_ms=now_ms)


def _told_what_is_wrapped(
    database: Database, changes: tuple[Change, ...], before: Definition, definition: Definition
) -> tuple[Change, ...]:
    """The changes, with what each KMS key that leaves still wraps; each such change waits."""
    leaving = {
        key.logical_id: key
        for arn, key in before.stack.kms_keys.items()
        if arn not in definition.stack.kms_keys
    }
    told: list[Change] = []
    for change in changes:
        key = leaving.get(change.name) if change.kind == "AWS::KMS::Key" else None
        if key is None:
            told.append(change)
            continue
        if wrapped := _wrapped_by(database, key.arn):
            detail = f"wraps {wrapped}: kept in the keyring until nothing refers to it"
            if "object" in wrapped:  # AWS asks the KMS key that wraps an object, not the bucket's
                detail += f"; only roles whose policies name `{key.arn}` still read them"
        else:
            detail = f"wraps nothing: pending deletion for {key.pending_window_days} days"
        told.append(replace(change, destructive=True, detail=detail))
    return tuple(told)


def _told_what_is_stored(folder: DataFolder, change: Change) -> Change:
    """The change, with what the warehouse holds that stands in its way, if a gateway can say.

    Otherwise the loader finds out when it takes the definition up, and `feedgate status` tells.
    """
    if change.column is None or (question := change.column.question) is None:
        return change
    try:
        answer = ask(folder.query_socket, question)
    except FeedgateError:
        answer = None
    if answer is None:
        return replace(change, detail="done if nothing is stored there; `feedgate status` tells")
    if count := change.column.in_the_way(answer.rows[0]):
        what = "values are" if change.column.kind == "retyped" else "rows are"
        detail = f"{count} {what} stored: not done, the column stays as it was, all else goes on"
        return replace(change, detail=detail, refused=True)
    return replace(change, detail="nothing is in the way: done")


def _wrapped_by(database: Database, kms_key_arn: str) -> str:
    """What a KMS key still wraps, in words; empty when it is not in use."""
    count = count_wrapped(database.read, kms_key_arn)
    objects = (f"{count} object{'' if count == 1 else 's'}",) if count else ()
    return " and ".join((*objects, *sealed_under(database, kms_key_arn)))
