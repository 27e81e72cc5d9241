"""The mistakes that the architecture's author warns of, before anyone connects and in a client."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration


def forget_in_policy(stack: Path) -> None:
    """Take the KMS statement out of the scope-down policy."""
    path = stack / "policy.txt"
    policy = json.loads(path.read_text())
    policy["Statement"] = [s for s in policy["Statement"] if s["Sid"] != "UseTheKmsKey"]
    path.write_text(json.dumps(policy))


def forget_in_role(stack: Path, name: str) -> None:
    """Let a role's KMS statement name another KMS key."""
    path = stack / "includes" / f"{name}.libsonnet"
    text = path.read_text()
    changed = text.replace("'LandingKey', 'Arn'", "'LandingBucket', 'Arn'")
    assert changed != text, text
    path.write_text(changed)


def test_check_finds_the_session_policy(gateway: Any) -> None:
    """`check` names each user whose scope-down policy lacks the KMS key, and what to paste."""
    forget_in_policy(gateway.stack)
    done = gateway.feedgate("check", "--no-lint")
    assert done.returncode == 1
    assert "`jeffrey_aven` cannot ls" in done.stdout
    assert "`jeffrey_aven` cannot put" in done.stdout
    assert "kms:GenerateDataKey" in done.stdout
    assert "session policy" in done.stdout


def test_check_finds_the_transfer_role(gateway: Any) -> None:
    """`check` tells that the role itself lacks the KMS key."""
    forget_in_role(gateway.stack, "transferrole")
    done = gateway.feedgate("check", "--no-lint")
    assert done.returncode == 1
    assert "refused at opendir: `kms:Decrypt`" in done.stdout
    assert "TransferRole" in done.stdout


def test_check_finds_the_pipe_that_cannot_read(gateway: Any) -> None:
    """`check` tells which pipe's integration role lacks the KMS key."""
    forget_in_role(gateway.stack, "snowflakerole")
    done = gateway.feedgate("check", "--no-lint")
    assert done.returncode == 1
    assert "SnowflakeRole" in done.stdout
    assert "kms:Decrypt" in done.stdout
    assert "jeffrey_aven" not in "".join(
        line for line in done.stdout.splitlines() if ": error:" in line and "cannot ls" in line
    )


def test_client_sees_the_session_policys_lack(running: Any) -> None:
    """Without the KMS key in the session policy, `ls` and the close of a put are refused."""
    (running.folder / "a.txt").write_text("a")
    forget_in_policy(running.stack)
    assert running.feedgate("apply").returncode == 0
    time.sleep(1.1)
    listed = running.sftp("ls")
    assert "Couldn't read directory: Permission denied" in listed.stderr
    put = running.sftp("put a.txt")
    assert put.returncode != 0
    assert "close remote: Permission denied" in put.stderr
    explained = running.feedgate("explain", running.user, "put", "/a.txt")
    assert explained.returncode == 1
    assert "kms:GenerateDataKey" in explained.stdout
    assert "Policy (the session policy)" in explained.stdout


def test_client_sees_the_roles_lack(running: Any) -> None:
    """Without the KMS key in the role, opening the directory is refused."""
    forget_in_role(running.stack, "transferrole")
    assert running.feedgate("apply").returncode == 0
    time.sleep(1.1)
    listed = running.sftp("ls")
    assert 'remote readdir("/"): Permission denied' in listed.stderr


def test_load_fails_with_the_missing_statement(running: Any) -> None:
    """A loader without kms:Decrypt leaves a receipt that names what is missing."""
    forget_in_role(running.stack, "snowflakerole")
    assert running.feedgate("apply").returncode == 0
    time.sleep(1.5)
    (running.folder / "o.csv").write_text("order_id,customer,amount,ordered_at,priority\n1,A,1,,\n")
    assert running.sftp("put o.csv orders/o.csv").returncode == 0
    [load] = running.wait_for_loads(1)
    assert load["status"] == "LOAD_FAILED"
    assert "kms:Decrypt" in load["message"]
    assert "SnowflakeRole" in load["message"]
    explained = running.feedgate("explain", "--pipe", "orders_pipe")
    assert explained.returncode == 1
    assert "kms:Decrypt" in explained.stdout
