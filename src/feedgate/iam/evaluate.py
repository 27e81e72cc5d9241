"""The decision: which statements apply, and what they add up to.

Order (IAM User Guide, reference_policies_evaluation-logic): any applicable Deny is final. Within
one account the request is allowed by

    resource policy naming the session, or everybody
    or ((identity, or resource policy naming the role) and boundary and session)

and across accounts by resource and identity and boundary and session. A key policy must allow in
any case: naming the principal it suffices, naming the account it only delegates to identity
policies (KMS Developer Guide, key-policy-default). A trust policy stands alone:
``evaluate_trust``.

Not ``iam-simulate``, ``principalmapper`` or ``moto``: each allows what AWS denies somewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from feedgate.iam.condition import ContextValue, as_text
from feedgate.iam.match import Grant, Principal, PrincipalKind
from feedgate.iam.pattern import Lookup
from feedgate.iam.policy import Policy, PolicyKind, Statement, StatementMatch
from feedgate.iam.trace import StatementMiss, View, miss

__all__ = [
    "Decision",
    "Effect",
    "Grant",
    "PolicySet",
    "Principal",
    "PrincipalKind",
    "Request",
    "StatementMatch",
    "StatementMiss",
    "evaluate",
    "evaluate_trust",
    "trace",
]


class Effect(StrEnum):
    """What a request comes to. Implicitly denied: nothing allowed it."""

    ALLOW = "allow"
    DENY_EXPLICIT = "deny_explicit"
    DENY_IMPLICIT = "deny_implicit"


@dataclass(frozen=True, slots=True)
class Request:
    """One action on one concrete resource. ``context`` keys are read without regard to case."""

    principal: Principal
    action: str
    resource: str
    resource_account: str
    context: Mapping[str, ContextValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PolicySet:
    """What applies to a request.

    ``session`` and ``boundary`` None set no limit. ``resource`` is the bucket's or key's policy.
    ``variables`` (``transfer:UserName`` …) are put into the session policy only, as Transfer does
    (Transfer User Guide, users-policies-session).
    """

    identity: tuple[Policy, ...] = ()
    session: Policy | None = None
    boundary: Policy | None = None
    resource: Policy | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    def in_order(self) -> tuple[Policy, ...]:
        """Every policy in the order in which a decision lists them."""
        others = (self.boundary, self.session, self.resource)
        return (*self.identity, *(policy for policy in others if policy is not None))


@dataclass(frozen=True, slots=True)
class Decision:
    """What a request came to and why.

    ``applied`` are the statements that applied, in order. ``silent`` are the kinds of policy whose
    Allow was needed and absent; several when several lack it. ``deciding`` are the Deny statements,
    or each Allow that was needed.
    """

    effect: Effect
    request: Request
    applied: tuple[StatementMatch, ...]
    silent: tuple[PolicyKind, ...]
    deciding: tuple[StatementMatch, ...]
    policies: PolicySet = field(repr=False, compare=False)

    @property
    def allowed(self) -> bool:
        return self.effect is Effect.ALLOW

    @property
    def considered(self) -> tuple[StatementMiss, ...]:
        """Every other statement and why it did not apply; worked out when asked for."""
        return trace(self.request, self.policies)

    def reason(self) -> str:
        """One line: who decided, or who was silent."""
        if self.effect is Effect.DENY_IMPLICIT:
            return f"no Allow in {' and in '.join(_POLICY_WORDS[kind] for kind in self.silent)}"
        return (
            f"{self.deciding[0].effect} in {self.deciding[0]}"
            if self.deciding
            else "no statement was needed"
        )


_POLICY_WORDS: Final[Mapping[PolicyKind, str]] = {
    "identity": "the role's policies",
    "session": "the session policy",
    "boundary": "the permissions boundary",
    "bucket": "the bucket policy",
    "kms": "the key policy",
    "trust": "the trust policy",
}


class _Match(NamedTuple):
    """What one policy said: its statements that applied, and the most direct grant."""

    allows: list[StatementMatch]
    denies: list[StatementMatch]
    grant: Grant


def evaluate(request: Request, policies: PolicySet) -> Decision:
    """Decide. The same request and policies give the same decision; nothing else matters."""
    view = _view(request, policies)
    applied: list[StatementMatch] = []
    denies: list[StatementMatch] = []
    identity: list[StatementMatch] = []
    for policy in policies.identity:
        found = _apply(policy, view, applied)
        identity += found.allows
        denies += found.denies
    boundary = _optional(policies.boundary, view, applied, denies)
    session = _optional(policies.session, view, applied, denies)
    resource = _NOTHING
    if policies.resource is not None:
        resource = _apply(policies.resource, view, applied)
        denies += resource.denies
    if denies:
        return Decision(Effect.DENY_EXPLICIT, request, tuple(applied), (), tuple(denies), policies)
    limits: tuple[tuple[PolicyKind, list[StatementMatch] | None], ...] = (
        ("boundary", boundary),
        ("session", session),
    )
    silent, deciding = _combine(request, policies, identity, limits, resource)
    effect = Effect.DENY_IMPLICIT if silent else Effect.ALLOW
    return Decision(effect, request, tuple(applied), silent, deciding, policies)


_NOTHING: Final = _Match([], [], Grant.NONE)


def _combine(
    request: Request,
    policies: PolicySet,
    identity: list[StatementMatch],
    limits: tuple[tuple[PolicyKind, list[StatementMatch] | None], ...],
    resource: _Match,
) -> tuple[tuple[PolicyKind, ...], tuple[StatementMatch, ...]]:
    """Who was silent (nobody: allowed) and which Allow statements were needed; no Deny applied."""
    principal = request.principal
    is_same_account = bool(principal.account) and principal.account == request.resource_account
    is_key = request.action[:4].lower() == "kms:"
    if is_same_account and resource.grant is Grant.DIRECT:
        return (), tuple(resource.allows)
    must_name = is_key or not is_same_account
    is_enough = resource.grant is Grant.ROLE and is_same_account
    deciding: list[StatementMatch] = []
    silent: list[PolicyKind] = []
    if principal.kind in ("service", "anonymous"):
        is_enough = True  # neither has identity policies
    if not is_enough and principal.kind != "root":
        deciding += identity
        if not identity:
            silent.append("identity")
    for kind, allows in limits:
        if allows is None:
            continue
        deciding += allows
        if not allows:
            silent.append(kind)
    if must_name or is_enough:
        deciding += resource.allows
    if (must_name or principal.kind in ("service", "anonymous")) and not resource.allows:
        silent.append("kms" if is_key else "bucket")
    return tuple(silent), () if silent else tuple(deciding)


def evaluate_trust(request: Request, trust: Policy, *, caller_may_assume: bool = False) -> Decision:
    """Whether a trust policy lets the principal assume its role.

    No identity policy of ours takes part. ``caller_may_assume`` says whether the caller's own
    account lets it, which counts where the trust policy names only the account, or another one.
    """
    assert trust.kind == "trust"
    policies = PolicySet(resource=trust)
    applied: list[StatementMatch] = []
    found = _apply(trust, _view(request, policies), applied)
    if found.denies:
        return Decision(
            Effect.DENY_EXPLICIT, request, tuple(applied), (), tuple(found.denies), policies
        )
    principal = request.principal
    is_same_account = principal.account == request.resource_account
    stands_alone = principal.kind == "service" or (is_same_account and found.grant >= Grant.ROLE)
    silent: list[PolicyKind] = []
    if not found.allows:
        silent.append("trust")
    elif not (stands_alone or caller_may_assume):
        silent.append("identity")
    effect = Effect.DENY_IMPLICIT if silent else Effect.ALLOW
    deciding = () if silent else tuple(found.allows)
    return Decision(effect, request, tuple(applied), tuple(silent), deciding, policies)


def trace(request: Request, policies: PolicySet) -> tuple[StatementMiss, ...]:
    """Every statement that did not apply, in order, and why."""
    view = _view(request, policies)
    found = []
    for policy in policies.in_order():
        for statement in policy.statements:
            reason = miss(statement, view)
            if reason is not None:
                found.append(reason)
    return tuple(found)


# -- one policy ---------------------------------------------------------------------------------


def _view(request: Request, policies: PolicySet) -> View:
    context = {key.lower(): value for key, value in request.context.items()}
    variables = {key.lower(): value for key, value in policies.variables.items()}

    def lookup(name: str) -> str | None:
        value = context.get(name)
        if value is None or isinstance(value, str):
            return value
        return as_text(value) if isinstance(value, bool | int) else None

    def session_lookup(name: str) -> str | None:
        return variables[name] if name in variables else lookup(name)

    return View(
        principal=request.principal,
        action=request.action,
        action_lower=request.action.lower(),
        resource=request.resource,
        context=context,
        lookup=lookup,
        session_lookup=session_lookup if variables else lookup,
        bounded=policies.boundary is not None,
    )


def _optional(
    policy: Policy | None,
    view: View,
    applied: list[StatementMatch],
    denies: list[StatementMatch],
) -> list[StatementMatch] | None:
    if policy is None:
        return None
    found = _apply(policy, view, applied)
    denies += found.denies
    return found.allows


def _apply(policy: Policy, view: View, applied: list[StatementMatch]) -> _Match:
    allows: list[StatementMatch] = []
    denies: list[StatementMatch] = []
    best = Grant.NONE
    lookup = view.session_lookup if policy.kind == "session" else view.lookup
    for statement in policy.statements:
        if statement.is_inert or not statement.actions.covers(view.action_lower):
            continue
        grant = _grant(statement, view)
        if grant is Grant.NONE:
            continue
        resources = statement.resources
        if resources is not None and not resources.covers(view.resource, lookup):
            continue
        if not _conditions_hold(statement, view, lookup):
            continue
        applied.append(statement.match)
        if statement.allows:
            allows.append(statement.match)
            best = max(best, grant)
        else:
            denies.append(statement.match)
    return _Match(allows, denies, best)


def _grant(statement: Statement, view: View) -> Grant:
    principals = statement.principals
    if principals is None:
        return Grant.DIRECT  # an identity, session or boundary statement is about its bearer
    if statement.allows:
        return principals.grants(view.principal)
    hits = principals.hits(view.principal, bounded=view.bounded)
    return Grant.DIRECT if hits else Grant.NONE


def _conditions_hold(statement: Statement, view: View, lookup: Lookup) -> bool:
    for test in statement.conditions:  # noqa: SIM110 - half the time of all() here
        if not test.holds(view.context, lookup):
            return False
    return True
