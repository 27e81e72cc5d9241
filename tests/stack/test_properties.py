"""The property table: complete against CloudFormation's schemas, reasons that read well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from feedgate.stack.properties import (
    RESOURCE_TYPES,
    Effect,
    Effective,
    Ignored,
    Only,
    Refused,
    property_findings,
)

RUN = sorted(name for name, kind in RESOURCE_TYPES.items() if kind.inert is None)


@pytest.mark.parametrize("name", RUN)
def test_every_property_of_the_schema_has_a_row(name: str) -> None:
    """No property that CloudFormation knows is missing from the table, and none is invented."""
    manager = pytest.importorskip("cfnlint.schema.manager").PROVIDER_SCHEMA_MANAGER
    schema = manager.get_resource_schema("us-east-1", name).schema
    read_only = {path.split("/")[2] for path in schema.get("readOnlyProperties", ())}
    nested = {
        path.split("/")[2] for path in schema.get("readOnlyProperties", ()) if path.count("/") > 2
    }
    known = set(schema["properties"]) - (read_only - nested)
    assert set(RESOURCE_TYPES[name].properties) == known
    assert set(RESOURCE_TYPES[name].required) >= set(schema.get("required", ()))


def reasons(effects: Mapping[str, Effect]) -> Iterator[tuple[str, str]]:
    """Every reason in the table with its property's name."""
    for name, effect in effects.items():
        if isinstance(effect, Ignored | Only | Refused):
            yield name, effect.reason
        elif isinstance(effect, Effective) and effect.members:
            yield from reasons(effect.members)


def test_reasons_are_one_line_without_a_full_stop() -> None:
    """A reason reads as the end of a message."""
    found = [pair for kind in RESOURCE_TYPES.values() for pair in reasons(kind.properties)]
    assert len(found) > 40
    for name, reason in found:
        assert reason.strip(), name
        assert "\n" not in reason, name
        assert not reason.endswith("."), name


SECURITY = {
    "AWS::IAM::Role": ["PermissionsBoundary"],
    "AWS::KMS::Key": ["KeySpec", "KeyUsage", "MultiRegion", "Origin"],
    "AWS::S3::Bucket": ["ObjectLockConfiguration", "ObjectLockEnabled"],
    "AWS::Transfer::Server": ["Domain", "IdentityProviderType", "Protocols", "WorkflowDetails"],
}


@pytest.mark.parametrize(("kind", "names"), SECURITY.items(), ids=SECURITY)
def test_security_properties_are_never_ignored(kind: str, names: list[str]) -> None:
    """What protects data is effective or refused; it is never ignored."""
    for name in names:
        assert not isinstance(RESOURCE_TYPES[kind].properties[name], Ignored)


def test_findings_of_nested_objects_and_lists() -> None:
    """Members of objects, and of objects in lists, are looked up at their own path."""
    effects: Mapping[str, Effect] = {
        "Rules": Effective({"Done": Effective(), "Idle": Ignored("why"), "Bad": Refused("no")}),
        "Mode": Only(("a", True), "only a"),
    }
    found: list[tuple[Any, ...]] = []
    value = {"Rules": [{"Done": 1, "Idle": 2}, {"Bad": 3, "Odd": 4}], "Mode": "b"}
    property_findings(value, effects, (), lambda *row: found.append(row), lambda _: True)
    assert found == [
        ("`Idle` is ignored: why", ("Rules", 0, "Idle"), "ignored"),
        ("`Bad` is refused: no", ("Rules", 1, "Bad"), "error"),
        ("no such property: `Odd`", ("Rules", 1, "Odd"), "error"),
        ("`Mode` is `b`: only a", ("Mode",), "error"),
    ]
