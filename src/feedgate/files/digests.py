"""Hashes of a file's bytes, for clients that verify what lies here (``check-file``).

One thread of the process computes them, a piece at a time for whoever asks: a large file keeps
neither the event loop nor another client's small file waiting. The SHA-256 of a whole object is
known since it landed and costs nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, Protocol

from feedgate.errors import CouldNot, Unsupported
from feedgate.limits import DIGEST_BYTES_MAX, DIGEST_PIECE_BYTES

__all__ = ["ALGORITHMS", "BLOCK_BYTES_MIN", "Digested", "digests"]

BLOCK_BYTES_MIN: Final = 256  # draft-ietf-secsh-filexfer-extensions-00, section 3


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc32:
    """CRC-32 in the form of a hash; four bytes, big-endian."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def _hash(name: str) -> Callable[[], _Digest]:
    return lambda: hashlib.new(name, usedforsecurity=False)


# the draft's names; they tell transmission errors, so that MD5 and SHA-1 are no weakness
ALGORITHMS: Final[dict[str, tuple[int, Callable[[], _Digest]]]] = {
    "md5": (16, _hash("md5")),
    "sha1": (20, _hash("sha1")),
    "sha224": (28, _hash("sha224")),
    "sha256": (32, _hash("sha256")),
    "sha384": (48, _hash("sha384")),
    "sha512": (64, _hash("sha512")),
    "crc32": (4, _Crc32),
}


class Digested(Protocol):
    """What is hashed. Form: ``download.ReadFile``."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        ...

    @property
    def sha256(self) -> str:
        """Of all bytes, in hex; empty where it is not known."""
        ...

    def pread(self, offset: int, length: int) -> bytes:
        """Bytes at ``offset``, short only at the end; called in a thread."""
        ...


async def digests(
    file: Digested,
    algorithm: str,
    *,
    offset: int = 0,
    length: int = 0,
    block_bytes: int = 0,
    is_gone: Callable[[], bool] = lambda: False,
) -> bytes:
    """Digests of consecutive blocks, one after another; of one block with ``block_bytes`` 0.

    ``length`` 0 goes to the end. ``is_gone`` is asked between pieces: nobody waits any more.

    Raises:
        Unsupported: no such algorithm.
        CouldNot: the range begins beyond the end, blocks are shorter than 256 bytes, or the answer
            would be longer than ``DIGEST_BYTES_MAX``; or nobody waits any more.
        Integrity: the stored bytes do not verify.
    """
    if algorithm not in ALGORITHMS:
        raise Unsupported(f"no hash is called `{algorithm}`")
    if offset > file.size:
        raise CouldNot(f"offset {offset} lies beyond the end of the file")
    if block_bytes and block_bytes < BLOCK_BYTES_MIN:
        raise CouldNot(f"a block has at least {BLOCK_BYTES_MIN} bytes, not {block_bytes}")
    end = min(file.size, offset + length) if length else file.size
    digest_bytes, make = ALGORITHMS[algorithm]
    blocks = -(-(end - offset) // block_bytes) if block_bytes else 1
    if blocks * digest_bytes > DIGEST_BYTES_MAX:
        raise CouldNot(f"{blocks} digests are too many for one answer")
    if (
        algorithm == "sha256"
        and not block_bytes
        and (offset, end) == (0, file.size)
        and file.sha256
    ):
        return bytes.fromhex(file.sha256)
    found = bytearray()
    block_bytes = block_bytes or end - offset
    for _ in range(blocks):
        until = min(offset + block_bytes, end)
        found += await _one(file, make(), offset, until, is_gone)
        offset = until
    return bytes(found)


async def _one(
    file: Digested, digest: _Digest, offset: int, end: int, is_gone: Callable[[], bool]
) -> bytes:
    loop = asyncio.get_running_loop()
    while offset < end:
        if is_gone():
            raise CouldNot("nobody waits for the digest any more")
        size = min(DIGEST_PIECE_BYTES, end - offset)
        await loop.run_in_executor(_thread(), partial(_update, file, digest, offset, size))
        offset += size
    return digest.digest()


def _update(file: Digested, digest: _Digest, offset: int, size: int) -> None:
    digest.update(file.pread(offset, size))


_threads: list[ThreadPoolExecutor] = []


def _thread() -> ThreadPoolExecutor:
    """Made when first needed; one for the process."""
    if not _threads:
        _threads.append(ThreadPoolExecutor(1, thread_name_prefix="digest"))
    return _threads[0]
