"""Kill the real process at each point between a byte's arrival and its row's receipt.

The oracle (Jepsen's set workload): acknowledged ⊆ loaded ⊆ attempted, nothing twice, nothing torn.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.crash]

ROWS_PER_FILE = 40
WORKER_POINTS = ["upload-before-publish", "landing-before-commit", "landing-committed"]
PART_POINTS = ["part-written", "part-synced"]
LOADER_POINTS = ["load-claimed", "load-before-commit", "load-after-commit"]


def csv_of(writer: int, rows: int = ROWS_PER_FILE, *, padding: int = 0) -> str:
    """A file whose rows say which file they belong to."""
    lines = ["order_id,customer,amount,ordered_at,priority"]
    lines += [
        f"{writer * 100_000 + row},writer-{writer}{'x' * padding},{row}.50,2026-11-24,"
        for row in range(rows)
    ]
    return "\n".join(lines) + "\n"


class Oracle:
    """What was attempted and what was acknowledged, and whether the table agrees."""

    def __init__(self, gateway: Any) -> None:
        self.gateway = gateway
        self.attempted: set[int] = set()
        self.acknowledged: set[int] = set()

    def put(self, writer: int, *, rows: int = ROWS_PER_FILE, padding: int = 0) -> bool:
        """Upload one file; whether the client was told OK."""
        path: Path = self.gateway.folder / f"w{writer}.csv"
        path.write_text(csv_of(writer, rows, padding=padding))
        self.attempted.add(writer)
        done = self.gateway.sftp(f"put {path.name} orders/{path.name}")
        if done.returncode == 0:
            self.acknowledged.add(writer)
        return bool(done.returncode == 0)

    def loaded(self) -> dict[int, tuple[int, int]]:
        """Writer → (rows, distinct rows) in the table."""
        sql = (
            "SELECT order_id::BIGINT // 100000 AS w, count(*), count(DISTINCT order_id)"
            " FROM orders GROUP BY 1"
        )
        return {int(w): (int(n), int(d)) for w, n, d in self.gateway.rows(sql)}

    def check(self) -> None:
        """Wait until all acknowledged files are loaded, then hold the table against the oracle."""
        self.gateway.wait_for(lambda: self.acknowledged <= set(self.loaded()), timeout_s=30)
        found = self.loaded()
        assert set(found) <= self.attempted
        for writer, (count, distinct) in found.items():
            whole = (ROWS_PER_FILE, ROWS_PER_FILE)
            assert (count, distinct) == whole, f"file {writer} is torn or doubled"


@pytest.mark.parametrize("point", WORKER_POINTS)
def test_worker_killed_between_bytes_and_reply(gateway: Any, point: str) -> None:
    """A worker killed around the commit loses nothing acknowledged, and loads nothing twice."""
    gateway.start("--workers", "1", crash_at=point)  # a second one would be armed, too
    oracle = Oracle(gateway)
    assert not oracle.put(1), "the worker was to die before it replied"
    gateway.wait_for(lambda: "worker" in gateway.children())
    gateway.wait_for(lambda: gateway.sftp("ls").returncode == 0)
    visible = "w1.csv" in gateway.sftp("-ls orders").stdout
    assert visible == (point == "landing-committed")
    assert oracle.put(2)
    oracle.check()
    assert (1 in oracle.loaded()) == visible


@pytest.mark.parametrize("point", PART_POINTS)
def test_worker_killed_around_fsync_of_a_part(gateway: Any, point: str) -> None:
    """A large upload whose part was being made durable leaves nothing visible."""
    gateway.start("--workers", "1", crash_at=point)  # a second one would be armed, too
    oracle = Oracle(gateway)
    assert not oracle.put(1, rows=3000, padding=200)
    gateway.wait_for(lambda: gateway.sftp("ls").returncode == 0)
    assert "w1.csv" not in gateway.sftp("-ls orders").stdout
    assert oracle.put(2)
    oracle.check()


@pytest.mark.parametrize("point", LOADER_POINTS)
def test_loader_killed_between_claim_and_receipt(gateway: Any, point: str) -> None:
    """A loader killed at any step loads each file exactly once after it was started again."""
    gateway.start(crash_at=point)
    oracle = Oracle(gateway)
    first = gateway.children()["loader"]
    assert oracle.put(1)
    assert oracle.put(2)
    gateway.wait_for(lambda: gateway.children().get("loader") not in (None, first))
    oracle.check()
    loads = gateway.wait_for_loads(2)
    assert [load["status"] for load in loads] == ["LOADED", "LOADED"]
    assert [load["rows_loaded"] for load in loads] == [ROWS_PER_FILE, ROWS_PER_FILE]


def test_supervisor_killed_in_the_middle_of_an_upload(gateway: Any) -> None:
    """kill -9 of the supervisor during a put leaves nothing visible, and `up` serves again."""
    gateway.start()
    big = gateway.folder / "big.bin"
    with big.open("wb") as stream:
        for _ in range(64):
            stream.write(os.urandom(1024 * 1024))
    client = subprocess.Popen(
        [*gateway.sftp_command(), "-l", "200000", "-b", "-", f"{gateway.user}@127.0.0.1"],
        cwd=gateway.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert client.stdin is not None
    client.stdin.write("put big.bin big.bin\n")
    client.stdin.close()
    time.sleep(1.0)
    assert client.poll() is None, "the upload was to be under way"
    gateway.kill()
    assert client.wait(30) != 0
    gateway.start()
    listing = gateway.sftp("ls -l")
    assert listing.returncode == 0
    assert "big.bin" not in listing.stdout
    assert gateway.sftp("put big.bin big.bin", "ls -l big.bin").returncode == 0


@pytest.mark.parametrize("role", ["worker", "loader"])
def test_a_child_killed_at_rest_is_started_again(running: Any, role: str) -> None:
    """The supervisor replaces a killed child, and what it served is served again."""
    oracle = Oracle(running)
    assert oracle.put(1)
    oracle.check()
    pid = running.children()[role]
    os.kill(pid, signal.SIGKILL)
    running.wait_for(lambda: running.children().get(role) not in (None, pid))
    running.wait_for(lambda: oracle.put(2))
    oracle.check()


def test_supervisor_killed_between_landing_and_load(gateway: Any) -> None:
    """What landed before kill -9 is loaded after `up`, once."""
    gateway.start(crash_at="load-claimed")
    oracle = Oracle(gateway)
    assert oracle.put(1)
    gateway.kill()
    gateway.start()
    oracle.check()
    assert gateway.stop() == 0
    gateway.start()
    oracle.check()
