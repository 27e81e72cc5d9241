"""Each advertised extension works, by raw packets; what is not advertised is refused."""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import Any

import pytest
from raw_client import RawSftp, Reply, text, u32, u64

from feedgate.sftp.extensions import EXTENSIONS

CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes: several pieces


@pytest.fixture
def sftp(door: Any) -> RawSftp:
    """A session that has begun, with a file in the home."""
    door.store.files[b"/a.bin"] = CONTENT
    session: RawSftp = door.raw().sftp()
    session.init()
    return session


def extended(sftp: RawSftp, name: bytes, *fields: bytes) -> Reply:
    """An extended request and its reply."""
    return sftp.request(200, text(name), *fields)


def test_limits(sftp: RawSftp) -> None:
    """Lengths of packets, reads and writes, and how many handles."""
    reply = extended(sftp, b"limits@openssh.com")
    assert reply.type == 201
    assert struct.unpack(">QQQQ", reply.body) == (262144, 261120, 261120, 1000)


@pytest.mark.parametrize(
    "name",
    [
        *(b"hardlink@openssh.com", b"lsetstat@openssh.com", b"expand-path@openssh.com"),
        *(b"home-directory", b"users-groups-by-id@openssh.com", b"fstatvfs@openssh.com"),
        *(b"space-available", b"md5-hash", b"Limits@openssh.com", b"", b"x" * 10_000),
    ],
)
def test_what_is_not_advertised_is_refused(sftp: RawSftp, name: bytes) -> None:
    """However plausible: operation unsupported."""
    assert name not in EXTENSIONS
    assert extended(sftp, name, text(b"/a"), text(b"/b")).status[0] == 8


def test_truncated_requests(sftp: RawSftp) -> None:
    """An extension without its fields is a bad message, and the session goes on."""
    for name in EXTENSIONS:
        if name != b"limits@openssh.com":
            assert extended(sftp, name).status[0] == 5
    assert sftp.request(17, text(b"/a.bin")).type == 105


def test_posix_rename(door: Any, sftp: RawSftp) -> None:
    """The new name is taken over; RENAME leaves it."""
    door.store.files[b"/b"] = b"old"
    assert sftp.request(18, text(b"/a.bin"), text(b"/b")).status[0] == 4
    reply = extended(sftp, b"posix-rename@openssh.com", text(b"/a.bin"), text(b"/b"))
    assert reply.status == (0, b"Success")
    assert door.store.files == {b"/b": CONTENT}
    renamed = door.events("RENAME")[0]
    assert (renamed["path"], renamed["new-path"]) == ("/bucket/a.bin", "/bucket/b")


def test_statvfs(sftp: RawSftp) -> None:
    """The user's room in blocks, and nothing of the disk that the files lie on."""
    values = struct.unpack(">11Q", extended(sftp, b"statvfs@openssh.com", text(b"/")).body)
    assert values == (4096, 4096, 244, 97, 97, 0, 0, 0, 0, 0, 255)


def test_fsync(door: Any, sftp: RawSftp) -> None:
    """An upload is synced before the answer; what is read lies on disk already."""
    handle = sftp.open_write()
    assert extended(sftp, b"fsync@openssh.com", handle).status == (0, b"Success")
    assert door.store.uploads[-1].syncs == 1
    assert extended(sftp, b"fsync@openssh.com", sftp.open_read(b"/a.bin")).status[0] == 0
    directory = sftp.request(11, text(b"/")).handle
    assert extended(sftp, b"fsync@openssh.com", directory).status[0] == 4


# -- copy-data ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read_at", "length", "write_at", "status"),
    [
        (0, 0, 0, 0),
        (10, 0, 3, 0),
        (0, 5, 0, 0),
        (5, len(CONTENT) - 5, 0, 0),
        (5, len(CONTENT), 0, 1),
        (len(CONTENT), 0, 0, 0),
        (2**63, 0, 0, 0),
        (2**64 - 1, 2**64 - 1, 0, 1),
    ],
)
def test_copy_data(
    door: Any, sftp: RawSftp, *, read_at: int, length: int, write_at: int, status: int
) -> None:
    """Any range goes where it is sent; EOF says that the file was shorter."""
    source, target = sftp.open_read(b"/a.bin"), sftp.open_write(b"/copy")
    where = (source, u64(read_at), u64(length), target, u64(write_at))
    assert extended(sftp, b"copy-data", *where).status[0] == status
    assert sftp.close_handle(target)[0] == 0
    copied = CONTENT[read_at : read_at + length] if length else CONTENT[read_at:]
    assert door.store.files[b"/copy"] == (bytes(write_at) + copied if copied else b"")
    assert door.events("CLOSE")[-1]["bytes-in"] == str(len(copied))


def test_copy_data_within_one_handle(sftp: RawSftp) -> None:
    """A handle that reads and writes copies inside its file, where the ranges do not overlap."""
    handle = sftp.open_write(b"/both", 1 | 2 | 8)
    assert sftp.write(handle, 0, b"0123456789") == (0, b"Success")
    for read_at, length, write_at, code in ((0, 5, 4, 4), (4, 5, 0, 4), (0, 0, 0, 4), (0, 4, 4, 0)):
        where = (handle, u64(read_at), u64(length), handle, u64(write_at))
        assert extended(sftp, b"copy-data", *where).status[0] == code
    assert sftp.request(5, handle, u64(0), u32(100)).body == text(b"0123012389")


def test_copy_data_refusals(sftp: RawSftp) -> None:
    """Wrong handles, one handle for both, and offsets that no object has are failures."""
    source, target = sftp.open_read(b"/a.bin"), sftp.open_write(b"/copy")
    zero = u64(0)
    for fields in (
        (target, zero, zero, target, zero),
        (source, zero, zero, source, zero),
        (target, zero, zero, source, zero),
        (text(b"none"), zero, zero, target, zero),
        (source, zero, zero, text(b"none"), zero),
        (source, zero, zero, target, u64(2**64 - 1)),
        (source, zero, zero, target, u64(5 * 1024**4)),
    ):
        assert extended(sftp, b"copy-data", *fields).status[0] == 4
    assert sftp.close_handle(target)[0] == 0


# -- check-file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["md5", "sha1", "sha224", "sha256", "sha384", "sha512", "crc32"])
def test_check_file(sftp: RawSftp, name: str) -> None:
    """By name and by handle, and in paramiko's spelling, which has its name in the answer."""
    handle = sftp.open_read(b"/a.bin")
    for offset, length in ((0, 0), (7, 0), (7, 500_000), (len(CONTENT), 0), (5, 2**64 - 1)):
        part = CONTENT[offset : offset + length] if length else CONTENT[offset:]
        if name == "crc32":
            digest = zlib.crc32(part).to_bytes(4, "big")
        else:
            digest = hashlib.new(name, part).digest()
        asked = (text(b"what," + name.encode() + b",md5"), u64(offset), u64(length), u32(0))
        answer = text(name.encode()) + digest
        assert extended(sftp, b"check-file-name", text(b"/a.bin"), *asked).body == answer
        assert extended(sftp, b"check-file-handle", handle, *asked).body == answer
        reply = extended(sftp, b"check-file", handle, *asked)
        assert (reply.type, reply.body) == (201, text(b"check-file") + answer)


def test_check_file_by_blocks(sftp: RawSftp) -> None:
    """A digest for each block, the last one shorter; none for an empty range."""
    part, size = CONTENT[1:2001], 300
    expected = b"".join(
        hashlib.md5(part[at : at + size], usedforsecurity=False).digest()
        for at in range(0, len(part), size)
    )
    asked = (text(b"md5"), u64(1), u64(len(part)), u32(size))
    assert extended(sftp, b"check-file-name", text(b"/a.bin"), *asked).body == (
        text(b"md5") + expected
    )
    empty = (text(b"md5"), u64(len(CONTENT)), u64(0), u32(size))
    assert extended(sftp, b"check-file-name", text(b"/a.bin"), *empty).body == text(b"md5")


@pytest.mark.parametrize(
    ("path", "names", "offset", "block", "code"),
    [
        (b"/none", b"md5", 0, 0, 2),
        (b"/a.bin", b"md4,what", 0, 0, 8),
        (b"/a.bin", b"\xff", 0, 0, 8),
        (b"/a.bin", b"md5", len(CONTENT) + 1, 0, 4),
        (b"/a.bin", b"md5", 2**64 - 1, 0, 4),
        (b"/a.bin", b"md5", 0, 255, 4),
        (b"/a.bin", b"sha512", 0, 256, 4),
    ],
)
def test_check_file_refusals(
    sftp: RawSftp, *, path: bytes, names: bytes, offset: int, block: int, code: int
) -> None:
    """No such file or hash, a range beyond the end, blocks too short or too many."""
    asked = (text(names), u64(offset), u64(0), u32(block))
    assert extended(sftp, b"check-file-name", text(path), *asked).status[0] == code


def test_check_file_of_an_upload(sftp: RawSftp) -> None:
    """What is still being written has no hash."""
    asked = (text(b"md5"), u64(0), u64(0), u32(0))
    assert extended(sftp, b"check-file-handle", sftp.open_write(), *asked).status[0] == 4


# -- clients --------------------------------------------------------------------------------------


@pytest.mark.integration
def test_openssh_renames_over_and_copies(door: Any) -> None:
    """OpenSSH's client uses posix-rename and copy-data where they are offered."""
    (door.folder / "a").write_bytes(CONTENT)
    (door.folder / "b").write_bytes(b"old")
    done = door.sftp("put a", "put b", "cp a c", "rename a b", "df")
    assert done.returncode == 0, done.stderr
    assert door.store.files == {b"/b": CONTENT, b"/c": CONTENT}
    assert [call[0] for call in door.store.homes[-1].calls].count("posix_rename") == 1


@pytest.mark.integration
def test_paramiko_checks_what_it_sent(door: Any) -> None:
    """paramiko's `check` reads the answer, for the whole file and by blocks."""
    door.store.files[b"/a.bin"] = CONTENT
    client = door.raw().transport.open_sftp_client()
    with client.open("/a.bin") as file:
        assert file.check("sha1") == hashlib.sha1(CONTENT, usedforsecurity=False).digest()
        assert len(file.check("md5", 0, 1000, 256)) == 4 * 16
    client.posix_rename("/a.bin", "/b.bin")
    assert list(door.store.files) == [b"/b.bin"]
