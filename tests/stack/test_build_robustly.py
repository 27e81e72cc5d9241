"""However a template is mangled, the outcome is a stack or findings, never another exception."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedgate.errors import DefinitionError
from feedgate.stack.build import build
from feedgate.stack.check import findings
from feedgate.stack.template import parse_template

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
TEMPLATES = [
    json.loads((VECTORS / name).read_text()) for name in ("cfn_landing.json", "cfn_cdk.json")
]

ODD = st.sampled_from(
    [
        None,
        True,
        -1,
        10**30,
        1.5,
        "",
        "*",
        "${",
        "${!",
        "${A}",
        "{{resolve:x}}",
        "a/b",
        "\x00\ud800",
        [],
        [[]],
        {},
        {"Ref": "LandingBucket"},
        {"Ref": "AWS::NoValue"},
        {"Ref": 1},
        {"Fn::Sub": "${LandingKey.Arn}"},
        {"Fn::GetAtt": "TransferServer.ServerId"},
        {"Fn::If": ["HasHostedZone", 1, 2]},
        {"Fn::Join": ["", None]},
        {"Fn::Select": [9, []]},
        {"Fn::FindInMap": [{}, [], ""]},
        {"Condition": "HasHostedZone"},
        {"Type": "AWS::S3::Bucket"},
    ]
)


def paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path of a tree."""
    found = [path] if path else []
    if isinstance(node, dict | list):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            found += paths(child, (*path, key))
    return found


PATHS = [paths(template) for template in TEMPLATES]


@st.composite
def mangled(draw: st.DrawFn) -> dict[str, Any]:
    """A template with one to three nodes replaced or removed."""
    index = draw(st.integers(0, len(TEMPLATES) - 1))
    template: dict[str, Any] = copy.deepcopy(TEMPLATES[index])
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(PATHS[index]))
        node: Any = template
        try:
            for key in above:
                node = node[key]
            if draw(st.booleans()):
                node[last] = copy.deepcopy(draw(ODD))
            else:
                del node[last]
        except (KeyError, IndexError, TypeError):
            continue
    return template


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mangled())
def test_a_mangled_template_never_crashes(template: dict[str, Any]) -> None:
    """The builder answers any template with a stack or with findings that have a message."""
    try:
        stack = build(parse_template(json.dumps(template), file="template.json"), name="x")
        found = [*findings(stack, None), *stack.findings]
        refused = False
    except DefinitionError as error:
        found, refused = list(error.findings), True
    assert all(finding.message and finding.severity for finding in found)
    assert refused == any(finding.severity == "error" for finding in found)
