"""``demo``: the shipped commands, run one after another in a scratch folder, each checked.

Nothing here is a special path: every step is a command that the reader can paste.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from feedgate.cli.output import note, result
from feedgate.errors import CouldNot
from feedgate.limits import POLL_S

__all__ = ["demo"]

USER = "jeffrey_aven"
GOOD_CSV = """order_id,customer,amount,ordered_at,priority
1001,Ada Lovelace,120.50,2026-11-02 09:15:00,yes
1002,"Grace ""Amazing"" Hopper",99.95,2026-11-03 14:00:30,no
1003,Alan Turing,7.25,2026-11-03 18:45:00,
"""
BAD_CSV = """order_id,customer,amount,ordered_at,priority
1004,Edsger Dijkstra,15.00,2026-11-04 08:00:00,no
1005,Barbara Liskov,twelve,2026-11-04 08:01:00,no
"""


@click.command()
@click.option("--keep", is_flag=True, help="Keep the scratch folder, and say where it is.")
def demo(keep: bool) -> None:
    """Watch a supplier's file pass SSH → policy → encrypted bucket → rows → receipt.

    Makes a scratch stack, serves it on a free local port, puts a good and a bad CSV with the
    OpenSSH client, shows rows, receipts and a refusal explained, and cleans up. Takes seconds.

    \b
    Example:
      feedgate demo --keep
    """
    started = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="feedgate-demo-"))
    run = _Demo(scratch)
    try:
        run.play()
    finally:
        run.stop_gateway()
        if keep:
            note(f"\nkept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    note(f"\nAll of it worked, in {time.monotonic() - started:.1f} s. Go on with your own stack:")
    note("  feedgate init landing && cd landing")
    note("  feedgate check && feedgate up")
    note("  feedgate user add acme --key acme.pub")


@dataclass(slots=True)
class _Demo:
    """One run: ``scratch`` holds the stack, the supplier's files and the gateway's data."""

    scratch: Path
    gateway: subprocess.Popen[bytes] | None = None
    ready: dict[str, Any] = field(default_factory=dict)

    def play(self) -> None:
        _title("The author: two files define the gateway")
        self.feedgate("init", "landing")
        self.start_gateway()
        _title("The supplier: an ordinary SFTP client")
        (self.scratch / "good.csv").write_text(GOOD_CSV)
        (self.scratch / "bad.csv").write_text(BAD_CSV)
        self.sftp("put good.csv orders/good.csv", "put bad.csv orders/bad.csv", "ls -l orders")
        _title("The operator: rows, receipts, reasons")
        receipts = self.wait_for_loads(2)
        self.feedgate("query", "SELECT * FROM orders ORDER BY order_id")
        self.expect_rows(3)
        self.feedgate("receipts")
        self.show_bad_receipt(receipts)
        _title("The mistake that everyone makes once, explained")
        self.forget_the_kms_key()

    # -- steps --------------------------------------------------------------------------------

    def start_gateway(self) -> None:
        ready_file = self.scratch / "ready.json"
        words = ["up", "--listen", "127.0.0.1:0", "--ready-file", str(ready_file)]
        _show(["feedgate", *words[:3], "&"])
        self.gateway = subprocess.Popen(
            self.command(*words),
            cwd=self.scratch / "landing",
            stdin=subprocess.DEVNULL,
            env=_environment(),
        )
        deadline = time.monotonic() + 30
        while not ready_file.exists():
            if self.gateway.poll() is not None or time.monotonic() > deadline:
                raise CouldNot("the gateway did not start", hint="the lines above say why")
            time.sleep(0.02)
        self.ready = json.loads(ready_file.read_text())

    def stop_gateway(self) -> None:
        if self.gateway is None or self.gateway.poll() is not None:
            return
        self.gateway.send_signal(signal.SIGTERM)
        try:
            self.gateway.wait(40)
        except subprocess.TimeoutExpired:
            self.gateway.kill()
            self.gateway.wait()

    def sftp(self, *commands: str, expect: int = 0) -> str:
        """Run a batch with the OpenSSH client, or with asyncssh's where there is none."""
        for command in commands:
            result(click.style(f"sftp> {command}", dim=True))
        port, key = str(self.ready["sftp"]["port"]), "landing/mysftpkey"
        if shutil.which("sftp") is None:
            note("(no OpenSSH client here: using asyncssh's)")
            return _asyncssh_batch(self.scratch, int(port), key, commands)
        words = ["sftp", "-q", "-P", port, "-i", key, "-b", "-", "-F", "/dev/null"]
        for option in (
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=accept-new",
            f"UserKnownHostsFile={self.scratch}/known_hosts",
        ):
            words += ["-o", option]
        done = subprocess.run(
            [*words, f"{USER}@127.0.0.1"],
            cwd=self.scratch,
            input="\n".join(commands) + "\n",
            text=True,
            capture_output=True,
            check=False,
        )
        printed = done.stdout + done.stderr
        for line in printed.splitlines():
            if not line.startswith("sftp>"):
                result(line)
        if done.returncode != expect:
            raise CouldNot(f"sftp ended with status {done.returncode}")
        return printed

    def wait_for_loads(self, count: int) -> list[dict[str, Any]]:
        """Receipts as JSON once ``count`` loads are decided."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            found = self.json("receipts")["receipts"]
            loads = [load for item in found for load in item["loads"]]
            if sum(load["status"] != "PENDING" for load in loads) >= count:
                return list(found)
            time.sleep(0.05)
        raise CouldNot(f"{count} loads were not decided within 15 s")

    def expect_rows(self, count: int) -> None:
        rows = self.json("query", "SELECT count(*) FROM orders")["rows"]
        if int(rows[0][0]) != count:
            raise CouldNot(f"expected {count} rows, found {rows[0][0]}")

    def show_bad_receipt(self, receipts: list[dict[str, Any]]) -> None:
        bad = [item for item in receipts if item["path"].endswith("bad.csv")]
        if not bad:
            raise CouldNot("the bad file has no receipt")
        output = self.feedgate("receipt", "show", bad[0]["landing_id"])
        if "line 3" not in output or "AMOUNT" not in output:
            raise CouldNot("the receipt of the bad file does not name line and column")

    def forget_the_kms_key(self) -> None:
        """Take the KMS statement out of the scope-down policy and see what a supplier meets."""
        policy_file = self.scratch / "landing" / "policy.txt"
        policy = json.loads(policy_file.read_text())
        policy["Statement"] = [s for s in policy["Statement"] if s["Sid"] != "UseTheKmsKey"]
        policy_file.write_text(json.dumps(policy, indent=2) + "\n")
        result("\n(the statement `UseTheKmsKey` was taken out of policy.txt)")
        self.feedgate("apply")
        time.sleep(POLL_S)  # a gateway takes a change up within a second
        refusal = self.sftp("ls orders", expect=1)
        if "Permission denied" not in refusal:
            raise CouldNot("the supplier was not refused")
        explained = self.feedgate("explain", USER, "ls", "/orders", expect=1)
        if "kms:Decrypt" not in explained:
            raise CouldNot("the explanation does not name the missing action")

    # -- running ------------------------------------------------------------------------------

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "feedgate", *words]

    def feedgate(self, *words: str, expect: int | None = 0) -> str:
        """Show a command, run it in the stack's folder, show and return what it printed."""
        _show(["feedgate", *words])
        landing = self.scratch / "landing"
        done = subprocess.run(
            self.command(*words),
            cwd=landing if landing.is_dir() else self.scratch,
            text=True,
            stdout=subprocess.PIPE,
            env=_environment(),
            check=False,
        )
        click.echo(done.stdout, nl=False)
        if expect is not None and done.returncode != expect:
            raise CouldNot(f"`feedgate {words[0]}` ended with status {done.returncode}")
        return done.stdout

    def json(self, *words: str) -> dict[str, Any]:
        done = subprocess.run(
            self.command(*words, "--json"),
            cwd=self.scratch / "landing",
            text=True,
            capture_output=True,
            env=_environment(),
            check=False,
        )
        if done.returncode != 0:
            raise CouldNot(f"`feedgate {words[0]}` failed: {done.stderr.strip()}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


def _title(text: str) -> None:
    result("")
    result(click.style(f"── {text} ", bold=True) + "─" * max(0, 70 - len(text)))


def _show(words: list[str]) -> None:
    result("")
    sys.stdout.flush()
    result(click.style(f"$ {shlex.join(words)}".replace(" '&'", " &"), fg="green"))
    sys.stdout.flush()


def _environment() -> dict[str, str]:
    """The caller's environment without what would point the scratch gateway elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FEEDGATE_")}


def _asyncssh_batch(folder: Path, port: int, key: str, commands: tuple[str, ...]) -> str:
    import asyncio

    import asyncssh

    async def run() -> None:
        connection = await asyncssh.connect(
            "127.0.0.1",
            port,
            username=USER,
            client_keys=[str(folder / key)],
            known_hosts=None,  # a server that this process started itself a moment ago
            config=None,
        )
        async with connection, connection.start_sftp_client() as client:
            for command in commands:
                verb, *arguments = shlex.split(command)
                if verb == "put":
                    await client.put(str(folder / arguments[0]), arguments[1])
                else:
                    for entry in await client.readdir(arguments[-1]):
                        result(str(entry.longname))

    try:
        asyncio.run(run())
    except asyncssh.SFTPPermissionDenied as error:
        result(f"Permission denied: {error}")
        return "Permission denied"
    except (asyncssh.Error, OSError) as error:
        raise CouldNot(f"the SFTP session failed: {error}") from error
    return ""
