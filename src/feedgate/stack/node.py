"""One resource under the builder's hand: resolved properties, typed reading, faults with places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from feedgate.errors import Source
from feedgate.iam.policy import Policy, PolicyError, PolicyKind, parse_policy
from feedgate.stack.identities import Place
from feedgate.stack.intrinsics import UNKNOWN, Identity, Resolver, is_known
from feedgate.stack.template import Path

__all__ = ["Node"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Node:
    """A resource, or an object within one. A reader returns its default after a fault."""

    logical_id: str
    type: str
    properties: Mapping[str, Any]
    path: Path
    source: Source
    identity: Identity
    place: Place
    resolver: Resolver

    def at(self, *steps: str | int) -> Path:
        """The path of a property."""
        return (*self.path, *steps)

    def fault(self, message: str, *steps: str | int, hint: str | None = None) -> None:
        """Record a fault at a property, or at the resource."""
        self.resolver.fault(message, self.at(*steps), hint)

    def warn(self, message: str, *steps: str | int, hint: str | None = None) -> None:
        """Record a likely mistake at a property, or at the resource."""
        self.resolver.fault(message, self.at(*steps), hint, severity="warning")

    @property
    def ref(self) -> str:
        """What Ref returns; the empty string where AWS documents nothing."""
        return self.identity.ref or ""

    def attribute(self, name: str) -> str:
        """What Fn::GetAtt returns."""
        return self.identity.attributes[name]

    @overload
    def text(self, name: str) -> str | None: ...
    @overload
    def text(self, name: str, default: str) -> str: ...
    def text(self, name: str, default: str | None = None) -> str | None:
        """A property's text; numbers are written out as CloudFormation does."""
        value = self.properties.get(name, default)
        if isinstance(value, str) or value is default:
            return value
        if isinstance(value, int | float):
            return str(value).lower()
        return self._misfit(name, value, "text", default)

    def boolean(self, name: str, default: bool) -> bool:
        """A property's truth; ``"true"`` and ``"false"`` count."""
        value = self.properties.get(name, default)
        if isinstance(value, bool):
            return value
        if value in ("true", "false"):
            return bool(value == "true")
        return self._misfit(name, value, "true or false", default)

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """A property's whole number between ``low`` and ``high``; digits in text count."""
        value = self.properties.get(name, default)
        if isinstance(value, str) and value.isdecimal() and len(value) < 12:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            if low <= value <= high:
                return value
            self.fault(f"`{name}` must lie between {low} and {high}, not {value}", name)
            return default
        return self._misfit(name, value, "a whole number", default)

    def texts(self, name: str) -> list[str]:
        """A property's list of texts, unknown items left out; empty where absent."""
        value = self.properties.get(name, [])
        if isinstance(value, str):
            value = [value]  # CloudFormation takes one text for a list of one
        if not isinstance(value, list):
            return self._misfit(name, value, "a list", [])
        found: list[str] = []
        for index, item in enumerate(value):
            if isinstance(item, str):
                found.append(item)
            elif item is not UNKNOWN:
                self.fault(f"`{name}` must hold text", name, index)
        return found

    def objects(self, name: str) -> list[Node]:
        """A property's list of objects, each readable like the resource itself."""
        value = self.properties.get(name, [])
        if not isinstance(value, list):
            return self._misfit(name, value, "a list", [])
        found: list[Node] = []
        for index, item in enumerate(value):
            if isinstance(item, Mapping):
                found.append(self._within(item, name, index))
            elif item is not UNKNOWN:
                self.fault(f"`{name}` must hold objects", name, index)
        return found

    def member(self, name: str) -> Node | None:
        """A property's object; None where absent."""
        value = self.properties.get(name)
        if value is None or isinstance(value, Mapping):
            return None if value is None else self._within(value, name)
        return self._misfit(name, value, "an object", None)

    def _within(self, properties: Mapping[str, Any], *steps: str | int) -> Node:
        path = self.at(*steps)
        return Node(
            self.logical_id,
            self.type,
            properties,
            path,
            self.source,
            self.identity,
            self.place,
            self.resolver,
        )

    def _misfit(self, name: str, value: Any, what: str, default: T) -> T:
        if is_known(value):
            self.fault(f"`{name}` must be {what}", name)
        return default

    def tags(self) -> dict[str, str]:
        """The Tags, key to value."""
        found: dict[str, str] = {}
        for tag in self.objects("Tags"):
            key, value = tag.text("Key"), tag.text("Value")
            if key is None or value is None:
                if is_known(tag.properties):
                    tag.fault("a tag has a `Key` and a `Value`")
            elif key in found:
                tag.fault(f"duplicate tag `{key}`")
            else:
                found[key] = value
        return found

    def policy(self, prop: str, kind: PolicyKind, name: str) -> Policy | None:
        """A property's policy document, parsed; None after a fault or where absent."""
        document = self.properties.get(prop)
        if document is None or not is_known(document):
            return None
        if not isinstance(document, Mapping):
            return self._misfit(prop, document, "a policy document", None)
        return self.parse(document, kind, name, prop)

    def parse(
        self, document: Mapping[str, Any] | str, kind: PolicyKind, name: str, prop: str
    ) -> Policy | None:
        """Parse a policy; each of its problems is a fault at ``prop``."""
        try:
            return parse_policy(document, kind=kind, name=name)
        except PolicyError as error:
            for problem in error.problems:
                self.fault(problem, prop)
            return None
