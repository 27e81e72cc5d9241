"""Landings and receipts: one landing is one act by which an object became visible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from feedgate.errors import RowError

__all__ = ["Landing", "LandingKind", "LoadStatus", "PipeLoad", "Receipt"]

# Snowflake's COPY_HISTORY statuses, and ours for what has not been tried
LoadStatus = Literal[
    "PENDING", "LOADED", "PARTIALLY_LOADED", "LOAD_FAILED", "LOAD_SKIPPED", "AWAITING_DECISION"
]
LandingKind = Literal["put", "rename", "copy", "mkdir"]


@dataclass(frozen=True, slots=True)
class Landing:
    """One act by which an object became visible through the gateway.

    ``landing_id`` is a ULID made at CLOSE; times are Unix milliseconds; ``path`` is the supplier's.
    ``origin_landing_id`` is set on a rename: the landing that brought the bytes, however often the
    object was renamed since. ``is_partial``: the connection ended before CLOSE, and as on AWS what
    had been received was stored; no pipe is offered it, under whatever name.
    """

    landing_id: str
    bucket: str
    key: str
    version_id: str
    object_id: str
    size: int
    sha256: str
    etag: str
    kms_key_arn: str | None
    user_name: str
    session_id: str
    ssh_key_fingerprint: str
    client_version: str
    source_ip: str
    path: str
    landed_at_ms: int
    kind: LandingKind = "put"
    origin_landing_id: str | None = None
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class PipeLoad:
    """What one pipe made of one landing.

    ``errors_sealed`` is set where the texts of ``errors`` could not be read: the reason.
    """

    landing_id: str
    pipe: str
    table: str
    status: LoadStatus
    rows_parsed: int = 0
    rows_loaded: int = 0
    errors_seen: int = 0
    message: str | None = None
    errors: tuple[RowError, ...] = ()
    loaded_at_ms: int | None = None
    attempts: int = 0
    errors_sealed: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The record of one landing and of what it became.

    Not ``offered``: the loader has not come to it yet. Offered, no ``loads``: no pipe covers it.
    """

    landing: Landing
    loads: tuple[PipeLoad, ...]
    offered: bool = True
