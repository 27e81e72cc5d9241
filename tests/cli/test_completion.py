"""Completion: what the shell is offered while a command is typed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A PATH on which `feedgate` is this checkout's."""
    program = tmp_path / "feedgate"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m feedgate "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}


def offered(shell: str, words: str, environment: dict[str, str]) -> set[str]:
    """What completion offers for the last of the words, as the shell's own script asks."""
    *before, last = words.split()
    done = subprocess.run(
        ["feedgate"],
        env={
            **environment,
            "_FEEDGATE_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": last if shell == "fish" else str(len(before)),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return {
        field for line in done.stdout.splitlines() for field in line.replace("\t", ",").split(",")
    }


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("feedgate sta", "status"),
        ("feedgate user ke", "key"),
        ("feedgate receipts --st", "--status"),
        ("feedgate receipts --status LOAD_", "LOAD_FAILED"),
    ],
)
def test_commands_options_and_values_are_offered(
    shell: str, words: str, expected: str, environment: dict[str, str]
) -> None:
    """Each of the three shells is offered commands, subcommands, options and their values."""
    assert expected in offered(shell, words, environment)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_valid(shell: str, environment: dict[str, str]) -> None:
    """What `--help` says to evaluate names the function of the shell, which accepts the script."""
    source = subprocess.run(
        ["feedgate"],
        env={**environment, "_FEEDGATE_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "_feedgate_completion" in source
    if program := shutil.which(shell):
        subprocess.run([program, "-n", "-c", source], env=environment, check=True)


def test_bash_completes_as_help_says(environment: dict[str, str]) -> None:
    """The line of `--help`, evaluated by bash, makes bash complete a command."""
    help_text = subprocess.run(
        ["feedgate", "--help"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    [line] = [line for line in help_text.splitlines() if "bash_source" in line]
    statement = line[line.index("eval ") : line.index(')"') + 2]
    script = (
        f"{statement}\nCOMP_WORDS=(feedgate rec); COMP_CWORD=1; COMP_LINE='feedgate rec'\n"
        "complete -p feedgate >/dev/null || exit 9\n"
        '_feedgate_completion feedgate rec feedgate; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["receipts", "receipt"]
