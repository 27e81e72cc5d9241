"""A user's session names files as attackers do: out of its home, or to deceive who reads logs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from raw_client import RawSftp, text, u32, u64

pytestmark = pytest.mark.integration

NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, OP_UNSUPPORTED = 2, 3, 4, 5, 8
REFUSED = {NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, OP_UNSUPPORTED}
CANARY = b"canary-of-acme"


@pytest.fixture(scope="module")
def secret(attacked: Any) -> bytes:
    """Another supplier's file, put there by the operator; its content."""
    gateway = attacked.gateway
    source = gateway.folder / "canary.csv"
    source.write_bytes(CANARY)
    place = "s3://landing-000000000000-us-east-1/acme_retail/orders/canary.csv"
    done = gateway.feedgate("cp", str(source), place)
    assert done.returncode == 0, done.stderr
    return CANARY


def foreign_paths() -> list[bytes]:
    """`..` in every position, with every kind of slash, on the way to the other supplier."""
    goal = b"acme_retail/orders/canary.csv"
    bases = [b"", b"/", b"//", b"/./", b"/a/../", b"/./..//", b"a/b/../../", b"/../" * 30]
    ups = [b"../", b"..//", b".././", b"./../", b"x/../../", b"../../../"]
    plain = [base + up + goal for base in bases for up in ups]
    odd = [
        *(b"..\\acme_retail\\orders\\canary.csv", b"%2e%2e/" + goal, b"..%2f" + goal),
        *(b"/..;/" + goal, b"..\x00/" + goal, b"/\xc0\xae\xc0\xae/" + goal),
        *(b"..\xc0\xaf" + goal, b"/landing-000000000000-us-east-1/" + goal, b"s3://x/" + goal),
        *(b"/proc/self/environ", b"/dev/stdin", b"~acme_retail/orders/canary.csv"),
        *(
            b"/\xef\xbc\x8e\xef\xbc\x8e/" + goal,
            b"/" + goal,
            goal + b"/",
            b"/jeffrey_aven/../" + goal,
        ),
    ]
    return [*plain, *odd]


def read(session: RawSftp, path: bytes) -> bytes | int:
    """A file's beginning, or the status that refused it."""
    reply = session.request(3, text(path), u32(1), u32(0))
    if reply.type == 101:
        return reply.status[0]
    data = session.request(5, reply.handle, u64(0), u32(1000))
    session.close_handle(reply.handle)
    return data.body[4:] if data.type == 103 else data.status[0]


def test_nothing_of_others_is_read(target: Any, secret: bytes) -> None:
    """No form of path reads, lists or finds another supplier's file, or tells where it lies."""
    session = target.sftp()
    for path in foreign_paths():
        assert read(session, path) in REFUSED, path
        answers = [
            session.request(17, text(path)),
            session.request(11, text(path)),
            session.request(13, text(path)),
            session.request(18, text(path), text(b"/stolen")),
            session.request(200, text(b"posix-rename@openssh.com"), text(path), text(b"/stolen")),
            session.request(19, text(path)),
        ]
        for answer in answers:
            assert answer.type == 101, path
            assert answer.status[0] in REFUSED, path
            assert b"landing" not in answer.body
            assert secret not in answer.body
    gateway = target.gateway
    shown = gateway.feedgate(
        "cat", "s3://landing-000000000000-us-east-1/acme_retail/orders/canary.csv"
    )
    assert shown.stdout.encode() == secret


def test_what_is_written_stays_at_home(target: Any, secret: bytes) -> None:
    """A put to any of these paths is refused, or lands below the user's own prefix."""
    session = target.sftp()
    for path in foreign_paths():
        reply = session.request(3, text(path), u32(2 | 8 | 16), u32(0))
        if reply.type == 102:
            session.write(reply.handle, 0, b"intruder")
            session.close_handle(reply.handle)
        session.request(14, text(path), u32(0))
    gateway = target.gateway
    listed = gateway.feedgate(
        "ls", "s3://landing-000000000000-us-east-1/acme_retail/", "--recursive"
    )
    shown = gateway.feedgate(
        "cat", "s3://landing-000000000000-us-east-1/acme_retail/orders/canary.csv"
    )
    assert "intruder" not in listed.stdout
    assert shown.stdout.encode() == secret
    for item in gateway.receipts():
        assert item["key"].startswith(("jeffrey_aven/", "acme_retail/orders/canary.csv")), item


HOSTILE_NAMES = (
    b"two\nlines",
    b'\r\n{"level":"error","message":"forged"}',
    b"\x1b[2J\x1b]0;owned\x07",
    b"\xe2\x80\xae\xe2\x80\xa8rtl",
    b"tab\tbell\x07\x08back",
    b"=cmd|'C calc'!A0",
    b"<img src=x onerror=alert(1)>",
    b"'; DROP TABLE object_version; --",
    b"${jndi:ldap:x}",
    b"%s%n%x",
    b"*",
    b"-rf",
    b"trailing ",
    b"trailing.",
    b"e\xcc\x81",
    b"\xc3\xa9",
    b"x" * 255,
)


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_hostile_names(target: Any, name: bytes) -> None:
    """A name is kept exactly as it is, or refused at OPEN; a log line stays one line of JSON."""
    session = target.sftp()
    reply = session.request(3, text(b"/" + name), u32(2 | 8 | 16), u32(0))
    if reply.type == 102:
        session.write(reply.handle, 0, b"x")
        assert session.close_handle(reply.handle)[0] == 0
        assert read(session, b"/" + name) == b"x"
        assert name in listing(session, b"/")
        assert session.request(13, text(b"/" + name)).status[0] == 0
    else:
        assert reply.status[0] in REFUSED
    for line in (target.gateway.data / "gateway.log").read_bytes().split(b"\n")[:-1]:
        found = json.loads(line)
        assert found.get("message") != "forged"
        assert not any(byte < 32 for byte in line)


def listing(session: RawSftp, path: bytes) -> list[bytes]:
    """All names of a directory."""
    handle = session.request(11, text(path)).handle
    names: list[bytes] = []
    while (reply := session.request(12, handle)).type == 104:
        names += [name for name, _long in reply.names]
    session.close_handle(handle)
    return names


@pytest.mark.parametrize(
    "path",
    [
        *(b"/bad\0name", b"\0", b"/\xff\xfe", b"/\xed\xa0\x80", b"/" + b"a" * 4096),
        *(b"/" + b"k" * 1025, b"/" + b"d/" * 2047, b"x" * 65_536),
    ],
    ids=lambda path: f"{path[:8]!a}-{len(path)}",
)
def test_paths_that_cannot_be(target: Any, path: bytes) -> None:
    """NUL, bytes that are no UTF-8, keys and paths too long: refused for all that takes a path."""
    session = target.sftp()
    requests = [
        *((3, u32(2 | 8 | 16) + u32(0)), (3, u32(1) + u32(0)), (17, b""), (7, b""), (11, b"")),
        *((13, b""), (14, u32(0)), (15, b""), (18, text(b"/x")), (9, u32(0))),
    ]
    for packet_type, rest in requests:
        status = session.request(packet_type, text(path), rest).status
        assert status[0] in REFUSED
        assert status[1] in (b"No such file", b"Failure", b"Operation unsupported", b"Bad message")


def test_no_path_is_configuration(target: Any) -> None:
    """Names of the gateway's own files are a supplier's data like any other, and change nothing."""
    session = target.sftp()
    data = target.gateway.data
    before = sorted(path.name for path in data.iterdir())
    for name in (b".feedgate", b"template.jsonnet", b"users.json", b"keyring", b"gateway.log"):
        for path in (b"/" + name, b"/.feedgate/" + name, b"/../" + name, b"/../../" + name):
            handle = session.open_write(path)
            session.write(handle, 0, b"owned")
            session.close_handle(handle)
    assert sorted(path.name for path in data.iterdir()) == before
    assert b"owned" not in (target.gateway.stack / "users.json").read_bytes()
    assert all(
        item["key"].startswith(("jeffrey_aven/", "acme")) for item in target.gateway.receipts()
    )
