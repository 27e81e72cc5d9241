"""From an object's bytes to text: compression told by content, bounds, encodings."""

from __future__ import annotations

import bz2
import gzip
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedgate.errors import LoadError
from feedgate.pipes import decode
from feedgate.pipes.decode import joined, text_blocks


def read(data: bytes, step: int = 1 << 20, compression: str = "AUTO", **options: bool) -> str:
    """All the text of an object that arrives in chunks of ``step`` bytes."""
    given_options = {"replace_invalid": False, "skip_bom": True, **options}
    chunks = (data[at : at + step] for at in range(0, len(data), step))
    return "".join(text_blocks(chunks, compression=compression, **given_options))


@given(text=st.text(), cut=st.integers(0, 50), step=st.integers(1, 40), padding=st.integers(0, 20))
def test_gzip_round_trip(text: str, cut: int, step: int, padding: int) -> None:
    """Gzip is known by its first bytes; members, padding and chunks make no difference."""
    data = text.encode()
    members = gzip.compress(data[:cut]) + b"\0" * padding + gzip.compress(data[cut:])
    assert read(members, step, skip_bom=False) == text
    assert read(members, step, compression="GZIP", skip_bom=False) == text


def test_gzip_that_is_large_arrives_in_bounded_pieces() -> None:
    """No piece of expanded text is larger than what is read at a time."""
    data = gzip.compress(b"x" * 5_000_000)
    pieces = [
        len(block)
        for block in text_blocks([data], compression="AUTO", replace_invalid=False, skip_bom=True)
    ]
    assert sum(pieces) == 5_000_000
    assert max(pieces) <= decode.LOAD_READ_BYTES


@given(pieces=st.lists(st.text(min_size=1, max_size=9)), chars=st.integers(1, 20))
def test_joined(pieces: list[str], chars: int) -> None:
    """Small pieces become blocks of a size that is worth a batch; no text is lost."""
    blocks = list(joined(pieces, chars))
    assert "".join(blocks) == "".join(pieces)
    assert all(len(block) >= chars for block in blocks[:-1])


def test_gzip_cut_short_or_damaged() -> None:
    """A gzip file that ends early or whose checksum is wrong is refused, not loaded short."""
    whole = gzip.compress(b"1,2,3\n" * 1000)
    for broken in (whole[:-1], whole[:12], whole[:-6] + b"\0\0" + whole[-4:], whole + b"garbage"):
        with pytest.raises(LoadError, match="gzip file is"):
            read(broken)


def test_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gzip that grows beyond reason is refused long before it has grown."""
    monkeypatch.setattr(decode, "GZIP_FREE_BYTES", 1_000_000)
    bomb = zlib.compress(b"\0" * 50_000_000, wbits=31)
    blocks = text_blocks([bomb], compression="AUTO", replace_invalid=False, skip_bom=True)
    with pytest.raises(LoadError, match="grows by more than"):
        sum(
            itertools.takewhile(
                lambda grown: grown < 20_000_000, itertools.accumulate(map(len, blocks))
            )
        )


def test_compression_is_what_the_format_says() -> None:
    """AUTO names what it knows and cannot read; GZIP wants gzip; NONE never looks."""
    with pytest.raises(LoadError, match="bzip2"):
        read(bz2.compress(b"x"), step=1)
    with pytest.raises(LoadError, match="not gzip"):
        read(b"1,2", compression="GZIP")
    assert read(b"BZh", compression="NONE") == "BZh"
    assert read(b"", compression="GZIP") == ""


def test_byte_order_mark() -> None:
    """The mark is skipped at the beginning only, and only if the format says so."""
    assert read("\ufeffa\ufeff".encode(), step=1) == "a\ufeff"
    assert read("\ufeffa".encode(), skip_bom=False) == "\ufeffa"


def test_invalid_bytes() -> None:
    """Bytes that are no UTF-8 become U+FFFD, or are kept apart for the parser to refuse."""
    assert read(b"a\xe9b\xe2\x82", step=1, replace_invalid=True) == "a\ufffdb\ufffd"
    assert read(b"a\xe9b\xe2\x82", step=1) == "a\udce9b\udce2\udc82"
