"""Times that clients give their files: kept, shown, brought back; nothing lands for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import paramiko
import pytest

pytestmark = pytest.mark.integration

LONG_AGO = 1_000_000_000  # 2001-09-09


def test_openssh_brings_times_back(door: Any, tmp_path: Path, root: str) -> None:
    """`put -p` and `get -p` keep the time; `ls -l` shows it."""
    source = tmp_path / "dated"
    source.write_bytes(b"x" * 300_000)
    os.utime(source, (LONG_AGO, LONG_AGO))
    back = tmp_path / "back"
    done = door.sftp(
        f"mkdir {root}", f"put -p {source} {root}/f", f"get -p {root}/f {back}", f"ls -l {root}/f"
    )
    assert done.returncode == 0, done.stderr
    assert int(back.stat().st_mtime) == LONG_AGO
    assert "Sep  9  2001" in done.stdout


def test_a_time_after_close_lands_nothing(door: Any, root: str) -> None:
    """utime of a stored file changes what STAT shows, and neither receipts nor its version."""
    transport = paramiko.Transport(("127.0.0.1", door.port))
    transport.connect(
        username=door.user, pkey=paramiko.Ed25519Key.from_private_key_file(str(door.key))
    )
    client = paramiko.SFTPClient.from_transport(transport)
    assert client is not None
    try:
        client.mkdir(root)
        with client.open(f"{root}/f", "w") as file:
            file.write(b"x" * 1000)
        before = door.receipts()[0]
        client.utime(f"{root}/f", (1, LONG_AGO))
        client.chmod(f"{root}/f", 0o600)
        client.chown(f"{root}/f", 5, 6)
        assert client.stat(f"{root}/f").st_mtime == LONG_AGO
        assert [item.st_mtime for item in client.listdir_attr(root)] == [LONG_AGO]
        assert door.receipts()[0] == before
        with client.open(f"{root}/f", "r") as file:
            assert file.read() == b"x" * 1000
        client.truncate(f"{root}/f", 10)
        assert client.stat(f"{root}/f").st_size == 10
        assert door.receipts()[0]["size"] == 10
    finally:
        transport.close()
    assert door.log().count("modes and owners are accepted and not kept") >= 1
