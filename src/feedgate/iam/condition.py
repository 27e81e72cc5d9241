"""The Condition element: operators, keys, and what each makes of the request's context.

All operators and all keys must hold; the values of one key are alternatives, and for a negated
operator none of them may hold. What an absent, empty or repeated key means is one table in
``Test.holds``.

Source: IAM User Guide, reference_policies_elements_condition_operators,
reference_policies_condition-logic-multiple-context-keys-or-values and
reference_policies_condition-single-vs-multi-valued-context-keys.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from feedgate.iam.pattern import ArnPattern, Lookup, PatternError, TextPattern

__all__ = ["OPERATORS", "Context", "ContextValue", "Test", "as_text", "parse_conditions"]

ContextValue: TypeAlias = str | bool | int | Sequence[str]
Context: TypeAlias = Mapping[str, ContextValue]  # keys in lower case
Compare: TypeAlias = Callable[[str, Lookup], bool]  # one value of the request
Quantifier: TypeAlias = Literal["", "ForAllValues", "ForAnyValue"]


@dataclass(frozen=True, slots=True)
class _Operator:
    """``make`` reads one value of the policy; raises ``PatternError``."""

    make: Callable[[str, bool], tuple[Compare, frozenset[str]]]
    negated: bool = False


def as_text(value: str | bool | int) -> str:
    """A context value as a policy writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


# -- one value of each family -------------------------------------------------------------------

_NO_VARIABLES: Final[frozenset[str]] = frozenset()


def _string(text: str, variables: bool) -> tuple[Compare, frozenset[str]]:
    pattern = TextPattern(text, wildcards=False, variables=variables)
    return pattern.matches, pattern.variables


def _string_like(text: str, variables: bool) -> tuple[Compare, frozenset[str]]:
    pattern = TextPattern(text, wildcards=True, variables=variables)
    return pattern.matches, pattern.variables


def _string_ignore_case(text: str, variables: bool) -> tuple[Compare, frozenset[str]]:
    pattern = TextPattern(text.lower(), wildcards=False, variables=variables)

    def compare(value: str, lookup: Lookup) -> bool:
        def lower(name: str) -> str | None:
            found = lookup(name)
            return None if found is None else found.lower()

        return pattern.matches(value.lower(), lower)

    return compare, pattern.variables


def _arn(text: str, variables: bool) -> tuple[Compare, frozenset[str]]:
    pattern = ArnPattern(text, variables=variables)
    return pattern.matches, pattern.variables


def _bool(text: str, _variables: bool) -> tuple[Compare, frozenset[str]]:
    wanted = text.lower()
    if wanted not in ("true", "false"):
        raise PatternError(f"`{text}` is not true or false")
    return (lambda value, _lookup: value.lower() == wanted), _NO_VARIABLES


def _ip_address(text: str, _variables: bool) -> tuple[Compare, frozenset[str]]:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise PatternError(f"`{text}` is not an IP address or a CIDR range") from error

    def compare(value: str, _lookup: Lookup) -> bool:
        try:
            return ipaddress.ip_address(value) in network  # another family is never inside
        except ValueError:
            return False

    return compare, _NO_VARIABLES


def _ordered(
    read: Callable[[str], float | None], what: str, holds: Callable[[float, float], bool]
) -> Callable[[str, bool], tuple[Compare, frozenset[str]]]:
    def make(text: str, _variables: bool) -> tuple[Compare, frozenset[str]]:
        bound = read(text)
        if bound is None:
            raise PatternError(f"`{text}` is not {what}")

        def compare(value: str, _lookup: Lookup) -> bool:
            number = read(value)
            return number is not None and holds(number, bound)

        return compare, _NO_VARIABLES

    return make


_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)")
_DATE: Final = re.compile(
    r"\d{4}-\d\d(?:-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d))?)?"
)


def _number(text: str) -> float | None:
    if len(text) > 64 or not _NUMBER.fullmatch(text):
        return None
    return float(text)


def _instant(text: str) -> float | None:
    """ISO 8601 in the W3C profile, or Unix seconds; a bare year would be ambiguous."""
    if _NUMBER.fullmatch(text) and len(text) <= 32:
        return float(text) if len(text) > 4 else None
    if len(text) > 64 or not _DATE.fullmatch(text):
        return None
    whole = f"{text}-01" if len(text) == 7 else text
    try:
        parsed = datetime.fromisoformat(whole)
    except ValueError:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


# -- the table of operators ---------------------------------------------------------------------

_ORDERS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "Equals": lambda value, bound: value == bound,
    "LessThan": lambda value, bound: value < bound,
    "LessThanEquals": lambda value, bound: value <= bound,
    "GreaterThan": lambda value, bound: value > bound,
    "GreaterThanEquals": lambda value, bound: value >= bound,
}


def _family(prefix: str, read: Callable[[str], float | None], what: str) -> dict[str, _Operator]:
    rows = {
        prefix + order: _Operator(_ordered(read, what, holds)) for order, holds in _ORDERS.items()
    }
    rows[f"{prefix}NotEquals"] = _Operator(_ordered(read, what, _ORDERS["Equals"]), negated=True)
    return rows


OPERATORS: Final[Mapping[str, _Operator]] = {
    "StringEquals": _Operator(_string),
    "StringNotEquals": _Operator(_string, negated=True),
    "StringEqualsIgnoreCase": _Operator(_string_ignore_case),
    "StringNotEqualsIgnoreCase": _Operator(_string_ignore_case, negated=True),
    "StringLike": _Operator(_string_like),
    "StringNotLike": _Operator(_string_like, negated=True),
    "ArnEquals": _Operator(_arn),  # the same as ArnLike
    "ArnLike": _Operator(_arn),
    "ArnNotEquals": _Operator(_arn, negated=True),
    "ArnNotLike": _Operator(_arn, negated=True),
    "Bool": _Operator(_bool),
    "IpAddress": _Operator(_ip_address),
    "NotIpAddress": _Operator(_ip_address, negated=True),
    "Null": _Operator(_bool),
    **_family("Numeric", _number, "a number"),
    **_family("Date", _instant, "an ISO 8601 date with its zone, or Unix seconds"),
}

_NOT_DONE: Final = ("BinaryEquals",)


# -- one operator applied to one key ------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Test:
    """``operator`` is as written, prefix and suffix too; ``key`` is in lower case.

    ``values`` are the policy's, for messages; ``variables`` the names that they need.
    """

    __test__ = False  # not pytest's

    operator: str
    key: str
    values: tuple[str, ...]
    compares: tuple[Compare, ...]
    negated: bool
    if_exists: bool
    quantifier: Quantifier
    is_null: bool
    variables: frozenset[str]

    def holds(self, context: Context, lookup: Lookup) -> bool:
        """Whether the request's context meets this condition."""
        value = context.get(self.key)
        if self.is_null:
            absent = value is None or (not isinstance(value, str | bool | int) and not value)
            return self._any("true" if absent else "false", lookup)
        if value is None:
            return self._absent()
        if isinstance(value, str):
            return self._any(value, lookup) is not self.negated
        if isinstance(value, bool | int):
            return self._any(as_text(value), lookup) is not self.negated
        return self._many(value, lookup)

    def _absent(self) -> bool:
        if self.quantifier == "ForAnyValue":
            return False
        return self.negated or self.if_exists or self.quantifier == "ForAllValues"

    def _many(self, values: Sequence[str], lookup: Lookup) -> bool:
        if self.quantifier == "ForAllValues":
            return all(self._any(value, lookup) is not self.negated for value in values)
        if self.quantifier == "ForAnyValue":
            return any(self._any(value, lookup) is not self.negated for value in values)
        if not values:
            return self._absent()
        # a plain operator over several values matches nothing (cloud-copilot/iam-simulate)
        return len(values) == 1 and self._any(values[0], lookup) is not self.negated

    def _any(self, value: str, lookup: Lookup) -> bool:
        for compare in self.compares:  # noqa: SIM110 - half the time of any() here
            if compare(value, lookup):
                return True
        return False


def parse_conditions(
    block: object, *, variables: bool, problems: list[str], where: str
) -> tuple[Test, ...]:
    """Read a Condition element, adding each fault to ``problems``."""
    if not isinstance(block, Mapping):
        problems.append(f"{where}: Condition must be an object")
        return ()
    tests: list[Test] = []
    for operator, keys in block.items():
        head = f"{where}: Condition.{operator}"
        if not isinstance(keys, Mapping) or not keys:
            problems.append(f"{head}: must be an object that names keys")
            continue
        row = _operator(operator, head, problems)
        if row is not None:
            tests.extend(
                _tests(operator, row, keys, variables=variables, problems=problems, head=head)
            )
    return tuple(tests)


def _operator(text: str, head: str, problems: list[str]) -> _Operator | None:
    quantifier, colon, base = text.rpartition(":")
    name = base.removesuffix("IfExists")
    if name in _NOT_DONE:
        problems.append(f"{head}: not done here")
        return None
    row = OPERATORS.get(name)
    if row is None or (colon and quantifier not in ("ForAllValues", "ForAnyValue")):
        problems.append(f"{head}: unknown condition operator")
        return None
    if name == "Null" and name != text:
        problems.append(f"{head}: Null takes neither a prefix nor IfExists")
        return None
    return row


def _tests(
    operator: str,
    row: _Operator,
    keys: Mapping[str, object],
    *,
    variables: bool,
    problems: list[str],
    head: str,
) -> list[Test]:
    quantifier, _, base = operator.rpartition(":")
    tests: list[Test] = []
    seen: set[str] = set()
    for key, raw in keys.items():
        if key.lower() in seen:
            problems.append(f"{head}: the key `{key}` is given twice")
        seen.add(key.lower())
        if not re.fullmatch(r"[A-Za-z0-9-]+:\S(?:.*\S)?", key):
            problems.append(f"{head}: `{key}` is not a condition key")
        values = _values(raw, f"{head}.{key}", problems)
        compares: list[Compare] = []
        names: set[str] = set()
        for value in values:
            try:
                compare, needed = row.make(value, variables)
            except PatternError as error:
                problems.append(f"{head}.{key}: {error}")
                continue
            compares.append(compare)
            names |= needed
        tests.append(
            Test(
                operator=operator,
                key=key.lower(),
                values=values,
                compares=tuple(compares),
                negated=row.negated,
                if_exists=base.endswith("IfExists"),
                quantifier=_QUANTIFIERS[quantifier],
                is_null=base == "Null",
                variables=frozenset(names),
            )
        )
    return tests


_QUANTIFIERS: Final[Mapping[str, Quantifier]] = {
    "": "",
    "ForAllValues": "ForAllValues",
    "ForAnyValue": "ForAnyValue",
}


def _values(raw: object, head: str, problems: list[str]) -> tuple[str, ...]:
    """Condition values are strings; numbers and booleans may be written without quotes."""
    values = raw if isinstance(raw, list | tuple) else [raw]
    if not values:
        problems.append(f"{head}: the list of values is empty")
    texts: list[str] = []
    for value in values:
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, bool | int):
            texts.append(as_text(value))
        elif isinstance(value, float) and math.isfinite(value):
            texts.append(repr(value))
        else:
            problems.append(f"{head}: a value must be a string, a number or a boolean")
    return tuple(texts)
