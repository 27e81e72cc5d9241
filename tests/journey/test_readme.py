"""The README's session, typed again: what it shows is what the product prints."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from feedgate.cli.author import make_ssh_key
from feedgate.cli.demo import BAD_CSV, GOOD_CSV

pytestmark = pytest.mark.integration

README = Path(__file__).resolve().parents[2] / "README.md"
# what differs from run to run, of the same width where it stands in a column
CHANGING = (
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b"), "<the time is here>"),
    (re.compile(r"\b01[0-9A-HJKMNP-TV-Z]{9,24}\b"), "<receipt>"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\(pid \d+\)"), "(pid <pid>)"),
    (re.compile(r"SHA256:[A-Za-z0-9+/]{43}"), "<fingerprint>"),
)


@dataclass
class Step:
    """A command of the session, what is typed into it, and the lines that are to appear."""

    command: str
    typed: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)


def session() -> Iterator[Step]:
    """The steps of the README's console block."""
    [block] = re.findall(r"^```console\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    step: Step | None = None
    for line in block.splitlines():
        if line.startswith("$ "):
            if step is not None:
                yield step
            step = Step(line.removeprefix("$ "))
        elif line.startswith("sftp> ") and step is not None:
            step.typed.append(line.removeprefix("sftp> "))
        elif line.strip() and step is not None:
            step.shown.append(line)
    assert step is not None
    yield step


def same(lines: list[str]) -> list[str]:
    """Lines with placeholders for what differs from run to run."""
    for pattern, instead in CHANGING:
        lines = [pattern.sub(instead, line) for line in lines]
    return lines


def missing(shown: list[str], printed: list[str]) -> str | None:
    """The first shown line that was not printed; `…` stands for any lines, also for none."""
    waiting = iter(line for line in same(printed) if line.strip())
    skips = False
    for line in same(shown):
        if line == "…":
            skips = True
            continue
        found = next((each for each in waiting if not skips or each == line), None)
        if found != line:
            return line
        skips = False
    extra = next(waiting, None)
    return None if skips or extra is None else f"nothing after it, but there is: {extra}"


class Typist:
    """A shell with `feedgate` in it, on a port that is free here."""

    def __init__(self, folder: Path, gateway: Any) -> None:
        self.folder = self.where = folder / "readme"
        folder = self.folder
        folder.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        (folder / "bin").mkdir()
        program = folder / "bin" / "feedgate"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m feedgate "$@"\n')
        program.chmod(0o755)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FEEDGATE_")}
        self.environment = {
            **environment,
            "PATH": f"{folder / 'bin'}:{environment['PATH']}",
            "FEEDGATE_LISTEN": f"127.0.0.1:{self.port}",
            "SUDO_USER": "",
        }
        gateway.ready = {"sftp": {"port": self.port}}
        self.sftp = gateway.sftp_command(Path("mysftpkey"))

    def type(self, step: Step) -> list[str]:
        """Run a step's command in the shell's folder; the lines it printed."""
        command = step.command
        if command.startswith("sftp "):
            user = command.split()[-1]
            words = [*self.sftp, "-b", "-", user]
        else:
            words = ["bash", "-c", f"{command}\ncode=$?; pwd >{self.folder}/where; exit $code"]
        done = subprocess.run(
            words,
            cwd=self.where,
            env=self.environment,
            input="\n".join(step.typed) + "\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        if words[0] == "bash":
            self.where = Path((self.folder / "where").read_text().strip())
        if step.shown == ["…"]:
            assert done.returncode == 0, done.stdout
        lines = done.stdout.replace(f":{self.port}", ":2222").replace(f"-P {self.port}", "-P 2222")
        return [line for line in lines.splitlines() if not line.startswith("sftp> ")]


def test_the_session_of_the_readme(tmp_path: Path, gateway: Any) -> None:
    """Each command of the README prints what the README shows, `…` aside."""
    typist = Typist(tmp_path, gateway)
    receipts: dict[str, str] = {}
    prepared = False
    try:
        for step in session():
            if step.command.startswith("feedgate up"):
                make_ssh_key(typist.where / "acme", comment="acme")
                (typist.where / "good.csv").write_text(GOOD_CSV)
                (typist.where / "bad.csv").write_text(BAD_CSV)
            if "after the KMS statement was lost" in step.command:
                policy = typist.where / "policy.txt"
                policy.write_text(without_kms(policy.read_text()))
                prepared = True
            for pasted, real in receipts.items():
                step.command = step.command.replace(pasted[:11], real)
            deadline = time.monotonic() + 10
            while (line := missing(step.shown, printed := typist.type(step))) is not None:
                # a load may still be under way; whatever changes something is typed once
                reads = step.command.startswith(("feedgate receipts", "feedgate query"))
                if not reads or time.monotonic() > deadline:
                    pytest.fail(
                        f"$ {step.command}\nREADME: {line}\nprinted:\n" + "\n".join(printed)
                    )
            if step.command == "feedgate receipts":
                pairs = zip(step.shown[1:], printed[1:], strict=True)
                receipts = {old.split()[0]: new.split()[0] for old, new in pairs}
    finally:
        typist.type(Step("feedgate down"))
    assert prepared
    assert receipts


def without_kms(policy: str) -> str:
    """The policy less its statement about the KMS key."""
    start = policy.index("    {\n", policy.index("/${!transfer:UserName}/*"))
    assert '"UseTheKmsKey"' in policy[start:]
    return policy[:start].rstrip().rstrip(",") + "\n  ]\n}\n"
