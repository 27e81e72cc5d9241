"""Order, back-pressure, and the ways in which a connection ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from raw_client import RawSftp, RawTransport, text, u32, u64

from feedgate.limits import SFTP_CHANNELS_MAX


def begun(door: Any) -> tuple[RawTransport, RawSftp]:
    """A connection and a session on it that has begun."""
    transport = door.raw()
    session = transport.sftp()
    session.init()
    return transport, session


# -- order ----------------------------------------------------------------------------------------


def test_replies_come_in_order(door: Any) -> None:
    """A thousand requests sent at once are answered in their order."""
    _transport, session = begun(door)
    door.store.files[b"/f"] = b"x" * 100
    handle = session.open_read(b"/f")
    sent = []
    for number in range(500):
        sent.append(session.send_request(5, handle, u64(number % 100), u32(1)))
        sent.append(session.send_request(17, text(b"/none")))
    assert [session.receive().id for _ in sent] == sent


def test_the_time_after_a_write_is_used_once(door: Any) -> None:
    """Once the reply to a WRITE has left, its file may work ahead; other requests give no cause."""
    _transport, session = begun(door)
    handle = session.open_write()
    assert session.request(6, handle, u64(0), text(b"data")).type == 101
    for _ in range(3):
        assert session.request(17, text(b"/")).type == 105
    assert door.store.uploads[-1].aheads == 1


def test_a_close_that_waits_stops_its_own_session_only(door: Any) -> None:
    """While CLOSE waits for the disk, other sessions are served, its own is not."""
    release: asyncio.Future[None] = door.on_loop(lambda: asyncio.get_running_loop().create_future())
    door.store.hold_close = lambda: release
    transport, session = begun(door)
    handle = session.open_write()
    close_id = session.send_request(4, handle)
    stat_id = session.send_request(17, text(b"/"))
    beside = transport.sftp()
    beside.init()
    for other in (begun(door)[1], beside):
        for _ in range(20):
            assert other.request(17, text(b"/")).type == 105
    assert not session.channel.recv_ready()
    door.on_loop(lambda: release.set_result(None))
    assert [session.receive().id, session.receive().id] == [close_id, stat_id]


def test_a_slow_store_stops_the_channel(door: Any) -> None:
    """While a write waits, the client can send no more than window and backlog hold."""
    release: asyncio.Future[None] = door.on_loop(lambda: asyncio.get_running_loop().create_future())
    door.store.hold_write = lambda: release
    _transport, session = begun(door)
    handle = session.open_write()
    session.channel.settimeout(1)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 64 * 1024 * 1024:
            session.send_request(6, handle, u64(sent), text(bytes(32_000)))
            sent += 32_000
    assert sent < 6 * 1024 * 1024
    door.on_loop(lambda: release.set_result(None))
    door.wait_for(lambda: door.store.uploads[0].size >= sent)
    assert door.errors == []


def test_a_client_that_does_not_read(door: Any) -> None:
    """Requests whose replies nobody reads are not answered into memory without end."""
    door.store.files[b"/big"] = bytes(1024 * 1024)
    transport, session = begun(door)
    handle = session.open_read(b"/big")
    transport.transport.packetizer.set_keepalive(0, lambda: None)
    answered = 0

    def count(*_arguments: Any) -> None:
        nonlocal answered
        answered += 1

    for _ in range(2_000):  # half a GiB of replies
        session.send_request(5, handle, u64(0), u32(255 * 1024))
    time.sleep(0.5)
    channel = next(iter(next(iter(door.door._servers)).channels))
    waiting = door.on_loop(lambda: len(channel._requests))
    assert waiting > 1_000
    assert door.on_loop(lambda: channel._reply_bytes) < 1024 * 1024
    transport.kill()
    door.wait_for(lambda: door.door.connections == 0)


def test_eleventh_channel(door: Any) -> None:
    """Ten sessions a connection; the next is refused, and a closed one makes room."""
    transport, first = begun(door)
    sessions = [first]
    for _ in range(SFTP_CHANNELS_MAX - 1):
        sessions.append(transport.sftp())
        sessions[-1].init()
    for _ in range(60 - SFTP_CHANNELS_MAX):
        with pytest.raises(Exception, match="Resource shortage"):
            transport.sftp()
    sessions.pop().channel.close()
    door.wait_for(lambda: sum(home.closed for home in door.store.homes) == 1)
    transport.sftp().init()
    assert first.request(17, text(b"/")).type == 105


# -- ends -----------------------------------------------------------------------------------------


def end_by_reset(transport: RawTransport, _session: RawSftp) -> None:
    """The TCP connection is reset."""
    transport.kill()


def end_by_disconnect(transport: RawTransport, _session: RawSftp) -> None:
    """SSH_MSG_DISCONNECT, then the socket closes."""
    transport.close()


def end_by_channel_close(_transport: RawTransport, session: RawSftp) -> None:
    """SSH_MSG_CHANNEL_CLOSE on a connection that lives on."""
    session.channel.close()


def end_by_channel_eof(_transport: RawTransport, session: RawSftp) -> None:
    """SSH_MSG_CHANNEL_EOF on a connection that lives on."""
    session.channel.shutdown_write()


def end_by_garbage(_transport: RawTransport, session: RawSftp) -> None:
    """A packet length that cannot be."""
    session.channel.sendall(b"\xff" * 64)


ENDS = [end_by_reset, end_by_disconnect, end_by_channel_close, end_by_channel_eof, end_by_garbage]


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_only_close_closes(
    make_door: Callable[..., Any], loop: str, end: Callable[[RawTransport, RawSftp], None]
) -> None:
    """However a connection ends, uploads without a CLOSE are abandoned, each of them, once."""
    door = make_door(loop)
    door.store.files[b"/r"] = b"x"
    door.store.faults["abandon"] = OSError("the first must not keep the second")
    transport, session = begun(door)
    for name in (b"/one", b"/two"):
        session.write(session.open_write(name), 0, b"half of it")
    session.open_read(b"/r")
    session.request(11, text(b"/"))
    end(transport, session)
    door.wait_for(lambda: door.store.homes[-1].closed)
    assert [(up.closes, up.abandons) for up in door.store.uploads] == [(0, 1), (0, 1)]
    assert list(door.store.files) == [b"/r"]
    assert door.store.homes[-1].closed == 1
    assert len(door.errors) == 2
    transport.close()
    door.wait_for(lambda: door.events("DISCONNECTED"))


def test_partial_close_is_logged(door: Any) -> None:
    """An abandoned upload is a PARTIAL_CLOSE with what had arrived; no CLOSE, no visible file."""
    transport, session = begun(door)
    session.write(session.open_write(b"/half"), 0, b"x" * 50_000)
    transport.kill()
    door.wait_for(lambda: door.events("PARTIAL_CLOSE"))
    event = door.events("PARTIAL_CLOSE")[0]
    assert (event["path"], event["bytes-in"]) == ("/bucket/half", "50000")
    assert door.events("CLOSE") == []
    assert door.store.files == {}


def test_killed_client(door: Any) -> None:
    """kill -9 of OpenSSH's client in mid-upload: abandoned."""
    (door.folder / "big").write_bytes(bytes(8_000_000))
    release: asyncio.Future[None] = door.on_loop(lambda: asyncio.get_running_loop().create_future())
    door.store.hold_write = lambda: release if door.store.uploads[0].size > 2_000_000 else None
    client = subprocess.Popen(
        [*door.ssh_words("sftp"), "-b", "-", f"{door.user}@127.0.0.1"],
        cwd=door.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert client.stdin is not None
    client.stdin.write(b"put big\n")
    client.stdin.flush()
    door.wait_for(lambda: door.store.uploads and door.store.uploads[0].size > 2_000_000)
    os.killpg(client.pid, signal.SIGKILL)
    client.wait()
    client.stdin.close()
    door.on_loop(lambda: release.set_result(None))
    door.wait_for(lambda: door.store.homes[-1].closed)
    assert (door.store.uploads[0].closes, door.store.uploads[0].abandons) == (0, 1)


def test_a_close_under_way_runs_to_its_end(door: Any) -> None:
    """The connection is lost while CLOSE waits: it is neither cancelled nor abandoned."""
    release: asyncio.Future[None] = door.on_loop(lambda: asyncio.get_running_loop().create_future())
    door.store.hold_close = lambda: release
    transport, session = begun(door)
    handle = session.open_write(b"/whole")
    session.write(handle, 0, b"all of it")
    session.send_request(4, handle)
    door.wait_for(lambda: door.store.uploads[0].closes)
    transport.kill()
    door.wait_for(lambda: door.door.connections == 0)
    door.on_loop(lambda: release.set_result(None))
    door.wait_for(lambda: door.store.homes[-1].closed)
    assert (door.store.uploads[0].closes, door.store.uploads[0].abandons) == (1, 0)
    assert door.store.files == {b"/whole": b"all of it"}


def test_requests_before_eof_are_answered(door: Any) -> None:
    """A client that pipelines everything and then says EOF gets its file, and its replies."""
    _transport, session = begun(door)
    handle = session.open_write(b"/piped")
    ids = [session.send_request(6, handle, u64(0), text(b"data")), session.send_request(4, handle)]
    session.channel.shutdown_write()
    assert [session.receive().id for _ in ids] == ids
    with pytest.raises(EOFError):
        session.receive()
    assert door.store.files == {b"/piped": b"data"}
    assert session.channel.recv_exit_status() == 0
