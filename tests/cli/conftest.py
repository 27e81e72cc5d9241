"""A stack that was applied, for commands that look into its data folder, and a real terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from feedgate.cli.author import write_example
from feedgate.cli.operate import Application
from feedgate.gateway.folder import DataFolder
from feedgate.gateway.reading import RunValues
from feedgate.gateway.services import open_database


class AppliedStack:
    """The example stack with its data folder; no gateway runs."""

    def __init__(self, stack: Path) -> None:
        self.stack = stack
        write_example(stack)
        self.folder = DataFolder.create(stack / ".feedgate")
        database = open_database(self.folder)
        try:
            Application(stack, RunValues()).apply(self.folder, database)
        finally:
            database.close()

    @property
    def bucket(self) -> str:
        """The landing bucket's URL."""
        return "s3://landing-000000000000-us-east-1"

    def run(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        """Run a command in the stack's folder, as a script does."""
        done = subprocess.run(
            [sys.executable, "-m", "feedgate", *words],
            cwd=self.stack,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def run_on_terminal(self, columns: int, *words: str) -> list[str]:
        """Run a command on a terminal of so many columns; the lines of its stdout."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        with subprocess.Popen(
            [sys.executable, "-m", "feedgate", *words],
            cwd=self.stack,
            env={**environment, "NO_COLOR": "1", "TERM": "dumb"},
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
        ) as process:
            os.close(theirs)
            written = b""
            try:
                while block := os.read(ours, 65536):
                    written += block
            except OSError:  # how Linux tells that the other end is closed
                pass
            finally:
                os.close(ours)
            assert process.wait() == 0
        return written.decode().replace("\r\n", "\n").splitlines()


@pytest.fixture(scope="package")
def applied(tmp_path_factory: pytest.TempPathFactory) -> AppliedStack:
    """One for all tests of the package: what a test copies in stays."""
    return AppliedStack(tmp_path_factory.mktemp("applied") / "landing")
