"""`check`: what it says of a policy that every user has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from feedgate.cli.author import write_example
from feedgate.cli.checking import check
from feedgate.errors import DefinitionError
from feedgate.gateway.reading import RunValues, read_definition


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, whose two users share policy.txt."""
    folder = tmp_path_factory.mktemp("landing")
    write_example(folder)
    return folder


@pytest.fixture
def policy(stack: Path) -> Any:
    """Its policy file, put back afterwards."""
    path = stack / "policy.txt"
    text = path.read_text()
    yield path
    path.write_text(text)


def findings(stack: Path) -> tuple[int, list[dict[str, Any]]]:
    """What `check --json` says of policy.txt, in order, and its exit code."""
    done = CliRunner().invoke(check, [str(stack), "--no-lint", "--json"])
    found = json.loads(done.stdout)["findings"]
    return done.exit_code, [item for item in found if item["file"] == "policy.txt"]


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        pytest.param(('"Effect": "Allow"', '"Effct": "Allow"'), (6, 7), "`Effct`", id="element"),
        pytest.param(('"Statement": [', '"Statement": [,'), (3, 17), "not JSON", id="syntax"),
        pytest.param(("LandingKey.Arn", "Nothing.Arn"), (31, 22), "`Nothing`", id="reference"),
        pytest.param(
            (
                '"Resource": "${LandingBucket.Arn}",',
                '"Resource": ["${LandingBucket.Arn}", "arn:aws:s3:::elsewhere"],',
            ),
            (8, 45),
            "`arn:aws:s3:::elsewhere`",
            id="ARN",
        ),
        pytest.param(
            (
                '"${!transfer:UserName}/*"]',
                '"${!transfer:UserName}/*", "${!transfer:HomeFolder}"]',
            ),
            (10, 92),
            "`${transfer:HomeFolder}`",
            id="variable",
        ),
    ],
)
def test_a_shared_policy_is_told_once_at_its_line(
    stack: Path, policy: Path, change: tuple[str, str], place: tuple[int, int], words: str
) -> None:
    """One finding for both users, who are named, where in policy.txt the words stand."""
    policy.write_text(policy.read_text().replace(*change))
    _code, found = findings(stack)
    [finding] = [item for item in found if words in item["message"] and item["line"] == place[0]]
    assert finding["column"] == place[1]
    assert "`acme_retail`, `jeffrey_aven`" in finding["message"]
    assert finding["resource"] is None


def test_refusals_of_a_shared_policy_are_told_once(stack: Path, policy: Path) -> None:
    """What the policy forgot is one finding an operation, with what to paste into the file."""
    policy.write_text(policy.read_text().replace('"${LandingKey.Arn}"', '"arn:aws:kms:::key/x"'))
    code, found = findings(stack)
    assert code == 1
    [put] = [item for item in found if "cannot put" in item["message"]]
    assert put["message"].startswith("`acme_retail`, `jeffrey_aven` cannot put: refused at close")
    assert put["hint"].startswith("in `policy.txt`: {")


def test_up_is_told_the_same(stack: Path, policy: Path) -> None:
    """What ends `up` is the same one finding."""
    policy.write_text(policy.read_text().replace("LandingKey.Arn", "Nothing.Arn"))
    with pytest.raises(DefinitionError) as refused:
        read_definition(stack, RunValues(), None).require_good()
    [finding] = refused.value.findings
    assert str(finding.source) == "policy.txt:31:22"


def test_lines_come_in_order(stack: Path, policy: Path) -> None:
    """Line 4 comes before line 13."""
    policy.write_text(policy.read_text().replace('"Effect": "Allow",', ""))
    _code, found = findings(stack)
    lines = [item["line"] for item in found]
    assert len(lines) == 3
    assert lines == sorted(lines)
