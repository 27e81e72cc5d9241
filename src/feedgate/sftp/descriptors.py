"""File descriptors: as many as the system lets this process have, and a part of them for handles.

An open file that does not lie in the index holds a descriptor, and so does a connection. A process
that has none left can neither serve its clients nor write its database, so handles end well before.
"""

from __future__ import annotations

import resource

from feedgate.limits import (
    DESCRIPTORS_OWN,
    DESCRIPTORS_WANTED,
    OPEN_HANDLES_MAX,
    OPEN_HANDLES_MIN,
)

__all__ = ["handles_that_fit", "raise_descriptor_limit"]


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit as far as it is useful and allowed; the limit. Idempotent."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return DESCRIPTORS_WANTED if soft == resource.RLIM_INFINITY else soft


def handles_that_fit(descriptors: int) -> int:
    """How many handles a process may have open: half of what is left beside its own needs."""
    return min(OPEN_HANDLES_MAX, max(OPEN_HANDLES_MIN, (descriptors - DESCRIPTORS_OWN) // 2))
