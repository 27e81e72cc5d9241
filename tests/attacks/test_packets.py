"""A user's session sends packets that no client would."""

from __future__ import annotations

import os
from typing import Any

import pytest
from raw_client import RawSftp, text, u32, u64

pytestmark = pytest.mark.integration

OPEN, CLOSE, READ, WRITE, FSTAT, OPENDIR, READDIR, EXTENDED = 3, 4, 5, 6, 8, 11, 12, 200
STATUS, DATA = 101, 103
OK, EOF, FAILURE, BAD_MESSAGE, OP_UNSUPPORTED = 0, 1, 4, 5, 8
MIB = 1024 * 1024


def ended(session: RawSftp) -> bool:
    """Whether the gateway closes the channel, having answered nothing more."""
    try:
        session.receive_packet()
    except EOFError:
        return True
    return False


@pytest.mark.parametrize("length", [0, 1, 4, 256 * 1024 + 1025, 4 * MIB, 0x7FFFFFFF, 0xFFFFFFFF])
def test_impossible_lengths(target: Any, length: int) -> None:
    """A packet too short for a type and an id, or longer than any: the session ends at once."""
    session = target.sftp()
    session.channel.sendall(u32(length) + b"A" * 100)
    assert ended(session)


def test_every_truncation_of_every_request(target: Any) -> None:
    """Each request cut at each byte is answered with an error, and the session goes on."""
    session = target.sftp()
    bodies = {
        **dict.fromkeys((7, 11, 13, 15, 16, 17, 19), text(b"/none/x")),
        **dict.fromkeys((9, 14), text(b"/none/x") + u32(1) + u64(5)),
        **dict.fromkeys((4, 8, 12), text(b"\0\0\0\x07")),
        **dict.fromkeys((18, 20), text(b"/none/a") + text(b"/none/b")),
        10: text(b"\0\0\0\x07") + u32(0),
        3: text(b"/none/x") + u32(1) + u32(0),
        5: text(b"\0\0\0\x07") + u64(0) + u32(10),
        6: text(b"\0\0\0\x07") + u64(0) + text(b"data"),
        200: text(b"posix-rename@openssh.com") + text(b"/none/a") + text(b"/none/b"),
    }
    sent = 0
    for packet_type, body in bodies.items():
        for size in range(len(body)):
            session.send(bytes([packet_type]) + u32(sent) + body[:size])
            sent += 1
    for number in range(sent):
        reply = session.receive()
        assert reply.id == number
        assert reply.type == STATUS
        assert reply.status[0] != OK


@pytest.mark.parametrize(
    "handle", [b"", b"\0", b"\0\0\0\x63", b"\xff" * 4, b"A" * 256, b"B" * 10_000], ids=len
)
def test_handles_that_are_not_ours(target: Any, handle: bytes) -> None:
    """A handle that was never given out is a failure for every request that takes one."""
    session = target.sftp()
    rest = {CLOSE: b"", READ: u64(0) + u32(9), WRITE: u64(0) + text(b"x"), FSTAT: b"", READDIR: b""}
    for packet_type, more in rest.items():
        assert session.request(packet_type, text(handle), more).status[0] in (FAILURE, BAD_MESSAGE)


def test_handles_of_another_session(target: Any) -> None:
    """A handle is worth nothing in another session, of the same connection too."""
    transport = target.connect()
    one, other = transport.sftp(), transport.sftp()
    one.init()
    other.init()
    handle = one.open_write(b"/mine")
    assert other.request(WRITE, handle, u64(0), text(b"x")).status[0] == FAILURE
    assert other.request(CLOSE, handle).status[0] == FAILURE
    assert one.close_handle(handle)[0] == OK
    assert one.close_handle(handle)[0] == FAILURE


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 2**64 - 1, 5 * 1024**4])
def test_reads_and_writes_far_away(target: Any, offset: int) -> None:
    """An offset beyond any file: READ is at the end, WRITE is refused, nothing wraps around."""
    session = target.sftp()
    handle = session.open_write(b"/far")
    assert session.write(handle, 0, b"here")[0] == OK
    assert session.write(handle, offset, b"there")[0] == FAILURE
    session.close_handle(handle)
    handle = session.open_read(b"/far")
    reply = session.request(READ, handle, u64(offset), u32(100))
    assert reply.type == STATUS
    assert reply.status[0] in (EOF, FAILURE)


def test_reads_of_4_gib(target: Any) -> None:
    """READ of 4 GiB gives 255 KiB; of nothing, no data; hundreds of them stay within memory."""
    session = target.sftp()
    handle = session.open_write(b"/large")
    for piece in range(8):
        session.write(handle, piece * 200_000, os.urandom(200_000))
    session.close_handle(handle)
    handle = session.open_read(b"/large")
    reply = session.request(READ, handle, u64(0), u32(0xFFFFFFFF))
    assert reply.type == DATA
    assert int.from_bytes(reply.body[:4], "big") == len(reply.body) - 4 <= 255 * 1024
    zero = session.request(READ, handle, u64(0), u32(0))
    assert zero.type == STATUS or zero.body == u32(0)
    for _ in range(300):
        session.send_request(READ, handle, u64(0), u32(0xFFFFFFFF))
    for _ in range(300):
        assert session.receive().type == DATA


@pytest.mark.parametrize("flags", [0, 0x08, 0x20, 0x3F, 0xFFFFFFFF, 0x04 | 0x10, 0x80000002])
def test_open_flags_of_no_sense(target: Any, flags: int) -> None:
    """OPEN with flags that contradict each other is answered, and what it opened is closed."""
    session = target.sftp()
    reply = session.request(OPEN, text(b"/flags"), u32(flags), u32(0))
    if reply.type == STATUS:
        assert reply.status[0] in (2, FAILURE, OP_UNSUPPORTED)
    else:
        session.close_handle(reply.handle)


def test_attributes_that_lie(target: Any) -> None:
    """Extended attributes by the thousand million, flags without their fields, are bad messages."""
    session = target.sftp()
    lies = (u32(0x80000000) + u32(0xFFFFFFFF), u32(0xFFFFFFFF), u32(1), u32(0x80000000))
    for lie in lies:
        assert session.request(9, text(b"/x"), lie).status[0] in (2, BAD_MESSAGE)
        assert session.request(OPEN, text(b"/x"), u32(2 | 8 | 16), lie).status[0] == BAD_MESSAGE


def test_extensions_that_are_none(target: Any) -> None:
    """Any extended request that was not announced is unsupported, whatever its name holds."""
    session = target.sftp()
    for name in (b"", b"\0", b"x" * 200_000, b"statvfs@evil", b"limits@openssh.com\0", b"\xff\xfe"):
        assert session.request(EXTENDED, text(name), u32(1)).status[0] == OP_UNSUPPORTED


def test_every_packet_type(target: Any) -> None:
    """Types that are not of the draft are unsupported; replies sent as requests, too."""
    session = target.sftp()
    known = {1, *range(3, 21), 200}
    for packet_type in (number for number in range(256) if number not in known):
        assert session.request(packet_type, b"junk").status[0] == OP_UNSUPPORTED


def test_the_same_id_for_all(target: Any) -> None:
    """Ids are the client's affair: a thousand requests of one id get a thousand answers."""
    session = target.sftp()
    for _ in range(1000):
        session.send(bytes([16]) + u32(7) + text(b"."))
    assert {session.receive().id for _ in range(1000)} == {7}


def test_links_lead_nowhere(target: Any) -> None:
    """There are no links to make, read or follow out of the home directory."""
    session = target.sftp()
    for name in (b"/etc/passwd", b"../../x", b"/good.bin"):
        assert session.request(20, text(name), text(b"/link")).status[0] == OP_UNSUPPORTED
        assert session.request(19, text(name)).status[0] == OP_UNSUPPORTED
        hardlink = text(b"hardlink@openssh.com") + text(name) + text(b"/link")
        assert session.request(EXTENDED, hardlink).status[0] == OP_UNSUPPORTED


def test_copying_onto_itself(target: Any) -> None:
    """copy-data from a file to its own end, which grew without end elsewhere, ends here at once."""
    session = target.sftp()
    handle = session.open_write(b"/self")
    session.write(handle, 0, b"x" * 100_000)
    session.close_handle(handle)
    source = session.open_read(b"/self")
    goal = session.open_write(b"/self", 2 | 8)
    for first, second, length in ((source, source, 0), (goal, goal, 0), (source, goal, 2**63)):
        copy = text(b"copy-data") + first + u64(0) + u64(length) + second + u64(2**62)
        assert session.request(EXTENDED, copy).status[0] in (FAILURE, BAD_MESSAGE, OP_UNSUPPORTED)
    session.close_handle(source)
    session.close_handle(goal)
