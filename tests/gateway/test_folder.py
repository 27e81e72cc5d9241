"""The data folder and its run lock."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from feedgate.errors import Conflict, CouldNot
from feedgate.gateway.folder import DataFolder, RunLock, write_atomically


def test_create_is_for_its_owner_only(tmp_path: Path) -> None:
    """The folder and what holds secrets in it are 0700."""
    folder = DataFolder.create(tmp_path / "data")
    for path in (folder.root, folder.hostkeys, folder.warehouse):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_create_says_why_it_cannot(tmp_path: Path) -> None:
    """A path that is a file is refused with the reason and the option to change."""
    (tmp_path / "file").touch()
    with pytest.raises(CouldNot) as caught:
        DataFolder.create(tmp_path / "file" / "data")
    assert caught.value.hint is not None
    assert "--data" in caught.value.hint


def test_existing_needs_a_gateway_that_ran(tmp_path: Path) -> None:
    """A folder without a database has never seen a gateway."""
    with pytest.raises(CouldNot, match="no gateway has run"):
        DataFolder.existing(tmp_path)


def test_one_supervisor_per_folder(tmp_path: Path) -> None:
    """A second lock is refused while another process holds it, and free once that died."""
    folder = DataFolder.create(tmp_path)
    script = (
        "import sys; from pathlib import Path; from feedgate.gateway.folder import *\n"
        f"lock = RunLock(DataFolder(Path({str(tmp_path)!r}))); lock.acquire()\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert RunLock(folder).held_by_another()
        with pytest.raises(Conflict, match="already running"):
            RunLock(folder).acquire()
        holder.kill()
    assert not RunLock(folder).held_by_another()


def test_running_ignores_a_dead_gateways_file(tmp_path: Path) -> None:
    """``run.json`` of a process that no longer holds the lock is not a running gateway."""
    folder = DataFolder.create(tmp_path)
    write_atomically(folder.run_file, {"pid": 1, "sftp": {"host": "127.0.0.1", "port": 2222}})
    assert folder.running() is None


def test_write_atomically_replaces_whole(tmp_path: Path) -> None:
    """The file is 0600, holds the new value, and no temporary is left."""
    path = tmp_path / "ready.json"
    write_atomically(path, {"a": 1})
    write_atomically(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ["ready.json"]
