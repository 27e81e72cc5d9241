"""Host keys of a real gateway: imported, rotated while it runs, learned by OpenSSH's client."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration


def connect(gateway: Any, known_hosts: Path, *, strict: str = "yes") -> int:
    """OpenSSH's exit code; it learns host keys that are announced and proved."""
    command = [word for word in gateway.sftp_command() if "KnownHostsFile" not in word]
    command = [word for word in command if "StrictHostKeyChecking" not in word]
    words: list[str] = []
    for word in command:  # drop the -o that lost its value
        if words and words[-1] == "-o" and "=" not in word:
            words.pop()
        words.append(word)
    options = (
        f"UserKnownHostsFile={known_hosts}",
        f"StrictHostKeyChecking={strict}",
        "UpdateHostKeys=yes",
        "HashKnownHosts=no",
    )
    for option in options:
        words += ["-o", option]
    done = subprocess.run(
        [*words, "-b", "-", f"{gateway.user}@127.0.0.1"],
        input="pwd\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return done.returncode


def known(path: Path) -> set[str]:
    """The public keys in a known_hosts file."""
    return {" ".join(line.split()[1:3]) for line in path.read_text().splitlines()}


def keys_of(gateway: Any) -> list[dict[str, Any]]:
    """What `hostkey list` tells."""
    found: list[dict[str, Any]] = gateway.json("hostkey", "list")["host_keys"]
    return found


def scan(gateway: Any) -> set[str]:
    """The host keys that a stranger is shown, by ssh-keyscan."""
    done = subprocess.run(
        ["ssh-keyscan", "-p", str(gateway.port), "-t", "ed25519,rsa,ecdsa", "127.0.0.1"],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    return {" ".join(line.split()[1:3]) for line in done.stdout.splitlines()}


def test_rotation_while_the_gateway_runs(running: Any, tmp_path: Path) -> None:
    """A supplier who logs in during the overlap meets no warning, before, between and after."""
    known_hosts = tmp_path / "known_hosts"
    before = keys_of(running)
    assert [key["state"] for key in before] == ["ACTIVE", "ACTIVE"]
    prints = [key["fingerprint"] for key in before]
    assert prints == running.ready["host_key_fingerprints"]
    assert prints == running.json("status")["host_key_fingerprints"]
    assert connect(running, known_hosts, strict="accept-new") == 0  # takes the key that it sees
    assert connect(running, known_hosts) == 0  # and learns the others next time
    assert known(known_hosts) == {key["public_key"] for key in before}

    (new,) = running.json("hostkey", "rotate", "ed25519")["host_keys"]
    ready = tmp_path / "ready.json"
    running.wait_for(
        lambda: new["fingerprint"] in json.loads(ready.read_text())["host_key_fingerprints"]
    )

    def learned() -> bool:
        assert connect(running, known_hosts) == 0
        return new["public_key"] in known(known_hosts)

    running.wait_for(learned)
    old = keys_of(running)[0]
    assert old["fingerprint"] == prints[0]
    assert old["retires_at_ms"] - new["imported_at_ms"] == 30 * 86_400_000
    assert scan(running) == {key["public_key"] for key in before}

    refused = running.feedgate("hostkey", "remove", old["host_key_id"])
    assert refused.returncode != 0
    assert "--yes" in refused.stderr
    assert running.feedgate("hostkey", "remove", old["host_key_id"], "--yes").returncode == 0
    left = {new["public_key"], before[1]["public_key"]}
    # each worker takes it up by itself: three answers alike, of all of them
    running.wait_for(lambda: all(scan(running) == left for _ in range(3)))
    assert connect(running, known_hosts) == 0
    assert known(known_hosts) == left

    assert running.stop() == 0
    running.start()
    assert running.ready["host_key_fingerprints"] == [new["fingerprint"], prints[1]]
    assert "PRIVATE KEY" not in running.log()


def test_a_server_moves_here_with_its_keys(gateway: Any, tmp_path: Path) -> None:
    """Keys imported before the first `up` are all there are; a lost one ends `up` by name."""
    key = tmp_path / "ssh_host_ecdsa_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", key], check=True)
    done = gateway.feedgate("hostkey", "add", str(key), "--description", "from sftp.example.com")
    assert done.returncode == 0, done.stderr
    gateway.start()
    (listed,) = keys_of(gateway)
    public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    assert listed["public_key"] == public
    assert listed["description"] == "from sftp.example.com"
    assert scan(gateway) == {public}
    (gateway.data / "hostkeys" / "ssh_host_ecdsa_key").unlink()
    status = gateway.json("status")
    assert "cannot read the host key" in status["host_key_trouble"]
    assert gateway.sftp("pwd").returncode == 0  # the open door has it in memory
    assert gateway.stop() == 0
    done = gateway.feedgate("up", "--listen", "127.0.0.1:0")
    assert done.returncode == 4
    assert "cannot read the host key" in done.stderr
    assert "restore it from a backup" in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [("ssh-ed25519 AAAA comment\n", "no private key"), (None, "cannot read")],
)
def test_what_is_not_imported(
    gateway: Any, tmp_path: Path, content: str | None, message: str
) -> None:
    """A public key, a file that is not there."""
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    done = gateway.feedgate("hostkey", "add", str(file))
    assert done.returncode != 0
    assert message in done.stderr
