"""What is known of a user's connections, and whether the cause of a refusal is there still.

``Facts`` are what the gateway serves now and the record of what it saw; ``diagnosis`` decides by
them, and ``remedies`` puts it into words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from feedgate.files.deviations import Fidelity
from feedgate.gateway.admission import source_of
from feedgate.gateway.definition import Definition
from feedgate.identity.gate import key_refusal, user_refusal
from feedgate.identity.logins import LoginRecord, LoginStore
from feedgate.identity.refusals import RefusalCause as Cause
from feedgate.identity.users import GatewayUser, SshPublicKey
from feedgate.stack.access_tags import rules_of
from feedgate.stack.resources import Server

__all__ = ["Facts", "admits", "is_mended", "offered", "signs", "tried_keys"]


@dataclass(frozen=True)
class Facts:
    """``running`` is run.json of the gateway, if one runs; ``address`` the one asked about."""

    user_name: str
    users: Mapping[str, GatewayUser]
    was_removed: bool
    definition: Definition
    store: LoginStore
    running: Mapping[str, Any] | None
    host_keys: Path
    address: str | None
    now: float

    @property
    def user(self) -> GatewayUser | None:
        """The user as served now."""
        return self.users.get(self.user_name)

    @property
    def source(self) -> str | None:
        """What the address is counted as."""
        return source_of(self.address) if self.address is not None else None

    @property
    def server(self) -> Server:
        """The template's."""
        return self.definition.stack.server

    @property
    def policy_name(self) -> str:
        """The security policy that the door serves."""
        from feedgate.cli.processes import served_policy_name

        like_aws = bool(self.running and self.running.get("like_aws"))
        return served_policy_name(self.server, Fidelity(like_aws=like_aws))

    @cached_property
    def offers(self) -> Mapping[str, Mapping[str, frozenset[str]]]:
        """Security policy → kind of algorithm → what it offers, with the host keys of now."""
        from feedgate.sftp.hostkeys import HostKeyFolder
        from feedgate.sftp.policies import SECURITY_POLICIES, served

        signing: set[str] = set()
        for key in HostKeyFolder(self.host_keys).keys(int(self.now * 1000)):
            rsa = ("rsa-sha2-256", "rsa-sha2-512", "ssh-rsa")
            signing |= set(rsa) if key.type == "ssh-rsa" else {key.type}
        found = {}
        for name in SECURITY_POLICIES:
            policy, _lost = served(name)
            found[name] = {
                "kex": frozenset(policy.kexs),
                "host key": frozenset(policy.host_key_algorithms) & signing,
                "cipher": frozenset(policy.ciphers),
                "MAC": frozenset(policy.macs),
                "user key": frozenset(policy.user_key_algorithms),
            }
        return found


def is_mended(facts: Facts, record: LoginRecord) -> bool:
    """Whether the cause of a recorded refusal is gone; False where only a login could show it."""
    assert facts.user is not None
    mended = _MENDED.get(record.cause) if record.cause is not None else None
    return mended is not None and mended(facts, facts.user, record)


def _run_is_over(facts: Facts, _user: GatewayUser, record: LoginRecord) -> bool:
    return facts.running is not None and record.last_at < float(facts.running["started_at"])


def _user_is_admitted(facts: Facts, user: GatewayUser, record: LoginRecord) -> bool:
    return user_refusal(user, record.source_ip, facts.now) is None


def _key_is_admitted(facts: Facts, user: GatewayUser, record: LoginRecord) -> bool:
    keys = tried_keys(user, record)
    return any(key_refusal(key, record.source_ip, facts.now) is None for key in keys)


# an open door serves the security policy with which it was opened
_MENDED: Final[Mapping[Cause, Callable[[Facts, GatewayUser, LoginRecord], bool]]] = {
    **dict.fromkeys((Cause.STOPPING, Cause.NO_WORKER, Cause.NO_DESCRIPTOR), _run_is_over),
    **dict.fromkeys((Cause.TOO_MANY_CONNECTIONS, Cause.TOO_MANY_FROM_ADDRESS), _run_is_over),
    **dict.fromkeys((Cause.TOO_MANY_OF_USER, Cause.DISPLACED, Cause.PROXY_HEADER), _run_is_over),
    Cause.ADDRESS_REFUSED: lambda facts, _user, record: rules_of(facts.server.tags).admit(
        record.source_ip
    ),
    Cause.RATE_LIMITED: lambda facts, user, record: (
        _until(record) <= facts.now or _run_is_over(facts, user, record)
    ),
    Cause.NO_COMMON_ALGORITHM: lambda facts, user, record: (
        admits(facts, facts.policy_name, offered(record))
        and (next(iter(offered(record))) == "host key" or _run_is_over(facts, user, record))
    ),
    Cause.SIGNATURE_ALGORITHM: lambda facts, user, record: (
        signs(facts, facts.policy_name, record) and _run_is_over(facts, user, record)
    ),
    Cause.UNKNOWN_USER: lambda facts, _user, record: record.user_name in facts.users,
    **dict.fromkeys((Cause.USER_DISABLED, Cause.USER_EXPIRED), _user_is_admitted),
    Cause.USER_ADDRESS_REFUSED: _user_is_admitted,
    **dict.fromkeys((Cause.KEY_EXPIRED, Cause.KEY_ADDRESS_REFUSED), _key_is_admitted),
    Cause.KEY_NOT_ON_FILE: _key_is_admitted,
    Cause.WRONG_PASSWORD: lambda _facts, user, record: (
        bool(record.detail) and user.password is not None
    ),
    Cause.SECOND_FACTOR_MISSING: lambda _facts, user, _record: (
        user.password is None or not user.password.require_key
    ),
    Cause.ROLE_REFUSED: lambda _facts, _user, _record: True,  # policies are asked anyway
}


def tried_keys(user: GatewayUser, record: LoginRecord) -> list[SshPublicKey]:
    """The keys on file among those that the client offered; all where none is known."""
    return [
        key
        for key in user.ssh_public_keys
        if not record.fingerprints or key.fingerprint in record.fingerprints
    ]


_NO_ALGORITHMS: Final = ("ext-info-", "kex-strict-")  # flags in the list of key exchange methods


def offered(record: LoginRecord) -> dict[str, tuple[str, ...]]:
    """What a client offered, the kind that had no match first. Form: ``gaps.whole_offer``."""
    pairs = (part.partition(": ") for part in record.detail.split("; "))
    return {
        kind: tuple(name for name in names.split(",") if not name.startswith(_NO_ALGORITHMS))
        for kind, _colon, names in pairs
        if names
    }


def admits(facts: Facts, policy_name: str, offer: Mapping[str, Sequence[str]]) -> bool:
    """Whether a client with that offer would come in under that security policy."""
    kinds = facts.offers[policy_name]
    return bool(offer) and all(
        kind not in kinds or not kinds[kind].isdisjoint(names) for kind, names in offer.items()
    )


def signs(facts: Facts, policy_name: str, record: LoginRecord) -> bool:
    """Whether that security policy takes the signature that was refused."""
    return record.detail in facts.offers[policy_name]["user key"]


def _until(record: LoginRecord) -> float:
    try:
        return datetime.fromisoformat(record.detail.removeprefix("until ")).timestamp()
    except ValueError:
        return record.last_at
