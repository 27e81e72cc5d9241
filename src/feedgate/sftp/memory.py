"""Keep freed memory instead of giving it back to the system after every packet.

A 255 KiB request passes through a few buffers of its size. glibc takes and returns such blocks by
system calls, so that the kernel clears fresh pages for each: measured on a get of 512 MiB, 300,000
page faults and 0.94 s of system time against 500 and 0.18 s with these thresholds.
"""

from __future__ import annotations

import ctypes
from typing import Final

from feedgate.limits import MALLOC_KEPT_BYTES, MALLOC_MMAP_BYTES

__all__ = ["keep_freed_memory"]

# malloc.h
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def keep_freed_memory() -> bool:
    """Set glibc's thresholds for this process; False where there is no glibc. Idempotent."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(
        mallopt(_M_MMAP_THRESHOLD, MALLOC_MMAP_BYTES)
        and mallopt(_M_TRIM_THRESHOLD, MALLOC_KEPT_BYTES)
    )
