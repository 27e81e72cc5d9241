"""Entry ↔ SFTP attributes and long names, as AWS Transfer shows them on S3.

Mode 0744, no owner and no group, size 0 and the epoch for a prefix (seen in osxfuse/sshfs#55; aws
facts §0.5). OpenSSH prints the long name as it is for ``ls -l``, so suppliers see it.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from feedgate.files.home import Entry
from feedgate.sftp.packets import Fields, string

__all__ = ["Attributes", "decode_attributes", "encode_attributes", "encode_name", "long_name"]

_SIZE: Final = 0x1
_UIDGID: Final = 0x2
_PERMISSIONS: Final = 0x4
_ACMODTIME: Final = 0x8
_EXTENDED: Final = 0x80000000
_EXTENDED_PAIRS_MAX: Final = 16

_DIRECTORY_MODE: Final = 0o040744
_FILE_MODE: Final = 0o100744
_ATTRIBUTES = struct.Struct(">IQIII")
_TIME_MAX: Final = 0xFFFFFFFF
_SIX_MONTHS_S: Final = 365 * 24 * 3600 // 2
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a client sent along with SETSTAT, OPEN or MKDIR; None where it said nothing."""

    size: int | None = None
    permissions: int | None = None
    accessed_s: int | None = None
    modified_s: int | None = None
    has_owner: bool = False


def decode_attributes(fields: Fields) -> Attributes:
    """Read an ATTRS structure. Raises ``MalformedError``. Owner and group are dropped."""
    flags = fields.uint32()
    size = permissions = accessed_s = modified_s = None
    if flags & _SIZE:
        size = fields.uint64()
    if flags & _UIDGID:
        fields.uint32()
        fields.uint32()
    if flags & _PERMISSIONS:
        permissions = fields.uint32()
    if flags & _ACMODTIME:
        accessed_s, modified_s = fields.uint32(), fields.uint32()
    if flags & _EXTENDED:
        for _ in range(min(fields.uint32(), _EXTENDED_PAIRS_MAX)):
            fields.string()
            fields.string()
    return Attributes(size, permissions, accessed_s, modified_s, bool(flags & _UIDGID))


def encode_attributes(entry: Entry) -> bytes:
    """Size, mode and times; AWS sends no owner and no group."""
    mode = _DIRECTORY_MODE if entry.kind == "directory" else _FILE_MODE
    modified_s = min(max(entry.modified_s, 0), _TIME_MAX)
    flags = _SIZE | _PERMISSIONS | _ACMODTIME
    return _ATTRIBUTES.pack(flags, entry.size, mode, modified_s, modified_s)


def long_name(entry: Entry, now_s: float) -> bytes:
    """One line of ``ls -l``: ``drwxr--r--   1        -        -        0 Jan  1  1970 foobar``.

    As ls does, a time within six months shows its hour, another its year. UTC.
    """
    mode = "drwxr--r--" if entry.kind == "directory" else "-rwxr--r--"
    minute = min(max(entry.modified_s, 0), _TIME_MAX) // 60
    when = _when(minute, is_recent=abs(now_s - entry.modified_s) < _SIX_MONTHS_S)
    return f"{mode}   1        -        - {entry.size:8d} {when} ".encode() + entry.name


@lru_cache(maxsize=1024)  # what was sent together has few times
def _when(minute: int, *, is_recent: bool) -> str:
    """The time's twelve columns; ``minute`` is Unix time in minutes."""
    instant = time.gmtime(minute * 60)
    day = f"{_MONTHS[instant.tm_mon - 1]} {instant.tm_mday:2d}"
    if is_recent:
        return f"{day} {instant.tm_hour:02d}:{instant.tm_min:02d}"
    return f"{day}  {instant.tm_year}"


def encode_name(entry: Entry, now_s: float) -> bytes:
    """One entry of SSH_FXP_NAME: file name, long name, attributes."""
    return string(entry.name) + string(long_name(entry, now_s)) + encode_attributes(entry)
