"""cfn-lint: nothing to say about the example, at the author's places where it has."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from feedgate.deploy.lint import lint
from feedgate.errors import Source
from feedgate.gateway.rendering import Rendered, render
from feedgate.stack.parameters import parse_parameter_file
from feedgate.stack.template import Template, parse_template

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "landing"


@pytest.fixture(scope="module")
def rendered() -> Rendered:
    """The example, rendered."""
    return render(EXAMPLE)


def template_of(rendered: Rendered, text: str | None = None) -> Template:
    """The rendered text as a template that knows its author's files."""
    return parse_template(text or rendered.text, file=rendered.file, authored=rendered.authored)


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_the_example_is_clean_under_both_parameter_files(rendered: Rendered, name: str) -> None:
    """cfn-lint finds nothing in the example, whatever values it gets."""
    pytest.importorskip("cfnlint")
    file = EXAMPLE / "params" / f"{name}.json"
    values = parse_parameter_file(file.read_text(), file=file.name)
    assert lint(template_of(rendered), rendered.text, parameters=values) == []


def test_findings_are_at_the_authors_places(rendered: Rendered) -> None:
    """A finding names the resource and the line of the include file, not the rendered line."""
    pytest.importorskip("cfnlint")
    body = json.loads(rendered.text)
    body["Resources"]["TransferServer"]["Properties"]["EndpointType"] = "PUBLICC"
    body["Resources"]["LandingKeyAlias"]["Properties"]["TargetKeyId"] = {"Ref": "Gone"}
    text = json.dumps(body)
    found = {finding.resource: finding for finding in lint(template_of(rendered, text), text)}
    assert found["TransferServer"].source == Source("includes/transferserver.libsonnet", 8, 5)
    assert found["TransferServer"].severity == "error"
    assert found["TransferServer"].rule == "E3030"
    alias = found["LandingKeyAlias"].source
    assert alias is not None
    assert alias.file == "includes/landingkeyalias.libsonnet"


def test_our_own_security_policies_are_no_fault_of_the_template(rendered: Rendered) -> None:
    """cfn-lint knows AWS's names only; one that nobody knows stays a finding."""
    pytest.importorskip("cfnlint")
    body = json.loads(rendered.text)
    properties = body["Resources"]["TransferServer"]["Properties"]
    for name, findings in (("Feedgate-2026-11", 0), ("Feedgate-1999-01", 1)):
        properties["SecurityPolicyName"] = name
        text = json.dumps(body)
        assert len(lint(template_of(rendered, text), text)) == findings


def test_parameter_values_are_looked_at(rendered: Rendered) -> None:
    """A value that makes a bad bucket name is found with the property that it spoils."""
    pytest.importorskip("cfnlint")
    found = lint(template_of(rendered), rendered.text, parameters={"BucketNamePrefix": "Bad_Name"})
    assert {finding.resource for finding in found} == {"LandingBucket", "LoggingBucket"}


def test_plain_json_keeps_its_own_lines() -> None:
    """A JSON template's findings are at its own lines."""
    pytest.importorskip("cfnlint")
    text = (
        '{"Resources": {\n "Topic": {"Type": "AWS::SNS::Topic",\n  "Properties": {\n'
        '   "Colour": 1}}}}'
    )
    (finding,) = lint(parse_template(text, file="template.json"), text)
    assert finding.source == Source("template.json", 4, 4)


def test_without_cfn_lint_a_warning_says_how_to_install(
    rendered: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cfn-lint is an optional extra: its absence is told, not raised."""
    monkeypatch.setitem(sys.modules, "cfnlint.api", None)
    (finding,) = lint(template_of(rendered), rendered.text)
    assert finding.severity == "warning"
    assert "feedgate[lint]" in str(finding.hint)
