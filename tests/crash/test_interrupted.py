"""Uploads that end before CLOSE, on a real gateway: kept for their user, resumed, landed whole."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.crash]

MIB = 1024 * 1024


def digest(path: Path) -> str:
    """SHA-256 of a local file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def part_bytes(gateway: Any) -> int:
    """How much of all uploads lies on disk."""
    parts = (gateway.data / "parts").rglob("*")
    return sum(path.stat().st_size for path in parts if path.is_file())


def begin(gateway: Any, command: str, floor: int) -> subprocess.Popen[str]:
    """A slow put of `big.bin`, once so many bytes of it lie on disk."""
    client = subprocess.Popen(
        [*gateway.sftp_command(), "-l", "40000", "-b", "-", f"{gateway.user}@127.0.0.1"],
        cwd=gateway.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert client.stdin is not None
    client.stdin.write(command + "\n")
    client.stdin.close()
    gateway.wait_for(lambda: part_bytes(gateway) > floor)
    assert client.poll() is None, "the upload was to be under way"
    return client


@pytest.fixture
def big(gateway: Any) -> Path:
    """10 MiB that no compression shortens."""
    path: Path = gateway.folder / "big.bin"
    path.write_bytes(os.urandom(10 * MIB))
    return path


def end(how: str, gateway: Any, client: subprocess.Popen[str]) -> None:
    """End the upload: its client, its worker, or the whole gateway is killed."""
    if how == "client":
        client.kill()
    elif how == "worker":
        os.kill(gateway.children()["worker"], signal.SIGKILL)
    else:
        gateway.kill()
        gateway.start()
    client.wait(30)


def told(gateway: Any) -> int:
    """The size that STAT tells of big.bin; 0 where it tells of nothing."""
    lines = gateway.sftp("-ls -l big.bin").stdout.splitlines()
    return next((int(line.split()[-5]) for line in lines if line.startswith("-rw")), 0)


@pytest.mark.parametrize("how", ["client", "worker", "gateway"])
def test_reput_after_an_interruption(gateway: Any, big: Path, how: str) -> None:
    """OpenSSH's `reput` goes on where it was cut, twice; one landing has all bytes."""
    gateway.start("--workers", "1")
    end(how, gateway, begin(gateway, "put big.bin", 2 * MIB))
    gateway.wait_for(lambda: told(gateway) > MIB)
    first = told(gateway)
    assert "big.bin" not in gateway.sftp("ls").stdout
    assert gateway.receipts() == []
    end(how, gateway, begin(gateway, "reput big.bin", first + 2 * MIB))
    gateway.wait_for(lambda: told(gateway) > first + MIB)
    done = gateway.sftp("reput big.bin", "get big.bin back.bin")
    assert done.returncode == 0, done.stderr + gateway.log()
    assert digest(gateway.folder / "back.bin") == digest(big)
    [receipt] = gateway.receipts()
    assert (receipt["size"], receipt["sha256"]) == (10 * MIB, digest(big))


def test_a_drained_gateway_keeps_what_was_cut(gateway: Any, big: Path) -> None:
    """SIGTERM's grace ends, the upload is kept, and resumed after the next start."""
    gateway.start("--grace", "0")
    client = begin(gateway, "put big.bin", 2 * MIB)
    assert gateway.stop() == 0
    client.wait(30)
    gateway.start()
    assert told(gateway) > MIB
    assert gateway.sftp("reput big.bin", "get big.bin back.bin").returncode == 0
    assert digest(gateway.folder / "back.bin") == digest(big)


@pytest.mark.parametrize("point", ["part-synced", "upload-before-publish"])
def test_killed_at_close_and_resumed(gateway: Any, big: Path, point: str) -> None:
    """Killed between the last byte and the commit, the client sends the little that is missing."""
    gateway.start("--workers", "1", crash_at=point)
    assert gateway.sftp("put big.bin").returncode != 0
    gateway.wait_for(lambda: told(gateway) > 9 * MIB)
    assert gateway.receipts() == []
    gateway.kill()
    gateway.start()
    assert gateway.sftp("reput big.bin", "get big.bin back.bin").returncode == 0
    assert digest(gateway.folder / "back.bin") == digest(big)
    assert [receipt["size"] for receipt in gateway.receipts()] == [10 * MIB]
