"""Parameters: what the template declares, what the run gives, and what that resolves to.

Types and constraints as
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html
says. ``parse_overrides`` reads the words after ``--parameter-overrides``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from feedgate.errors import DefinitionError, Finding, Source, UsageError
from feedgate.stack.parse import parse_json
from feedgate.stack.template import Template

__all__ = ["Parameter", "parse_overrides", "parse_parameter_file", "resolve_parameters"]

VALUE_CHARS_MAX: Final = 4_096  # CloudFormation's quota for a parameter value

_ATTRIBUTES: Final = frozenset(
    {
        "AllowedPattern",
        "AllowedValues",
        "ConstraintDescription",
        "Default",
        "Description",
        "MaxLength",
        "MaxValue",
        "MinLength",
        "MinValue",
        "NoEcho",
        "Type",
    }
)
_NUMBER: Final = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_AWS_TYPE: Final = re.compile(r"AWS::[A-Za-z0-9]+::[A-Za-z0-9:]+")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter with its value. ``value`` is text, or a list for the list types.

    ``unavailable`` says why a Ref of it cannot be answered here: its value lives in an account.
    """

    name: str
    text: str
    value: str | list[str]
    unavailable: str | None = None


def parse_overrides(words: Sequence[str], read: Callable[[str], str]) -> dict[str, str]:
    """Return the values of ``K=V`` words and of ``file://PATH`` words, the later ones winning.

    ``read`` returns a path's text. Raises ``UsageError``.
    """
    values: dict[str, str] = {}
    for word in words:
        if word.startswith("file://"):
            path = word.removeprefix("file://")
            values.update(parse_parameter_file(read(path), file=path))
        else:
            values.update([_pair(word)])
    return values


def parse_parameter_file(text: str, *, file: str) -> dict[str, str]:
    """Return the values of a parameter file in one of the AWS CLI's forms.

    ``[{"ParameterKey": k, "ParameterValue": v}]``, ``{"Parameters": {k: v}}`` or ``["k=v"]``.
    Raises ``UsageError``.
    """
    wrong = UsageError(
        f"`{file}` does not hold parameters",
        hint='the form is [{"ParameterKey": "Name", "ParameterValue": "value"}]',
    )
    try:
        data, _ = parse_json(text, file)
    except DefinitionError as error:
        raise UsageError(f"`{file}` is not JSON: {error.message}") from None
    pairs: list[tuple[Any, Any]] = []
    if isinstance(data, Mapping) and isinstance(data.get("Parameters"), Mapping):
        pairs = list(data["Parameters"].items())
    elif isinstance(data, list):
        for entry in data:
            if isinstance(entry, Mapping):
                pairs.append((entry.get("ParameterKey"), entry.get("ParameterValue")))
            else:
                pairs.append(_pair(entry) if isinstance(entry, str) else (None, None))
    else:
        raise wrong
    if not all(isinstance(key, str) and isinstance(value, str) for key, value in pairs):
        raise wrong
    return dict(pairs)


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise UsageError(
            f"not a parameter: `{word}`", hint="write Name=value or file://params/prod.json"
        )
    return name, value


def resolve_parameters(
    template: Template, overrides: Mapping[str, str], faults: list[Finding]
) -> dict[str, Parameter]:
    """Return every declared parameter with its value; append what is wrong to ``faults``."""
    declared = template.section("Parameters")
    faults.extend(
        Finding(
            "error",
            f"parameter `{name}` is given but the template does not declare it",
            Source(template.file),
            hint=f"declared: {', '.join(declared) or 'none'}",
        )
        for name in overrides
        if name not in declared
    )
    found: dict[str, Parameter] = {}
    for name, declaration in declared.items():
        source = template.source(("Parameters", name))
        if not isinstance(declaration, Mapping):
            faults.append(Finding("error", f"parameter `{name}` must be an object", source))
            continue
        messages = list(_declaration_faults(name, declaration))
        if not messages:
            parameter = _value(name, declaration, overrides, messages)
            if parameter is not None:
                found[name] = parameter
        faults.extend(Finding("error", message, source) for message in messages)
    return found


def _declaration_faults(name: str, declaration: Mapping[str, Any]) -> Iterator[str]:
    if not name.isalnum() or not name.isascii():
        yield f"parameter name `{name}` must be letters and digits"
    for attribute in declaration:
        if attribute not in _ATTRIBUTES:
            yield f"parameter `{name}` has an unknown attribute `{attribute}`"
    if not isinstance(declaration.get("Type"), str):
        yield f"parameter `{name}` has no `Type`"
    if isinstance(declaration.get("Default"), list | Mapping):
        yield f"parameter `{name}`: `Default` must be text or a number, no function"


def _value(
    name: str, declaration: Mapping[str, Any], overrides: Mapping[str, str], messages: list[str]
) -> Parameter | None:
    given = overrides.get(name, _text(declaration.get("Default")))
    if given is None:
        messages.append(f"parameter `{name}` has no value and no default")
        return None
    kind = declaration["Type"]
    inner = kind.removeprefix("List<").removesuffix(">") if kind.startswith("List<") else None
    if kind.startswith("AWS::SSM::Parameter::"):
        reason = f"its value is looked up in an AWS account (`{kind}`)"
        return Parameter(name, given, given, unavailable=reason)
    if kind not in {"String", "Number", "CommaDelimitedList", "List<Number>"} and not (
        _AWS_TYPE.fullmatch(inner or kind)
    ):
        messages.append(f"parameter `{name}` has the unknown type `{kind}`")
        return None
    is_list = kind == "CommaDelimitedList" or inner is not None
    values = [part.strip() for part in given.split(",")] if is_list else [given]
    messages.extend(_constraint_faults(name, declaration, given, values, inner or kind))
    return Parameter(name, given, values if is_list else given)


def _constraint_faults(
    name: str, declaration: Mapping[str, Any], given: str, values: list[str], kind: str
) -> Iterator[str]:
    shown = "the value" if _text(declaration.get("NoEcho")) == "true" else f"`{given}`"
    said = _text(declaration.get("ConstraintDescription"))
    because = f": {said}" if said else ""
    head = f"parameter `{name}`: {shown}"
    if len(given) > VALUE_CHARS_MAX:
        yield f"parameter `{name}` is longer than {VALUE_CHARS_MAX} characters"
        return
    allowed = declaration.get("AllowedValues")
    if isinstance(allowed, list):
        texts = [_text(one) for one in allowed]
        if not all(value in texts for value in values):
            yield f"{head} is none of {', '.join(str(one) for one in texts)}{because}"
    pattern = declaration.get("AllowedPattern")
    if isinstance(pattern, str):
        try:
            if not all(re.fullmatch(pattern, value) for value in values):
                yield f"{head} does not match `{pattern}`{because}"
        except re.error as error:
            yield f"parameter `{name}`: `AllowedPattern` is not understood: {error}"
    if kind == "Number" and not all(_NUMBER.fullmatch(value) for value in values):
        yield f"{head} is not a number"
        return
    for fault in _bound_faults(declaration, values, kind):
        yield f"{head} {fault}{because}"


def _bound_faults(declaration: Mapping[str, Any], values: list[str], kind: str) -> Iterator[str]:
    for bound, measure, below in (
        ("MinLength", len, True),
        ("MaxLength", len, False),
        ("MinValue", float, True),
        ("MaxValue", float, False),
    ):
        if bound in declaration and (kind == "Number") == bound.endswith("Value"):
            limit = _text(declaration[bound]) or ""
            if not _NUMBER.fullmatch(limit):
                yield f"has a bound `{bound}` that is no number"
            elif any(
                measure(value) < float(limit) if below else measure(value) > float(limit)
                for value in values
            ):
                yield f"breaks `{bound}` {limit}"


def _text(value: Any) -> str | None:
    """A scalar as CloudFormation writes it: booleans in lower case."""
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)
