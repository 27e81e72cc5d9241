"""One gateway for all clients, one with AWS's oldest algorithms, and what clients need to start."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYTHON_CLIENTS = ROOT / "build" / "clients" / "python"

# the contract is a module beside the tests; client libraries that no lock holds are in build/
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "wire")]
sys.path.append(str(PYTHON_CLIENTS))

from contract import openssh_options  # noqa: E402


def _served(gateway: Any, policy: str | None) -> Iterator[Any]:
    gateway.folder.mkdir(exist_ok=True)
    gateway.init()
    if policy is not None:
        server = gateway.stack / "includes" / "transferserver.libsonnet"
        text, count = re.subn(
            r"SecurityPolicyName: '[^']+'", f"SecurityPolicyName: '{policy}'", server.read_text()
        )
        assert count == 1
        server.write_text(text)
    gateway.start()
    yield gateway
    assert gateway.stop() == 0, gateway.log()
    assert '"level":"error"' not in gateway.log()


@pytest.fixture(scope="session")
def door(gateway_class: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A gateway as `feedgate init` makes it, for all tests of clients."""
    yield from _served(gateway_class(tmp_path_factory.mktemp("clients")), None)


@pytest.fixture(scope="session")
def old_door(gateway_class: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One whose SecurityPolicyName is AWS's oldest, for clients that need it."""
    gateway = gateway_class(tmp_path_factory.mktemp("old-clients"))
    yield from _served(gateway, "TransferSecurityPolicy-2018-11")


@pytest.fixture
def root(request: pytest.FixtureRequest) -> str:
    """A directory of the test's own, not yet made."""
    return "/" + re.sub(r"\W", "-", request.node.name)


@pytest.fixture
def need() -> Callable[[str, str], str]:
    """``need(program, package)``: its path, or the test is skipped and says what to install."""

    def look(program: str, package: str) -> str:
        places = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        found = shutil.which(program, path=places)
        if found is None:
            pytest.skip(f"needs {program}: apt-get install {package}")
        return found

    return look


@pytest.fixture
def ssh_options(door: Any) -> list[str]:
    """OpenSSH's options for the gateway."""
    return openssh_options(door)


@pytest.fixture
def rsa_key(door: Any, tmp_path: Path) -> Iterator[Path]:
    """An RSA key of the user, in PEM, for clients that know no other; taken away afterwards."""
    yield from _rsa_key(door, tmp_path)


@pytest.fixture
def old_rsa_key(old_door: Any, tmp_path: Path) -> Iterator[Path]:
    """The same at the gateway with old algorithms."""
    yield from _rsa_key(old_door, tmp_path)


def _rsa_key(gateway: Any, folder: Path) -> Iterator[Path]:
    key = folder / "rsa"
    words = ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", str(key)]
    subprocess.run(words, check=True)
    public = f"{key}.pub"
    added = gateway.feedgate("user", "key", "add", gateway.user, public)
    assert added.returncode == 0, added.stderr
    shown = subprocess.run(
        ["ssh-keygen", "-lf", public], check=True, capture_output=True, text=True
    )
    yield key
    removed = gateway.feedgate("user", "key", "remove", gateway.user, shown.stdout.split()[1])
    assert removed.returncode == 0, removed.stderr
