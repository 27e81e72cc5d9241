"""What asyncssh 2.24.1 leaves open or refuses, and offers no option for; each item is tested.

- Diffie-Hellman group exchange serves 1,024-bit groups to who asks; RFC 8270 forbids less than
  2,048 bits, and AWS's policies list the method.
- An ``env`` request is accepted and kept, in any number.
- A second request for the authentication service ends the connection. paramiko's client sends one
  with each key that it tries, so that its second key would never be looked at; OpenSSH accepts it.
- A client that has logged in may ask for any number of proofs of host keys, each a signature that
  holds up the event loop.
- A reply to a request that wanted none ends the connection. phpseclib answers the announcement of
  host keys with one; OpenSSH takes no notice.
- One method that succeeded is a login: a password after an SSH key cannot be asked for.
- The negotiated key-exchange method and the client's offer are not told to the application.

These touch private names of asyncssh, and are written so that a missing one is noticed: an
assertion fails at start or at the first connection; only the last one gives None instead.
"""

# ruff: noqa: SLF001 - what this module is for

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import asyncssh
from asyncssh import kex_dh
from asyncssh.constants import MSG_REQUEST_FAILURE, MSG_REQUEST_SUCCESS
from asyncssh.packet import SSHPacket

from feedgate.limits import HOST_KEY_PROOFS_MAX

__all__ = [
    "accept_service_request",
    "bound_host_key_proofs",
    "ignore_stray_replies",
    "negotiated_kex",
    "no_common_algorithm",
    "refuse_environment",
    "require_more",
    "require_safe_groups",
    "require_version",
    "user_name_in_question",
    "whole_offer",
]

_GROUP_BITS_MIN: Final = 2048
_VERSION_MIN: Final = (2, 24, 1)


def require_version() -> None:
    """Security floor: 2.24.1 fixes an escape from the root directory and a wrong-user race."""
    version = tuple(int(part) for part in asyncssh.__version__.split(".")[:3])
    assert version >= _VERSION_MIN, f"asyncssh {asyncssh.__version__} has known holes"


def require_safe_groups() -> None:
    """Take the short groups out of group exchange, process-wide; idempotent."""
    module: Any = kex_dh
    groups = tuple(group for group in module._dh_gex_groups if group[0] >= _GROUP_BITS_MIN)
    assert groups, "asyncssh has no group of 2,048 bits or more"
    module._dh_gex_groups = groups
    # what it falls back to when the client's maximum is below every group
    assert hasattr(module, "_group1_g")
    assert hasattr(module, "_group1_p")
    _, module._group1_g, module._group1_p = groups[0]


def refuse_environment(channel: asyncssh.SSHServerChannel[bytes]) -> None:
    """Answer ``env`` with SSH_MSG_CHANNEL_FAILURE."""
    assert hasattr(channel, "_process_env_request")
    channel._process_env_request = lambda packet: False  # type: ignore[method-assign]


def accept_service_request(connection: asyncssh.SSHServerConnection) -> None:
    """While a client is authenticating, let it ask for ``ssh-userauth`` once more."""
    assert hasattr(connection, "_next_service")
    connection._next_service = b"ssh-userauth"


def bound_host_key_proofs(connection: asyncssh.SSHServerConnection) -> None:
    """Answer few ``hostkeys-prove-00@openssh.com``, none longer than what was announced."""
    name = "_process_hostkeys_prove_00_at_openssh_dot_com_global_request"
    prove = getattr(connection, name)
    announced = sum(4 + len(key) for key in connection._all_server_host_keys)
    asked = 0

    def bounded(packet: SSHPacket) -> None:
        nonlocal asked
        asked += 1
        too_long = len(packet.get_remaining_payload()) > announced
        if asked > HOST_KEY_PROOFS_MAX or too_long:
            connection._report_global_response(False)
        else:
            prove(packet)

    assert hasattr(connection, "_report_global_response")
    setattr(connection, name, bounded)


def require_more(connection: asyncssh.SSHServerConnection, is_complete: Callable[[], bool]) -> None:
    """Answer a method that succeeded with "partial success" until the login is complete.

    RFC 4252 §5.1. The two methods of asyncssh are what its own authentication handlers end with.
    """
    succeed = connection.send_userauth_success
    assert hasattr(connection, "send_userauth_failure")

    async def succeed_when_complete() -> None:
        if is_complete():
            await succeed()
        else:
            connection.send_userauth_failure(True)

    connection.send_userauth_success = succeed_when_complete  # type: ignore[method-assign]


def user_name_in_question(connection: asyncssh.SSHServerConnection) -> str:
    """The name in the authentication request that is being answered."""
    return str(connection._username)


def ignore_stray_replies(connection: asyncssh.SSHServerConnection) -> None:
    """Take no notice of a global reply that nothing waits for."""
    assert hasattr(connection, "_global_request_waiters")
    kind: Any = type(connection)
    connection._packet_handlers = _tolerant_handlers(kind)


@cache  # one table for all connections
def _tolerant_handlers(kind: Any) -> Any:
    handlers = kind._packet_handlers
    process = handlers[MSG_REQUEST_FAILURE]

    def tolerant(conn: Any, packet_type: int, packet_id: int, packet: SSHPacket) -> None:
        if conn._global_request_waiters:
            process(conn, packet_type, packet_id, packet)

    replies = {MSG_REQUEST_SUCCESS: tolerant, MSG_REQUEST_FAILURE: tolerant}
    return {**handlers, **replies}


def negotiated_kex(connection: asyncssh.SSHServerConnection) -> str | None:
    """The key exchange method of this connection; None if it cannot be told."""
    ours, theirs = _offers(connection)
    return _first_common(theirs[0], ours[0]) if ours and theirs else None


def no_common_algorithm(connection: asyncssh.SSHServerConnection) -> tuple[str, str] | None:
    """Why key exchange failed: the kind of algorithm without a match, and the client's offer.

    Kinds: ``kex``, ``host key``, ``cipher``, ``MAC``. None where everything matched, or the client
    never said what it offers. asyncssh's own exception is lost when the client, which sees the
    mismatch too, closes first.
    """
    ours, theirs = _offers(connection)
    if not ours or not theirs:
        return None
    for kind, index in _KINDS:
        if kind == "MAC" and _needs_no_mac(_first_common(theirs[index - 2], ours[index - 2])):
            continue
        if _first_common(theirs[index], ours[index]) is None:
            return kind, ",".join(theirs[index])
    return None


def whole_offer(connection: asyncssh.SSHServerConnection, first: str) -> str:
    """What the client offers, the kind ``first`` before the others: ``kex: a,b; cipher: …``."""
    _ours, theirs = _offers(connection)
    lists: dict[str, list[str]] = {}
    for kind, index in reversed(_KINDS):
        lists[kind] = theirs[index]
    kinds = sorted(lists, key=lambda kind: (kind != first, len(",".join(lists[kind]))))
    return "; ".join(f"{kind}: {','.join(lists[kind])}" for kind in kinds)


# where RFC 4253 §7.1 has the lists, client to server before server to client
_KINDS: Final = (
    *(("kex", 0), ("host key", 1)),
    *(("cipher", 2), ("cipher", 3), ("MAC", 4), ("MAC", 5)),
)
_LISTS: Final = 6


def _needs_no_mac(cipher: str | None) -> bool:
    return cipher is not None and ("gcm" in cipher or "poly1305" in cipher)


def _first_common(theirs: list[str], ours: list[str]) -> str | None:
    """The client's first that the server has too (RFC 4253 §7.1)."""
    return next((name for name in theirs if name in ours), None)


def _offers(connection: asyncssh.SSHServerConnection) -> tuple[list[list[str]], list[list[str]]]:
    """What server and client offered, as name lists; empty where unknown."""
    return (
        _name_lists(getattr(connection, "_server_kexinit", b"")),
        _name_lists(getattr(connection, "_client_kexinit", b"")),
    )


def _name_lists(kexinit: bytes) -> list[list[str]]:
    """The name lists of an SSH_MSG_KEXINIT payload, which begins with type and cookie."""
    position, lists = 17, []
    for _ in range(_LISTS):
        size = int.from_bytes(kexinit[position : position + 4], "big")
        names = kexinit[position + 4 : position + 4 + size]
        lists.append(names.decode("ascii", "replace").split(","))
        position += 4 + size
    return lists if kexinit else []
