"""asyncssh's client: large requests, many at once, several sessions on one connection."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from contract import digest, exercise

pytestmark = pytest.mark.integration


class Asyncssh:
    """An SFTPClient under the names of the contract; ``runner`` holds its loop."""

    def __init__(self, client: asyncssh.SFTPClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._run = runner.run

    def put(self, local: Path, remote: str) -> None:
        self._run(self._client.put(str(local), remote))

    def get(self, remote: str, local: Path) -> None:
        self._run(self._client.get(remote, str(local)))

    def ls(self, directory: str) -> list[str]:
        names = self._run(self._client.listdir(directory))
        return [str(name) for name in names if name not in (".", "..")]

    def rename(self, old: str, new: str) -> None:
        self._run(self._client.rename(old, new))

    def mkdir(self, directory: str) -> None:
        self._run(self._client.mkdir(directory))

    def rmdir(self, directory: str) -> None:
        self._run(self._client.rmdir(directory))

    def rm(self, remote: str) -> None:
        self._run(self._client.remove(remote))


def _connect(gateway: Any, **options: Any) -> Any:
    return asyncssh.connect(
        "127.0.0.1",
        gateway.port,
        username=gateway.user,
        client_keys=[str(gateway.key)],
        known_hosts=None,
        config=None,
        **options,
    )


def test_asyncssh(door: Any, tmp_path: Path, root: str) -> None:
    """asyncssh does what every client must, with all odd names."""

    async def connect() -> tuple[Any, Any]:
        connection = await _connect(door)
        return connection, await connection.start_sftp_client()

    with asyncio.Runner() as runner:
        connection, client = runner.run(connect())
        exercise(Asyncssh(client, runner), tmp_path, root)
        connection.close()
        runner.run(connection.wait_closed())


def test_large_requests(door: Any, tmp_path: Path, root: str) -> None:
    """128 requests at a time, each as large as limits@openssh.com allows, carry the same bytes."""
    (tmp_path / "f").write_bytes(os.urandom(9_000_001))

    async def transfer() -> None:
        options = {"max_requests": 128}
        async with _connect(door) as connection, connection.start_sftp_client() as client:
            await client.put(str(tmp_path / "f"), root, **options)
            await client.get(root, str(tmp_path / "back"), **options)

    asyncio.run(transfer())
    assert digest(tmp_path / "back") == digest(tmp_path / "f")


def test_rekeying_client(door: Any, tmp_path: Path, root: str) -> None:
    """A client that exchanges keys every 200 kB, amid pipelined writes, keeps every byte."""
    (tmp_path / "f").write_bytes(os.urandom(2_000_000))

    async def transfer() -> None:
        async with (
            _connect(door, rekey_bytes=200_000) as connection,
            connection.start_sftp_client() as client,
        ):
            await client.put(str(tmp_path / "f"), root)
            await client.get(root, str(tmp_path / "back"))

    asyncio.run(transfer())
    assert digest(tmp_path / "back") == digest(tmp_path / "f")
