"""What clients do with extensions, directories and temporary names, on a real gateway."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

import asyncssh
import paramiko
import pytest

pytestmark = pytest.mark.integration

ROWS = "order_id,customer,amount,ordered_at,priority\n1,Ada,1.50,2026-11-24,y\n"


def test_openssh_renames_copies_syncs_and_asks_for_room(running: Any) -> None:
    """Rename over a file and of a directory, `cp`, `put -f`, `df`; pipes get the last name."""
    content = os.urandom(300_000)
    (running.folder / "a").write_bytes(content)
    (running.folder / "b").write_bytes(b"old")
    (running.folder / "rows.csv").write_text(ROWS)
    done = running.sftp(
        *("put a", "put b", "rename a b", "cp b c", "put -f a", "df"),
        *("mkdir d", "put a d/x", "rename d e", "get e/x x", "get c copy"),
        *("put rows.csv orders/rows.csv.filepart", "ls -1"),
    )
    assert done.returncode == 0, done.stderr + running.log()
    assert done.stdout.split()[-5:] == ["a", "b", "c", "e", "orders"]
    assert "Avail" in done.stdout
    assert (running.folder / "x").read_bytes() == content
    assert (running.folder / "copy").read_bytes() == content
    running.wait_for(lambda: running.receipts()[0]["unloaded"] == "temporary name")
    assert "temporary name" in running.feedgate("receipts").stdout
    moved = running.sftp("rename orders/rows.csv.filepart orders/rows.csv")
    assert moved.returncode == 0, moved.stderr
    assert running.wait_for_loads(1)[0]["status"] == "LOADED"


def test_paramiko_and_asyncssh_use_the_extensions(running: Any) -> None:
    """paramiko checks a hash and renames over; asyncssh copies, syncs and asks for room."""
    content = os.urandom(2_000_000)
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            *("127.0.0.1", running.port, running.user),
            key_filename=str(running.key),
            allow_agent=False,
            look_for_keys=False,
        )
        sftp = client.open_sftp()
        with sftp.open("/a", "w") as file:
            file.set_pipelined(True)
            file.write(content)
        with sftp.open("/a") as file:
            assert file.check("sha256") == hashlib.sha256(content).digest()
            assert file.check("md5") == hashlib.md5(content, usedforsecurity=False).digest()
        with sftp.open("/b", "w") as file:
            file.write("old")
        with pytest.raises(OSError, match="Failure"):
            sftp.rename("/a", "/b")
        sftp.posix_rename("/a", "/b")
        assert sftp.listdir("/") == ["b"]

    async def transfer() -> None:
        async with (
            asyncssh.connect(
                "127.0.0.1",
                running.port,
                username=running.user,
                client_keys=[str(running.key)],
                known_hosts=None,
                config=None,
            ) as connection,
            connection.start_sftp_client() as sftp,
        ):
            assert sftp.supports_remote_copy
            await sftp.remote_copy("/b", "/c")
            assert (await sftp.stat("/c")).size == len(content)
            async with sftp.open("/d", "wb") as file:
                await file.write(content[:100_000])
                await file.fsync()
                await file.write(content[100_000:])
            async with sftp.open("/d", "rb") as file:
                assert await file.read() == content
            assert (await sftp.statvfs("/")).bavail > 0

    asyncio.run(transfer())
