"""Changing one user: in users.json and from there in the gateway, or in the gateway alone.

A change in users.json is applied with the stack. A stack of which something waits for the
operator's word is not applied at all, but a lost SSH key must stop working now: the change to this
user is then made live, and is no drift any more once the stack is applied.

Invariant: what is reported as done was read back from the gateway's users.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from feedgate.errors import Conflict, FeedgateError, NotFound
from feedgate.gateway.apply import Outcome, apply_definition
from feedgate.gateway.definition import Definition, DefinitionStore
from feedgate.gateway.folder import DataFolder, write_atomically
from feedgate.gateway.reading import RunValues, read_definition
from feedgate.gateway.rendering import find_template
from feedgate.gateway.services import open_database
from feedgate.identity.store import UserStore
from feedgate.identity.users import GatewayUser
from feedgate.stack.resources import User

__all__ = ["Effect", "UserChange", "change_in_file", "change_live", "find_users_file"]


@dataclass(frozen=True, slots=True)
class UserChange:
    """One change to one user.

    ``edit`` makes it in the text of users.json. ``live`` makes it in the gateway; it is given the
    user as the edited stack has it, None where it has none or was not read. ``holds`` says of the
    served user, None where there is none, whether the change is in effect.
    """

    user_name: str
    edit: Callable[[str], str]
    live: Callable[[UserStore, User | None], None]
    holds: Callable[[GatewayUser | None], bool]


@dataclass(frozen=True, slots=True)
class Effect:
    """What came of a change that was made.

    ``served`` is the user as the gateway has it now. ``is_gateway`` is False where none has run
    yet: the change is in users.json, for the first `up`. ``waiting`` are the changes for whose sake
    the stack was not applied; this one is in effect all the same.
    """

    served: GatewayUser | None
    is_gateway: bool = True
    waiting: tuple[str, ...] = ()


def find_users_file(stack: Path) -> Path | None:
    """``users.json`` beside the template or, for ``templates/``, in the stack's folder.

    None where there is none, or where the template is JSON or YAML and so cannot import it.
    """
    try:
        template = find_template(stack)
    except NotFound:
        return None
    if template.suffix not in (".jsonnet", ".libsonnet"):
        return None
    folder = template.absolute().parent
    folders = [folder, folder.parent] if folder.name == "templates" else [folder]
    files = (folder / "users.json" for folder in folders)
    return next((file for file in files if file.is_file()), None)


def change_live(folder: DataFolder, change: UserChange) -> Effect:
    """Make a change in the gateway alone.

    Raises:
        FeedgateError: what ``change.live`` raises.
        Conflict: it did not take effect.
    """
    with closing(open_database(folder)) as database:
        users = UserStore(database)
        change.live(users, None)
        return Effect(_checked(users, change))


def change_in_file(stack: Path, users_file: Path, folder: DataFolder, change: UserChange) -> Effect:
    """Make a change in users.json and put it into effect.

    Raises:
        FeedgateError: what ``change.edit`` raises, or the stack has faults; users.json is as it
            was.
        Conflict: users.json was changed, and yet the change is not in effect.
    """
    before = users_file.read_text(encoding="utf-8")
    mode = users_file.stat().st_mode & 0o777
    after = change.edit(before)
    write_atomically(users_file, after, mode=mode)
    try:
        if not folder.database.exists():
            read_definition(stack, RunValues(), None).require_good()
            return Effect(None, is_gateway=False)
        database = open_database(folder)
    except BaseException:
        write_atomically(users_file, before, mode=mode)
        raise
    with closing(database):
        previous = DefinitionStore(database).applied()
        try:
            definition = read_definition(stack, RunValues(), previous)
            now_ms = int(time.time() * 1000)
            outcome = apply_definition(folder, database, definition, yes=False, now_ms=now_ms)
        except BaseException:
            write_atomically(users_file, before, mode=mode)
            raise
        users = UserStore(database)
        if not change.holds(users.get(change.user_name)):
            _make_live(users, change, definition, previous, outcome)
        waiting = tuple(str(item) for item in outcome.waiting)
        return Effect(_checked(users, change), waiting=waiting)


def _make_live(
    users: UserStore,
    change: UserChange,
    definition: Definition,
    previous: Definition | None,
    outcome: Outcome,
) -> None:
    user = definition.stack.users.get(change.user_name)
    if user and outcome.waiting and previous and user.role_arn not in previous.stack.roles:
        raise _not_in_effect(change, "his role is new, and the stack was not applied", outcome)
    try:
        change.live(users, user)
    except FeedgateError as error:
        raise _not_in_effect(change, error.message, outcome, hint=error.hint) from error


def _checked(users: UserStore, change: UserChange) -> GatewayUser | None:
    served = users.get(change.user_name)
    if not change.holds(served):
        raise _not_in_effect(change, "the gateway serves the user as before", None)
    return served


def _not_in_effect(
    change: UserChange, why: str, outcome: Outcome | None, *, hint: str | None = None
) -> Conflict:
    waiting = "; ".join(str(item) for item in outcome.waiting) if outcome else ""
    if waiting:
        hint = hint or "`feedgate apply --yes` applies the whole stack"
        why += f"; waiting for --yes: {waiting}"
    return Conflict(f"the change to `{change.user_name}` is NOT in effect: {why}", hint=hint)
