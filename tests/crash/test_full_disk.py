"""A full disk: uploads are refused, everything else goes on, and it recovers by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.crash]


@pytest.fixture
def small_disk(gateway: Any) -> Iterator[Path]:
    """The gateway's data folder on a file system of its own of 192 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system; CI runs as root")
    shutil.rmtree(gateway.data)
    gateway.data.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=192m,mode=700", "feedgate-test"]
    if subprocess.run([*mount, str(gateway.data)], check=False).returncode != 0:
        pytest.skip("this machine does not allow mounting a tmpfs")
    (gateway.data / ".feedgate-test").touch()
    yield gateway.data
    if gateway.process is not None and gateway.process.poll() is None:
        gateway.kill()
    subprocess.run(["umount", "--lazy", str(gateway.data)], check=True)


def test_full_disk(gateway: Any, small_disk: Path) -> None:
    """No byte that was acknowledged is lost, nothing half-done shows, and space heals it."""
    gateway.start()
    (gateway.folder / "kept.txt").write_text("kept")
    with (gateway.folder / "big.bin").open("wb") as stream:
        stream.write(os.urandom(260 * 1024 * 1024))
    assert gateway.sftp("put kept.txt").returncode == 0
    refused = gateway.sftp("put big.bin")
    assert refused.returncode != 0
    assert "Failure" in refused.stderr
    assert "space" in gateway.log()
    filler = small_disk / "filler"
    with filler.open("wb") as stream:
        free = os.statvfs(small_disk)
        stream.write(bytes(max(0, free.f_bavail * free.f_frsize - 4 * 1024 * 1024)))
    still = gateway.sftp("get kept.txt back.txt", "ls")
    assert still.returncode == 0, still.stderr
    assert (gateway.folder / "back.txt").read_text() == "kept"
    assert "big.bin" not in still.stdout
    assert gateway.sftp("put kept.txt second.txt").returncode != 0
    filler.unlink()
    gateway.wait_for(lambda: gateway.sftp("put kept.txt third.txt").returncode == 0)
    assert "third.txt" in gateway.sftp("ls").stdout
    assert len([r for r in gateway.receipts() if r["path"] == "/third.txt"]) == 1
    assert gateway.stop() == 0
