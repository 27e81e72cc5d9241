"""Why a statement did not apply, in words. Runs only when somebody asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from feedgate.iam.condition import Context, Test, as_text
from feedgate.iam.match import Grant, Principal
from feedgate.iam.pattern import Lookup
from feedgate.iam.policy import Statement, StatementMatch

__all__ = ["StatementMiss", "View", "miss"]

Element = Literal["action", "principal", "resource", "condition", "inert"]


@dataclass(frozen=True, slots=True)
class View:
    """A request made ready: names in lower case, ways to look a variable up."""

    principal: Principal
    action: str
    action_lower: str
    resource: str
    context: Context
    lookup: Lookup
    session_lookup: Lookup
    bounded: bool

    def lookup_for(self, statement: Statement) -> Lookup:
        """Session policies have variables of their own."""
        return self.session_lookup if statement.match.kind == "session" else self.lookup


@dataclass(frozen=True, slots=True)
class StatementMiss:
    """A statement that did not apply, the element at fault and why."""

    statement: StatementMatch
    element: Element
    reason: str

    def __str__(self) -> str:
        return f"{self.statement}: {self.reason}"


def miss(statement: Statement, view: View) -> StatementMiss | None:
    """The first element that keeps the statement from applying, or None where it applies."""
    found = _first(statement, view)
    return StatementMiss(statement.match, *found) if found else None


def _first(  # noqa: PLR0911 - one return per element
    statement: Statement, view: View
) -> tuple[Element, str] | None:
    if statement.is_inert:
        return "inert", "a key policy's statement without Resource has no effect"
    if not statement.actions.covers(view.action_lower):
        return "action", f"`{view.action}` is not among its actions"
    if not _names_principal(statement, view):
        return "principal", f"it does not name {_who(view.principal)}"
    lookup = view.lookup_for(statement)
    resources = statement.resources
    if resources is not None and not resources.covers(view.resource, lookup):
        unresolved = resources.unresolved(lookup)
        if unresolved:
            return "resource", f"`{unresolved[0]}` holds a variable that has no value here"
        return "resource", f"`{view.resource}` is not among its resources"
    for test in statement.conditions:
        if not test.holds(view.context, lookup):
            return "condition", _condition(test, view.context)
    return None


def _names_principal(statement: Statement, view: View) -> bool:
    principals = statement.principals
    if principals is None:
        return True
    if statement.allows:
        return principals.grants(view.principal) is not Grant.NONE
    return principals.hits(view.principal, bounded=view.bounded)


def _who(principal: Principal) -> str:
    name = principal.service or principal.session_arn or principal.arn
    return f"`{name}`" if name else "an anonymous caller"


def _condition(test: Test, context: Context) -> str:
    wanted = ", ".join(f"`{value}`" for value in test.values)
    value = context.get(test.key)
    if value is None:
        return f"condition {test.operator} {test.key} {wanted}: the request has no such key"
    shown = as_text(value) if isinstance(value, str | bool | int) else ", ".join(value)
    return f"condition {test.operator} {test.key} {wanted}: the request has `{shown}`"
