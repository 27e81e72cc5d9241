"""What the audit is told of a judgement.

Most of an event is the same for one key after another, and is made once (``Judged``); whoever
writes events may keep what it made of that.
"""

from __future__ import annotations

from dataclasses import dataclass

from feedgate.access.principals import Principal, RoleSession
from feedgate.iam import evaluate as iam

__all__ = ["AuditEvent", "Judged", "judged_as", "judged_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """All of an audit event but the resource. Shared by the events of one shape, so made once.

    ``principal`` is an ARN or a service; ``operation`` and ``stage`` are those of ``actions``;
    ``statement`` names the deciding statements, None where nobody allowed it.
    """

    principal: str
    user: str | None
    session: str | None
    action: str
    effect: iam.Effect
    statement: str | None
    reason: str | None
    operation: str | None = None
    stage: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One judgement: who asked for what, what came of it and which statement decided."""

    judged: Judged
    resource: str

    @property
    def principal(self) -> str:
        return self.judged.principal

    @property
    def user(self) -> str | None:
        return self.judged.user

    @property
    def operation(self) -> str | None:
        return self.judged.operation

    @property
    def stage(self) -> str | None:
        return self.judged.stage

    @property
    def action(self) -> str:
        return self.judged.action

    @property
    def effect(self) -> iam.Effect:
        return self.judged.effect

    @property
    def statement(self) -> str | None:
        return self.judged.statement

    def fields(self) -> dict[str, str]:
        """As a log line has them; nothing of the object's content.

        What repeats another field is left out: the session's name where the principal's ARN ends
        with it, the reason of an Allow, which is its statement.
        """
        judged = self.judged
        session = judged.session
        if session is not None and judged.principal.endswith(f"/{session}"):
            session = None
        named = {
            "principal": judged.principal,
            "user": judged.user,
            "session-id": session,
            "operation": judged.operation,
            "stage": judged.stage,
            "action": judged.action,
            "resource": self.resource,
            "decision": judged.effect.value,
            "statement": judged.statement,
            "reason": judged.reason,
        }
        return {name: value for name, value in named.items() if value is not None}


def judged_of(
    principal: Principal, decision: iam.Decision, asked: tuple[str, str] | None
) -> Judged:
    """What was judged of a principal; ``asked`` is operation and stage."""
    asked_by = decision.request.principal
    user, session = (
        (principal.user_name, principal.session_name)
        if isinstance(principal, RoleSession)
        else (principal.name, None)
    )
    return judged_as(asked_by.session_arn or asked_by.arn, user, session, decision, asked)


def judged_as(
    principal: str,
    user: str | None,
    session: str | None,
    decision: iam.Decision,
    asked: tuple[str, str] | None = None,
) -> Judged:
    """The same for who is no principal of ours."""
    return Judged(
        principal=principal,
        user=user,
        session=session,
        action=decision.request.action,
        effect=decision.effect,
        statement="; ".join(map(str, decision.deciding)) or None,
        reason=None if decision.allowed else decision.reason(),
        operation=asked[0] if asked else None,
        stage=asked[1] if asked else None,
    )
