"""Passwords as Argon2id hashes, and their verification off the event loop.

RFC 9106; the parameters are OWASP's (Password Storage Cheat Sheet: 19 MiB, 2 passes, 1 lane), as a
login may be asked for by anybody and memory is the attacker's to spend. A name that has no password
costs the same: its password is held against a hash that no password has.

The only home of argon2-cffi.
"""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from feedgate.errors import UsageError
from feedgate.limits import (
    PASSWORD_CHARS_MAX,
    PASSWORD_CHARS_MIN,
    PASSWORD_THREADS,
    PASSWORDS_WAITING_MAX,
)

__all__ = ["PasswordPool", "hash_password", "password_matches"]

_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def hash_password(password: str) -> str:
    """The hash to keep.

    Raises:
        UsageError: it is too short or too long, or holds a control character.
    """
    if not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX:
        raise UsageError(
            f"a password of {len(password)} characters: {PASSWORD_CHARS_MIN} to "
            f"{PASSWORD_CHARS_MAX} are taken"
        )
    if not password.isprintable():
        raise UsageError("a password with a character that cannot be typed")
    return _HASHER.hash(password)


def password_matches(hashed: str | None, password: str) -> bool:
    """Whether the password is the one of the hash; None costs as much, and is always False."""
    try:
        _HASHER.verify(hashed if hashed is not None else _nobodys_hash(), password)
    except (Argon2Error, InvalidHashError):
        return False
    return hashed is not None


@lru_cache(maxsize=1)
def _nobodys_hash() -> str:
    return _HASHER.hash(secrets.token_hex(32))


class PasswordPool:
    """A few threads that verify, and a bounded queue before them. Used on one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(PASSWORD_THREADS, thread_name_prefix="password")
        self._waiting = 0

    def warm_up(self) -> None:
        """Make the hash for unknown names now: the first of them shall not take longer."""
        self._threads.submit(_nobodys_hash)

    async def matches(self, hashed: str | None, password: str) -> bool:
        """As ``password_matches``; False, too, where too many wait already."""
        if self._waiting >= PASSWORDS_WAITING_MAX or len(password) > PASSWORD_CHARS_MAX:
            return False
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, password_matches, hashed, password
            )
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Take no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
