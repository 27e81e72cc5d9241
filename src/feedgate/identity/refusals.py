"""Why a supplier did not get in: one cause for each connection that was refused.

The causes are the vocabulary of every process: the supervisor refuses connections, workers refuse
logins, and both say so with a ``Refusal``. The supplier reads none of this; what he sees comes from
``TEXTS`` for the few causes after which SSH has a word to say, and is else the same for all.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Final

__all__ = ["TEXTS", "Refusal", "RefusalCause"]


class RefusalCause(StrEnum):
    """In the order in which a connection meets them; a later one says more about its client."""

    # before SSH, by the supervisor
    STOPPING = "stopping"
    NO_WORKER = "no-worker"
    NO_DESCRIPTOR = "no-descriptor"
    ADDRESS_REFUSED = "address-refused"  # the server's lists of addresses
    RATE_LIMITED = "rate-limited"  # too many failures from the address
    TOO_MANY_CONNECTIONS = "too-many-connections"
    TOO_MANY_FROM_ADDRESS = "too-many-from-address"
    DISPLACED = "displaced"  # unauthenticated, and a newer connection took its place
    # before a user name was heard, by a worker
    PROXY_HEADER = "proxy-header"  # none, a bad one, or not in time
    NO_HANDSHAKE = "no-handshake"  # it left, or spoke no SSH
    NO_COMMON_ALGORITHM = "no-common-algorithm"  # ``detail`` is the client's offer
    LOGIN_TIMEOUT = "login-timeout"
    NO_LOGIN = "no-login"  # it left before it tried anything
    # tries of a login
    UNKNOWN_USER = "unknown-user"
    WRONG_PASSWORD = "wrong-password"  # noqa: S105 - the name of a cause
    KEY_NOT_ON_FILE = "key-not-on-file"
    SIGNATURE_ALGORITHM = "signature-algorithm-refused"
    SIGNATURE_INVALID = "signature-invalid"
    KEY_EXPIRED = "key-expired"
    KEY_ADDRESS_REFUSED = "key-address-refused"  # the key's ``from=``
    SECOND_FACTOR_MISSING = "second-factor-missing"  # the key was right, the password never came
    USER_ADDRESS_REFUSED = "user-address-refused"
    USER_EXPIRED = "user-expired"
    USER_DISABLED = "user-disabled"
    # after it
    TOO_MANY_OF_USER = "too-many-of-user"
    ROLE_REFUSED = "role-refused"  # the role, its trust policy or the home directory says no


_ORDER: Final = {cause: number for number, cause in enumerate(RefusalCause)}

# what SSH_MSG_DISCONNECT says to the supplier; a cause without a text closes without a word
TEXTS: Final = {
    RefusalCause.TOO_MANY_OF_USER: "Too many connections for this user",
    RefusalCause.DISPLACED: "Too many connections that did not log in",
    RefusalCause.ADDRESS_REFUSED: "Access was withdrawn",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused connection. Names and ``detail`` may be hostile text; they are bounded.

    ``fingerprints`` are those of the keys that were offered; ``tries`` counts refused tries.
    """

    cause: RefusalCause
    at: float  # Unix time, s
    source_ip: str = ""
    user_name: str = ""
    method: str = ""
    fingerprints: tuple[str, ...] = ()
    client_version: str = ""
    detail: str = ""
    tries: int = 0

    def says_more_than(self, other: RefusalCause) -> bool:
        """Whether this cause tells an operator more than another of the same connection."""
        return _ORDER[self.cause] > _ORDER[other]

    def message(self) -> dict[str, Any]:
        """As it travels from a worker to the supervisor, in JSON's types."""
        return asdict(self)

    @classmethod
    def of(cls, message: dict[str, Any]) -> Refusal:
        """What ``message`` made."""
        found = {field.name: message[field.name] for field in fields(cls)}
        found["cause"] = RefusalCause(found["cause"])
        found["fingerprints"] = tuple(found["fingerprints"])
        return cls(**found)
