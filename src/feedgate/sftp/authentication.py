"""Who is on a connection: by a key that signed, by a password, or by one after the other.

asyncssh asks ``validate_public_key`` already when a client merely offers a key, so its answer
proves nothing (the lesson of CVE-2024-45337). The key object that asyncssh verifies with is made
per request: its ``verify`` is wrapped here, and what a verified signature said is the identity.

An unknown user, a disabled or expired one, an address that he may not come from and a wrong key
take the same path and the same time: one lookup, one comparison of key blobs, and a refusal that
never leaves before ``AUTH_FAILURE_S`` is over. A password is verified in any case, against nobody's
hash where there is none to hold it against.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

import asyncssh

from feedgate.errors import FeedgateError
from feedgate.identity.gate import key_refusal, user_refusal, valid_until
from feedgate.identity.refusals import Refusal, RefusalCause
from feedgate.identity.users import USER_NAME_PATTERN, GatewayUser, SshPublicKey
from feedgate.limits import (
    AUTH_FAILURE_S,
    AUTH_REQUESTS_MAX,
    AUTH_TRIES_MAX,
    FINGERPRINTS_TOLD_MAX,
)
from feedgate.sftp.events import ConnectionEvents

__all__ = ["Authenticator", "Identity", "PasswordDesk"]

UserLookup = Callable[[str], GatewayUser | None]

_MESSAGES: Final = {  # of AUTH_FAILURE, for the operator
    RefusalCause.UNKNOWN_USER: "The user is unrecognized",
    RefusalCause.USER_DISABLED: "The user is disabled",
    RefusalCause.USER_EXPIRED: "The user has expired",
    RefusalCause.USER_ADDRESS_REFUSED: "The user may not connect from this address",
    RefusalCause.KEY_NOT_ON_FILE: "The key is not one of the user's",
    RefusalCause.KEY_EXPIRED: "The key has expired",
    RefusalCause.KEY_ADDRESS_REFUSED: "The key may not be used from this address",
    RefusalCause.SIGNATURE_ALGORITHM: "signature algorithm not allowed",
    RefusalCause.SIGNATURE_INVALID: "signature does not verify",
    RefusalCause.WRONG_PASSWORD: "Invalid user name or password",  # AWS's, cw-example-logs
    RefusalCause.SECOND_FACTOR_MISSING: "The user must present an SSH key first",
}


class PasswordDesk(Protocol):
    """What is asked before a password is believed."""

    async def delay_s(self, user_name: str) -> float:
        """How long its answer waits, after too many wrong ones."""
        ...

    async def matches(self, hashed: str | None, password: str) -> bool:
        """Whether it is the one of the hash; as slow where the hash is None."""
        ...

    def wrong(self, user_name: str) -> None:
        """It was not."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Who authenticated, and by what; without an SSH key its three fields are empty.

    ``valid_until`` is when user or key expire, in Unix time.
    """

    user: GatewayUser
    key_type: str = ""
    key_body: str = ""
    fingerprint: str = ""
    by_password: bool = False
    valid_until: float = float("inf")


class Authenticator:
    """The tries of one connection. ``too_many`` is called once when there were too many."""

    def __init__(
        self,
        *,
        user: UserLookup,
        signature_algorithms: frozenset[bytes],
        events: ConnectionEvents,
        too_many: Callable[[], None],
        passwords: PasswordDesk,
        source_ip: str,
        now: Callable[[], float],
        tries_max: int = AUTH_TRIES_MAX,
    ) -> None:
        self._user = user
        self._signature_algorithms = signature_algorithms
        self._events = events
        self._too_many = too_many
        self._passwords = passwords
        self._source_ip = source_ip
        self._now = now
        self._tries_max = tries_max
        self._requests = 0
        self._signed: tuple[str, Identity] | None = None
        self._by_password: tuple[str, Identity] | None = None
        self._fingerprints: list[str] = []
        self.refusal: Refusal | None = None  # the most telling one so far
        self.tries = 0
        self.wrong_passwords = 0

    def count_request(self) -> None:
        """Called for each request and each refusal, of whatever method."""
        self._requests += 1
        if self._requests == AUTH_REQUESTS_MAX:
            self._too_many()

    # -- keys -----------------------------------------------------------------------------------

    async def validate(self, user_name: str, key: asyncssh.SSHKey) -> bool:
        """Whether the key is one of the user's; says nothing about who holds it."""
        loop = asyncio.get_running_loop()
        answer_at = loop.time() + AUTH_FAILURE_S
        if self.tries >= self._tries_max:
            return False
        user, cause = self._judged(user_name)
        found = _find(user.ssh_public_keys if user is not None else (), key.public_data)
        if cause is None:
            cause = RefusalCause.KEY_NOT_ON_FILE
            if found is not None:
                cause = key_refusal(found, self._source_ip, self._now())
        if cause is None:
            assert user is not None
            assert found is not None
            self._witness(user_name, key, _identity(user, found))
            return True
        self._key_refused(user_name, cause, key)
        await asyncio.sleep(answer_at - loop.time())
        return False

    def _judged(self, user_name: str) -> tuple[GatewayUser | None, RefusalCause | None]:
        """The user, and why he may not log in; a name that AWS does not allow is nobody's."""
        user = None
        if USER_NAME_PATTERN.fullmatch(user_name):
            try:
                user = self._user(user_name)
            except FeedgateError as error:
                self._events.error("the users could not be read", reason=str(error))
        return user, user_refusal(user, self._source_ip, self._now())

    def _witness(self, user_name: str, key: asyncssh.SSHKey, identity: Identity) -> None:
        """Note the identity when, and only when, this very key object verifies a signature."""
        verify = key.verify

        def verify_and_note(data: bytes, sig: bytes) -> bool:
            if _signature_algorithm(sig) not in self._signature_algorithms:
                self._key_refused(user_name, RefusalCause.SIGNATURE_ALGORITHM, key)
                return False
            if not verify(data, sig):
                self._key_refused(user_name, RefusalCause.SIGNATURE_INVALID, key)
                return False
            self._signed = (user_name, identity)
            return True

        key.verify = verify_and_note  # type: ignore[method-assign]

    def _key_refused(self, user_name: str, cause: RefusalCause, key: asyncssh.SSHKey) -> None:
        fingerprint = _fingerprint(key.public_data)
        kind = key.get_algorithm()
        if len(self._fingerprints) < FINGERPRINTS_TOLD_MAX:
            self._fingerprints.append(fingerprint)
        self._events.emit(
            "AUTH_FAILURE",
            method="publickey",
            user=user_name,
            ssh_public_key_fingerprint=fingerprint,
            ssh_public_key_type=kind,
            message=_MESSAGES[cause],
        )
        detail = kind if cause is RefusalCause.SIGNATURE_ALGORITHM else ""
        self._failed(user_name, cause, "publickey", detail)

    # -- passwords ------------------------------------------------------------------------------

    async def validate_password(self, user_name: str, password: str) -> bool:
        """Whether that is the user's password, and may be used now.

        Where the user needs a key too, the key comes first, as AWS has it for
        PUBLIC_KEY_AND_PASSWORD.
        """
        loop = asyncio.get_running_loop()
        answer_at = loop.time() + AUTH_FAILURE_S
        if self.tries >= self._tries_max:
            return False
        await asyncio.sleep(await self._passwords.delay_s(user_name))
        user, cause = self._judged(user_name)
        kept = user.password if user is not None else None
        signed = self._signed[1] if self._signed and self._signed[0] == user_name else None
        if cause is None and kept is not None and kept.require_key and signed is None:
            cause = RefusalCause.SECOND_FACTOR_MISSING
        usable = kept.hash if kept is not None and cause is None else None
        if await self._passwords.matches(usable, password):
            assert user is not None
            identity = signed if signed is not None else _identity(user, None)
            self._by_password = (user_name, replace(identity, user=user, by_password=True))
            return True
        self._password_refused(user_name, cause or RefusalCause.WRONG_PASSWORD, kept is not None)
        await asyncio.sleep(max(0.0, answer_at - loop.time()))
        return False

    def _password_refused(self, user_name: str, cause: RefusalCause, has_password: bool) -> None:
        self.wrong_passwords += 1
        self._passwords.wrong(user_name)
        self._events.emit(
            "AUTH_FAILURE", method="password", user=user_name, message=_MESSAGES[cause]
        )
        is_lacking = cause is RefusalCause.WRONG_PASSWORD and not has_password
        self._failed(user_name, cause, "password", "the user has no password" * is_lacking)

    # -- the outcome ----------------------------------------------------------------------------

    def _failed(self, user_name: str, cause: RefusalCause, method: str, detail: str) -> None:
        self.tries += 1
        refusal = Refusal(
            cause,
            self._now(),
            source_ip=self._source_ip,
            user_name=user_name,
            method=method,
            detail=detail,
        )
        if self.refusal is None or refusal.says_more_than(self.refusal.cause):
            self.refusal = refusal
        self.refusal = replace(
            self.refusal, fingerprints=tuple(self._fingerprints), tries=self.tries
        )
        if self.tries == self._tries_max:
            self._too_many()

    @property
    def password_is_next(self) -> bool:
        """Whether a key was accepted and the user's password still has to come."""
        if self._signed is None or self._by_password is not None:
            return False
        password = self._signed[1].user.password
        return password is not None and password.require_key

    def is_complete(self, user_name: str) -> bool:
        """Whether what was shown so far is all that this user has to show."""
        if self._by_password is not None and self._by_password[0] == user_name:
            return True
        if self._signed is None or self._signed[0] != user_name:
            return False
        return not self.password_is_next

    def identity(self, user_name: str) -> Identity | None:
        """Who asyncssh says has authenticated, if a signature or a password said the same."""
        if not self.is_complete(user_name):
            return None
        proof = self._by_password or self._signed
        assert proof is not None
        return proof[1] if proof[0] == user_name else None

    def abandoned(self) -> Refusal | None:
        """The most telling refusal of a connection that ends now without a login."""
        if self.password_is_next and self.wrong_passwords == 0:
            assert self._signed is not None
            return Refusal(
                RefusalCause.SECOND_FACTOR_MISSING,
                self._now(),
                source_ip=self._source_ip,
                user_name=self._signed[0],
                method="publickey",
                fingerprints=(self._signed[1].fingerprint,),
                detail="the password never came",
            )
        return self.refusal


def _find(keys: tuple[SshPublicKey, ...], blob: bytes) -> SshPublicKey | None:
    """All are compared, so that the place of a key is not told by time."""
    found = None
    for key in keys:
        if hmac.compare_digest(key.blob, blob):
            found = key
    return found


def _identity(user: GatewayUser, key: SshPublicKey | None) -> Identity:
    until = valid_until(user, key)
    if key is None:
        return Identity(user, valid_until=until)
    return Identity(user, key.type, key.body.split()[1], key.fingerprint, valid_until=until)


_NAME_BYTES_MAX: Final = 64


def _signature_algorithm(signature: bytes) -> bytes:
    size = int.from_bytes(signature[:4], "big")
    return signature[4 : 4 + size] if size <= _NAME_BYTES_MAX else b""


def _fingerprint(blob: bytes) -> str:
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"
