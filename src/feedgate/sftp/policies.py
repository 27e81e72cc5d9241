"""SecurityPolicyName → SSH algorithms: AWS's (User Guide, security-policies), and two of our own.

Every name AWS lists is here except the two deprecated post-quantum experiments. Our own exist only
here: ``Feedgate-2026-11`` applies where a template names none, ``Feedgate-PQ-Strict-2026-11`` takes
nobody who cannot do post-quantum key exchange. Their choices: hybrid post-quantum first, no NIST
curve and no group exchange (no client picks our groups), AEAD first and else encrypt-then-MAC, no
chacha20-poly1305 (Terrapin's easier half), no SHA-1.

``served`` drops what this build of asyncssh cannot serve, such as umac without libnettle, and says
so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from feedgate.errors import Finding, Unsupported
from feedgate.stack.resources import Server

__all__ = ["SECURITY_POLICIES", "SecurityPolicy", "algorithm_findings", "security_policy", "served"]

_ALGORITHMS: Final = {
    "g128": "aes128-gcm@openssh.com",
    "g256": "aes256-gcm@openssh.com",
    "c128": "aes128-ctr",
    "c192": "aes192-ctr",
    "c256": "aes256-ctr",
    "cc20": "chacha20-poly1305@openssh.com",
    "p256": "ecdh-sha2-nistp256",
    "p384": "ecdh-sha2-nistp384",
    "p521": "ecdh-sha2-nistp521",
    "x": "curve25519-sha256",
    "xl": "curve25519-sha256@libssh.org",
    "gex": "diffie-hellman-group-exchange-sha256",
    "g14": "diffie-hellman-group14-sha256",
    "g14s1": "diffie-hellman-group14-sha1",
    "g16": "diffie-hellman-group16-sha512",
    "g18": "diffie-hellman-group18-sha512",
    "mx": "mlkem768x25519-sha256",
    "m256": "mlkem768nistp256-sha256",
    "m384": "mlkem1024nistp384-sha384",
    "sx": "sntrup761x25519-sha512",
    "sxo": "sntrup761x25519-sha512@openssh.com",
    "e256": "hmac-sha2-256-etm@openssh.com",
    "e512": "hmac-sha2-512-etm@openssh.com",
    "e1": "hmac-sha1-etm@openssh.com",
    "h256": "hmac-sha2-256",
    "h512": "hmac-sha2-512",
    "h1": "hmac-sha1",
    "u64": "umac-64@openssh.com",
    "u128": "umac-128@openssh.com",
    "u64e": "umac-64-etm@openssh.com",
    "u128e": "umac-128-etm@openssh.com",
}

# AWS's order; which of them are offered depends on the host keys there are
_AWS_KEYS: Final = (
    "rsa-sha2-256",
    "rsa-sha2-512",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-ed25519",
)
_OUR_HOST_KEYS: Final = ("ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256")
# a supplier's ECDSA key harms nobody but him: refusing it would only keep him out
_OUR_USER_KEYS: Final = (*_OUR_HOST_KEYS, *_AWS_KEYS[2:5])


@dataclass(frozen=True, slots=True)
class SecurityPolicy:
    """SSH algorithm names, in the order in which KEXINIT lists them.

    On AWS one list of key algorithms holds for host keys and for users' keys. ``optional`` are
    offered where asyncssh can; that they are missing is no loss worth telling.
    """

    name: str
    ciphers: tuple[str, ...]
    kexs: tuple[str, ...]
    macs: tuple[str, ...]
    host_key_algorithms: tuple[str, ...]
    user_key_algorithms: tuple[str, ...]
    optional: frozenset[str] = frozenset()

    def cut(
        self, *, ciphers: Iterable[str], kexs: Iterable[str], macs: Iterable[str]
    ) -> tuple[SecurityPolicy, tuple[str, ...]]:
        """The policy without what is not among these, and the names that fell out."""
        offered = set(ciphers) | set(kexs) | set(macs)
        lost = [
            name
            for name in (*self.ciphers, *self.kexs, *self.macs)
            if name not in offered and name not in self.optional
        ]
        kept = replace(
            self,
            ciphers=tuple(name for name in self.ciphers if name in offered),
            kexs=tuple(name for name in self.kexs if name in offered),
            macs=tuple(name for name in self.macs if name in offered),
        )
        return kept, tuple(lost)


def _names(short: str) -> tuple[str, ...]:
    return tuple(_ALGORITHMS[word] for word in short.split())


def _policy(
    name: str, ciphers: str, kexs: str, macs: str, *, sha1_rsa: bool = False
) -> SecurityPolicy:
    keys = (*_AWS_KEYS, "ssh-rsa") if sha1_rsa else _AWS_KEYS
    full_name = f"TransferSecurityPolicy-{name}"
    return SecurityPolicy(full_name, _names(ciphers), _names(kexs), _names(macs), keys, keys)


def _own(name: str, ciphers: str, kexs: str) -> SecurityPolicy:
    return SecurityPolicy(
        f"Feedgate-{name}",
        _names(ciphers),
        _names(kexs),
        _names("e256 e512"),
        _OUR_HOST_KEYS,
        _OUR_USER_KEYS,
        optional=frozenset(_names("sx sxo")),
    )


_PQ: Final = "mx m256 m384 p256 p384 p521"
_OLD: Final = "cc20 c128 c192 c256 g128 g256"
_OLD_MACS: Final = "u64e u128e e256 e512 e1 u64 u128 h256 h512 h1"
_2018: Final = "x xl p256 p384 p521 gex g16 g18 g14 g14s1"
_2020: Final = "p256 p384 p521 gex g16 g18 g14"

# fmt: off
_TABLE: Final = (
    _own("2026-11", "g256 g128 c256 c192 c128", "mx sx sxo x xl g16 g18"),
    _own("PQ-Strict-2026-11", "g256 g128", "mx sx sxo"),
    _policy("2025-03", "g256 g128 c128 c256 c192", f"{_PQ} x xl g16 g18 gex", "e256 e512"),
    _policy("AS2Restricted-2025-07", "g256 g128 c128 c256 c192", f"{_PQ} x xl g16 g18 gex",
            "e256 e512"),
    _policy("FIPS-2025-03", "g256 g128 c256 c192 c128", f"{_PQ} gex g16 g18", "e512 e256"),
    _policy("SshAuditCompliant-2025-02", "g128 g256 c128 c256 c192", "x xl g18 g16 gex",
            "e256 e512"),
    _policy("2024-01", "g128 g256 c128 c256 c192", "p256 p384 p521 x xl g18 g16 gex", "e256 e512"),
    _policy("FIPS-2024-01", "g128 g256 c128 c256 c192", "p256 p384 p521 g18 g16 gex", "e256 e512",
            sha1_rsa=True),
    _policy("FIPS-2024-05", "g128 g256 c128 c256 c192", "p256 p384 p521 g18 g16 gex", "e256 e512"),
    _policy("2023-05", "g256 g128 c256 c192", "x xl g16 g18 gex", "e512 e256"),
    _policy("FIPS-2023-05", "g256 g128 c256 c192", "g16 g18 gex", "e256 e512", sha1_rsa=True),
    _policy("2022-03", "g256 g128 c256 c192", "x xl g16 g18 gex", "e512 e256 h512 h256"),
    _policy("2020-06", _OLD, _2020, "u128e e256 e512 u128 h256 h512", sha1_rsa=True),
    _policy("Restricted-2020-06", _OLD.removeprefix("cc20 "), _2020,
            "u128e e256 e512 u128 h256 h512"),
    _policy("FIPS-2020-06", "c128 c192 c256 g128 g256", _2020, "e256 e512 h256 h512",
            sha1_rsa=True),
    _policy("2018-11", _OLD, _2018, _OLD_MACS, sha1_rsa=True),
    _policy("Restricted-2018-11", _OLD.removeprefix("cc20 "), _2018, _OLD_MACS),
)
# fmt: on

SECURITY_POLICIES: Final = {policy.name: policy for policy in _TABLE}


def security_policy(name: str) -> SecurityPolicy:
    """The policy of that name.

    Raises:
        Unsupported: there is none.
    """
    try:
        return SECURITY_POLICIES[name]
    except KeyError:
        raise Unsupported(
            f"the security policy `{name}` is not known",
            hint=f"one of: {', '.join(SECURITY_POLICIES)}",
        ) from None


def served(name: str) -> tuple[SecurityPolicy, tuple[str, ...]]:
    """What of the policy of that name this installation serves, and what it cannot.

    Imports asyncssh, which takes a fifth of a second.

    Raises:
        Unsupported: there is no such policy.
    """
    from asyncssh.encryption import get_encryption_algs  # noqa: PLC0415 - names need no asyncssh
    from asyncssh.kex import get_kex_algs  # noqa: PLC0415
    from asyncssh.mac import get_mac_algs  # noqa: PLC0415

    return security_policy(name).cut(
        ciphers=(algorithm.decode() for algorithm in get_encryption_algs()),
        kexs=(algorithm.decode() for algorithm in get_kex_algs()),
        macs=(algorithm.decode() for algorithm in get_mac_algs()),
    )


def algorithm_findings(server: Server) -> list[Finding]:
    """What of a server's security policy this installation cannot serve, as one remark."""
    policy, lost = served(server.security_policy_name)
    if not lost:
        return []
    umac = all(name.startswith("umac-") for name in lost)
    return [
        Finding(
            "ignored",
            f"`{policy.name}` lists {', '.join(lost)}, which this installation cannot serve",
            server.source,
            server.logical_id,
            hint="umac needs the library nettle: apt-get install libnettle8" if umac else None,
            rule="check",
        )
    ]
