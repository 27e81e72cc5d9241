"""Policy documents: what is refused when parsed, and that every fault is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from feedgate.iam.match import PrincipalSet
from feedgate.iam.policy import Policy, PolicyError, PolicyKind, parse_policy

GOOD = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}


def parse(
    *statements: Any, kind: PolicyKind = "identity", version: str = "2012-10-17", **top: Any
) -> Policy:
    """Parse a policy of these statements."""
    return parse_policy(
        {"Version": version, "Statement": list(statements), **top}, kind=kind, name="p"
    )


def problems(document: Any, kind: PolicyKind = "identity") -> str:
    """Every fault of a document, one a line."""
    with pytest.raises(PolicyError) as caught:
        parse_policy(document, kind=kind, name="p")
    assert all("\n" not in problem for problem in caught.value.problems)
    return "\n".join(caught.value.problems)


STATEMENT_FAULTS = [
    ({"Effect": "allow"}, "Statement[0]: Effect must be Allow or Deny"),
    ({"Effect": None}, "Effect must be Allow or Deny"),
    ({"Action": "s3:Get Object"}, "Action: `s3:Get Object` is not `*` or `service:Name`"),
    ({"Action": " s3:GetObject"}, "is not `*` or `service:Name`"),
    ({"Action": "s3:GetObject,s3:PutObject"}, "is not `*` or `service:Name`"),
    ({"Action": "GetObject"}, "is not `*` or `service:Name`"),
    ({"Action": []}, "Action: the list is empty"),
    ({"Action": [1]}, "Action must be a string or a list of strings"),
    ({"NotAction": "s3:*"}, "Action and NotAction exclude each other"),
    ({"NotResource": "*"}, "Resource and NotResource exclude each other"),
    ({"Resource": []}, "Resource: the list is empty"),
    ({"Resource": "bucket/key"}, "Resource: `bucket/key` is not `*` or an ARN of six parts"),
    ({"Resource": "arn:aws:s3*"}, "is not `*` or an ARN of six parts"),
    ({"Resource": "arn:aws:*:b/x"}, "is not `*` or an ARN of six parts"),
    ({"Resource": "arn:aws:s?:::b/x"}, "the service is named without wildcards"),
    ({"Resource": "arn:aws:${aws:userid}:::b"}, "variables stand only after the fifth colon"),
    ({"Resource": "arn:aws:s3:::b/${aws:userid"}, "malformed policy variable"),
    ({"Resource": "arn:aws:s3:::b/${}"}, "malformed policy variable"),
    ({"Resource": "arn:aws:s3:::b/${aws:userid,'x'}"}, "malformed policy variable"),
    ({"Principal": "*"}, "an identity policy has no Principal"),
    ({"Sid": "has space"}, "Sid must be letters and digits"),
    ({"Comment": "x"}, "unknown element `Comment`"),
    ({"condition": {}}, "unknown element `condition`"),
    ({"Condition": []}, "Condition must be an object"),
    ({"Condition": {"StringEquals": {}}}, "must be an object that names keys"),
    ({"Condition": {"StringEqual": {"aws:a": "b"}}}, "unknown condition operator"),
    ({"Condition": {"stringequals": {"aws:a": "b"}}}, "unknown condition operator"),
    ({"Condition": {"ForSomeValues:StringEquals": {"aws:a": "b"}}}, "unknown condition operator"),
    ({"Condition": {"BinaryEquals": {"aws:a": "QQ=="}}}, "Condition.BinaryEquals: not done here"),
    ({"Condition": {"NullIfExists": {"aws:a": "true"}}}, "takes neither a prefix nor IfExists"),
    ({"Condition": {"StringEquals": {"aws:a": []}}}, "the list of values is empty"),
    ({"Condition": {"StringEquals": {"aws:a": None}}}, "a value must be a string"),
    ({"Condition": {"StringEquals": {"nokey": "x"}}}, "`nokey` is not a condition key"),
    ({"Condition": {"StringEquals": {"aws:a": "1", "AWS:A": "2"}}}, "is given twice"),
    ({"Condition": {"Bool": {"aws:a": "yes"}}}, "`yes` is not true or false"),
    ({"Condition": {"Bool": {"aws:a": "${aws:b}"}}}, "is not true or false"),
    ({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}}, "is not an IP address"),
    ({"Condition": {"NumericEquals": {"aws:a": "1e3"}}}, "`1e3` is not a number"),
    ({"Condition": {"DateEquals": {"aws:a": "2026"}}}, "is not an ISO 8601 date"),
    ({"Condition": {"DateEquals": {"aws:a": "2026-11-24T10:00"}}}, "is not an ISO 8601 date"),
    ({"Condition": {"ArnLike": {"aws:a": "*"}}}, "`*` is not an ARN of six parts"),
]


@pytest.mark.parametrize(
    ("change", "expected"),
    STATEMENT_FAULTS,
    ids=[str(change)[:60] for change, _ in STATEMENT_FAULTS],
)
def test_faulty_statement_is_refused_by_name(change: dict[str, Any], expected: str) -> None:
    """A statement that AWS refuses, or that is not understood here, is refused when parsed."""
    document = {"Version": "2012-10-17", "Statement": {**GOOD, **change}}
    assert expected in problems(document)
    assert expected in problems(json.dumps(document)), "text and tree are read alike"


PRINCIPAL_FAULTS = [
    (None, "Principal is missing"),
    ({}, "Principal must be"),
    ("arn:aws:iam::111122223333:root", "Principal must be"),
    ({"AWS": "arn:aws:iam::111122223333:role/x-*"}, "without wildcards inside"),
    ({"AWS": "11112222333"}, "is not a principal that feedgate understands"),
    ({"AWS": 111122223333}, "must be a string or a list of strings"),
    ({"AWS": []}, "the list is empty"),
    ({"AWS": "AROAEXAMPLEID"}, "is not a principal that feedgate understands"),
    ({"Service": "*"}, "without wildcards inside"),
    ({"Service": "transfer"}, "is not a principal that feedgate understands"),
    ({"CanonicalUser": "79a5"}, "canonical user ids are not done here"),
    ({"Robot": "x"}, "unknown kind of principal"),
]


@pytest.mark.parametrize(("principal", "expected"), PRINCIPAL_FAULTS)
def test_faulty_principal_is_refused_by_name(principal: Any, expected: str) -> None:
    """A resource policy's principal is exact and understood, or refused."""
    statement = dict(GOOD)
    if principal is not None:
        statement["Principal"] = principal
    assert expected in problems({"Statement": [statement]}, "bucket")


def test_every_fault_is_listed_at_once() -> None:
    """One parse tells the faults of all statements, and those of the document."""
    found = problems(
        {
            "Version": "2020-01-01",
            "Extra": 1,
            "Statement": [
                {"Effect": "Nope", "Action": "s3:*", "Resource": "*"},
                {"Effect": "Deny", "Action": "x y", "Resource": "nope"},
                {**GOOD, "Sid": "A"},
                {**GOOD, "Sid": "A"},
                "text",
            ],
        }
    )
    assert "unknown element `Extra`" in found
    assert "Version must be 2012-10-17 or 2008-10-17" in found
    assert "Statement[0]: Effect" in found
    assert "Statement[1]: Action" in found
    assert "Statement[1]: Resource" in found
    assert "Statement[3]: Sid `A` is given twice" in found
    assert "Statement[4]: a statement is an object" in found


TEXT_FAULTS = [
    ("{", "not JSON"),
    ("[]", "a policy is a JSON object"),
    ("{}", "Statement is missing"),
    ('{"Statement": [], }', "not JSON"),
    ('{"Statement": [] /* why */}', "not JSON"),
    ('{"Statement": [{"Effect":"Deny","Effect":"Allow"}]}', "`Effect` is given twice"),
    ('{"Statement": NaN}', "`NaN` is not JSON"),
    ('{"Statement": ' + "[" * 100_000 + "]" * 100_000 + "}", "not JSON that a policy may be"),
    ('{"Statement": ' + "9" * 10_000 + "}", "not JSON that a policy may be"),
    ('{"Statement": [{"Effect":"Allow","Action":"s3:*","Resource":"\\u4e2d"}]}', "U+4E2D"),
    ('{"Statement": [{"Effect":"Allow","Action":"s3:*","Resource":"\\ud800"}]}', "U+D800"),
]


@pytest.mark.parametrize(("text", "expected"), TEXT_FAULTS, ids=[t[:40] for t, _ in TEXT_FAULTS])
def test_text_that_is_no_policy_is_refused(text: str, expected: str) -> None:
    """Only strict JSON is taken: no comment, no trailing comma, no key twice, no odd character."""
    assert expected in problems(text)


def test_session_policy_is_bounded_as_transfer_bounds_it() -> None:
    """A session policy has at most 2,048 characters as it stands."""
    document = json.dumps({"Version": "2012-10-17", "Statement": [GOOD]})
    padded = document + " " * (2_048 - len(document))
    assert parse_policy(padded, kind="session", name="p").statements
    assert "AWS takes 2,048" in problems(padded + " ", "session")


def test_transfer_variable_in_an_older_version_is_refused() -> None:
    """A session policy without Version 2012-10-17 cannot hold a Transfer variable."""
    statement = {**GOOD, "Resource": "arn:aws:s3:::b/${Transfer:UserName}/*"}
    assert "needs Version 2012-10-17" in problems({"Statement": [statement]}, "session")


def test_trust_policy_takes_neither_resource_nor_other_services() -> None:
    """A trust policy names principals and actions of sts only."""
    found = problems(
        {"Statement": {**GOOD, "Principal": {"Service": "transfer.amazonaws.com"}}}, "trust"
    )
    assert "a trust policy has no Resource" in found
    assert "`s3:GetObject` is no action of sts" in found


def test_key_policy_statement_without_resource_is_taken_and_remarked() -> None:
    """KMS takes a statement without Resource, which has no effect; so it is remarked upon."""
    statement = {"Effect": "Deny", "Principal": "*", "Action": "kms:*"}
    policy = parse_policy({"Statement": statement}, kind="kms", name="p")
    assert policy.statements[0].is_inert
    assert "has no effect" in policy.remarks[0]


def test_empty_list_of_statements_allows_nothing_and_is_remarked() -> None:
    """An empty policy is legal, and says so."""
    policy = parse()
    assert policy.statements == ()
    assert policy.remarks == ("the policy has no statement",)


def test_context_keys_in_use_are_known() -> None:
    """A policy tells which context keys its conditions and variables ask for."""
    policy = parse(
        {
            **GOOD,
            "Resource": "arn:aws:s3:::b/${aws:PrincipalTag/Team}",
            "Condition": {"StringLike": {"s3:Prefix": "${aws:userid}/*"}},
        }
    )
    assert policy.keys == {"aws:principaltag/team", "s3:prefix", "aws:userid"}


def test_statements_keep_their_place_and_text() -> None:
    """A statement knows its index from 0, its Sid and how it was written."""
    policy = parse({**GOOD, "Sid": "First"}, GOOD)
    assert [str(statement.match) for statement in policy.statements] == [
        "p: Statement[0] (First)",
        "p: Statement[1]",
    ]
    assert policy.statements[1].document == GOOD


def test_policies_are_equal_by_content() -> None:
    """Two policies with the same kind, name and text are equal and hash alike."""
    one, two = parse(GOOD), parse(dict(GOOD))
    assert one == two
    assert hash(one) == hash(two)
    assert one != parse(GOOD, GOOD)


@pytest.mark.parametrize("version", ["2012-10-17", "2008-10-17"])
def test_federated_principal_names_nobody_here(version: str) -> None:
    """A web identity is legal in a trust policy and is never who asks a gateway."""
    policy = parse(
        {
            "Effect": "Allow",
            "Principal": {"Federated": "cognito-identity.amazonaws.com"},
            "Action": "sts:AssumeRoleWithWebIdentity",
        },
        kind="trust",
        version=version,
    )
    named = policy.statements[0].principals
    assert named is not None
    assert named == PrincipalSet()
