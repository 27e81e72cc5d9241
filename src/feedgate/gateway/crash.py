"""The kill switch of the crash tests: one function, inert unless two conditions hold.

``FEEDGATE_CRASH_AT=<point>`` kills this process with SIGKILL at that point (``<point>:N`` at its
N-th passage) only when every listener is loopback **and** the data folder holds ``.feedgate-test``.
A production folder never does, so a stray variable is harmless.
"""

from __future__ import annotations

import ipaddress
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["CRASH_POINTS", "CrashAt", "crash_switch", "never"]

CrashAt = Callable[[str], None]

CRASH_POINTS = (
    "part-written",
    "part-synced",
    "upload-before-publish",
    "landing-before-commit",
    "landing-committed",
    "load-claimed",
    "load-before-commit",
    "load-after-commit",
)


def never(_point: str) -> None:
    """The switch of every gateway that is not under test."""


def crash_switch(marker: Path, listeners: Sequence[str], variable: str | None) -> CrashAt:
    """This process's switch: ``never`` unless both conditions hold and the variable is set."""
    if not variable or not marker.exists() or not all(map(_is_loopback, listeners)):
        return never
    wanted, _, count = variable.partition(":")
    remaining = int(count or 1)

    def crash_at(point: str) -> None:
        nonlocal remaining
        if point == wanted:
            remaining -= 1
            if remaining == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return crash_at


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
