"""The one gate: whether a user, and a key of his, may be used now and from there.

Every way of logging in and every look at an open session passes here, so that no way forgets a
condition. Pure.
"""

from __future__ import annotations

from feedgate.identity.refusals import RefusalCause
from feedgate.identity.users import GatewayUser, SshPublicKey
from feedgate.stack.access_tags import expires_at, rules_of

__all__ = ["key_refusal", "user_refusal", "valid_until"]


def user_refusal(user: GatewayUser | None, address: str, now: float) -> RefusalCause | None:
    """Why nobody may log in as that user from there; None where the credentials decide."""
    if user is None:
        return RefusalCause.UNKNOWN_USER
    if not user.enabled:
        return RefusalCause.USER_DISABLED
    tags = user.user.tags
    try:
        until = expires_at(tags)
        rules = rules_of(tags)
    except ValueError:  # applied before tags were checked: refuse rather than ignore
        return RefusalCause.USER_DISABLED
    if until is not None and now >= until:
        return RefusalCause.USER_EXPIRED
    return None if rules.admit(address) else RefusalCause.USER_ADDRESS_REFUSED


def key_refusal(key: SshPublicKey, address: str, now: float) -> RefusalCause | None:
    """Why a key that is on file may not be used."""
    until = key.options.expires_at
    if until is not None and now >= until:
        return RefusalCause.KEY_EXPIRED
    return None if key.options.admit_address(address) else RefusalCause.KEY_ADDRESS_REFUSED


def valid_until(user: GatewayUser, key: SshPublicKey | None) -> float:
    """When a session that begins now must end, in Unix time; infinity where never."""
    ends = (expires_at(user.user.tags), key.options.expires_at if key is not None else None)
    return min((end for end in ends if end is not None), default=float("inf"))
