"""The same requests on either side of the table of deviations, by the shipped command."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parent.parent / "wire")]

from raw_client import RawSftp, RawTransport, text, u32, u64  # noqa: E402

pytestmark = pytest.mark.integration

READ, WRITE, APPEND, CREATE, TRUNCATE = 1, 2, 4, 8, 16
NO_ATTRIBUTES = u32(0)
TIMES = u32(8) + u32(5) + u32(6)


def opened(sftp: RawSftp, path: bytes, flags: int) -> tuple[int, bytes]:
    """OPEN: its status, or 0; what it opened is closed."""
    reply = sftp.request(3, text(path), u32(flags), NO_ATTRIBUTES)
    if reply.type == 101:
        return reply.status
    sftp.close_handle(reply.handle)
    return (0, b"")


def put(sftp: RawSftp, path: bytes, data: bytes = b"x") -> None:
    """Upload a small file."""
    handle = sftp.open_write(path)
    assert sftp.write(handle, 0, data)[0] == 0
    assert sftp.close_handle(handle)[0] == 0


def answers(sftp: RawSftp) -> dict[str, object]:
    """What a client sees of each row that it can see."""
    extensions = sftp.init()[1]
    put(sftp, b"/a")
    put(sftp, b"/b")
    put(sftp, b"/d/x")
    handle = sftp.open_write(b"/held")
    found: dict[str, object] = {
        "extensions": bool(extensions),
        "limits": sftp.request(200, text(b"limits@openssh.com")).type,
        "rename": sftp.request(18, text(b"/a"), text(b"/c")).status,
        "rename over": sftp.request(18, text(b"/b"), text(b"/c")).status[0],
        "rename directory": sftp.request(18, text(b"/d"), text(b"/e")).status,
        "setstat": sftp.request(9, text(b"/c"), TIMES).status,
        "fsetstat": sftp.request(10, handle, TIMES).status,
        "append": opened(sftp, b"/b", WRITE | CREATE | APPEND),
        "read": opened(sftp, b"/b", READ),
        "link": sftp.request(20, text(b"/x"), text(b"/y")).status[0],
        "no file": sftp.request(17, text(b"/none")).status,
    }
    sftp.write(handle, 0, b"x")
    sftp.close_handle(handle)
    return found


SAME = {"rename": (0, b"Success"), "rename over": 4, "read": (0, b""), "link": 8}
SAME["no file"] = (2, b"No such file")
OURS = {
    **SAME,
    "extensions": True,
    "limits": 201,
    "rename directory": (0, b"Success"),
    "setstat": (0, b"Success"),
    "fsetstat": (0, b"Success"),
}
AWS = {
    **SAME,
    "extensions": False,
    "limits": 101,
    "rename directory": (8, b"Cannot rename a directory"),
    "setstat": (8, b"SETSTAT unsupported"),
    "fsetstat": (8, b"FSETSTAT unsupported"),
    "append": (8, b"Cannot open file in mode: APPEND|CREATE|WRITE"),
}


@pytest.mark.parametrize("like_aws", [False, True], ids=["ours", "like-aws"])
def test_both_sides_of_the_table(gateway: Any, *, like_aws: bool) -> None:
    """Statuses, texts, extensions, first line, partial uploads, and what `status` says."""
    gateway.start(*(["--like-aws"] if like_aws else []))
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        first_line = connection.makefile("rb").readline().rstrip()
    assert first_line == (b"SSH-2.0-AWS_SFTP_1.2" if like_aws else b"SSH-2.0-feedgate")
    transport = RawTransport(gateway.port, gateway.user, gateway.key)
    sftp = transport.sftp()
    found = answers(sftp)
    expected = AWS if like_aws else OURS
    assert {name: found[name] for name in expected} == expected
    both = opened(sftp, b"/b", READ | WRITE | CREATE | TRUNCATE)
    if like_aws:
        assert both == (8, b"Cannot open file in mode: CREATE|READ|TRUNCATE|WRITE")
    handle = sftp.open_write(b"/orders/half.csv")
    for block in range(8):
        assert sftp.write(handle, block * 32_768, bytes(32_768))[0] == 0
    transport.kill()
    gateway.wait_for(lambda: "PARTIAL_CLOSE" in gateway.log())
    if like_aws:
        gateway.wait_for(lambda: gateway.receipts()[0]["path"] == "/orders/half.csv")
        receipt = gateway.receipts()[0]
        assert (receipt["is_partial"], receipt["size"]) == (True, 8 * 32_768)
        assert (receipt["unloaded"], receipt["loads"]) == ("partial", [])
        sftp = RawTransport(gateway.port, gateway.user, gateway.key).sftp()
        sftp.init()
        moved = sftp.request(18, text(b"/orders/half.csv"), text(b"/orders/h.csv")).status
        assert moved[0] == 0, "a rename makes no whole file of it"
        assert gateway.receipts()[0]["unloaded"] == "partial"
        size = sftp.request(17, text(b"/orders/h.csv")).body[4:12]
        assert size == u64(8 * 32_768)
    else:
        assert all(item["path"] != "/orders/half.csv" for item in gateway.receipts())
    status = gateway.json("status")
    assert status["like_aws"] is like_aws
