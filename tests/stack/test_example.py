"""The example stack: what it renders to, and the stack that it becomes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from feedgate.gateway.rendering import render
from feedgate.stack.build import build
from feedgate.stack.check import findings
from feedgate.stack.parameters import parse_parameter_file
from feedgate.stack.resources import HomeDirectoryMapping, Stack
from feedgate.stack.template import Template, parse_template

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "landing"
GOLDEN = ROOT / "tests" / "vectors" / "cfn_landing.json"


@pytest.fixture(scope="module")
def template() -> Template:
    """The example, rendered once."""
    rendered = render(EXAMPLE)
    return parse_template(rendered.text, file=rendered.file, authored=rendered.authored)


def parameters(name: str) -> Mapping[str, str]:
    """The values of a parameter file of the example."""
    file = EXAMPLE / "params" / f"{name}.json"
    return parse_parameter_file(file.read_text(), file=file.name)


def built(template: Template, name: str | None) -> Stack:
    """The example under a parameter file, or under its defaults."""
    return build(template, name="landing", parameters=parameters(name) if name else {})


def test_golden_rendering() -> None:
    """The example renders to the golden text; FEEDGATE_REWRITE_GOLDEN=1 writes it anew."""
    text = render(EXAMPLE).text
    if os.environ.get("FEEDGATE_REWRITE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


@pytest.mark.parametrize("name", [None, "dev", "prod"])
def test_it_builds_under_each_parameter_file(template: Template, name: str | None) -> None:
    """The example becomes a stack whose landing bucket is encrypted, logged and mapped to."""
    stack = built(template, name)
    bucket = stack.buckets[stack.outputs["LandingBucketName"]]
    assert bucket.kms_key_arn == stack.outputs["LandingKeyArn"]
    assert bucket.bucket_key_enabled
    assert stack.kms_keys[bucket.kms_key_arn].enable_key_rotation
    assert bucket.logging_bucket in stack.buckets
    assert stack.outputs["SnowflakeRoleArn"] in stack.roles
    assert stack.outputs["ServerId"] == stack.server.server_id
    assert stack.server.custom_hostname == stack.outputs["HostName"]
    assert stack.users["jeffrey_aven"].home_directory_mappings == (
        HomeDirectoryMapping("/", f"/{bucket.name}/jeffrey_aven"),
    )
    assert len(stack.users["acme_retail"].home_directory_mappings) > 1


def test_the_parameter_files_differ_where_it_matters(template: Template) -> None:
    """Bucket, host name and Snowflake's trust differ between dev and prod."""
    dev, prod = built(template, "dev"), built(template, "prod")
    for name in ("LandingBucketName", "HostName"):
        assert dev.outputs[name] != prod.outputs[name]
    assert "TransferHostName" not in dev.physical_ids
    assert "TransferHostName" in prod.physical_ids
    trust = {
        stack.name + stack.parameters["Environment"]: next(
            policy.document
            for policy in stack.policy_texts
            if policy.logical_id == "SnowflakeRole" and policy.name == "AssumeRolePolicyDocument"
        )
        for stack in (dev, prod)
    }
    text = json.dumps(trust["landingprod"])
    assert "sts:ExternalId" in text
    assert "111122223333" in text
    assert "sts:ExternalId" not in json.dumps(trust["landingdev"])


def test_the_session_policy_names_bucket_and_kms_key(template: Template) -> None:
    """policy.txt ends with real ARNs, and with the user's name left to AWS Transfer."""
    stack = built(template, None)
    policy = json.loads(stack.users["jeffrey_aven"].policy or "")
    resources = [statement["Resource"] for statement in policy["Statement"]]
    bucket = stack.buckets[stack.outputs["LandingBucketName"]]
    assert resources == [
        bucket.arn,
        f"{bucket.arn}/${{transfer:UserName}}/*",
        stack.outputs["LandingKeyArn"],
    ]


def test_what_check_tells_about_it(template: Template) -> None:
    """Freshly cloned, only the missing SSH keys and AWS's own surroundings are told."""
    found = findings(built(template, "prod"), None)
    assert {finding.severity for finding in found} == {"ignored", "warning"}
    warnings = [finding for finding in found if finding.severity == "warning"]
    assert [finding.resource for finding in warnings] == ["UserAcmeRetail", "UserJeffreyAven"]
    assert all("feedgate user key add" in str(finding.hint) for finding in warnings)
    assert {finding.source.file for finding in warnings if finding.source} == {"users.json"}


def test_no_account_and_no_bucket_is_named_literally() -> None:
    """The author's files hold no account number and no bucket name; parameters may."""
    for file in [*EXAMPLE.glob("*.*"), *(EXAMPLE / "includes").glob("*")]:
        if file.is_file() and file.suffix != ".pub":
            assert not re.search(r"\b\d{12}\b", file.read_text()), file


def test_nothing_private_ships() -> None:
    """No SSH key, public or private, is in the example."""
    for user in json.loads((EXAMPLE / "users.json").read_text()):
        assert user["SshPublicKeys"] == []
    for file in EXAMPLE.rglob("*"):
        if file.is_file() and ".feedgate" not in file.parts:
            assert b"PRIVATE KEY" not in file.read_bytes(), file


def test_one_resource_a_file() -> None:
    """Each include holds at most one resource."""
    for file in (EXAMPLE / "includes").glob("*.libsonnet"):
        assert len(re.findall(r"Type: 'AWS::", file.read_text())) <= 1, file
