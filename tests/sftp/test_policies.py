"""Security policies: AWS's names in AWS's order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from asyncssh.encryption import get_encryption_algs
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs

from feedgate.errors import Unsupported
from feedgate.sftp.policies import SECURITY_POLICIES, algorithm_findings, security_policy
from feedgate.stack.resources import Server

OFFERED = {
    "ciphers": [name.decode() for name in get_encryption_algs()],
    "kexs": [name.decode() for name in get_kex_algs()],
    "macs": [name.decode() for name in get_mac_algs()],
}


def test_2025_03_as_documented() -> None:
    """The current policy, spelled out from AWS's documents."""
    policy = security_policy("TransferSecurityPolicy-2025-03")
    assert policy.kexs == (
        "mlkem768x25519-sha256",
        "mlkem768nistp256-sha256",
        "mlkem1024nistp384-sha384",
        "ecdh-sha2-nistp256",
        "ecdh-sha2-nistp384",
        "ecdh-sha2-nistp521",
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
        "diffie-hellman-group16-sha512",
        "diffie-hellman-group18-sha512",
        "diffie-hellman-group-exchange-sha256",
    )
    assert policy.ciphers == (
        "aes256-gcm@openssh.com",
        "aes128-gcm@openssh.com",
        "aes128-ctr",
        "aes256-ctr",
        "aes192-ctr",
    )
    assert policy.macs == ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
    assert "ssh-rsa" not in policy.host_key_algorithms


@pytest.mark.parametrize("name", SECURITY_POLICIES)
def test_every_policy_can_be_served(name: str) -> None:
    """Nothing falls out but umac, which needs a system library."""
    kept, lost = security_policy(name).cut(**OFFERED)
    assert [algorithm for algorithm in lost if not algorithm.startswith("umac-")] == []
    assert kept.ciphers
    assert kept.kexs
    assert kept.macs


def test_missing_optional_algorithms_are_no_loss() -> None:
    """sntrup761 is offered where asyncssh finds liboqs, and not missed elsewhere."""
    policy = security_policy("Feedgate-2026-11")
    kexs = [name for name in OFFERED["kexs"] if not name.startswith("sntrup")]
    kept, lost = policy.cut(ciphers=OFFERED["ciphers"], kexs=kexs, macs=OFFERED["macs"])
    assert lost == ()
    assert kept.kexs[:2] == ("mlkem768x25519-sha256", "curve25519-sha256")
    kept, _lost = policy.cut(
        ciphers=OFFERED["ciphers"], kexs=[*kexs, "sntrup761x25519-sha512"], macs=OFFERED["macs"]
    )
    assert kept.kexs[1] == "sntrup761x25519-sha512"


def test_check_says_what_cannot_be_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """One remark that names the algorithms and, for umac, the library that has them."""
    server = Server("Server", "s-0", "arn:s", security_policy_name="TransferSecurityPolicy-2018-11")
    without = [name for name in get_mac_algs() if not name.startswith(b"umac-")]
    monkeypatch.setattr("asyncssh.mac.get_mac_algs", lambda: without)
    (finding,) = algorithm_findings(server)
    assert finding.severity == "ignored"
    assert "umac-64-etm@openssh.com, umac-128-etm@openssh.com, umac-64" in finding.message
    assert "nettle" in str(finding.hint)
    assert algorithm_findings(replace(server, security_policy_name="Feedgate-2026-11")) == []


def test_what_cannot_be_served_is_named() -> None:
    """Without umac the old policy keeps its order and says what is missing."""
    macs = [name for name in OFFERED["macs"] if not name.startswith("umac-")]
    kept, lost = security_policy("TransferSecurityPolicy-2018-11").cut(
        ciphers=OFFERED["ciphers"], kexs=OFFERED["kexs"], macs=macs
    )
    assert lost == (
        "umac-64-etm@openssh.com",
        "umac-128-etm@openssh.com",
        "umac-64@openssh.com",
        "umac-128@openssh.com",
    )
    assert kept.macs[0] == "hmac-sha2-256-etm@openssh.com"


@pytest.mark.parametrize(
    "name", ["2018-11", "2020-06", "FIPS-2020-06", "FIPS-2023-05", "FIPS-2024-01"]
)
def test_sha1_only_where_documented(name: str) -> None:
    """``ssh-rsa`` is in the five old policies and in no other."""
    with_sha1 = {
        policy.name
        for policy in SECURITY_POLICIES.values()
        if "ssh-rsa" in policy.host_key_algorithms
    }
    assert f"TransferSecurityPolicy-{name}" in with_sha1
    assert len(with_sha1) == 5


def test_an_unknown_policy_is_refused_by_name() -> None:
    """The hint lists the known ones."""
    with pytest.raises(Unsupported) as raised:
        security_policy("TransferSecurityPolicy-2031-01")
    assert "`TransferSecurityPolicy-2031-01`" in str(raised.value)
    assert "TransferSecurityPolicy-2025-03" in str(raised.value.hint)
