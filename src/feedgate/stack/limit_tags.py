"""Tags that bound what a user may store, and say which names are of unfinished uploads.

AWS has no property for either. Values keep to what AWS takes in a tag: letters, digits, spaces and
``_ . : / = + - @`` (AWS General Reference, tagging). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

__all__ = [
    "FILE_BYTES_TAG",
    "QUOTA_TAG",
    "TEMPORARY_NAMES",
    "TEMPORARY_TAG",
    "UNBOUNDED",
    "UserLimits",
    "limit_tag_faults",
    "limits_of",
    "parse_bytes",
    "temporary_names",
]

QUOTA_TAG: Final = "feedgate:quotaBytes"  # a user's: of all that the user sent and is still there
FILE_BYTES_TAG: Final = "feedgate:maxFileBytes"  # a user's: of one file
TEMPORARY_TAG: Final = "feedgate:temporaryNames"  # a server's

TEMPORARY_NAMES: Final = ("*.filepart", "*.part", "*.tmp", ".~*")  # WinSCP, browsers and curl, lftp

_SIZE: Final = re.compile(r"\s*(\d{1,18})\s*([KMGTP]i?)?B?\s*", re.ASCII)
_POWERS: Final = "KMGTP"


@dataclass(frozen=True, slots=True)
class UserLimits:
    """In bytes; None where nothing is said."""

    quota_bytes: int | None = None
    file_bytes_max: int | None = None


UNBOUNDED: Final = UserLimits()


@lru_cache(maxsize=1024)  # asked at each session
def parse_bytes(text: str) -> int:
    """``10GiB``, ``500 MB``, ``1048576``: units of 1,024 with an ``i``, of 1,000 without.

    Raises:
        ValueError: it is no size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"`{text}` is no size: write for example `10GiB`")
    unit = match[2] or ""
    base = 1024 if unit.endswith("i") else 1000
    return int(match[1]) * int(base ** (_POWERS.index(unit[0]) + 1 if unit else 0))


def limits_of(tags: Mapping[str, str]) -> UserLimits:
    """What a user's tags state. Raises ``ValueError``."""
    if QUOTA_TAG not in tags and FILE_BYTES_TAG not in tags:
        return UNBOUNDED
    quota, largest = tags.get(QUOTA_TAG), tags.get(FILE_BYTES_TAG)
    return UserLimits(
        None if quota is None else parse_bytes(quota),
        None if largest is None else parse_bytes(largest),
    )


def temporary_names(tags: Mapping[str, str]) -> tuple[str, ...]:
    """Patterns of names that are offered to no pipe, as a server's tags state them.

    Words between spaces: with a ``*`` a pattern, without one an ending. No word: no such names.
    """
    text = tags.get(TEMPORARY_TAG)
    if text is None:
        return TEMPORARY_NAMES
    return tuple(word if "*" in word else f"*{word}" for word in text.split())


def limit_tag_faults(tags: Mapping[str, str], *, of_user: bool) -> Iterator[str]:
    """What is wrong with the tags of this module."""
    if of_user:
        for tag in (QUOTA_TAG, FILE_BYTES_TAG):
            try:
                parse_bytes(tags.get(tag, "0"))
            except ValueError as error:
                yield f"tag `{tag}`: {error}"
    misplaced = (TEMPORARY_TAG,) if of_user else (QUOTA_TAG, FILE_BYTES_TAG)
    for tag in misplaced:
        if tag in tags:
            yield f"tag `{tag}` is for {'a server' if of_user else 'users'}"
