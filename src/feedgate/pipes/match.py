"""Which pipes cover an object: the first step of a landing's way to rows. Pure.

A pipe covers a key when its stage's URL and its COPY's path are a prefix of it, the rest matches
PATTERN as a whole (Snowflake's current text: the rest begins after stage URL *and* path), and no
STORAGE_BLOCKED_LOCATIONS of the integration holds it. A prefix is a prefix of characters, as on
Snowflake: ``s3://b/orders`` covers ``orders_old/x.csv`` too, which the reader of the script warns
of. Only pipes with AUTO_INGEST take what lands.

Never offered: keys that end in a slash (markers of empty directories), and names by which clients
upload before they rename (``Warehouse.temporary_names``): the rename is a landing under the last
name, and that one is offered.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from feedgate.stack.limit_tags import TEMPORARY_NAMES
from feedgate.stack.sql_objects import location_within
from feedgate.stack.sql_pattern import Pattern, compile_pattern
from feedgate.stack.warehouse import Pipe, Warehouse

__all__ = ["Location", "covering", "is_temporary", "location_of", "why_not"]


@dataclass(frozen=True, slots=True)
class Location:
    """Where a pipe reads: bucket and prefix of keys, stage URL and COPY path joined."""

    bucket: str
    prefix: str


def location_of(warehouse: Warehouse, pipe: Pipe) -> Location:
    """The bucket and key prefix of ``FROM @stage/path``."""
    url = warehouse.stages[pipe.copy.stage].url.removeprefix("s3://")
    bucket, _, prefix = url.partition("/")
    if pipe.copy.path and prefix and not prefix.endswith("/"):
        prefix += "/"
    return Location(bucket, prefix + pipe.copy.path)


def covering(warehouse: Warehouse, bucket: str, key: str) -> tuple[Pipe, ...]:
    """The pipes that a landing at ``bucket``/``key`` is offered to, in order of declaration."""
    return tuple(
        pipe for pipe in warehouse.pipes.values() if why_not(warehouse, pipe, bucket, key) is None
    )


def why_not(warehouse: Warehouse, pipe: Pipe, bucket: str, key: str) -> str | None:
    """Why a pipe does not cover an object, for ``explain``; None if it does."""
    location = location_of(warehouse, pipe)
    if bucket != location.bucket or not key.startswith(location.prefix):
        return f"it reads `s3://{location.bucket}/{location.prefix}`"
    if not pipe.auto_ingest:
        return "it has no AUTO_INGEST = TRUE"
    integration = warehouse.integrations[warehouse.stages[pipe.copy.stage].integration]
    for blocked in integration.blocked_locations:
        if location_within(f"s3://{bucket}/{key}", blocked):
            return f"`{integration.name}` blocks `{blocked}`"
    return _never_offered(warehouse, key) or _no_match(pipe, key[len(location.prefix) :])


def _never_offered(warehouse: Warehouse, key: str) -> str | None:
    if key.endswith("/"):
        return "a key that ends in a slash marks a directory"
    if is_temporary(key, warehouse.temporary_names):
        return "the name is one that clients give to unfinished uploads"
    return None


def _no_match(pipe: Pipe, rest: str) -> str | None:
    pattern = pipe.copy.pattern
    if pattern is None or _pattern(pattern).matches(rest):
        return None
    return f"`{rest}` does not match PATTERN `{pattern}`"


def is_temporary(key: str, names: Sequence[str] = TEMPORARY_NAMES) -> bool:
    """True if the last component of the key is a name of an unfinished upload."""
    name = key.rpartition("/")[2]
    return any(fnmatchcase(name, pattern) for pattern in names)


@functools.lru_cache(maxsize=256)
def _pattern(text: str) -> Pattern:
    return compile_pattern(text)
