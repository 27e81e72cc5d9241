"""The command table and the exit codes."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import click
import pytest

from feedgate.cli.main import COMMANDS, expand_overrides, main


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_row_has_its_command(name: str) -> None:
    """Each row of the table names a command that exists and has help of its own."""
    row = COMMANDS[name]
    command = getattr(importlib.import_module(f"feedgate.cli.{row.module}"), row.attribute)
    assert isinstance(command, click.Command)
    assert command.help


def leaves(name: str, command: click.Command) -> list[tuple[str, click.Command]]:
    """A command, or those of a group, with the words that name it."""
    if not isinstance(command, click.Group):
        return [(name, command)]
    return [
        found for sub, each in command.commands.items() for found in leaves(f"{name} {sub}", each)
    ]


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"version"}))
def test_help_shows_how_a_command_is_typed(name: str) -> None:
    """Each command's help has an example that begins with the command itself."""
    row = COMMANDS[name]
    command = getattr(importlib.import_module(f"feedgate.cli.{row.module}"), row.attribute)
    for words, leaf in leaves(name, command):
        assert f"feedgate {words}" in (leaf.help or ""), words


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


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("statis", "there is no command `statis`", "did you mean `status`?"),
        ("user ad", "there is no command `ad`", "`feedgate user --help`"),
        ("status --jso", "there is no option `--jso`", "did you mean `--json`?"),
        ("-q status", "there is no option `-q` before a command", "`feedgate COMMAND -q`"),
        ("query", "missing argument `SQL`", "`feedgate query --help`"),
        ("ls --data", "option `--data` requires an argument", "`feedgate ls --help`"),
        ("receipts -n 0", "invalid value for `-n` / `--limit`: 0", "`feedgate receipts --help`"),
        ("down now", "got unexpected extra argument", "`feedgate down --help`"),
    ],
)
def test_wrong_words_are_told_as_every_error(
    capsys: pytest.CaptureFixture[str], words: str, message: str, hint: str
) -> None:
    """Exit 2, what is wrong and the next step on stderr; the same as JSON where that is asked."""
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    told, step = capsys.readouterr().err.splitlines()
    assert told.startswith(f"feedgate: {message}")
    assert step.startswith("  next: ")
    assert hint in step
    with pytest.raises(SystemExit) as ended:
        main(["status", "--json", *words.split()])
    assert ended.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert json.loads(output.err)["error"].keys() == {"message", "source", "hint", "findings"}


def test_a_group_alone_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`feedgate` and `feedgate user` show what there is, as usage on stderr."""
    for words in ([], ["user"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert "Usage: feedgate" in capsys.readouterr().err


def test_not_running_is_4(tmp_path: object) -> None:
    """A command that needs a gateway says so, with the next step, and in JSON on request."""
    plain = run("receipts", "--data", str(tmp_path))
    assert plain.returncode == 4
    assert "feedgate up" in plain.stderr
    as_json = run("receipts", "--data", str(tmp_path), "--json")
    assert as_json.returncode == 4
    assert "feedgate up" in json.loads(as_json.stderr)["error"]["hint"]
    assert as_json.stdout == ""
