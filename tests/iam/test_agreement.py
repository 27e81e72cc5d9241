"""The evaluator and a short, obvious one agree; and the laws that every decision keeps."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from feedgate.iam.evaluate import (
    Decision,
    PolicySet,
    Prepared,
    Principal,
    Request,
    evaluate,
)
from feedgate.iam.policy import parse_policy

_spec = importlib.util.spec_from_file_location(
    "iam_reference", Path(__file__).parent / "iam_reference.py"
)
assert _spec is not None
assert _spec.loader is not None
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)

A, X = "111122223333", "444455556666"
ROLE, SESSION = f"arn:aws:iam::{A}:role/R", f"arn:aws:sts::{A}:assumed-role/R/S"
CALLER = {"account": A, "role": ROLE, "session": SESSION}
PRINCIPAL = Principal("role_session", A, ROLE, SESSION)
KEY = f"arn:aws:kms:us-east-1:{A}:key/k"

actions = st.sampled_from(["s3:GetObject", "s3:PutObject", "s3:ListBucket", "kms:Decrypt"])
action_patterns = st.sampled_from(
    ["s3:GetObject", "S3:getobject", "s3:*", "s3:?etObject", "*", "kms:*", "kms:Decrypt"]
)
names = st.text("ab*?/:\n", max_size=4)
resources = names.map(lambda name: f"arn:aws:s3:::b/{name}") | st.just(KEY)
resource_patterns = st.sampled_from(
    [
        "*",
        "arn:aws:s3:::b/*",
        "arn:aws:s3:*:*:b/a?",
        "arn:aws:kms:*:*:key/*",
        KEY,
        "arn:aws:s3:::b/${aws:userid}*",
        "arn:aws:s3:::b/${*}",
        "arn:aws:s3:::b/${no:value}",
        "arn:aws:s3:::b/${transfer:UserName}/*",
        "arn:aws:s3:::b/*a*b",
    ]
) | st.text("ab*?/:", min_size=1, max_size=5).map(lambda text: f"arn:aws:s3:::b/{text}")
values = st.sampled_from(
    ["a", "b", "a*", "?", "", "${aws:userid}", "${no:value}", "${transfer:UserName}"]
)
arns = st.sampled_from([ROLE, ROLE + "2", "arn:aws:iam::*:role/*", "arn:*:iam:*:*:*"])


def one_or_more(strategy: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """A string or a list of them, as policies have it."""
    return strategy | st.lists(strategy, min_size=1, max_size=3)


conditions = st.dictionaries(
    st.sampled_from(
        [
            "StringEquals",
            "StringNotEquals",
            "StringLike",
            "StringNotLike",
            "StringLikeIfExists",
            "StringNotEqualsIfExists",
        ]
    ),
    st.dictionaries(st.sampled_from(["s3:prefix", "aws:x"]), one_or_more(values), min_size=1),
    max_size=2,
) | st.fixed_dictionaries(
    {},
    optional={
        "ArnLike": st.fixed_dictionaries({"aws:PrincipalArn": one_or_more(arns)}),
        "ArnNotLike": st.fixed_dictionaries({"aws:PrincipalArn": arns}),
        "Bool": st.fixed_dictionaries({"aws:SecureTransport": st.sampled_from([True, "false"])}),
        "Null": st.fixed_dictionaries({"s3:prefix": st.sampled_from(["true", "false"])}),
    },
)
principals = st.just("*") | st.fixed_dictionaries(
    {
        "AWS": one_or_more(
            st.sampled_from([ROLE, SESSION, A, f"arn:aws:iam::{A}:root", ROLE + "2", X, "*"])
        )
    }
)


@st.composite
def statements(draw: st.DrawFn, *, resource: bool = False, effect: str = "") -> dict[str, Any]:
    """A statement; ``resource`` gives it a principal."""
    made: dict[str, Any] = {"Effect": effect or draw(st.sampled_from(["Allow", "Allow", "Deny"]))}
    made[draw(st.sampled_from(["Action", "Action", "NotAction"]))] = draw(
        one_or_more(action_patterns)
    )
    made[draw(st.sampled_from(["Resource", "Resource", "NotResource"]))] = draw(
        one_or_more(resource_patterns)
    )
    if draw(st.booleans()):
        made["Condition"] = draw(conditions)
    if resource:
        made[draw(st.sampled_from(["Principal", "Principal", "NotPrincipal"]))] = draw(principals)
    return made


def documents(*, resource: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    """A whole policy, the older Version among resource policies too."""
    made = st.lists(statements(resource=resource), max_size=3)
    new = made.map(lambda found: {"Version": "2012-10-17", "Statement": found})
    if resource:
        return new | made.map(lambda found: {"Statement": found})
    return new


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """A request whose context has lower-case keys, as both evaluators see it."""
    context = {"aws:principalarn": ROLE}
    for key in ("s3:prefix", "aws:userid", "aws:x"):
        if draw(st.booleans()):
            context[key] = draw(st.sampled_from(["", "a", "b", "ab", "a*", "*"]))
    if draw(st.booleans()):
        context["aws:securetransport"] = draw(st.sampled_from(["true", "false"]))
    action = draw(actions)
    resource = KEY if action.startswith("kms:") else draw(resources)
    return {
        "action": action,
        "resource": resource,
        "account": draw(st.sampled_from([A, A, A, X])),
        "context": context,
    }


FULL = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}
sets = st.fixed_dictionaries(
    {
        "identity": st.lists(st.just(FULL) | documents(), max_size=2),
        "session": st.none() | st.just(FULL) | documents(),
        "boundary": st.none() | st.none() | documents(),
        "resource": st.none() | documents(resource=True),
        "variables": st.sampled_from([{}, {"transfer:username": "a"}, {"transfer:username": "*"}]),
    }
)


def made(request: dict[str, Any], policies: dict[str, Any]) -> tuple[Request, PolicySet]:
    """What the real evaluator takes."""
    is_key = request["action"].startswith("kms:")

    def parsed(name: str, kind: str) -> Any:
        document = policies[name]
        return None if document is None else parse_policy(document, kind=kind, name=name)

    return (
        Request(
            PRINCIPAL,
            request["action"],
            request["resource"],
            request["account"],
            request["context"],
        ),
        PolicySet(
            identity=tuple(
                parse_policy(document, kind="identity", name=f"identity{number}")
                for number, document in enumerate(policies["identity"])
            ),
            session=parsed("session", "session"),
            boundary=parsed("boundary", "boundary"),
            resource=parsed("resource", "kms" if is_key else "bucket"),
            variables=policies["variables"],
        ),
    )


def run(request: dict[str, Any], policies: dict[str, Any]) -> Decision:
    """Decide by the real evaluator."""
    return evaluate(*made(request, policies))


@settings(max_examples=300, deadline=None)
@given(requests(), sets)
def test_evaluator_agrees_with_the_obvious_one(
    request: dict[str, Any], policies: dict[str, Any]
) -> None:
    """Both evaluators decide alike, whatever the policies."""
    expected = reference.decide(request, CALLER, **policies)
    decision = run(request, policies)
    assert decision.effect.value == expected
    assert bool(decision.silent) == (expected == "deny_implicit")


@settings(max_examples=200, deadline=None)
@given(
    requests(),
    sets,
    st.lists(st.tuples(resources, st.none() | st.sampled_from(["", "a", "ab", "*"])), min_size=1),
)
def test_prepared_requests_are_decided_as_single_ones(
    request: dict[str, Any], policies: dict[str, Any], asked: list[tuple[str, str | None]]
) -> None:
    """One shape prepared once decides each resource and each value of its varying key alike."""
    request["context"].pop("s3:prefix", None)
    first, policy_set = made(request, policies)
    prepared = Prepared(first, policy_set, frozenset({"s3:prefix"}))
    for resource, prefix in asked:
        changed = {} if prefix is None else {"s3:prefix": prefix}
        single = replace(first, resource=resource, context={**first.context, **changed})
        assert prepared.decision(resource, changed) == evaluate(single, policy_set)


@settings(max_examples=80, deadline=None)
@given(requests(), sets, statements(effect="Deny"), st.sampled_from(["identity", "session"]))
def test_adding_a_deny_never_allows(
    request: dict[str, Any], policies: dict[str, Any], deny: dict[str, Any], where: str
) -> None:
    """A request that is refused stays refused when any policy gains a Deny."""
    before = run(request, policies)
    more = dict(policies)
    if where == "session" and policies["session"] is not None:
        statements_now = [*policies["session"]["Statement"], deny]
        more["session"] = {**policies["session"], "Statement": statements_now}
    else:
        document = {"Version": "2012-10-17", "Statement": [deny]}
        more["identity"] = [*policies["identity"], document]
    after = run(request, more)
    assert before.allowed or not after.allowed


@settings(max_examples=80, deadline=None)
@given(requests(), sets, documents())
def test_adding_a_session_policy_never_widens(
    request: dict[str, Any], policies: dict[str, Any], session: dict[str, Any]
) -> None:
    """What a role may not do, it may not do with a session policy either."""
    bare = run(request, {**policies, "session": None})
    limited = run(request, {**policies, "session": session})
    assert bare.allowed or not limited.allowed


@settings(max_examples=80, deadline=None)
@given(requests(), sets, statements(effect="Allow"))
def test_adding_an_allow_never_narrows(
    request: dict[str, Any], policies: dict[str, Any], allow: dict[str, Any]
) -> None:
    """A request that is allowed stays allowed when the role gains an Allow."""
    document = {"Version": "2012-10-17", "Statement": [allow]}
    before = run(request, policies)
    after = run(request, {**policies, "identity": [*policies["identity"], document]})
    assert after.allowed or not before.allowed


@settings(max_examples=80, deadline=None)
@given(requests(), sets, st.randoms(use_true_random=False))
def test_order_never_matters(
    request: dict[str, Any], policies: dict[str, Any], random: Any
) -> None:
    """The order of policies and of statements changes nothing but the trace."""

    def shuffled(document: dict[str, Any] | None) -> dict[str, Any] | None:
        if document is None:
            return None
        mixed = list(document["Statement"])
        random.shuffle(mixed)
        return {**document, "Statement": mixed}

    identity = [shuffled(document) for document in policies["identity"]]
    random.shuffle(identity)
    mixed = {
        **policies,
        "identity": identity,
        "session": shuffled(policies["session"]),
        "resource": shuffled(policies["resource"]),
    }
    assert run(request, mixed).effect is run(request, policies).effect


@settings(max_examples=80, deadline=None)
@given(requests(), sets)
def test_every_statement_applied_or_has_a_reason(
    request: dict[str, Any], policies: dict[str, Any]
) -> None:
    """Each statement is either among those that applied or has a reason why not, never both."""
    decision = run(request, policies)
    missed = {id(found.statement) for found in decision.considered}
    applied = {id(match) for match in decision.applied}
    every = {
        id(statement.match)
        for policy in decision.policies.in_order()
        for statement in policy.statements
    }
    assert applied.isdisjoint(missed)
    assert applied | missed == every
    assert all(found.reason for found in decision.considered)
