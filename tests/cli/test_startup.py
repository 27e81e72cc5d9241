"""What ``feedgate --help`` costs: nothing is imported that help does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "apsw",
    "asyncio",
    "asyncssh",
    "boto3",
    "botocore",
    "cfnlint",
    "cryptography",
    "duckdb",
    "_gojsonnet",
    "msgspec",
    "numpy",
    "pyarrow",
    "snowflake",
    "sqlglot",
    "uvloop",
    "yaml",
)

# Runs the entry point in a fresh interpreter and says which of its arguments were imported.
PROBE = """
import sys
from feedgate.cli.main import main
heavy = sys.argv[1].split(",")
try:
    main(sys.argv[2:])
except SystemExit as ended:
    assert not ended.code, ended.code
print("imported:", *sorted(set(heavy) & set(sys.modules)))
"""


def probe(*words: str) -> list[str]:
    """Run a command in an interpreter of its own; the last line it printed, in words."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, ",".join(HEAVY), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("version",)], ids=" ".join)
def test_a_light_command_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    """Help and version import no SSH, no database, no cloud and no warehouse library."""
    assert probe(*words) == ["imported:"]


@pytest.mark.parametrize(
    "command", ["init", "render", "check", "up", "user", "explain", "receipts", "query", "demo"]
)
def test_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    """A command's own help is as light as the table of commands."""
    assert probe(command, "--help") == ["imported:"]


def test_the_probe_sees_what_is_imported() -> None:
    """The probe would name a library if help imported it."""
    done = subprocess.run(
        [sys.executable, "-c", "import asyncssh\n" + PROBE, "asyncssh,duckdb", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "imported: asyncssh"
