"""What to paste where: the statements that would have made a refused operation allowed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from feedgate.access.authorize import Judgement
from feedgate.access.principals import TRANSFER_SERVICE
from feedgate.iam.evaluate import Decision, Effect
from feedgate.iam.policy import PolicyKind, StatementMatch
from feedgate.stack.resources import Role, Stack, User

__all__ = ["Fix", "FixAuthor"]


@dataclass(frozen=True, slots=True)
class Fix:
    """What would make it allowed.

    ``statement`` is ready to paste at ``place`` of the resource with ``logical_id``; None
    where instead the statement ``narrow``, a Deny, must be narrowed or removed. ``portable`` is the
    same with the stack's own ARNs by logical id, which holds in every account: as intrinsic
    functions, or in a session policy, which is text, as Fn::Sub reads it.
    """

    kind: PolicyKind
    logical_id: str
    place: str
    statement: Mapping[str, Any] | None = None
    narrow: StatementMatch | None = None
    portable: Mapping[str, Any] | None = None

    @property
    def where(self) -> str:
        """The place, in words."""
        return f"{_PLACES[self.kind]} `{self.logical_id}`, {self.place}"

    def text(self) -> str:
        """The statement as JSON, or what to do with the Deny."""
        if self.statement is None:
            return f"narrow or remove {self.narrow}"
        return json.dumps(self.statement, indent=2)

    def inline(self) -> str:
        """The same in one line, by logical ids where it can be."""
        shown = self.portable or self.statement
        return json.dumps(shown) if shown is not None else self.text()


_PLACES: Final[Mapping[PolicyKind, str]] = {
    "identity": "role",
    "session": "user",
    "boundary": "permissions boundary of role",
    "bucket": "bucket",
    "kms": "KMS key",
    "trust": "role",
}


class FixAuthor:
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
        return [self._pasted("trust", self._role.logical_id, place, statement)]

    def statements(self, steps: Sequence[Judgement]) -> list[Fix]:
        """One fix per policy and resource; actions that share both share a statement."""
        gathered: dict[tuple[PolicyKind, str], tuple[Fix, list[str]]] = {}
        narrowed: dict[int, Fix] = {}
        for step in steps:
            for match in step.decision.deciding if not step.decision.allowed else ():
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
            self._pasted(fix.kind, fix.logical_id, fix.place, _with_actions(fix.statement, actions))
            for fix, actions in gathered.values()
        ]
        return [*narrowed.values(), *pasted]

    def _pasted(
        self, kind: PolicyKind, logical_id: str, place: str, statement: Mapping[str, Any]
    ) -> Fix:
        portable = _portable(statement, self._by_arn(), as_text=kind == "session")
        return Fix(kind, logical_id, place, statement, portable=portable)

    def _by_arn(self) -> dict[str, str]:
        names = {self._role.arn: self._role.logical_id}
        names |= {key.arn: key.logical_id for key in self._stack.kms_keys.values()}
        names |= {bucket.arn: bucket.logical_id for bucket in self._stack.buckets.values()}
        return names

    def _place(self, kind: PolicyKind, step: Judgement) -> tuple[str, str]:
        if kind == "session" and self._user is not None:
            name = self._user.logical_id or self._user.user_name  # one of the gateway alone
            return name, "Policy (the session policy)"
        if kind == "kms":
            key = self._stack.kms_keys.get(step.decision.request.resource)
            return (key.logical_id if key else step.decision.request.resource), "KeyPolicy"
        if kind == "bucket":
            return (self._bucket.logical_id if self._bucket else "?"), "its bucket policy"
        return self._role.logical_id, "Policies"

    def _statement(self, kind: PolicyKind, step: Judgement) -> dict[str, Any]:
        """A statement without its actions: of an object, its folder; of one in none, itself."""
        statement: dict[str, Any] = {"Effect": "Allow"}
        if kind in ("kms", "bucket"):
            statement["Principal"] = {"AWS": self._role.arn}
        resource = self._shared(kind, _literal(step.decision.request.resource))
        if kind == "kms":
            statement["Resource"] = "*"  # in a key policy: this key
        elif step.requirement.action.startswith("kms:"):
            statement["Resource"] = resource
        elif step.requirement.on == "bucket":
            statement["Resource"] = resource
            prefix = step.decision.request.context.get("s3:prefix")
            if isinstance(prefix, str):
                pattern = self._shared(kind, f"{_literal(prefix)}*" if prefix else "")
                statement["Condition"] = {"StringLike": {"s3:prefix": [pattern]}}
        else:
            folder = resource.rpartition("/")[0]
            statement["Resource"] = f"{folder}/*" if "/" in folder else resource
        return statement

    def _shared(self, kind: PolicyKind, text: str) -> str:
        """A session policy serves every user of the stack: his own name becomes the variable."""
        if kind != "session" or self._user is None:
            return text
        components = text.split("/")
        if self._user.user_name in components:
            components[components.index(self._user.user_name)] = "${transfer:UserName}"
        return "/".join(components)


def _portable(value: Any, by_arn: Mapping[str, str], *, as_text: bool) -> Any:
    """A statement with the stack's ARNs as ``${LogicalId.Arn}`` (CloudFormation, Fn::Sub)."""
    if isinstance(value, Mapping):
        return {name: _portable(item, by_arn, as_text=as_text) for name, item in value.items()}
    if isinstance(value, list):
        return [_portable(item, by_arn, as_text=as_text) for item in value]
    text = value.replace("${", "${!")
    for arn, logical_id in by_arn.items():
        if value == arn or value.startswith(f"{arn}/"):
            text = "${" + f"{logical_id}.Arn" + "}" + text[len(arn) :]
            return text if as_text else {"Fn::Sub": text}
    return text if as_text else value


def _literal(text: str) -> str:
    """A text as a policy of Version 2012-10-17 writes it literally (IAM, policies_variables)."""
    return re.sub(r"[*?]|\$(?=\{)", lambda found: "${" + found[0] + "}", text)


def _with_actions(statement: Mapping[str, Any] | None, actions: list[str]) -> dict[str, Any]:
    assert statement is not None
    order = ("Effect", "Principal", "Action", "Resource", "Condition")
    whole = {**statement, "Action": actions}
    return {element: whole[element] for element in order if element in whole}
