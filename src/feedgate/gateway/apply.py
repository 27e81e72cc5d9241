"""Applying a definition: the difference to what was applied last, and nothing else.

A change that deletes or replaces what holds data waits for ``yes``: the last good definition goes
on being served, and what waits is remembered for ``feedgate status``.
"""

from __future__ import annotations

from dataclasses import dataclass

from feedgate.database import Database, Transaction
from feedgate.gateway.changes import Change, difference
from feedgate.gateway.definition import Definition, DefinitionStore
from feedgate.gateway.folder import DataFolder
from feedgate.gateway.services import DEFAULT_KMS_KEY
from feedgate.identity.store import UserStore
from feedgate.kms.keyring import Keyring

__all__ = ["Outcome", "apply_definition"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an application did: ``changes`` in all; ``waiting`` of them need the operator's word."""

    changes: tuple[Change, ...]
    waiting: tuple[Change, ...] = ()
    first: bool = False

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
    waiting = tuple(change for change in changes if change.destructive)
    if waiting and not yes:
        pending = tuple(str(change) for change in waiting)
        database.write_now(lambda tx: store.set_pending(tx, pending))
        return Outcome(changes, waiting)
    if before is not None and not changes and before == definition:
        if store.pending():  # the author took the change back
            database.write_now(lambda tx: store.set_pending(tx, ()))
        return Outcome(())
    _ensure_kms_keys(folder, before, definition, now_ms)
    users = UserStore(database)

    def commit(tx: Transaction) -> None:
        users.apply_template(tx, definition.stack.users)
        store.apply(tx, definition, now_ms)

    database.write_now(commit)
    return Outcome(changes, first=before is None)


def _ensure_kms_keys(
    folder: DataFolder, before: Definition | None, definition: Definition, now_ms: int
) -> None:
    """Keys first: an object must never be written under a KMS key that is not on disk yet."""
    keyring = (
        Keyring.open(folder.keyring) if folder.keyring.exists() else Keyring.create(folder.keyring)
    )
    keyring.ensure(DEFAULT_KMS_KEY, enable_rotation=False, now_ms=now_ms)
    for key in definition.stack.kms_keys.values():
        keyring.ensure(key.arn, enable_rotation=key.enable_key_rotation, now_ms=now_ms)
    if before is None:
        return
    for arn, key in before.stack.kms_keys.items():
        if arn not in definition.stack.kms_keys:
            keyring.schedule_deletion(arn, days=key.pending_window_days, now_ms=now_ms)
