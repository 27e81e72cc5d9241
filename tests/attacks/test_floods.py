"""A user's session sends too much of everything, or takes nothing that it asked for."""

from __future__ import annotations

import os
import struct
import time
from contextlib import suppress
from typing import Any

import paramiko
import pytest
from raw_client import RawSftp, text, u32, u64

pytestmark = pytest.mark.integration

OK, EOF, FAILURE = 0, 1, 4
CHANNEL_DATA, CHANNEL_REQUEST = 94, 98
HANDLES_MAX = 1_000
SFTP_CHANNELS_MAX = 10


def message(number: int, *fields: bytes) -> paramiko.Message:
    """An SSH message with these fields as they are."""
    return paramiko.Message(bytes([number]) + b"".join(fields))


def open_handles(session: RawSftp, count: int, *request: Any) -> list[bytes]:
    """Send an opening request so often, then read the answers: the handles that were given."""
    for _ in range(count):
        session.send_request(*request)
    replies = [session.receive() for _ in range(count)]
    assert {reply.status[0] for reply in replies if reply.type == 101} <= {FAILURE}
    return [reply.handle for reply in replies if reply.type == 102]


@pytest.mark.parametrize(
    "request_",
    [(11, text(b"/")), (3, text(b"/flood"), u32(2 | 8 | 16), u32(0))],
    ids=["directories", "uploads"],
)
def test_thousands_of_handles(target: Any, request_: tuple[Any, ...]) -> None:
    """A session gets so many handles and no more; given back, they can be had again."""
    session = target.sftp()
    handles = open_handles(session, HANDLES_MAX + 500, *request_)
    assert 0 < len(handles) <= HANDLES_MAX
    session.close_handle(handles[0])
    assert len(open_handles(session, 2, *request_)) == 1


def test_endless_readdir(target: Any) -> None:
    """READDIR ten thousand times on one handle: each name once, and then the end, each time."""
    session = target.sftp()
    session.close_handle(session.open_write(b"/listed"))
    handle = session.request(11, text(b"/")).handle
    for _ in range(10_000):
        session.send_request(12, handle)
    replies = [session.receive() for _ in range(10_000)]
    assert replies[0].type == 104
    assert {reply.status[0] for reply in replies[1:] if reply.type == 101} == {EOF}
    names = [name for reply in replies if reply.type == 104 for name, _ in reply.names]
    assert len(names) == len(set(names))


def test_64_000_requests_whose_replies_are_not_read(target: Any) -> None:
    """Requests without end by a client that reads nothing: it is stopped, others are served."""
    session = target.sftp()
    session.channel.settimeout(1)
    packet = u32(1 + 4 + 4 + 4001) + bytes([16]) + u32(1) + text(b"/" + b"n" * 4000)
    sent = 0
    with suppress(TimeoutError):
        while sent < 64_000:
            session.channel.sendall(packet)
            sent += 1
    target.serve_a_good_client()
    assert sent < 5_000


def test_reads_that_are_not_taken(target: Any) -> None:
    """A client asks for a gigabyte and closes its window: no more than a window is read for it."""
    session = target.sftp()
    handle = session.open_write(b"/untaken")
    for piece in range(10):
        session.write(handle, piece * 200_000, os.urandom(200_000))
    session.close_handle(handle)
    handle = session.open_read(b"/untaken")
    for _ in range(4_000):
        session.send_request(5, handle, u64(0), u32(255 * 1024))
    target.serve_a_good_client()


def test_writes_that_ignore_the_window(target: Any) -> None:
    """More channel data than the window allows ends the connection, as RFC 4254 §5.2 lets it."""
    transport = target.connect()
    session = transport.sftp()
    session.init()
    handle = session.open_write(b"/overrun")
    packet = bytes([6]) + u32(9) + handle + u64(0) + text(b"w" * 30_000)
    body = text(u32(len(packet)) + packet)
    remote = u32(session.channel.remote_chanid)
    began = time.monotonic()
    while transport.transport.is_active() and time.monotonic() - began < 20:
        try:
            # past paramiko's own count of the window
            transport.transport._send_message(message(CHANNEL_DATA, remote, body))
        except (OSError, EOFError, paramiko.SSHException):
            break
    assert not transport.transport.is_active() or time.monotonic() - began < 20


def test_scattered_writes(target: Any) -> None:
    """Bytes written a gigabyte apart: refused or kept, never zeros by the gigabyte in memory."""
    session = target.sftp()
    handle = session.open_write(b"/scattered")
    codes = {session.write(handle, place * 2**30, b"x")[0] for place in (3, 1, 2, 0)}
    assert codes <= {OK, FAILURE}
    session.close_handle(handle)


def test_writes_backwards(target: Any) -> None:
    """Eight megabytes from the last byte to the first, in pieces of 4 KiB: exact, or refused."""
    session = target.sftp()
    content = os.urandom(8 * 1024 * 1024)
    handle = session.open_write(b"/backwards")
    offsets = list(range(0, len(content), 4096))[::-1]
    for offset in offsets:
        session.send_request(6, handle, u64(offset), text(content[offset : offset + 4096]))
    codes = {session.receive().status[0] for _ in offsets}
    closed = session.close_handle(handle)[0]
    if codes == {OK} and closed == OK:
        handle = session.open_read(b"/backwards")
        reply = session.request(5, handle, u64(4_000_000), u32(100_000))
        assert reply.body[4:] == content[4_000_000:4_100_000]
    else:
        assert closed == FAILURE


def test_channels(target: Any) -> None:
    """The eleventh channel is refused while ten go on; a closed one makes room."""
    transport = target.connect()
    sessions = [transport.sftp() for _ in range(SFTP_CHANNELS_MAX)]
    for session in sessions:
        session.init()
    for _ in range(50):
        with pytest.raises(paramiko.ChannelException):
            transport.sftp()
    assert sessions[0].request(16, text(b".")).names[0][0] == b"/"
    sessions[-1].channel.close()
    target.wait_for(lambda: _opens(transport))


def _opens(transport: Any) -> bool:
    try:
        transport.sftp().init()
    except paramiko.ChannelException:
        return False
    return True


def test_environments_and_the_rest(target: Any) -> None:
    """env by the thousand, pty, shell, exec, agent, X11, other subsystems: refused, cheaply."""
    transport = target.connect()
    channel = transport.transport.open_session(timeout=10)
    remote = u32(channel.remote_chanid)
    for number in range(2_000):
        variable = text(b"LD_PRELOAD%d" % number) + text(b"x" * 1000)
        fields = (remote, text(b"env"), b"\0", variable)
        transport.transport._send_user_message(message(CHANNEL_REQUEST, *fields))
    for name, words in (
        *(("get_pty", ()), ("exec_command", ("id",)), ("invoke_shell", ())),
        ("invoke_subsystem", ("netconf",)),
    ):
        with pytest.raises((paramiko.SSHException, EOFError, OSError)):
            getattr(channel, name)(*words)
        channel = transport.transport.open_session(timeout=10)
    assert transport.sftp().init()[0] == 3


@pytest.mark.parametrize("kind", ["direct-tcpip", "x11", "forwarded-tcpip"])
def test_other_channels(target: Any, kind: str) -> None:
    """Channels that are not sessions are refused, and the connection goes on."""
    transport = target.connect()
    place = ("127.0.0.1", 22)
    with pytest.raises(paramiko.SSHException):
        transport.transport.open_channel(kind, place, place, timeout=10)
    with pytest.raises(paramiko.SSHException):
        transport.transport.request_port_forward("127.0.0.1", 0)
    assert transport.sftp().init()[0] == 3


def test_rekey_storm(target: Any) -> None:
    """Forty key exchanges in the middle of a put: every byte arrives."""
    transport = target.connect()
    session = transport.sftp()
    session.init()
    content = os.urandom(400_000)
    handle = session.open_write(b"/rekeyed")
    for offset in range(0, len(content), 10_000):
        assert session.write(handle, offset, content[offset : offset + 10_000])[0] == OK
        transport.transport.renegotiate_keys()
    assert session.close_handle(handle)[0] == OK
    handle, back = session.open_read(b"/rekeyed"), b""
    while (reply := session.request(5, handle, u64(len(back)), u32(200_000))).type == 103:
        back += reply.body[4:]
    assert back == content


def test_replies_that_nobody_wants(target: Any) -> None:
    """Answers to requests that were never made are ignored, as phpseclib's must be."""
    transport = target.connect()
    for number in (81, 82):
        for _ in range(100):
            transport.transport._send_user_message(message(number))
    assert transport.sftp().init()[0] == 3


@pytest.mark.parametrize(
    "fields",
    [(u32(99), text(b"x")), (u32(0xFFFFFFFF), text(b"")), (b"",), (u32(0), u32(0xFFFFFF))],
    ids=["another channel", "no channel", "nothing", "a length that lies"],
)
@pytest.mark.parametrize("number", [93, 94, 95, 96, 97, 98, 99, 100])
def test_channel_messages_that_lie(target: Any, number: int, fields: tuple[bytes, ...]) -> None:
    """Messages for channels that are not, or cut short, end at most their own connection."""
    transport = target.connect()
    session = transport.sftp()
    session.init()
    transport.transport._send_user_message(message(number, *fields))
    try:
        session.request(16, text(b"."))
    except (EOFError, OSError):
        assert not transport.transport.is_active()


def test_window_adjustments_beyond_bounds(target: Any) -> None:
    """A window of more than 2³²-1 bytes, again and again, is taken for what fits or is the end."""
    transport = target.connect()
    session = transport.sftp()
    session.init()
    for _ in range(100):
        fields = struct.pack(">II", session.channel.remote_chanid, 0xFFFFFFFF)
        try:
            transport.transport._send_user_message(message(93, fields))
        except (EOFError, OSError):
            break
    target.serve_a_good_client()
