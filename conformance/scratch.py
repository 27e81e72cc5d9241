"""A scratch gateway for suites: `feedgate up` on the stack that `feedgate init` writes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from results import Missing

__all__ = ["ROOT", "downloads", "program", "scratch_gateway", "ssh_options"]

ROOT = Path(__file__).parents[1]


def _gateway_class() -> Any:
    """The class behind the tests' fixture, so that suites and tests start the same gateway."""
    spec = importlib.util.spec_from_file_location("feedgate_tests", ROOT / "tests" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.RunningGateway


@contextmanager
def scratch_gateway(folder: Path) -> Iterator[Any]:
    """A gateway whose door is open; it is stopped, and its exit code looked at, in the end."""
    gateway = _gateway_class()(folder)
    gateway.init()
    gateway.start()
    try:
        yield gateway
    finally:
        code = gateway.stop()
    if code:
        raise SystemExit(f"the gateway ended with {code}:\n{gateway.log()[-2000:]}")


def downloads() -> Path:
    """Where packages that hold suites are kept between runs."""
    folder = ROOT / "build" / "conformance"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def program(name: str, package: str) -> str:
    """The path of a program, beside this Python or on the system."""
    places = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    found = shutil.which(name, path=places)
    if found is None:
        raise Missing(f"`{name}` is not here: install {package}")
    return found


def ssh_options(gateway: Any) -> list[str]:
    """OpenSSH's options for the gateway, with nothing of this machine's configuration."""
    words = ["-F", "/dev/null"]
    for option in (
        f"IdentityFile={gateway.key}",
        f"Port={gateway.port}",
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
    ):
        words += ["-o", option]
    return words
