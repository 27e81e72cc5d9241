"""Third-party suites against a scratch gateway, beside the list of failures that are expected.

Exits 0 when all went as conformance/expected.toml says, else 1.
"""

# ruff: noqa: T201 - what a command prints

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from openssh import run_openssh
from paramiko_tests import run_paramiko
from rclone_tests import run_rclone
from results import Missing, Suite, Verdict, expected_failures, judge
from scratch import scratch_gateway

SUITES: dict[str, tuple[str, Callable[[Any, Path], Suite]]] = {
    "openssh": ("OpenSSH's regress scripts, through sftp and sshfs", run_openssh),
    "paramiko": ("paramiko's own SFTP tests", run_paramiko),
    "rclone": ("rclone: test info, round trips", run_rclone),
}


def main() -> int:
    """Run what was asked for and print the table."""
    parser = argparse.ArgumentParser(
        prog="scripts/conformance", description="Run third-party suites against a scratch gateway."
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    parser.add_argument("--json", type=Path, help="write all results to this file")
    parser.add_argument("--scratch", type=Path, help="a folder for the run (kept)")
    options = parser.parse_args()
    if unknown := set(options.suites) - set(SUITES):
        parser.error(f"unknown suite `{min(unknown)}`; known: {', '.join(SUITES)}")

    reasons = expected_failures()
    runs: list[tuple[Suite, Verdict]] = []
    with tempfile.TemporaryDirectory(prefix="feedgate-", ignore_cleanup_errors=True) as temporary:
        folder = options.scratch or Path(temporary)
        folder.mkdir(exist_ok=True)
        for name in options.suites or SUITES:
            suite = _run(name, folder / name)
            runs.append((suite, judge(suite, reasons.get(name, {}))))
    _print(runs)
    if options.json:
        options.json.write_text(json.dumps([asdict(suite) for suite, _ in runs], indent=1))
    return 0 if all(verdict.good for _, verdict in runs) else 1


def _run(name: str, folder: Path) -> Suite:
    """One suite on a gateway of its own."""
    folder.mkdir()
    began = time.monotonic()
    with scratch_gateway(folder) as gateway:
        try:
            suite = SUITES[name][1](gateway, folder)
        except Missing as missing:
            suite = Suite(name, missing=str(missing))
    suite.seconds = time.monotonic() - began
    return suite


def _print(runs: list[tuple[Suite, Verdict]]) -> None:
    print("suite      version                passed expected unexpected   time")
    for suite, verdict in runs:
        if suite.missing:
            print(f"{suite.name:<10} skipped: {suite.missing}")
            continue
        wrong = len(verdict.unexpected) + len(verdict.passing)
        print(
            f"{suite.name:<10} {suite.version:<22} {len(suite.passed):>6}"
            f" {len(verdict.expected):>8} {wrong or 'none':>10} {suite.seconds:>4.0f} s"
        )
    for title, kind in (
        ("expected failures", "expected"),
        ("unexpected failures", "unexpected"),
        ("expected to fail, but did not", "passing"),
    ):
        lines = [
            f"  {suite.name} · {case}\n      {' '.join(text.split())}"
            for suite, verdict in runs
            for case, text in sorted(getattr(verdict, kind).items())
        ]
        if lines:
            print(f"\n{title}", *lines, sep="\n")
    skipped = [
        f"  {suite.name} · {case}: {text}"
        for suite, _ in runs
        for case, text in suite.skipped.items()
    ]
    if skipped:
        print("\nskipped by the suites themselves", *skipped, sep="\n")


if __name__ == "__main__":
    sys.exit(main())
