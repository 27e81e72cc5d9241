"""Who may connect to a real gateway, and how much."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest

pytestmark = pytest.mark.integration


def connect(gateway: Any, *, source: str = "127.0.0.1", header: bytes = b"") -> socket.socket:
    """A TCP connection from an address of this machine."""
    made = socket.create_connection(
        ("127.0.0.1", gateway.port), timeout=10, source_address=(source, 0)
    )
    made.sendall(header)
    return made


def log_in(gateway: Any, key: Path | None = None, **options: Any) -> paramiko.Transport:
    """An authenticated connection. Raises what paramiko raises."""
    transport = paramiko.Transport(connect(gateway, **options))
    transport.start_client(timeout=10)
    used = paramiko.Ed25519Key.from_private_key_file(str(key or gateway.key))
    try:
        transport.auth_publickey(gateway.user, used)
    except BaseException:
        transport.close()
        raise
    return transport


def gets_in(gateway: Any, **options: Any) -> bool:
    """Whether a login and a listing work."""
    try:
        transport = log_in(gateway, **options)
    except (paramiko.SSHException, OSError, EOFError):
        return False
    try:
        client = paramiko.SFTPClient.from_transport(transport)
        assert client is not None
        client.listdir("/")
    except (paramiko.SSHException, OSError, EOFError):
        return False
    else:
        return True
    finally:
        transport.close()


def events(gateway: Any, kind: str) -> list[dict[str, Any]]:
    """The log's activities of one type."""
    text = (gateway.data / "gateway.log").read_text()
    whole = text[: text.rfind("\n") + 1]  # a line may be half-way in while it is read
    lines = map(json.loads, whole.splitlines())
    return [line for line in lines if line.get("activity-type") == kind]


def causes(gateway: Any) -> list[str]:
    """Of rejected connections."""
    return [event["cause"] for event in events(gateway, "CONNECTION_REJECTED")]


def set_tags(gateway: Any, kind: str, **tags: str) -> None:
    """Give the server or the first user of a stack tags, by its rendered template."""
    path = gateway.stack / "template.json"
    if not path.exists():
        done = gateway.feedgate("render")
        assert done.returncode == 0, done.stderr
        path.write_text(done.stdout)
        (gateway.stack / "template.jsonnet").rename(gateway.stack / "not-used.jsonnet")
    template = json.loads(path.read_text())
    for resource in template["Resources"].values():
        if resource["Type"] == kind:
            kept = [
                tag
                for tag in resource["Properties"].get("Tags", [])
                if not str(tag.get("Key")).startswith("feedgate:")
            ]
            resource["Properties"]["Tags"] = kept + [
                {"Key": f"feedgate:{name}", "Value": value} for name, value in tags.items()
            ]
    path.write_text(json.dumps(template))


SERVER, USER = "AWS::Transfer::Server", "AWS::Transfer::User"


@pytest.fixture
def opened() -> Iterator[contextlib.ExitStack]:
    """What is closed after the test."""
    with contextlib.ExitStack() as stack:
        yield stack


def tries(log_in: Callable[[], object]) -> bool:
    """Whether a login went through."""
    try:
        log_in()
    except (paramiko.SSHException, EOFError, OSError):
        return False
    return True


def test_connections_of_all_workers_are_counted(gateway: Any, opened: contextlib.ExitStack) -> None:
    """Per user, per address and in all, over two workers; a place that is freed can be taken."""
    gateway.start(
        *("--workers", "2", "--max-connections", "6", "--max-connections-per-address", "4"),
        *("--max-connections-per-user", "3", "--max-unauthenticated", "2"),
    )
    gateway.wait_for(lambda: "another worker is ready" in gateway.log())

    def hold(**options: Any) -> paramiko.Transport:
        transport = log_in(gateway, **options)
        opened.callback(transport.close)
        return transport

    first = [hold() for _ in range(3)]
    gateway.wait_for(lambda: len(events(gateway, "CONNECTED")) == 3)
    with contextlib.suppress(paramiko.SSHException):  # it may end before the client looks
        fourth = hold()
        gateway.wait_for(lambda: not fourth.is_active())
    gateway.wait_for(lambda: len(events(gateway, "DISCONNECTED")) == 1)
    assert all(transport.is_active() for transport in first)
    first.pop().close()
    gateway.wait_for(lambda: gets_in(gateway))
    assert len(gateway.pids()["worker"]) == 2
    other = gateway.stack / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    added = gateway.feedgate("user", "add", "other_one", "--key", f"{other}.pub")
    assert added.returncode == 0, added.stderr
    gateway.user = "other_one"
    gateway.wait_for(lambda: gets_in(gateway, key=other))
    for _ in range(2):  # a place is free a moment after its connection ended
        gateway.wait_for(lambda: tries(lambda: hold(key=other)))
    gateway.wait_for(lambda: not gets_in(gateway, key=other))
    assert not gets_in(gateway, key=other), "the address has its four"
    assert gets_in(gateway, key=other, source="127.0.0.2")
    gateway.wait_for(lambda: tries(lambda: hold(key=other, source="127.0.0.2")))
    assert "too-many-from-address" in causes(gateway)


def test_silent_connections_do_not_stop_a_good_client(
    gateway: Any, opened: contextlib.ExitStack
) -> None:
    """Silent and half-open ones beyond the limit displace each other, from its own address too."""
    gateway.start("--max-unauthenticated", "40", "--max-unauthenticated-per-address", "20")
    for number in range(60):
        opened.enter_context(connect(gateway))
        half_open = opened.enter_context(connect(gateway, source=f"127.0.1.{number % 4 + 1}"))
        half_open.sendall(b"SSH-2.0-half\r\n")
    for _ in range(3):
        assert gets_in(gateway)
        assert gets_in(gateway, source="127.0.0.9")


def test_failures_are_penalised_by_address(gateway: Any) -> None:
    """Wrong keys refuse their address for a while, not another one's supplier, and not for ever."""
    other = gateway.stack / "other"
    gateway.start("--max-auth-failures", "4", "--max-penalty", "3")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    for _ in range(5):
        assert not gets_in(gateway, key=other, source="127.0.0.2")
    gateway.wait_for(lambda: not gets_in(gateway, source="127.0.0.2"))
    assert gets_in(gateway)
    assert "rate-limited" in causes(gateway)
    gateway.wait_for(lambda: gets_in(gateway, source="127.0.0.2"), timeout_s=10)


def test_lists_of_addresses(gateway: Any) -> None:
    """The server's tags refuse before SSH, a user's as a wrong key; open sessions end with both."""
    set_tags(gateway, SERVER, deniedCidrs="127.0.0.5")
    gateway.start()
    assert gets_in(gateway)
    assert not gets_in(gateway, source="127.0.0.5")
    assert causes(gateway) == ["address-refused"]
    staying = log_in(gateway)
    leaving = log_in(gateway, source="127.0.0.7")
    set_tags(gateway, USER, allowedCidrs="127.0.0.1 127.0.0.5")
    applied = gateway.feedgate("apply", "--yes")
    assert applied.returncode == 0, applied.stderr
    gateway.wait_for(lambda: not leaving.is_active(), timeout_s=5)
    with pytest.raises(paramiko.AuthenticationException, match="Authentication failed"):
        log_in(gateway, source="127.0.0.7")
    last = events(gateway, "AUTH_FAILURE")[-1]
    assert last["message"] == "The user may not connect from this address"
    set_tags(gateway, SERVER, allowedCidrs="127.0.0.2")
    assert gateway.feedgate("apply", "--yes").returncode == 0
    gateway.wait_for(lambda: not staying.is_active(), timeout_s=5)
    gateway.wait_for(lambda: not gets_in(gateway))
    for transport in (staying, leaving):
        transport.close()


def test_a_bad_list_is_a_fault(gateway: Any) -> None:
    """A network that cannot be read is refused by `check`, with the tag's name."""
    set_tags(gateway, SERVER, allowedCidrs="192.0.2.1/24")
    done = gateway.feedgate("check")
    assert done.returncode == 1
    assert "feedgate:allowedCidrs" in done.stdout + done.stderr
    assert "192.0.2.0/24" in done.stdout + done.stderr


def test_behind_a_proxy(gateway: Any) -> None:
    """A trusted proxy's word is the address; others' headers are no SSH, missing ones refused."""
    gateway.start("--proxy-protocol-from", "127.0.0.2", "--max-connections-per-address", "1")
    header = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 22\r\n"
    through = log_in(gateway, source="127.0.0.2", header=header)
    assert events(gateway, "CONNECTED")[0]["source-ip"] == "203.0.113.9"
    assert not gets_in(gateway, source="127.0.0.2", header=header), "the address has its one"
    assert gets_in(gateway, source="127.0.0.2", header=header.replace(b".9 ", b".8 "))
    assert not gets_in(gateway, source="127.0.0.2")
    assert not gets_in(gateway, header=header)
    assert gets_in(gateway)
    assert {"proxy-header", "too-many-from-address"} <= set(causes(gateway))
    through.close()


@pytest.fixture
def transfer(running: Any, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts an upload of OpenSSH's client that takes a minute, and waits until it is under way."""
    big = tmp_path / "big.csv"
    with big.open("wb") as file:
        file.truncate(60 * 1024 * 1024)
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        words = [*running.sftp_command(), "-l", "8192", "-b", "-"]
        process = subprocess.Popen(
            [*words, f"{running.user}@127.0.0.1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        assert process.stdin is not None
        before = len(events(running, "OPEN"))
        process.stdin.write(f"put {big} /incoming/big.csv\n")
        process.stdin.close()
        running.wait_for(lambda: len(events(running, "OPEN")) > before)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize(
    "words",
    [
        ("user", "disable", "jeffrey_aven"),
        ("user", "key", "remove", "jeffrey_aven", "mysftpkey.pub", "--live"),
        ("user", "remove", "jeffrey_aven", "--live"),
    ],
    ids=["disabled", "key removed", "user removed"],
)
def test_revocation_in_mid_transfer(
    running: Any, transfer: Callable[[], subprocess.Popen[str]], words: tuple[str, ...]
) -> None:
    """Within five seconds the upload ends, and nothing of it is visible."""
    process = transfer()
    done = running.feedgate(*words)
    assert done.returncode == 0, done.stderr
    revoked = time.monotonic()
    assert process.wait(20) != 0
    assert time.monotonic() - revoked < 5
    running.wait_for(lambda: bool(events(running, "PARTIAL_CLOSE")))
    assert running.receipts() == []
    assert not gets_in(running)


def test_a_policy_that_changes_in_mid_transfer(running: Any, tmp_path: Path) -> None:
    """What a new policy denies ends for open handles too: reads at once, a write at its CLOSE."""
    (tmp_path / "a.csv").write_text("id\n1\n")
    assert running.sftp(f"put {tmp_path}/a.csv /incoming/a.csv").returncode == 0
    transport = log_in(running)
    client = paramiko.SFTPClient.from_transport(transport)
    assert client is not None
    reading = client.open("/incoming/a.csv", "r")
    writing = client.open("/incoming/b.csv", "w")
    writing.write(b"id\n2\n")
    writing.flush()
    policy = running.stack / "policy.txt"
    text = policy.read_text()
    assert '"s3:PutObject"' in text
    policy.write_text(text.replace('"s3:PutObject",', "").replace('"s3:GetObject",', ""))
    applied = running.feedgate("apply", "--yes")
    assert applied.returncode == 0, applied.stderr

    def denied() -> bool:
        try:
            reading.seek(0)
            reading.read(1)
        except PermissionError:
            return True
        return False

    running.wait_for(denied, timeout_s=5)
    writing.close()  # paramiko keeps the answer to itself
    running.wait_for(lambda: events(running, "ERROR")[-1]["operation"] == "CLOSE")
    assert events(running, "ERROR")[-1]["message"] == "Permission denied"
    assert len(running.receipts()) == 1
    transport.close()


def test_one_worker_of_two_dies(gateway: Any) -> None:
    """The other's sessions go on, it is replaced, and its uploads' leases and places are freed."""
    gateway.start("--workers", "2", "--max-connections-per-user", "4")
    gateway.wait_for(lambda: "another worker is ready" in gateway.log())
    transports = [log_in(gateway) for _ in range(4)]
    clients = [paramiko.SFTPClient.from_transport(one) for one in transports]
    handles = []
    for number, client in enumerate(clients):
        assert client is not None
        handle = client.open(f"/incoming/{number}.csv", "w")
        handle.set_pipelined(True)
        handle.write(os.urandom(3_000_000))
        handle.flush()
        handles.append(handle)
    before = gateway.pids()["worker"]
    os.kill(before[0], signal.SIGKILL)
    gateway.wait_for(lambda: [one.is_active() for one in transports].count(False) == 2)
    for transport, handle in zip(transports, handles, strict=True):
        if transport.is_active():
            handle.close()
            transport.close()
    gateway.wait_for(lambda: len(gateway.receipts()) == 2)
    gateway.wait_for(
        lambda: len(gateway.pids()["worker"]) == 2 and gateway.pids()["worker"] != before
    )
    gateway.wait_for(lambda: "gave up uploads of a worker that died" in gateway.log())
    again = [log_in(gateway) for _ in range(4)]
    assert all(one.is_active() for one in again)
    for transport in (*transports, *again):
        transport.close()


def test_idle_and_unresponsive_clients(gateway: Any, opened: contextlib.ExitStack) -> None:
    """Who is idle is cut, who writes a byte now and then is not, and who froze is found out."""
    gateway.start("--idle-timeout", "2", "--unresponsive-timeout", "1")
    writer, idler = log_in(gateway), log_in(gateway)
    for transport in (writer, idler):
        opened.callback(transport.close)
    client = paramiko.SFTPClient.from_transport(writer)
    assert client is not None
    handle = client.open("/incoming/slow.csv", "w")
    frozen = subprocess.Popen(
        [*gateway.sftp_command(), f"{gateway.user}@127.0.0.1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    opened.enter_context(frozen)
    opened.callback(frozen.kill)
    gateway.wait_for(lambda: len(events(gateway, "CONNECTED")) == 3)
    os.killpg(frozen.pid, signal.SIGSTOP)
    began = time.monotonic()

    def is_over() -> bool:
        handle.write(b"1\n")
        handle.flush()
        return len(events(gateway, "DISCONNECTED")) == 2

    gateway.wait_for(is_over, timeout_s=10)
    assert time.monotonic() - began >= 1
    assert not idler.is_active()
    assert writer.is_active()
    handle.close()


def test_passwords_and_last_use(running: Any) -> None:
    """From the command to the login: a file, never an argument; off again; the key's last use."""
    assert running.json("user", "show", running.user)["ssh_public_keys"][0]["last_used_at"] is None
    assert gets_in(running)
    running.wait_for(
        lambda: (
            running.json("user", "show", running.user)["ssh_public_keys"][0]["last_used_at"]
            is not None
        )
    )
    secret = running.stack / "secret"
    secret.write_text("correct horse battery\n")
    done = running.feedgate("user", "password", running.user, "--file", str(secret))
    assert done.returncode == 0, done.stderr
    shown = running.json("user", "show", running.user)
    assert shown["authentication"] == "PUBLIC_KEY_OR_PASSWORD"

    def by_password() -> bool:
        transport = paramiko.Transport(connect(running))
        try:
            transport.start_client(timeout=10)
            transport.auth_password(running.user, "correct horse battery")
        except paramiko.SSHException:
            return False
        else:
            return transport.is_authenticated()
        finally:
            transport.close()

    running.wait_for(by_password, timeout_s=5)
    short = running.feedgate("user", "password", running.user, "--file", "-", stdin="short\n")
    assert short.returncode == 2
    assert running.feedgate("user", "password", running.user, "--remove").returncode == 0
    running.wait_for(lambda: not by_password(), timeout_s=5)
    everything = running.log() + "".join(
        path.read_text(errors="replace") for path in running.data.glob("*.db*")
    )
    assert "correct horse battery" not in everything


def test_sigterm_lets_an_upload_finish(running: Any, tmp_path: Path) -> None:
    """The door closes at once, an open file may still be finished, and the exit code is 0."""
    transport = log_in(running)
    client = paramiko.SFTPClient.from_transport(transport)
    assert client is not None
    handle = client.open("/incoming/last.csv", "w")
    handle.write(b"id\n1\n")
    running.process.send_signal(signal.SIGTERM)

    def is_closed() -> bool:
        try:
            connect(running).close()
        except OSError:
            return True
        return False

    running.wait_for(is_closed, timeout_s=5)
    handle.write(b"2\n")
    handle.close()
    assert running.process.wait(20) == 0
    assert [item["size"] for item in running.receipts()] == [7]
    transport.close()
