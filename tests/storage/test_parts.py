"""Parts: byte compatibility with Tink, random access, and what damage looks like."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pytest
import tink
from hypothesis import given, settings
from hypothesis import strategies as st
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

from feedgate import errors, limits
from feedgate.storage import parts

SEGMENT = limits.SEGMENT_BYTES
FIRST = SEGMENT - 40 - 16
REST = SEGMENT - 16
LENGTHS = [
    *(0, 1, FIRST - 1, FIRST, FIRST + 1),
    *(FIRST + REST - 1, FIRST + REST, FIRST + REST + 1, FIRST + 5 * REST + 77),
]
KEY = bytes(range(32))
ASSOCIATED = parts.associated_data("0" * 32, 1)


def tink_primitive(data_key: bytes) -> streaming_aead.StreamingAead:
    """Tink's own implementation over the same data key."""
    streaming_aead.register()
    params = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=SEGMENT, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
    )
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(
        version=0, key_value=data_key, params=params
    )
    keyset = tink_pb2.Keyset(primary_key_id=1)
    keyset.key.add(
        key_data=tink_pb2.KeyData(
            type_url="type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey",
            value=key.SerializeToString(),
            key_material_type=tink_pb2.KeyData.SYMMETRIC,
        ),
        status=tink_pb2.ENABLED,
        key_id=1,
        output_prefix_type=tink_pb2.RAW,
    )
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


def plaintext_of(length: int) -> bytes:
    """Bytes in which every position is told apart from its neighbours."""
    return bytes(i * 31 % 251 for i in range(min(length, 9973))) * (length // 9973 + 1)


def write_part(plaintext: bytes, piece: int = 32 * 1024) -> bytes:
    """The part that our writer makes of it, fed in pieces of that size."""
    out = io.BytesIO()
    writer = parts.PartWriter(KEY, ASSOCIATED, lambda view: out.write(view) and None)
    view = memoryview(plaintext)
    writer.write([view[at : at + piece] for at in range(0, len(plaintext), piece)])
    writer.finish()
    assert writer.size == len(plaintext)
    return out.getvalue()


def reader_of(ciphertext: bytes, associated: bytes = ASSOCIATED) -> parts.PartReader:
    """Our reader over a ciphertext in memory."""
    return parts.PartReader(
        KEY, associated, len(ciphertext), lambda offset, n: ciphertext[offset : offset + n]
    )


@pytest.mark.parametrize("length", LENGTHS)
def test_tink_reads_what_we_write(length: int) -> None:
    """Tink decrypts our parts."""
    plaintext = plaintext_of(length)[:length]
    stream = tink_primitive(KEY).new_decrypting_stream(
        io.BytesIO(write_part(plaintext)), ASSOCIATED
    )
    assert stream.read() == plaintext


@pytest.mark.parametrize("length", LENGTHS)
def test_we_read_what_tink_writes(length: int, tmp_path: Path) -> None:
    """We decrypt Tink's ciphertexts, whole and by pread, and agree on every size."""
    plaintext = plaintext_of(length)[:length]
    path = tmp_path / "tink"
    with tink_primitive(KEY).new_encrypting_stream(path.open("wb"), ASSOCIATED) as stream:
        stream.write(plaintext)
    ciphertext = path.read_bytes()
    assert parts.ciphertext_bytes(length) == len(ciphertext)
    assert parts.plaintext_bytes(len(ciphertext)) == length
    reader = reader_of(ciphertext)
    assert reader.size == length
    assert reader.pread(0, length + 10) == plaintext
    for offset in (0, 1, FIRST - 1, FIRST, length // 2, length - 1):
        assert reader.pread(max(offset, 0), 100) == plaintext[max(offset, 0) :][:100]


@pytest.mark.parametrize("length", [0, 1, 4096, FIRST])
def test_small_objects_are_whole_parts(length: int) -> None:
    """``seal`` and ``unseal`` make and read the same format, in one segment."""
    plaintext = plaintext_of(length)[:length]
    sealed = parts.seal(KEY, ASSOCIATED, plaintext)
    assert parts.unseal(KEY, ASSOCIATED, sealed) == plaintext
    assert reader_of(sealed).pread(0, length) == plaintext
    assert parts.unseal(KEY, ASSOCIATED, write_part(plaintext)) == plaintext


@settings(max_examples=30, deadline=None)
@given(
    length=st.integers(0, 4 * SEGMENT),
    cuts=st.lists(st.integers(0, 4 * SEGMENT), max_size=8),
    reads=st.lists(st.tuples(st.integers(0, 4 * SEGMENT), st.integers(0, 3 * SEGMENT)), max_size=8),
)
def test_any_pieces_and_any_reads(
    length: int, cuts: list[int], reads: list[tuple[int, int]]
) -> None:
    """However the plaintext is cut into pieces, every pread equals a slice of it."""
    plaintext = plaintext_of(length)[:length]
    out = io.BytesIO()
    writer = parts.PartWriter(KEY, ASSOCIATED, lambda view: out.write(view) and None)
    edges = [0, *sorted(min(cut, length) for cut in cuts), length]
    writer.write([plaintext[a:b] for a, b in itertools.pairwise(edges)])
    writer.finish()
    reader = reader_of(out.getvalue())
    for offset, size in reads:
        assert reader.pread(offset, size) == plaintext[offset : offset + size]


def test_no_two_parts_share_bytes() -> None:
    """Salt and nonce prefix are fresh, so the same plaintext never looks the same."""
    first, second = write_part(b"a" * 100), write_part(b"a" * 100)
    assert first[1:40] != second[1:40]
    assert first[40:] != second[40:]


def test_writer_never_reuses_a_nonce_and_keeps_one_segment_back() -> None:
    """An exact fit makes no extra empty segment, whether it came in one piece or in two."""
    for length in (FIRST, FIRST + REST):
        plaintext = plaintext_of(length)[:length]
        for piece in (length, length - 1, 1000):
            assert len(write_part(plaintext, piece)) == parts.ciphertext_bytes(length)


@pytest.mark.parametrize("cut", [1, 16, 17, REST, SEGMENT, 2 * SEGMENT])
def test_cut_part_is_noticed_when_it_is_opened(cut: int) -> None:
    """A part cut anywhere, at a segment's edge too, does not open."""
    ciphertext = write_part(plaintext_of(FIRST + 3 * REST)[: FIRST + 3 * REST])
    with pytest.raises(errors.Integrity):
        reader_of(ciphertext[:-cut])


@pytest.mark.parametrize("size", [0, 1, 39, 40, 55, SEGMENT + 1, SEGMENT + 15])
def test_impossible_sizes_are_refused(size: int) -> None:
    """No part has such a size: each segment brings its tag, and only the first may be empty."""
    with pytest.raises(errors.Integrity):
        parts.plaintext_bytes(size)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_malleability(data: st.DataObject) -> None:
    """Changing any byte, header included, is noticed by whoever reads that segment."""
    length = FIRST + REST + 100
    plaintext = plaintext_of(length)[:length]
    ciphertext = bytearray(write_part(plaintext))
    at = data.draw(st.integers(0, len(ciphertext) - 1))
    ciphertext[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(errors.Integrity):
        reader_of(bytes(ciphertext)).pread(0, length)


def test_segments_cannot_change_places() -> None:
    """Two segments exchanged do not verify."""
    length = FIRST + 2 * REST + 10
    c = write_part(plaintext_of(length)[:length])
    swapped = (
        c[:SEGMENT] + c[2 * SEGMENT : 3 * SEGMENT] + c[SEGMENT : 2 * SEGMENT] + c[3 * SEGMENT :]
    )
    with pytest.raises(errors.Integrity):
        reader_of(swapped).pread(0, length)


def test_part_is_bound_to_object_and_number() -> None:
    """Under another object id or part number a part does not open."""
    ciphertext = write_part(b"hello")
    for other in (parts.associated_data("1" * 32, 1), parts.associated_data("0" * 32, 2)):
        with pytest.raises(errors.Integrity):
            reader_of(ciphertext, other)
        with pytest.raises(errors.Integrity):
            parts.unseal(KEY, other, ciphertext)
