"""Private host keys as files: made, read in the forms that are about, written in OpenSSH's."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from feedgate.limits import HOST_KEY_RSA_BITS, HOST_KEY_RSA_BITS_MIN

__all__ = ["KeyFileError", "PublicKey", "identify", "make_private_key", "normalise"]

_MAGIC: Final = b"openssh-key-v1\0"
_CURVES: Final[dict[str, ec.EllipticCurve]] = {
    "ecdsa-sha2-nistp256": ec.SECP256R1(),
    "ecdsa-sha2-nistp384": ec.SECP384R1(),
    "ecdsa-sha2-nistp521": ec.SECP521R1(),
}
_BITS: Final = {"ssh-ed25519": 256, **{name: curve.key_size for name, curve in _CURVES.items()}}

_PrivateKey = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class KeyFileError(ValueError):
    """The file holds no key that serves here; the text never quotes it."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half. ``host_key_id`` has AWS's form, and is the same for the same key."""

    host_key_id: str
    type: str
    bits: int
    fingerprint: str
    line: str


def make_private_key(key_type: str) -> bytes:
    """A new private key of an SSH key type, in OpenSSH's PEM form."""
    if key_type == "ssh-ed25519":
        return _write(ed25519.Ed25519PrivateKey.generate())
    if key_type == "ssh-rsa":
        return _write(rsa.generate_private_key(public_exponent=65537, key_size=HOST_KEY_RSA_BITS))
    return _write(ec.generate_private_key(_CURVES[key_type]))


def _write(key: _PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def normalise(content: bytes) -> bytes:
    """A private key without passphrase, in OpenSSH's form, PKCS#1, SEC 1 or PKCS#8, as OpenSSH's.

    Raises:
        KeyFileError: it is none of these, of a type or a size that does not serve.
    """
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in content else load_pem_private_key
    try:
        key = load(content, password=None)
    except TypeError:
        raise KeyFileError("it has a passphrase, which a gateway could not type") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError("it is no private key, or a damaged one") from None
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < HOST_KEY_RSA_BITS_MIN:
            raise KeyFileError(f"RSA of {key.key_size} bits is too short")
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        if key.curve.name not in {curve.name for curve in _CURVES.values()}:
            raise KeyFileError(f"the curve {key.curve.name} is not one of SSH's")
    elif not isinstance(key, ed25519.Ed25519PrivateKey):
        raise KeyFileError("only Ed25519, RSA and ECDSA keys serve")
    return _write(key)


def identify(content: bytes) -> PublicKey:
    """The public half of a private key, which OpenSSH's format holds in clear.

    Raises:
        KeyFileError: it is not in OpenSSH's form, or cut short.
    """
    blob = _public_blob(content)
    name, rest = _string(blob)
    key_type = name.decode("ascii", "replace")
    if key_type == "ssh-rsa":
        _exponent, rest = _string(rest)
        bits = int.from_bytes(_string(rest)[0], "big").bit_length()
    elif key_type in _BITS:
        bits = _BITS[key_type]
    else:
        raise KeyFileError("only Ed25519, RSA and ECDSA keys serve")
    digest = hashlib.sha256(blob).digest()
    return PublicKey(
        host_key_id=f"hostkey-{digest.hex()[:17]}",
        type=key_type,
        bits=bits,
        fingerprint="SHA256:" + base64.b64encode(digest).decode().rstrip("="),
        line=f"{key_type} {base64.b64encode(blob).decode()}",
    )


def _public_blob(content: bytes) -> bytes:
    lines = content.decode("ascii", "replace").split()
    try:
        start, end = lines.index("KEY-----"), len(lines) - 1 - lines[::-1].index("-----END")
        data = base64.b64decode("".join(lines[start + 1 : end]), validate=True)
    except (ValueError, binascii.Error):
        raise KeyFileError("it is not a private key in OpenSSH's form") from None
    if not data.startswith(_MAGIC):
        raise KeyFileError("it is not a private key in OpenSSH's form")
    rest = data[len(_MAGIC) :]
    for _ in range(3):  # cipher, key derivation and its options
        _skipped, rest = _string(rest)
    blob, rest = _string(rest[4:])  # after the number of keys
    if not blob or not _string(rest)[0]:
        raise KeyFileError("it is cut short")
    return blob


def _string(data: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 or len(data) < 4 + size:
        raise KeyFileError("it is cut short")
    return data[4 : 4 + size], data[4 + size :]
