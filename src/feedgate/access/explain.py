"""Why an operation is allowed or refused, and what to paste where. Pure data; commands print it.

Takes paths already resolved to (bucket, key). Nothing is audited: explaining asks for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from feedgate.access.actions import (
    COMMANDS,
    OPERATIONS,
    STAGE_TEXTS,
    Asker,
)
from feedgate.access.authorize import Judge, Judgement
from feedgate.access.fixes import Fix, FixAuthor
from feedgate.access.principals import (
    RoleSession,
    integration_session,
    integration_trust,
    role_of_integration,
    role_of_user,
    transfer_trust,
    user_session,
)
from feedgate.errors import Finding, Source, UsageError
from feedgate.iam.evaluate import Decision
from feedgate.iam.policy import StatementMatch
from feedgate.stack.resources import Role, User

__all__ = [
    "Explanation",
    "Fix",
    "Line",
    "Step",
    "explain_pipe",
    "explain_unasked",
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
class Explanation:
    """``who`` is the user's or the pipe's name. ``steps`` are in the order in which they are asked.

    ``trust`` is whether the role could be assumed at all. ``client_sees`` is OpenSSH's message.
    ``blocked`` is what stops it whatever the policies say. ``bucket`` is empty where the supplier's
    ``path`` lies in none.
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
    blocked: str | None = None
    path: str = ""

    @property
    def allowed(self) -> bool:
        return (
            self.trust.allowed and self.blocked is None and all(step.allowed for step in self.steps)
        )

    @property
    def place(self) -> str:
        """What it is about: ``s3://bucket/key``, or the supplier's path."""
        return f"s3://{self.bucket}/{self.key}" if self.bucket else self.path

    @property
    def refused(self) -> Step | None:
        """The step at which it ends."""
        return next((step for step in self.steps if not step.allowed), None)

    def summary(self) -> str:
        """One line."""
        if not self.trust.allowed:
            return f"the role cannot be assumed: {self.trust.reason()}"
        if self.blocked is not None:
            return self.blocked
        step = self.refused
        if step is None:
            return "allowed"
        return f"refused at {step.stage}: `{step.action}`: {step.decision.reason()}"

    def finding(self) -> Finding | None:
        """The refusal as a finding of ``check``; None where it is allowed."""
        if self.allowed:
            return None
        hint = f"in {self.fixes[0].where}: {self.fixes[0].inline()}" if self.fixes else None
        return Finding(
            "error",
            f"`{self.who}` cannot {self.operation} `{self.place}`: {self.summary()}",
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
            "path": self.path or None,
            "allowed": self.allowed,
            "summary": self.summary(),
            "blocked": self.blocked,
            "client_sees": self.client_sees,
            "trust": {"decision": self.trust.effect.value, "reason": self.trust.reason()},
            "steps": [_step_dict(step) for step in self.steps],
            "fixes": [
                {
                    "policy": fix.kind,
                    "resource": fix.logical_id,
                    "place": fix.place,
                    "statement": fix.statement,
                    "portable_statement": fix.portable,
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
    judged = _judged(judge, session, names, bucket, key, target=target or f"{key}.renamed")
    author = FixAuthor(stack, role, user, bucket)
    refused = next((found for found in judged if not found.decision.allowed), None)
    template = STAGE_TEXTS.get(refused.requirement.stage) if refused else None
    return Explanation(
        who=user.user_name,
        principal=session.arn,
        operation=operation,
        bucket=bucket,
        key=key,
        trust=trust,
        steps=tuple(map(_step, judged)),
        fixes=(*author.trust(trust), *author.statements(judged)),
        notes=_notes(judged, role, user),
        client_sees=template.format(path=path or f"/{key}") if template and trust.allowed else None,
        logical_id=user.logical_id,
        source=user.source,
        path=path or "",
    )


def explain_unasked(
    judge: Judge,
    user: User,
    operation: str,
    path: str,
    why: str,
    *,
    bucket: str = "",
    key: str = "",
) -> Explanation:
    """Explain an operation for which no policy is asked, so only the login can fail.

    Raises:
        AccessDenied: the user's role is not in the stack.
        DefinitionError: the session policy has faults.
    """
    stack = judge.stack
    role = role_of_user(stack, user)
    session = user_session(stack, user, role, session_id="0" * 16, issued_at_s=judge.now())
    trust = transfer_trust(stack, user, role)
    return Explanation(
        who=user.user_name,
        principal=session.arn,
        operation=operation,
        bucket=bucket,
        key=key,
        trust=trust,
        steps=(),
        fixes=tuple(FixAuthor(stack, role, user, bucket).trust(trust)),
        notes=(why,),
        logical_id=user.logical_id,
        source=user.source,
        path=path,
    )


def explain_pipe(
    judge: Judge,
    pipe: str,
    role_arn: str,
    bucket: str,
    key: str,
    *,
    external_id: str | None = None,
    blocked: str | None = None,
) -> Explanation:
    """Explain whether a pipe's storage integration may read an object.

    ``blocked`` says why the pipe would not read it anyway; there is then nothing to paste.

    Raises:
        AccessDenied: the integration's role is not in the stack.
    """
    stack = judge.stack
    role = role_of_integration(stack, role_arn)
    session = integration_session(role, issued_at_s=judge.now())
    trust = integration_trust(stack, role, external_id=external_id)
    judged = _judged(judge, session, ("get",), bucket, key)
    author = FixAuthor(stack, role, None, bucket)
    return Explanation(
        who=pipe,
        principal=session.arn,
        operation="get",
        bucket=bucket,
        key=key,
        trust=trust,
        steps=tuple(map(_step, judged)),
        fixes=() if blocked else (*author.trust(trust), *author.statements(judged)),
        notes=_notes(judged, role, None),
        logical_id=role.logical_id,
        source=role.source,
        blocked=blocked,
    )


# -- steps --------------------------------------------------------------------------------------


def _judged(
    judge: Judge,
    session: RoleSession,
    names: Iterable[str],
    bucket: str,
    key: str,
    *,
    target: str | None = None,
) -> list[Judgement]:
    return [
        judgement
        for name in names
        for judgement in judge.judgements(session, name, bucket, key, target=target)
    ]


def _step(judgement: Judgement) -> Step:
    requirement, decision = judgement.requirement, judgement.decision
    return Step(
        action=requirement.action,
        resource=decision.request.resource,
        stage=requirement.stage,
        role_only=requirement.role_only,
        decision=decision,
        lines=_lines(decision),
    )


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


def _notes(judged: Sequence[Judgement], role: Role, user: User | None) -> tuple[str, ...]:
    """The two classic failures of this architecture, named when they are the cause."""
    silent = {
        kind
        for found in judged
        if found.requirement.action.startswith("kms:")
        for kind in found.decision.silent
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
