"""sshfs: programs that know nothing of SFTP work on files, exactly or with an error."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contract import MIB, digest

pytestmark = pytest.mark.integration


@pytest.fixture
def mounted(
    door: Any, tmp_path: Path, ssh_options: list[str], root: str, need: Callable[[str, str], str]
) -> Iterator[Path]:
    """The test's own directory of the gateway, mounted."""
    sshfs, unmount = need("sshfs", "sshfs"), need("fusermount3", "fuse3")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs access to /dev/fuse: run as root, or in a container with that device")
    door.sftp(f"mkdir {root}")
    mount = tmp_path / "mount"
    mount.mkdir()
    words = [sshfs, *ssh_options, f"{door.user}@127.0.0.1:{root}", str(mount)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        pytest.skip(f"needs sshfs to be able to mount: {done.stderr.strip()}")
    yield mount
    for _ in range(50):  # a process that just ended may still hold it
        if subprocess.run([unmount, "-u", mount], check=False, capture_output=True).returncode == 0:
            break
        time.sleep(0.1)


def test_copy_and_tree(mounted: Path, tmp_path: Path) -> None:
    """cp -r, cat, mv, rm -r, on a tree of odd names."""
    tree = tmp_path / "tree"
    (tree / "a b" / "ü").mkdir(parents=True)
    for name, size in (("f.bin", MIB), ("a b/empty", 0), ("a b/ü/'quote\"", 5000)):
        (tree / name).write_bytes(os.urandom(size))
    subprocess.run(["cp", "-r", str(tree), str(mounted)], check=True, timeout=60)
    there = mounted / "tree"
    for name in ("f.bin", "a b/empty", "a b/ü/'quote\""):
        assert digest(there / name) == digest(tree / name)
    (there / "f.bin").rename(mounted / "moved")
    assert digest(mounted / "moved") == digest(tree / "f.bin")
    shutil.rmtree(there)
    assert os.listdir(mounted) == ["moved"]


def test_changes_in_place(mounted: Path, tmp_path: Path) -> None:
    """dd into the middle, `>>`, sed -i, truncate: each leaves what it would on a disk."""
    expected = bytearray(os.urandom(300_000))
    file = mounted / "f"
    file.write_bytes(expected)
    (tmp_path / "piece").write_bytes(b"P" * 4096)
    words = ["dd", f"if={tmp_path}/piece", f"of={file}", "conv=notrunc", "bs=4096", "seek=3"]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    expected[3 * 4096 : 4 * 4096] = b"P" * 4096
    assert file.read_bytes() == expected
    with file.open("ab") as appended:
        appended.write(b"tail")
    assert file.read_bytes() == expected + b"tail"
    os.truncate(file, 1000)
    assert file.read_bytes() == expected[:1000]
    (mounted / "t").write_text("one\ntwo\n")
    subprocess.run(["sed", "-i", "s/two/three/", str(mounted / "t")], check=True, timeout=60)
    assert (mounted / "t").read_text() == "one\nthree\n"
