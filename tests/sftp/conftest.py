"""A door on 127.0.0.1, its event loop in a thread of this process, home directories in memory."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

# the double and the raw client are modules beside the tests, not tests
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "wire")]

from memory_home import MemoryHome, MemoryStore  # noqa: E402
from raw_client import RawTransport  # noqa: E402

from feedgate.files.home import SessionContext  # noqa: E402
from feedgate.gateway.lifecycle import Credentials  # noqa: E402
from feedgate.identity.users import GatewayUser, parse_public_key  # noqa: E402
from feedgate.sftp.hostkeys import ensure_host_keys, load_host_keys  # noqa: E402
from feedgate.sftp.server import SftpDoor  # noqa: E402
from feedgate.stack.resources import User  # noqa: E402
from feedgate.telemetry import EventLog  # noqa: E402

T = TypeVar("T")
ROLE = "arn:aws:iam::000000000000:role/transfer"
SERVER = "arn:aws:transfer:us-east-1:000000000000:server/s-0123456789abcdef0"


class MemoryLogin:
    """Form of ``server.Login``: users and their files in memory."""

    def __init__(self) -> None:
        self.users: dict[str, GatewayUser] = {}
        self.store = MemoryStore()
        self.fault: Exception | None = None
        self.uses: list[tuple[str, str]] = []

    def add(self, user_name: str, *public_keys: str) -> None:
        user = User(
            logical_id=user_name,
            user_name=user_name,
            arn=f"arn:aws:transfer:us-east-1:000000000000:user/s-0123456789abcdef0/{user_name}",
            role_arn=ROLE,
            home_directory_type="LOGICAL",
        )
        keys = tuple(map(parse_public_key, public_keys))
        self.users[user_name] = GatewayUser(user, True, "live", keys)

    def disable(self, user_name: str) -> None:
        self.users[user_name] = replace(self.users[user_name], enabled=False)

    def user(self, user_name: str) -> GatewayUser | None:
        return self.users.get(user_name)

    def open_home(self, context: SessionContext) -> MemoryHome:
        if self.fault is not None:
            raise self.fault
        return MemoryHome(self.store, context)

    def still_valid(self, credentials: Credentials) -> bool:
        user = self.users.get(credentials.user_name)
        keys = user.ssh_public_keys if user is not None and user.enabled else ()
        return any(key.fingerprint == credentials.fingerprint for key in keys)

    def used(self, user_name: str, fingerprint: str) -> None:
        self.uses.append((user_name, fingerprint))

    def takes_passwords(self) -> bool:
        return any(user.password is not None for user in self.users.values())


class LogLines:
    """A stream that keeps what is written, as JSON."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, text: str) -> int:
        self.lines += map(json.loads, text.splitlines())
        return len(text)

    def flush(self) -> None:
        """Nothing to do."""


class RunningDoor:
    """A door that serves, and what a test does with it."""

    user = "jeffrey_aven"

    def __init__(self, folder: Path, keys: Path, loop_factory: Callable[[], Any]) -> None:
        self.folder = folder
        self.key = keys / "user"
        self.other_key = keys / "other"
        self.login = MemoryLogin()
        self.login.add(self.user, self.key.with_suffix(".pub").read_text())
        self.log = LogLines()
        self.seen: list[dict[str, Any]] = []
        self._host_keys = load_host_keys(keys)
        self._loop = loop_factory()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self.door: SftpDoor
        self._accepting: asyncio.Task[None] | None = None

    @property
    def store(self) -> MemoryStore:
        return self.login.store

    def start(self, **options: Any) -> None:
        """Make and start the door; ``options`` are its arguments."""
        options.setdefault("security_policy_name", "TransferSecurityPolicy-2024-01")
        options.setdefault("host_keys", self._host_keys)
        self.call(self._start(options))

    async def _start(self, options: dict[str, Any]) -> None:
        self.door = SftpDoor(
            login=self.login,
            log=EventLog(self.log, now=time.time),
            server_arn=SERVER,
            on_event=self.seen.append,
            **options,
        )
        await self.door.start()
        self._accepting = asyncio.create_task(self._accept())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _address = await loop.sock_accept(self._listener)
            self.door.connect(connection)

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float = 20) -> T:
        """Run a coroutine on the door's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)

    def on_loop(self, function: Callable[[], T]) -> T:
        """Call a function on the door's loop."""

        async def run() -> T:
            return function()

        return self.call(run())

    def stop(self) -> None:
        """End everything, and show what the loop complained about."""
        self.call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._listener.close()

    async def _stop(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
        if hasattr(self, "door"):
            await self.door.drain(0)

    # -- what happened ------------------------------------------------------------------------

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The log's activities of one type."""
        return [line for line in list(self.log.lines) if line.get("activity-type") == kind]

    @property
    def errors(self) -> list[dict[str, Any]]:
        """Log lines that tell of our own faults."""
        return [line for line in list(self.log.lines) if line.get("level") == "error"]

    def wait_for(self, condition: Callable[[], Any], timeout_s: float = 10) -> None:
        """Poll until the condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.log.lines[-5:]
            time.sleep(0.005)

    # -- clients ------------------------------------------------------------------------------

    def raw(self, key: Path | None = None, user: str | None = None, **options: Any) -> RawTransport:
        """An authenticated connection."""
        port = options.pop("port", self.port)
        return RawTransport(port, user or self.user, key or self.key, **options)

    def ssh_words(self, program: str, key: Path | None = None) -> list[str]:
        """OpenSSH's client with nothing of this machine's configuration."""
        path = shutil.which(program)
        if path is None:
            pytest.skip("needs OpenSSH's client: apt-get install openssh-client")
        words = [path, "-F", "/dev/null", "-i", str(key or self.key)]
        for option in (
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=no",
            f"UserKnownHostsFile={self.folder / 'known_hosts'}",
            "LogLevel=ERROR",
            f"Port={self.port}",
            "BatchMode=yes",
        ):
            words += ["-o", option]
        return words

    def sftp(
        self, *commands: str, options: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a batch with OpenSSH's client."""
        return subprocess.run(
            [*self.ssh_words("sftp"), *options, "-b", "-", f"{self.user}@127.0.0.1"],
            cwd=self.folder,
            input="\n".join(commands) + "\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )

    def ssh(self, *words: str, key: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run OpenSSH's ssh with more words."""
        return subprocess.run(
            [*self.ssh_words("ssh", key), f"{self.user}@127.0.0.1", *words],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )


@pytest.fixture(scope="session")
def ssh_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Host keys, and two users' keys, made once for all tests."""
    folder = tmp_path_factory.mktemp("keys")
    ensure_host_keys(folder)
    for name, kind in (("user", "ed25519"), ("other", "ed25519"), ("rsa", "rsa")):
        command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    return folder


@pytest.fixture(scope="session")
def door_class() -> type[RunningDoor]:
    """For fixtures of a wider scope than ``make_door``."""
    return RunningDoor


@pytest.fixture
def make_door(tmp_path: Path, ssh_keys: Path) -> Iterator[Callable[..., RunningDoor]]:
    """Makes doors that are stopped after the test."""
    made: list[RunningDoor] = []

    def make(loop: str = "uvloop", **options: Any) -> RunningDoor:
        factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
        running = RunningDoor(tmp_path, ssh_keys, factory)
        made.append(running)
        running.start(**options)
        return running

    yield make
    for running in made:
        running.stop()


@pytest.fixture
def door(make_door: Callable[..., RunningDoor]) -> RunningDoor:
    """A door with its defaults, on the loop that workers use."""
    return make_door()
