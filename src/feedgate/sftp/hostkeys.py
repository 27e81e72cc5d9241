"""The SSH host keys: made once, 0600, kept. Ed25519 and RSA-3072.

Written and read without asyncssh, whose import the supervisor need not pay for. The files are
OpenSSH's, under the names that OpenSSH gives them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from feedgate.errors import CouldNot

__all__ = ["ensure_host_keys", "host_key_fingerprints", "load_host_keys"]

_RSA_BITS: Final = 3072
_MAGIC: Final = b"openssh-key-v1\0"


def _make_ed25519() -> bytes:
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def _make_rsa() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


_KEYS: Final[tuple[tuple[str, Callable[[], bytes]], ...]] = (
    ("ssh_host_ed25519_key", _make_ed25519),
    ("ssh_host_rsa_key", _make_rsa),
)


def ensure_host_keys(folder: Path) -> None:
    """Make the host keys that are missing; never touch one that is there.

    Called by one process at a time. A file appears whole or not at all.

    Raises:
        CouldNot: the folder cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, make in _KEYS:
            if not (folder / name).exists():
                _write_private(folder / name, make())
    except OSError as error:
        raise CouldNot(f"cannot write host keys to `{folder}`: {error.strerror}") from error


def _write_private(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def load_host_keys(folder: Path) -> list[bytes]:
    """The private keys in OpenSSH's PEM form, Ed25519 first.

    Raises:
        CouldNot: a key is missing, damaged, or readable by others. It is not made anew: clients
            that know the old one would refuse the gateway.
    """
    return [_read_private(folder / name) for name, _ in _KEYS]


def host_key_fingerprints(folder: Path) -> list[str]:
    """``SHA256:…`` of each host key, as ``ssh-keygen -l`` prints it, Ed25519 first.

    Raises:
        CouldNot: see ``load_host_keys``.
    """
    fingerprints = []
    for name, _ in _KEYS:
        digest = hashlib.sha256(_public_blob(_read_private(folder / name), folder / name)).digest()
        fingerprints.append("SHA256:" + base64.b64encode(digest).decode().rstrip("="))
    return fingerprints


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read()
    except OSError as error:
        raise CouldNot(
            f"cannot read the host key `{path}`: {error.strerror}",
            hint="restore it from a backup; `feedgate up` makes a new one only where none is",
        ) from error
    if mode & 0o077:
        raise CouldNot(
            f"the host key `{path}` may be read by others (mode {mode:04o})",
            hint=f"chmod 600 {path}",
        )
    _public_blob(content, path)
    return content


def _public_blob(content: bytes, path: Path) -> bytes:
    """The public key in SSH wire form, which OpenSSH's format holds in clear."""
    lines = content.decode("ascii", "replace").split()
    try:
        start, end = lines.index("KEY-----"), len(lines) - 1 - lines[::-1].index("-----END")
        data = base64.b64decode("".join(lines[start + 1 : end]), validate=True)
        if not data.startswith(_MAGIC):
            raise ValueError
        position = len(_MAGIC)
        for _ in range(3):  # cipher, key derivation and its options
            position += 4 + int.from_bytes(data[position : position + 4], "big")
        position += 4  # number of keys
        size = int.from_bytes(data[position : position + 4], "big")
        blob = data[position + 4 : position + 4 + size]
        if len(blob) != size or size == 0:
            raise ValueError
    except (ValueError, binascii.Error) as error:
        raise CouldNot(
            f"the host key `{path}` is damaged",
            hint="restore it from a backup, or remove it and tell suppliers the new fingerprint",
        ) from error
    return blob
