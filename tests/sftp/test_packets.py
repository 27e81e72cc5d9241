"""Framing: whatever pieces the bytes come in, the same requests come out."""

from __future__ import annotations

import itertools
import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedgate.limits import SFTP_PACKET_BYTES_MAX, SFTP_PACKET_SLACK_BYTES
from feedgate.sftp import packets
from feedgate.sftp.packets import Fields, Framer, MalformedError, Request

# draft-ietf-secsh-filexfer-02 §3, as printed there
DRAFT = """
SSH_FXP_INIT 1 SSH_FXP_VERSION 2 SSH_FXP_OPEN 3 SSH_FXP_CLOSE 4 SSH_FXP_READ 5 SSH_FXP_WRITE 6
SSH_FXP_LSTAT 7 SSH_FXP_FSTAT 8 SSH_FXP_SETSTAT 9 SSH_FXP_FSETSTAT 10 SSH_FXP_OPENDIR 11
SSH_FXP_READDIR 12 SSH_FXP_REMOVE 13 SSH_FXP_MKDIR 14 SSH_FXP_RMDIR 15 SSH_FXP_REALPATH 16
SSH_FXP_STAT 17 SSH_FXP_RENAME 18 SSH_FXP_READLINK 19 SSH_FXP_SYMLINK 20 SSH_FXP_STATUS 101
SSH_FXP_HANDLE 102 SSH_FXP_DATA 103 SSH_FXP_NAME 104 SSH_FXP_ATTRS 105 SSH_FXP_EXTENDED 200
SSH_FXP_EXTENDED_REPLY 201
"""


def field(data: bytes) -> bytes:
    """A string field."""
    return len(data).to_bytes(4, "big") + data


def packet(packet_type: int, request_id: int, body: bytes) -> bytes:
    """A whole packet."""
    return field(bytes([packet_type]) + request_id.to_bytes(4, "big") + body)


def write(request_id: int, handle: bytes, offset: int, data: bytes) -> bytes:
    """A WRITE."""
    body = field(handle) + offset.to_bytes(8, "big") + field(data)
    return packet(packets.WRITE, request_id, body)


def seen(requests: list[Request]) -> list[tuple[object, ...]]:
    """Requests as values."""
    return [
        (
            request.packet_type,
            request.request_id,
            request.body,
            request.offset,
            None if request.payload is None else b"".join(request.payload),
            request.size,
        )
        for request in requests
    ]


def fed(pieces: list[bytes]) -> list[tuple[object, ...]]:
    """What a framer makes of the pieces."""
    framer, requests = Framer(), []
    for piece in pieces:
        requests += framer.feed(piece)
    return seen(requests)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Data in pieces."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def test_numbers_are_the_drafts() -> None:
    """Packet types have the numbers that the draft prints."""
    for name, number in re.findall(r"(SSH_FXP_\w+) (\d+)", DRAFT):
        assert getattr(packets, name.removeprefix("SSH_FXP_")) == int(number)


writes = st.builds(
    write,
    st.integers(0, 2**32 - 1),
    st.binary(max_size=8),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=300),
)
others = st.builds(
    packet,
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=80),
)


@given(st.lists(st.one_of(writes, others), max_size=6), st.lists(st.integers(0, 10_000)))
def test_pieces_do_not_matter(sent: list[bytes], places: list[int]) -> None:
    """Cutting the stream anywhere changes nothing in the requests."""
    stream = b"".join(sent)
    whole = fed(sent)
    assert fed(cut(stream, places)) == whole
    assert fed([bytes([byte]) for byte in stream]) == whole
    assert len(whole) == len(sent)
    assert sum(size for *_rest, size in whole) == len(stream)  # type: ignore[misc]


@given(st.binary(max_size=8), st.integers(0, 2**64 - 1), st.binary(max_size=200))
def test_a_write_is_taken_apart(handle: bytes, offset: int, data: bytes) -> None:
    """A WRITE's handle, offset and data arrive as they were sent."""
    sent = write(7, handle, offset, data)
    assert fed([sent]) == [(packets.WRITE, 7, handle, offset, data, len(sent))]


@given(st.integers(0, 400), st.integers(-200, 200), st.lists(st.integers(0, 1000)))
def test_a_write_whose_lengths_disagree(size: int, excess: int, places: list[int]) -> None:
    """Such a WRITE is one malformed request, and what follows it is read correctly."""
    said = max(0, size + excess)
    body = field(b"hhhh") + bytes(8) + said.to_bytes(4, "big") + b"x" * size
    stream = packet(packets.WRITE, 1, body) + packet(packets.STAT, 2, field(b"/"))
    requests = fed(cut(stream, places))
    assert [request[1] for request in requests] == [1, 2]
    assert (requests[0][4] is None) == (said != size)


@pytest.mark.parametrize(
    "length", [0, 1, 4, SFTP_PACKET_BYTES_MAX + SFTP_PACKET_SLACK_BYTES + 1, 0x7FFFFFFF, 2**32 - 1]
)
def test_lengths_out_of_bounds_end_the_stream(length: int) -> None:
    """No packet is shorter than its type and id, none longer than 256 KiB and its fields."""
    with pytest.raises(MalformedError) as raised:
        Framer().feed(length.to_bytes(4, "big") + b"xx")
    assert raised.value.fatal


def test_fields_do_not_run_over() -> None:
    """A field that its packet does not hold is malformed, however long it says it is."""
    for body in (b"", b"\0\0\0", b"\xff\xff\xff\xffabc", b"\0\0\0\4abc"):
        with pytest.raises(MalformedError):
            Fields(body).string()
    fields = Fields(b"\0\0\0\3abc\0\0\0\1")
    assert fields.string() == b"abc"
    assert fields.uint32() == 1
    with pytest.raises(MalformedError):
        fields.uint64()


def test_payloads_are_not_copied() -> None:
    """A payload is a view of what the channel delivered."""
    data = write(1, b"hhhh", 0, b"x" * 1000)
    request = Framer().feed(data)[0]
    assert request.payload is not None
    view = request.payload[0]
    assert isinstance(view, memoryview)
    assert view.obj is data


def test_tiny_pieces_cost_no_more_than_their_bytes() -> None:
    """A WRITE in channel packets of one byte takes at most twice its payload in memory."""
    size = 255 * 1024
    stream = write(1, b"hhhh", 0, bytes(range(256)) * (size // 256))
    framer = Framer()
    framer.feed(stream[:-size])
    tracemalloc.start()
    try:
        for position in range(len(stream) - size, len(stream) - 1):
            assert not framer.feed(memoryview(stream[position : position + 1]))
        held, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held <= 2 * size
    (request,) = framer.feed(stream[-1:])
    assert request.payload is not None
    assert b"".join(request.payload) == stream[-size:]
