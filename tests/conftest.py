"""A real gateway for tests: the shipped command as a process, OpenSSH's client against it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


class RunningGateway:
    """``feedgate up`` on a stack made by ``feedgate init``, and what a test does with it."""

    user = "jeffrey_aven"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = folder / "landing"
        self.data = self.stack / ".feedgate"
        self.process: subprocess.Popen[bytes] | None = None
        self.ready: dict[str, Any] = {}
        self.output = folder / "up.out"

    # -- the gateway --------------------------------------------------------------------------

    def init(self) -> None:
        """Make the stack and mark its data folder as a test's."""
        done = self.feedgate("init", str(self.stack), cwd=self.folder)
        assert done.returncode == 0, done.stderr
        self.data.mkdir(mode=0o700)
        (self.data / ".feedgate-test").touch()

    def start(self, *options: str, crash_at: str | None = None, timeout_s: float = 30) -> None:
        """Start it on a free port and wait until its door is open."""
        self.launch(*options, crash_at=crash_at)
        ready_file = self.folder / "ready.json"
        deadline = time.monotonic() + timeout_s
        while not ready_file.exists():
            assert self.process is not None
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.01)
        self.ready = json.loads(ready_file.read_text())

    def launch(self, *options: str, crash_at: str | None = None) -> None:
        """Start it without waiting."""
        (self.folder / "ready.json").unlink(missing_ok=True)
        environment = self.environment()
        if crash_at is not None:
            environment["FEEDGATE_CRASH_AT"] = crash_at
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "feedgate", "up", "--listen", "127.0.0.1:0"),
                    *("--ready-file", str(self.folder / "ready.json"), *options),
                ],
                cwd=self.stack,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        """SIGKILL of the supervisor; its children end when they notice."""
        assert self.process is not None
        children = self.pids()
        self.process.kill()
        self.process.wait()
        for pid in (pid for pids in children.values() for pid in pids):
            _wait_gone(pid)

    def children(self) -> dict[str, int]:
        """Role → pid of the supervisor's children; of several workers, one's."""
        return {role: pids[0] for role, pids in self.pids().items()}

    def pids(self) -> dict[str, list[int]]:
        """Role → pids of the supervisor's children."""
        assert self.process is not None
        found: dict[str, list[int]] = {}
        tasks = Path(f"/proc/{self.process.pid}/task")
        for task in tasks.iterdir():
            for pid in (task / "children").read_text().split():
                try:
                    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                except (FileNotFoundError, ProcessLookupError):  # it ended between the two looks
                    continue
                if b"feedgate.cli.processes" in words:
                    role = words[words.index(b"feedgate.cli.processes") + 1].decode()
                    found.setdefault(role, []).append(int(pid))
        return found

    @property
    def port(self) -> int:
        """The door's port."""
        return int(self.ready["sftp"]["port"])

    @property
    def key(self) -> Path:
        """The private key of the example's first user."""
        return self.stack / "mysftpkey"

    # -- the operator -------------------------------------------------------------------------

    def feedgate(
        self, *words: str, cwd: Path | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the stack's folder."""
        return subprocess.run(
            [sys.executable, "-m", "feedgate", *words],
            cwd=cwd or self.stack,
            env=self.environment(),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def json(self, *words: str) -> dict[str, Any]:
        """Run a command with ``--json`` and read its answer."""
        done = self.feedgate(*words, "--json")
        assert done.returncode in (0, 1), done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def receipts(self) -> list[dict[str, Any]]:
        """All receipts, newest first."""
        found: list[dict[str, Any]] = self.json("receipts", "-n", "1000")["receipts"]
        return found

    def rows(self, sql: str) -> list[list[Any]]:
        """The rows of a query."""
        found: list[list[Any]] = self.json("query", sql)["rows"]
        return found

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 20) -> None:
        """Poll until the condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def wait_for_loads(self, count: int) -> list[dict[str, Any]]:
        """All loads by pipes, once ``count`` of them are decided."""
        found: list[dict[str, Any]] = []

        def decided() -> bool:
            nonlocal found
            found = [
                {**load, "path": item["path"]}
                for item in self.receipts()
                for load in item["loads"]
                if load["status"] != "PENDING"
            ]
            return len(found) >= count

        self.wait_for(decided)
        return found

    def log(self) -> str:
        """The gateway's log and output, for a failing test."""
        log = self.data / "gateway.log"
        text = log.read_text() if log.exists() else ""
        return text + (self.output.read_text() if self.output.exists() else "")

    # -- the supplier -------------------------------------------------------------------------

    def sftp(
        self, *commands: str, user: str | None = None, key: Path | None = None, timeout_s: int = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a batch with OpenSSH's client; a command that begins with `-` may fail."""
        return subprocess.run(
            [*self.sftp_command(key), "-b", "-", f"{user or self.user}@127.0.0.1"],
            cwd=self.folder,
            input="\n".join(commands) + "\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )

    def sftp_command(self, key: Path | None = None) -> list[str]:
        """OpenSSH's client with nothing of this machine's configuration."""
        program = shutil.which("sftp")
        if program is None:
            pytest.skip("needs OpenSSH's client: apt-get install openssh-client")
        words = [program, "-q", "-F", "/dev/null", "-P", str(self.port), "-i", str(key or self.key)]
        for option in (
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
        ):
            words += ["-o", option]
        return words

    def environment(self) -> dict[str, str]:
        """This process's environment without what would point feedgate elsewhere."""
        return {k: v for k, v in os.environ.items() if not k.startswith("FEEDGATE_")}


def _wait_gone(pid: int, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        assert time.monotonic() < deadline, f"process {pid} outlives its supervisor"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def gateway_class() -> type[RunningGateway]:
    """For fixtures of a wider scope than ``gateway``."""
    return RunningGateway


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    """A gateway that is made but not started."""
    made = RunningGateway(tmp_path)
    made.init()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


@pytest.fixture
def running(gateway: RunningGateway) -> RunningGateway:
    """A gateway whose door is open."""
    gateway.start()
    return gateway
