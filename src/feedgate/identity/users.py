"""Users and their SSH keys as the gateway serves them: the template's and the live ones."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from feedgate.errors import UsageError
from feedgate.identity.key_options import NO_OPTIONS, KeyOptions, parse_options, split_options
from feedgate.stack.resources import User

__all__ = [
    "USER_NAME_PATTERN",
    "GatewayUser",
    "Password",
    "SshPublicKey",
    "Users",
    "fingerprint_of",
    "parse_public_key",
]

# botocore transfer/2018-11-05: UserName; AWS also blocks `root`
USER_NAME_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_@.-]{2,99}")
_KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
)
_RSA_BITS_MIN: Final = 2048


@dataclass(frozen=True, slots=True)
class SshPublicKey:
    """``body`` is ``type base64``; ``fingerprint`` is ``SHA256:…``, as ``ssh-keygen -l`` has it.

    ``last_used_at`` is Unix time in seconds, exact to ``KEY_USE_RECORDED_S``.
    """

    type: str
    body: str
    fingerprint: str
    comment: str = ""
    options: KeyOptions = NO_OPTIONS
    last_used_at: float | None = field(default=None, compare=False)

    @property
    def line(self) -> str:
        """The key as a line of authorized_keys."""
        return f"{self.options.text} {self.body} {self.comment}".strip()

    @property
    def blob(self) -> bytes:
        """The key in SSH wire form, for a byte comparison."""
        return base64.b64decode(self.body.split()[1])


@dataclass(frozen=True, slots=True)
class Password:
    """A user's password as it is kept: a hash. With ``require_key`` it comes after an SSH key."""

    hash: str = field(repr=False)
    require_key: bool = False


@dataclass(frozen=True, slots=True)
class GatewayUser:
    """A user as served now. ``origin`` says where it is defined; keys are the effective ones."""

    user: User
    enabled: bool
    origin: Literal["template", "live"]
    ssh_public_keys: tuple[SshPublicKey, ...]
    password: Password | None = None

    @property
    def authentication(self) -> str:
        """By AWS's names (API IdentityProviderDetails, SftpAuthenticationMethods)."""
        if self.password is None:
            return "PUBLIC_KEY"
        return "PUBLIC_KEY_AND_PASSWORD" if self.password.require_key else "PUBLIC_KEY_OR_PASSWORD"

    @property
    def user_name(self) -> str:
        """The name that logs in."""
        return self.user.user_name


class Users(Protocol):
    """Read side for the doors. Form: ``identity.store``."""

    def get(self, user_name: str) -> GatewayUser | None:
        """The user as served now, disabled ones included, or None."""
        ...

    def list(self) -> Sequence[GatewayUser]:
        """All users by name, disabled ones included."""
        ...


def fingerprint_of(text: str) -> str | None:
    """The fingerprint of a public key line, of one that is refused too; None if it has no key."""
    fields = split_options(text, _KEY_TYPES)[1].split(None, 2)
    try:
        return _fingerprint(base64.b64decode(fields[1], validate=True))
    except (IndexError, ValueError):
        return None


def parse_public_key(text: str) -> SshPublicKey:
    """Read the one line of OpenSSH public-key text, with its options where it has some.

    Raises:
        UsageError: it is a private key, or no key of a type that AWS Transfer takes
            (API ImportSshPublicKey: rsa, ed25519, ecdsa nistp256/384/521; at most 2,048 chars),
            an RSA key below 2,048 bits (User Guide, key-management: 2048 or 4096), several, or
            one with an option that is not honoured.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) > 1 and "PRIVATE KEY" not in text:
        raise UsageError(
            f"{len(lines)} lines where one public key was expected",
            hint="give each key a file of its own",
        )
    line = lines[0].strip() if lines else ""
    if "PRIVATE KEY" in line:
        raise UsageError(
            "this is a private key, which must stay with its owner",
            hint="give the file that ends in .pub",
        )
    options, line = split_options(line, _KEY_TYPES)
    fields = line.split(None, 2)
    if len(fields) < 2 or fields[0] not in _KEY_TYPES or len(line) > 4096:
        raise UsageError(
            f"not an OpenSSH public key of type {', '.join(_KEY_TYPES)}",
            hint="`ssh-keygen -t ed25519 -f mysftpkey` makes one",
        )
    try:
        blob = base64.b64decode(fields[1], validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError("the public key's base64 is damaged") from error
    size = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + size] != fields[0].encode():
        raise UsageError(f"the key's body is not of type `{fields[0]}`")
    if fields[0] == "ssh-rsa" and (bits := _rsa_bits(blob)) < _RSA_BITS_MIN:
        raise UsageError(
            f"an RSA key of {bits} bits, which is too short: at least {_RSA_BITS_MIN}",
            hint="`ssh-keygen -t ed25519 -f mysftpkey` makes a better one",
        )
    return SshPublicKey(
        type=fields[0],
        body=f"{fields[0]} {fields[1]}",
        fingerprint=_fingerprint(blob),
        comment=fields[2] if len(fields) > 2 else "",
        options=parse_options(options) if options else NO_OPTIONS,
    )


def _fingerprint(blob: bytes) -> str:
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"SHA256:{digest}"


def _rsa_bits(blob: bytes) -> int:
    """Bits of the modulus: type, exponent, modulus, each after its length (RFC 4253 6.6)."""
    rest = blob
    field = b""
    for _ in range(3):
        size = int.from_bytes(rest[:4], "big")
        field, rest = rest[4 : 4 + size], rest[4 + size :]
    return int.from_bytes(field, "big").bit_length()
