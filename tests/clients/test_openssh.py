"""OpenSSH's sftp and scp: everything that a batch can ask."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract import MIB, ClientFailed, digest, exercise

pytestmark = pytest.mark.integration
Need = Callable[[str, str], str]


def quoted(name: object) -> str:
    """A word of sftp's own language; inside quotes nothing is a wildcard."""
    return '"' + str(name).replace("\\", "\\\\").replace('"', '\\"') + '"'


class Sftp:
    """sftp with a batch of one command, so that its exit code is that command's."""

    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway

    def run(self, *commands: str) -> str:
        done = self._gateway.sftp(*commands)
        if done.returncode:
            raise ClientFailed(f"{commands}: {done.stderr}")
        return str(done.stdout)

    def put(self, local: Path, remote: str) -> None:
        self.run(f"put {quoted(local)} {quoted(remote)}")

    def get(self, remote: str, local: Path) -> None:
        self.run(f"get {quoted(remote)} {quoted(local)}")

    def ls(self, directory: str) -> list[str]:
        lines = self.run(f"cd {quoted(directory)}", "ls -1").splitlines()
        return [line for line in lines if not line.startswith("sftp>")]

    def rename(self, old: str, new: str) -> None:
        self.run(f"rename {quoted(old)} {quoted(new)}")

    def mkdir(self, directory: str) -> None:
        self.run(f"mkdir {quoted(directory)}")

    def rmdir(self, directory: str) -> None:
        self.run(f"rmdir {quoted(directory)}")

    def rm(self, remote: str) -> None:
        self.run(f"rm {quoted(remote)}")


def test_sftp(door: Any, tmp_path: Path, root: str) -> None:
    """sftp does what every client must; it shows `\\n`-free UTF-8 names as they are."""
    names = ("with space.csv", "quote'and\"quote.csv", "semi;colon&and$dollar.csv", "-dash.csv")
    exercise(Sftp(door), tmp_path, root, names)


def test_sftp_trees_times_and_modes(door: Any, tmp_path: Path, root: str) -> None:
    """A tree goes up and comes back; modes, owners and times may be set; links are refused."""
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    for name, size in (("one", 1), ("a/two", 70_000), ("a/b/three", 0)):
        (tree / name).write_bytes(os.urandom(size))
    done = door.sftp(
        *(f"mkdir {root}", f"put -rp {tree} {root}/", f"get -rp {root}/tree {tmp_path}/back"),
        *(f"chmod 600 {root}/tree/one", f"ls -la {root}/tree", f"-ln -s {root}/x {root}/y"),
    )
    assert done.returncode == 0, done.stderr
    assert "drwx" in done.stdout
    assert "unsupported" in done.stderr.lower()
    for name in ("one", "a/two", "a/b/three"):
        assert digest(tmp_path / "back" / name) == digest(tree / name)


def test_sftp_resumes(door: Any, tmp_path: Path, root: str) -> None:
    """reput continues where the stored file ends, reget where the local one does."""
    whole, half = tmp_path / "whole", tmp_path / "half"
    whole.write_bytes(os.urandom(MIB))
    half.write_bytes(whole.read_bytes()[: MIB // 2])
    done = door.sftp(f"mkdir {root}", f"put {half} {root}/f", f"reput {whole} {root}/f")
    assert done.returncode == 0, done.stderr
    done = door.sftp(f"reget {root}/f {half}")
    assert done.returncode == 0, done.stderr
    assert digest(half) == digest(whole)


def test_sftp_copies_and_replaces(door: Any, tmp_path: Path, root: str) -> None:
    """`cp` copies here, `rename` replaces what is there, as the client does with any OpenSSH."""
    (tmp_path / "f").write_bytes(os.urandom(300_000))
    (tmp_path / "e").touch()
    done = door.sftp(
        *(f"mkdir {root}", f"put {tmp_path}/f {root}/f", f"cp {root}/f {root}/g"),
        *(f"put {tmp_path}/e {root}/h", f"rename {root}/g {root}/h", f"get {root}/h {tmp_path}/h"),
    )
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "h") == digest(tmp_path / "f")


def test_sftp_shows_no_host_disk(door: Any, root: str) -> None:
    """`df` shows the user's quota or nothing: never the size of the gateway's disk."""
    done = door.sftp(f"mkdir {root}", f"-df {root}")
    assert done.returncode == 0, done.stderr
    disk = os.statvfs(door.data)
    sizes = {int(number) for number in re.findall(r"\b\d{4,}\b", done.stdout)}
    assert disk.f_blocks * disk.f_frsize // 1024 not in sizes


def test_scp(door: Any, tmp_path: Path, root: str, need: Need, ssh_options: list[str]) -> None:
    """scp in SFTP mode works again and again over the same name, for trees, and back."""
    scp = need("scp", "openssh-client")
    (tmp_path / "f").write_bytes(os.urandom(MIB))
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a file").write_text("1,2\n")
    remote = f"{door.user}@127.0.0.1:{root}"

    def run(*words: str) -> None:
        command = [scp, "-s", *ssh_options, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr

    door.sftp(f"mkdir {root}")
    for _ in range(3):
        run("-p", str(tmp_path / "f"), f"{remote}/f")
    run("-rp", str(tree), f"{remote}/")
    run(f"{remote}/f", str(tmp_path / "back"))
    run("-r", f"{remote}/tree", str(tmp_path / "tree-back"))
    assert digest(tmp_path / "back") == digest(tmp_path / "f")
    assert (tmp_path / "tree-back" / "a file").read_text() == "1,2\n"


def test_old_scp_is_refused(door: Any, tmp_path: Path, need: Need, ssh_options: list[str]) -> None:
    """scp's own protocol would run a program here: refused, nothing stored."""
    (tmp_path / "f").write_text("x")
    command = [need("scp", "openssh-client"), "-O", *ssh_options, str(tmp_path / "f")]
    done = subprocess.run(
        [*command, f"{door.user}@127.0.0.1:/old-scp"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "old-scp" not in door.sftp("ls -1 /").stdout


@pytest.mark.parametrize("options", [("-B", "262000", "-R", "128"), ("-B", "900", "-R", "2")])
def test_sftp_buffers(door: Any, tmp_path: Path, root: str, options: tuple[str, ...]) -> None:
    """Requests of every size, one or many at a time, carry the same bytes."""
    (tmp_path / "f").write_bytes(os.urandom(MIB + 1))
    done = subprocess.run(
        [*door.sftp_command(), *options, "-b", "-", f"{door.user}@127.0.0.1"],
        input=f"put {tmp_path}/f {root}\nget {root} {tmp_path}/back\nrm {root}\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "back") == digest(tmp_path / "f")
