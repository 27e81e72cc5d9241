"""A peer that goes away, at every packet of a put: nothing becomes visible, nothing stays held."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import paramiko
import pytest
from raw_client import RawSftp, RawTransport, text, u32, u64

pytestmark = pytest.mark.integration

PIECES = 4
PIECE = 60_000


def steps(session: RawSftp, path: bytes) -> list[Callable[[], object]]:
    """The packets of a put, without the CLOSE."""
    handle: list[bytes] = []
    content = os.urandom(PIECE)

    def opens() -> None:
        handle.append(session.open_write(path))

    def writes(number: int) -> Callable[[], object]:
        return lambda: session.write(handle[0], number * PIECE, content)

    return [
        session.init,
        opens,
        *(writes(number) for number in range(PIECES)),
        lambda: session.request(8, handle[0]),
        lambda: session.send_request(6, handle[0], u64(PIECES * PIECE), text(content)),
        lambda: session.channel.sendall(u32(13) + bytes([4]) + u32(99)),  # half a CLOSE
    ]


def _reset(transport: RawTransport, _session: RawSftp) -> None:
    transport.kill()


def _disconnect(transport: RawTransport, _session: RawSftp) -> None:
    reason = bytes([1]) + u32(11) + text(b"bye") + text(b"")
    transport.transport._send_message(paramiko.Message(reason))
    transport.close()


def _close_channel(_transport: RawTransport, session: RawSftp) -> None:
    session.channel.close()


def _eof(_transport: RawTransport, session: RawSftp) -> None:
    session.channel.shutdown_write()


@pytest.mark.parametrize("ending", [_reset, _disconnect, _close_channel, _eof])
def test_gone_at_every_packet(target: Any, ending: Callable[..., None]) -> None:
    """However and whenever a put is cut, its name is not there, nor is an older file changed."""
    watcher = target.sftp()
    old = watcher.open_write(b"/kept")
    watcher.write(old, 0, b"as it was")
    watcher.close_handle(old)
    for path in (b"/cut", b"/kept"):
        count = len(steps(watcher, path))
        for last in range(1, count + 1):
            transport = target.connect()
            session = transport.sftp()
            for step in steps(session, path)[:last]:
                step()
            ending(transport, session)
    # STAT may tell its own user how much can be resumed; there is nothing to be read
    assert watcher.request(3, text(b"/cut"), u32(1), u32(0)).status[0] == 2
    handle = watcher.open_read(b"/kept")
    assert watcher.request(5, handle, u64(0), u32(100)).body[4:] == b"as it was"
    handle = watcher.request(11, text(b"/")).handle
    names = [name for name, _ in watcher.request(12, handle).names]
    assert b"cut" not in names
    landed = [item["path"] for item in target.gateway.receipts()]
    assert "/cut" not in landed
    assert landed.count("/kept") in range(1, 5)
