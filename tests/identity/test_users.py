"""Reading SSH public keys."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from feedgate.errors import UsageError
from feedgate.identity.users import fingerprint_of, parse_public_key


def rsa_line(bits: int) -> str:
    """The public line of a new RSA key."""
    key = generate_private_key(65537, bits).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def ed25519_line() -> str:
    """The public line of a new Ed25519 key."""
    key = Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def test_short_rsa_keys_are_refused_by_their_length() -> None:
    """1,024 bits are named and refused, 2,048 are taken; the fingerprint is told of both."""
    with pytest.raises(UsageError, match="RSA key of 1024 bits"):
        parse_public_key(weak := rsa_line(1024))
    assert (fingerprint_of(weak) or "").startswith("SHA256:")
    strong = rsa_line(2048)
    assert parse_public_key(strong).fingerprint == fingerprint_of(strong)


def test_a_file_of_two_keys_is_refused() -> None:
    """The second key would be lost in silence."""
    one, two = ed25519_line(), ed25519_line()
    with pytest.raises(UsageError, match="2 lines where one public key was expected"):
        parse_public_key(f"{one} acme\n{two} acme\n")
    assert parse_public_key(f"# acme's key\n\n{one} acme\n").comment == "acme"


@pytest.mark.parametrize("text", ["", "ssh-ed25519", "ssh-ed25519 !!!", "\n"])
def test_what_is_no_key_has_no_fingerprint(text: str) -> None:
    """Neither a key nor a fingerprint comes out of other text."""
    assert fingerprint_of(text) is None
    with pytest.raises(UsageError):
        parse_public_key(text)
