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

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from feedgate.iam.condition import ContextValue, Test, as_text
from feedgate.iam.match import Grant, Principal, PrincipalKind, ResourceSet
from feedgate.iam.pattern import Lookup
from feedgate.iam.policy import Policy, PolicyKind, Statement, StatementMatch
from feedgate.iam.trace import StatementMiss, View, miss
from feedgate.limits import OUTCOMES_KEPT_MAX

__all__ = [
    "Decision",
    "Effect",
    "Grant",
    "Outcome",
    "PolicySet",
    "Prepared",
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

    applied: list[StatementMatch]
    allows: list[StatementMatch]
    denies: list[StatementMatch]
    grant: Grant


def evaluate(request: Request, policies: PolicySet) -> Decision:
    """Decide. The same request and policies give the same decision; nothing else matters."""
    view = _view(request, policies)
    found = [_apply(policy, view) for policy in policies.in_order()]
    outcome = _conclude(request, policies, found)
    return _decision(request, policies, outcome)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A decision without its request; see ``Decision`` for what the fields are."""

    effect: Effect
    applied: tuple[StatementMatch, ...]
    silent: tuple[PolicyKind, ...]
    deciding: tuple[StatementMatch, ...]

    @property
    def allowed(self) -> bool:
        return self.effect is Effect.ALLOW


def _decision(request: Request, policies: PolicySet, outcome: Outcome) -> Decision:
    return Decision(
        outcome.effect, request, outcome.applied, outcome.silent, outcome.deciding, policies
    )


def _conclude(request: Request, policies: PolicySet, found: Sequence[_Match]) -> Outcome:
    """What the policies add up to; ``found`` is what each said, in the order of ``in_order``."""
    applied = tuple(match for one in found for match in one.applied)
    denies = tuple(match for one in found for match in one.denies)
    if denies:
        return Outcome(Effect.DENY_EXPLICIT, applied, (), denies)
    rest = iter(found)
    identity = [match for _ in policies.identity for match in next(rest).allows]
    boundary = next(rest).allows if policies.boundary is not None else None
    session = next(rest).allows if policies.session is not None else None
    resource = next(rest) if policies.resource is not None else _NOTHING
    limits: tuple[tuple[PolicyKind, list[StatementMatch] | None], ...] = (
        ("boundary", boundary),
        ("session", session),
    )
    silent, deciding = _combine(request, policies, identity, limits, resource)
    effect = Effect.DENY_IMPLICIT if silent else Effect.ALLOW
    return Outcome(effect, applied, silent, deciding)


_NOTHING: Final = _Match([], [], [], Grant.NONE)


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
    found = _apply(trust, _view(request, policies))
    applied = tuple(found.applied)
    if found.denies:
        return Decision(Effect.DENY_EXPLICIT, request, applied, (), tuple(found.denies), policies)
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
    return Decision(effect, request, applied, tuple(silent), deciding, policies)


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
    # interned: whoever keeps a request's context shares its names with all others
    context = {sys.intern(key.lower()): value for key, value in request.context.items()}
    lookup, session_lookup = _lookups(context, policies)
    return View(
        principal=request.principal,
        action=request.action,
        action_lower=request.action.lower(),
        resource=request.resource,
        context=context,
        lookup=lookup,
        session_lookup=session_lookup,
        bounded=policies.boundary is not None,
    )


def _lookups(context: Mapping[str, ContextValue], policies: PolicySet) -> tuple[Lookup, Lookup]:
    """How a policy's variables get their values, and how a session policy's do."""
    variables = {key.lower(): value for key, value in policies.variables.items()}

    def lookup(name: str) -> str | None:
        value = context.get(name)
        if value is None or isinstance(value, str):
            return value
        return as_text(value) if isinstance(value, bool | int) else None

    def session_lookup(name: str) -> str | None:
        return variables[name] if name in variables else lookup(name)

    return lookup, session_lookup if variables else lookup


def _apply(policy: Policy, view: View) -> _Match:
    found = _Match([], [], [], Grant.NONE)
    lookup = view.session_lookup if policy.kind == "session" else view.lookup
    for statement in policy.statements:
        grant = _reach(statement, view)
        if grant is Grant.NONE:
            continue
        resources = statement.resources
        if resources is not None and not resources.covers(view.resource, lookup):
            continue
        if not _hold(statement.conditions, view.context, lookup):
            continue
        found = _with(found, statement, grant)
    return found


def _reach(statement: Statement, view: View) -> Grant:
    """How the statement is about this principal and action, its resource apart."""
    if statement.is_inert or not statement.actions.covers(view.action_lower):
        return Grant.NONE
    return _grant(statement, view)


def _with(found: _Match, statement: Statement, grant: Grant) -> _Match:
    """What a policy says with one more statement that applied."""
    found.applied.append(statement.match)
    if not statement.allows:
        found.denies.append(statement.match)
        return found
    found.allows.append(statement.match)
    return found._replace(grant=max(found.grant, grant))


def _grant(statement: Statement, view: View) -> Grant:
    principals = statement.principals
    if principals is None:
        return Grant.DIRECT  # an identity, session or boundary statement is about its bearer
    if statement.allows:
        return principals.grants(view.principal)
    hits = principals.hits(view.principal, bounded=view.bounded)
    return Grant.DIRECT if hits else Grant.NONE


def _hold(conditions: Sequence[Test], context: Mapping[str, ContextValue], lookup: Lookup) -> bool:
    for test in conditions:  # noqa: SIM110 - half the time of all() here
        if not test.holds(context, lookup):
            return False
    return True


# -- many requests of one shape ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A statement that applies if its resource and its ``conditions`` do; the rest is decided.

    ``number`` is its policy's. ``moves``: what is left depends on a context key that varies.
    """

    number: int
    statement: Statement
    grant: Grant
    resources: ResourceSet | None
    conditions: tuple[Test, ...]
    lookup: Lookup
    is_session: bool
    moves: bool


class Prepared:
    """``evaluate`` for requests that differ in their resource and in some context keys alone.

    A supplier asks the same of one key after another. What does not depend on the key (actions,
    principals, most conditions) is decided here once; what is left is a match of patterns, and one
    outcome for each set of statements that applied. ``varying`` names those keys, in lower case;
    ``request.context`` has none of them.
    """

    __slots__ = ("_candidates", "_context", "_outcomes", "_policies", "_request")

    def __init__(
        self, request: Request, policies: PolicySet, varying: frozenset[str] = frozenset()
    ) -> None:
        view = _view(request, policies)
        assert not varying & view.context.keys()
        self._request = request
        self._policies = policies
        self._context = view.context
        self._outcomes: dict[int, Outcome] = {}
        self._candidates = tuple(_candidates(view, policies, varying))

    def outcome(
        self, resource: str, changed: Mapping[str, ContextValue] = MappingProxyType({})
    ) -> Outcome:
        """As ``evaluate`` of that resource; ``changed`` has the values of the varying keys."""
        context: dict[str, ContextValue] | None = None
        lookups: tuple[Lookup, Lookup] | None = None
        mask, bit = 0, 1
        for candidate in self._candidates:
            lookup = candidate.lookup
            if candidate.moves:
                if context is None or lookups is None:
                    context = {**self._context, **{k.lower(): v for k, v in changed.items()}}
                    lookups = _lookups(context, self._policies)
                lookup = lookups[candidate.is_session]
                if not _hold(candidate.conditions, context, lookup):
                    bit <<= 1
                    continue
            resources = candidate.resources
            if resources is None or resources.covers(resource, lookup):
                mask |= bit
            bit <<= 1
        outcome = self._outcomes.get(mask)
        return outcome if outcome is not None else self._work_out(mask)

    def decision(
        self, resource: str, changed: Mapping[str, ContextValue] = MappingProxyType({})
    ) -> Decision:
        """The same with its request."""
        request = replace(
            self._request, resource=resource, context={**self._request.context, **changed}
        )
        return _decision(request, self._policies, self.outcome(resource, changed))

    def _work_out(self, mask: int) -> Outcome:
        found = [_Match([], [], [], Grant.NONE) for _ in self._policies.in_order()]
        for place, candidate in enumerate(self._candidates):
            if mask >> place & 1:
                number = candidate.number
                found[number] = _with(found[number], candidate.statement, candidate.grant)
        if len(self._outcomes) >= OUTCOMES_KEPT_MAX:
            self._outcomes.clear()
        outcome = self._outcomes[mask] = _conclude(self._request, self._policies, found)
        return outcome


def _candidates(view: View, policies: PolicySet, varying: frozenset[str]) -> Iterator[_Candidate]:
    for number, policy in enumerate(policies.in_order()):
        is_session = policy.kind == "session"
        lookup = view.session_lookup if is_session else view.lookup
        for statement in policy.statements:
            grant = _reach(statement, view)
            if grant is Grant.NONE:
                continue
            later = tuple(
                test
                for test in statement.conditions
                if test.key in varying or test.variables & varying
            )
            fixed = [test for test in statement.conditions if test not in later]
            if not _hold(fixed, view.context, lookup):
                continue
            resources = statement.resources
            moves = bool(later) or (resources is not None and bool(resources.variables & varying))
            yield _Candidate(number, statement, grant, resources, later, lookup, is_session, moves)
