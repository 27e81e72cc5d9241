"""An object's bytes become blocks of text: decompressed, without byte order mark, decoded.

In the path: after the decrypting reader, before the parsers. Compression is told by content, never
by a supplier's file name. Memory is bounded by the chunks that come in; a gzip that expands beyond
reason is refused before it fills anything. Bytes that are not UTF-8 survive as lone surrogates
(``surrogateescape``), so that a parser can refuse the one record they are in; no UTF-8 text holds
such code points.
"""

from __future__ import annotations

import codecs
import itertools
import zlib
from collections.abc import Iterable, Iterator

from feedgate.errors import LoadError
from feedgate.limits import GZIP_FREE_BYTES, GZIP_RATIO_MAX, LOAD_READ_BYTES

__all__ = ["joined", "text_blocks"]

_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 31  # zlib's word for "a gzip header"
# what AUTO knows on Snowflake and is not read here yet
_LATER = {b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "Zstandard", b"\xfd7zXZ": "xz"}


def text_blocks(
    chunks: Iterable[bytes], *, compression: str, replace_invalid: bool, skip_bom: bool
) -> Iterator[str]:
    """Non-empty blocks of text.

    ``compression`` is AUTO, GZIP or NONE. ``replace_invalid`` gives U+FFFD for bytes that are no
    UTF-8 (REPLACE_INVALID_CHARACTERS).

    Raises:
        LoadError: the file is compressed in a way that is not read here, damaged, or a bomb.
    """
    errors = "replace" if replace_invalid else "surrogateescape"
    decoder = codecs.getincrementaldecoder("utf-8")(errors=errors)
    first = True
    for chunk in _decompressed(chunks, compression):
        text = decoder.decode(chunk)
        if text and first:
            first = False
            text = text.removeprefix("\ufeff") if skip_bom else text
        if text:
            yield text
    if text := decoder.decode(b"", final=True):
        yield text


def joined(blocks: Iterable[str], chars: int) -> Iterator[str]:
    """The same text in blocks of at least ``chars``, but for the last: each one costs a batch."""
    held: list[str] = []
    size = 0
    for block in blocks:
        held.append(block)
        size += len(block)
        if size >= chars:
            yield "".join(held)
            held, size = [], 0
    if held:
        yield "".join(held)


def _decompressed(chunks: Iterable[bytes], compression: str) -> Iterator[bytes]:
    stream = (chunk for chunk in chunks if chunk)
    head = next(stream, b"")
    for chunk in stream:  # a first chunk shorter than a magic number
        head += chunk
        if len(head) >= 6:
            break
    if compression == "AUTO":
        for magic, name in _LATER.items():
            if head.startswith(magic):
                raise LoadError(f"the file is compressed with {name}, which is not read here yet")
    if compression != "NONE" and head.startswith(_GZIP):
        yield from _gunzip(head, stream)
        return
    if compression == "GZIP" and head:
        raise LoadError("COMPRESSION is GZIP, but the file is not gzip")
    if head:
        yield head
    yield from stream


def _gunzip(head: bytes, stream: Iterator[bytes]) -> Iterator[bytes]:
    """All members of a gzip file, in pieces of bounded size."""
    member: zlib._Decompress | None = None
    read = grown = 0
    for chunk in itertools.chain((head,), stream):
        data = chunk if member is not None else chunk.lstrip(b"\0")  # padding between members
        read += len(chunk)
        while data or member is not None:
            member = member or zlib.decompressobj(_GZIP_WINDOW)
            try:
                piece = member.decompress(data, LOAD_READ_BYTES)
            except zlib.error as error:
                raise LoadError(f"the gzip file is damaged: {error}") from error
            grown += len(piece)
            if grown > GZIP_FREE_BYTES and grown > read * GZIP_RATIO_MAX:
                raise LoadError(f"the gzip file grows by more than {GZIP_RATIO_MAX} times")
            if piece:
                yield piece
            data = member.unconsumed_tail
            if member.eof:
                data = member.unused_data.lstrip(b"\0")
                member = None
            elif not data and len(piece) < LOAD_READ_BYTES:
                break  # it has given all that it has for this input
    if member is not None:
        raise LoadError("the gzip file is cut short")
