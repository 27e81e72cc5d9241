"""The judge: operations, packets at which refusals show, memory, audit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from feedgate.access.actions import CALLS, COMMANDS, OPERATIONS, STAGE_TEXTS
from feedgate.access.authorize import Judge, asker_of
from feedgate.access.principals import Operator
from feedgate.errors import AccessDenied
from feedgate.iam.evaluate import Effect
from feedgate.limits import DECISIONS_KEPT_MAX

SUPPLIER_OPERATIONS = [name for by, name in OPERATIONS if by == "supplier"]


def refusals(judge: Judge, principal: Any, operation: str, key: str) -> list[tuple[str, str]]:
    """Which actions of an operation are refused, and at which packet."""
    return [
        (judgement.requirement.action, judgement.requirement.stage)
        for judgement in judge.judgements(principal, operation, "land", key, target=f"{key}2")
        if not judgement.decision.allowed
    ]


@pytest.mark.parametrize("operation", SUPPLIER_OPERATIONS)
def test_the_reference_policies_allow_every_operation_at_home(site: Any, operation: str) -> None:
    """A supplier may do everything under his own prefix."""
    judge = site.judge()
    assert refusals(judge, site.supplier(judge), operation, "bob/x") == []


@pytest.mark.parametrize(
    "operation",
    [name for name in SUPPLIER_OPERATIONS if OPERATIONS["supplier", name].requirements],
)
def test_the_reference_policies_refuse_every_operation_elsewhere(site: Any, operation: str) -> None:
    """A supplier may do nothing under another's; OPENDIR passes, for the role alone is asked."""
    judge = site.judge()
    found = refusals(judge, site.supplier(judge), operation, "bob2/x")
    assert bool(found) is (operation != "opendir")


def test_role_without_the_kms_key_is_refused_at_opendir(site: Any, names: Any) -> None:
    """The first classic failure: `ls` ends at OPENDIR, a get at OPEN, a put at CLOSE."""
    site.role = names["s3_role"]
    judge = site.judge()
    bob = site.supplier(judge)
    assert refusals(judge, bob, "opendir", "bob") == [("kms:Decrypt", "opendir")]
    assert refusals(judge, bob, "open-read", "bob/x") == [("kms:Decrypt", "open")]
    assert refusals(judge, bob, "open-write", "bob/x") == [("kms:GenerateDataKey", "close")]
    with pytest.raises(AccessDenied) as caught:
        judge.require(bob, "opendir", "land", "bob/", stage="opendir")
    assert caught.value.decision.silent == ("identity",)


def test_session_policy_without_the_kms_key_is_refused_at_readdir(site: Any, names: Any) -> None:
    """The second classic failure: OPENDIR passes, READDIR and an upload's CLOSE do not."""
    site.session = names["s3_session"]
    judge = site.judge()
    bob = site.supplier(judge)
    assert refusals(judge, bob, "opendir", "bob") == []
    assert refusals(judge, bob, "readdir", "bob") == [("kms:Decrypt", "readdir")]
    assert refusals(judge, bob, "open-write", "bob/x") == [("kms:GenerateDataKey", "close")]
    with pytest.raises(AccessDenied) as caught:
        judge.require(bob, "close", "land", "bob/x")
    assert caught.value.decision.silent == ("session",)


def test_no_session_policy_sets_no_limit(site: Any) -> None:
    """Without a session policy the whole role is the supplier's."""
    site.session = None
    judge = site.judge()
    assert refusals(judge, site.supplier(judge), "open-read", "bob2/x") == []


def test_key_policy_that_names_nobody_refuses_even_the_operator(
    site: Any, names: Any, operator: Operator
) -> None:
    """Key policies bind the account's root; S3 needs no policy for it."""
    site.key_policy = ({**names["delegate"][0], "Principal": {"AWS": names["snowflake_role"]}},)
    judge = site.judge()
    assert refusals(judge, operator, "cat", "bob/x") == [("kms:Decrypt", "command")]
    assert refusals(judge, operator, "ls", "") == []
    assert refusals(judge, site.supplier(judge), "open-read", "bob/x") == [("kms:Decrypt", "open")]


def test_explicit_deny_binds_the_operator(site: Any, operator: Operator) -> None:
    """A bucket policy's Deny for everybody hits the account's root too."""
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": "*"}
    site.bucket_policy = (deny,)
    judge = site.judge()
    assert refusals(judge, operator, "rm", "bob/x") == [("s3:DeleteObject", "command")]
    assert refusals(judge, operator, "cat", "bob/x") == []


def test_encryption_context_is_the_objects_or_with_a_bucket_key_the_buckets(site: Any) -> None:
    """Policies see the same encryption context as on AWS."""
    only = {"StringLike": {"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::land/bob/*"}}
    statement = {**site.role[2], "Condition": only}
    site.role = (*site.role[:2], statement)
    judge = site.judge()
    assert refusals(judge, site.supplier(judge), "open-read", "bob/x") == []
    site.bucket_key = True
    judge = site.judge()
    assert refusals(judge, site.supplier(judge), "open-read", "bob/x") == [("kms:Decrypt", "open")]


@pytest.mark.parametrize(
    ("condition", "allowed"),
    [
        ({"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}, True),
        ({"StringEquals": {"kms:ViaService": "ec2.us-east-1.amazonaws.com"}}, False),
        ({"StringEquals": {"kms:CallerAccount": "000000000000"}}, True),
        ({"Bool": {"aws:ViaAWSService": "true"}}, True),
        ({"ForAnyValue:StringEquals": {"aws:CalledVia": "s3.amazonaws.com"}}, True),
        ({"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "aws:s3:arn"}}, True),
        ({"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/landing"}}, True),
        ({"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::000000000000:role/transfer"}}, True),
        (
            {"ArnLike": {"aws:PrincipalArn": "arn:aws:sts::000000000000:assumed-role/transfer/*"}},
            False,
        ),
        ({"StringEquals": {"aws:PrincipalTag/team": "red"}}, True),
        ({"StringLike": {"aws:userid": "AROA1234:bob.*"}}, True),
        ({"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}, False),
        ({"Null": {"aws:SourceIp": "true"}}, True),
        ({"Null": {"aws:username": "true"}}, True),
    ],
)
def test_kms_requests_say_what_aws_says(site: Any, condition: Any, allowed: bool) -> None:
    """A condition on the KMS statement sees the context of a forward access session."""
    site.role = (*site.role[:2], {**site.role[2], "Condition": condition})
    judge = site.judge()
    found = refusals(judge, site.supplier(judge), "open-read", "bob/x")
    assert found == ([] if allowed else [("kms:Decrypt", "open")])


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [("bob", True), ("bob/", True), ("bob/in", True), ("bob2", False), ("", False), ("bo", False)],
)
def test_listing_carries_its_prefix(site: Any, prefix: str, expected: bool) -> None:
    """READDIR of a directory is a listing of its prefix; the bucket's root is the empty one."""
    judge = site.judge()
    assert (refusals(judge, site.supplier(judge), "readdir", prefix) == []) is expected


def test_a_buckets_root_has_no_marker(site: Any, names: Any) -> None:
    """Listing a bucket's root needs s3:ListBucket alone."""
    site.role, site.session = names["s3_role"][:1], None
    judge = site.judge()
    assert refusals(judge, site.supplier(judge), "readdir", "") == []
    assert refusals(judge, site.supplier(judge), "readdir", "bob") == [
        ("s3:GetObject", "readdir"),
        ("kms:Decrypt", "readdir"),
    ]


def test_a_bucket_without_a_kms_key_needs_no_kms_action(site: Any, names: Any) -> None:
    """SSE-S3 asks KMS nothing."""
    site.kms_key_arn, site.role, site.session = None, names["s3_role"], names["s3_session"]
    judge = site.judge()
    bob = site.supplier(judge)
    for operation in ("readdir", "open-read", "open-write", "rename", "mkdir"):
        assert refusals(judge, bob, operation, "bob/x") == []


def test_an_unknown_bucket_is_refused_to_everybody(site: Any, operator: Operator) -> None:
    """A bucket outside the stack belongs to another account as far as the judge knows."""
    judge = site.judge()
    decision = judge.decide(operator, "s3:GetObject", "arn:aws:s3:::elsewhere/x")
    assert decision.effect is Effect.DENY_IMPLICIT
    assert decision.silent == ("bucket",)


def test_decisions_are_remembered_and_each_request_is_audited(site: Any) -> None:
    """The second request is the same decision and another audit event."""
    judge = site.judge()
    bob = site.supplier(judge)
    site.events.clear()
    first = judge.decide(bob, "s3:GetObject", "arn:aws:s3:::land/bob/x")
    second = judge.decide(bob, "s3:GetObject", "arn:aws:s3:::land/bob/x")
    assert second is first
    assert len(site.events) == 2
    assert site.events[0].fields() == {
        "principal": "arn:aws:sts::000000000000:assumed-role/transfer/"
        "bob.9ca9a0e1cec6ad9d@s-01234567890abcdef",
        "user": "bob",
        "action": "s3:GetObject",
        "resource": "arn:aws:s3:::land/bob/x",
        "decision": "allow",
        "statement": "TransferRole/own: Statement[1] (Objects);"
        " bob/Policy: Statement[1] (OwnObjects)",
    }


def test_a_refusal_names_the_operation_and_the_packet_in_the_audit(site: Any) -> None:
    """An operation's audit events carry its name and stage, and end at the refusal."""
    judge = site.judge()
    bob = site.supplier(judge)
    site.events.clear()
    with pytest.raises(AccessDenied, match="no Allow in the session policy"):
        judge.require(bob, "open-read", "land", "eve/x")
    (event,) = site.events
    assert (event.operation, event.stage, event.effect) == (
        "open-read",
        "open",
        Effect.DENY_IMPLICIT,
    )
    assert event.statement is None


def test_memory_of_decisions_is_bounded(site: Any) -> None:
    """A supplier who asks for ever more keys does not fill the memory."""
    judge = site.judge()
    bob = site.supplier(judge)
    for number in range(DECISIONS_KEPT_MAX + 10):
        judge.decide(bob, "s3:GetObject", f"arn:aws:s3:::land/bob/{number}")
    view = judge._views.get(bob)
    assert view is not None
    assert 0 < len(view.kept) <= DECISIONS_KEPT_MAX


def test_a_policy_that_asks_the_time_is_never_remembered(site: Any) -> None:
    """A date condition is judged at each request."""
    until = {"DateLessThan": {"aws:EpochTime": str(int(site.now_s) + 60)}}
    site.role = tuple({**statement, "Condition": until} for statement in site.role)
    judge = site.judge()
    bob = site.supplier(judge)
    assert judge.decide(bob, "s3:GetObject", "arn:aws:s3:::land/bob/x").allowed
    site.now_s += 61
    assert not judge.decide(bob, "s3:GetObject", "arn:aws:s3:::land/bob/x").allowed


def test_a_changed_stack_counts_for_open_sessions(site: Any, names: Any) -> None:
    """After `take_up` a session is judged by the new policies, and not at all without its role."""
    judge = site.judge()
    bob = site.supplier(judge)
    assert refusals(judge, bob, "open-read", "bob/x") == []
    site.role = names["s3_role"]
    judge.take_up(site.stack())
    assert refusals(judge, bob, "open-read", "bob/x") == [("kms:Decrypt", "open")]
    judge.take_up(replace(site.stack(), roles={}))
    assert ("s3:GetObject", "open") in refusals(judge, bob, "open-read", "bob/x")


def test_sessions_are_forgotten_with_their_session(site: Any) -> None:
    """The judge holds nothing of a session that is gone."""
    judge = site.judge()
    bob = site.supplier(judge)
    judge.decide(bob, "s3:GetObject", "arn:aws:s3:::land/bob/x")
    assert len(judge._views) == 1
    del bob
    assert len(judge._views) == 0


def test_the_table_is_whole(site: Any, operator: Operator) -> None:
    """Every call and command leads to a row, every row to known actions."""
    judge = site.judge()
    assert asker_of(operator) == "operator"
    assert asker_of(site.supplier(judge)) == "supplier"
    assert asker_of(site.loader(judge)) == "loader"
    for by, calls in CALLS.items():
        assert all((by, name) in OPERATIONS for name in calls.values())
    assert all(("supplier", name) in OPERATIONS for names in COMMANDS.values() for name in names)
    actions = {
        requirement.action for row in OPERATIONS.values() for requirement in row.requirements
    }
    assert actions == {
        "s3:ListBucket",
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "kms:Decrypt",
        "kms:GenerateDataKey",
    }
    assert set(STAGE_TEXTS) == {"opendir", "readdir", "open", "close"}
