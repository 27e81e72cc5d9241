"""PuTTY's psftp and pscp."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract import MIB, ClientFailed, digest, exercise

pytestmark = pytest.mark.integration


class Psftp:
    """psftp with a batch of one command."""

    def __init__(self, gateway: Any, program: str, key: Path, folder: Path) -> None:
        fingerprint = gateway.ready["host_key_fingerprints"][0]
        self.options = ["-batch", "-P", str(gateway.port), "-i", str(key), "-hostkey", fingerprint]
        self._words = [program, *self.options, "-l", gateway.user]
        self._folder = folder

    def run(self, *commands: str) -> str:
        batch = self._folder / "batch"
        batch.write_text("\n".join(commands) + "\n", encoding="utf-8")
        done = subprocess.run(
            [*self._words, "-b", str(batch), "127.0.0.1"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "HOME": str(self._folder), "LC_ALL": "C.UTF-8"},
        )
        if done.returncode:
            raise ClientFailed(f"{commands}: {done.stdout}{done.stderr}")
        return done.stdout

    def put(self, local: Path, remote: str) -> None:
        self.run(f"put {_quoted(local)} {_quoted(remote)}")

    def get(self, remote: str, local: Path) -> None:
        self.run(f"get {_quoted(remote)} {_quoted(local)}")

    def ls(self, directory: str) -> list[str]:
        lines = self.run(f"ls {_quoted(directory)}").splitlines()
        long_names = [line for line in lines if line.startswith(("-", "d"))]
        return [line.split(maxsplit=8)[8] for line in long_names]

    def rename(self, old: str, new: str) -> None:
        self.run(f"mv {_quoted(old)} {_quoted(new)}")

    def mkdir(self, directory: str) -> None:
        self.run(f"mkdir {_quoted(directory)}")

    def rmdir(self, directory: str) -> None:
        self.run(f"rmdir {_quoted(directory)}")

    def rm(self, remote: str) -> None:
        self.run(f"rm {_quoted(remote)}")


def _quoted(name: object) -> str:
    return '"' + str(name).replace('"', '""') + '"'


@pytest.fixture
def psftp(door: Any, tmp_path: Path, need: Callable[[str, str], str]) -> Psftp:
    """psftp with the user's key in PuTTY's own form."""
    program = need("psftp", "putty-tools")
    key = tmp_path / "key.ppk"
    subprocess.run([need("puttygen", "putty-tools"), str(door.key), "-o", str(key)], check=True)
    return Psftp(door, program, key, tmp_path)


def test_psftp(psftp: Psftp, tmp_path: Path, root: str) -> None:
    """psftp does what every client must."""
    names = ("with space.csv", "quote'and\"quote.csv", "semi;colon&and$dollar.csv", "ünïcødé.csv")
    exercise(psftp, tmp_path, root, names)


def test_psftp_reput(psftp: Psftp, tmp_path: Path, root: str) -> None:
    """reput opens without APPEND and without TRUNCATE, and writes from the stored size on."""
    whole, half = tmp_path / "whole", tmp_path / "half"
    whole.write_bytes(os.urandom(MIB))
    half.write_bytes(whole.read_bytes()[: MIB // 2])
    psftp.run(f"mkdir {root}", f"put {half} {root}/f", f"reput {whole} {root}/f")
    psftp.get(f"{root}/f", tmp_path / "back")
    assert digest(tmp_path / "back") == digest(whole)


def test_pscp(
    door: Any, psftp: Psftp, tmp_path: Path, root: str, need: Callable[[str, str], str]
) -> None:
    """pscp copies over SFTP, twice over the same name."""
    (tmp_path / "f").write_bytes(os.urandom(300_000))
    words = [need("pscp", "putty-tools"), "-sftp", *psftp.options]
    remote = f"{door.user}@127.0.0.1:{root}"
    for source, target in ((f"{tmp_path}/f", remote),) * 2 + ((remote, f"{tmp_path}/back"),):
        subprocess.run([*words, source, target], check=True, capture_output=True, timeout=60)
    assert digest(tmp_path / "back") == digest(tmp_path / "f")
