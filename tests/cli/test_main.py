"""The command table and the exit codes."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import click
import pytest

from feedgate.cli.main import COMMANDS, expand_overrides


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_row_has_its_command(name: str) -> None:
    """Each row of the table names a command that exists and has help of its own."""
    row = COMMANDS[name]
    command = getattr(importlib.import_module(f"feedgate.cli.{row.module}"), row.attribute)
    assert isinstance(command, click.Command)
    assert command.help


def test_overrides_as_the_aws_cli_takes_them() -> None:
    """Several values after one ``--parameter-overrides``; what is no pair ends the list."""
    words = ["up", "--parameter-overrides", "A=1", "file://p.json", "B=x=y", "stack", "--yes"]
    assert expand_overrides(words) == [
        "up",
        "--parameter-overrides",
        "A=1",
        "--parameter-overrides",
        "file://p.json",
        "--parameter-overrides",
        "B=x=y",
        "stack",
        "--yes",
    ]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a process."""
    return subprocess.run(
        [sys.executable, "-m", "feedgate", *words], capture_output=True, text=True, check=False
    )


def test_usage_is_2() -> None:
    """An unknown command or option is the caller's mistake."""
    assert run("nonsense").returncode == 2
    assert run("status", "--nonsense").returncode == 2


def test_not_running_is_4(tmp_path: object) -> None:
    """A command that needs a gateway says so, with the next step, and in JSON on request."""
    plain = run("receipts", "--data", str(tmp_path))
    assert plain.returncode == 4
    assert "feedgate up" in plain.stderr
    as_json = run("receipts", "--data", str(tmp_path), "--json")
    assert as_json.returncode == 4
    assert "feedgate up" in json.loads(as_json.stderr)["error"]["hint"]
    assert as_json.stdout == ""
