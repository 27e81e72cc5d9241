"""Condition operators at their edges: absent, empty and repeated keys, odd values."""

from __future__ import annotations

from typing import Any

import pytest

from feedgate.iam.condition import OPERATORS, parse_conditions


def holds(operator: str, wanted: Any, context: dict[str, Any]) -> bool:
    """Whether one operator on the key `aws:k` holds."""
    problems: list[str] = []
    (test,) = parse_conditions(
        {operator: {"aws:K": wanted}}, variables=True, problems=problems, where="Statement[0]"
    )
    assert problems == []
    return test.holds(context, lambda _name: None)


ABSENT = [
    ("StringEquals", False),
    ("StringNotEquals", True),
    ("StringEqualsIfExists", True),
    ("StringNotEqualsIfExists", True),
    ("ForAllValues:StringEquals", True),
    ("ForAllValues:StringNotEquals", True),
    ("ForAllValues:StringEqualsIfExists", True),
    ("ForAnyValue:StringEquals", False),
    ("ForAnyValue:StringNotEquals", False),
    ("ForAnyValue:StringEqualsIfExists", False),
]


@pytest.mark.parametrize(("operator", "expected"), ABSENT)
def test_absent_key(operator: str, expected: bool) -> None:
    """What a key that the request lacks means, operator by operator."""
    assert holds(operator, "x", {}) is expected


@pytest.mark.parametrize(
    ("operator", "values", "expected"),
    [
        ("ForAllValues:StringEquals", [], True),
        ("ForAnyValue:StringEquals", [], False),
        ("ForAllValues:StringEquals", ["x", "x"], True),
        ("ForAllValues:StringEquals", ["x", "y"], False),
        ("ForAllValues:StringNotEquals", ["y", "z"], True),
        ("ForAllValues:StringNotEquals", ["x", "z"], False),
        ("ForAnyValue:StringEquals", ["y", "x"], True),
        ("ForAnyValue:StringNotEquals", ["x", "x"], False),
        ("ForAnyValue:StringNotEquals", ["x", "y"], True),
        ("StringEquals", ["x", "x"], False),
        ("StringNotEquals", ["y", "z"], False),
        ("StringEquals", ["x"], True),
        ("StringNotEquals", ["y"], True),
        ("StringEquals", [], False),
    ],
)
def test_several_values(operator: str, values: list[str], expected: bool) -> None:
    """What a list of values means; a plain operator matches no list of several."""
    assert holds(operator, "x", {"aws:k": tuple(values)}) is expected


@pytest.mark.parametrize(
    ("operator", "wanted", "value", "expected"),
    [
        ("NumericEquals", "10.0", 10, True),
        ("NumericNotEquals", "10", "ten", True),
        ("NumericLessThan", "10", "9", True),
        ("NumericGreaterThan", "10", "9", False),
        ("NumericGreaterThanEquals", "10", "10", True),
        ("NumericLessThan", 10, "", False),
        ("NumericEquals", 0.5, "0.50", True),
        ("DateEquals", "2026-11-24T10:00:00Z", "2026-11-24T12:00:00+02:00", True),
        ("DateEquals", "2026-11-24T10:00:00Z", 1795514400, True),
        ("DateEquals", "2026-11-24", "2026-11-24T00:00Z", True),
        ("DateGreaterThan", "2026-11", "2026-11-01T00:00:00.5Z", True),
        ("DateLessThan", "2026-11-24T10:00:00Z", "soon", False),
        ("DateNotEquals", "2026-11-24T10:00:00Z", "soon", True),
        ("Bool", "TRUE", True, True),
        ("Bool", ["true", "false"], "maybe", False),
        ("IpAddress", "10.1.2.3/8", "10.200.0.1", True),
        ("IpAddress", "2001:db8::/32", "2001:0DB8:0000::7", True),
        ("IpAddress", "10.0.0.1", "10.0.0.1 ", False),
        ("IpAddress", "0.0.0.0/0", "::1", False),
        ("NotIpAddress", "0.0.0.0/0", "::1", True),
        ("Null", "true", "", False),
        ("Null", "false", "x", True),
        ("StringEquals", "", "", True),
        ("StringLike", "", "x", False),
        ("StringEqualsIgnoreCase", "ÄB", "äb", True),
        ("StringNotEqualsIgnoreCase", "ab", "AB", False),
        ("ArnNotEquals", "arn:aws:iam::1:role/*", "arn:aws:iam::1:user/x", True),
        ("ArnNotLike", "arn:aws:iam::1:role/*", "arn:aws:iam::1:role/x", False),
        ("ArnLike", "arn:aws:iam::1:role/*", "no arn", False),
    ],
)
def test_single_value(operator: str, wanted: Any, value: Any, expected: bool) -> None:
    """What one value comes to; what cannot be read equals nothing."""
    assert holds(operator, wanted, {"aws:k": value}) is expected


def test_every_operator_is_named_as_aws_names_it() -> None:
    """The table holds AWS's operators and no others, BinaryEquals excepted."""
    strings = {"StringEquals", "StringEqualsIgnoreCase", "StringLike"}
    strings |= {"StringNotEquals", "StringNotEqualsIgnoreCase", "StringNotLike"}
    ordered = {
        family + order
        for family in ("Numeric", "Date")
        for order in ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan")
    } | {"NumericGreaterThanEquals", "DateGreaterThanEquals"}
    others = {"Bool", "Null", "IpAddress", "NotIpAddress"}
    arns = {"ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"}
    assert set(OPERATORS) == strings | ordered | others | arns
