"""curl, whose libssh2 1.10 (Debian 12) is older than the algorithms that AWS offers today."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from contract import MIB, ClientFailed, digest, exercise

pytestmark = pytest.mark.integration


class Curl:
    """curl, started for each operation; what is no transfer is a quote command."""

    def __init__(self, gateway: Any, program: str) -> None:
        self._words = [
            *(
                program,
                "-q",
                "--silent",
                "--show-error",
                "--insecure",
                "--user",
                f"{gateway.user}:",
            ),
            *("--key", str(gateway.key), "--pubkey", f"{gateway.key}.pub"),
        ]
        self._url = f"sftp://127.0.0.1:{gateway.port}"

    def url(self, remote: str) -> str:
        return self._url + quote(remote)

    def run(self, *words: str) -> bytes:
        done = subprocess.run([*self._words, *words], capture_output=True, check=False, timeout=60)
        if done.returncode:
            raise ClientFailed(f"{done.returncode}: {done.stderr.decode()}")
        return done.stdout

    def command(self, text: str) -> None:
        self.run("--head", "--quote", text, self.url("/"))

    def put(self, local: Path, remote: str) -> None:
        self.run("--globoff", "--upload-file", str(local), self.url(remote))

    def get(self, remote: str, local: Path) -> None:
        self.run("--globoff", "--output", str(local), self.url(remote))
        local.touch()  # curl makes no file for no bytes

    def ls(self, directory: str) -> list[str]:
        names = self.run("--list-only", self.url(directory + "/")).decode().splitlines()
        return [name for name in names if name not in (".", "..")]

    def rename(self, old: str, new: str) -> None:
        self.command(f"rename {_quoted(old)} {_quoted(new)}")

    def mkdir(self, directory: str) -> None:
        self.command(f"mkdir {_quoted(directory)}")

    def rmdir(self, directory: str) -> None:
        self.command(f"rmdir {_quoted(directory)}")

    def rm(self, remote: str) -> None:
        self.command(f"rm {_quoted(remote)}")


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.fixture
def curl_program(need: Callable[[str, str], str]) -> str:
    """curl, if it was built with SFTP."""
    program = need("curl", "curl")
    version = subprocess.run([program, "-V"], check=True, capture_output=True, text=True).stdout
    if "sftp" not in version.split():
        pytest.skip("this curl has no SFTP: apt-get install curl (Debian's has)")
    return program


@pytest.fixture
def curl(old_door: Any, curl_program: str) -> Curl:
    """curl against AWS's oldest algorithms."""
    return Curl(old_door, curl_program)


def test_curl(curl: Curl, tmp_path: Path, root: str) -> None:
    """curl does what every client must, its commands by --quote."""
    names = ("with space.csv", "quote'and.csv", "ünïcødé-日本.csv", "[bracket]*star?.csv")
    exercise(curl, tmp_path, root, names)


def test_curl_ranges_and_modes(curl: Curl, tmp_path: Path, root: str) -> None:
    """Byte ranges, missing directories on the way, chmod by quote, a removal afterwards."""
    (tmp_path / "f").write_bytes(os.urandom(MIB))
    target = curl.url(f"{root}/new/dirs/f")
    words = ["--ftp-create-dirs", "--upload-file", str(tmp_path / "f")]
    curl.run(*words, "--quote", "-*rm /missing", target)
    assert curl.run("--range", "100-199", target) == (tmp_path / "f").read_bytes()[100:200]
    curl.command(f"chmod 640 {root}/new/dirs/f")
    curl.run("--output", str(tmp_path / "b"), "--quote", f"-rm {root}/new/dirs/f", target)
    assert digest(tmp_path / "b") == digest(tmp_path / "f")
    assert root[1:] not in curl.ls("/")  # nobody asked for a directory, and its last file is gone


def test_curl_resumes(curl: Curl, tmp_path: Path, root: str) -> None:
    """`-C` continues an upload at the stored size, with APPEND, and a download."""
    whole, half = tmp_path / "whole", tmp_path / "half"
    whole.write_bytes(os.urandom(MIB))
    half.write_bytes(whole.read_bytes()[: MIB // 2])
    curl.put(half, root)
    curl.run("--continue-at", str(MIB // 2), "--upload-file", str(whole), curl.url(root))
    curl.run("--continue-at", "-", "--output", str(half), curl.url(root))
    assert digest(half) == digest(whole)


def test_old_libssh2_meets_the_current_policy(door: Any, curl_program: str) -> None:
    """Where no algorithm is common, curl says so and the log names what was missing."""
    version = subprocess.run([curl_program, "-V"], check=True, capture_output=True, text=True)
    if "libssh2/1.10" not in version.stdout:
        pytest.skip("this curl's libssh2 is newer than 1.10 and knows the policy's algorithms")
    with pytest.raises(ClientFailed):
        Curl(door, curl_program).ls("/")

    def noted() -> bool:
        lines = [json.loads(line) for line in door.log().splitlines() if line[:1] == "{"]
        return any("no matching" in json.dumps(line) for line in lines)

    door.wait_for(noted)
