"""Damages bytes as transmission, bugs and attackers do; the same seed gives the same damage."""

from __future__ import annotations

import random
from typing import Final

__all__ = ["damaged"]

_INTERESTING: Final = (
    *(b"\0", b"\xff", b"\x7f", b"\x80", b"..", b"/../", b"//", b"\n", b"\x1b[2J", b"\xc0\xae"),
    *(b"\0\0\0\0", b"\0\0\0\1", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\4\0\1"),
    *(b"\xff" * 8, b"\x80" + bytes(7), b"%2e%2e%2f", b"A" * 300),
)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """``data`` with one to four faults."""
    result = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(result) + 1)
        kind = rng.randrange(6)
        if kind == 0 and result:
            result[place % len(result)] ^= 1 << rng.randrange(8)
        elif kind == 1 and result:
            result[place % len(result)] = rng.randrange(256)
        elif kind == 2:
            result[place:place] = rng.choice(_INTERESTING)
        elif kind == 3:
            value = rng.choice(_INTERESTING)
            result[place : place + len(value)] = value
        elif kind == 4:
            del result[place : place + rng.randint(1, 16)]
        else:
            piece = result[place : place + rng.randint(1, 32)]
            result[place:place] = piece * rng.randint(1, 3)
    return bytes(result)
