"""Host keys: made once, 0600, kept; imported, announced, rotated with an overlap."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import paramiko
import pytest
from paramiko.common import cMSG_GLOBAL_REQUEST

from feedgate.errors import Conflict, CouldNot, NotFound, UsageError
from feedgate.limits import HOST_KEY_PROOFS_MAX, HOST_KEY_RSA_BITS, HOST_KEYS_MAX
from feedgate.sftp.hostkeys import (
    HostKeyFolder,
    HostKeyWatch,
    ensure_host_keys,
    host_key_fingerprints,
    load_host_keys,
)
from feedgate.sftp.keyfiles import KeyFileError, identify, make_private_key, normalise

DAY_MS = 86_400_000
NAMES = ("ssh_host_ed25519_key", "ssh_host_rsa_key")


@pytest.fixture
def folder(tmp_path: Path, ssh_keys: Path) -> HostKeyFolder:
    """A folder with an Ed25519 and an RSA key, both of time 1,000."""
    made = HostKeyFolder(tmp_path / "hostkeys")
    made.path.mkdir()
    for name in NAMES:
        shutil.copy2(ssh_keys / name, made.path / name)
    entries = [{"file": name, "imported_at_ms": 1_000} for name in NAMES]
    (made.path / "hostkeys.json").write_text(json.dumps({"version": 1, "host_keys": entries}))
    return made


def states(folder: HostKeyFolder, now_ms: int) -> list[tuple[str, str]]:
    """Type and state of each key in use."""
    return [(key.word, key.state) for key in folder.keys(now_ms)]


def test_made_once(tmp_path: Path) -> None:
    """The second start finds what the first made; nobody else may read it."""
    folder = tmp_path / "hostkeys"
    assert ensure_host_keys(folder)
    keys = load_host_keys(folder)
    assert not ensure_host_keys(folder)
    assert load_host_keys(folder) == keys
    files = sorted(path.name for path in folder.iterdir())
    assert files == [".lock", "hostkeys.json", *NAMES]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    types = [asyncssh.import_private_key(key).get_algorithm() for key in keys]
    assert types == ["ssh-ed25519", "ssh-rsa"]


def test_fingerprints_are_openssh_s(ssh_keys: Path) -> None:
    """``ssh-keygen -l`` prints the same fingerprint and size."""
    keys = HostKeyFolder(ssh_keys).keys(0)
    for key in keys:
        printed = subprocess.run(
            ["ssh-keygen", "-lf", ssh_keys / key.file], check=True, capture_output=True, text=True
        ).stdout.split()
        assert [str(key.bits), key.fingerprint] == printed[:2]
    assert [key.bits for key in keys] == [256, HOST_KEY_RSA_BITS]
    assert [key.fingerprint for key in keys] == host_key_fingerprints(ssh_keys)
    assert "PRIVATE" not in repr(keys)


def test_a_bad_key_is_not_replaced(folder: HostKeyFolder) -> None:
    """Damaged, missing or readable by others: said, and left alone."""
    path = folder.path / "ssh_host_rsa_key"
    good = path.read_bytes()
    for damaged in (b"", b"hello", good[:200], good.replace(b"b3Blbn", b"AAAAAA")):
        path.write_bytes(damaged)
        ensure_host_keys(folder.path)
        with pytest.raises(CouldNot, match="damaged"):
            load_host_keys(folder.path)
        assert path.read_bytes() == damaged
    path.write_bytes(good)
    path.chmod(0o640)
    with pytest.raises(CouldNot, match="read by others"):
        load_host_keys(folder.path)
    path.unlink()
    ensure_host_keys(folder.path)
    with pytest.raises(CouldNot, match="cannot read"):
        host_key_fingerprints(folder.path)
    folder.remove_file("ssh_host_rsa_key")
    assert states(folder, 2_000) == [("ed25519", "ACTIVE")]


def test_keys_without_a_list_are_taken_as_they_are(folder: HostKeyFolder) -> None:
    """An older feedgate's folder, or one filled by hand from an OpenSSH server."""
    before = host_key_fingerprints(folder.path)
    (folder.path / "hostkeys.json").unlink()
    (folder.path / "ssh_host_rsa_key.pub").write_text("not a private key")
    assert host_key_fingerprints(folder.path) == before
    assert not ensure_host_keys(folder.path)
    assert host_key_fingerprints(folder.path) == before
    assert (folder.path / "hostkeys.json").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"version": 1}',
        '{"version": 1, "host_keys": [{"file": "../../etc/passwd", "imported_at_ms": 1}]}',
        '{"version": 1, "host_keys": [{"file": "k", "imported_at_ms": "soon"}]}',
    ],
)
def test_a_damaged_list_is_told(folder: HostKeyFolder, text: str) -> None:
    """No key is used or made while it is unknown which ones count."""
    (folder.path / "hostkeys.json").write_text(text)
    with pytest.raises(CouldNot, match="damaged"):
        load_host_keys(folder.path)
    with pytest.raises(CouldNot, match="damaged"):
        ensure_host_keys(folder.path)


def test_a_list_of_a_later_version_is_refused(folder: HostKeyFolder) -> None:
    """By its number."""
    (folder.path / "hostkeys.json").write_text('{"version": 7, "host_keys": []}')
    with pytest.raises(CouldNot, match="version 7"):
        folder.keys(0)


# -- rotation -------------------------------------------------------------------------------------


def test_rotation_overlaps(folder: HostKeyFolder) -> None:
    """The old key signs until its day, the new one is announced meanwhile, then takes over."""
    old = folder.keys(0)[0]
    (new,) = folder.rotate("ed25519", 30 * DAY_MS, 2_000)
    end = 2_000 + 30 * DAY_MS
    assert new.fingerprint != old.fingerprint
    assert states(folder, 2_000) == [
        ("ed25519", "ACTIVE"),
        ("ed25519", "ANNOUNCED"),
        ("rsa", "ACTIVE"),
    ]
    assert [key.fingerprint for key in folder.keys(end - 1)][:2] == [
        old.fingerprint,
        new.fingerprint,
    ]
    assert folder.keys(end - 1)[0].retires_at_ms == end
    assert states(folder, end) == [("ed25519", "ACTIVE"), ("rsa", "ACTIVE")]
    assert folder.keys(end)[0].fingerprint == new.fingerprint
    assert (folder.path / old.file).exists()
    folder.forget_retired(end)
    assert not (folder.path / old.file).exists()
    assert stat.S_IMODE((folder.path / new.file).stat().st_mode) == 0o600


def test_a_rotation_is_not_begun_twice(folder: HostKeyFolder) -> None:
    """The key that clients are learning now is not overtaken; the hint ends the overlap."""
    old = folder.keys(0)[0]
    (new,) = folder.rotate("ed25519", DAY_MS, 2_000)
    with pytest.raises(Conflict) as raised:
        folder.rotate(None, DAY_MS, 3_000)
    assert old.host_key_id in str(raised.value.hint)
    folder.remove(old.host_key_id, 3_000)
    assert folder.keys(3_000)[0].host_key_id == new.host_key_id
    assert folder.keys(3_000)[0].state == "ACTIVE"


def test_rotation_without_overlap(folder: HostKeyFolder) -> None:
    """For a stolen key: the old one is gone at once, all types where none is named."""
    old = {key.fingerprint for key in folder.keys(0)}
    made = folder.rotate(None, 0, 2_000)
    assert [key.word for key in made] == ["ed25519", "rsa"]
    assert states(folder, 2_000) == [("ed25519", "ACTIVE"), ("rsa", "ACTIVE")]
    assert not old & {key.fingerprint for key in folder.keys(2_000)}
    assert len(list(folder.path.glob("ssh_host_*"))) == 2


def test_a_type_that_is_not_there(folder: HostKeyFolder) -> None:
    """Rotation makes no key of a type that clients do not know; the hint says how to."""
    with pytest.raises(NotFound) as raised:
        folder.rotate("ecdsa", DAY_MS, 2_000)
    assert "ssh-keygen" in str(raised.value.hint)


def test_watch_tells_of_changes_once(folder: HostKeyFolder) -> None:
    """A change by another process, and the hour at which a key retires."""
    clock = [2.0]
    watch = HostKeyWatch(folder.path, now=lambda: clock[0])
    assert len(watch.changed() or ()) == 2
    assert watch.changed() is None
    folder.rotate("ed25519", DAY_MS, 2_000)
    assert len(watch.private_keys() or ()) == 3
    assert watch.private_keys() is None
    clock[0] += DAY_MS / 1000
    assert len(watch.changed() or ()) == 2
    assert watch.changed() is None


def test_watch_tells_of_a_fault_until_it_is_mended(folder: HostKeyFolder) -> None:
    """The reader keeps what it has, and gets the keys afterwards."""
    watch = HostKeyWatch(folder.path)
    watch.changed()
    (folder.path / "hostkeys.json").write_text("{")
    for _ in range(2):
        with pytest.raises(CouldNot, match="damaged"):
            watch.changed()
    (folder.path / "hostkeys.json").unlink()
    assert len(watch.changed() or ()) == 2


# -- import ---------------------------------------------------------------------------------------


def keygen(path: Path, *words: str) -> bytes:
    """A private key by ssh-keygen."""
    subprocess.run(["ssh-keygen", "-q", "-f", path, *words], check=True)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("words", "key_type"),
    [
        (("-t", "ed25519"), "ssh-ed25519"),
        (("-t", "ecdsa", "-b", "384"), "ecdsa-sha2-nistp384"),
        (("-t", "ecdsa", "-m", "PEM"), "ecdsa-sha2-nistp256"),
        (("-t", "rsa", "-b", "2048", "-m", "PEM"), "ssh-rsa"),
        (("-t", "rsa", "-b", "2048", "-m", "PKCS8"), "ssh-rsa"),
    ],
)
def test_import(tmp_path: Path, folder: HostKeyFolder, words: Any, key_type: str) -> None:
    """What OpenSSH writes is taken in, and is the same key afterwards."""
    private = normalise(keygen(tmp_path / "k", "-N", "", *words))
    public = (tmp_path / "k.pub").read_text().split()
    added = folder.add(private, 2_000, description="moved here")
    assert [added.type, added.public_key] == [key_type, " ".join(public[:2])]
    assert added.description == "moved here"
    assert added.state == ("ACTIVE" if added.word == "ecdsa" else "ANNOUNCED")
    with pytest.raises(Conflict, match="already"):
        folder.add(private, 3_000)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("-t", "ed25519", "-N", "secret word"), "passphrase"),
        (("-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "secret word"), "passphrase"),
        (("-t", "rsa", "-b", "1024", "-N", ""), "1024 bits is too short"),
    ],
)
def test_refused_at_import(tmp_path: Path, words: Any, reason: str) -> None:
    """A key that a gateway cannot use or should not."""
    with pytest.raises(KeyFileError, match=reason):
        normalise(keygen(tmp_path / "k", *words))


def test_no_private_key_at_import(tmp_path: Path) -> None:
    """A public key, an empty file, a certificate: none is quoted."""
    keygen(tmp_path / "k", "-t", "ed25519", "-N", "")
    for content in (b"", (tmp_path / "k.pub").read_bytes(), (tmp_path / "k").read_bytes()[:150]):
        with pytest.raises(KeyFileError, match="no private key"):
            normalise(content)


def test_remove_and_find(folder: HostKeyFolder) -> None:
    """By id, fingerprint or its beginning; the last key stays."""
    ed25519, rsa = folder.keys(0)
    assert folder.find(rsa.fingerprint, 0) == rsa
    assert folder.find(rsa.fingerprint[:20], 0) == rsa
    with pytest.raises(UsageError, match="several"):
        folder.find("hostkey-", 0)
    with pytest.raises(NotFound):
        folder.find("SHA256:nothing", 0)
    assert folder.remove(ed25519.host_key_id, 2_000) == ed25519
    assert not (folder.path / ed25519.file).exists()
    with pytest.raises(Conflict, match="only one"):
        folder.remove(rsa.host_key_id, 2_000)


def test_writers_at_once_lose_nothing(folder: HostKeyFolder) -> None:
    """Several operators; and the number of keys has its bound."""
    keys = [make_private_key("ssh-ed25519") for _ in range(HOST_KEYS_MAX)]
    refused: list[Conflict] = []

    def add(private: bytes) -> None:
        try:
            folder.add(private, 2_000)
        except Conflict as error:
            refused.append(error)

    threads = [threading.Thread(target=add, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folder.keys(2_000)) == HOST_KEYS_MAX
    assert len(refused) == 2


def test_the_supervisor_need_not_import_asyncssh() -> None:
    """Making keys and printing fingerprints works without the SSH library."""
    code = "import sys, feedgate.sftp.hostkeys; sys.exit('asyncssh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- at the door ----------------------------------------------------------------------------------


class Changing:
    """What a test gives the door as ``host_key_changes``."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def __call__(self) -> list[bytes] | None:
        keys = self.waiting.pop(0) if self.waiting else None
        if isinstance(keys, Exception):
            raise keys
        return keys


def connect(door: Any, known_hosts: Path) -> subprocess.CompletedProcess[str]:
    """OpenSSH's client, which takes no unknown host key and learns announced ones."""
    return subprocess.run(
        [
            *("sftp", "-q", "-F", "/dev/null", "-i", str(door.key), "-P", str(door.port)),
            *("-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes"),
            *("-o", f"UserKnownHostsFile={known_hosts}", "-o", "UpdateHostKeys=yes"),
            *("-o", "HashKnownHosts=no", "-b", "-", f"{door.user}@127.0.0.1"),
        ],
        input="pwd\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


def known(path: Path) -> set[str]:
    """The public keys in a known_hosts file."""
    return {" ".join(line.split()[1:3]) for line in path.read_text().splitlines()}


@pytest.mark.parametrize("key_type", ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256"])
@pytest.mark.parametrize("policy", ["2025-03", "2018-11"])
def test_clients_learn_the_next_key(
    make_door: Callable[..., Any], tmp_path: Path, key_type: str, policy: str
) -> None:
    """Rotation as OpenSSH's client sees it: announced, proved, learned, then alone; no warning."""
    old, new = make_private_key(key_type), make_private_key(key_type)
    changing = Changing()
    door = make_door(
        security_policy_name=f"TransferSecurityPolicy-{policy}",
        host_keys=[old],
        host_key_changes=changing,
    )
    known_hosts = tmp_path / "known_hosts_of_a_supplier"
    known_hosts.write_text(f"[127.0.0.1]:{door.port} {identify(old).line}\n")

    changing.waiting.append([old, new])
    door.wait_for(lambda: len(door.door._host_keys) == 2)
    door.wait_for(lambda: any("host keys changed" in str(line) for line in door.log.lines))
    done = connect(door, known_hosts)
    assert done.returncode == 0, done.stderr
    assert known(known_hosts) == {identify(old).line, identify(new).line}

    changing.waiting.append([new])
    lines = len(door.log.lines)
    door.wait_for(lambda: any("host keys changed" in str(line) for line in door.log.lines[lines:]))
    done = connect(door, known_hosts)
    assert done.returncode == 0, done.stderr
    assert known(known_hosts) == {identify(new).line}
    assert door.errors == []


def test_a_fault_leaves_the_door_open(make_door: Callable[..., Any]) -> None:
    """Host keys that cannot be read are told once; the ones in use go on."""
    changing = Changing()
    changing.waiting = [CouldNot("the list is damaged")] * 2 + [[b"rubbish"]]
    door = make_door(host_key_changes=changing)
    door.wait_for(lambda: not changing.waiting and len(door.errors) == 2)
    assert "the list is damaged" in str(door.errors[0])
    assert "PRIVATE" not in str(door.errors)
    assert door.sftp("pwd").returncode == 0


def test_proofs_are_bounded(door: Any) -> None:
    """A client cannot make the gateway sign for ever; within bounds each proof is right."""
    seen: list[bytes] = []
    raw = door.raw()
    transport = raw.transport
    keys = [identify(key) for key in door._host_keys]
    blobs = [base64.b64decode(key.line.split()[1]) for key in keys]

    def ask(*wanted: bytes) -> bool:
        message = paramiko.Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("hostkeys-prove-00@openssh.com")
        message.add_boolean(True)
        for blob in wanted:
            message.add_string(blob)
        transport.completion_event = threading.Event()
        transport._send_user_message(message)
        transport.completion_event.wait(10)
        response = transport.global_response
        if response is not None:
            seen.append(response.get_string())
        return response is not None

    try:
        assert ask(blobs[0])
        signed = paramiko.Message()
        signed.add_string("hostkeys-prove-00@openssh.com")
        signed.add_string(transport.session_id)
        signed.add_string(blobs[0])
        key = paramiko.Ed25519Key(data=blobs[0])
        assert key.verify_ssh_sig(signed.asbytes(), paramiko.Message(seen[0]))
        assert not ask(*[blobs[0]] * 100)
        assert not ask(b"unknown")
        for _ in range(3, HOST_KEY_PROOFS_MAX):
            assert ask(blobs[0])
        assert not ask(blobs[0])
    finally:
        raw.close()
