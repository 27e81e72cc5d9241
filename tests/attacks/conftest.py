"""One real gateway for all attacks; after each it is looked at and a good client must be served."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

# the raw client is a module beside the tests, not a test
sys.path[:0] = [str(Path(__file__).parent.parent / "wire")]

from raw_client import RawSftp, RawTransport  # noqa: E402

GROWTH_MIB_MAX = 160  # of a worker's resident set while one attack runs; a good put takes 40


class Target:
    """The gateway under attack."""

    def __init__(self, gateway: Any) -> None:
        self.gateway = gateway
        self.port: int = gateway.port
        self.user: str = gateway.user
        self.key: Path = gateway.key
        self._open: list[RawTransport] = []
        self._log_read = 0

    # -- connections --------------------------------------------------------------------------

    def connect(self, **options: Any) -> RawTransport:
        """An authenticated connection, ended after the test."""
        made = RawTransport(self.port, self.user, self.key, **options)
        self._open.append(made)
        return made

    def sftp(self) -> RawSftp:
        """A session on a connection of its own."""
        session = self.connect().sftp()
        session.init()
        return session

    def end_all(self) -> None:
        """Reset what the test left open."""
        left, self._open = self._open, []
        for transport in left:
            with suppress(OSError):  # the gateway, or the test, closed it already
                transport.kill()
            transport.close()

    # -- what is looked at ----------------------------------------------------------------------

    @property
    def worker(self) -> int:
        """The pid of the process that parses what attackers send."""
        return int(self.gateway.children()["worker"])

    def memory_mib(self, field: str) -> int:
        """``VmRSS`` or ``VmHWM`` of the worker."""
        for line in Path(f"/proc/{self.worker}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) // 1024
        raise AssertionError(field)

    def forget_peak(self) -> None:
        """Let ``VmHWM`` begin anew (proc(5), clear_refs)."""
        Path(f"/proc/{self.worker}/clear_refs").write_text("5")

    def new_log(self) -> str:
        """What was logged since the last look."""
        log = self.gateway.log()
        new, self._log_read = log[self._log_read :], len(log)
        return str(new)

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 20) -> None:
        """Poll until the condition holds."""
        self.gateway.wait_for(condition, timeout_s)

    def serve_a_good_client(self) -> None:
        """A put and a get by a client that means well."""
        content = os.urandom(100_000)
        with_sftp = RawTransport(self.port, self.user, self.key)
        session = with_sftp.sftp()
        session.init()
        handle = session.open_write(b"/good.bin")
        for offset in range(0, len(content), 32_000):
            assert session.write(handle, offset, content[offset : offset + 32_000])[0] == 0
        assert session.close_handle(handle)[0] == 0
        handle, back = session.open_read(b"/good.bin"), b""
        while (reply := session.request(5, handle, _u64(len(back)), _u32(200_000))).type == 103:
            back += reply.body[4:]
        with_sftp.close()
        assert hashlib.sha256(back).digest() == hashlib.sha256(content).digest()


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


@pytest.fixture(scope="session")
def attacked(gateway_class: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The gateway, started once; in the end it must still be able to stop by itself."""
    gateway = gateway_class(tmp_path_factory.mktemp("attacked"))
    gateway.init()
    gateway.start("--workers", "1")
    yield Target(gateway)
    assert gateway.stop() == 0, gateway.log()[-3000:]


@pytest.fixture
def target(attacked: Target) -> Iterator[Target]:
    """The gateway, and afterwards: same worker, bounded memory, no fault of ours, good service."""
    worker = attacked.worker
    attacked.new_log()
    before = attacked.memory_mib("VmRSS")
    attacked.forget_peak()
    yield attacked
    peak = attacked.memory_mib("VmHWM")
    attacked.end_all()
    attacked.serve_a_good_client()
    assert attacked.worker == worker, "the worker died"
    assert peak - before <= GROWTH_MIB_MAX, f"the worker grew from {before} to {peak} MiB"
    log = attacked.new_log()
    assert '"level":"error"' not in log, log[-3000:]
    assert "Traceback" not in log, log[-3000:]
