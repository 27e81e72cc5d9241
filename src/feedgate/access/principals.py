"""Who passes the judge: the supplier's role session, the integration's, and the operator.

A role session is made here and nowhere else, after the role's trust policy allowed it.

How the loader becomes the storage integration's role. On AWS a Snowflake user of another account
assumes it with an external id; locally nobody is Snowflake, so the loader stands in:

1. Where the trust policy names AWS principals, the loader presents each of them in turn, with the
   integration's external id, or where it declares none, the one that the trust policy asks for. One
   allowed is enough; the rest of the policy counts as written.
2. Where it names no principal at all, because the parameters that will name Snowflake's are empty
   yet, the loader may assume the role, unless a Deny says otherwise.
3. A trust policy that names only services (a Transfer role given to the integration by mistake)
   allows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from feedgate.errors import AccessDenied, DefinitionError, Finding
from feedgate.iam import evaluate as iam
from feedgate.iam.arn import parse_arn, session_arn
from feedgate.iam.condition import ContextValue
from feedgate.iam.policy import Policy, PolicyError, Statement, parse_policy
from feedgate.limits import USERS_KEPT_MAX
from feedgate.stack.resources import Role, Stack, User

if TYPE_CHECKING:
    from feedgate.access.authorize import Judge

__all__ = [
    "Operator",
    "Principal",
    "RoleSession",
    "integration_session",
    "integration_trust",
    "role_of_integration",
    "role_of_user",
    "role_session_for_integration",
    "role_session_for_user",
    "session_policy",
    "transfer_trust",
    "transfer_variables",
    "user_session",
]

TRANSFER_SERVICE: Final = "transfer.amazonaws.com"
_INTEGRATION_SESSION: Final = "snowflake"
_SESSION_NAME_CHARS_MAX: Final = 64  # STS AssumeRole; Transfer cuts the end, the server's id


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class RoleSession:
    """An assumed role. ``variables`` go into the session policy; ``user_name`` is a supplier's.

    The role's policies are those of the stack at the time of each request; the session policy is
    the one of the login until it is renewed.
    """

    role: Role
    session_name: str
    session_policy: Policy | None
    variables: Mapping[str, str]
    account: str
    source_ip: str | None = None
    user_name: str | None = None
    issued_at_s: float | None = None
    arn: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arn", session_arn(self.role.arn, self.session_name))

    def renew(self, policy: Policy | None) -> None:
        """Be bound by another session policy, once the judge has taken up a definition again.

        AWS fixes it at the login; here a policy that was narrowed binds open sessions too.
        """
        object.__setattr__(self, "session_policy", policy)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Operator:
    """Whoever runs commands on this machine: the account's root, bound by key policies and Deny."""

    account: str
    name: str


Principal: TypeAlias = RoleSession | Operator


# -- the supplier -------------------------------------------------------------------------------


def role_session_for_user(
    stack: Stack,
    user: User,
    *,
    session_id: str,
    judge: Judge,
    source_ip: str | None = None,
) -> RoleSession:
    """Assume a user's role as Transfer does at a login.

    Raises:
        AccessDenied: the stack has no such role, or its trust policy does not admit Transfer.
        DefinitionError: the session policy has faults.
    """
    role = role_of_user(stack, user)
    session = user_session(
        stack, user, role, session_id=session_id, source_ip=source_ip, issued_at_s=judge.now()
    )
    decision = transfer_trust(stack, user, role)
    judge.record(decision, user_name=user.user_name, session=session.session_name)
    if not decision.allowed:
        raise AccessDenied(
            f"role `{role.logical_id}` does not let AWS Transfer assume it for"
            f" `{user.user_name}`: {decision.reason()}",
            decision=decision,
            hint=f"its trust policy must allow sts:AssumeRole to {TRANSFER_SERVICE}",
        )
    return session


def role_of_user(stack: Stack, user: User) -> Role:
    """The user's role. Raises ``AccessDenied`` where the stack has none of that ARN."""
    role = stack.roles.get(user.role_arn)
    if role is None:
        raise AccessDenied(
            f"user `{user.user_name}` has the role `{user.role_arn}`, which is not in this stack",
            hint="name a role of the template as the user's Role",
        )
    return role


def user_session(
    stack: Stack,
    user: User,
    role: Role,
    *,
    session_id: str,
    source_ip: str | None = None,
    issued_at_s: float | None = None,
) -> RoleSession:
    """The session that Transfer would have, its trust policy not asked: for explaining.

    Raises:
        DefinitionError: the session policy has faults.
    """
    name = f"{user.user_name}.{session_id}@{stack.server.server_id}"
    return RoleSession(
        role=role,
        session_name=name[:_SESSION_NAME_CHARS_MAX],
        session_policy=session_policy(user),
        variables=transfer_variables(user),
        account=parse_arn(role.arn).account,
        source_ip=source_ip,
        user_name=user.user_name,
        issued_at_s=issued_at_s,
    )


def session_policy(user: User) -> Policy | None:
    """The user's scope-down policy. Raises ``DefinitionError`` with every fault."""
    if user.policy is None:
        return None
    try:
        return _parsed(user.policy, f"{user.user_name}/Policy")
    except PolicyError as error:
        raise DefinitionError(
            [
                Finding(
                    "error",
                    f"Policy: {problem}",
                    source=user.source,
                    resource=user.logical_id,
                    rule="policy",
                )
                for problem in error.problems
            ]
        ) from error


@lru_cache(maxsize=USERS_KEPT_MAX)  # the sessions of a user share it
def _parsed(text: str, name: str) -> Policy:
    return parse_policy(text, kind="session", name=name)


def transfer_variables(user: User) -> dict[str, str]:
    """What Transfer substitutes in a session policy (User Guide, users-policies-session).

    A LOGICAL user has only UserName. AWS's page prints HomeBucket and HomeFolder with a leading
    slash, with which no ARN could match; they are given without.
    """
    variables = {"transfer:UserName": user.user_name}
    if user.home_directory_type == "LOGICAL":
        return variables
    home = user.home_directory.removeprefix("/")
    bucket, _, folder = home.partition("/")
    if bucket:
        variables["transfer:HomeDirectory"] = home
        variables["transfer:HomeBucket"] = bucket
    if folder:
        variables["transfer:HomeFolder"] = folder
    return variables


def transfer_trust(stack: Stack, user: User, role: Role) -> iam.Decision:
    """Whether a role's trust policy admits Transfer for this user (requirements-roles).

    ``aws:SourceArn`` is the user's ARN, so a trust policy that names the server's breaks logins.
    """
    principal = iam.Principal("service", service=TRANSFER_SERVICE)
    context: dict[str, ContextValue] = {
        "aws:SourceAccount": stack.account,
        "aws:SourceArn": user.arn,
    }
    return iam.evaluate_trust(_assume(role, principal, context), role.trust)


# -- the storage integration --------------------------------------------------------------------


def role_session_for_integration(
    stack: Stack, role_arn: str, *, judge: Judge, external_id: str | None = None
) -> RoleSession:
    """Assume the storage integration's role; the module says by which rule.

    Raises:
        AccessDenied: the stack has no such role, or its trust policy admits nobody who could be
            Snowflake.
    """
    role = role_of_integration(stack, role_arn)
    decision = integration_trust(stack, role, external_id=external_id)
    judge.record(decision, user_name=None, session=_INTEGRATION_SESSION)
    if not decision.allowed:
        raise AccessDenied(
            f"role `{role.logical_id}` does not let the storage integration assume it:"
            f" {decision.reason()}",
            decision=decision,
            hint="its trust policy must allow sts:AssumeRole to Snowflake's user",
        )
    return integration_session(role, issued_at_s=judge.now())


def role_of_integration(stack: Stack, role_arn: str) -> Role:
    """The integration's role. Raises ``AccessDenied`` where the stack has none of that ARN."""
    role = stack.roles.get(role_arn)
    if role is None:
        raise AccessDenied(
            f"the storage integration's role `{role_arn}` is not in this stack",
            hint="name a role of the template as STORAGE_AWS_ROLE_ARN",
        )
    return role


def integration_session(role: Role, *, issued_at_s: float | None = None) -> RoleSession:
    """The session that Snowflake would have, the trust policy not asked: for explaining."""
    return RoleSession(
        role=role,
        session_name=_INTEGRATION_SESSION,
        session_policy=None,
        variables={},
        account=parse_arn(role.arn).account,
        issued_at_s=issued_at_s,
    )


def integration_trust(stack: Stack, role: Role, *, external_id: str | None = None) -> iam.Decision:
    """Whether the loader may stand in for Snowflake in assuming this role."""
    allows = [statement for statement in role.trust.statements if statement.allows]
    names_nobody = not any(
        statement.principals
        and (
            statement.principals.everyone
            or statement.principals.arns
            or statement.principals.accounts
            or statement.principals.services
        )
        for statement in allows
    )
    stand_in = iam.Principal(
        "user", stack.account, f"arn:{stack.partition}:iam::{stack.account}:user/snowflake"
    )
    decision = iam.evaluate_trust(_assume(role, stand_in, _external(external_id)), role.trust)
    if decision.effect is iam.Effect.DENY_EXPLICIT:
        return decision
    if names_nobody:
        return replace(decision, effect=iam.Effect.ALLOW, silent=())  # rule 2
    for statement in allows:
        for principal in _presentable(statement, stand_in):
            wanted = external_id or _external_id(statement)
            request = _assume(role, principal, _external(wanted))
            decision = iam.evaluate_trust(request, role.trust, caller_may_assume=True)
            if decision.allowed:
                return decision
    return decision


def _presentable(statement: Statement, stand_in: iam.Principal) -> Iterator[iam.Principal]:
    """The AWS principals that a trust statement names, as callers."""
    named = statement.principals
    if named is None:
        return
    if named.everyone:
        yield stand_in
    for arn in sorted(named.arns):
        yield iam.Principal("user", parse_arn(arn).account, arn)
    for account in sorted(named.accounts):
        partition = parse_arn(stand_in.arn).partition
        yield iam.Principal("root", account, f"arn:{partition}:iam::{account}:root")


def _external(external_id: str | None) -> dict[str, ContextValue]:
    return {"sts:ExternalId": external_id} if external_id else {}


def _external_id(statement: Statement) -> str | None:
    for test in statement.conditions:
        if test.key == "sts:externalid" and not test.negated and test.values:
            return test.values[0]
    return None


def _assume(
    role: Role, principal: iam.Principal, context: Mapping[str, ContextValue]
) -> iam.Request:
    whole: dict[str, ContextValue] = {"aws:PrincipalIsAWSService": principal.kind == "service"}
    if principal.kind != "service":
        whole["aws:PrincipalArn"] = principal.arn
        whole["aws:PrincipalAccount"] = principal.account
    whole.update(context)
    return iam.Request(principal, "sts:AssumeRole", role.arn, parse_arn(role.arn).account, whole)
