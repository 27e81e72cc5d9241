"""lftp: mirror, continued and parallel transfers, chmod."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract import MIB, ClientFailed, digest, exercise

pytestmark = pytest.mark.integration


class Lftp:
    """lftp, started for each command."""

    def __init__(self, gateway: Any, program: str, options: list[str], folder: Path) -> None:
        self._words = [program, "--norc"]
        self._place = f"-u {gateway.user},none sftp://127.0.0.1:{gateway.port}"
        self._settings = (
            f"set sftp:connect-program 'ssh -a -x {' '.join(options)}';"
            "set net:max-retries 1; set net:timeout 20; set cmd:fail-exit yes;"
            "set sftp:charset UTF-8; set file:charset UTF-8;"
        )
        self._environment = {**os.environ, "HOME": str(folder), "LC_ALL": "C.UTF-8"}

    def run(self, *commands: str) -> str:
        script = "; ".join((f"{self._settings} open {self._place}", *commands))
        done = subprocess.run(
            [*self._words, "-c", script],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=self._environment,
        )
        if done.returncode:
            raise ClientFailed(f"{commands}: {done.stderr}")
        return done.stdout

    def put(self, local: Path, remote: str) -> None:
        self.run(f"put {_quoted(local)} -o {_quoted(remote)}")

    def get(self, remote: str, local: Path) -> None:
        self.run(f"get {_quoted(remote)} -o {_quoted(local)}")

    def ls(self, directory: str) -> list[str]:
        lines = self.run(f"cls -1 -a --sort=name {_quoted(directory + '/')}").splitlines()
        names = [line.removesuffix("/").rpartition("/")[2] for line in lines]
        return [name for name in names if name not in ("", ".", "..")]

    def rename(self, old: str, new: str) -> None:
        self.run(f"mv {_quoted(old)} {_quoted(new)}")

    def mkdir(self, directory: str) -> None:
        self.run(f"mkdir {_quoted(directory)}")

    def rmdir(self, directory: str) -> None:
        self.run(f"rmdir {_quoted(directory)}")

    def rm(self, remote: str) -> None:
        self.run(f"rm {_quoted(remote)}")


def _quoted(name: object) -> str:
    return '"' + str(name).replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.fixture
def lftp(
    door: Any, tmp_path: Path, ssh_options: list[str], need: Callable[[str, str], str]
) -> Lftp:
    """lftp on OpenSSH's client, with nothing of this machine's configuration."""
    return Lftp(door, need("lftp", "lftp"), ssh_options, tmp_path)


def test_lftp(lftp: Lftp, tmp_path: Path, root: str) -> None:
    """lftp does what every client must."""
    names = ("with space.csv", "semi;colon&and$dollar.csv", "ünïcødé-日本.csv", "-dash.csv")
    exercise(lftp, tmp_path, root, names)


def test_lftp_mirror(lftp: Lftp, tmp_path: Path, root: str) -> None:
    """A tree goes up by `mirror -R` and comes down by `mirror`, four files at a time."""
    tree = tmp_path / "tree"
    for number in range(12):
        file = tree / f"d{number % 3}" / f"f{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(number * 9_000))
    lftp.run(f"mirror -R --parallel=4 {tree} {root}", f"mirror --parallel=4 {root} {tmp_path}/back")
    for file in tree.rglob("f*"):
        assert digest(tmp_path / "back" / file.relative_to(tree)) == digest(file)


def test_lftp_continues(lftp: Lftp, tmp_path: Path, root: str) -> None:
    """`put -c` sends only what is missing; `pget -n 4` reads one file by four connections."""
    whole, half = tmp_path / "whole", tmp_path / "half"
    whole.write_bytes(os.urandom(3 * MIB))
    half.write_bytes(whole.read_bytes()[:MIB])
    lftp.run(f"put {half} -o {root}", f"put -c {whole} -o {root}")
    lftp.run(f"pget -n 4 {root} -o {tmp_path}/back", f"chmod 600 {root}", f"cat {root} > {half}")
    assert digest(tmp_path / "back") == digest(whole)
