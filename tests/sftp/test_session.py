"""Every SFTP operation by raw packets: what is asked of the home directory, what is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_client import RawSftp, RawTransport, text, u32, u64

from feedgate.errors import AccessDenied, CouldNot, NoSpace
from feedgate.limits import SFTP_HANDLES_MAX
from feedgate.sftp.extensions import EXTENSIONS
from feedgate.sftp.session import OPERATIONS

NO_ATTRIBUTES = u32(0)


@pytest.fixture
def sftp(door: Any) -> RawSftp:
    """A session that has begun, with a file and a directory in the home."""
    door.store.files[b"/a.csv"] = b"0123456789"
    door.store.directories.add(b"/box")
    session: RawSftp = door.raw().sftp()
    session.init()
    return session


def begun(transport: RawTransport) -> RawSftp:
    """A further session on a connection."""
    session = transport.sftp()
    session.init()
    return session


def calls(door: Any) -> list[tuple[object, ...]]:
    """What the session asked of its home."""
    return list(door.store.homes[-1].calls)


@pytest.mark.parametrize("version", [0, 3, 6, 2**32 - 1])
def test_version(door: Any, version: int) -> None:
    """Whatever version a client offers, 3 is spoken, with the extensions of the table."""
    offered = b"".join(text(row.name) + text(row.data) for row in EXTENSIONS.values())
    assert door.raw().sftp().init(version) == (3, offered)


def test_the_table_is_whole() -> None:
    """Every request of the draft has a row, and those that change something say so."""
    assert set(OPERATIONS) == {*range(3, 21), 200}
    reading = {row.name for row in OPERATIONS.values() if not row.writes}
    assert reading == {
        *("READ", "LSTAT", "FSTAT", "OPENDIR", "READDIR", "REALPATH", "STAT"),
        "READLINK",
    }


def test_upload_and_download(door: Any, sftp: RawSftp) -> None:
    """Packets in any order make the file; it is there after CLOSE and not before."""
    handle = sftp.open_write(b"/up")
    assert sftp.write(handle, 5, b"world") == (0, b"Success")
    assert sftp.write(handle, 0, b"hello") == (0, b"Success")
    assert sftp.request(8, handle).body[4:12] == u64(10)
    assert b"/up" not in door.store.files
    assert sftp.close_handle(handle) == (0, b"Success")
    assert door.store.files[b"/up"] == b"helloworld"
    handle = sftp.open_read(b"/up")
    assert sftp.request(5, handle, u64(2), u32(3)).body == text(b"llo")
    assert sftp.request(5, handle, u64(8), u32(100)).body == text(b"ld")
    assert sftp.request(5, handle, u64(10), u32(100)).status == (1, b"End of file")
    assert sftp.close_handle(handle) == (0, b"Success")
    assert sftp.close_handle(handle) == (4, b"Failure")


def test_read_lengths(door: Any, sftp: RawSftp) -> None:
    """A READ gives at most 255 KiB, nothing for nothing, and the end for any far offset."""
    door.store.files[b"/big"] = bytes(1_000_000)
    handle = sftp.open_read(b"/big")
    for length in (255 * 1024, 255 * 1024 + 1, 2**31, 2**32 - 1):
        reply = sftp.request(5, handle, u64(0), u32(length))
        assert len(reply.body) == 4 + 255 * 1024
    assert sftp.request(5, handle, u64(0), u32(0)).status[0] == 1
    for offset in (1_000_000, 2**63 - 1, 2**63, 2**64 - 1):
        assert sftp.request(5, handle, u64(offset), u32(10)).status[0] == 1


def test_write_beyond_any_file(sftp: RawSftp) -> None:
    """An offset that no object can have is refused, and the session goes on."""
    handle = sftp.open_write()
    for offset in (5 * 1024**4, 2**63 - 1, 2**64 - 1):
        assert sftp.write(handle, offset, b"x") == (4, b"Failure")
    assert sftp.write(handle, 0, b"x")[0] == 0


@pytest.mark.parametrize(
    ("flags", "mode"),
    [
        (0, b""),
        (8, b"CREATE"),
        (1 | 16, b"READ|TRUNCATE"),
        (2**32 - 3, b"APPEND|CREATE|EXCLUSIVE|READ|TRUNCATE"),
    ],
)
def test_refused_modes(door: Any, sftp: RawSftp, flags: int, mode: bytes) -> None:
    """AWS's status and text; the home is not asked."""
    status = sftp.request(3, text(b"/x"), u32(flags), NO_ATTRIBUTES).status
    assert status == (8, b"Cannot open file in mode: " + mode)
    assert calls(door) == []
    assert door.events("ERROR")[-1]["mode"] == mode.decode()


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        (2, (False, False, False, False)),
        (2 | 8, (True, False, False, False)),
        (2 | 8 | 16, (True, True, False, False)),
        (2 | 8 | 32, (True, False, True, False)),
        (2 | 8 | 4, (True, False, False, True)),
        (1 | 2, (False, False, False, False)),
        (1 | 2 | 8 | 16, (True, True, False, False)),
        (1 | 2 | 4 | 8, (True, False, False, True)),
        (2**32 - 1, (True, True, True, True)),
    ],
)
def test_open_flags(door: Any, sftp: RawSftp, flags: int, asked: tuple[bool, ...]) -> None:
    """Flags reach the home as create, truncate, exclusive, append."""
    sftp.request(3, text(b"/x"), u32(flags), NO_ATTRIBUTES)
    assert calls(door)[-1] == ("open_write", b"/x", *asked)


PATHS = [
    b"//etc/hostname",
    b"/../../../../etc/hostname",
    b"../../x",
    b"/./..//x",
    b"\\..\\x",
    b"..%2f..%2fx",
    b"",
    b".",
    b"/box/",
    b"a/" * 2000,
    b"\xff\xfe",
    b"~root",
    b"a\nb",
    "\ufb01\uff0f\uff0e\uff0e\uff0fx".encode(),
]


@pytest.mark.parametrize("path", PATHS)
def test_paths_pass_untouched_once(door: Any, sftp: RawSftp, path: bytes) -> None:
    """Each operation hands its path to the home as it came, once: nobody else looks at it."""
    requests = [
        ("realpath", 16, (text(path),)),
        ("stat", 17, (text(path),)),
        ("stat", 7, (text(path),)),
        ("open_read", 3, (text(path), u32(1), NO_ATTRIBUTES)),
        ("open_directory", 11, (text(path),)),
        ("remove", 13, (text(path),)),
        ("mkdir", 14, (text(path), NO_ATTRIBUTES)),
        ("rmdir", 15, (text(path),)),
    ]
    for name, packet_type, fields in requests:
        before = len(calls(door))
        sftp.request(packet_type, *fields)
        assert calls(door)[before:] == [(name, path)]
    before = len(calls(door))
    sftp.request(18, text(path), text(path))
    assert calls(door)[before:] == [("rename", path, path)]
    before = len(calls(door))
    sftp.request(9, text(path), NO_ATTRIBUTES)
    assert [call[:2] for call in calls(door)[before:]] == [("set_attributes", path)]
    before = len(calls(door))
    sftp.request(3, text(path), u32(2 | 8 | 16), NO_ATTRIBUTES)
    assert [call[:2] for call in calls(door)[before:]] == [("open_write", path)]


@pytest.mark.parametrize("path", [b"/a\0.csv", b"\0", b"x" * 4097, b"x" * 70_000])
def test_paths_that_name_nothing(door: Any, sftp: RawSftp, path: bytes) -> None:
    """A NUL or more than 4,096 bytes: no such file, and the home is not asked."""
    for packet_type, fields in (
        *((number, (text(path),)) for number in (7, 11, 13, 15, 16, 17)),
        (3, (text(path), u32(1), NO_ATTRIBUTES)),
        (9, (text(path), NO_ATTRIBUTES)),
        (14, (text(path), NO_ATTRIBUTES)),
        (18, (text(b"/a.csv"), text(path))),
        (18, (text(path), text(b"/b"))),
    ):
        assert sftp.request(packet_type, *fields).status == (2, b"No such file")
    assert calls(door) == []


def test_names_and_directories(door: Any, sftp: RawSftp) -> None:
    """STAT, OPENDIR, READDIR, REALPATH, RENAME, MKDIR, RMDIR, REMOVE."""
    assert sftp.request(17, text(b"/a.csv")).type == 105
    assert sftp.request(7, text(b"/none")).status == (2, b"No such file")
    handle = sftp.request(11, text(b"/")).handle
    assert [name for name, _ in sftp.request(12, handle).names] == [b"a.csv", b"box"]
    assert sftp.request(12, handle).status == (1, b"End of file")
    assert sftp.request(8, handle).type == 105
    assert sftp.request(10, handle, NO_ATTRIBUTES).status[0] == 4
    assert sftp.close_handle(handle)[0] == 0
    assert sftp.request(16, text(b"box/..")).names == [(b"/", b"/")]
    assert sftp.request(18, text(b"/a.csv"), text(b"/b.csv")).status[0] == 0
    assert sftp.request(18, text(b"/box"), text(b"/b")).status == (8, b"Cannot rename a directory")
    assert sftp.request(14, text(b"/box"), NO_ATTRIBUTES).status == (4, b"Failure")
    assert sftp.request(14, text(b"/new"), NO_ATTRIBUTES).status[0] == 0
    assert sftp.request(15, text(b"/new")).status[0] == 0
    assert sftp.request(13, text(b"/b.csv")).status[0] == 0
    assert door.store.files == {}
    kinds = [line["activity-type"] for line in door.log.lines if "activity-type" in line]
    assert kinds == [
        *("CONNECTED", "ERROR", "RENAME", "ERROR", "ERROR"),
        *("MKDIR", "RMDIR", "DELETE"),
    ]
    renamed = door.events("RENAME")[0]
    assert (renamed["path"], renamed["new-path"]) == ("/bucket/a.csv", "/bucket/b.csv")


def test_attributes_are_taken_and_ignored(door: Any, sftp: RawSftp) -> None:
    """SETSTAT and FSETSTAT after an upload succeed, unlike AWS's default."""
    attributes = u32(0xD) + u64(10) + u32(0o644) + u32(5) + u32(6)
    assert sftp.request(9, text(b"/a.csv"), attributes).status == (0, b"Success")
    handle = sftp.open_write()
    assert sftp.request(10, handle, attributes).status == (0, b"Success")
    assert len(door.events("SETSTAT")) == 2


def test_large_directories(door: Any, sftp: RawSftp) -> None:
    """Every name comes once, and no reply is longer than OpenSSH's client takes."""
    names = [b"%04d" % number + b"x" * 1020 for number in range(500)]
    door.store.files = {b"/" + name: b"" for name in names}
    door.store.directories.clear()
    handle = sftp.request(11, text(b"/")).handle
    found: list[bytes] = []
    while (reply := sftp.request(12, handle)).type == 104:
        assert len(reply.body) < 256 * 1024 - 9
        found += [name for name, _long_name in reply.names]
    assert found == names


@pytest.mark.parametrize("packet_type", [0, 2, 19, 20, 21, 99, 101, 103, 105, 199, 201, 255])
def test_unsupported_packets(sftp: RawSftp, packet_type: int) -> None:
    """Links, replies and numbers that nothing has: unsupported, and the session goes on."""
    reply = sftp.request(packet_type, text(b"/a"), text(b"/b"))
    assert reply.status == (8, b"Operation unsupported")
    assert sftp.request(17, text(b"/")).type == 105


def test_wrong_handles(sftp: RawSftp) -> None:
    """A handle that is not there, or is of another kind, is a failure."""
    reading, writing = sftp.open_read(b"/a.csv"), sftp.open_write()
    listing = sftp.request(11, text(b"/")).handle
    for bad in (text(b""), text(b"zz"), text(b"\0\0\0\x63"), text(b"x" * 300), listing, writing):
        assert sftp.request(5, bad, u64(0), u32(1)).status == (4, b"Failure")
    for bad in (text(b""), text(b"zz"), text(b"x" * 300), listing, reading):
        assert sftp.request(6, bad, u64(0), text(b"data")).status == (4, b"Failure")
    for bad in (reading, writing, text(b"zz")):
        assert sftp.request(12, bad).status == (4, b"Failure")


def test_handles_are_bounded(door: Any, sftp: RawSftp) -> None:
    """At most 1,000 handles; closing one makes room; nothing is opened beyond."""
    for _ in range(SFTP_HANDLES_MAX):
        sftp.send_request(11, text(b"/"))
    handles = [sftp.receive().handle for _ in range(SFTP_HANDLES_MAX)]
    asked = len(calls(door))
    assert sftp.request(11, text(b"/")).status == (4, b"Failure")
    assert sftp.request(3, text(b"/x"), u32(2 | 8), NO_ATTRIBUTES).status == (4, b"Failure")
    assert len(calls(door)) == asked
    assert sftp.close_handle(handles[500])[0] == 0
    assert sftp.request(11, text(b"/")).type == 102
    assert len(set(handles)) == SFTP_HANDLES_MAX


def test_handles_of_a_connection_are_bounded_over_its_channels(
    make_door: Callable[..., Any],
) -> None:
    """A quarter of the process's handles for one connection, whatever channels it opens."""
    door = make_door(handles_max=20)
    transport = door.raw()
    channels = [begun(transport), begun(transport)]
    handles = [channels[number % 2].request(11, text(b"/")).handle for number in range(5)]
    for channel in channels:
        assert channel.request(11, text(b"/")).status == (4, b"Failure")
        assert channel.request(3, text(b"/x"), u32(2 | 8), NO_ATTRIBUTES).status == (4, b"Failure")
    assert channels[0].close_handle(handles[0])[0] == 0
    assert channels[1].request(11, text(b"/")).type == 102


def test_handles_of_all_connections_are_bounded(make_door: Callable[..., Any]) -> None:
    """When the process has no more, OPEN fails; the end of a connection gives its handles back."""
    door = make_door(handles_max=8)
    transports = [door.raw() for _ in range(5)]
    sessions = [begun(transport) for transport in transports]
    for session in sessions[:4]:
        for _ in range(2):
            assert session.open_write()
    refused = sessions[4].request(3, text(b"/x"), u32(2 | 8), NO_ATTRIBUTES)
    assert refused.status == (4, b"Failure")
    transports[0].close()
    door.wait_for(lambda: sum(upload.abandons for upload in door.store.uploads) == 2)
    assert sessions[4].open_write()


def test_an_open_that_fails_takes_no_handle(make_door: Callable[..., Any]) -> None:
    """A refused OPEN gives its place back."""
    door = make_door(handles_max=4)
    session = begun(door.raw())
    for _ in range(3):
        missing = session.request(3, text(b"/missing"), u32(1), NO_ATTRIBUTES)
        assert missing.status[0] == 2
    assert session.open_write()


def test_refusals_of_the_judge_show_where_aws_shows_them(door: Any, sftp: RawSftp) -> None:
    """An error of the home becomes the status of that packet, at CLOSE too."""
    handle = sftp.open_write()
    door.store.faults["close"] = AccessDenied("by statement 3 of policy x")
    assert sftp.close_handle(handle) == (3, b"Permission denied")
    assert door.store.uploads[0].abandons == 0
    assert door.events("CLOSE") == []
    assert door.events("ERROR")[-1]["operation"] == "CLOSE"
    listing = sftp.request(11, text(b"/")).handle
    door.store.faults["readdir"] = AccessDenied("x")
    assert sftp.request(12, listing).status == (3, b"Permission denied")
    door.store.faults["open_directory"] = AccessDenied("x")
    assert sftp.request(11, text(b"/")).status == (3, b"Permission denied")
    door.store.faults["write"] = NoSpace("floor")
    assert sftp.write(sftp.open_write(), 0, b"x") == (4, b"no space")


@pytest.mark.parametrize(
    "fault", [ZeroDivisionError("canary-17"), OSError("canary-17"), CouldNot("canary-17")]
)
def test_internal_text_stays_inside(door: Any, sftp: RawSftp, fault: Exception) -> None:
    """An unexpected exception is a plain failure outside and a traceback in the log."""
    door.store.faults["stat"] = fault
    reply = sftp.request(17, text(b"/a.csv"))
    assert reply.status == (4, b"Failure")
    assert b"canary" not in reply.body
    assert any("canary-17" in str(line) for line in door.log.lines)
    assert bool(door.errors) != isinstance(fault, CouldNot)
    del door.store.faults["stat"]
    assert sftp.request(17, text(b"/a.csv")).type == 105


@pytest.mark.parametrize("first", [bytes([17]) + u32(1) + text(b"/"), bytes([99]) * 9])
def test_init_comes_first(door: Any, first: bytes) -> None:
    """A request before INIT ends the channel and reaches no home."""
    session = door.raw().sftp()
    session.send(first)
    with pytest.raises(EOFError):
        session.receive()
    assert calls(door) == []


def test_init_comes_once(sftp: RawSftp) -> None:
    """A second INIT ends the channel."""
    sftp.send(bytes([1]) + u32(3))
    with pytest.raises(EOFError):
        sftp.receive()


@pytest.mark.parametrize("length", [0, 4, 0x7FFFFFFF, 2**32 - 1, 300_000])
def test_impossible_lengths_end_the_channel(door: Any, sftp: RawSftp, length: int) -> None:
    """At once, not after waiting for 2 GiB; uploads are abandoned."""
    sftp.open_write()
    sftp.channel.sendall(u32(length) + b"A" * 100)
    with pytest.raises(EOFError):
        sftp.receive()
    door.wait_for(lambda: door.store.homes[-1].closed)
    assert (door.store.uploads[0].closes, door.store.uploads[0].abandons) == (0, 1)


# -- malformed packets ----------------------------------------------------------------------------

BODIES = {
    3: text(b"/x") + u32(2 | 8 | 16) + u32(0xF) + u64(1) + u32(1) * 5,
    4: text(b"\0\0\0\0"),
    5: text(b"\0\0\0\0") + u64(0) + u32(10),
    6: text(b"\0\0\0\0") + u64(0) + text(b"data"),
    9: text(b"/a.csv") + u32(0x80000001) + u64(10) + u32(1) + text(b"k") + text(b"v"),
    10: text(b"\0\0\0\0") + u32(4) + u32(0o644),
    11: text(b"/"),
    12: text(b"\0\0\0\0"),
    18: text(b"/a.csv") + text(b"/b"),
    200: text(b"limits@openssh.com"),
}


@pytest.fixture(scope="module")
def long_lived(
    tmp_path_factory: pytest.TempPathFactory, ssh_keys: Any, door_class: Any
) -> Iterator[Any]:
    """One door for many examples."""
    door = door_class(tmp_path_factory.mktemp("door"), ssh_keys, uvloop.new_event_loop)
    door.start()
    door.store.files[b"/a.csv"] = b"0123456789"
    yield door
    door.stop()


@pytest.fixture(scope="module")
def many_channels(long_lived: Any) -> RawTransport:
    """One connection for many examples."""
    transport: RawTransport = long_lived.raw()
    return transport


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_packets(long_lived: Any, many_channels: RawTransport, data: st.DataObject) -> None:
    """Cut short, overwritten or random: a reply each, or a closed channel; the door lives on."""
    session: RawSftp = many_channels.sftp()
    session.init()
    for _ in range(data.draw(st.integers(1, 5))):
        packet_type = data.draw(st.sampled_from(sorted(BODIES)))
        body = bytearray(BODIES[packet_type])
        if data.draw(st.booleans()):
            place = data.draw(st.integers(0, len(body) - 1))
            body[place] = data.draw(st.integers(0, 255))
        damaged = bytes(body[: data.draw(st.integers(0, len(body)))])
        damaged += data.draw(st.binary(max_size=20))
        try:
            reply = session.request(packet_type, damaged)
        except EOFError:
            break
        assert reply.type in (101, 102, 103, 104, 105, 201)
    session.channel.close()
    assert long_lived.errors == []


def test_every_truncation_gets_an_answer(long_lived: Any) -> None:
    """A body cut short anywhere is answered, and the next request too."""
    transport: RawTransport = long_lived.raw()
    session = transport.sftp()
    session.init()
    for packet_type, body in BODIES.items():
        for end in range(len(body)):
            reply = session.request(packet_type, body[:end])
            assert reply.type == 101
            assert reply.status[0] in (2, 4, 5, 8)
    assert session.request(17, text(b"/")).type == 105
    transport.close()
