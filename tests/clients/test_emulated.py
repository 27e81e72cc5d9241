"""Clients that no registry has, by the packets they send: WinSCP and FileZilla.

The sequences are those seen in reports: WinSCP's `.filepart`, its resume without APPEND (sftpgo
#420), its time and mode after CLOSE; FileZilla's many connections and its stat before each put.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from raw_client import RawSftp, RawTransport, text, u32, u64

pytestmark = pytest.mark.integration

STAT, LSTAT, SETSTAT, OPENDIR, READDIR, REMOVE, REALPATH, RENAME = 17, 7, 9, 11, 12, 13, 16, 18
WRITE, CREATE, TRUNCATE = 2, 8, 16
OK, NO_SUCH_FILE = 0, 2
MTIME = 1_400_000_000
TIMES_AND_MODE = u32(4 | 8) + u32(0o100644) + u32(MTIME) * 2


@pytest.fixture
def winscp(door: Any) -> Iterator[RawSftp]:
    """A session begun as WinSCP does: version 6 offered, then `.` resolved and listed."""
    transport = RawTransport(door.port, door.user, door.key)
    sftp = transport.sftp()
    assert sftp.init(version=6)[0] == 3
    assert sftp.request(REALPATH, text(b".")).names[0][0] == b"/"
    handle = sftp.request(OPENDIR, text(b"/")).handle
    while sftp.request(READDIR, handle).type == 104:
        pass
    sftp.close_handle(handle)
    yield sftp
    transport.close()


def size_of(sftp: RawSftp, path: bytes) -> int:
    """A file's size by STAT."""
    reply = sftp.request(STAT, text(path))
    assert reply.type == 105, reply.status
    flags, size = struct.unpack(">IQ", reply.body[:12])
    assert flags & 1
    return int(size)


def send_all(sftp: RawSftp, handle: bytes, content: bytes, start: int = 0) -> None:
    """WRITEs one after another, from an offset on."""
    for offset in range(start, len(content), 32_000):
        assert sftp.write(handle, offset, content[offset : offset + 32_000])[0] == OK


def read_all(sftp: RawSftp, path: bytes) -> bytes:
    """A file's content by READs."""
    handle, content = sftp.open_read(path), b""
    while (reply := sftp.request(5, handle, u64(len(content)), u32(32_000))).type == 103:
        content += reply.body[4:]
    sftp.close_handle(handle)
    return content


def test_winscp_upload(winscp: RawSftp, root: str) -> None:
    """`.filepart`, its close, time and mode, the old target removed, the rename: twice."""
    path = root.encode()
    part = path + b".filepart"
    for content in (os.urandom(150_000), os.urandom(200_001)):
        assert winscp.request(LSTAT, text(part)).status[0] == NO_SUCH_FILE
        handle = winscp.open_write(part, WRITE | CREATE | TRUNCATE)
        send_all(winscp, handle, content)
        assert winscp.close_handle(handle)[0] == OK
        assert winscp.request(SETSTAT, text(part), TIMES_AND_MODE).status[0] == OK
        assert winscp.request(REMOVE, text(path)).status[0] in (OK, NO_SUCH_FILE)
        assert winscp.request(RENAME, text(part), text(path)).status[0] == OK
        assert read_all(winscp, path) == content
        assert winscp.request(STAT, text(part)).status[0] == NO_SUCH_FILE


def test_winscp_resumes(door: Any, winscp: RawSftp, root: str) -> None:
    """A connection lost amid a put; the next asks the part's size and goes on there."""
    path, content = root.encode(), os.urandom(300_000)
    part = path + b".filepart"
    lost = RawTransport(door.port, door.user, door.key)
    first = lost.sftp()
    first.init(version=6)
    handle = first.open_write(part, WRITE | CREATE | TRUNCATE)
    send_all(first, handle, content[:160_000])
    lost.kill()
    door.wait_for(lambda: "PARTIAL_CLOSE" in door.log())
    size = size_of(winscp, part)
    assert 0 < size <= 160_000  # what is told may be less than what arrived
    handle = winscp.open_write(part, WRITE | CREATE)
    send_all(winscp, handle, content, size)
    assert winscp.close_handle(handle)[0] == OK
    assert winscp.request(RENAME, text(part), text(path)).status[0] == OK
    assert read_all(winscp, path) == content


def test_filezilla_uploads(door: Any, root: str) -> None:
    """Ten connections put at once; each lists, puts, sets the time, and sees its size."""
    directory = root.encode()
    contents = [os.urandom(60_000 + number) for number in range(10)]

    def upload(number: int) -> bytes:
        transport = RawTransport(door.port, door.user, door.key)
        sftp = transport.sftp()
        sftp.init()
        sftp.request(14, text(directory), u32(0))
        path = directory + b"/" + str(number).encode()
        assert sftp.request(LSTAT, text(path)).status[0] == NO_SUCH_FILE
        handle = sftp.open_write(path)
        send_all(sftp, handle, contents[number])
        assert sftp.close_handle(handle)[0] == OK
        assert sftp.request(SETSTAT, text(path), TIMES_AND_MODE).status[0] == OK
        assert size_of(sftp, path) == len(contents[number])
        back = read_all(sftp, path)
        transport.close()
        return back

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(upload, range(10))) == contents


def test_filezilla_resumes(winscp: RawSftp, root: str) -> None:
    """A stored file goes on at its size, opened for writing without TRUNCATE or APPEND."""
    path, content = root.encode(), os.urandom(200_000)
    handle = winscp.open_write(path)
    send_all(winscp, handle, content[:96_000])
    winscp.close_handle(handle)
    handle = winscp.open_write(path, WRITE)
    send_all(winscp, handle, content, size_of(winscp, path))
    assert winscp.close_handle(handle)[0] == OK
    assert read_all(winscp, path) == content
