"""What `check` tells about a stack that builds."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from feedgate.errors import Source
from feedgate.stack.build import build
from feedgate.stack.check import findings
from feedgate.stack.resources import Stack
from feedgate.stack.template import parse_template
from feedgate.stack.warehouse import FileFormat, Name, Stage, StorageIntegration, Warehouse

BLOB = base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)).decode()
KEY_LINE = f"ssh-ed25519 {BLOB} acme"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "transfer.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


def policy(*resources: str, **more: Any) -> dict[str, Any]:
    """A policy that allows everything on these resources."""
    statement = {"Effect": "Allow", "Action": "s3:*", "Resource": list(resources), **more}
    return {"Version": "2012-10-17", "Statement": [statement]}


def stack(
    *,
    role: Mapping[str, Any] | None = None,
    key: Mapping[str, Any] | None = None,
    session: Mapping[str, Any] | None = None,
    keys: Sequence[str] = (KEY_LINE,),
    home: str | None = None,
) -> Stack:
    """A stack of one server, role, KMS key, bucket and user; `home` makes it a PATH user."""
    user: dict[str, Any] = {
        "ServerId": {"Fn::GetAtt": ["Server", "ServerId"]},
        "UserName": "acme",
        "Role": {"Fn::GetAtt": ["Role", "Arn"]},
        "SshPublicKeys": list(keys),
    }
    if session:
        user["Policy"] = json.dumps(session)
    if home:
        user["HomeDirectory"] = home
    else:
        user["HomeDirectoryType"] = "LOGICAL"
        user["HomeDirectoryMappings"] = [{"Entry": "/", "Target": "/landing/acme"}]
    role_policy = {"PolicyName": "p", "PolicyDocument": role or policy("*")}
    role_properties = {
        "AssumeRolePolicyDocument": TRUST,
        "Policies": [role_policy],
        "RoleName": "r",
    }
    resources = {
        "Server": {
            "Type": "AWS::Transfer::Server",
            "Properties": {"SecurityPolicyName": "TransferSecurityPolicy-2024-01"},
        },
        "Role": {"Type": "AWS::IAM::Role", "Properties": role_properties},
        "Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "landing"}},
        "Key": {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": key} if key else {}},
        "Alias": {
            "Type": "AWS::KMS::Alias",
            "Properties": {"AliasName": "alias/k", "TargetKeyId": {"Ref": "Key"}},
        },
        "User": {"Type": "AWS::Transfer::User", "Properties": user},
    }
    text = json.dumps({"Resources": resources}, indent=1)
    return build(parse_template(text, file="template.json"), name="landing")


def messages(stack_: Stack, warehouse: Warehouse | None = None) -> list[str]:
    """The messages of all findings."""
    return [finding.message for finding in findings(stack_, warehouse)]


def test_a_clean_stack_has_no_findings() -> None:
    """Nothing to tell, nothing told."""
    assert messages(stack()) == []


@pytest.mark.parametrize(
    "name", ["HomeDirectory", "HomeFolder", "HomeBucket"], ids=lambda name: name.lower()
)
@pytest.mark.parametrize("prefix", ["transfer", "Transfer"])
def test_home_variables_have_no_value_for_logical_users(name: str, prefix: str) -> None:
    """AWS substitutes only UserName for LOGICAL users, however the variable is spelt."""
    session = policy(f"arn:aws:s3:::landing/${{{prefix}:{name}}}/*")
    (message,) = messages(stack(session=session))
    assert message.startswith(f"`${{{prefix}:{name}}}` has no value for a user with LOGICAL")
    assert messages(stack(session=session, home="/landing/acme")) == []


def test_user_name_is_fine_for_logical_users() -> None:
    """`${transfer:UserName}` works in every session policy."""
    session = policy("arn:aws:s3:::landing/${transfer:UserName}/*")
    assert messages(stack(session=session)) == []


def test_session_variables_in_a_role_are_told() -> None:
    """AWS Transfer never substitutes in a role's own policies."""
    role = policy("arn:aws:s3:::landing/${transfer:UserName}/*")
    assert messages(stack(role=role)) == [
        "`${transfer:UserName}` has a value in session policies only, not in `p`"
    ]


@pytest.mark.parametrize(("home", "told"), [("/landing/acme/", 1), ("/landing/acme", 0), ("/", 0)])
def test_a_trailing_slash_in_a_home_is_told(home: str, told: int) -> None:
    """`HomeDirectory` ending in `/` makes `${transfer:HomeDirectory}/*` match nothing."""
    session = policy("arn:aws:s3:::landing/${transfer:HomeFolder}/*")
    found = [
        message for message in messages(stack(session=session, home=home)) if "`//`" in message
    ]
    assert len(found) == told


@pytest.mark.parametrize(
    ("arn", "what"),
    [
        pytest.param("arn:aws:s3:::other", "bucket", id="bucket"),
        pytest.param("arn:aws:s3:::other/*", "bucket", id="objects"),
        pytest.param("arn:aws:s3:::landing2/*", "bucket", id="longer name"),
        pytest.param("arn:aws:kms:us-east-1:000000000000:key/x", "KMS key", id="KMS key"),
        pytest.param("arn:aws:kms:us-east-1:123456789012:key/*", "KMS key", id="account"),
    ],
)
def test_literal_arns_that_match_nothing_are_told(arn: str, what: str) -> None:
    """An ARN from another account's copy of the stack is told with the way to make it match."""
    (finding,) = findings(stack(role=policy(arn)), None)
    assert finding.message == f"`{arn}` in `p` matches no {what} of this stack"
    assert finding.severity == "warning"
    assert "--physical-id" in str(finding.hint)


@pytest.mark.parametrize(
    "arn",
    [
        "*",
        "arn:aws:s3:::landing",
        "arn:aws:s3:::landing/x/*",
        "arn:aws:s3:::land*",
        "arn:aws:s3:::*/*",
        "arn:aws:s3:::${aws:PrincipalTag/b}/*",
        "arn:aws:kms:us-east-1:000000000000:key/*",
        "arn:aws:kms:*:000000000000:key/*",
        "arn:aws:kms:us-east-1:000000000000:alias/k",
        "arn:aws:logs:us-east-1:1:*",
    ],
)
def test_arns_that_match_are_not_told(arn: str) -> None:
    """Wildcards and variables match what they may match; other services are not looked at."""
    assert messages(stack(role=policy(arn))) == []


def test_unknown_roles_as_principals_are_told() -> None:
    """A key policy that names a role which the stack does not have admits nobody."""
    document = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {
                    "AWS": [
                        "arn:aws:iam::000000000000:root",
                        "arn:aws:iam::000000000000:role/r",
                        "arn:aws:iam::000000000000:role/gone",
                        "arn:aws:iam::123456789012:role/elsewhere",
                    ]
                },
                "Action": "kms:*",
                "Resource": "*",
            }
        ],
    }
    assert messages(stack(key=document)) == [
        "the principal `arn:aws:iam::000000000000:role/gone` in `KeyPolicy` is no role of this"
        " stack"
    ]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        pytest.param([KEY_LINE], [], id="good"),
        pytest.param([KEY_LINE.rsplit(" ", 1)[0]], [], id="no comment"),
        pytest.param([], ["`acme` has no usable SSH public key and cannot log in"], id="none"),
        pytest.param(
            [KEY_LINE, "ssh-ed25519 AAAA"],
            ["SSH public key 2 of `acme` cannot be used"],
            id="one bad",
        ),
        pytest.param(
            [f"ssh-dss {BLOB}"],
            [
                "SSH public key 1 of `acme` cannot be used",
                "`acme` has no usable SSH public key and cannot log in",
            ],
            id="type",
        ),
    ],
)
def test_users_without_a_usable_key_are_told(keys: list[str], told: list[str]) -> None:
    """A user who cannot log in is told, with the command that adds a key."""
    assert messages(stack(keys=keys)) == told


def warehouse(bucket: str, role_arn: str) -> Warehouse:
    """A warehouse of one integration and one stage."""
    name = Name("DB", "PUBLIC", "S")
    url = f"s3://{bucket}/acme/"
    source = Source("warehouse.sql", 3)
    integration = StorageIntegration("I", role_arn, True, (url,), source=source)
    stage = Stage(name, url, "I", FileFormat(), source)
    return Warehouse((), (), (), {}, {}, {"I": integration}, {name: stage}, {})


def test_a_warehouse_of_this_stack_has_no_findings() -> None:
    """Stages in the stack's buckets and an integration with its role are fine."""
    assert messages(stack(), warehouse("landing", "arn:aws:iam::000000000000:role/r")) == []


def test_a_warehouse_that_looks_elsewhere_is_told() -> None:
    """A stage or integration that points outside the stack is told at its line."""
    found = findings(stack(), warehouse("elsewhere", "arn:aws:iam::1:role/r"))
    assert [finding.message for finding in found] == [
        "the role `arn:aws:iam::1:role/r` of the integration `I` is no role of this stack: "
        "its pipes cannot read",
        "`s3://elsewhere/acme/` lies in no bucket of this stack: nothing there is loaded",
    ]
    assert {finding.source for finding in found} == {Source("warehouse.sql", 3)}


def test_access_logging_is_told_to_be_ignored() -> None:
    """A bucket that wants access logs is told that none are written here."""
    plain = stack()
    [bucket] = plain.buckets.values()
    logged = replace(plain, buckets={bucket.name: replace(bucket, logging_bucket="logs")})
    told = set(findings(logged, None)) - set(findings(plain, None))
    assert [(item.severity, item.resource) for item in told] == [("ignored", bucket.logical_id)]
