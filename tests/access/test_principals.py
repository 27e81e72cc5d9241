"""How roles are assumed: by Transfer for a supplier, by the loader for an integration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from feedgate.access.principals import (
    role_session_for_integration,
    role_session_for_user,
    transfer_variables,
)
from feedgate.errors import AccessDenied, DefinitionError

SNOW = "arn:aws:iam::444455556666:user/snow"


def trust(principal: Any, **more: Any) -> tuple[dict[str, Any], ...]:
    """A trust policy of one Allow."""
    return ({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", **more},)


def test_a_login_becomes_a_role_session_named_as_transfer_names_it(site: Any) -> None:
    """The session is `username.sessionid@server-id`, its ARN that of an assumed role."""
    judge = site.judge()
    session = site.supplier(judge)
    assert session.session_name == "bob.9ca9a0e1cec6ad9d@s-01234567890abcdef"
    assert session.arn == (
        "arn:aws:sts::000000000000:assumed-role/transfer/bob.9ca9a0e1cec6ad9d@s-01234567890abcdef"
    )
    assert session.variables == {"transfer:UserName": "bob"}
    (event,) = site.events
    assert (event.action, event.principal) == ("sts:AssumeRole", "transfer.amazonaws.com")


def test_a_long_session_name_loses_its_end(site: Any) -> None:
    """STS takes 64 characters; the server's id is what is cut."""
    session = site.supplier(site.judge(), "b" * 60)
    assert len(session.session_name) == 64
    assert session.session_name.startswith("b" * 60 + ".9ca")


def test_a_roles_path_is_not_in_the_sessions_arn(site: Any) -> None:
    """The session's ARN has the role's name alone."""
    judge = site.judge()
    session = site.supplier(judge)
    role = replace(session.role, arn="arn:aws:iam::000000000000:role/a/b/transfer")
    assert replace(session, role=role).arn.startswith(
        "arn:aws:sts::000000000000:assumed-role/transfer/"
    )


@pytest.mark.parametrize(
    "statements",
    [
        (),
        trust({"Service": "ec2.amazonaws.com"}),
        trust({"AWS": "*"}),
        trust(
            {"Service": "transfer.amazonaws.com"},
            Condition={"StringEquals": {"aws:SourceAccount": "444455556666"}},
        ),
        trust(
            {"Service": "transfer.amazonaws.com"},
            Condition={
                "ArnEquals": {
                    "aws:SourceArn": "arn:aws:transfer:us-east-1:000000000000:server/"
                    "s-01234567890abcdef"
                }
            },
        ),
    ],
    ids=["nobody", "another service", "everybody", "another account", "the server's ARN"],
)
def test_a_role_that_does_not_trust_transfer_ends_the_login(site: Any, statements: Any) -> None:
    """Without trust there is no session, and the refusal is audited."""
    site.transfer_trust = statements
    with pytest.raises(AccessDenied, match="does not let AWS Transfer assume it") as caught:
        site.supplier(site.judge())
    assert "transfer.amazonaws.com" in (caught.value.hint or "")
    assert site.events[-1].effect.value == "deny_implicit"


def test_a_role_outside_the_stack_ends_the_login(site: Any) -> None:
    """A live user may name a role that the template does not have."""
    judge = site.judge()
    user = site.user(role_arn="arn:aws:iam::000000000000:role/gone")
    with pytest.raises(AccessDenied, match="not in this stack"):
        role_session_for_user(judge.stack, user, session_id="0" * 16, judge=judge)


def test_a_faulty_session_policy_ends_the_login_with_every_fault(site: Any) -> None:
    """A live user's session policy is parsed at the login; nothing of it is skipped."""
    judge = site.judge()
    user = site.user()
    faulty = replace(user, policy='{"Statement":[{"Effect":"Maybe","Action":"x","Resource":"y"}]}')
    with pytest.raises(DefinitionError) as caught:
        role_session_for_user(judge.stack, faulty, session_id="0" * 16, judge=judge)
    assert len(caught.value.findings) == 3


@pytest.mark.parametrize(
    ("home", "expected"),
    [
        ("/home/bob/stuff", ("home/bob/stuff", "home", "bob/stuff")),
        ("/home/bob/", ("home/bob/", "home", "bob/")),
        ("/home", ("home", "home", None)),
        ("/", (None, None, None)),
    ],
)
def test_path_homes_have_every_variable(site: Any, home: str, expected: Any) -> None:
    """HomeBucket is the first component, HomeFolder the rest, none with a leading slash."""
    user = site.user(home_directory_type="PATH", home_directory=home)
    variables = transfer_variables(user)
    assert variables["transfer:UserName"] == "bob"
    names = ("HomeDirectory", "HomeBucket", "HomeFolder")
    assert tuple(variables.get(f"transfer:{name}") for name in names) == expected


EXTERNAL = {"StringEquals": {"sts:ExternalId": "E1"}}
DENY = {"Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRole"}


@pytest.mark.parametrize(
    ("statements", "external_id", "allowed"),
    [
        (trust({"AWS": SNOW}, Condition=EXTERNAL), None, True),
        (trust({"AWS": SNOW}, Condition=EXTERNAL), "E1", True),
        (trust({"AWS": SNOW}, Condition=EXTERNAL), "E2", False),
        (trust({"AWS": SNOW}), None, True),
        (trust({"AWS": "arn:aws:iam::000000000000:root"}), None, True),
        (trust({"AWS": "*"}, Condition=EXTERNAL), None, True),
        ((), None, True),
        (trust({"Federated": "cognito-identity.amazonaws.com"}), None, True),
        (trust({"Service": "transfer.amazonaws.com"}), None, False),
        ((DENY,), None, False),
        ((*trust({"AWS": SNOW}), DENY), None, False),
        (
            trust({"AWS": SNOW}, Condition={"StringEquals": {"aws:PrincipalArn": "x"}}),
            None,
            False,
        ),
    ],
    ids=[
        "its user and the trust's external id",
        "its user and the declared external id",
        "another external id",
        "its user without external id",
        "the account while parameters are empty",
        "everybody with external id",
        "nobody while parameters are empty",
        "nobody whom we know",
        "a Transfer role by mistake",
        "a Deny alone",
        "a Deny beside",
        "a condition that fails",
    ],
)
def test_the_loader_stands_in_for_snowflake(
    site: Any, statements: Any, external_id: str | None, allowed: bool
) -> None:
    """The loader presents whom the trust policy names; where it names nobody it is let in."""
    site.snowflake_trust = statements
    judge = site.judge()
    if allowed:
        session = site.loader(judge, external_id)
        assert session.session_name == "snowflake"
        assert session.session_policy is None
    else:
        with pytest.raises(AccessDenied, match="does not let the storage integration assume it"):
            site.loader(judge, external_id)
    assert site.events[-1].action == "sts:AssumeRole"
    assert (site.events[-1].effect.value == "allow") is allowed


def test_an_integration_with_a_role_outside_the_stack_is_refused(site: Any) -> None:
    """STORAGE_AWS_ROLE_ARN must be a role of the template."""
    judge = site.judge()
    with pytest.raises(AccessDenied, match="not in this stack"):
        role_session_for_integration(
            judge.stack, "arn:aws:iam::000000000000:role/gone", judge=judge
        )
