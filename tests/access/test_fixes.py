"""What `explain` says to paste is enough: pasted, it makes the refused operation allowed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from feedgate.access.explain import Explanation
from feedgate.cli.author import write_example
from feedgate.gateway.access_checks import explain_path
from feedgate.gateway.reading import RunValues, read_definition


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example stack."""
    folder = tmp_path_factory.mktemp("landing")
    write_example(folder)
    return folder


def explained(stack: Path, operation: str, path: str) -> Explanation:
    """The decision on an operation of the example's first user."""
    definition = read_definition(stack, RunValues(), None)
    [user] = [each for each in definition.stack.users.values() if each.user_name == "jeffrey_aven"]
    return explain_path(definition, user, operation, path)


@pytest.mark.parametrize(
    ("lost", "operation", "path"),
    [
        ("ListOwnFolder", "ls", "/orders"),
        ("UseOwnFolder", "put", "/orders/a.csv"),
        ("UseOwnFolder", "get", "/orders/a.csv"),
        ("UseOwnFolder", "rm", "/orders/a.csv"),
        ("UseTheKmsKey", "put", "/orders/a.csv"),
        ("UseTheKmsKey", "get", "/orders/a.csv"),
    ],
)
def test_what_is_pasted_is_enough(stack: Path, lost: str, operation: str, path: str) -> None:
    """A statement that policy.txt lost is made good by what is offered, and by nothing wider."""
    file = stack / "policy.txt"
    whole = file.read_text()
    try:
        policy = json.loads(whole)
        [gone] = [each for each in policy["Statement"] if each["Sid"] == lost]
        policy["Statement"].remove(gone)
        file.write_text(json.dumps(policy, indent=2))
        refused = explained(stack, operation, path)
        assert not refused.allowed
        offered = [json.loads(fix.inline()) for fix in refused.fixes]
        assert offered
        for statement in offered:
            actions = gone["Action"] if isinstance(gone["Action"], list) else [gone["Action"]]
            assert set(statement["Action"]) <= set(actions)
        policy["Statement"] += offered
        file.write_text(json.dumps(policy, indent=2))
        assert explained(stack, operation, path).allowed
        assert not explained(stack, operation, path.replace("orders", "other")).allowed or (
            lost == "UseTheKmsKey"  # whose resource is the KMS key, whatever the path
        )
    finally:
        file.write_text(whole)
