"""The operator's hand in the buckets."""

from __future__ import annotations

import json
import os
import pwd
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conftest import AppliedStack


def test_ls_of_nothing_says_so(applied: AppliedStack) -> None:
    """A prefix under which nothing lies is a finding, with the next step; in JSON as well."""
    plain = applied.run("ls", f"{applied.bucket}/nothere")
    assert (plain.returncode, plain.stdout) == (1, "")
    assert f"nothing lies under `{applied.bucket}/nothere`" in plain.stderr
    assert "next: " in plain.stderr
    as_json = applied.run("ls", f"{applied.bucket}/nothere", "--json")
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout)["objects"] == []
    assert "nothing lies" in json.loads(as_json.stderr)["error"]["message"]


def test_an_empty_bucket_is_no_finding(applied: AppliedStack) -> None:
    """A bucket that exists and is empty lists nothing, and nothing is wrong."""
    [empty] = [line for line in applied.run("ls").stdout.split() if applied.bucket not in line]
    done = applied.run("ls", empty)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_copies_are_signed_by_a_person(applied: AppliedStack) -> None:
    """The receipt of a copy names the operator's login and the command, not a number."""
    copied = applied.run("cp", "-", f"{applied.bucket}/jeffrey_aven/signed.csv", stdin=b"a\n")
    assert copied.returncode == 0, copied.stderr
    receipt_id = copied.stderr.split()[-1]
    shown = applied.run("receipt", "show", receipt_id).stdout
    lines = dict(line.split("  ", 1) for line in shown.splitlines() if "  " in line)
    expected = os.environ.get("SUDO_USER") if os.getuid() == 0 else None
    assert lines["user"].strip() == (expected or pwd.getpwuid(os.getuid()).pw_name)
    assert lines["client"].strip() == "feedgate cp"
    assert "SSH key" not in shown
    assert all(value.strip() for value in lines.values())


def test_long_keys_fit_a_terminal_and_are_whole_in_a_pipe(applied: AppliedStack) -> None:
    """A key of 900 characters is cut in the middle on a terminal only, in `ls` and `receipts`."""
    key = "jeffrey_aven/" + "x" * 900 + "-end.csv"
    copied = applied.run("cp", "-", f"{applied.bucket}/{key}", stdin=b"a\n")
    assert copied.returncode == 0, copied.stderr
    receipt_id = copied.stderr.split()[-1]
    for words in (("ls", "-r", f"{applied.bucket}/jeffrey_aven/x"), ("receipts",)):
        assert key in applied.run(*words).stdout
        lines = applied.run_on_terminal(120, *words)
        [line] = [line for line in lines if "-end.csv" in line or receipt_id in line]
        assert len(line) <= 120
        assert "…" in line
    assert receipt_id in "\n".join(lines)
