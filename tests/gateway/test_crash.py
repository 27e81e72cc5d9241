"""The kill switch of the crash tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from feedgate.gateway.crash import crash_switch, never


@pytest.mark.parametrize(
    ("marker", "listeners", "variable"),
    [
        pytest.param(False, ["127.0.0.1"], "load-claimed", id="no test marker"),
        pytest.param(True, ["0.0.0.0"], "load-claimed", id="a public listener"),
        pytest.param(True, ["127.0.0.1", "::"], "load-claimed", id="one of two is public"),
        pytest.param(True, ["sftp.example.com"], "load-claimed", id="a name that may be public"),
        pytest.param(True, ["127.0.0.1"], None, id="no variable"),
    ],
)
def test_inert(tmp_path: Path, marker: bool, listeners: list[str], variable: str | None) -> None:
    """The switch is inert unless every listener is loopback and the folder is marked."""
    path = tmp_path / ".feedgate-test"
    if marker:
        path.touch()
    assert crash_switch(path, listeners, variable) is never


def test_kills_at_the_named_passage(tmp_path: Path) -> None:
    """With both conditions the process dies by SIGKILL at the N-th passage, not before."""
    marker = tmp_path / ".feedgate-test"
    marker.touch()
    script = f"""
from pathlib import Path
from feedgate.gateway.crash import crash_switch
crash_at = crash_switch(Path({str(marker)!r}), ["127.0.0.1", "::1", "localhost"], "here:2")
crash_at("elsewhere"); crash_at("here"); print("alive", flush=True); crash_at("here"); print("no")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == "alive\n"
