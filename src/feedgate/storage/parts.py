"""One part: a complete Tink AES256-GCM-HKDF streaming ciphertext, written once, read anywhere.

Format (Tink wire format, ``AesGcmHkdfStreaming``; segment S = 64 KiB, header H = 40 bytes)::

    header     40 · salt (32) · nonce prefix (7)
    key        HKDF-SHA256(data key, salt, info = associated data), 32 bytes
    segment i  AES-256-GCM, nonce = prefix · i (4, big-endian) · 01 for the last segment else 00
    places     segment 0 at [H, S), segment i at [i·S, (i+1)·S); each ends with a 16-byte tag

Written here on ``cryptography`` because Tink's Python stream cannot seek; tests prove byte
compatibility both ways. Associated data names the object id and the part number: it is bound at the
first byte, and unlike a key (an object's name) it never changes.

Rules that the format forces: no segment is sealed twice (its nonce would repeat), so a writer
keeps one segment back until it knows whether that is the last; a cut file shows only when its last
segment is read, so a reader knows the size and verifies the last segment when it opens.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from feedgate import limits
from feedgate.errors import Integrity

__all__ = [
    "OVERHEAD_BYTES",
    "PartReader",
    "PartWriter",
    "associated_data",
    "ciphertext_bytes",
    "plaintext_bytes",
    "seal",
    "unseal",
    "whole_segments",
]

_Buffer: TypeAlias = bytes | bytearray | memoryview

_SALT_BYTES: Final = 32
_PREFIX_BYTES: Final = 7
_HEADER_BYTES: Final = 1 + _SALT_BYTES + _PREFIX_BYTES
_TAG_BYTES: Final = 16
_SEGMENT_BYTES: Final = limits.SEGMENT_BYTES
_PLAIN_BYTES: Final = _SEGMENT_BYTES - _TAG_BYTES  # in every segment but the first
OVERHEAD_BYTES: Final = _HEADER_BYTES + _TAG_BYTES  # what one segment adds to its plaintext


def associated_data(object_id: str, part_number: int) -> bytes:
    """What a part is bound to: its object and its place among the object's parts."""
    return f"{object_id}/{part_number}".encode("ascii")


def ciphertext_bytes(plaintext: int) -> int:
    """Size of the ciphertext of that many plaintext bytes."""
    return plaintext + _HEADER_BYTES + _TAG_BYTES * _segments(plaintext)


def plaintext_bytes(ciphertext: int) -> int:
    """Size of the plaintext in a ciphertext of that many bytes. Raises ``Integrity``."""
    segments = max(1, -(-ciphertext // _SEGMENT_BYTES))
    size = ciphertext - _HEADER_BYTES - _TAG_BYTES * segments
    if size < 0 or ciphertext_bytes(size) != ciphertext:
        raise Integrity(f"no part has {ciphertext} bytes: it was cut")
    return size


def seal(data_key: bytes, associated: bytes, plaintext: _Buffer) -> bytes:
    """A whole part that fits one segment, as small objects lie in the index."""
    assert len(plaintext) <= _PLAIN_BYTES - _HEADER_BYTES
    header = _new_header()
    cipher = _cipher(data_key, header, associated)
    return header + cipher.encrypt(_nonce(header, 0, last=True), plaintext, None)


def unseal(data_key: bytes, associated: bytes, ciphertext: bytes) -> bytes:
    """The plaintext of a one-segment part. Raises ``Integrity``."""
    if len(ciphertext) < OVERHEAD_BYTES or ciphertext[0] != _HEADER_BYTES:
        raise _damaged(associated)
    cipher = _cipher(data_key, ciphertext[:_HEADER_BYTES], associated)
    nonce = _nonce(ciphertext, 0, last=True)
    try:
        return cipher.decrypt(nonce, memoryview(ciphertext)[_HEADER_BYTES:], None)
    except InvalidTag:
        raise _damaged(associated) from None


def whole_segments(
    data_key: bytes, associated: bytes, size: int, read_at: Callable[[int, int], bytes]
) -> int:
    """How many segments of a part whose writer died verify, from its first; reads them all.

    ``size`` is what there is of the ciphertext. The last segment of a finished part is not counted:
    in a part that was cut it could not be told from a forged end.
    """
    header = read_at(0, _HEADER_BYTES)
    if len(header) != _HEADER_BYTES or header[0] != _HEADER_BYTES:
        return 0
    cipher = _cipher(data_key, header, associated)
    for index in range(size // _SEGMENT_BYTES):
        begin = index * _SEGMENT_BYTES if index else _HEADER_BYTES
        try:
            ciphertext = read_at(begin, (index + 1) * _SEGMENT_BYTES - begin)
            cipher.decrypt(_nonce(header, index, last=False), ciphertext, None)
        except InvalidTag:
            return index
    return size // _SEGMENT_BYTES


class PartWriter:
    """Encrypts a stream into a part.

    ``write_out`` receives views of one reused buffer and must be done with them when it returns.
    Used from one thread at a time. After an error the part is lost. ``kept`` are the plaintext
    bytes, less than a segment's, that are not sealed yet.
    """

    __slots__ = (
        "_cipher",
        "_header",
        "_index",
        "_out",
        "_used",
        "_view",
        "_write",
        "kept",
        "size",
    )

    def __init__(
        self, data_key: bytes, associated: bytes, write_out: Callable[[memoryview], None]
    ) -> None:
        self.size = 0  # plaintext bytes taken so far
        self._header = _new_header()
        self._cipher = _cipher(data_key, self._header, associated)
        self._write = write_out
        self._index = 0
        self.kept = bytearray()
        self._out = bytearray(limits.PART_BUFFER_BYTES)
        self._view = memoryview(self._out)
        self._out[:_HEADER_BYTES] = self._header
        self._used = _HEADER_BYTES

    def write(self, pieces: Sequence[_Buffer]) -> None:
        """Take the pieces one after another; they may be reused afterwards."""
        kept = self.kept
        room = self._capacity() - len(kept)
        for piece in pieces:
            length = len(piece)
            self.size += length
            if length <= room:
                kept += piece
                room -= length
                continue
            # more follows than this segment holds, so it is not the last
            view = memoryview(piece)
            at = 0
            if kept:
                kept += view[:room]
                at = room
                self._seal(kept, last=False)
                kept.clear()
            capacity = self._capacity()
            while length - at > capacity:
                self._seal(view[at : at + capacity], last=False)
                at += capacity
                capacity = _PLAIN_BYTES
            kept += view[at:]
            room = capacity - len(kept)

    def finish(self) -> None:
        """Seal what was kept back as the last segment and write everything out."""
        self._seal(self.kept, last=True)
        self._flush()
        self._view.release()

    def write_out_sealed(self) -> int:
        """Write out what is sealed so far, so that it can be read back; its size in bytes."""
        if self._index:
            self._flush()
        return self._index * _SEGMENT_BYTES

    def _capacity(self) -> int:
        return _PLAIN_BYTES if self._index else _PLAIN_BYTES - _HEADER_BYTES

    def _seal(self, plaintext: _Buffer, *, last: bool) -> None:
        end = self._used + len(plaintext) + _TAG_BYTES
        if end > len(self._out):
            self._flush()
            end = len(plaintext) + _TAG_BYTES
        nonce = _nonce(self._header, self._index, last=last)
        self._cipher.encrypt_into(nonce, plaintext, None, self._view[self._used : end])
        self._index += 1
        self._used = end

    def _flush(self) -> None:
        self._write(self._view[: self._used])
        self._used = 0


class PartReader:
    """Random access to a part through ``read_at(offset, length)``, which reads its ciphertext.

    ``size`` is the plaintext's. Verifies the last segment when made, so a cut part is noticed.
    Thread-safe if ``read_at`` is. Raises ``Integrity`` where the bytes do not verify.

    ``cut``: the part is still being written, or its writer died, so none of the whole segments that
    ``ciphertext_size`` counts is its last one. Whoever knows no better must not say so.
    """

    __slots__ = (
        "_associated",
        "_cached",
        "_cipher",
        "_header",
        "_last",
        "_read_at",
        "size",
    )

    def __init__(
        self,
        data_key: bytes,
        associated: bytes,
        ciphertext_size: int,
        read_at: Callable[[int, int], bytes],
        *,
        cut: bool = False,
    ) -> None:
        if cut:
            segments = ciphertext_size // _SEGMENT_BYTES
            self.size = max(0, segments * _PLAIN_BYTES - _HEADER_BYTES)
        else:
            self.size = plaintext_bytes(ciphertext_size)
            segments = _segments(self.size)
        self._associated = associated
        self._last = -1 if cut else segments - 1  # the segment sealed as the last
        self._read_at = read_at
        self._header = read_at(0, _HEADER_BYTES)
        if len(self._header) != _HEADER_BYTES or self._header[0] != _HEADER_BYTES:
            raise _damaged(associated)
        self._cipher = _cipher(data_key, self._header, associated)
        # the segment decrypted last: sequential reads of any size decrypt each segment once
        self._cached: tuple[int, bytes] = (-1, b"")
        if segments:
            self._read(segments - 1, segments - 1)

    def pread(self, offset: int, length: int) -> bytes:
        """Plaintext at ``offset``; short only at the end."""
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        first = (offset + _HEADER_BYTES) // _PLAIN_BYTES
        last = (offset + length - 1 + _HEADER_BYTES) // _PLAIN_BYTES
        pieces: list[_Buffer] = list(self._read(first, last))
        start = first * _PLAIN_BYTES - _HEADER_BYTES if first else 0
        skip = offset - start
        if len(pieces) == 1:
            return bytes(pieces[0][skip : skip + length])
        pieces[0] = memoryview(pieces[0])[skip:]
        before_last = last * _PLAIN_BYTES - _HEADER_BYTES
        pieces[-1] = memoryview(pieces[-1])[: offset + length - before_last]
        return b"".join(pieces)

    def _read(self, first: int, last: int) -> list[bytes]:
        """The plaintexts of the segments from ``first`` to ``last``."""
        cached_index, cached = self._cached
        plaintexts: list[bytes] = []
        if cached_index == first:
            plaintexts.append(cached)
            first += 1
            if first > last:
                return plaintexts
        begin = first * _SEGMENT_BYTES if first else _HEADER_BYTES
        end = (last + 1) * _SEGMENT_BYTES
        if last == self._last:
            end = ciphertext_bytes(self.size)
        ciphertext = memoryview(self._read_at(begin, end - begin))
        at = 0
        for index in range(first, last + 1):
            length = _SEGMENT_BYTES if index else _SEGMENT_BYTES - _HEADER_BYTES
            nonce = _nonce(self._header, index, last=index == self._last)
            try:
                plaintext = self._cipher.decrypt(nonce, ciphertext[at : at + length], None)
            except InvalidTag:
                raise _damaged(self._associated) from None
            at += length
            plaintexts.append(plaintext)
        self._cached = (last, plaintexts[-1])
        return plaintexts


def _segments(plaintext: int) -> int:
    return max(1, -(-(plaintext + _HEADER_BYTES) // _PLAIN_BYTES))


def _new_header() -> bytes:
    return bytes((_HEADER_BYTES,)) + os.urandom(_SALT_BYTES + _PREFIX_BYTES)


def _cipher(data_key: bytes, header: bytes, associated: bytes) -> AESGCM:
    salt = header[1 : 1 + _SALT_BYTES]
    return AESGCM(HKDF(SHA256(), length=32, salt=salt, info=associated).derive(data_key))


def _nonce(header: bytes, index: int, *, last: bool) -> bytes:
    prefix = header[1 + _SALT_BYTES : _HEADER_BYTES]
    return prefix + index.to_bytes(4, "big") + (b"\x01" if last else b"\x00")


def _damaged(associated: bytes) -> Integrity:
    return Integrity(f"part `{associated.decode('ascii')}` does not verify")
