"""What a stranger sees before he says who he is: KEXINIT, ssh-audit's opinion, early messages.

The table here is written from AWS's page (User Guide, security-policies), not from the code.
"""

from __future__ import annotations

import ctypes.util
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko
import pytest

from feedgate.sftp.policies import SECURITY_POLICIES

PQ = "mlkem768x25519-sha256 mlkem768nistp256-sha256 mlkem1024nistp384-sha384"
NIST = "ecdh-sha2-nistp256 ecdh-sha2-nistp384 ecdh-sha2-nistp521"
CURVE = "curve25519-sha256 curve25519-sha256@libssh.org"
GEX = "diffie-hellman-group-exchange-sha256"
G14 = "diffie-hellman-group14-sha256"
G16 = "diffie-hellman-group16-sha512"
G18 = "diffie-hellman-group18-sha512"
GCM128, GCM256 = "aes128-gcm@openssh.com", "aes256-gcm@openssh.com"
CHACHA = "chacha20-poly1305@openssh.com"
ETM256, ETM512 = "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"
CTR_128_192_256 = "aes128-ctr aes192-ctr aes256-ctr"
MACS_2020 = (
    f"umac-128-etm@openssh.com {ETM256} {ETM512} umac-128@openssh.com hmac-sha2-256 hmac-sha2-512"
)
MACS_2018 = (
    f"umac-64-etm@openssh.com umac-128-etm@openssh.com {ETM256} {ETM512} "
    "hmac-sha1-etm@openssh.com umac-64@openssh.com umac-128@openssh.com "
    "hmac-sha2-256 hmac-sha2-512 hmac-sha1"
)
KEX_2020 = f"{NIST} {GEX} {G16} {G18} {G14}"
KEX_2018 = f"{CURVE} {NIST} {GEX} {G16} {G18} {G14} diffie-hellman-group14-sha1"

# name after `TransferSecurityPolicy-` → ciphers, key exchange, MACs
AWS = {
    "2025-03": (
        f"{GCM256} {GCM128} aes128-ctr aes256-ctr aes192-ctr",
        f"{PQ} {NIST} {CURVE} {G16} {G18} {GEX}",
        f"{ETM256} {ETM512}",
    ),
    "FIPS-2025-03": (
        f"{GCM256} {GCM128} aes256-ctr aes192-ctr aes128-ctr",
        f"{PQ} {NIST} {GEX} {G16} {G18}",
        f"{ETM512} {ETM256}",
    ),
    "SshAuditCompliant-2025-02": (
        f"{GCM128} {GCM256} aes128-ctr aes256-ctr aes192-ctr",
        f"{CURVE} {G18} {G16} {GEX}",
        f"{ETM256} {ETM512}",
    ),
    "2024-01": (
        f"{GCM128} {GCM256} aes128-ctr aes256-ctr aes192-ctr",
        f"{NIST} {CURVE} {G18} {G16} {GEX}",
        f"{ETM256} {ETM512}",
    ),
    "FIPS-2024-01": (
        f"{GCM128} {GCM256} aes128-ctr aes256-ctr aes192-ctr",
        f"{NIST} {G18} {G16} {GEX}",
        f"{ETM256} {ETM512}",
    ),
    "2023-05": (
        f"{GCM256} {GCM128} aes256-ctr aes192-ctr",
        f"{CURVE} {G16} {G18} {GEX}",
        f"{ETM512} {ETM256}",
    ),
    "FIPS-2023-05": (
        f"{GCM256} {GCM128} aes256-ctr aes192-ctr",
        f"{G16} {G18} {GEX}",
        f"{ETM256} {ETM512}",
    ),
    "2022-03": (
        f"{GCM256} {GCM128} aes256-ctr aes192-ctr",
        f"{CURVE} {G16} {G18} {GEX}",
        f"{ETM512} {ETM256} hmac-sha2-512 hmac-sha2-256",
    ),
    "2020-06": (f"{CHACHA} {CTR_128_192_256} {GCM128} {GCM256}", KEX_2020, MACS_2020),
    "Restricted-2020-06": (f"{CTR_128_192_256} {GCM128} {GCM256}", KEX_2020, MACS_2020),
    "FIPS-2020-06": (
        f"{CTR_128_192_256} {GCM128} {GCM256}",
        KEX_2020,
        f"{ETM256} {ETM512} hmac-sha2-256 hmac-sha2-512",
    ),
    "2018-11": (f"{CHACHA} {CTR_128_192_256} {GCM128} {GCM256}", KEX_2018, MACS_2018),
    "Restricted-2018-11": (f"{CTR_128_192_256} {GCM128} {GCM256}", KEX_2018, MACS_2018),
}
AWS["AS2Restricted-2025-07"] = AWS["2025-03"]
AWS["FIPS-2024-05"] = AWS["FIPS-2024-01"]
WITH_SHA1 = {"2018-11", "2020-06", "FIPS-2020-06", "FIPS-2023-05", "FIPS-2024-01"}
OWN = {
    "Feedgate-2026-11": (
        f"{GCM256} {GCM128} aes256-ctr aes192-ctr aes128-ctr",
        f"mlkem768x25519-sha256 {CURVE} {G16} {G18}",
        f"{ETM256} {ETM512}",
    ),
    "Feedgate-PQ-Strict-2026-11": (
        f"{GCM256} {GCM128}",
        "mlkem768x25519-sha256",
        f"{ETM256} {ETM512}",
    ),
}
OPTIONAL = {"sntrup761x25519-sha512", "sntrup761x25519-sha512@openssh.com"}  # needs liboqs


def kexinit(port: int) -> list[str]:
    """The ten name lists of the server's KEXINIT (RFC 4253 §7.1), as they came over the wire."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b"SSH-2.0-test\r\n")
        with sock.makefile("rb") as stream:
            assert stream.readline().startswith(b"SSH-2.0-")
            packet = stream.read(int.from_bytes(stream.read(4), "big"))
    assert packet[1] == 20
    position, lists = 1 + 1 + 16, []
    for _ in range(10):
        size = int.from_bytes(packet[position : position + 4], "big")
        lists.append(packet[position + 4 : position + 4 + size].decode("ascii"))
        position += 4 + size
    assert packet[position : position + 5] == bytes(5)  # no guessed packet follows; reserved
    return lists


def test_no_policy_of_aws_is_forgotten() -> None:
    """The table and the code know the same names."""
    names = {f"TransferSecurityPolicy-{name}" for name in AWS} | set(OWN)
    assert names == set(SECURITY_POLICIES)


@pytest.mark.parametrize("name", AWS)
def test_aws_policies_byte_for_byte(make_door: Callable[..., Any], name: str) -> None:
    """Each name list is AWS's, in order; the key exchange list ends with two markers.

    ``ext-info-s`` and the strict key exchange that defeats Terrapin are asyncssh's, no algorithms,
    and stay. umac is there where the library nettle is.
    """
    door = make_door(security_policy_name=f"TransferSecurityPolicy-{name}")
    ciphers, kexs, macs = (words.split() for words in AWS[name])
    if ctypes.util.find_library("nettle") is None:
        macs = [mac for mac in macs if not mac.startswith("umac-")]
    kexs += ["ext-info-s", "kex-strict-s-v00@openssh.com"]
    host_keys = ["rsa-sha2-256", "rsa-sha2-512", "ssh-ed25519"]
    if name in WITH_SHA1:
        host_keys.append("ssh-rsa")
    assert kexinit(door.port) == [
        *(",".join(kexs), ",".join(host_keys)),
        *[",".join(ciphers)] * 2,
        *[",".join(macs)] * 2,
        *["none"] * 2,
        *[""] * 2,
    ]


@pytest.mark.parametrize("name", OWN)
def test_our_own_policies(make_door: Callable[..., Any], name: str) -> None:
    """Post-quantum first; no NIST curve, no group exchange, no CBC, no SHA-1, no chacha20."""
    door = make_door(security_policy_name=name)
    ciphers, kexs, macs = (words.replace(" ", ",") for words in OWN[name])
    lists = kexinit(door.port)
    offered = [kex for kex in lists[0].split(",") if kex not in OPTIONAL]
    assert ",".join(offered) == f"{kexs},ext-info-s,kex-strict-s-v00@openssh.com"
    assert lists[1] == "ssh-ed25519,rsa-sha2-512,rsa-sha2-256"
    assert lists[2:6] == [ciphers, ciphers, macs, macs]
    for bad in ("nistp", "group-exchange", "cbc", "sha1", "ssh-rsa", "chacha20", "group14"):
        assert bad not in ",".join(lists)


# -- ssh-audit ------------------------------------------------------------------------------------


def audit(port: int) -> tuple[int, set[str], set[str]]:
    """ssh-audit's exit code, and the algorithms that it fails and warns of."""
    pytest.importorskip("ssh_audit", reason="needs the development packages")
    program = Path(sys.executable).with_name("ssh-audit")
    done = subprocess.run(
        [program, "--skip-rate-test", "-j", "-p", str(port), "127.0.0.1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    report = json.loads(done.stdout)
    found: dict[str, set[str]] = {"fail": set(), "warn": set()}
    for kind in ("kex", "key", "enc", "mac"):
        for item in report[kind]:
            for level, names in found.items():
                if item["notes"].get(level):
                    names.add(item["algorithm"])
    assert report["kex"], done.stdout
    return done.returncode, found["fail"], found["warn"]


def test_ssh_audit_fails_nothing_on_the_default(make_door: Callable[..., Any]) -> None:
    """It warns only of key exchange that is not post-quantum, which older clients need."""
    door = make_door(security_policy_name="Feedgate-2026-11")
    code, failed, warned = audit(door.port)
    assert failed == set()
    assert warned == {*CURVE.split(), G16, G18}
    assert code == 2


def test_ssh_audit_is_content_with_the_strict_policy(make_door: Callable[..., Any]) -> None:
    """Exit code 0: neither failure nor warning."""
    door = make_door(security_policy_name="Feedgate-PQ-Strict-2026-11")
    assert audit(door.port) == (0, set(), set())


def test_ssh_audit_on_the_policy_of_the_example(make_door: Callable[..., Any]) -> None:
    """Of AWS's current policy it fails NIST's curves and nothing of our own doing."""
    door = make_door(security_policy_name="TransferSecurityPolicy-2025-03")
    _code, failed, _warned = audit(door.port)
    assert failed == {*NIST.split(), *PQ.split()[1:]}


# -- messages that come too early -----------------------------------------------------------------


def message(kind: int, body: bytes = b"") -> bytes:
    """An unencrypted packet."""
    payload = bytes([kind]) + body
    padding = 8 - (5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return (
        (1 + len(payload) + padding).to_bytes(4, "big")
        + bytes([padding])
        + payload
        + bytes(padding)
    )


def client_kexinit(*markers: str) -> bytes:
    """A client's KEXINIT with curve25519 and what else is named."""
    lists = [
        ",".join(["curve25519-sha256", *markers]),
        "ssh-ed25519",
        *[GCM128] * 2,
        *[ETM256] * 2,
        *["none"] * 2,
        *[""] * 2,
    ]
    names = b"".join(len(text).to_bytes(4, "big") + text.encode() for text in lists)
    return message(20, bytes(16) + names + bytes(5))


TEXT = (1).to_bytes(4, "big") + b"x"
EARLY = {
    "ignore": message(2, TEXT),
    "unimplemented": message(3, bytes(4)),
    "debug": message(4, bytes(1) + TEXT + bytes(4)),
    "ext-info": message(7, bytes(4)),
    "kexinit again": client_kexinit("kex-strict-c-v00@openssh.com"),
    "service request": message(5, (12).to_bytes(4, "big") + b"ssh-userauth"),
    "userauth success": message(52),
    "channel open": message(90, (7).to_bytes(4, "big") + b"session" + bytes(12)),
    "unknown": message(192),
}


@pytest.mark.parametrize(
    ("name", "first"),
    # a KEXINIT before the KEXINIT is the regular first message
    [
        (name, first)
        for name in EARLY
        for first in (True, False)
        if name[:7] != "kexinit" or not first
    ],
)
def test_nothing_may_slip_in_before_new_keys(
    make_door: Callable[..., Any], name: str, first: bool
) -> None:
    """Terrapin and its kin: under strict key exchange a foreign message ends the connection."""
    door = make_door()
    ours = client_kexinit("kex-strict-c-v00@openssh.com")
    share = message(30, (32).to_bytes(4, "big") + bytes([9]) + bytes(31))
    sent = EARLY[name] + ours if first else ours + EARLY[name]
    with socket.create_connection(("127.0.0.1", door.port), timeout=10) as sock:
        sock.sendall(b"SSH-2.0-test\r\n" + sent + share)
        answer = b""
        try:
            while more := sock.recv(65536):
                answer += more
        except ConnectionResetError:
            pass
    packets = [body[1] for body in split(answer.split(b"\r\n", 1)[1])]
    assert 21 not in packets  # never NEWKEYS: nothing was agreed
    assert packets[0] == 20
    assert packets[-1:] == [1] or packets == [20]  # said good-bye, or cut
    assert door.events("CONNECTED") == []


def split(stream: bytes) -> list[bytes]:
    """Unencrypted packets without their length."""
    found, position = [], 0
    while position + 4 <= len(stream):
        size = int.from_bytes(stream[position : position + 4], "big")
        found.append(stream[position + 4 : position + 4 + size])
        position += 4 + size
    return found


@pytest.mark.parametrize("kind", [52, 60, 80, 81, 90, 91, 94, 98, 99, 100, 192, 255])
def test_nothing_of_the_connection_before_authentication(door: Any, kind: int) -> None:
    """CVE-2018-10933 and its kin: such a message opens no channel and gets no answer of 80 up."""
    transport = paramiko.Transport(("127.0.0.1", door.port))
    seen: list[int] = []
    read_message = transport.packetizer.read_message

    def read() -> tuple[int, Any]:
        received, packet = read_message()
        seen.append(received)
        return received, packet

    transport.packetizer.read_message = read
    try:
        transport.start_client(timeout=10)
        packet = paramiko.Message()
        packet.add_byte(bytes([kind]))
        packet.add_string(b"session")
        packet.add_bytes(b"\x01" + bytes(12))
        transport._send_message(packet)
        key = paramiko.Ed25519Key.from_private_key_file(str(door.key))
        with pytest.raises((paramiko.SSHException, EOFError)):
            transport.auth_publickey(door.user, key)
        assert not transport.is_authenticated()
    finally:
        transport.close()
    assert all(received < 80 for received in seen)
    assert door.events("CONNECTED") == []
