"""paramiko: the client of most suppliers' Python, with today's algorithms and yesterday's."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from contract import MIB, exercise

pytestmark = pytest.mark.integration


class Paramiko:
    """An SFTPClient under the names of the contract."""

    def __init__(self, client: paramiko.SFTPClient) -> None:
        self.client = client

    def put(self, local: Path, remote: str) -> None:
        self.client.put(str(local), remote)

    def get(self, remote: str, local: Path) -> None:
        self.client.get(remote, str(local))

    def ls(self, directory: str) -> list[str]:
        return self.client.listdir(directory)

    def rename(self, old: str, new: str) -> None:
        self.client.rename(old, new)

    def mkdir(self, directory: str) -> None:
        self.client.mkdir(directory)

    def rmdir(self, directory: str) -> None:
        self.client.rmdir(directory)

    def rm(self, remote: str) -> None:
        self.client.remove(remote)


def connect(gateway: Any, key: paramiko.PKey | None = None, **algorithms: str) -> Any:
    """An SFTP client; each of ``algorithms`` is the only one of its kind that is offered."""
    transport = paramiko.Transport(("127.0.0.1", gateway.port))
    options = transport.get_security_options()
    for kind, name in algorithms.items():
        setattr(options, kind, (name,))
    key = key or paramiko.Ed25519Key.from_private_key_file(str(gateway.key))
    transport.connect(username=gateway.user, pkey=key)
    client = paramiko.SFTPClient.from_transport(transport)
    assert client is not None
    return client


@pytest.fixture
def client(door: Any) -> Iterator[paramiko.SFTPClient]:
    """A client that is closed with its connection."""
    made = connect(door)
    yield made
    made.get_channel().get_transport().close()


def test_paramiko(client: paramiko.SFTPClient, tmp_path: Path, root: str) -> None:
    """paramiko does what every client must, with all odd names; put looks at the size after."""
    exercise(Paramiko(client), tmp_path, root)


@pytest.mark.parametrize(
    ("digests", "ciphers"),
    [
        ("hmac-sha2-256-etm@openssh.com", "aes128-ctr"),
        ("hmac-sha2-512-etm@openssh.com", "aes256-ctr"),
    ],
)
def test_ctr_ciphers(door: Any, root: str, digests: str, ciphers: str) -> None:
    """What is not AES-GCM takes the plain path and carries the same bytes."""
    content = os.urandom(MIB)
    client = connect(door, digests=digests, ciphers=ciphers)
    client.putfo(io.BytesIO(content), root)
    back = io.BytesIO()
    client.getfo(root, back)
    client.get_channel().get_transport().close()
    assert back.getvalue() == content


@pytest.mark.parametrize("key_types", ["rsa-sha2-256", "rsa-sha2-512", "ssh-ed25519"])
def test_host_key_algorithms(door: Any, key_types: str) -> None:
    """Each kind of host key serves the clients that want it."""
    client = connect(door, key_types=key_types)
    assert client.get_channel().get_transport().host_key_type == key_types
    client.get_channel().get_transport().close()


def test_old_algorithms(old_door: Any, old_rsa_key: Path, root: str) -> None:
    """A client of 2014: group 14 with SHA-1, CTR, an RSA key; over AWS's oldest policy only."""
    key = paramiko.RSAKey.from_private_key_file(str(old_rsa_key))
    algorithms = {"ciphers": "aes128-ctr", "digests": "hmac-sha2-256"}
    client = connect(old_door, key, kex="diffie-hellman-group14-sha256", **algorithms)
    client.putfo(io.BytesIO(b"1,2\n" * 1000), root)
    assert client.stat(root).st_size == 4000
    client.get_channel().get_transport().close()


def test_open_modes(client: paramiko.SFTPClient, root: str) -> None:
    """Files are appended to, changed in place, made once; prefetched and read by pieces."""
    with client.open(root, "wb") as file:
        file.set_pipelined(True)
        for _ in range(40):
            file.write(b"x" * 32_768)
    with client.open(root, "ab") as file:
        file.write(b"tail")
    with client.open(root, "r+b") as file:
        file.seek(10)
        file.write(b"HEAD")
        file.seek(8)
        assert file.read(8) == b"xxHEADxx"
    with pytest.raises(OSError, match="Failure"):
        client.open(root, "wx")
    with client.open(root, "rb") as file:
        file.prefetch()
        content = file.read()
    assert len(content) == 40 * 32_768 + 4
    assert content[8:16] == b"xxHEADxx"
    assert content[-4:] == b"tail"
    with client.open(root, "rb") as file:
        assert [bytes(piece) for piece in file.readv([(10, 4), (0, 2)])] == [b"HEAD", b"xx"]


def test_times(client: paramiko.SFTPClient, root: str) -> None:
    """utime is kept, as mirrors rely on."""
    client.putfo(io.BytesIO(b"content"), root)
    client.utime(root, (1_400_000_000, 1_400_000_000))
    assert client.stat(root).st_mtime == 1_400_000_000


def test_hashes(client: paramiko.SFTPClient, root: str) -> None:
    """check-file answers with the hash of the file that paramiko asks for."""
    client.putfo(io.BytesIO(b"content"), root)
    with client.open(root, "rb") as file:
        assert file.check("sha256", 0, 0, 0) == hashlib.sha256(b"content").digest()
