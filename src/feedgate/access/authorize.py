"""The judge: turns an operation into S3 and KMS actions, asks ``iam``, remembers, tells the audit.

Invariants:

- A decision depends on principal, action, resource and context only; so it is remembered per
  principal under the other three, unless a policy asks for the time. ``take_up`` forgets all.
- ``require`` asks about one key after another: what does not depend on the key is a plan, made once
  per principal, operation and bucket (``iam.Prepared``); the key only runs through patterns.
- The policies are the served stack's, looked up again after ``take_up``: a role that left the stack
  allows nothing more.
- Each judgement is one audit event, whether it was remembered or worked out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from feedgate.access import contexts
from feedgate.access.actions import Asker, Requirement, Stage, operation
from feedgate.access.audit import AuditEvent, Judged, judged_as, judged_of
from feedgate.access.principals import Operator, Principal, RoleSession
from feedgate.access.views import Views
from feedgate.errors import AccessDenied
from feedgate.iam import evaluate as iam
from feedgate.iam.arn import Arn, parse_arn, s3_arn
from feedgate.iam.condition import ContextValue
from feedgate.iam.policy import Policy, parse_policy
from feedgate.limits import DECISIONS_KEPT_MAX, OUTCOMES_KEPT_MAX
from feedgate.stack.resources import Bucket, Stack

__all__ = ["AuditEvent", "Judge", "Judgement", "asker_of"]

_OBJECT_CONTEXT = "kms:EncryptionContext:aws:s3:arn"

ContextItems = tuple[tuple[str, ContextValue], ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """One requirement of an operation and what it came to."""

    requirement: Requirement
    decision: iam.Decision


# operation, bucket, stage, kind of listing, the object's KMS key, service
_PlanName = tuple[str, str, str | None, str | None, str | None, str]


@dataclass(slots=True)
class _Step:
    """One requirement of an operation on a bucket, made ready for any key.

    ``resource`` is whole, or with ``is_object`` what a key is put behind. ``varies`` names the
    context key that differs from key to key, if any, and ``before`` what its value begins with.
    """

    requirement: Requirement
    prepared: iam.Prepared
    resource: str
    is_object: bool
    varies: str | None
    before: str
    judged: dict[iam.Outcome, Judged] = field(default_factory=dict)


@dataclass(slots=True)
class _View:
    """What the judge holds of one principal: its policies, its part of the context, decisions."""

    principal: iam.Principal
    identity: tuple[Policy, ...]
    session: Policy | None
    variables: Mapping[str, str]
    base: Mapping[str, ContextValue]
    is_timed: bool
    kept: dict[tuple[str, str, ContextItems, bool], iam.Decision] = field(default_factory=dict)
    plans: dict[_PlanName, tuple[_Step, ...]] = field(default_factory=dict)
    used: bool = False


class Judge:
    """Decides for every principal of a gateway. Thread-safe.

    ``now`` gives Unix seconds. ``audit`` is called once per judgement and must not raise.
    """

    def __init__(
        self, stack: Stack, audit: Callable[[AuditEvent], None], now: Callable[[], float]
    ) -> None:
        self.now = now
        self._audit = audit
        self._lock = threading.Lock()
        self._views = Views[_View]()
        self._stack = stack
        self._has_timed_resource = _asks_time(_resource_policies(stack))

    @property
    def stack(self) -> Stack:
        """The stack whose policies count now."""
        return self._stack

    def take_up(self, stack: Stack) -> None:
        """Judge by another definition from now on; sessions that are open are judged anew."""
        with self._lock:
            self._stack = stack
            self._has_timed_resource = _asks_time(_resource_policies(stack))
            self._views = Views()

    # -- one action -----------------------------------------------------------------------------

    def decide(
        self,
        principal: Principal,
        action: str,
        resource_arn: str,
        context: Mapping[str, ContextValue] | None = None,
        *,
        role_only: bool = False,
    ) -> iam.Decision:
        """Judge one action. ``context`` adds to what the principal's requests say anyway.

        ``role_only`` leaves the session policy out, as Transfer's OPENDIR does. Audited.
        """
        items = tuple(
            (name, tuple(value) if isinstance(value, list) else value)
            for name, value in sorted((context or {}).items())
        )
        decision = self._ask(principal, action, resource_arn, items, role_only=role_only)
        self._audit(AuditEvent(judged_of(principal, decision, None), resource_arn))
        return decision

    def record(self, decision: iam.Decision, *, user_name: str | None, session: str) -> None:
        """Audit a decision that was made before there was a principal: a role's assumption."""
        asked = decision.request.principal
        judged = judged_as(asked.service or asked.arn, user_name, session, decision)
        self._audit(AuditEvent(judged, decision.request.resource))

    # -- one operation --------------------------------------------------------------------------

    def require(
        self,
        principal: Principal,
        operation: str,
        bucket: str,
        key: str,
        *,
        stage: Stage | None = None,
        target: str | None = None,
        listing: tuple[str, str] | None = None,
        kms_key_arn: str | None = None,
        only: str = "",
        audit_allowed: bool = True,
    ) -> None:
        """Judge every action that an operation needs, stopping at the first refusal.

        ``stage`` limits it to what shows at that packet, ``only`` to the actions of one service
        (``s3:`` or ``kms:``). ``target`` is a rename's new key. ``listing`` is the exact prefix and
        delimiter of a listing, by default those of the directory ``key``. ``kms_key_arn`` is the
        KMS key of an object that exists, where it need not be the bucket's. ``audit_allowed``
        False: the same request was audited before, so only a refusal is told.

        Raises:
            AccessDenied: carries the decision.
        """
        view = self._views.get(principal) or self._make_view(principal)
        view.used = True
        name = (operation, bucket, stage, listing and listing[1], kms_key_arn, only)
        plan = view.plans.get(name)
        if plan is None:
            plan = self._make_plan(principal, view, name)
        for step in plan:
            requirement = step.requirement
            on_key = _key_of(requirement, key, target)
            if on_key is None:
                continue
            resource = step.resource + on_key if step.is_object else step.resource
            changed: dict[str, ContextValue] = {}
            if step.varies is not None:
                if listing is not None and requirement.on == "bucket":
                    on_key = listing[0]
                changed[step.varies] = step.before + on_key
            if view.is_timed:
                changed.update(contexts.time_context(int(self.now())))
            outcome = step.prepared.outcome(resource, changed)
            if audit_allowed or not outcome.allowed:
                judged = step.judged.get(outcome)
                if judged is None:
                    decision = step.prepared.decision(resource, changed)
                    judged = judged_of(principal, decision, (operation, requirement.stage))
                    if len(step.judged) >= OUTCOMES_KEPT_MAX:
                        step.judged.clear()
                    step.judged[outcome] = judged
                self._audit(AuditEvent(judged, resource))
            if not outcome.allowed:
                raise denied(step.prepared.decision(resource, changed))

    def _make_plan(self, principal: Principal, view: _View, name: _PlanName) -> tuple[_Step, ...]:
        """What an operation on a bucket takes. The order is the table's."""
        operation_name, bucket, stage, delimiter, kms_key_arn, only = name
        stack = self._stack
        owned = stack.buckets.get(bucket)
        steps = []
        for requirement in operation(asker_of(principal), operation_name).requirements:
            action = requirement.action
            if (stage is not None and requirement.stage != stage) or not action.startswith(only):
                continue
            context: dict[str, ContextValue] = {}
            varies, before, is_object = None, "", False
            if action.startswith("kms:"):
                kms_key = _kms_key_of(stack, owned, action, kms_key_arn)
                if kms_key is None or owned is None:
                    continue
                resource = kms_key
                context = _kms_request(stack, owned, "", principal.account, kms_key)
                if not owned.bucket_key_enabled:
                    del context[_OBJECT_CONTEXT]
                    varies, before = _OBJECT_CONTEXT, f"{owned.arn}/"
            elif requirement.on == "bucket":
                resource = s3_arn(stack.partition, bucket)
                context = contexts.list_context("", "/" if delimiter is None else delimiter)
                varies = "s3:prefix"
                del context[varies]
            else:
                resource, is_object = s3_arn(stack.partition, bucket, ""), True
            varying = {varies.lower()} if varies is not None else set()
            prepared = self._prepare(
                view,
                action,
                resource,
                context,
                frozenset(varying),
                role_only=requirement.role_only,
            )
            steps.append(_Step(requirement, prepared, resource, is_object, varies, before))
        plan = tuple(steps)
        if len(view.plans) >= DECISIONS_KEPT_MAX:
            view.plans.clear()
        view.plans[name] = plan
        return plan

    def _prepare(
        self,
        view: _View,
        action: str,
        resource: str,
        context: Mapping[str, ContextValue],
        varying: frozenset[str],
        *,
        role_only: bool,
    ) -> iam.Prepared:
        request, policies = self._request(view, action, resource, context, role_only=role_only)
        if view.is_timed:
            varying |= contexts.TIME_KEYS
        kept = {k: v for k, v in request.context.items() if k.lower() not in varying}
        return iam.Prepared(replace(request, context=kept), policies, varying)

    def judgements(
        self,
        principal: Principal,
        operation: str,
        bucket: str,
        key: str,
        *,
        target: str | None = None,
    ) -> tuple[Judgement, ...]:
        """Every action of an operation with its decision; for explaining, so it is not audited."""
        return tuple(self._judge(principal, operation, bucket, key, target=target))

    def _judge(
        self,
        principal: Principal,
        operation_name: str,
        bucket: str,
        key: str,
        *,
        target: str | None = None,
    ) -> Iterator[Judgement]:
        stack = self._stack
        owned = stack.buckets.get(bucket)
        by = asker_of(principal)
        for requirement in operation(by, operation_name).requirements:
            on_key = _key_of(requirement, key, target)
            if on_key is None:
                continue
            context: Mapping[str, ContextValue] = {}
            if requirement.action.startswith("kms:"):
                kms_key = _kms_key_of(stack, owned, requirement.action, None)
                if kms_key is None or owned is None:
                    continue
                resource = kms_key
                context = _kms_request(stack, owned, on_key, principal.account, kms_key)
            elif requirement.on == "bucket":
                resource = s3_arn(stack.partition, bucket)
                context = contexts.list_context(on_key, "/")
            else:
                resource = s3_arn(stack.partition, bucket, on_key)
            decision = self._ask(
                principal,
                requirement.action,
                resource,
                tuple(context.items()),
                role_only=requirement.role_only,
            )
            yield Judgement(requirement, decision)

    # -- the way to iam -------------------------------------------------------------------------

    def _ask(
        self,
        principal: Principal,
        action: str,
        resource: str,
        items: ContextItems,
        *,
        role_only: bool,
    ) -> iam.Decision:
        view = self._views.get(principal) or self._make_view(principal)
        view.used = True
        known = (action, resource, items, role_only)
        decision = view.kept.get(known)
        if decision is not None:
            return decision
        request, policies = self._request(view, action, resource, dict(items), role_only=role_only)
        decision = iam.evaluate(request, policies)
        if not view.is_timed:
            if len(view.kept) >= DECISIONS_KEPT_MAX:
                view.kept.clear()
            view.kept[known] = decision
        return decision

    def _request(
        self,
        view: _View,
        action: str,
        resource: str,
        context: Mapping[str, ContextValue],
        *,
        role_only: bool,
    ) -> tuple[iam.Request, iam.PolicySet]:
        policy, account = _resource_side(self._stack, action, resource)
        request = iam.Request(
            principal=view.principal,
            action=action,
            resource=resource,
            resource_account=account,
            context={
                **view.base,
                **contexts.time_context(int(self.now())),
                "aws:ResourceAccount": account,
                "s3:ResourceAccount": account,
                "aws:ViaAWSService": False,
                **context,
            },
        )
        policies = iam.PolicySet(
            identity=view.identity,
            session=None if role_only else view.session,
            resource=policy,
            variables=view.variables,
        )
        return request, policies

    def _make_view(self, principal: Principal) -> _View:
        with self._lock:
            stack = self._stack
            identity: tuple[Policy, ...] = ()
            session: Policy | None = None
            variables: Mapping[str, str] = {}
            if isinstance(principal, RoleSession):
                role = stack.roles.get(principal.role.arn)
                identity = role.policies if role is not None else ()
                session, variables = principal.session_policy, principal.variables
            timed = self._has_timed_resource or _asks_time([*identity, session])
            view = _View(
                principal=_iam_principal(principal, stack),
                identity=identity,
                session=session,
                variables=variables,
                base=contexts.principal_context(principal, stack),
                is_timed=timed,
            )
            self._views.keep(principal, view)
            return view


def denied(decision: iam.Decision) -> AccessDenied:
    """The error for a refusal."""
    request = decision.request
    return AccessDenied(
        f"`{request.action}` on `{request.resource}` is denied: {decision.reason()}",
        decision=decision,
        hint="`feedgate explain` shows every statement and what to paste where",
    )


def asker_of(principal: Principal) -> Asker:
    """Which rows of the table of operations are this principal's."""
    if isinstance(principal, Operator):
        return "operator"
    return "supplier" if principal.user_name is not None else "loader"


def _iam_principal(principal: Principal, stack: Stack) -> iam.Principal:
    if isinstance(principal, Operator):
        root = f"arn:{stack.partition}:iam::{principal.account}:root"
        return iam.Principal("root", principal.account, root)
    return iam.Principal("role_session", principal.account, principal.role.arn, principal.arn)


def _resource_policies(stack: Stack) -> list[Policy | None]:
    buckets = [bucket.policy for bucket in stack.buckets.values()]
    return [*buckets, *(key.policy for key in stack.kms_keys.values())]


def _asks_time(policies: list[Policy | None]) -> bool:
    return any(policy is not None and policy.keys & contexts.TIME_KEYS for policy in policies)


def _resource_side(stack: Stack, action: str, resource: str) -> tuple[Policy | None, str]:
    """The resource's own policy and account; no account where the stack has no such thing."""
    arn = parse_arn(resource)
    if action.lower().startswith("kms:"):
        key = stack.kms_keys.get(resource)
        return (key.policy if key is not None else _former_key_policy(arn)), arn.account
    assert action.lower().startswith("s3:"), action
    bucket = stack.buckets.get(arn.resource.partition("/")[0])
    return (bucket.policy, stack.account) if bucket is not None else (None, "")


def _key_of(requirement: Requirement, key: str, target: str | None) -> str | None:
    """The key that a requirement is about; None where there is nothing to ask about."""
    if requirement.on == "target":
        assert target is not None, "a rename has a target"
        return target
    if requirement.on == "object":
        return key
    prefix = key if not key or key.endswith("/") else f"{key}/"
    if requirement.on == "marker":
        return prefix or None  # a bucket's root has no marker
    return prefix


def _former_key_policy(arn: Arn) -> Policy | None:
    """The key policy of a KMS key that has left the stack and still wraps objects.

    Its own went with the definition. In its place stands the one that KMS gives a key by default
    (KMS Developer Guide, key-policy-default): the account's root may do all and delegates to IAM.
    So a role opens old objects as long as its own policies go on naming the former KMS key.
    """
    if arn.account and arn.resource.startswith("key/"):
        return _delegating_policy(f"arn:{arn.partition}:iam::{arn.account}:root")
    return None


@lru_cache(maxsize=4)
def _delegating_policy(root: str) -> Policy:
    statement = {
        "Sid": "AccountDelegatesToIam",
        "Effect": "Allow",
        "Principal": {"AWS": root},
        "Action": "kms:*",
        "Resource": "*",
    }
    document = {"Version": "2012-10-17", "Statement": [statement]}
    return parse_policy(document, kind="kms", name="default key policy")


def _kms_key(stack: Stack, bucket: Bucket | None, of_object: str | None) -> str | None:
    """The KMS key that is asked: the object's own, were it a former one, else the bucket's.

    What lies under feedgate's own key (an alias, as ``aws/s3``) counts as the bucket's.
    """
    if of_object is not None and parse_arn(of_object).resource.startswith("key/"):
        return of_object
    return bucket.kms_key_arn if bucket is not None else None


def _kms_key_of(
    stack: Stack, owned: Bucket | None, action: str, kms_key_arn: str | None
) -> str | None:
    """A data key is only ever made under the bucket's KMS key; an old one opens under its own."""
    return _kms_key(stack, owned, kms_key_arn if action == "kms:Decrypt" else None)


def _kms_request(
    stack: Stack, bucket: Bucket, key: str, account: str, kms_key_arn: str
) -> dict[str, ContextValue]:
    arn = bucket.arn if bucket.bucket_key_enabled else f"{bucket.arn}/{key}"
    kms_key = stack.kms_keys.get(kms_key_arn)
    aliases = kms_key.aliases if kms_key is not None else ()
    return contexts.kms_context(stack, account, {"aws:s3:arn": arn}, aliases)
