"""Users in the database: the template's rows, and what was changed live on top of them.

Drift is CloudFormation's (User Guide, "Working with stack updates"): an update touches what the
template changed and leaves the rest. So a live change stays until the template changes that very
thing, or ``reset_drift`` is asked for:

- a property (``Role``, ``Policy``, …): until the template gives that property another value;
- an SSH key, one by one, as AWS's own handler of ``SshPublicKeys`` adds and deletes the difference:
  a key removed live comes back only when the template drops it and names it again. Another key's
  arrival must not revive one that somebody took away;
- the user's existence and whether it is enabled: until the template drops the user.

Invariants: the generation rises in the transaction of each change, and only when something changed;
one user is read by one statement, so a reader never sees half a change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from feedgate.database import Database, Transaction
from feedgate.database.engine import Migration
from feedgate.errors import Conflict, NotFound, UsageError
from feedgate.identity.rows import (
    LIVE_PROPERTIES,
    SELECT_USERS,
    Drift,
    UserRow,
    decode_row,
    encode_user,
    served_user,
    user_like,
)
from feedgate.identity.template_users import name_problem, parse_template_users
from feedgate.identity.users import (
    GatewayUser,
    Password,
    SshPublicKey,
    fingerprint_of,
    parse_public_key,
)
from feedgate.stack.resources import User

__all__ = ["LIVE_PROPERTIES", "MIGRATIONS", "Drift", "UserStore"]

MIGRATIONS = (
    Migration(
        "identity",
        1,
        """
        CREATE TABLE identity_generation (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            generation INTEGER NOT NULL
        ) STRICT;
        INSERT INTO identity_generation VALUES (1, 0);
        CREATE TABLE users (
            user_name TEXT PRIMARY KEY,
            origin TEXT NOT NULL CHECK (origin IN ('template', 'live')),
            definition TEXT NOT NULL,
            enabled INTEGER NOT NULL DEFAULT 1,
            removed INTEGER NOT NULL DEFAULT 0,
            changed_at_ms INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE user_overrides (
            user_name TEXT NOT NULL,
            property TEXT NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (user_name, property)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE user_keys (
            user_name TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            type TEXT NOT NULL,
            body TEXT NOT NULL,
            comment TEXT NOT NULL,
            added_at_ms INTEGER NOT NULL,
            origin TEXT NOT NULL CHECK (origin IN ('template', 'live')),
            removed INTEGER NOT NULL DEFAULT 0,
            last_used_at_ms INTEGER,
            PRIMARY KEY (user_name, fingerprint)
        ) STRICT, WITHOUT ROWID;
        """,
    ),
    Migration(
        "identity",
        2,
        """
        ALTER TABLE user_keys ADD COLUMN options TEXT NOT NULL DEFAULT '';
        CREATE TABLE user_passwords (
            user_name TEXT PRIMARY KEY,
            hash TEXT NOT NULL,
            require_key INTEGER NOT NULL,
            changed_at_ms INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        """,
    ),
)


class UserStore:
    """``identity.users.Users`` in SQLite, and the only writer of users. Thread-safe; blocking.

    Methods that take a ``Transaction`` join the caller's; the others commit before they return.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    # -- reading --------------------------------------------------------------------------------

    def get(self, user_name: str) -> GatewayUser | None:
        """The user as served now, disabled ones included; None if unknown or removed."""
        rows = self._database.read(
            SELECT_USERS + "WHERE user_name = ? AND removed = 0", (user_name,)
        )
        return served_user(rows[0]) if rows else None

    def list(self) -> Sequence[GatewayUser]:
        """All users by name, disabled ones included, removed ones not."""
        rows = self._database.read(SELECT_USERS + "WHERE removed = 0 ORDER BY user_name")
        return [decode_row(row).served() for row in rows]

    def refuse_removed(self, user_name: str) -> None:
        """Raises ``Conflict`` with the next step if the template's user was removed live."""
        rows = self._database.read(
            "SELECT 1 FROM users WHERE user_name = ? AND removed = 1", (user_name,)
        )
        if rows:
            raise _removed(user_name)

    def generation(self) -> int:
        """Raised by each change; what was read before is stale when it differs."""
        return int(self._database.read("SELECT generation FROM identity_generation")[0][0])

    def drift(self) -> Sequence[Drift]:
        """Where the served users differ from the template, by user name.

        Live users are no drift: the template never named them.
        """
        rows = self._database.read(SELECT_USERS + "WHERE origin = 'template' ORDER BY user_name")
        return [drift for row in rows for drift in decode_row(row).drift()]

    # -- the template ---------------------------------------------------------------------------

    def apply_template(self, tx: Transaction, users: Mapping[str, User]) -> bool:
        """Take up what the template changed since it was applied last; True if anything did.

        A live user whose name the template now declares becomes the template's and keeps its keys
        as live ones.

        Raises:
            DefinitionError: with every user name or SSH key that cannot be served.
        """
        parsed = parse_template_users(users)
        current = {row.user.user_name: row for row in map(decode_row, tx.execute(SELECT_USERS))}
        changed = False
        for name, user in users.items():
            plain = replace(user, source=None)
            row = current.get(name)
            if row is None or row.origin == "live":
                self._adopt(tx, plain, parsed[name])
            elif row.user != plain:
                self._update(tx, row, plain, parsed[name])
            else:
                continue
            changed = True
        for name, row in current.items():
            if row.origin == "template" and name not in users:
                _forget(tx, name)
                changed = True
        if changed:
            _raise_generation(tx)
        return changed

    def _adopt(self, tx: Transaction, user: User, keys: Mapping[str, SshPublicKey]) -> None:
        tx.execute(
            "INSERT INTO users (user_name, origin, definition, changed_at_ms)"
            " VALUES (?, 'template', ?, ?) ON CONFLICT (user_name) DO UPDATE SET"
            " origin = 'template', definition = excluded.definition,"
            " changed_at_ms = excluded.changed_at_ms",
            (user.user_name, encode_user(user), self._now_ms()),
        )
        for key in keys.values():
            self._put_key(tx, user.user_name, key, origin="template")

    def _update(
        self, tx: Transaction, row: UserRow, user: User, keys: Mapping[str, SshPublicKey]
    ) -> None:
        name = user.user_name
        tx.execute(
            "UPDATE users SET definition = ?, changed_at_ms = ? WHERE user_name = ?",
            (encode_user(user), self._now_ms(), name),
        )
        for field in LIVE_PROPERTIES:
            if getattr(row.user, field) != getattr(user, field):
                tx.execute(
                    "DELETE FROM user_overrides WHERE user_name = ? AND property = ?", (name, field)
                )
        before = {fingerprint_of(text): text for text in row.user.ssh_public_keys}
        for fingerprint in before.keys() - keys.keys() - {None}:
            _delete_key(tx, name, str(fingerprint))
        for fingerprint, key in keys.items():
            if fingerprint not in before:
                self._put_key(tx, name, key, origin="template")
            elif before[fingerprint] != key.line:  # other options; who took it away keeps it away
                tx.execute(
                    "UPDATE user_keys SET options = ?, comment = ?"
                    " WHERE user_name = ? AND fingerprint = ?",
                    (key.options.text, key.comment, name, fingerprint),
                )

    # -- live changes ---------------------------------------------------------------------------

    def add_live(
        self, user_name: str, keys: Sequence[str] = (), *, like: str | None = None
    ) -> None:
        """Add a user that no template names, with role, policy and folders of another one.

        ``like`` names that other; without it the first by name serves. Where a folder is called
        after the other user, the new one's is called after the new user.

        Raises:
            UsageError: the name or a key is not one that AWS Transfer takes.
            NotFound: there is no user to copy from.
            Conflict: there is such a user, or the template's was removed live.
        """
        if like is None:
            served = self.list()
            if not served:
                raise NotFound("there is no user to copy role and folders from")
            model = served[0].user
        else:
            found = self.get(like)
            if found is None:
                raise NotFound(f"there is no user `{like}`", hint="`feedgate user list` shows them")
            model = found.user
        self.add_live_user(user_like(model, user_name, tuple(keys)))

    def add_live_user(self, user: User) -> None:
        """Add a user that no template names, with the keys in ``user.ssh_public_keys``.

        Raises:
            UsageError: the name or a key is not one that AWS Transfer takes.
            Conflict: there is such a user, or the template's was removed live.
        """
        if problem := name_problem(user.user_name):
            raise UsageError(problem)
        keys = [parse_public_key(text) for text in user.ssh_public_keys]

        def add(tx: Transaction) -> None:
            _refuse_taken(tx, user.user_name)
            tx.execute(
                "INSERT INTO users (user_name, origin, definition, changed_at_ms)"
                " VALUES (?, 'live', ?, ?)",
                (user.user_name, encode_user(user), self._now_ms()),
            )
            for key in keys:
                self._put_key(tx, user.user_name, key, origin="live")
            _raise_generation(tx)

        self._database.write_now(add)

    def add_key(self, user_name: str, text: str) -> None:
        """Let a user in with one more SSH key; a template's key that was removed live comes back.

        Raises:
            UsageError: ``text`` is not a public key that AWS Transfer takes.
            NotFound: no such user.
            Conflict: the user has that key.
        """

        key = parse_public_key(text)

        def add(tx: Transaction) -> None:
            row = _require(tx, user_name)
            existing = row.key(key.fingerprint)
            if existing is not None and not existing.removed:
                raise Conflict(
                    f"user `{user_name}` has the key `{key.fingerprint}` already",
                    hint="to change its options, remove it first",
                )
            origin = "live" if existing is None else existing.origin
            self._put_key(tx, user_name, key, origin=origin)
            _raise_generation(tx)

        self._database.write_now(add)

    def remove_key(self, user_name: str, fingerprint: str) -> None:
        """Stop letting a user in with an SSH key; a template's key stays out (see the module).

        Raises:
            NotFound: no such user, or it has no such key.
        """

        def remove(tx: Transaction) -> None:
            existing = _require(tx, user_name).key(fingerprint)
            if existing is None or existing.removed:
                raise NotFound(f"user `{user_name}` has no key `{fingerprint}`")
            if existing.origin == "live":
                _delete_key(tx, user_name, fingerprint)
            else:
                tx.execute(
                    "UPDATE user_keys SET removed = 1 WHERE user_name = ? AND fingerprint = ?",
                    (user_name, fingerprint),
                )
            _raise_generation(tx)

        self._database.write_now(remove)

    def set_enabled(self, user_name: str, enabled: bool) -> None:
        """Enable or disable a user. Raises ``NotFound``."""

        def change(tx: Transaction) -> None:
            if _require(tx, user_name).enabled == enabled:
                return
            tx.execute(
                "UPDATE users SET enabled = ?, changed_at_ms = ? WHERE user_name = ?",
                (int(enabled), self._now_ms(), user_name),
            )
            _raise_generation(tx)

        self._database.write_now(change)

    def set_password(self, user_name: str, password: Password | None) -> None:
        """Let a user in by a password, or no longer. No template can say it, so it is no drift.

        Raises:
            NotFound: no such user, or it has no password to take away.
        """

        def change(tx: Transaction) -> None:
            _require(tx, user_name)
            if password is None:
                if not _delete_password(tx, user_name):
                    raise NotFound(f"user `{user_name}` has no password")
            else:
                tx.execute(
                    "INSERT OR REPLACE INTO user_passwords VALUES (?, ?, ?, ?)",
                    (user_name, password.hash, int(password.require_key), self._now_ms()),
                )
            _raise_generation(tx)

        self._database.write_now(change)

    def any_password(self) -> bool:
        """Whether the door has to offer the method ``password`` at all."""
        return bool(self._database.read("SELECT 1 FROM user_passwords LIMIT 1"))

    async def record_key_use(self, user_name: str, fingerprint: str) -> None:
        """Note that a key was used just now. It is no change: the generation stays."""
        now_ms = self._now_ms()

        def note(tx: Transaction) -> None:
            tx.execute(
                "UPDATE user_keys SET last_used_at_ms = ? WHERE user_name = ? AND fingerprint = ?",
                (now_ms, user_name, fingerprint),
            )

        await self._database.write(note)

    def set_property(self, user_name: str, field: str, value: Any) -> None:
        """Change one field of ``LIVE_PROPERTIES`` live; ``value`` has the type that ``User`` says.

        Raises:
            NotFound: no such user.
        """
        assert field in LIVE_PROPERTIES, field

        def change(tx: Transaction) -> None:
            row = _require(tx, user_name)
            if row.origin == "live":
                tx.execute(
                    "UPDATE users SET definition = ?, changed_at_ms = ? WHERE user_name = ?",
                    (encode_user(replace(row.user, **{field: value})), self._now_ms(), user_name),
                )
            else:
                tx.execute(
                    "INSERT INTO user_overrides VALUES (?, ?, ?)"
                    " ON CONFLICT (user_name, property) DO UPDATE SET value = excluded.value",
                    (user_name, field, msgspec.json.encode(value).decode()),
                )
            _raise_generation(tx)

        self._database.write_now(change)

    def remove(self, user_name: str) -> None:
        """Remove a user; a template's stays so until the template drops it. Raises ``NotFound``."""

        def remove(tx: Transaction) -> None:
            if _require(tx, user_name).origin == "live":
                _forget(tx, user_name)
            else:
                tx.execute(
                    "UPDATE users SET removed = 1, changed_at_ms = ? WHERE user_name = ?",
                    (self._now_ms(), user_name),
                )
                _delete_password(tx, user_name)
            _raise_generation(tx)

        self._database.write_now(remove)

    def reset_drift(self, user_name: str) -> None:
        """Make a template's user what the template says again.

        Raises:
            NotFound: the template has no such user.
        """

        def reset(tx: Transaction) -> None:
            rows = tx.execute(
                SELECT_USERS + "WHERE user_name = ? AND origin = 'template'", (user_name,)
            )
            if not rows:
                raise NotFound(f"the template has no user `{user_name}`")
            user = decode_row(rows[0]).user
            _forget(tx, user_name)
            self._adopt(tx, user, parse_template_users({user_name: user})[user_name])
            _raise_generation(tx)

        self._database.write_now(reset)

    def _put_key(self, tx: Transaction, user_name: str, key: SshPublicKey, *, origin: str) -> None:
        tx.execute(
            "INSERT INTO user_keys"
            " (user_name, fingerprint, type, body, comment, added_at_ms, origin, options)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (user_name, fingerprint) DO UPDATE SET"
            " comment = excluded.comment, origin = excluded.origin, removed = 0,"
            " options = excluded.options",
            (
                *(user_name, key.fingerprint, key.type, key.body, key.comment),
                *(self._now_ms(), origin, key.options.text),
            ),
        )

    def _now_ms(self) -> int:
        return int(self._now() * 1000)


def _require(tx: Transaction, user_name: str) -> UserRow:
    """The user's row. Raises ``NotFound``, or ``Conflict`` if he was removed live."""
    rows = tx.execute(SELECT_USERS + "WHERE user_name = ?", (user_name,))
    if not rows:
        raise NotFound(
            f"there is no user `{user_name}`", hint="`feedgate user list` names them all"
        )
    row = decode_row(rows[0])
    if row.removed:
        raise _removed(user_name)
    return row


def _removed(user_name: str) -> Conflict:
    return Conflict(
        f"user `{user_name}` is one of the template's and was removed live",
        hint=f"`feedgate apply --reset-drift {user_name}` brings him back",
    )


def _refuse_taken(tx: Transaction, user_name: str) -> None:
    found = tx.execute("SELECT removed FROM users WHERE user_name = ?", (user_name,))
    if not found:
        return
    if found[0][0]:
        raise _removed(user_name)
    raise Conflict(f"there is a user `{user_name}` already")


def _delete_key(tx: Transaction, user_name: str, fingerprint: str) -> None:
    tx.execute(
        "DELETE FROM user_keys WHERE user_name = ? AND fingerprint = ?", (user_name, fingerprint)
    )


def _forget(tx: Transaction, user_name: str) -> None:
    tx.execute("DELETE FROM users WHERE user_name = ?", (user_name,))
    tx.execute("DELETE FROM user_overrides WHERE user_name = ?", (user_name,))
    tx.execute("DELETE FROM user_keys WHERE user_name = ?", (user_name,))
    _delete_password(tx, user_name)


def _delete_password(tx: Transaction, user_name: str) -> bool:
    tx.execute("DELETE FROM user_passwords WHERE user_name = ?", (user_name,))
    return tx.changes() > 0


def _raise_generation(tx: Transaction) -> None:
    tx.execute("UPDATE identity_generation SET generation = generation + 1")
