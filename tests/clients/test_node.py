"""Node's clients from npm: ssh2 and ssh2-sftp-client."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contract import MIB, ScriptClient, digest, exercise

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
MODULES = HERE.parents[1] / "build" / "clients" / "node_modules"
Start = Callable[..., ScriptClient]


@pytest.fixture
def start(door: Any, need: Callable[[str, str], str]) -> Iterator[Start]:
    """Starts a script with a client; it is ended after the test."""
    node = need("node", "nodejs")
    if not (MODULES / "ssh2-sftp-client").exists():
        pytest.skip("needs ssh2 and ssh2-sftp-client from npm: scripts/clients")
    started: list[ScriptClient] = []

    def run(script: str, *words: str) -> ScriptClient:
        command = [node, str(HERE / script), str(door.port), door.user, str(door.key), *words]
        started.append(ScriptClient(command, {"NODE_PATH": str(MODULES)}))
        return started[-1]

    yield run
    for client in started:
        client.close()


@pytest.mark.parametrize("script", ["client.js", "sftp_client.js"])
def test_node(start: Start, tmp_path: Path, root: str, script: str) -> None:
    """Both clients do what every client must, with all odd names."""
    exercise(start(script), tmp_path, root)


@pytest.mark.parametrize("chunk_bytes", [32 * 1024, 255 * 1024])
def test_fast_put_and_get(start: Start, tmp_path: Path, root: str, chunk_bytes: int) -> None:
    """fastPut and fastGet: 64 requests at once, in whatever order, ten times over one name."""
    client = start("client.js", str(chunk_bytes))
    for turn in range(10):
        (tmp_path / "f").write_bytes(os.urandom(2 * MIB + turn))
        client.put(tmp_path / "f", root)
        client.get(root, tmp_path / "back")
        assert digest(tmp_path / "back") == digest(tmp_path / "f")
