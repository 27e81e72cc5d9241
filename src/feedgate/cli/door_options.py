"""Options of ``up`` about who may connect, and how much: the bounds of ``limits`` with a name."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from feedgate import limits
from feedgate.errors import UsageError

if TYPE_CHECKING:
    from feedgate.gateway.admission import AdmissionLimits
    from feedgate.stack.access_tags import Network

__all__ = ["admission_limits", "default_workers", "door_arguments", "door_options", "proxy_from"]

F = TypeVar("F", bound=Callable[..., Any])

# option → name in AdmissionLimits, default, help
_ADMISSION: Final = (
    ("max-connections", "connections", limits.CONNECTIONS_MAX, "Connections in all."),
    (
        "max-connections-per-address",
        "per_address",
        limits.CONNECTIONS_PER_ADDRESS_MAX,
        "Connections from one address, or one IPv6 /64.",
    ),
    (
        "max-connections-per-user",
        "per_user",
        limits.CONNECTIONS_PER_USER_MAX,
        "Connections of one user.",
    ),
    (
        "max-unauthenticated",
        "unauthenticated",
        limits.UNAUTHENTICATED_MAX,
        "Connections that have not logged in; a newer one displaces the oldest.",
    ),
    (
        "max-unauthenticated-per-address",
        "unauthenticated_per_address",
        limits.UNAUTHENTICATED_PER_ADDRESS_MAX,
        "The same, from one address.",
    ),
    (
        "max-auth-failures",
        "auth_failures",
        limits.AUTH_FAILURES_MAX,
        "Failed logins of an address before it is refused for a while; halved every 5 minutes.",
    ),
)
# option → argument of the door, default, help
_COUNTS: Final = (
    ("max-auth-tries", "tries_max", limits.AUTH_TRIES_MAX, "Refused tries of one connection."),
    (
        "max-channels",
        "channels_max",
        limits.SFTP_CHANNELS_MAX,
        "SFTP sessions on one connection.",
    ),
    (
        "max-handles",
        "connection_handles_max",
        limits.SFTP_HANDLES_MAX,
        "Open files and directories of one connection.",
    ),
)
_TIMES: Final = (
    ("login-timeout", "login_timeout_s", limits.LOGIN_TIMEOUT_S, "For a client to log in."),
    ("idle-timeout", "idle_timeout_s", limits.IDLE_TIMEOUT_S, "Without a request."),
    (
        "unresponsive-timeout",
        "unresponsive_s",
        limits.UNRESPONSIVE_S,
        "Without any answer of a client.",
    ),
)


def default_workers() -> int:
    """As many as this process may use cores, four at most."""
    return min(limits.WORKERS_MAX_DEFAULT, len(os.sched_getaffinity(0)))


def door_options(command: F) -> F:
    """The options; their values come as keyword arguments, to be taken out below."""
    decorators = [
        *(_count(*row) for row in _ADMISSION),
        click.option(
            "--max-penalty",
            "penalty_s_max",
            default=limits.PENALTY_S_MAX,
            show_default=True,
            type=click.FloatRange(0),
            help="Seconds that an address with failed logins is refused at most.",
        ),
        click.option(
            "--penalty-exempt",
            multiple=True,
            metavar="CIDR",
            help="Addresses that are never refused for failed logins.",
        ),
        *(_count(*row) for row in _COUNTS),
        *(
            click.option(
                f"--{name}",
                target,
                default=float(default),
                show_default=True,
                type=click.FloatRange(0, min_open=True),
                metavar="SECONDS",
                help=text,
            )
            for name, target, default, text in _TIMES
        ),
        click.option(
            "--proxy-protocol-from",
            "proxy_networks",
            multiple=True,
            metavar="CIDR",
            help="Proxies whose connections begin with a PROXY protocol header (v1 or v2).",
        ),
    ]
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def _count(name: str, target: str, default: int, text: str) -> Callable[[F], F]:
    return click.option(
        f"--{name}",
        target,
        default=default,
        show_default=True,
        type=click.IntRange(1),
        metavar="N",
        help=text,
    )


def admission_limits(options: dict[str, Any]) -> AdmissionLimits:
    """Take the supervisor's limits out of a command's keyword arguments.

    Raises:
        UsageError: a network is none.
    """
    from feedgate.gateway.admission import AdmissionLimits

    return AdmissionLimits(
        **{target: options.pop(target) for _name, target, _default, _text in _ADMISSION},
        penalty_s_max=options.pop("penalty_s_max"),
        exempt=_networks("--penalty-exempt", options.pop("penalty_exempt")),
    )


def door_arguments(options: dict[str, Any]) -> dict[str, float]:
    """Take the door's limits out of a command's keyword arguments."""
    return {target: options.pop(target) for _name, target, *_rest in (*_COUNTS, *_TIMES)}


def proxy_from(options: dict[str, Any]) -> tuple[Network, ...]:
    """Take the trusted proxies out of a command's keyword arguments. Raises ``UsageError``."""
    return _networks("--proxy-protocol-from", options.pop("proxy_networks"))


def _networks(option: str, words: tuple[str, ...]) -> tuple[Network, ...]:
    from feedgate.stack.access_tags import parse_networks

    try:
        return parse_networks(" ".join(words))
    except ValueError as error:
        raise UsageError(f"`{option}`: {error}") from error
