"""What every client must be able to do here, whatever it is written in."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any, Protocol

# spaces, quotes, shell's and sftp's special characters, UTF-8 in and beyond the BMP
ODD_NAMES = (
    "with space.csv",
    "quote'and\"quote.csv",
    "ünïcødé-日本-🦆.csv",
    "semi;colon&and$dollar.csv",
    "[bracket]*star?.csv",
    "back\\slash.csv",
    "-dash.csv",
)
MIB = 1024 * 1024


class Client(Protocol):
    """A client as a test drives it. Each method raises if the client says that it failed."""

    def put(self, local: Path, remote: str) -> None: ...
    def get(self, remote: str, local: Path) -> None: ...
    def ls(self, directory: str) -> list[str]: ...
    def rename(self, old: str, new: str) -> None: ...
    def mkdir(self, directory: str) -> None: ...
    def rmdir(self, directory: str) -> None: ...
    def rm(self, remote: str) -> None: ...


class ClientFailed(Exception):
    """The client reported a failure; the text is its own."""


def exercise(client: Client, folder: Path, root: str, names: tuple[str, ...] = ODD_NAMES) -> None:
    """Connect, mkdir, put, ls, get, compare, rename, rm, rmdir; with 1 MiB, 0 bytes, odd names."""
    contents = {"big.bin": os.urandom(MIB), "empty.csv": b""}
    contents |= {name: name.encode() * 9 for name in names}
    client.mkdir(root)
    source, back = folder / "source", folder / "back"
    source.mkdir()
    back.mkdir()
    for name, content in contents.items():
        (source / name).write_bytes(content)
        client.put(source / name, f"{root}/{name}")
    assert sorted(client.ls(root)) == sorted(contents)
    for name, content in contents.items():
        client.get(f"{root}/{name}", back / name)
        assert (back / name).read_bytes() == content, name

    client.put(source / "empty.csv", f"{root}/big.bin")  # over an existing file, shorter
    client.put(source / "big.bin", f"{root}/big.bin")  # and longer again
    client.mkdir(f"{root}/sub dir")
    client.rename(f"{root}/big.bin", f"{root}/sub dir/renamed.bin")
    assert sorted(client.ls(root)) == sorted({*contents, "sub dir"} - {"big.bin"})
    client.get(f"{root}/sub dir/renamed.bin", back / "renamed.bin")
    assert digest(back / "renamed.bin") == digest(source / "big.bin")

    client.rm(f"{root}/sub dir/renamed.bin")
    client.rmdir(f"{root}/sub dir")
    for name in contents.keys() - {"big.bin"}:
        client.rm(f"{root}/{name}")
    assert client.ls(root) == []
    client.rmdir(root)


def digest(path: Path) -> str:
    """SHA-256 of a file, so that a difference is one short line."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def openssh_options(gateway: Any) -> list[str]:
    """OpenSSH's options for a gateway, with nothing of this machine's configuration."""
    words = ["-F", "/dev/null"]
    for option in (
        f"IdentityFile={gateway.key}",
        f"Port={gateway.port}",
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "BatchMode=yes",
    ):
        words += ["-o", option]
    return words


class ScriptClient:
    """A client in another language: a script that reads one JSON list a line and answers in JSON.

    A line is ``[operation, argument…]``; the answer ``{"ok": value}`` or ``{"error": text}``.
    """

    def __init__(self, words: list[str], environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, **(environment or {})},
        )

    def ask(self, operation: str, *arguments: str) -> object:
        """One operation and its answer."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            process.stdin.write(json.dumps([operation, *arguments]) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise ClientFailed(process.stderr.read()) from None
        line = process.stdout.readline()
        if not line:
            raise ClientFailed(f"it ended with {process.wait(10)}: {process.stderr.read()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ClientFailed(f"{operation}{arguments}: {answer['error']}")
        return answer["ok"]

    def put(self, local: Path, remote: str) -> None:
        self.ask("put", str(local), remote)

    def get(self, remote: str, local: Path) -> None:
        self.ask("get", remote, str(local))

    def ls(self, directory: str) -> list[str]:
        names = self.ask("ls", directory)
        assert isinstance(names, list)
        return [name for name in names if name not in (".", "..")]

    def rename(self, old: str, new: str) -> None:
        self.ask("rename", old, new)

    def mkdir(self, directory: str) -> None:
        self.ask("mkdir", directory)

    def rmdir(self, directory: str) -> None:
        self.ask("rmdir", directory)

    def rm(self, remote: str) -> None:
        self.ask("rm", remote)

    def close(self) -> None:
        """End the script by ending its input."""
        process = self._process
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
        process.communicate(timeout=20)
        assert process.returncode == 0
