"""Explanations: statements in order, who decided, and statements that heal when pasted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from feedgate.access.explain import Explanation, explain_pipe, explain_user, operations_of
from feedgate.errors import UsageError


def explain(site: Any, operation: str, key: str = "bob/x", **more: Any) -> Explanation:
    """Explain an operation of bob's."""
    return explain_user(site.judge(), site.user(), operation, "land", key, **more)


def pipe(site: Any, names: Any) -> Explanation:
    """Explain whether the pipe may read."""
    return explain_pipe(site.judge(), "orders", names["snowflake_role"], "land", "bob/x")


def test_allowed_operation_names_the_statements_that_decided(site: Any) -> None:
    """Each step lists every statement in order and marks those that were needed."""
    found = explain(site, "get")
    assert found.allowed
    assert found.summary() == "allowed"
    assert found.refused is None
    assert found.fixes == ()
    assert found.client_sees is None
    assert found.finding() is None
    get, decrypt = found.steps
    assert [(str(line.statement), line.applied, line.decided) for line in get.lines] == [
        ("TransferRole/own: Statement[0] (List)", False, False),
        ("TransferRole/own: Statement[1] (Objects)", True, True),
        ("TransferRole/own: Statement[2] (UseKey)", False, False),
        ("bob/Policy: Statement[0] (ListOwn)", False, False),
        ("bob/Policy: Statement[1] (OwnObjects)", True, True),
        ("bob/Policy: Statement[2] (UseKey)", False, False),
    ]
    assert all(line.why for line in get.lines if not line.applied)
    assert decrypt.action == "kms:Decrypt"
    assert str(decrypt.lines[-1].statement) == "LandingKey: Statement[0] (Delegate)"


def test_role_without_the_kms_key(site: Any, names: Any) -> None:
    """The first classic failure is named, with OpenSSH's words and the statement for the role."""
    site.role = names["s3_role"]
    found = explain(site, "ls", "bob", path="/")
    assert found.summary() == ("refused at opendir: `kms:Decrypt`: no Allow in the role's policies")
    assert found.client_sees == 'remote readdir("/"): Permission denied'
    assert any("role `TransferRole` lacks the KMS key" in note for note in found.notes)
    (fix,) = found.fixes
    assert fix.where == "role `TransferRole`, Policies"
    assert json.loads(fix.text()) == {
        "Effect": "Allow",
        "Action": ["kms:Decrypt"],
        "Resource": names["key"],
    }


def test_session_policy_without_the_kms_key(site: Any, names: Any) -> None:
    """The second: `ls` fails at READDIR, `put` at CLOSE, the statement goes into the user."""
    site.session = names["s3_session"]
    listing = explain(site, "ls", "bob", path="/")
    assert listing.summary() == "refused at readdir: `kms:Decrypt`: no Allow in the session policy"
    assert listing.client_sees == "Couldn't read directory: Permission denied"
    put = explain(site, "put")
    assert put.refused is not None
    assert put.refused.stage == "close"
    assert put.client_sees == "close remote: Permission denied"
    assert [fix.where for fix in put.fixes] == ["user `UserBob`, Policy (the session policy)"]
    assert any("session policy of `bob` lacks the KMS key" in note for note in put.notes)


def test_key_policy_that_forgets_the_account(site: Any, names: Any) -> None:
    """A key policy that names neither role nor account gets a statement of its own."""
    site.key_policy = ({**names["delegate"][0], "Principal": {"AWS": names["snowflake_role"]}},)
    found = explain(site, "put")
    (fix,) = found.fixes
    assert fix.where == "KMS key `LandingKey`, KeyPolicy"
    assert fix.statement is not None
    assert fix.statement["Principal"] == {"AWS": names["transfer_role"]}
    assert any("key policy" in note for note in found.notes)


def test_explicit_deny_is_to_be_narrowed(site: Any) -> None:
    """Nothing pasted helps against a Deny, so the Deny is named."""
    deny = {"Sid": "No", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"}
    site.bucket_policy = (deny,)
    found = explain(site, "get")
    (fix,) = found.fixes
    assert fix.statement is None
    assert fix.where == "bucket `LandingBucket`, its bucket policy"
    assert fix.text() == "narrow or remove LandingBucket: Statement[0] (No)"


def test_pipe_without_decrypt(site: Any, names: Any) -> None:
    """A pipe whose integration lacks kms:Decrypt is told so, and where to paste it."""
    site.snowflake = site.snowflake[:2]
    found = pipe(site, names)
    assert found.summary() == "refused at load: `kms:Decrypt`: no Allow in the role's policies"
    finding = found.finding()
    assert finding is not None
    assert finding.resource == "SnowflakeRole"
    assert finding.hint is not None
    assert "kms:Decrypt" in finding.hint
    assert "reading is refused" in found.notes[0]


HEALING = {
    "no role policy": {"role": ()},
    "no kms in the role": {"role": 2},
    "no kms in the session policy": {"session": 2},
    "an empty session policy": {"session": ()},
    "no kms anywhere": {"role": 2, "session": 2, "key_policy": ()},
    "nothing at all": {"role": (), "session": (), "key_policy": ()},
    "no trust": {"transfer_trust": ()},
}


@pytest.mark.parametrize("operation", ["ls", "get", "put", "rm", "rename", "mkdir", "rmdir"])
@pytest.mark.parametrize("broken", HEALING.values(), ids=HEALING.keys())
@pytest.mark.parametrize("key", ["bob/in/x", "bob/a*b?c${d}/x", "x"])
def test_what_is_pasted_heals(site: Any, operation: str, broken: Any, key: str) -> None:
    """Pasting every fix where it says makes the operation allowed, and nothing else is needed."""
    for name, value in broken.items():
        setattr(site, name, getattr(site, name)[:value] if isinstance(value, int) else value)
    places = {
        "identity": "role",
        "session": "session",
        "kms": "key_policy",
        "trust": "transfer_trust",
    }
    found = explain(site, operation, key)
    for fix in found.fixes:
        assert fix.statement is not None
        place = places[fix.kind]
        setattr(site, place, (*getattr(site, place), dict(fix.statement)))
    healed = explain(site, operation, key)
    assert healed.allowed, healed.summary()
    assert found.allowed == (not found.fixes)


def test_fixes_have_a_form_that_holds_in_every_account(site: Any) -> None:
    """ARNs of the stack by logical id: functions in a role, Fn::Sub's text in a session policy."""
    site.role, site.session = (), ()
    found = explain(site, "get", "bob/a*/x")
    by_kind: dict[str, list[Any]] = {"identity": [], "session": []}
    for fix in found.fixes:
        assert fix.portable is not None
        by_kind[fix.kind].append(fix.portable["Resource"])
    assert by_kind == {
        "identity": [
            {"Fn::Sub": "${LandingBucket.Arn}/bob/a${!*}/*"},
            {"Fn::Sub": "${LandingKey.Arn}"},
        ],
        "session": [
            "${LandingBucket.Arn}/${!transfer:UserName}/a${!*}/*",
            "${LandingKey.Arn}",
        ],
    }


def test_refused_trust_comes_first(site: Any) -> None:
    """A role that cannot be assumed is told before anything else."""
    site.transfer_trust = ()
    found = explain(site, "get")
    assert not found.allowed
    assert found.summary() == "the role cannot be assumed: no Allow in the trust policy"
    assert found.fixes[0].where == "role `TransferRole`, AssumeRolePolicyDocument"


def test_stat_of_a_directory_is_a_listing(site: Any, names: Any) -> None:
    """For a directory STAT needs only to list its prefix."""
    site.session = names["s3_session"]
    assert explain(site, "stat", "bob", is_directory=True).allowed
    assert not explain(site, "stat", "bob/x").allowed


def test_unknown_operation_is_a_usage_error(site: Any) -> None:
    """The names that exist are listed."""
    with pytest.raises(UsageError) as caught:
        explain(site, "fly")
    assert "opendir" in (caught.value.hint or "")
    assert "ls" in operations_of("supplier")


def test_nothing_is_audited(site: Any) -> None:
    """Explaining asks for nothing, so the audit hears nothing."""
    explain(site, "put", "eve/x")
    assert site.events == []


def test_as_dict_is_plain(site: Any, names: Any) -> None:
    """The JSON form holds only plain types, statements and reasons included."""
    site.session = names["s3_session"]
    plain = json.loads(json.dumps(explain(site, "put").as_dict()))
    assert plain["allowed"] is False
    assert plain["steps"][1]["silent"] == ["session"]
    assert plain["fixes"][0]["statement"]["Action"] == ["kms:GenerateDataKey"]
    assert all(
        statement["applied"] or statement["why"]
        for step in plain["steps"]
        for statement in step["statements"]
    )


@pytest.mark.parametrize("operation", ["put", "get", "rm", "rename", "ls", "rmdir"])
@pytest.mark.parametrize("key", ["x", "bob/x", "bob/in/x"])
def test_no_fix_opens_the_whole_bucket(site: Any, operation: str, key: str) -> None:
    """For a key at the bucket's root only that key is given; a listing always has its prefix."""
    site.role, site.session = (), ()
    for fix in explain(site, operation, key).fixes:
        assert fix.statement is not None
        if "s3:ListBucket" in fix.statement["Action"]:
            (pattern,) = fix.statement["Condition"]["StringLike"]["s3:prefix"]
            assert not pattern.startswith("*")
        else:
            assert fix.statement["Resource"] not in ("arn:aws:s3:::land/*", "*")


def test_listing_of_a_buckets_root_is_of_the_root_alone(site: Any) -> None:
    """Who may list the root is not given every prefix below it."""
    site.role = ()
    listing = explain(site, "ls", "").fixes[0].statement
    assert listing is not None
    assert listing["Condition"] == {"StringLike": {"s3:prefix": [""]}}
