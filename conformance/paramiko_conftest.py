"""Points paramiko's own SFTP tests at a live server: the fixture of its conftest, overridden."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

import paramiko
import pytest


def remove_tree(client: paramiko.SFTPClient, path: str) -> None:
    """Remove a directory and all below it."""
    for entry in client.listdir_attr(path):
        name = f"{path}/{entry.filename}"
        if stat.S_ISDIR(entry.st_mode or 0):
            remove_tree(client, name)
        else:
            client.remove(name)
    client.rmdir(path)


@pytest.fixture
def sftp() -> Iterator[paramiko.SFTPClient]:
    """A client with the folder that the tests write to."""
    transport = paramiko.Transport(("127.0.0.1", int(os.environ["GATEWAY_PORT"])))
    key = paramiko.Ed25519Key.from_private_key_file(os.environ["GATEWAY_KEY"])
    transport.connect(username=os.environ["GATEWAY_USER"], pkey=key)
    client = paramiko.SFTPClient.from_transport(transport)
    assert client is not None
    client.FOLDER = "paramiko-test-target"  # type: ignore[attr-defined]
    with suppress(OSError):
        remove_tree(client, client.FOLDER)  # type: ignore[attr-defined]
    client.mkdir(client.FOLDER)  # type: ignore[attr-defined]
    yield client
    transport.close()
