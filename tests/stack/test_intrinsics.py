"""Each intrinsic function by AWS's page on it, and each refusal by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from feedgate.errors import Finding
from feedgate.stack.intrinsics import NO_VALUE, UNKNOWN, Identity, Resolver
from feedgate.stack.parameters import resolve_parameters
from feedgate.stack.template import parse_template

TEMPLATE: Mapping[str, Any] = {
    "Transform": "AWS::LanguageExtensions",
    "Parameters": {
        "Name": {"Type": "String", "Default": "acme"},
        "Count": {"Type": "Number", "Default": 3},
        "Zones": {"Type": "CommaDelimitedList", "Default": "a, b,,c"},
        "Image": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/x"},
    },
    "Mappings": {"M": {"top": {"text": "T", "list": ["x", "y"]}}},
    "Conditions": {
        "Yes": {"Fn::Equals": [{"Ref": "Name"}, "acme"]},
        "No": {"Fn::Not": [{"Condition": "Yes"}]},
        "Both": {"Fn::And": [{"Condition": "Yes"}, {"Condition": "No"}]},
        "Either": {"Fn::Or": [{"Condition": "Yes"}, {"Condition": "No"}]},
        "Three": {"Fn::Equals": [3, {"Ref": "Count"}]},
        "Mapped": {"Fn::Equals": [{"Fn::FindInMap": ["M", "top", "text"]}, "T"]},
    },
    "Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}},
}
IDENTITY = Identity("AWS::S3::Bucket", "my-bucket", {"Arn": "arn:aws:s3:::my-bucket"})
NO_REF = Identity("AWS::S3::BucketPolicy", None)
PATH = ("Resources", "R", "Properties", "P")


def resolver(template: Mapping[str, Any] = TEMPLATE) -> tuple[Resolver, list[Finding]]:
    """A resolver of the template above, with one bucket, and the list of its findings."""
    findings: list[Finding] = []
    parsed = parse_template(json.dumps(template), file="template.json")
    made = Resolver(
        parsed,
        parameters=resolve_parameters(parsed, {}, findings),
        pseudo={"AWS::Region": "eu-west-1", "AWS::NoValue": NO_VALUE, "AWS::NotificationARNs": []},
        imports={"net-Vpc": "vpc-1"},
        findings=findings,
    )
    made.identify = {"Bucket": IDENTITY, "Policy": NO_REF}.get
    return made, findings


@pytest.mark.parametrize(
    ("node", "value"),
    [
        pytest.param({"Ref": "Name"}, "acme", id="Ref parameter"),
        pytest.param({"Ref": "Count"}, "3", id="Ref number"),
        pytest.param({"Ref": "Zones"}, ["a", "b", "", "c"], id="Ref list"),
        pytest.param({"Ref": "Bucket"}, "my-bucket", id="Ref resource"),
        pytest.param({"Ref": "AWS::Region"}, "eu-west-1", id="Ref pseudo"),
        pytest.param({"a": {"Ref": "AWS::NoValue"}, "b": 1}, {"b": 1}, id="NoValue member"),
        pytest.param([{"Ref": "AWS::NoValue"}, 1], [1], id="NoValue item"),
        pytest.param({"Fn::GetAtt": ["Bucket", "Arn"]}, "arn:aws:s3:::my-bucket", id="GetAtt list"),
        pytest.param({"Fn::GetAtt": "Bucket.Arn"}, "arn:aws:s3:::my-bucket", id="GetAtt text"),
        pytest.param({"Fn::Sub": "${Name}/${Bucket}"}, "acme/my-bucket", id="Sub Ref"),
        pytest.param({"Fn::Sub": "${Bucket.Arn}/*"}, "arn:aws:s3:::my-bucket/*", id="Sub GetAtt"),
        pytest.param({"Fn::Sub": "${AWS::Region}"}, "eu-west-1", id="Sub pseudo"),
        pytest.param(
            {"Fn::Sub": "${!transfer:UserName}/${!A}"},
            "${transfer:UserName}/${A}",
            id="Sub literal",
        ),
        pytest.param(
            {"Fn::Sub": ["${A} ${Name}", {"A": {"Ref": "Count"}, "Name": "mine"}]},
            "3 mine",
            id="Sub map wins",
        ),
        pytest.param(
            {"Fn::Sub": "no $ {variables} $${Name}"}, "no $ {variables} $acme", id="Sub $"
        ),
        pytest.param({"Fn::Join": ["-", ["a", 1, True]]}, "a-1-true", id="Join scalars"),
        pytest.param({"Fn::Join": ["", {"Ref": "Zones"}]}, "abc", id="Join list parameter"),
        pytest.param({"Fn::Join": [",", []]}, "", id="Join nothing"),
        pytest.param({"Fn::Split": ["|", "a||b"]}, ["a", "", "b"], id="Split keeps empty"),
        pytest.param({"Fn::Select": [1, ["a", "b"]]}, "b", id="Select"),
        pytest.param({"Fn::Select": ["0", {"Fn::Split": ["-", "x-y"]}]}, "x", id="Select Split"),
        pytest.param({"Fn::FindInMap": ["M", "top", "text"]}, "T", id="FindInMap"),
        pytest.param({"Fn::FindInMap": ["M", "top", "list"]}, ["x", "y"], id="FindInMap list"),
        pytest.param(
            {"Fn::FindInMap": ["M", "top", "gone", {"DefaultValue": {"Ref": "Name"}}]},
            "acme",
            id="FindInMap default",
        ),
        pytest.param({"Fn::If": ["Yes", 1, {"Ref": "Nobody"}]}, 1, id="If leaves the other branch"),
        pytest.param({"Fn::If": ["No", 1, 2]}, 2, id="If else"),
        pytest.param({"Fn::If": ["Both", 1, 2]}, 2, id="And"),
        pytest.param({"Fn::If": ["Either", 1, 2]}, 1, id="Or"),
        pytest.param({"Fn::If": ["Three", 1, 2]}, 1, id="Equals compares text"),
        pytest.param({"Fn::If": ["Mapped", 1, 2]}, 1, id="condition with FindInMap"),
        pytest.param([{"Fn::If": ["No", 1, {"Ref": "AWS::NoValue"}]}], [], id="If NoValue"),
        pytest.param({"Fn::Base64": "é"}, "w6k=", id="Base64"),
        pytest.param({"Fn::ImportValue": {"Fn::Sub": "net-Vpc"}}, "vpc-1", id="ImportValue"),
        pytest.param({"Fn::Length": {"Ref": "Zones"}}, 4, id="Length"),
        pytest.param(
            {"Fn::ToJsonString": {"a": [1, {"Ref": "Name"}], "b": {"Ref": "AWS::NoValue"}}},
            '{"a":[1,"acme"]}',
            id="ToJsonString",
        ),
        pytest.param(
            {"Effect": "Allow", "Condition": {"Bool": {"x": "true"}}},
            {"Effect": "Allow", "Condition": {"Bool": {"x": "true"}}},
            id="a statement's Condition is data",
        ),
        pytest.param({"Condition": "Yes"}, {"Condition": "Yes"}, id="Condition elsewhere is data"),
        pytest.param(None, None, id="null"),
    ],
)
def test_functions(node: Any, value: Any) -> None:
    """A function gives what AWS's page on it says."""
    made, findings = resolver()
    assert made.value(node, PATH) == value
    assert findings == []


@pytest.mark.parametrize(
    ("node", "fault"),
    [
        pytest.param({"Ref": "Nobody"}, "`Nobody` is neither a parameter nor a resource", id="Ref"),
        pytest.param({"Ref": ["A"]}, "`Ref` takes a name", id="Ref list"),
        pytest.param(
            {"Ref": "AWS::Nothing"}, "no such pseudo parameter: `AWS::Nothing`", id="pseudo"
        ),
        pytest.param(
            {"Ref": "Policy"}, "`AWS::S3::BucketPolicy` has no documented Ref", id="no Ref"
        ),
        pytest.param({"Ref": "Image"}, "looked up in an AWS account", id="SSM parameter"),
        pytest.param({"Fn::GetAtt": ["Bucket", "Colour"]}, "no attribute `Colour`", id="GetAtt"),
        pytest.param(
            {"Fn::GetAtt": ["Bucket"]}, "takes a resource and its attribute", id="GetAtt 1"
        ),
        pytest.param({"Fn::GetAtt": "Gone.Arn"}, "`Gone` is neither", id="GetAtt unknown"),
        pytest.param({"Fn::Sub": "${Gone}"}, "variable `Gone` is neither", id="Sub unknown"),
        pytest.param({"Fn::Sub": "${a b}"}, "`${a b}` is no name", id="Sub name"),
        pytest.param({"Fn::Sub": "${}"}, "`${}` is no name", id="Sub empty"),
        pytest.param({"Fn::Sub": "${Zones}"}, "`${Zones}` must be text, not a list", id="Sub list"),
        pytest.param({"Fn::Sub": {"Ref": "Name"}}, "`Fn::Sub` takes plain text", id="Sub function"),
        pytest.param({"Fn::Sub": ["x"]}, "takes a string, or [string, variables]", id="Sub shape"),
        pytest.param({"Fn::Join": ["-", "a"]}, "`Fn::Join` joins a list", id="Join"),
        pytest.param(
            {"Fn::Join": [{"Ref": "Name"}, []]}, "must be plain text", id="Join delimiter"
        ),
        pytest.param(
            {"Fn::Join": ["-", [["a"]]]}, "an item must be text, not a list", id="Join item"
        ),
        pytest.param({"Fn::Split": ["", "a"]}, "must be plain text", id="Split"),
        pytest.param({"Fn::Select": [2, ["a"]]}, "`Fn::Select` has no item 2 of 1", id="Select"),
        pytest.param({"Fn::Select": [-1, ["a"]]}, "has no item -1", id="Select negative"),
        pytest.param({"Fn::Select": [0, [None]]}, "selects null", id="Select null"),
        pytest.param({"Fn::FindInMap": ["M", "x", "y"]}, "no entry `M.x.y`", id="FindInMap"),
        pytest.param({"Fn::FindInMap": ["M", "top"]}, "takes [map, key, key]", id="FindInMap 2"),
        pytest.param({"Fn::If": ["Gone", 1, 2]}, "no such condition: `Gone`", id="If"),
        pytest.param({"Fn::If": ["Yes", 1]}, "takes [condition, then, else]", id="If shape"),
        pytest.param({"Fn::Equals": [1, 1]}, "allowed in `Conditions` only", id="Equals"),
        pytest.param({"Fn::ImportValue": "gone"}, "the export `gone`", id="ImportValue"),
        pytest.param({"Fn::Length": "abc"}, "`Fn::Length` counts a list", id="Length"),
        pytest.param({"Fn::ToJsonString": "x"}, "takes an object or a list", id="ToJsonString"),
        pytest.param({"Fn::Base64": []}, "the text must be text", id="Base64"),
        pytest.param({"Fn::GetAZs": ""}, "`Fn::GetAZs` is not done here", id="GetAZs"),
        pytest.param({"Fn::Transform": {}}, "`Fn::Transform` is not done here", id="Transform"),
        pytest.param({"Fn::Cidr": []}, "`Fn::Cidr` is not done here", id="Cidr"),
        pytest.param({"Ref": "Name", "x": 1}, "must be the only member", id="Ref and more"),
        pytest.param("{{resolve:ssm:x}}", "dynamic references", id="dynamic reference"),
        pytest.param({"Fn::Sub": "{{resolve:ssm:x}}"}, "dynamic references", id="dynamic in Sub"),
    ],
)
def test_refusals(node: Any, fault: str) -> None:
    """A misused or unknown function yields one fault with its place, and no value."""
    made, findings = resolver()
    assert made.value(node, PATH) is UNKNOWN
    (finding,) = findings
    assert fault in finding.message
    assert finding.severity == "error"
    assert finding.resource == "R"
    assert finding.source is not None


def test_every_fault_is_found_once() -> None:
    """One reading finds all faults; what contains a fault adds none."""
    made, findings = resolver()
    node = {
        "a": {"Fn::Join": ["", [{"Ref": "X"}, {"Fn::Sub": "${Y} ${Z}"}]]},
        "b": {"Ref": "X"},
        "c": {"Ref": "X"},
    }
    assert made.value(node, PATH) == {"a": UNKNOWN, "b": UNKNOWN, "c": UNKNOWN}
    made.value(node, PATH)
    assert [finding.message.split("`")[1] for finding in findings] == ["X", "Y", "Z"]


def test_a_session_variable_without_its_sign_gets_a_hint() -> None:
    """`${transfer:UserName}` within Fn::Sub is refused with the spelling that works."""
    made, findings = resolver()
    made.value({"Fn::Sub": "${transfer:UserName}"}, PATH)
    assert "`${!transfer:UserName}`" in str(findings[0].hint)


@pytest.mark.parametrize(
    ("conditions", "fault"),
    [
        pytest.param(
            {"A": {"Condition": "B"}, "B": {"Fn::Not": [{"Condition": "A"}]}},
            "conditions go round in a circle: A → B → A",
            id="circle",
        ),
        pytest.param({"A": "yes"}, "condition `A` is neither true nor false", id="text"),
        pytest.param(
            {"A": {"Fn::Equals": [{"Ref": "Bucket"}, "x"]}},
            "conditions see parameters only, not the resource `Bucket`",
            id="resource",
        ),
        pytest.param(
            {"A": {"Fn::And": [{"Fn::Equals": [1, 1]}]}},
            "takes 2 to 10 conditions",
            id="And of one",
        ),
        pytest.param({"A": {"Fn::Not": [{"Ref": "Name"}]}}, "must be true or false", id="Not"),
        pytest.param(
            {"A": {"Fn::Equals": [{"Fn::ImportValue": "net-Vpc"}, "x"]}},
            "conditions cannot import values",
            id="import",
        ),
    ],
)
def test_conditions_that_are_refused(conditions: Mapping[str, Any], fault: str) -> None:
    """Conditions see parameters, do not go in circles, and are true or false."""
    made, findings = resolver({**TEMPLATE, "Conditions": conditions})
    assert made.condition("A", PATH) is UNKNOWN
    assert any(fault in finding.message for finding in findings)


def test_extensions_without_their_transform_are_told() -> None:
    """What AWS refuses without LanguageExtensions runs here with a warning."""
    template = {key: value for key, value in TEMPLATE.items() if key != "Transform"}
    made, findings = resolver(template)
    assert made.value({"Fn::Length": [1, 2]}, PATH) == 2
    assert [finding.severity for finding in findings] == ["warning"]


def test_references_are_remembered() -> None:
    """The resolver notes which resource refers to which, for the builder's search for circles."""
    made, _ = resolver()
    made.value({"Fn::If": ["No", {"Ref": "Policy"}, {"Fn::Sub": "${Bucket}"}]}, PATH)
    assert made.edges == {"R": {"Bucket"}}
