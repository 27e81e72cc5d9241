"""Editing ``users.json``, the plain data that the template imports: text in, text out.

The file is a JSON array of users with AWS's field names. Everything that an edit does not touch is
kept as it stands.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from feedgate.errors import Conflict, NotFound, UsageError

__all__ = [
    "add_public_key",
    "add_user",
    "has_public_key",
    "has_user",
    "remove_public_key",
    "remove_user",
]

User = dict[str, Any]


def has_user(text: str, user_name: str) -> bool:
    """Whether the file defines that user."""
    return any(user.get("UserName") == user_name for user in _users(text))


def has_public_key(text: str, user_name: str, matches: Callable[[str], bool]) -> bool:
    """Whether the file gives that user a key for which ``matches(line)`` holds."""
    return any(
        matches(line)
        for user in _users(text)
        if user.get("UserName") == user_name
        for line in user.get("SshPublicKeys", [])
    )


def add_user(text: str, user_name: str, public_keys: list[str], mappings: list[User]) -> str:
    """Append a user.

    Raises:
        Conflict: there is one of that name.
    """
    users = _users(text)
    if any(user.get("UserName") == user_name for user in users):
        raise Conflict(f"the user `{user_name}` is in users.json already")
    users.append(
        {"UserName": user_name, "HomeDirectoryMappings": mappings, "SshPublicKeys": public_keys}
    )
    return _text(users)


def remove_user(text: str, user_name: str) -> str:
    """Take a user out. Raises ``NotFound``."""
    users = _users(text)
    kept = [user for user in users if user.get("UserName") != user_name]
    if len(kept) == len(users):
        raise NotFound(f"the user `{user_name}` is not in users.json")
    return _text(kept)


def add_public_key(text: str, user_name: str, public_key: str) -> str:
    """Add a public key to a user. Raises ``NotFound``, ``Conflict`` if it is there already."""

    def add(keys: list[str]) -> list[str]:
        if any(key.split()[:2] == public_key.split()[:2] for key in keys):
            raise Conflict(f"the user `{user_name}` has that SSH key already")
        return [*keys, public_key]

    return _edit_keys(text, user_name, add)


def remove_public_key(text: str, user_name: str, matches: Callable[[str], bool]) -> str:
    """Take out every key for which ``matches(line)`` holds. Raises ``NotFound`` if none does."""

    def remove(keys: list[str]) -> list[str]:
        kept = [key for key in keys if not matches(key)]
        if len(kept) == len(keys):
            raise NotFound(f"the user `{user_name}` has no such SSH key in users.json")
        return kept

    return _edit_keys(text, user_name, remove)


def _edit_keys(text: str, user_name: str, edit: Callable[[list[str]], list[str]]) -> str:
    users = _users(text)
    for user in users:
        if user.get("UserName") == user_name:
            user["SshPublicKeys"] = edit(list(user.get("SshPublicKeys", [])))
            return _text(users)
    raise NotFound(f"the user `{user_name}` is not in users.json")


def _users(text: str) -> list[User]:
    try:
        users = json.loads(text)
    except ValueError as error:
        raise UsageError(f"users.json is not JSON: {error}") from error
    if not isinstance(users, list) or not all(isinstance(user, dict) for user in users):
        raise UsageError("users.json is not an array of users")
    return users


def _text(users: list[User]) -> str:
    return json.dumps(users, indent=2, ensure_ascii=False) + "\n"
