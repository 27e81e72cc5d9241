"""User rows as they lie in the database, the user served out of one, and its drift. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from feedgate.identity.key_options import NO_OPTIONS, parse_options
from feedgate.identity.users import GatewayUser, Password, SshPublicKey
from feedgate.limits import USERS_KEPT_MAX
from feedgate.stack.resources import User

__all__ = [
    "LIVE_PROPERTIES",
    "SELECT_USERS",
    "Drift",
    "KeyRow",
    "UserRow",
    "decode_row",
    "encode_user",
    "served_user",
    "user_like",
]

# fields of a User that may be changed live → the CloudFormation property's name
LIVE_PROPERTIES: Final[Mapping[str, str]] = {
    "role_arn": "Role",
    "policy": "Policy",
    "home_directory_type": "HomeDirectoryType",
    "home_directory": "HomeDirectory",
    "home_directory_mappings": "HomeDirectoryMappings",
    "tags": "Tags",
}

SELECT_USERS = """
    SELECT user_name, origin, definition, enabled, removed,
        (SELECT json_group_object(property, json(value)) FROM user_overrides o
            WHERE o.user_name = u.user_name),
        (SELECT json_group_array(json_array(
                type, body, fingerprint, comment, origin, removed, options, last_used_at_ms))
            FROM (SELECT * FROM user_keys k WHERE k.user_name = u.user_name
                  ORDER BY added_at_ms, fingerprint)),
        (SELECT json_array(hash, require_key) FROM user_passwords p
            WHERE p.user_name = u.user_name)
    FROM users u
"""


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference between what is served and what the template says, both as text."""

    user_name: str
    property: str
    template: str
    live: str

    def __str__(self) -> str:
        return f"user `{self.user_name}`: {self.property}: {self.template} → {self.live}"


@dataclass(frozen=True, slots=True)
class KeyRow:
    """An SSH key; ``removed`` is a template's key that was taken away live."""

    key: SshPublicKey
    origin: Literal["template", "live"]
    removed: bool


@dataclass(frozen=True, slots=True)
class UserRow:
    """``user`` as it was defined; ``overrides`` are live values by field, in JSON's types."""

    user: User
    origin: Literal["template", "live"]
    enabled: bool
    removed: bool
    overrides: Mapping[str, Any]
    keys: tuple[KeyRow, ...]
    password: Password | None = None

    def key(self, fingerprint: str) -> KeyRow | None:
        """The key of that fingerprint, a removed one too."""
        return next((row for row in self.keys if row.key.fingerprint == fingerprint), None)

    def drift(self) -> list[Drift]:
        """Where the served user differs from the template's."""
        return _drift_of(self)

    def served(self) -> GatewayUser:
        """The user as the doors see it: live changes over the template's word."""
        keys = tuple(entry.key for entry in self.keys if not entry.removed)
        user = replace(
            _with_overrides(self.user, self.overrides),
            ssh_public_keys=tuple(key.line for key in keys),
        )
        return GatewayUser(user, self.enabled, self.origin, keys, self.password)


def decode_row(row: tuple[Any, ...]) -> UserRow:
    """A row of ``SELECT_USERS``."""
    _name, origin, definition, enabled, removed, overrides, keys, password = row
    return UserRow(
        user=msgspec.json.decode(definition, type=User),
        origin=origin,
        enabled=bool(enabled),
        removed=bool(removed),
        overrides=msgspec.json.decode(overrides),
        keys=tuple(_key_row(fields) for fields in msgspec.json.decode(keys)),
        password=_password(*msgspec.json.decode(password)) if password is not None else None,
    )


@lru_cache(maxsize=USERS_KEPT_MAX)  # keyed by the whole row, so never stale
def served_user(row: tuple[Any, ...]) -> GatewayUser:
    """The user that a row of ``SELECT_USERS`` serves; the same object for all of his sessions."""
    return decode_row(row).served()


def _key_row(fields: Sequence[Any]) -> KeyRow:
    kind, body, fingerprint, comment, origin, removed, options, last_used_at_ms = fields
    key = SshPublicKey(
        kind,
        body,
        fingerprint,
        comment,
        options=parse_options(options) if options else NO_OPTIONS,
        last_used_at=last_used_at_ms / 1000 if last_used_at_ms is not None else None,
    )
    return KeyRow(key, origin, bool(removed))


def _password(hashed: str, require_key: int) -> Password:
    return Password(hashed, bool(require_key))


def encode_user(user: User) -> str:
    """A user as the ``definition`` column holds it, without its place in the template."""
    return msgspec.json.encode(replace(user, source=None)).decode()


def user_like(model: User, user_name: str, ssh_public_keys: tuple[str, ...]) -> User:
    """A user with the model's role, policy and folders, its own name in place of the model's."""

    def renamed(path: str) -> str:
        levels = path.split("/")
        return "/".join(user_name if level == model.user_name else level for level in levels)

    return replace(
        model,
        logical_id="",
        user_name=user_name,
        arn=f"{model.arn.rpartition('/')[0]}/{user_name}",
        home_directory=renamed(model.home_directory),
        home_directory_mappings=tuple(
            replace(mapping, target=renamed(mapping.target))
            for mapping in model.home_directory_mappings
        ),
        ssh_public_keys=ssh_public_keys,
        source=None,
    )


def _with_overrides(user: User, overrides: Mapping[str, Any]) -> User:
    if not overrides:
        return user
    return msgspec.convert({**msgspec.to_builtins(user), **overrides}, type=User)


def _drift_of(row: UserRow) -> list[Drift]:
    name = row.user.user_name
    if row.removed:
        return [Drift(name, "User", "present", "removed")]
    found = []
    if not row.enabled:
        found.append(Drift(name, "Enabled", "true", "false"))
    served = _with_overrides(row.user, row.overrides)
    for field, property_name in LIVE_PROPERTIES.items():
        before, after = getattr(row.user, field), getattr(served, field)
        if before != after:
            found.append(Drift(name, property_name, _text(before), _text(after)))
    for entry in row.keys:
        label = entry.key.fingerprint  # a comment is whatever its owner wrote, another's name too
        if entry.removed:
            found.append(Drift(name, "SshPublicKeys", label, "removed"))
        elif entry.origin == "live":
            found.append(Drift(name, "SshPublicKeys", "absent", label))
    return found


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
