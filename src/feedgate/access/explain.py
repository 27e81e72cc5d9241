"""Why an operation is allowed or refused, and what to paste where. Pure data; commands print it.

Takes paths already resolved to (bucket, key). Nothing is audited: explaining asks for nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from feedgate.access.actions import (
    COMMANDS,
    OPERATIONS,
    STAGE_TEXTS,
    Asker,
    Requirement,
)
from feedgate.access.authorize import Judge
from feedgate.access.principals import (
    TRANSFER_SERVICE,
    RoleSession,
    integration_session,
    integration_trust,
    role_of_integration,
    role_of_user,
    transfer_trust,
    user_session,
)
from feedgate.errors import Finding, Source, UsageError
from feedgate.iam.evaluate import Decision, Effect
from feedgate.iam.policy import PolicyKind, StatementMatch
from feedgate.stack.resources import Role, Stack, User

__all__ = [
    "Explanation",
    "Fix",
    "Line",
    "Step",
    "explain_pipe",
    "explain_user",
    "operations_of",
]


@dataclass(frozen=True, slots=True)
class Line:
    """One statement as a step met it. ``why`` says why it did not apply; empty where it did."""

    statement: StatementMatch
    applied: bool
    decided: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One action that the operation needs. ``stage`` is the packet at which a refusal shows."""

    action: str
    resource: str
    stage: str
    role_only: bool
    decision: Decision
    lines: tuple[Line, ...]

    @property
    def allowed(self) -> bool:
        return self.decision.allowed


@dataclass(frozen=True, slots=True)
class Fix:
    """What would make it allowed.

    ``statement`` is ready to paste at ``place`` of the resource with ``logical_id``; None
    where instead the statement ``narrow``, a Deny, must be narrowed or removed.
    """

    kind: PolicyKind
    logical_id: str
    place: str
    statement: Mapping[str, Any] | None = None
    narrow: StatementMatch | None = None

    @property
    def where(self) -> str:
        """The place, in words."""
        return f"{_PLACES[self.kind]} `{self.logical_id}`, {self.place}"

    def text(self) -> str:
        """The statement as JSON, or what to do with the Deny."""
        if self.statement is None:
            return f"narrow or remove {self.narrow}"
        return json.dumps(self.statement, indent=2)


_PLACES: Final[Mapping[PolicyKind, str]] = {
    "identity": "role",
    "session": "user",
    "boundary": "permissions boundary of role",
    "bucket": "bucket",
    "kms": "KMS key",
    "trust": "role",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """``who`` is the user's or the pipe's name. ``steps`` are in the order in which they are asked.

    ``trust`` is whether the role could be assumed at all. ``client_sees`` is OpenSSH's message.
    """

    who: str
    principal: str
    operation: str
    bucket: str
    key: str
    trust: Decision
    steps: tuple[Step, ...]
    fixes: tuple[Fix, ...]
    notes: tuple[str, ...]
    client_sees: str | None = None
    logical_id: str | None = None
    source: Source | None = None

    @property
    def allowed(self) -> bool:
        return self.trust.allowed and all(step.allowed for step in self.steps)

    @property
    def refused(self) -> Step | None:
        """The step at which it ends."""
        return next((step for step in self.steps if not step.allowed), None)

    def summary(self) -> str:
        """One line."""
        if not self.trust.allowed:
            return f"the role cannot be assumed: {self.trust.reason()}"
        step = self.refused
        if step is None:
            return "allowed"
        return f"refused at {step.stage}: `{step.action}`: {step.decision.reason()}"

    def finding(self) -> Finding | None:
        """The refusal as a finding of ``check``; None where it is allowed."""
        if self.allowed:
            return None
        hint = f"in {self.fixes[0].where}: {_inline(self.fixes[0])}" if self.fixes else None
        return Finding(
            "error",
            f"`{self.who}` cannot {self.operation} `s3://{self.bucket}/{self.key}`:"
            f" {self.summary()}",
            source=self.source,
            resource=self.logical_id,
            hint=hint,
            rule="access",
        )

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``: plain types only."""
        return {
            "who": self.who,
            "principal": self.principal,
            "operation": self.operation,
            "bucket": self.bucket,
            "key": self.key,
            "allowed": self.allowed,
            "summary": self.summary(),
            "client_sees": self.client_sees,
            "trust": {"decision": self.trust.effect.value, "reason": self.trust.reason()},
            "steps": [_step_dict(step) for step in self.steps],
            "fixes": [
                {
                    "policy": fix.kind,
                    "resource": fix.logical_id,
                    "place": fix.place,
                    "statement": fix.statement,
                    "narrow": str(fix.narrow) if fix.narrow else None,
                }
                for fix in self.fixes
            ],
            "notes": list(self.notes),
        }


def operations_of(by: Asker) -> tuple[str, ...]:
    """Every name that may be explained for a kind of principal."""
    names = [name for asker, name in OPERATIONS if asker == by]
    return tuple(names if by != "supplier" else [*COMMANDS, *names])


def explain_user(
    judge: Judge,
    user: User,
    operation: str,
    bucket: str,
    key: str,
    *,
    is_directory: bool = False,
    target: str | None = None,
    path: str | None = None,
) -> Explanation:
    """Explain an SFTP operation of a user, or what a client's command comes to.

    ``path`` is the supplier's, for the client's message. ``is_directory``: STAT of a directory is a
    listing. ``target`` is a rename's new key, by default one beside the old.

    Raises:
        UsageError: there is no such operation.
        AccessDenied: the user's role is not in the stack.
        DefinitionError: the session policy has faults.
    """
    names = COMMANDS.get(operation, (operation,))
    if any(("supplier", name) not in OPERATIONS for name in names):
        raise UsageError(
            f"there is no operation `{operation}`",
            hint=f"one of {', '.join(operations_of('supplier'))}",
        )
    if is_directory and operation in ("stat", "lstat"):
        names = ("list",)
    stack = judge.stack
    role = role_of_user(stack, user)
    session = user_session(stack, user, role, session_id="0" * 16, issued_at_s=judge.now())
    trust = transfer_trust(stack, user, role)
    steps = _steps(judge, session, names, bucket, key, target=target or f"{key}.renamed")
    author = _FixAuthor(stack, role, user, bucket)
    refused = next((step for step in steps if not step.allowed), None)
    template = STAGE_TEXTS.get(refused.requirement.stage) if refused else None
    return Explanation(
        who=user.user_name,
        principal=session.arn,
        operation=operation,
        bucket=bucket,
        key=key,
        trust=trust,
        steps=tuple(step.shown for step in steps),
        fixes=(*author.trust(trust), *author.statements(steps)),
        notes=_notes(steps, role, user),
        client_sees=template.format(path=path or f"/{key}") if template and trust.allowed else None,
        logical_id=user.logical_id,
        source=user.source,
    )


def explain_pipe(
    judge: Judge,
    pipe: str,
    role_arn: str,
    bucket: str,
    key: str,
    *,
    external_id: str | None = None,
) -> Explanation:
    """Explain whether a pipe's storage integration may read an object.

    Raises:
        AccessDenied: the integration's role is not in the stack.
    """
    stack = judge.stack
    role = role_of_integration(stack, role_arn)
    session = integration_session(role, issued_at_s=judge.now())
    trust = integration_trust(stack, role, external_id=external_id)
    steps = _steps(judge, session, ("get",), bucket, key)
    author = _FixAuthor(stack, role, None, bucket)
    return Explanation(
        who=pipe,
        principal=session.arn,
        operation="get",
        bucket=bucket,
        key=key,
        trust=trust,
        steps=tuple(step.shown for step in steps),
        fixes=(*author.trust(trust), *author.statements(steps)),
        notes=_notes(steps, role, None),
        logical_id=role.logical_id,
        source=role.source,
    )


# -- steps --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asked:
    requirement: Requirement
    on_key: str
    decision: Decision
    shown: Step

    @property
    def allowed(self) -> bool:
        return self.decision.allowed


def _steps(
    judge: Judge,
    session: RoleSession,
    names: Iterable[str],
    bucket: str,
    key: str,
    *,
    target: str | None = None,
) -> list[_Asked]:
    asked = []
    for name in names:
        for judgement in judge.judgements(session, name, bucket, key, target=target):
            requirement, decision = judgement.requirement, judgement.decision
            shown = Step(
                action=requirement.action,
                resource=decision.request.resource,
                stage=requirement.stage,
                role_only=requirement.role_only,
                decision=decision,
                lines=_lines(decision),
            )
            on_key = target if requirement.on == "target" and target is not None else key
            asked.append(_Asked(requirement, on_key, decision, shown))
    return asked


def _lines(decision: Decision) -> tuple[Line, ...]:
    missed = {id(found.statement): found.reason for found in decision.considered}
    deciding = {id(match) for match in decision.deciding}
    return tuple(
        Line(
            statement.match,
            applied=id(statement.match) not in missed,
            decided=id(statement.match) in deciding,
            why=missed.get(id(statement.match), ""),
        )
        for policy in decision.policies.in_order()
        for statement in policy.statements
    )


def _step_dict(step: Step) -> dict[str, Any]:
    return {
        "action": step.action,
        "resource": step.resource,
        "stage": step.stage,
        "role_only": step.role_only,
        "decision": step.decision.effect.value,
        "reason": step.decision.reason(),
        "silent": list(step.decision.silent),
        "statements": [
            {
                "policy": line.statement.policy,
                "kind": line.statement.kind,
                "index": line.statement.index,
                "sid": line.statement.sid,
                "effect": line.statement.effect,
                "applied": line.applied,
                "decided": line.decided,
                "why": line.why,
            }
            for line in step.lines
        ],
    }


# -- what to paste ------------------------------------------------------------------------------


class _FixAuthor:
    """Writes the smallest statements that would have made one principal's steps allowed."""

    def __init__(self, stack: Stack, role: Role, user: User | None, bucket: str) -> None:
        self._stack = stack
        self._role = role
        self._user = user
        self._bucket = stack.buckets.get(bucket)

    def trust(self, decision: Decision) -> list[Fix]:
        """What the trust policy lacks."""
        if decision.allowed:
            return []
        place = "AssumeRolePolicyDocument"
        if decision.effect is Effect.DENY_EXPLICIT:
            return [
                Fix("trust", self._role.logical_id, place, narrow=match)
                for match in decision.deciding
            ]
        statement: dict[str, Any] = {"Effect": "Allow"}
        if self._user is not None:
            statement["Principal"] = {"Service": TRANSFER_SERVICE}
            statement["Action"] = "sts:AssumeRole"
            statement["Condition"] = {
                "StringEquals": {"aws:SourceAccount": self._stack.account},
                "ArnLike": {"aws:SourceArn": self._user.arn.rpartition("/")[0] + "/*"},
            }
        else:
            root = f"arn:{self._stack.partition}:iam::{self._stack.account}:root"
            statement["Principal"] = {"AWS": root}
            statement["Action"] = "sts:AssumeRole"
        return [Fix("trust", self._role.logical_id, place, statement)]

    def statements(self, steps: Sequence[_Asked]) -> list[Fix]:
        """One fix per policy and resource; actions that share both share a statement."""
        gathered: dict[tuple[PolicyKind, str], tuple[Fix, list[str]]] = {}
        narrowed: dict[int, Fix] = {}
        for step in steps:
            for match in step.decision.deciding if not step.allowed else ():
                fix = Fix(match.kind, *self._place(match.kind, step), narrow=match)
                narrowed.setdefault(id(match), fix)
            for kind in step.decision.silent:
                statement = self._statement(kind, step)
                fix = Fix(kind, *self._place(kind, step), statement)
                known = (kind, json.dumps(statement, sort_keys=True))
                actions = gathered.setdefault(known, (fix, []))[1]
                if step.requirement.action not in actions:
                    actions.append(step.requirement.action)
        pasted = [
            Fix(fix.kind, fix.logical_id, fix.place, _with_actions(fix.statement, actions))
            for fix, actions in gathered.values()
        ]
        return [*narrowed.values(), *pasted]

    def _place(self, kind: PolicyKind, step: _Asked) -> tuple[str, str]:
        if kind == "session" and self._user is not None:
            return self._user.logical_id, "Policy (the session policy)"
        if kind == "kms":
            key = self._stack.kms_keys.get(step.decision.request.resource)
            return (key.logical_id if key else step.decision.request.resource), "KeyPolicy"
        if kind == "bucket":
            return (self._bucket.logical_id if self._bucket else "?"), "its bucket policy"
        return self._role.logical_id, "Policies"

    def _statement(self, kind: PolicyKind, step: _Asked) -> dict[str, Any]:
        """A statement without its actions."""
        statement: dict[str, Any] = {"Effect": "Allow"}
        if kind in ("kms", "bucket"):
            statement["Principal"] = {"AWS": self._role.arn}
        resource = _literal(step.decision.request.resource)
        if kind == "kms":
            statement["Resource"] = "*"  # in a key policy: this key
        elif step.requirement.action.startswith("kms:"):
            statement["Resource"] = resource
        elif step.requirement.on == "bucket":
            statement["Resource"] = resource
            prefix = step.decision.request.context.get("s3:prefix")
            if isinstance(prefix, str) and prefix:
                pattern = f"{_literal(prefix)}*"
                statement["Condition"] = {"StringLike": {"s3:prefix": [pattern]}}
        else:
            statement["Resource"] = resource.rpartition("/")[0] + "/*"
        return statement


def _literal(text: str) -> str:
    """A text as a policy of Version 2012-10-17 writes it literally (IAM, policies_variables)."""
    return re.sub(r"[*?]|\$(?=\{)", lambda found: "${" + found[0] + "}", text)


def _with_actions(statement: Mapping[str, Any] | None, actions: list[str]) -> dict[str, Any]:
    assert statement is not None
    order = ("Effect", "Principal", "Action", "Resource", "Condition")
    whole = {**statement, "Action": actions}
    return {element: whole[element] for element in order if element in whole}


def _inline(fix: Fix) -> str:
    return json.dumps(fix.statement) if fix.statement is not None else fix.text()


def _notes(steps: Sequence[_Asked], role: Role, user: User | None) -> tuple[str, ...]:
    """The two classic failures of this architecture, named when they are the cause."""
    silent = {
        kind
        for step in steps
        if step.requirement.action.startswith("kms:")
        for kind in step.decision.silent
    }
    notes = []
    if "identity" in silent:
        shows = "OPENDIR is refused" if user is not None else "listing works, reading is refused"
        notes.append(f"role `{role.logical_id}` lacks the KMS key: {shows}")
    if "session" in silent and user is not None:
        notes.append(
            f"the session policy of `{user.user_name}` lacks the KMS key, and it limits what the"
            " role may do: READDIR is refused, and the CLOSE of an upload"
        )
    if "kms" in silent:
        notes.append("the key policy neither names the role nor lets the account's IAM decide")
    return tuple(notes)
