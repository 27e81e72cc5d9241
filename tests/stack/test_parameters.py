"""Parameters: AWS's file forms, types, constraints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from feedgate.errors import Finding, UsageError
from feedgate.stack.parameters import parse_overrides, parse_parameter_file, resolve_parameters
from feedgate.stack.template import parse_template


def resolve(
    declaration: Mapping[str, Any], overrides: Mapping[str, str]
) -> tuple[Any, list[Finding]]:
    """The value of a parameter `P` of this declaration, and the faults."""
    body = {"Parameters": {"P": declaration}, "Resources": {"R": {"Type": "X"}}}
    template = parse_template(json.dumps(body), file="template.json")
    faults: list[Finding] = []
    found = resolve_parameters(template, overrides, faults)
    return (found["P"].value if "P" in found else None), faults


@pytest.mark.parametrize(
    "text",
    [
        '[{"ParameterKey": "A", "ParameterValue": "1"},'
        ' {"ParameterKey": "B", "ParameterValue": ""}]',
        '{"Parameters": {"A": "1", "B": ""}}',
        '["A=1", "B="]',
    ],
    ids=["create-stack", "CodePipeline", "deploy"],
)
def test_file_forms(text: str) -> None:
    """The AWS CLI's three forms of a parameter file say the same."""
    assert parse_parameter_file(text, file="p.json") == {"A": "1", "B": ""}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[1]", "does not hold parameters"),
        ('{"A": "1"}', "does not hold parameters"),
        ('[{"ParameterKey": "A", "ParameterValue": 1}]', "does not hold parameters"),
        ('[{"ParameterKey": "A", "UsePreviousValue": true}]', "does not hold parameters"),
        ("{,}", "is not JSON: p.json:1:2"),
        ('["A"]', "not a parameter: `A`"),
    ],
)
def test_file_refusals(text: str, fault: str) -> None:
    """Any other form is refused as misuse of the command."""
    with pytest.raises(UsageError, match=fault):
        parse_parameter_file(text, file="p.json")


def test_words_and_files_the_later_wins() -> None:
    """`K=V` and `file://` mix; a value may hold `=`."""
    files = {"p.json": '{"Parameters": {"A": "file", "B": "file"}}'}
    words = ["A=word", "file://p.json", "B=x=y"]
    assert parse_overrides(words, files.__getitem__) == {"A": "file", "B": "x=y"}


@pytest.mark.parametrize(
    ("declaration", "given", "value"),
    [
        pytest.param({"Type": "String", "Default": "d"}, None, "d", id="default"),
        pytest.param({"Type": "String", "Default": True}, None, "true", id="default truth"),
        pytest.param({"Type": "String", "Default": ""}, None, "", id="empty default"),
        pytest.param({"Type": "Number"}, "1.5", "1.5", id="number"),
        pytest.param({"Type": "List<Number>"}, "1, 2", ["1", "2"], id="numbers"),
        pytest.param({"Type": "CommaDelimitedList"}, "a, b", ["a", "b"], id="list"),
        pytest.param({"Type": "AWS::EC2::VPC::Id"}, "vpc-1", "vpc-1", id="AWS type"),
        pytest.param({"Type": "List<AWS::EC2::Subnet::Id>"}, "a,b", ["a", "b"], id="AWS list"),
        pytest.param({"Type": "String", "AllowedPattern": "[a-z]*"}, "abc", "abc", id="pattern"),
        pytest.param({"Type": "String", "AllowedValues": [1, "x"]}, "1", "1", id="allowed"),
        pytest.param({"Type": "Number", "MinValue": 1, "MaxValue": "3"}, "3", "3", id="range"),
    ],
)
def test_values(declaration: Mapping[str, Any], given: str | None, value: Any) -> None:
    """A value that the declaration allows is taken, lists as lists."""
    assert resolve(declaration, {} if given is None else {"P": given}) == (value, [])


@pytest.mark.parametrize(
    ("declaration", "given", "fault"),
    [
        pytest.param({"Type": "String"}, {}, "has no value and no default", id="missing"),
        pytest.param({}, {"P": "x"}, "parameter `P` has no `Type`", id="no type"),
        pytest.param({"Type": "Text"}, {"P": "x"}, "has the unknown type `Text`", id="type"),
        pytest.param(
            {"Type": "String", "Max": 1}, {"P": "x"}, "unknown attribute `Max`", id="word"
        ),
        pytest.param({"Type": "String", "Default": {"Ref": "X"}}, {}, "no function", id="function"),
        pytest.param({"Type": "Number"}, {"P": "1x"}, "`1x` is not a number", id="number"),
        pytest.param(
            {"Type": "String", "AllowedValues": ["a", "b"]},
            {"P": "c"},
            "`c` is none of a, b",
            id="in",
        ),
        pytest.param(
            {"Type": "String", "AllowedPattern": "[a-z]+", "ConstraintDescription": "lower case"},
            {"P": "aB"},
            "`aB` does not match `[a-z]+`: lower case",
            id="pattern matches the whole",
        ),
        pytest.param(
            {"Type": "String", "AllowedPattern": "["},
            {"P": "a"},
            "is not understood",
            id="bad pattern",
        ),
        pytest.param(
            {"Type": "String", "MaxLength": 2}, {"P": "abc"}, "breaks `MaxLength` 2", id="length"
        ),
        pytest.param(
            {"Type": "Number", "MinValue": 5}, {"P": "4"}, "breaks `MinValue` 5", id="min"
        ),
        pytest.param(
            {"Type": "String", "NoEcho": True, "MinLength": 9},
            {"P": "secret"},
            "the value breaks",
            id="NoEcho is not shown",
        ),
        pytest.param(
            {"Type": "String", "Default": "x"}, {"Q": "1"}, "`Q` is given but", id="unknown"
        ),
    ],
)
def test_refusals(declaration: Mapping[str, Any], given: Mapping[str, str], fault: str) -> None:
    """What the declaration forbids is a fault at the parameter."""
    _, faults = resolve(declaration, given)
    (finding,) = faults
    assert fault in finding.message
    assert "secret" not in finding.message
