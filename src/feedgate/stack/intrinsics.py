"""CloudFormation's functions: a tree with Ref and Fn::… in, plain values out.

Semantics from the pages under
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference.html.
``Resolver.value`` never raises: a fault is recorded with its place and yields ``UNKNOWN``, which
whatever contains it passes on in silence, so that one reading finds every fault.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from feedgate.errors import Finding, Source
from feedgate.stack.parameters import Parameter
from feedgate.stack.template import Path, Template

__all__ = ["NO_VALUE", "UNKNOWN", "Identity", "Resolver", "is_known"]

CHAIN_MAX: Final = 40  # conditions that name conditions, names that refer to names


class _Marker:
    """A value that is no value."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


NO_VALUE: Final = _Marker("AWS::NoValue")  # removes the property that holds it
UNKNOWN: Final = _Marker("unknown")  # a fault was recorded where it came from


@dataclass(frozen=True, slots=True)
class Identity:
    """What Ref and Fn::GetAtt answer for a resource. ``ref`` None: AWS documents no Ref for it."""

    type: str
    ref: str | None
    attributes: Mapping[str, str] = field(default_factory=dict)


class _Wrong(Exception):
    def __init__(self, message: str, path: Path, hint: str | None = None) -> None:
        super().__init__(message)
        self.finding = (message, path, hint)


class _Unknown(Exception):
    """An argument is unknown; its fault is recorded already."""


def is_known(value: Any) -> bool:
    """Whether no part of ``value`` is ``UNKNOWN``."""
    if isinstance(value, Mapping):
        return all(is_known(child) for child in value.values())
    if isinstance(value, list):
        return all(is_known(child) for child in value)
    return value is not UNKNOWN


_SUB: Final = re.compile(r"\$\{(?P<literal>!?)(?P<name>[^}]*)\}")
_SUB_NAME: Final = re.compile(r"[A-Za-z0-9_.:]+")
_DYNAMIC: Final = "{{resolve:"


class Resolver:
    """Resolves values of one template.

    ``identify`` answers for a logical id, or None where there is no such resource; it is set by
    the builder, which needs the resolver to know names. ``edges`` collects which resource refers
    to which.
    """

    def __init__(
        self,
        template: Template,
        *,
        parameters: Mapping[str, Parameter],
        pseudo: Mapping[str, Any],
        imports: Mapping[str, str],
        findings: list[Finding],
    ) -> None:
        self._template = template
        self._parameters = parameters
        self._pseudo = pseudo
        self._imports = imports
        self._findings = findings
        self._conditions: dict[str, bool | _Marker] = {}
        self._condition_chain: list[str] = []
        self._extended = "AWS::LanguageExtensions" in str(template.body.get("Transform", ""))
        self.identify: Callable[[str], Identity | _Marker | None] = lambda _: None
        self.edges: dict[str, set[str]] = {}

    def fault(
        self, message: str, path: Path, hint: str | None = None, *, severity: Any = "error"
    ) -> None:
        """Record a fault at ``path``."""
        resource = str(path[1]) if path[:1] == ("Resources",) and len(path) > 1 else None
        source = self._template.source(path)
        finding = Finding(severity, message, source, resource, hint=hint, rule="template")
        if finding not in self._findings:
            self._findings.append(finding)

    def source(self, path: Path) -> Source:
        """The author's place of a node."""
        return self._template.source(path)

    def value(self, node: Any, path: Path) -> Any:
        """Resolve a node; ``UNKNOWN`` after a fault, ``NO_VALUE`` where it is to be removed."""
        try:
            return self._value(node, path)
        except _Wrong as wrong:
            self.fault(*wrong.finding)
        except _Unknown:
            pass
        return UNKNOWN

    def _value(self, node: Any, path: Path) -> Any:
        if isinstance(node, Mapping):
            name = _function_name(node, path)
            if name is not None:
                return self.FUNCTIONS[name](self, node[name], (*path, name))
            members = {key: self.value(child, (*path, key)) for key, child in node.items()}
            return {key: child for key, child in members.items() if child is not NO_VALUE}
        if isinstance(node, list):
            items = [self.value(child, (*path, index)) for index, child in enumerate(node)]
            return [item for item in items if item is not NO_VALUE]
        if isinstance(node, str) and _DYNAMIC in node:
            raise _Wrong(
                "dynamic references (`{{resolve:…}}`) have no value outside an AWS account", path
            )
        return node

    def _argument(self, node: Any, path: Path) -> Any:
        value = self._value(node, path)
        if not is_known(value):
            raise _Unknown
        return value

    def _list(self, node: Any, path: Path, count: tuple[int, ...], what: str) -> list[Any]:
        if not isinstance(node, list) or len(node) not in count:
            raise _Wrong(f"`{path[-1]}` takes {what}", path)
        return node

    def _text(self, node: Any, path: Path, what: str) -> str:
        return _as_text(self._argument(node, path), path, what)

    # -- conditions -----------------------------------------------------------------------------

    def condition(self, name: Any, path: Path) -> bool | _Marker:
        """The truth of a named condition; ``UNKNOWN`` after a fault."""
        declared = self._template.section("Conditions")
        if not isinstance(name, str) or name not in declared:
            self.fault(f"no such condition: `{name}`", path)
            return UNKNOWN
        if name in self._conditions:
            return self._conditions[name]
        if name in self._condition_chain or len(self._condition_chain) >= CHAIN_MAX:
            chain = " → ".join([*self._condition_chain, name])
            self.fault(f"conditions go round in a circle: {chain}", ("Conditions", name))
            return UNKNOWN
        self._condition_chain.append(name)
        here: Path = ("Conditions", name)
        value = self.value(declared[name], here)
        self._condition_chain.pop()
        truth = value if isinstance(value, bool) else UNKNOWN
        if truth is UNKNOWN and value is not UNKNOWN:
            self.fault(f"condition `{name}` is neither true nor false", here)
        self._conditions[name] = truth
        return truth

    def _truth(self, node: Any, path: Path) -> bool:
        value = self._argument(node, path)
        if not isinstance(value, bool):
            raise _Wrong("a condition must be true or false", path)
        return value

    def _named_condition(self, node: Any, path: Path) -> bool:
        value = self.condition(node, path)
        if isinstance(value, _Marker):
            raise _Unknown
        return value

    def _if(self, node: Any, path: Path) -> Any:
        name, yes, no = self._list(node, path, (3,), "[condition, then, else]")
        branch = 1 if self._named_condition(name, (*path, 0)) else 2
        return self._value((yes, no)[branch - 1], (*path, branch))

    def _equals(self, node: Any, path: Path) -> bool:
        parts = self._list(node, path, (2,), "two values")
        left, right = (self._argument(part, (*path, i)) for i, part in enumerate(parts))
        return bool(_comparable(left) == _comparable(right))

    def _and(self, node: Any, path: Path) -> bool:
        parts = self._list(node, path, tuple(range(2, 11)), "2 to 10 conditions")
        truths = [self._truth(part, (*path, i)) for i, part in enumerate(parts)]
        return all(truths)

    def _or(self, node: Any, path: Path) -> bool:
        parts = self._list(node, path, tuple(range(2, 11)), "2 to 10 conditions")
        truths = [self._truth(part, (*path, i)) for i, part in enumerate(parts)]
        return any(truths)

    def _not(self, node: Any, path: Path) -> bool:
        (part,) = self._list(node, path, (1,), "one condition in a list")
        return not self._truth(part, (*path, 0))

    # -- references -----------------------------------------------------------------------------

    def _refer(self, logical_id: str, path: Path, what: str) -> Identity:
        if path[0] == "Conditions":
            raise _Wrong(f"conditions see parameters only, not the resource `{logical_id}`", path)
        identity = self.identify(logical_id)
        if identity is None:
            hint = None
            if logical_id.lower().startswith("transfer:"):
                hint = f"write `${{!{logical_id}}}` so that Fn::Sub leaves it to the session policy"
            raise _Wrong(f"{what} `{logical_id}` is neither a parameter nor a resource", path, hint)
        if path[0] == "Resources":
            self.edges.setdefault(str(path[1]), set()).add(logical_id)
        if isinstance(identity, _Marker):
            raise _Unknown
        return identity

    def _ref(self, node: Any, path: Path) -> Any:
        if not isinstance(node, str):
            raise _Wrong("`Ref` takes a name", path)
        return self._named(node, path, "the Ref")

    def _named(self, name: str, path: Path, what: str) -> Any:
        if name in self._pseudo:
            return self._pseudo[name]
        if name.startswith("AWS::"):
            raise _Wrong(f"no such pseudo parameter: `{name}`", path)
        parameter = self._parameters.get(name)
        if parameter is not None:
            if parameter.unavailable:
                hint = "declare it as String and give the value"
                raise _Wrong(
                    f"parameter `{name}` is not known here: {parameter.unavailable}", path, hint
                )
            return parameter.value
        if name in self._template.section("Parameters"):
            raise _Unknown  # its declaration or value is at fault, and reported
        identity = self._refer(name, path, what)
        if identity.ref is None:
            raise _Wrong(f"`{identity.type}` has no documented Ref", path)
        return identity.ref

    def _get_att(self, node: Any, path: Path) -> str:
        if isinstance(node, str):
            name, _, attribute = node.partition(".")
        else:
            first, second = self._list(node, path, (2,), "a resource and its attribute")
            if not isinstance(first, str):
                raise _Wrong("`Fn::GetAtt` takes the logical id as plain text", path)
            name, attribute = first, self._text(second, (*path, 1), "the attribute")
        return self._attribute(name, attribute, path)

    def _attribute(self, name: str, attribute: str, path: Path) -> str:
        identity = self._refer(name, path, "the resource")
        if attribute not in identity.attributes:
            known = ", ".join(identity.attributes) or "none"
            raise _Wrong(
                f"`{identity.type}` has no attribute `{attribute}` here", path, f"known: {known}"
            )
        return identity.attributes[attribute]

    def _sub(self, node: Any, path: Path) -> str:
        text, variables = node, {}
        if isinstance(node, list):
            text, given = self._list(node, path, (2,), "a string, or [string, variables]")
            if not isinstance(given, Mapping):
                raise _Wrong("the variables of `Fn::Sub` must be an object", path)
            variables = {
                key: self._text(child, (*path, 1, key), f"variable `{key}`")
                for key, child in given.items()
            }
        if not isinstance(text, str):
            raise _Wrong("`Fn::Sub` takes plain text, no function", path)
        if _DYNAMIC in text:
            self._value(text, path)
        unknown = False

        def replace(match: re.Match[str]) -> str:
            nonlocal unknown
            name = match["name"]
            if match["literal"]:
                return f"${{{name}}}"
            try:
                return self._sub_variable(name, variables, path)
            except _Wrong as wrong:  # each variable of one string is reported
                self.fault(*wrong.finding)
            except _Unknown:
                pass
            unknown = True
            return ""

        result = _SUB.sub(replace, text)
        if unknown:
            raise _Unknown
        return result

    def _sub_variable(self, name: str, variables: Mapping[str, str], path: Path) -> str:
        if name in variables:
            return variables[name]
        if not _SUB_NAME.fullmatch(name):
            hint = f"write `${{!{name}}}` for the literal text"
            raise _Wrong(f"`${{{name}}}` is no name that Fn::Sub can take", path, hint)
        if "." in name:
            resource, _, attribute = name.partition(".")
            return self._attribute(resource, attribute, path)
        return _as_text(self._named(name, path, "the variable"), path, f"`${{{name}}}`")

    def _import_value(self, node: Any, path: Path) -> str:
        if path[0] == "Conditions":
            raise _Wrong("conditions cannot import values", path)
        name = self._text(node, path, "the export's name")
        if name not in self._imports:
            raise _Wrong(
                f"the export `{name}` of another stack has no value here",
                path,
                f"give it: --import-value {name}=VALUE",
            )
        return self._imports[name]

    # -- values ---------------------------------------------------------------------------------

    def _join(self, node: Any, path: Path) -> str:
        delimiter, items = self._list(node, path, (2,), "[delimiter, list]")
        if not isinstance(delimiter, str):
            raise _Wrong("the delimiter of `Fn::Join` must be plain text", path)
        values = self._argument(items, (*path, 1))
        if not isinstance(values, list):
            raise _Wrong("`Fn::Join` joins a list", path)
        return delimiter.join(_as_text(value, path, "an item") for value in values)

    def _split(self, node: Any, path: Path) -> list[str]:
        delimiter, text = self._list(node, path, (2,), "[delimiter, text]")
        if not isinstance(delimiter, str) or not delimiter:
            raise _Wrong("the delimiter of `Fn::Split` must be plain text", path)
        return self._text(text, (*path, 1), "what is split").split(delimiter)

    def _select(self, node: Any, path: Path) -> Any:
        index, items = self._list(node, path, (2,), "[index, list]")
        position = self._text(index, (*path, 0), "the index")
        values = self._argument(items, (*path, 1))
        if not isinstance(values, list):
            raise _Wrong("`Fn::Select` selects from a list", path)
        if not position.isdecimal() or int(position) >= len(values):
            raise _Wrong(f"`Fn::Select` has no item {position} of {len(values)}", path)
        if values[int(position)] is None:
            raise _Wrong(f"`Fn::Select` selects null at {position}", path)
        return values[int(position)]

    def _find_in_map(self, node: Any, path: Path) -> Any:
        parts = self._list(node, path, (3, 4), "[map, key, key] and a default")
        keys = [
            self._text(part, (*path, i), ("the map", "the first key", "the second key")[i])
            for i, part in enumerate(parts[:3])
        ]
        found: Any = self._template.section("Mappings")
        for key in keys:
            if not isinstance(found, Mapping) or key not in found:
                break
            found = found[key]
        else:
            if isinstance(found, Mapping) or not is_known(found):
                raise _Wrong(f"the map value `{'.'.join(keys)}` is no text or list", path)
            return found
        if len(parts) == 4:
            self._extension("the default of Fn::FindInMap", path)
            default = parts[3]
            if isinstance(default, Mapping) and set(default) == {"DefaultValue"}:
                return self._value(default["DefaultValue"], (*path, 3, "DefaultValue"))
            raise _Wrong("the fourth part of `Fn::FindInMap` is {DefaultValue: …}", path)
        raise _Wrong(f"no entry `{'.'.join(keys)}` in the mappings", path)

    def _base64(self, node: Any, path: Path) -> str:
        return base64.b64encode(self._text(node, path, "the text").encode()).decode()

    def _length(self, node: Any, path: Path) -> int:
        self._extension("Fn::Length", path)
        value = self._argument(node, path)
        if not isinstance(value, list):
            raise _Wrong("`Fn::Length` counts a list", path)
        return len(value)

    def _to_json_string(self, node: Any, path: Path) -> str:
        self._extension("Fn::ToJsonString", path)
        value = self._argument(node, path)
        if not isinstance(value, list | Mapping):
            raise _Wrong("`Fn::ToJsonString` takes an object or a list", path)
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def _extension(self, what: str, path: Path) -> None:
        """What AWS does only under a transform still runs here, with a word of warning."""
        if not self._extended:
            message = f"{what} works on AWS only with `Transform: AWS::LanguageExtensions`"
            self.fault(message, path, severity="warning")

    FUNCTIONS: ClassVar[Mapping[str, Callable[[Resolver, Any, Path], Any]]] = {
        "Ref": _ref,
        "Condition": _named_condition,
        "Fn::And": _and,
        "Fn::Base64": _base64,
        "Fn::Equals": _equals,
        "Fn::FindInMap": _find_in_map,
        "Fn::GetAtt": _get_att,
        "Fn::If": _if,
        "Fn::ImportValue": _import_value,
        "Fn::Join": _join,
        "Fn::Length": _length,
        "Fn::Not": _not,
        "Fn::Or": _or,
        "Fn::Select": _select,
        "Fn::Split": _split,
        "Fn::Sub": _sub,
        "Fn::ToJsonString": _to_json_string,
    }


_CONDITION_ONLY: Final = frozenset({"Fn::And", "Fn::Equals", "Fn::Not", "Fn::Or"})


def _function_name(node: Mapping[str, Any], path: Path) -> str | None:
    """The function that an object calls; None for plain data.

    ``Condition`` is a function among conditions only: elsewhere it is an element of a statement.
    """
    in_conditions = path[0] == "Conditions"
    names = [
        key
        for key in node
        if key == "Ref" or key.startswith("Fn::") or (key == "Condition" and in_conditions)
    ]
    if not names:
        return None
    name = names[0]
    if len(node) > 1:
        raise _Wrong(f"`{name}` must be the only member of its object", path)
    if name not in Resolver.FUNCTIONS:
        raise _Wrong(f"`{name}` is not done here", (*path, name))
    if name in _CONDITION_ONLY and not in_conditions:
        raise _Wrong(f"`{name}` is allowed in `Conditions` only", (*path, name))
    return name


def _as_text(value: Any, path: Path, what: str) -> str:
    """A scalar as CloudFormation writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    raise _Wrong(f"{what} must be text, not {_kind(value)}", path)


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    return "null" if value is None else "nothing"


def _comparable(value: Any) -> Any:
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _comparable(item) for key, item in value.items()}
    return _as_text(value, (), "") if isinstance(value, bool | int | float) else value
