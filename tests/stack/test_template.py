"""Templates as JSON, YAML and rendered Jsonnet: values, places, refusals."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedgate.errors import DefinitionError, Source
from feedgate.stack.parse import DEPTH_MAX, parse_json, parse_yaml
from feedgate.stack.template import parse_template

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_json_reads_what_the_standard_library_reads(value: object) -> None:
    """Our JSON reader and Python's agree on every document that Python writes."""
    for indent in (None, 2):
        text = json.dumps(value, indent=indent)
        assert parse_json(text, "x.json")[0] == json.loads(text)


@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn \\u\n', max_size=30))
def test_json_refuses_what_the_standard_library_refuses(text: str) -> None:
    """On arbitrary text both readers accept or both refuse."""
    try:
        expected = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError):
        with pytest.raises(DefinitionError):
            parse_json(text, "x.json")
    else:
        if not re.search(r"\d[eE]", text):
            assert parse_json(text, "x.json")[0] == expected


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError
    return dict(pairs)


def test_json_places_are_line_and_column() -> None:
    """Each key and each item of a list knows where it begins."""
    _, places = parse_json('{\n  "a": [1,\n    {"b": 2}]\n}', "x.json")
    assert places[("a",)] == (2, 3)
    assert places[("a", 0)] == (2, 9)
    assert places[("a", 1, "b")] == (3, 6)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param('{"a": 1,\n "a": 2}', "x.json:2:2: duplicate key `a`", id="duplicate"),
        pytest.param('{"a": 1,}', "x.json:1:9: a string expected", id="trailing comma"),
        pytest.param("{'a': 1}", "x.json:1:2: a string expected", id="single quotes"),
        pytest.param('{"a": 01}', "x.json:1:8: `,` or `}` expected", id="leading zero"),
        pytest.param('{"a": NaN}', "x.json:1:7: a value expected", id="NaN"),
        pytest.param('{"a": 1e999}', "x.json:1:7: a number out of range", id="infinity"),
        pytest.param('{"a": "\t"}', "x.json:1:8: invalid control character at", id="control"),
        pytest.param("{} {}", "x.json:1:4: text after the end of the document", id="rest"),
        pytest.param("[" * 9999, f"x.json:1:{DEPTH_MAX + 2}: nested deeper than", id="depth"),
    ],
)
def test_json_refusals(text: str, fault: str) -> None:
    """What is no JSON is refused with line and column."""
    with pytest.raises(DefinitionError, match=re.escape(fault)):
        parse_json(text, "x.json")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("!Ref A", {"Ref": "A"}, id="Ref"),
        pytest.param("!GetAtt A.B.C", {"Fn::GetAtt": "A.B.C"}, id="GetAtt"),
        pytest.param("!Sub 10", {"Fn::Sub": "10"}, id="scalar stays text"),
        pytest.param("!Condition A", {"Condition": "A"}, id="Condition"),
        pytest.param(
            "!Join [',', [!Ref A, x]]", {"Fn::Join": [",", [{"Ref": "A"}, "x"]]}, id="nested"
        ),
        pytest.param(
            "!Base64 {'Fn::Sub': x}", {"Fn::Base64": {"Fn::Sub": "x"}}, id="function in a tag"
        ),
        pytest.param("2012-10-17", "2012-10-17", id="a date is text"),
        pytest.param("yes", True, id="YAML 1.1 truth"),
        pytest.param("'yes'", "yes", id="quoted"),
        pytest.param("~", None, id="null"),
        pytest.param("|\n  a\n  b\n", "a\nb\n", id="block"),
    ],
)
def test_yaml_short_tags(text: str, value: object) -> None:
    """Short tags become the long form; scalars are CloudFormation's."""
    indented = text.replace("\n", "\n  ")
    assert parse_yaml(f"a: {indented}", "x.yaml")[0] == {"a": value}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("a: 1\na: 2", "x.yaml:2:1: duplicate key `a`", id="duplicate"),
        pytest.param("a: &x [1]\nb: *x", "aliases are not used", id="alias"),
        pytest.param("a: {<<: {b: 1}}", "merges (`<<`) are not used", id="merge"),
        pytest.param("a: !!python/object:os.system x", "x.yaml:1:4: the tag", id="python tag"),
        pytest.param("a: !!binary aGk=", "x.yaml:1:4: the tag", id="binary"),
        pytest.param("a: [", "x.yaml:1:5: expected the node content", id="syntax"),
        pytest.param("a: 1\n---\nb: 2", "but found another document", id="two documents"),
        pytest.param("a: !Base64 !Sub x", "x.yaml:1:12", id="tag after tag"),
        pytest.param("[1]: 2", "a key must be a scalar", id="key"),
        pytest.param("a: " + "[" * 200 + "]" * 200, "nested deeper than", id="depth"),
    ],
)
def test_yaml_refusals(text: str, fault: str) -> None:
    """What CloudFormation's YAML does not know is refused with its place."""
    with pytest.raises(DefinitionError) as caught:
        parse_yaml(text, "x.yaml")
    assert fault in str(caught.value.findings[0])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("[]", "a template is an object", id="list"),
        pytest.param('{"Resource": {}}', "unknown section `Resource`", id="section"),
        pytest.param('{"Resources": []}', "section `Resources` must be an object", id="shape"),
        pytest.param('{"Resources": {}}', "the template has no `Resources`", id="empty"),
    ],
)
def test_misshapen_templates_are_refused(text: str, fault: str) -> None:
    """Sections are CloudFormation's, and there is something in Resources."""
    with pytest.raises(DefinitionError) as caught:
        parse_template(text, file="template.json")
    assert fault in [finding.message for finding in caught.value.findings]


AUTHORED = {
    "template.jsonnet": """\
{
  // Key: a comment does not count
  Parameters: import 'includes/parameters.libsonnet',
  Resources: {
    Key: (import 'includes/key.libsonnet') + { Condition: 'X' },
    Inline: {
      Type: 'AWS::S3::Bucket',
    },
  } + import 'users.json',
  Outputs: { Key: { Value: 1 } },
}
""",
    "includes/parameters.libsonnet": "{\n  Key: { Type: 'String' },\n}\n",
    "includes/key.libsonnet": """\
local tags = import 'tags.libsonnet';
{
  Type: 'AWS::KMS::Key',
  Properties: {
    KeyPolicy: {},
    'EnableKeyRotation': true,
  },
}
""",
    "users.json": '[\n  {"UserName": "acme"}\n]\n',
    "policy.txt": "{\n  ${Key}\n}\n",
}


@pytest.mark.parametrize(
    ("path", "place"),
    [
        pytest.param((), Source("template.jsonnet"), id="root"),
        pytest.param(("Resources",), Source("template.jsonnet", 4, 3), id="section"),
        pytest.param(("Resources", "Key"), Source("includes/key.libsonnet", 1), id="imported"),
        pytest.param(
            ("Resources", "Key", "Properties", "EnableKeyRotation"),
            Source("includes/key.libsonnet", 6, 5),
            id="property of an imported resource",
        ),
        pytest.param(
            ("Parameters", "Key", "Type"),
            Source("includes/parameters.libsonnet", 2, 10),
            id="imported section",
        ),
        pytest.param(
            ("Resources", "Inline", "Type"), Source("template.jsonnet", 7, 7), id="inline"
        ),
        pytest.param(
            ("Resources", "UserAcme", "Properties", "Role"), Source("users.json", 2, 16), id="user"
        ),
        pytest.param(
            ("Resources", "UserAcme", "Properties", "Policy"),
            Source("policy.txt", 1),
            id="importstr",
        ),
        pytest.param(("Outputs", "Key"), Source("template.jsonnet", 10, 14), id="same name"),
    ],
)
def test_places_lead_back_to_the_authors_files(path: tuple[str | int, ...], place: Source) -> None:
    """For a Jsonnet template a node's place is in the file that its author wrote it in."""
    user = {
        "Type": "AWS::Transfer::User",
        "Properties": {"UserName": "acme", "Policy": {"Fn::Sub": AUTHORED["policy.txt"]}},
    }
    resources = {"Key": {}, "Inline": {}, "UserAcme": user}
    text = json.dumps({"Parameters": {"Key": {}}, "Resources": resources, "Outputs": {"Key": {}}})
    template = parse_template(text, file="template.jsonnet", authored=AUTHORED)
    assert template.source(path) == place


def test_rendered_lines_are_not_passed_off_as_the_authors() -> None:
    """Without the author's files a Jsonnet template has a file name, and no line."""
    template = parse_template('{\n "Resources": {"A": {}}}', file="template.jsonnet")
    assert template.source(("Resources", "A")) == Source("template.jsonnet")
