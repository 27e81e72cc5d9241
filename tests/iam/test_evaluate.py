"""Decisions: their reasons, trust policies, and how fast they come."""

from __future__ import annotations

import time
from typing import Any

import pytest

from feedgate.iam.evaluate import (
    Effect,
    PolicySet,
    Principal,
    Request,
    evaluate,
    evaluate_trust,
)
from feedgate.iam.policy import Policy, PolicyKind, parse_policy

A, X = "111122223333", "444455556666"
ROLE = f"arn:aws:iam::{A}:role/R"
SESSION = Principal("role_session", A, ROLE, f"arn:aws:sts::{A}:assumed-role/R/S")
TRANSFER = Principal("service", service="transfer.amazonaws.com")
SNOWFLAKE = Principal("user", X, f"arn:aws:iam::{X}:user/snow")


def policy(kind: PolicyKind, *statements: dict[str, Any], name: str = "") -> Policy:
    """A policy of Version 2012-10-17."""
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    return parse_policy(document, kind=kind, name=name or kind)


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    """An Allow statement."""
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def trust(principal: Any, condition: Any = None, effect: str = "Allow") -> Policy:
    """A trust policy of one statement."""
    statement = {"Effect": effect, "Principal": principal, "Action": "sts:AssumeRole"}
    if condition:
        statement["Condition"] = condition
    return policy("trust", statement)


def assume(principal: Principal, document: Policy, may: bool = False, **context: Any) -> Effect:
    """Whether a principal may assume the role."""
    keys = {name.replace("_", ":", 1): value for name, value in context.items()}
    request = Request(principal, "sts:AssumeRole", ROLE, A, keys)
    return evaluate_trust(request, document, caller_may_assume=may).effect


def test_a_decision_tells_what_applied_and_why_the_rest_did_not() -> None:
    """An implicit deny names the silent kinds, what applied, and each other statement's reason."""
    request = Request(
        SESSION, "s3:GetObject", "arn:aws:s3:::b/eve/x", A, {"aws:SecureTransport": True}
    )
    decision = evaluate(
        request,
        PolicySet(
            identity=(policy("identity", allow("s3:*"), name="RolePolicy"),),
            session=policy(
                "session",
                allow("s3:PutObject"),
                allow("s3:GetObject", "arn:aws:s3:::b/${transfer:UserName}/*"),
                allow("s3:GetObject", "arn:aws:s3:::b/${transfer:HomeFolder}/*"),
                allow("s3:GetObject", Condition={"StringEquals": {"s3:x": "y"}}),
                allow("s3:GetObject", Condition={"Bool": {"aws:SecureTransport": "false"}}),
            ),
            variables={"transfer:UserName": "bob"},
        ),
    )
    assert decision.effect is Effect.DENY_IMPLICIT
    assert not decision.allowed
    assert decision.silent == ("session",)
    assert [str(match) for match in decision.applied] == ["RolePolicy: Statement[0]"]
    assert decision.deciding == ()
    assert decision.reason() == "no Allow in the session policy"
    reasons = [(missed.element, missed.reason) for missed in decision.considered]
    assert reasons == [
        ("action", "`s3:GetObject` is not among its actions"),
        ("resource", "`arn:aws:s3:::b/eve/x` is not among its resources"),
        (
            "resource",
            "`arn:aws:s3:::b/${transfer:HomeFolder}/*` holds a variable that has no value here",
        ),
        ("condition", "condition StringEquals s3:x `y`: the request has no such key"),
        (
            "condition",
            "condition Bool aws:securetransport `false`: the request has `true`",
        ),
    ]


def test_the_deny_that_decided_is_named() -> None:
    """An explicit deny names its statement and no silent policy."""
    deny = {"Sid": "NoEve", "Effect": "Deny", "Action": "s3:*", "Resource": "*"}
    decision = evaluate(
        Request(SESSION, "s3:GetObject", "arn:aws:s3:::b/x", A),
        PolicySet(identity=(policy("identity", allow("s3:*"), deny, name="P"),)),
    )
    assert decision.effect is Effect.DENY_EXPLICIT
    assert decision.silent == ()
    assert decision.reason() == "Deny in P: Statement[1] (NoEve)"


def test_an_allow_names_one_statement_of_each_kind_that_was_needed() -> None:
    """What was needed is listed in the order role, session, key policy."""
    key = f"arn:aws:kms:us-east-1:{A}:key/k"
    delegation = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{A}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    decision = evaluate(
        Request(SESSION, "kms:Decrypt", key, A),
        PolicySet(
            identity=(policy("identity", allow("kms:Decrypt")),),
            session=policy("session", allow("kms:Decrypt")),
            resource=policy("kms", delegation),
        ),
    )
    assert decision.allowed
    assert [match.kind for match in decision.deciding] == ["identity", "session", "kms"]


USER_ARN = f"arn:aws:transfer:us-east-1:{A}:user/s-01234567890abcdef/bob"
DEPUTY = {
    "StringEquals": {"aws:SourceAccount": A},
    "ArnLike": {"aws:SourceArn": f"arn:aws:transfer:us-east-1:{A}:user/s-01234567890abcdef/*"},
}


def test_transfer_assumes_a_role_whose_trust_names_it() -> None:
    """The confused-deputy form admits the server's users and nobody else."""
    document = trust({"Service": "transfer.amazonaws.com"}, DEPUTY)
    good = {"aws_SourceAccount": A, "aws_SourceArn": USER_ARN}
    assert assume(TRANSFER, document, **good) is Effect.ALLOW
    assert assume(TRANSFER, document, **{**good, "aws_SourceAccount": X}) is Effect.DENY_IMPLICIT
    assert assume(TRANSFER, document) is Effect.DENY_IMPLICIT
    other = Principal("service", service="ec2.amazonaws.com")
    assert assume(other, document, **good) is Effect.DENY_IMPLICIT


def test_a_trust_policy_with_the_servers_arn_breaks_logins() -> None:
    """The context of a login is the user's ARN, so a server ARN never matches."""
    server = f"arn:aws:transfer:us-east-1:{A}:server/s-01234567890abcdef"
    document = trust({"Service": "transfer.amazonaws.com"}, {"ArnLike": {"aws:SourceArn": server}})
    assert assume(TRANSFER, document, aws_SourceArn=USER_ARN) is Effect.DENY_IMPLICIT


@pytest.mark.parametrize("principal", ["*", {"AWS": "*"}, {"AWS": A}])
def test_a_service_must_be_named(principal: Any) -> None:
    """Everybody and the account are not the service."""
    assert assume(TRANSFER, trust(principal)) is Effect.DENY_IMPLICIT


def test_a_deny_for_everybody_hits_the_service() -> None:
    """A Deny with `*` refuses services too."""
    document = policy(
        "trust",
        {
            "Effect": "Allow",
            "Principal": {"Service": "transfer.amazonaws.com"},
            "Action": "sts:AssumeRole",
        },
        {"Effect": "Deny", "Principal": "*", "Action": "sts:*"},
    )
    assert assume(TRANSFER, document) is Effect.DENY_EXPLICIT


def test_another_accounts_user_needs_his_own_permission_and_the_external_id() -> None:
    """Across accounts the trust policy is one half, and its external id must be shown."""
    document = trust({"AWS": SNOWFLAKE.arn}, {"StringEquals": {"sts:ExternalId": "E1"}})
    assert assume(SNOWFLAKE, document, may=True, sts_ExternalId="E1") is Effect.ALLOW
    assert assume(SNOWFLAKE, document, may=True, sts_ExternalId="E2") is Effect.DENY_IMPLICIT
    assert assume(SNOWFLAKE, document, may=True) is Effect.DENY_IMPLICIT
    assert assume(SNOWFLAKE, document, sts_ExternalId="E1") is Effect.DENY_IMPLICIT


def test_within_an_account_a_named_user_suffices_and_root_delegates() -> None:
    """Named directly is enough; through the account the caller's own policies must allow."""
    alice = Principal("user", A, f"arn:aws:iam::{A}:user/alice")
    assert assume(alice, trust({"AWS": alice.arn})) is Effect.ALLOW
    assert assume(alice, trust({"AWS": A})) is Effect.DENY_IMPLICIT
    assert assume(alice, trust({"AWS": A}), may=True) is Effect.ALLOW


def test_context_keys_of_a_request_have_no_case() -> None:
    """The request's own spelling of a key does not matter."""
    decision = evaluate(
        Request(SESSION, "s3:GetObject", "arn:aws:s3:::b/x", A, {"AWS:SECURETRANSPORT": True}),
        PolicySet(
            (
                policy(
                    "identity",
                    allow("s3:*", Condition={"Bool": {"aws:SecureTransport": "true"}}),
                ),
            )
        ),
    )
    assert decision.allowed


def test_decisions_come_fast() -> None:
    """A realistic decision takes well under a millisecond without any memory of earlier ones."""
    policies = PolicySet(
        identity=(
            policy(
                "identity",
                allow(["s3:ListBucket", "s3:GetBucketLocation"], "arn:aws:s3:::b"),
                allow(["s3:GetObject", "s3:PutObject", "s3:Delete*"], "arn:aws:s3:::b/*"),
            ),
        ),
        session=policy(
            "session",
            allow(
                "s3:ListBucket",
                "arn:aws:s3:::b",
                Condition={"StringLike": {"s3:prefix": ["${transfer:UserName}/*"]}},
            ),
            allow(["s3:GetObject", "s3:PutObject"], "arn:aws:s3:::b/${transfer:UserName}/*"),
        ),
        variables={"transfer:UserName": "bob"},
    )
    request = Request(SESSION, "s3:PutObject", "arn:aws:s3:::b/bob/x.csv", A)
    assert evaluate(request, policies).allowed
    began = time.perf_counter()
    for _ in range(1_000):
        evaluate(request, policies)
    assert time.perf_counter() - began < 0.5
