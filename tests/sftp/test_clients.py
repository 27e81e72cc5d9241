"""Clients that suppliers use, against a door in this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_openssh_batch(make_door: Callable[..., Any], loop: str) -> None:
    """OpenSSH's client puts, lists, gets, renames, makes and removes."""
    door = make_door(loop)
    content = os.urandom(3_000_000)
    (door.folder / "a.bin").write_bytes(content)
    done = door.sftp(
        "pwd",
        "put a.bin",
        "ls -la",
        "get a.bin b.bin",
        "rename a.bin c.bin",
        "mkdir box",
        "put -p a.bin box/a.bin",
        "-rmdir box",
        "rm box/a.bin",
        "rmdir box",
        "rm c.bin",
        "-ls c.bin",
        "-rename x y",
        "-ln -s x y",
        "-df",
    )
    assert done.returncode == 0, done.stderr
    assert (door.folder / "b.bin").read_bytes() == content
    assert "-rwxr--r--   1        -        -  3000000 Jan  1  1970 a.bin" in done.stdout
    assert "Server does not support statvfs@openssh.com extension" in done.stderr
    assert door.store.files == {}
    assert door.errors == []
    assert door.events("PARTIAL_CLOSE") == []
