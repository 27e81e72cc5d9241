"""The supervisor under rough treatment: what it starts again, what it never runs out of."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Any

import pytest

from feedgate.limits import CONNECTIONS_MAX

pytestmark = pytest.mark.integration


def test_short_connections_leave_no_trace(running: Any) -> None:
    """More short connections than the gateway's limit, one after another, lock nobody out."""
    for _ in range(CONNECTIONS_MAX // 50 + 2):
        opened = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(50)]
        for connection in opened:
            connection.close()
        time.sleep(0.02)
    running.wait_for(lambda: running.sftp("ls").returncode == 0, timeout_s=5)


def test_a_child_that_dies_again_and_again(running: Any) -> None:
    """Killing the loader's successors while they start does not take the gateway down."""
    for _ in range(3):
        running.wait_for(lambda: "loader" in running.children())
        os.kill(running.children()["loader"], signal.SIGKILL)
        time.sleep(0.3)
    assert running.process.poll() is None
    assert running.sftp("ls").returncode == 0
    running.wait_for(lambda: running.feedgate("query", "SELECT 1").returncode == 0, timeout_s=30)
    assert running.stop() == 0


def test_second_gateway_is_refused(running: Any) -> None:
    """A second `up` on the same data folder ends at once and says who is there."""
    done = running.feedgate("up", "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert "already running" in done.stderr
    assert running.sftp("ls").returncode == 0


def test_taken_port_is_said(running: Any) -> None:
    """An address that is in use is named, with the option that changes it."""
    other = running.folder / "other"
    done = running.feedgate("up", "--data", str(other), "--listen", f"127.0.0.1:{running.port}")
    assert done.returncode == 4
    assert f"127.0.0.1:{running.port}" in done.stderr
    assert "--listen" in done.stderr


def test_pending_changes_wait_and_are_forgotten(running: Any) -> None:
    """What would replace a bucket waits, is shown by `status`, and goes when it is taken back."""
    script = running.stack / "warehouse.sql"
    before = script.read_text()
    table = before[before.index("CREATE TABLE IF NOT EXISTS events") :].split(";", 1)[0] + ";"
    pipe = before[before.index("CREATE PIPE IF NOT EXISTS events_pipe") :].split(";", 1)[0] + ";"
    script.write_text(before.replace(table, "").replace(pipe, ""))
    assert running.feedgate("apply").returncode == 1
    status = running.feedgate("status")
    assert status.returncode == 1
    assert "Remove TABLE `LANDING.RAW.EVENTS`" in status.stdout
    script.write_text(before)
    assert running.feedgate("apply").returncode == 0
    assert running.feedgate("status").returncode == 0
