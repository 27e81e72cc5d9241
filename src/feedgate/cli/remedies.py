"""For each cause of a refusal: what happened in one line, and the command that mends it.

One function a cause, in one table. What they know is in ``Facts``: what the gateway serves now, and
the record of what it saw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from feedgate.cli.evidence import Facts, admits, offered, signs, tried_keys
from feedgate.gateway.admission import source_of
from feedgate.identity.gate import key_refusal, user_refusal
from feedgate.identity.logins import LoginRecord
from feedgate.identity.refusals import RefusalCause as Cause
from feedgate.stack.access_tags import (
    ALLOWED_TAG,
    DENIED_TAG,
    EXPIRES_TAG,
    access_tag_faults,
    is_within,
    parse_networks,
    rules_of,
)
from feedgate.stack.resources import Server, User

__all__ = ["Remedy", "explained", "of_address", "of_user"]


@dataclass(frozen=True, slots=True)
class Remedy:
    """``mend`` are commands, or what to tell the supplier, in the order in which to do them."""

    summary: str
    mend: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


# -- what holds now -------------------------------------------------------------------------------


def of_user(facts: Facts) -> tuple[Cause, Remedy] | None:
    """Why the user could not log in from anywhere."""
    user = facts.user
    assert user is not None
    cause = user_refusal(user, "", facts.now)
    if cause in (Cause.USER_DISABLED, Cause.USER_EXPIRED):
        return cause, _of_record(facts, cause)
    if user.password is None and not user.ssh_public_keys:
        return Cause.KEY_NOT_ON_FILE, _no_keys(facts)
    keys = [key_refusal(key, "", facts.now) for key in user.ssh_public_keys]
    needs_key = user.password is None or user.password.require_key
    if keys and needs_key and set(keys) == {Cause.KEY_EXPIRED}:
        return Cause.KEY_EXPIRED, _of_record(facts, Cause.KEY_EXPIRED)
    return None


def of_address(facts: Facts, address: str) -> tuple[Cause, Remedy] | None:
    """Why the user could not log in from that address."""
    user = facts.user
    assert user is not None
    if not rules_of(facts.server.tags).admit(address):
        return Cause.ADDRESS_REFUSED, _of_record(facts, Cause.ADDRESS_REFUSED)
    if user_refusal(user, address, facts.now) is Cause.USER_ADDRESS_REFUSED:
        return Cause.USER_ADDRESS_REFUSED, _of_record(facts, Cause.USER_ADDRESS_REFUSED)
    needs_key = user.password is None or user.password.require_key
    keys = [key_refusal(key, address, facts.now) for key in user.ssh_public_keys]
    if keys and needs_key and None not in keys:
        return Cause.KEY_ADDRESS_REFUSED, _of_record(facts, Cause.KEY_ADDRESS_REFUSED)
    return None


def _of_record(facts: Facts, cause: Cause) -> Remedy:
    """The remedy of a cause that is told by what holds now."""
    address = facts.address or ""
    made = LoginRecord(cause, source_of(address), facts.user_name, address, 0, 0.0, 0.0)
    return explained(facts, made)


# -- the causes -----------------------------------------------------------------------------------


def explained(facts: Facts, record: LoginRecord) -> Remedy:
    """What a recorded refusal means, and what to do."""
    assert record.cause is not None
    return _REMEDIES[record.cause](facts, record)


def _address_list(facts: Facts, record: LoginRecord, holder: Server | User, whose: str) -> Remedy:
    """Which list of addresses refuses, and where it stands."""
    tags, address = holder.tags, record.source_ip
    tag, listed = ALLOWED_TAG, ""
    for network in parse_networks(tags.get(DENIED_TAG, "")):
        if is_within(address, (network,)):
            tag, listed = DENIED_TAG, str(network)
            break
    place = f" ({holder.source})" if holder.source is not None else ""
    because = f"`{listed}` is in" if listed else f"it is not in `{tags.get(ALLOWED_TAG, '')}` of"
    return Remedy(
        f"address {address} is refused: {because} the tag `{tag}` of {whose}{place}",
        (f"edit the tag `{tag}` of {whose}{place}", "feedgate apply"),
    )


def _server_address(facts: Facts, record: LoginRecord) -> Remedy:
    server = facts.server
    return _address_list(facts, record, server, f"the server `{server.logical_id}`")


def _user_address(facts: Facts, record: LoginRecord) -> Remedy:
    assert facts.user is not None
    return _address_list(facts, record, facts.user.user, f"the user `{facts.user_name}`")


def _disabled(facts: Facts, record: LoginRecord) -> Remedy:
    assert facts.user is not None
    if facts.user.enabled:
        faults = "; ".join(access_tag_faults(facts.user.user.tags, of_user=True))
        return Remedy(f"his tags cannot be read: {faults}", ("feedgate check", "feedgate apply"))
    return Remedy("the user is disabled", (f"feedgate user enable {facts.user_name}",))


def _expired(facts: Facts, record: LoginRecord) -> Remedy:
    assert facts.user is not None
    user = facts.user.user
    place = f" ({user.source})" if user.source is not None else ""
    when = user.tags.get(EXPIRES_TAG)
    return Remedy(
        f"his access ended at {when}, by the tag `{EXPIRES_TAG}`",
        (f"edit the tag `{EXPIRES_TAG}` of the user `{facts.user_name}`{place}", "feedgate apply"),
    )


def _no_keys(facts: Facts) -> Remedy:
    name = facts.user_name
    return Remedy(
        "the user has neither an SSH key nor a password",
        (f"feedgate user key add {name} FILE.pub",),
    )


def _key_not_on_file(facts: Facts, record: LoginRecord) -> Remedy:
    assert facts.user is not None
    offered, name = record.fingerprints, facts.user_name
    owners = {
        key.fingerprint: owner.user_name
        for owner in facts.users.values()
        for key in owner.ssh_public_keys
    }
    on_file = ", ".join(key.fingerprint for key in facts.user.ssh_public_keys) or "none"
    notes = (f"on file: {on_file}",)
    shown = " or ".join(offered) or "he offered"
    add = f"feedgate user key add {name} FILE.pub"
    check = f"ask the supplier for the public key of {shown}; `ssh-keygen -lf FILE.pub` tells"
    for fingerprint in offered:
        if fingerprint in owners:
            owner = owners[fingerprint]
            return Remedy(
                f"key {fingerprint} is not on file for him; it is `{owner}`'s",
                (f"tell the supplier to log in as `{owner}`, or to send a key of his own", add),
                notes,
            )
    many = f"none of the {len(offered)} keys that he offered is" if len(offered) > 1 else ""
    return Remedy(
        f"{many} on file: {', '.join(offered)}" if many else f"key {shown} is not on file",
        (check, add),
        notes,
    )


def _key_option(facts: Facts, record: LoginRecord) -> Remedy:
    assert facts.user is not None
    keys = tried_keys(facts.user, record)
    judged = [(key_refusal(key, record.source_ip, facts.now), key) for key in keys]
    key = next((key for cause, key in judged if cause is record.cause), None)
    if key is None:
        return Remedy(
            "the key was refused by its options", (f"feedgate user show {facts.user_name}",)
        )
    why = "has expired"
    if record.cause is Cause.KEY_ADDRESS_REFUSED:
        why = f"may not be used from {record.source_ip}"
    name = facts.user_name
    return Remedy(
        f"key {key.fingerprint} {why}, by its options `{key.options.text}`",
        (
            f"edit the key's options in users.json, then feedgate apply; or for another key:"
            f" feedgate user key add {name} FILE.pub",
        ),
    )


def _signature_algorithm(facts: Facts, record: LoginRecord) -> Remedy:
    algorithm = record.detail
    shown = f"`{algorithm}`{' (SHA-1)' if algorithm == 'ssh-rsa' else ''}"
    if signs(facts, facts.policy_name, record):
        return _not_served_yet(facts, record)
    admitting = [name for name in facts.offers if signs(facts, name, record)]
    mend = ["tell the supplier to use a newer client, or an Ed25519 key: ssh-keygen -t ed25519"]
    if admitting:
        mend.append(_use_policy(facts, admitting[0]))
    return Remedy(
        f"the client signs with {shown}, which `{facts.policy_name}` refuses", tuple(mend)
    )


def _signature_invalid(facts: Facts, record: LoginRecord) -> Remedy:
    return Remedy(
        "the signature does not fit the key: private and public key are not of one pair",
        ("tell the supplier to compare `ssh-keygen -yf KEY` with KEY.pub",),
        tuple(f"key {fingerprint}" for fingerprint in record.fingerprints),
    )


def _second_factor(facts: Facts, record: LoginRecord) -> Remedy:
    name = facts.user_name
    came = "the key was right, and the password never came"
    if record.method == "password":
        came = "a password came without a key before it"
    return Remedy(
        f"he needs an SSH key and then a password: {came}",
        (
            "tell the supplier that both are asked for, the key first",
            f"feedgate user password {name}   # a new one, and without --require-key it is enough",
        ),
    )


def _other_name(facts: Facts, record: LoginRecord) -> Remedy:
    name, tried = facts.user_name, record.user_name
    return Remedy(
        f"the client at {record.source_ip} logs in as `{tried}`, which is nobody's name",
        (f"tell the supplier that his user name is `{name}`",),
    )


def _wrong_password(facts: Facts, record: LoginRecord) -> Remedy:
    name = facts.user_name
    lacks = facts.user is not None and facts.user.password is None
    summary = "he gave a password, and has none" if lacks else "the password was wrong"
    mend = [f"feedgate user password {name}"]
    if lacks:
        mend.append(f"or let him use a key: feedgate user key add {name} FILE.pub")
    return Remedy(summary, tuple(mend))


def _no_common_algorithm(facts: Facts, record: LoginRecord) -> Remedy:
    offer = offered(record)
    kind, names = next(iter(offer.items()), ("", ()))
    told = ", ".join(names[:_NAMES_TOLD_MAX]) + " …" * (len(names) > _NAMES_TOLD_MAX)
    summary = f"the client has no {kind} algorithm that `{facts.policy_name}` offers; it has {told}"
    if admits(facts, facts.policy_name, offer):
        return _not_served_yet(facts, record)
    admitting = [name for name in facts.offers if admits(facts, name, offer)]
    if admitting:
        return Remedy(
            f"{summary}; `{admitting[0]}` would admit it",
            ("tell the supplier to use a newer client", _use_policy(facts, admitting[0])),
            tuple(f"`{name}` would, too" for name in admitting[1:]),
        )
    mend = ["tell the supplier to use a newer client: no security policy admits this one"]
    if kind == "host key" and any(name.startswith("ecdsa-") for name in names):
        mend.append("ssh-keygen -q -t ecdsa -N '' -f FILE && feedgate hostkey add FILE")
    return Remedy(summary, tuple(mend))


def _not_served_yet(facts: Facts, record: LoginRecord) -> Remedy:
    return Remedy(
        f"`{facts.policy_name}` admits this client, and is served once the gateway starts again",
        ("feedgate down && feedgate up -d",),
    )


_NAMES_TOLD_MAX: Final = 6


def _use_policy(facts: Facts, name: str) -> str:
    return (
        f"give the server `{facts.server.logical_id}` SecurityPolicyName: {name},"
        " then feedgate apply && feedgate down && feedgate up -d"
    )


def _rate_limited(facts: Facts, record: LoginRecord) -> Remedy:
    address = record.source_ip
    return Remedy(
        f"address {address} failed to log in too often and is refused {record.detail}",
        (
            f"feedgate logins --lift {address}",
            f"for an address that many share: feedgate up --penalty-exempt {address}",
        ),
    )


def _no_login(facts: Facts, record: LoginRecord) -> Remedy:
    if not record.user_name:
        return _plain(
            "the client encrypted the connection and left before it named a user: it did not trust"
            " the host key, or was a scan",
            "compare the supplier's known host key with `feedgate hostkey list`",
        )(facts, record)
    old = ""
    if facts.user is not None and any(key.type == "ssh-rsa" for key in facts.user.ssh_public_keys):
        old = ", or it can sign with `ssh-rsa` (SHA-1) alone"
    return Remedy(
        f"the client named the user and offered no key: it finds no private key{old}, or it only"
        " knows a method that he has not",
        (
            f"tell the supplier to name the key: sftp -i KEY {facts.user_name}@HOST",
            f"feedgate user show {facts.user_name}",
        ),
    )


def _plain(summary: str, *mend: str) -> Callable[[Facts, LoginRecord], Remedy]:
    return lambda facts, record: Remedy(
        summary.format(address=record.source_ip),
        tuple(step.format(name=facts.user_name) for step in mend),
    )


_AGAIN: Final = "tell the supplier to try again"
_REMEDIES: Final[Mapping[Cause, Callable[[Facts, LoginRecord], Remedy]]] = {
    Cause.STOPPING: _plain("the gateway was stopping", _AGAIN),
    Cause.NO_WORKER: _plain("no worker was ready to take the connection", _AGAIN, "feedgate logs"),
    Cause.NO_DESCRIPTOR: _plain(
        "the gateway had no file descriptor left", "raise the limit: ulimit -n", _AGAIN
    ),
    Cause.ADDRESS_REFUSED: _server_address,
    Cause.RATE_LIMITED: _rate_limited,
    Cause.TOO_MANY_CONNECTIONS: _plain(
        "the gateway had as many connections as it may", "feedgate up --max-connections N"
    ),
    Cause.TOO_MANY_FROM_ADDRESS: _plain(
        "address {address} had as many connections as it may",
        "tell the supplier to open fewer, or: feedgate up --max-connections-per-address N",
    ),
    Cause.DISPLACED: _plain(
        "the connection waited without logging in, and newer ones took its place",
        _AGAIN,
        "feedgate up --max-unauthenticated N",
    ),
    Cause.PROXY_HEADER: _plain(
        "the proxy {address} sent no good PROXY protocol header",
        "let the proxy send it (v1 or v2), or leave it out of --proxy-protocol-from",
    ),
    Cause.NO_HANDSHAKE: _plain(
        "a TCP connection came from {address} and spoke no SSH: a scan, a health check, or a client"
        " set to FTP, FTPS or HTTPS",
        "tell the supplier that the protocol is SFTP (over SSH)",
    ),
    Cause.NO_COMMON_ALGORITHM: _no_common_algorithm,
    Cause.LOGIN_TIMEOUT: _plain(
        "the client connected from {address} and did not log in in time",
        "tell the supplier that something may wait for him, such as a question on his screen",
        "feedgate up --login-timeout SECONDS",
    ),
    Cause.NO_LOGIN: _no_login,
    Cause.UNKNOWN_USER: _other_name,
    Cause.WRONG_PASSWORD: _wrong_password,
    Cause.KEY_NOT_ON_FILE: _key_not_on_file,
    Cause.SIGNATURE_ALGORITHM: _signature_algorithm,
    Cause.SIGNATURE_INVALID: _signature_invalid,
    Cause.KEY_EXPIRED: _key_option,
    Cause.KEY_ADDRESS_REFUSED: _key_option,
    Cause.SECOND_FACTOR_MISSING: _second_factor,
    Cause.USER_ADDRESS_REFUSED: _user_address,
    Cause.USER_EXPIRED: _expired,
    Cause.USER_DISABLED: _disabled,
    Cause.TOO_MANY_OF_USER: _plain(
        "he had as many connections as a user may",
        "tell the supplier to open fewer, or: feedgate up --max-connections-per-user N",
    ),
    Cause.ROLE_REFUSED: _plain("his role could not be assumed", "feedgate explain {name} ls /"),
}
