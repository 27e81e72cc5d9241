"""Host keys: made once, 0600, kept."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import asyncssh
import pytest

from feedgate.errors import CouldNot
from feedgate.sftp.hostkeys import ensure_host_keys, host_key_fingerprints, load_host_keys


def test_made_once(tmp_path: Path) -> None:
    """The second start finds what the first made; nobody else may read it."""
    folder = tmp_path / "hostkeys"
    ensure_host_keys(folder)
    keys = load_host_keys(folder)
    ensure_host_keys(folder)
    assert load_host_keys(folder) == keys
    assert sorted(path.name for path in folder.iterdir()) == [
        "ssh_host_ed25519_key",
        "ssh_host_rsa_key",
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    types = [asyncssh.import_private_key(key).get_algorithm() for key in keys]
    assert types == ["ssh-ed25519", "ssh-rsa"]


def test_fingerprints_are_openssh_s(ssh_keys: Path) -> None:
    """``ssh-keygen -l`` prints the same."""
    printed = [
        subprocess.run(
            ["ssh-keygen", "-lf", ssh_keys / name], check=True, capture_output=True, text=True
        ).stdout.split()
        for name in ("ssh_host_ed25519_key", "ssh_host_rsa_key")
    ]
    assert [words[1] for words in printed] == host_key_fingerprints(ssh_keys)
    assert [words[0] for words in printed] == ["256", "3072"]


def test_a_bad_key_is_not_replaced(tmp_path: Path, ssh_keys: Path) -> None:
    """Damaged, missing or readable by others: said, and left alone."""
    for name in ("ssh_host_ed25519_key", "ssh_host_rsa_key"):
        (tmp_path / name).write_bytes((ssh_keys / name).read_bytes())
        (tmp_path / name).chmod(0o600)
    path = tmp_path / "ssh_host_rsa_key"
    good = path.read_bytes()
    for damaged in (b"", b"hello", good[:200], good.replace(b"b3Blbn", b"AAAAAA")):
        path.write_bytes(damaged)
        ensure_host_keys(tmp_path)
        with pytest.raises(CouldNot, match="damaged"):
            load_host_keys(tmp_path)
        assert path.read_bytes() == damaged
    path.write_bytes(good)
    path.chmod(0o640)
    with pytest.raises(CouldNot, match="read by others"):
        load_host_keys(tmp_path)
    path.unlink()
    with pytest.raises(CouldNot, match="cannot read"):
        host_key_fingerprints(tmp_path)


def test_the_supervisor_need_not_import_asyncssh() -> None:
    """Making keys and printing fingerprints works without the SSH library."""
    code = "import sys, feedgate.sftp.hostkeys; sys.exit('asyncssh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
