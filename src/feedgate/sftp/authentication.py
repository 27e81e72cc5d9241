"""Who is on a connection: public key only, and only what signed counts.

asyncssh asks ``validate_public_key`` already when a client merely offers a key, so its answer
proves nothing (the lesson of CVE-2024-45337). The key object that asyncssh verifies with is made
per request: its ``verify`` is wrapped here, and what a verified signature said is the identity.

An unknown user, a disabled one and a wrong key take the same path and the same time: one lookup,
one comparison of key blobs, and a refusal that never leaves before ``AUTH_FAILURE_S`` is over.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import asyncssh

from feedgate.errors import FeedgateError
from feedgate.identity.users import USER_NAME_PATTERN, GatewayUser
from feedgate.limits import AUTH_FAILURE_S, AUTH_REQUESTS_MAX, AUTH_TRIES_MAX
from feedgate.sftp.events import ConnectionEvents

__all__ = ["Authenticator", "Identity"]

UserLookup = Callable[[str], GatewayUser | None]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who authenticated, and by which key: set once, from a verified signature."""

    user: GatewayUser
    key_type: str
    key_body: str
    fingerprint: str


class Authenticator:
    """The tries of one connection. ``too_many`` is called once when there were too many."""

    def __init__(
        self,
        *,
        user: UserLookup,
        signature_algorithms: frozenset[bytes],
        events: ConnectionEvents,
        too_many: Callable[[], None],
    ) -> None:
        self._user = user
        self._signature_algorithms = signature_algorithms
        self._events = events
        self._too_many = too_many
        self._tries = 0
        self._requests = 0
        self._signed: tuple[str, Identity] | None = None

    def count_request(self) -> None:
        """Called for each request and each refusal, of whatever method."""
        self._requests += 1
        if self._requests == AUTH_REQUESTS_MAX:
            self._too_many()

    async def validate(self, user_name: str, key: asyncssh.SSHKey) -> bool:
        """Whether the key is one of the user's; says nothing about who holds it."""
        loop = asyncio.get_running_loop()
        answer_at = loop.time() + AUTH_FAILURE_S
        if self._tries >= AUTH_TRIES_MAX:
            return False
        blob = key.public_data
        user = self._lookup(user_name)
        known = user.ssh_public_keys if user is not None and user.enabled else ()
        found = None
        for candidate in known:
            if hmac.compare_digest(candidate.blob, blob):
                found = candidate
        if user is not None and found is not None:
            identity = Identity(user, found.type, found.body.split()[1], found.fingerprint)
            self._witness(user_name, key, identity)
            return True
        self._failed(user_name, user, key)
        await asyncio.sleep(answer_at - loop.time())
        return False

    def _lookup(self, user_name: str) -> GatewayUser | None:
        """A name that AWS's pattern does not allow is nobody's."""
        if not USER_NAME_PATTERN.fullmatch(user_name):
            return None
        try:
            return self._user(user_name)
        except FeedgateError as error:
            self._events.error("the users could not be read", reason=str(error))
            return None

    def _witness(self, user_name: str, key: asyncssh.SSHKey, identity: Identity) -> None:
        """Note the identity when, and only when, this very key object verifies a signature."""
        verify = key.verify

        def verify_and_note(data: bytes, sig: bytes) -> bool:
            if _signature_algorithm(sig) not in self._signature_algorithms:
                self._failed(user_name, identity.user, key, "signature algorithm not allowed")
                return False
            if not verify(data, sig):
                self._failed(user_name, identity.user, key, "signature does not verify")
                return False
            self._signed = (user_name, identity)
            return True

        key.verify = verify_and_note  # type: ignore[method-assign]

    def _failed(
        self, user_name: str, user: GatewayUser | None, key: asyncssh.SSHKey, why: str | None = None
    ) -> None:
        self._tries += 1
        if why is None:
            why = (
                "The user is unrecognized"
                if user is None
                else "The user is disabled"
                if not user.enabled
                else "The key is not one of the user's"
            )
        self._events.emit(
            "AUTH_FAILURE",
            method="publickey",
            user=user_name,
            ssh_public_key_fingerprint=_fingerprint(key.public_data),
            ssh_public_key_type=key.get_algorithm(),
            message=why,
        )
        if self._tries == AUTH_TRIES_MAX:
            self._too_many()

    def identity(self, user_name: str) -> Identity | None:
        """Who asyncssh says has authenticated, if a signature said the same."""
        if self._signed is None or self._signed[0] != user_name:
            return None
        return self._signed[1]


_NAME_BYTES_MAX: Final = 64


def _signature_algorithm(signature: bytes) -> bytes:
    size = int.from_bytes(signature[:4], "big")
    return signature[4 : 4 + size] if size <= _NAME_BYTES_MAX else b""


def _fingerprint(blob: bytes) -> str:
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"
