"""Clients of other languages: PHP's phpseclib, Perl's Net::SFTP::Foreign, Java's JSch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract import MIB, ScriptClient, digest, exercise, openssh_options

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
Need = Callable[[str, str], str]


def _php(door: Any, need: Need) -> ScriptClient:
    php = need("php", "php-cli php-phpseclib3")
    if not Path("/usr/share/php/phpseclib3/autoload.php").exists():
        pytest.skip("needs phpseclib: apt-get install php-phpseclib3")
    return ScriptClient([php, str(HERE / "client.php"), str(door.port), door.user, str(door.key)])


def _perl(door: Any, need: Need) -> ScriptClient:
    perl = need("perl", "perl")
    looked = subprocess.run(
        [perl, "-MNet::SFTP::Foreign", "-MJSON::PP", "-e1"], capture_output=True, check=False
    )
    if looked.returncode:
        pytest.skip("needs Net::SFTP::Foreign: apt-get install libnet-sftp-foreign-perl")
    return ScriptClient([perl, str(HERE / "client.pl"), door.user, *openssh_options(door)])


def test_phpseclib(door: Any, tmp_path: Path, root: str, need: Need) -> None:
    """phpseclib does what every client must, with all odd names."""
    client = _php(door, need)
    exercise(client, tmp_path, root)
    client.close()


def test_net_sftp_foreign(door: Any, tmp_path: Path, root: str, need: Need) -> None:
    """Net::SFTP::Foreign does what every client must, with its default queue."""
    client = _perl(door, need)
    exercise(client, tmp_path, root)
    client.close()


@pytest.mark.parametrize("language", ["php", "perl"])
def test_resume(door: Any, tmp_path: Path, root: str, need: Need, language: str) -> None:
    """Both continue a half file where it ends."""
    client = (_php if language == "php" else _perl)(door, need)
    whole, half = tmp_path / "whole", tmp_path / "half"
    whole.write_bytes(os.urandom(MIB))
    half.write_bytes(whole.read_bytes()[: MIB // 2])
    client.put(half, root)
    client.ask("resume", str(whole), root)
    client.get(root, tmp_path / "back")
    client.close()
    assert digest(tmp_path / "back") == digest(whole)


class Jsch:
    """JSch 0.1.54, compiled with the script that drives it."""

    def __init__(self, folder: Path, need: Need) -> None:
        self._java, compiler = need("java", "default-jre-headless"), need("javac", "default-jdk")
        self._path = f"{folder}:/usr/share/java/jsch.jar"
        if not Path("/usr/share/java/jsch.jar").exists():
            pytest.skip("needs JSch: apt-get install libjsch-java")
        source = str(HERE / "Jsch.java")
        subprocess.run([compiler, "-cp", self._path, "-d", str(folder), source], check=True)

    def run(self, gateway: Any, key: Path, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(self._java, "-cp", self._path, "Jsch", str(gateway.port)),
                *(gateway.user, str(key), *words),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def jsch_files(tmp_path: Path) -> Path:
    """What JSch is to send."""
    (tmp_path / "whole").write_bytes(os.urandom(MIB))
    (tmp_path / "half").write_bytes((tmp_path / "whole").read_bytes()[: MIB // 2])
    (tmp_path / "empty").touch()
    return tmp_path


def test_jsch(old_door: Any, old_rsa_key: Path, jsch_files: Path, root: str, need: Need) -> None:
    """JSch of 2016 puts, lists, gets, renames, over AWS's oldest algorithms."""
    done = Jsch(jsch_files, need).run(old_door, old_rsa_key, str(jsch_files), root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2"
    assert digest(jsch_files / "back") == digest(jsch_files / "whole")


def test_jsch_resumes(
    old_door: Any, old_rsa_key: Path, jsch_files: Path, root: str, need: Need
) -> None:
    """JSch continues a half file where it ends."""
    done = Jsch(jsch_files, need).run(old_door, old_rsa_key, str(jsch_files), root, "resume")
    assert done.returncode == 0, done.stderr
    assert digest(jsch_files / "resumed") == digest(jsch_files / "whole")


def test_old_jsch_meets_the_current_policy(
    door: Any, rsa_key: Path, tmp_path: Path, root: str, need: Need
) -> None:
    """Where no algorithm is common, JSch says so."""
    done = Jsch(tmp_path, need).run(door, rsa_key, str(tmp_path), root)
    assert done.returncode == 1
    assert "Algorithm negotiation fail" in done.stderr
