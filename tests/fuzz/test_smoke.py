"""A few seconds of each fuzzer, and every input that one of them has kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "fuzz"
CORPUS = sorted(FUZZ.glob("corpus/*/*"))


def _run(target: str, *options: str) -> str:
    """Run a fuzzer; what it printed."""
    done = subprocess.run(
        [sys.executable, str(FUZZ / "run.py"), target, "--seed", "1", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("target", ["packets", "mapping"])
def test_corpus(target: str) -> None:
    """Each kept input holds what the fuzzer looks for; so do some thousand like them."""
    assert any(path.parent.name == target for path in CORPUS)
    assert "inputs" in _run(target, "--blind", "--seconds", "2")


@pytest.mark.parametrize("target", ["packets", "mapping"])
def test_guided(target: str) -> None:
    """A few seconds of looking for new paths through the code, where atheris is installed."""
    if not (FUZZ.parent / "build" / "clients" / "python" / "atheris").exists():
        pytest.skip("needs atheris from PyPI: scripts/clients")
    assert "stat::number_of_executed_units" in _run(target, "--seconds", "3")


@pytest.mark.integration
def test_damaged_sessions() -> None:
    """Damaged sessions against a real gateway, which survives them and serves on."""
    assert int(_run("session", "--seconds", "6").split()[1]) > 10
