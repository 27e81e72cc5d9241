"""`explain` against the example stack: it says what the gateway would do."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from feedgate.cli.author import example_folder
from feedgate.cli.explain import explain
from feedgate.errors import Conflict, NotFound, UsageError
from feedgate.gateway.access_checks import explain_path
from feedgate.gateway.reading import RunValues, read_definition

SUPPLIER = "jeffrey_aven"
RETAILER = "acme_retail"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example stack, with a session policy that removes nothing."""
    folder = tmp_path_factory.mktemp("explain") / "landing"
    shutil.copytree(example_folder(), folder, ignore=shutil.ignore_patterns(".feedgate"))
    policy = folder / "policy.txt"
    policy.write_text(policy.read_text().replace('"s3:DeleteObject",', ""))
    return folder


def ask(stack: Path, *words: str) -> dict[str, Any]:
    """What `explain --json` says; its exit code agrees with its verdict."""
    done = CliRunner().invoke(
        explain, [*words, "--stack", str(stack), "--json"], standalone_mode=False
    )
    if done.exception is not None:
        raise done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.return_value == (0 if found["allowed"] else 1)
    return found


@pytest.mark.parametrize("operation", ["stat", "lstat", "realpath", "setstat"])
def test_roots_ask_nothing(stack: Path, operation: str) -> None:
    """A mapping's root, and the levels above mappings, exist by definition."""
    for user, path in ((SUPPLIER, "/"), (RETAILER, "/orders"), (RETAILER, "/from-us")):
        found = ask(stack, user, operation, path)
        assert found["allowed"]
        assert found["steps"] == []


def test_virtual_levels_list_their_mappings(stack: Path) -> None:
    """`ls` above the mappings asks no policy, and takes no files."""
    found = ask(stack, RETAILER, "ls", "/")
    assert found["allowed"]
    assert "no policy is asked: from-us, invoices, orders" in found["notes"][0]
    for operation in ("put", "get", "rm", "mkdir", "rmdir"):
        with pytest.raises(Conflict):
            ask(stack, RETAILER, operation, "/from-us")
        with pytest.raises(Conflict):
            ask(stack, SUPPLIER, operation, "/")


def test_listing_a_root_is_judged(stack: Path) -> None:
    """`ls /` where the root is mapped asks the policies, as OPENDIR does."""
    found = ask(stack, SUPPLIER, "ls", "/")
    assert found["allowed"]
    assert found["steps"][0]["action"] == "s3:ListBucket"


def test_rename_takes_two_paths(stack: Path) -> None:
    """Without a target, or a target for something else, the words are off."""
    with pytest.raises(UsageError):
        ask(stack, SUPPLIER, "rename", "/a.csv")
    with pytest.raises(UsageError):
        ask(stack, SUPPLIER, "get", "/a.csv", "/b.csv")
    with pytest.raises(UsageError, match="no operation"):
        ask(stack, SUPPLIER, "fly", "/")
    with pytest.raises(Conflict):
        ask(stack, SUPPLIER, "rename", "/a.csv", "/b/")
    with pytest.raises(Conflict):
        ask(stack, SUPPLIER, "put", "/orders/.")


def test_a_fix_for_the_shared_policy_names_no_supplier(stack: Path) -> None:
    """policy.txt serves all suppliers, so what is pasted there has the variable."""
    for path in ("/a.csv", "/orders/a.csv"):
        found = ask(stack, SUPPLIER, "rm", path)
        assert not found["allowed"]
        (fix,) = found["fixes"]
        assert fix["policy"] == "session"
        folder = path.rpartition("/")[0]
        resource = "${LandingBucket.Arn}/${!transfer:UserName}" + folder + "/*"
        assert fix["portable_statement"]["Resource"] == resource
        assert SUPPLIER not in json.dumps(fix["statement"])


def test_a_pipe_reads_one_place(stack: Path) -> None:
    """Another bucket, another prefix and another name are told, each with its reason."""
    sample = ask(stack, "--pipe", "orders_pipe")
    assert sample["allowed"]
    bucket, folder = sample["bucket"], sample["key"].rpartition("/")[0]
    assert ask(stack, "--pipe", "orders_pipe", f"s3://{bucket}/{folder}/a.csv")["allowed"]
    outside = ask(stack, "--pipe", "orders_pipe", f"s3://{bucket}/elsewhere/a.csv")
    assert "the pipe does not read that file: it reads `s3://" in outside["blocked"]
    assert outside["fixes"] == []
    other_name = ask(stack, "--pipe", "orders_pipe", f"{folder}/a.txt")
    assert "`a.txt` does not match PATTERN" in other_name["blocked"]
    unfinished = ask(stack, "--pipe", "orders_pipe", f"{folder}/a.filepart")
    assert "unfinished uploads" in unfinished["blocked"]
    other = ask(stack, "--pipe", "orders_pipe", "s3://other/x")
    assert "the pipe never reads the bucket `other`: it reads `s3://" in other["blocked"]
    assert (other["bucket"], other["key"]) == ("other", "x")


def test_an_unknown_bucket_is_named(stack: Path) -> None:
    """A PATH user may name any bucket; one that the stack does not have is said to be that."""
    definition = read_definition(stack, RunValues(), None)
    user = replace(
        definition.stack.users[SUPPLIER],
        home_directory_type="PATH",
        home_directory="/landing-000000000000-us-east-1/x",
        home_directory_mappings=(),
    )
    for operation in ("put", "ls", "get"):
        with pytest.raises(NotFound, match="no bucket `nowhere`"):
            explain_path(definition, user, operation, "/nowhere/a.csv")
    assert explain_path(definition, user, "ls", "/").allowed
