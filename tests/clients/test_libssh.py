"""libssh2 and libssh, by their Python bindings: what curl, PHP and many appliances are built on."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from contract import exercise

pytestmark = pytest.mark.integration

MISSING = "needs {} from PyPI: scripts/clients"


class Libssh2:
    """libssh2's SFTP under the names of the contract."""

    def __init__(self, gateway: Any) -> None:
        session = pytest.importorskip("ssh2.session", reason=MISSING.format("ssh2-python"))
        self._flags = pytest.importorskip("ssh2.sftp")
        self._socket = socket.create_connection(("127.0.0.1", gateway.port))
        self._session = session.Session()
        self._session.handshake(self._socket)
        self._session.userauth_publickey_fromfile(gateway.user, str(gateway.key))
        self._sftp = self._session.sftp_init()

    def put(self, local: Path, remote: str) -> None:
        flags = self._flags
        mode = flags.LIBSSH2_FXF_CREAT | flags.LIBSSH2_FXF_WRITE | flags.LIBSSH2_FXF_TRUNC
        with self._sftp.open(remote, mode, 0o644) as file:
            if content := local.read_bytes():
                file.write(content)

    def get(self, remote: str, local: Path) -> None:
        with self._sftp.open(remote, self._flags.LIBSSH2_FXF_READ, 0) as file:
            local.write_bytes(b"".join(data for _size, data in file))

    def ls(self, directory: str) -> list[str]:
        with self._sftp.opendir(directory) as listing:
            names = [name.decode() for _size, name, _attributes in listing.readdir()]
        return [name for name in names if name not in (".", "..")]

    def rename(self, old: str, new: str) -> None:
        self._sftp.rename(old, new)

    def mkdir(self, directory: str) -> None:
        self._sftp.mkdir(directory, 0o755)

    def rmdir(self, directory: str) -> None:
        self._sftp.rmdir(directory)

    def rm(self, remote: str) -> None:
        self._sftp.unlink(remote)

    def close(self) -> None:
        """End the connection."""
        self._session.disconnect()
        self._socket.close()


class Libssh:
    """libssh's SFTP under the names of the contract."""

    def __init__(self, gateway: Any) -> None:
        session = pytest.importorskip("ssh.session", reason=MISSING.format("ssh-python"))
        options = pytest.importorskip("ssh.options")
        key = pytest.importorskip("ssh.key")
        self._session = session.Session()
        self._session.options_set(options.HOST, "127.0.0.1")
        self._session.options_set(options.USER, gateway.user)
        self._session.options_set_port(gateway.port)
        self._session.connect()
        self._session.userauth_publickey(key.import_privkey_file(str(gateway.key)))
        self._sftp = self._session.sftp_new()
        self._sftp.init()

    def put(self, local: Path, remote: str) -> None:
        content = local.read_bytes()
        file = self._sftp.open(remote, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
        for start in range(0, len(content), 32_000):
            file.write(content[start : start + 32_000])
        file.close()

    def get(self, remote: str, local: Path) -> None:
        file = self._sftp.open(remote, os.O_RDONLY, 0)
        pieces = []
        while True:
            size, data = file.read(32_000)
            if size <= 0:
                break
            pieces.append(data)
        file.close()
        local.write_bytes(b"".join(pieces))

    def ls(self, directory: str) -> list[str]:
        listing = self._sftp.opendir(directory)
        names = []
        while not listing.eof() and (entry := listing.readdir()) is not None:
            names.append(entry.name.decode())
        listing.closedir()
        return [name for name in names if name not in (".", "..")]

    def rename(self, old: str, new: str) -> None:
        self._sftp.rename(old, new)

    def mkdir(self, directory: str) -> None:
        self._sftp.mkdir(directory, 0o755)

    def rmdir(self, directory: str) -> None:
        self._sftp.rmdir(directory)

    def rm(self, remote: str) -> None:
        self._sftp.unlink(remote)

    def close(self) -> None:
        """End the connection."""
        self._session.disconnect()


@pytest.mark.parametrize("library", [Libssh2, Libssh])
def test_library(door: Any, tmp_path: Path, root: str, library: Any) -> None:
    """Both libraries do what every client must, with all odd names."""
    client = library(door)
    exercise(client, tmp_path, root)
    client.close()
