"""A template and a run's values → the typed stack, or every fault at once.

Before it: ``template``. After it: everything that runs a stack reads ``Stack``. The same input
gives the same stack, ids included, on any machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from feedgate.errors import DefinitionError, Finding, Source
from feedgate.stack.buckets import build_buckets, build_kms_keys
from feedgate.stack.identities import OVERRIDABLE, Identities, Place
from feedgate.stack.intrinsics import NO_VALUE, UNKNOWN, Identity, Resolver, is_known
from feedgate.stack.node import Node
from feedgate.stack.parameters import resolve_parameters
from feedgate.stack.properties import (
    RESOURCE_ATTRIBUTES,
    RESOURCE_TYPES,
    Ignored,
    property_findings,
)
from feedgate.stack.resources import PolicyText, Stack
from feedgate.stack.roles import build_roles
from feedgate.stack.template import Path, Template
from feedgate.stack.transfer import build_server, build_users

__all__ = ["build"]

RESOURCES_MAX: Final = 500  # CloudFormation's quota for a template

_POLICY_PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "AWS::IAM::ManagedPolicy": ("PolicyDocument",),
    "AWS::IAM::Policy": ("PolicyDocument",),
    "AWS::IAM::Role": ("AssumeRolePolicyDocument", "Policies"),
    "AWS::IAM::RolePolicy": ("PolicyDocument",),
    "AWS::KMS::Key": ("KeyPolicy",),
    "AWS::S3::BucketPolicy": ("PolicyDocument",),
    "AWS::Transfer::User": ("Policy",),
}


def build(
    template: Template,
    *,
    name: str,
    account: str = "000000000000",
    region: str = "us-east-1",
    parameters: Mapping[str, str] | None = None,
    physical_ids: Mapping[str, str] | None = None,
    imports: Mapping[str, str] | None = None,
) -> Stack:
    """Resolve ``template`` into a ``Stack``.

    ``parameters`` override the template's defaults; ``physical_ids`` give a logical id the
    physical id that it has elsewhere; ``imports`` are the values of other stacks' exports. Raises
    ``DefinitionError`` with every fault found.
    """
    place = Place(account, region, name)
    return _Builder(template, place, parameters or {}, physical_ids or {}, imports or {}).stack()


class _Builder:
    def __init__(
        self,
        template: Template,
        place: Place,
        parameters: Mapping[str, str],
        physical_ids: Mapping[str, str],
        imports: Mapping[str, str],
    ) -> None:
        self._template = template
        self._place = place
        self._findings: list[Finding] = []
        self._parameters = resolve_parameters(template, parameters, self._findings)
        self._resolver = Resolver(
            template,
            parameters=self._parameters,
            pseudo=_pseudo_parameters(place),
            imports=imports,
            findings=self._findings,
        )
        self._check_place()
        self._check_sections()
        self._present = self._present_resources()
        self._identities = Identities(template, place, self._resolver, self._present, physical_ids)
        self._resolver.identify = self._identify
        self._check_physical_ids(physical_ids)

    def _error(self, message: str, source: Source | None = None, hint: str | None = None) -> None:
        self._findings.append(Finding("error", message, source, hint=hint, rule="template"))

    def _identify(self, logical_id: str) -> Any:
        """As ``Identities.of``, with a word on resources that their condition leaves out."""
        identity = self._identities.of(logical_id)
        declared = self._template.section("Resources")
        if identity is None and logical_id in declared:
            resource = declared[logical_id]
            condition = resource.get("Condition") if isinstance(resource, Mapping) else None
            self._resolver.fault(
                f"`{logical_id}` is referred to, but its condition `{condition}` is false",
                ("Resources", logical_id),
                "put the reference behind Fn::If with the same condition",
            )
            return UNKNOWN
        return identity

    # -- checks before anything is resolved -----------------------------------------------------

    def _check_place(self) -> None:
        place = self._place
        if not re.fullmatch(r"\d{12}", place.account):
            self._error(f"an account has 12 digits, not `{place.account}`")
        if not re.fullmatch(r"[a-z]{2}(?:-[a-z]+)+-\d", place.region):
            self._error(f"no such region: `{place.region}`")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,127}", place.stack_name):
            self._error(
                f"`{place.stack_name}` is no stack name: a letter, then letters, digits, `-`"
            )

    def _check_sections(self) -> None:
        transforms = self._template.body.get("Transform", [])
        for one in transforms if isinstance(transforms, list) else [transforms]:
            if one != "AWS::LanguageExtensions":
                source = self._template.source(("Transform",))
                self._error(f"the transform `{one}` is not done here", source)
        if self._template.section("Rules"):
            self._resolver.fault(
                "`Rules` are ignored: CloudFormation checks them when it deploys",
                ("Rules",),
                severity="ignored",
            )

    def _present_resources(self) -> dict[str, Mapping[str, Any]]:
        declared = self._template.section("Resources")
        if len(declared) > RESOURCES_MAX:
            self._error(f"more than {RESOURCES_MAX} resources", self._template.source(()))
        present: dict[str, Mapping[str, Any]] = {}
        for logical_id, resource in declared.items():
            path: Path = ("Resources", logical_id)
            if logical_id.startswith("Fn::"):
                self._resolver.fault(f"`{logical_id}` is not done here", path)
            elif not logical_id.isalnum() or not logical_id.isascii():
                self._resolver.fault(f"`{logical_id}` is no logical id: letters and digits", path)
            elif not isinstance(resource, Mapping) or not isinstance(resource.get("Type"), str):
                self._resolver.fault("a resource is an object with a `Type`", path)
            elif "Condition" not in resource or (
                self._resolver.condition(resource["Condition"], (*path, "Condition")) is True
            ):
                present[logical_id] = resource
        return present

    def _check_physical_ids(self, physical_ids: Mapping[str, str]) -> None:
        for logical_id in physical_ids:
            resource = self._present.get(logical_id)
            if resource is None:
                hint = f"resources: {', '.join(self._present)}"
                self._error(f"no resource `{logical_id}` to give a physical id", hint=hint)
            elif resource["Type"] not in OVERRIDABLE:
                self._error(f"a `{resource['Type']}` takes no physical id: `{logical_id}`")

    # -- resources ------------------------------------------------------------------------------

    def stack(self) -> Stack:
        nodes = [
            node
            for logical_id, resource in self._present.items()
            if (node := self._node(logical_id, resource)) is not None
        ]
        self._check_circles()

        def of(*types: str) -> list[Node]:
            return [node for node in nodes if node.type in types]

        keys, broken = build_kms_keys(of("AWS::KMS::Key"), of("AWS::KMS::Alias"))
        buckets = build_buckets(of("AWS::S3::Bucket"), of("AWS::S3::BucketPolicy"), keys, broken)
        roles = build_roles(
            of("AWS::IAM::Role"),
            of("AWS::IAM::Policy", "AWS::IAM::RolePolicy"),
            of("AWS::IAM::ManagedPolicy"),
        )
        server = build_server(of("AWS::Transfer::Server"))
        # All roles, the faulty ones too: their users are not to blame.
        role_arns = [node.attribute("Arn") for node in of("AWS::IAM::Role")]
        users = build_users(of("AWS::Transfer::User"), server, role_arns, buckets)
        if server is None and not any(
            isinstance(one, Mapping) and one.get("Type") == "AWS::Transfer::Server"
            for one in self._present.values()
        ):
            self._error("the stack has no AWS::Transfer::Server", self._template.source(()))
        outputs = self._outputs()
        errors = [finding for finding in self._findings if finding.severity == "error"]
        if errors or server is None:
            raise DefinitionError(errors)
        assert len(nodes) == len(self._present), "a resource was lost without a fault"
        assert all(is_known(node.properties) for node in nodes), "a value was lost without a fault"
        return Stack(
            name=self._place.stack_name,
            account=self._place.account,
            region=self._place.region,
            partition=self._place.partition,
            server=server,
            users=users,
            roles=roles,
            buckets=buckets,
            kms_keys=keys,
            parameters={name: one.text for name, one in self._parameters.items()},
            outputs=outputs,
            findings=tuple(self._findings),
            policy_texts=tuple(_policy_texts(nodes)),
            physical_ids={node.logical_id: node.ref for node in nodes if node.ref},
        )

    def _node(self, logical_id: str, resource: Mapping[str, Any]) -> Node | None:
        path: Path = ("Resources", logical_id)
        kind = resource["Type"]
        self._check_attributes(resource, path)
        resolved = self._resolver.value(resource.get("Properties", {}), (*path, "Properties"))
        known_type = RESOURCE_TYPES.get(kind)
        if known_type is None:
            hint = "move it to a stack of its own and pass what this one needs as a parameter"
            self._resolver.fault(f"`{kind}` is not run here", (*path, "Type"), hint)
            return None
        if not isinstance(resolved, Mapping):
            if resolved is not UNKNOWN:
                self._resolver.fault("`Properties` must be an object", (*path, "Properties"))
            return None
        if known_type.inert:
            message = f"`{kind}` is ignored: {known_type.inert}"
            self._resolver.fault(message, path, severity="ignored")
        else:
            for name in known_type.required:
                if name not in resolved:
                    self._resolver.fault(f"`{name}` is missing", path)
            property_findings(
                resolved, known_type.properties, (*path, "Properties"), self._report, is_known
            )
        identity = self._identities.of(logical_id)
        if not isinstance(identity, Identity):
            return None
        source = self._template.source(path)
        return Node(
            logical_id=logical_id,
            type=kind,
            properties=resolved,
            path=(*path, "Properties"),
            source=source,
            identity=identity,
            place=self._place,
            resolver=self._resolver,
        )

    def _report(self, message: str, path: Path, severity: str) -> None:
        self._resolver.fault(message, path, severity=severity)

    def _check_attributes(self, resource: Mapping[str, Any], path: Path) -> None:
        for attribute, value in resource.items():
            here = (*path, attribute)
            effect = RESOURCE_ATTRIBUTES.get(attribute)
            if attribute == "DependsOn":
                names = value if isinstance(value, list) else [value]
                for name in names:
                    if not isinstance(name, str) or (
                        name not in self._template.section("Resources")
                    ):
                        self._resolver.fault(f"`DependsOn` names no resource: `{name}`", here)
                    elif name in self._present:
                        self._resolver.edges.setdefault(str(path[1]), set()).add(name)
            elif isinstance(effect, Ignored):
                message = f"`{attribute}` is ignored: {effect.reason}"
                self._resolver.fault(message, here, severity="ignored")
            elif effect is None and attribute not in {"Type", "Properties", "Condition"}:
                self._resolver.fault(f"unknown attribute `{attribute}`", here)

    def _check_circles(self) -> None:
        for circle in _circles(self._resolver.edges):
            self._resolver.fault(
                f"resources depend on each other in a circle: {' → '.join(circle)}",
                ("Resources", circle[0]),
                "name one of them by a parameter instead of a reference",
            )

    def _outputs(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, output in self._template.section("Outputs").items():
            path: Path = ("Outputs", name)
            if not isinstance(output, Mapping) or "Value" not in output:
                self._resolver.fault(f"output `{name}` has no `Value`", path)
                continue
            condition = output.get("Condition")
            if condition is not None and (
                self._resolver.condition(condition, (*path, "Condition")) is not True
            ):
                continue
            value = self._resolver.value(output["Value"], (*path, "Value"))
            if isinstance(value, str):
                found[name] = value
            elif isinstance(value, bool | int | float):
                found[name] = str(value).lower()
            elif value is NO_VALUE or is_known(value):
                self._resolver.fault(f"output `{name}` must be text", path)
        return found


def _pseudo_parameters(place: Place) -> dict[str, Any]:
    stack_id = place.arn("cloudformation", f"stack/{place.stack_name}/{place.uuid('AWS::StackId')}")
    return {
        "AWS::AccountId": place.account,
        "AWS::NoValue": NO_VALUE,
        "AWS::NotificationARNs": [],
        "AWS::Partition": place.partition,
        "AWS::Region": place.region,
        "AWS::StackId": stack_id,
        "AWS::StackName": place.stack_name,
        "AWS::URLSuffix": place.url_suffix,
    }


def _circles(edges: Mapping[str, set[str]]) -> Iterator[Sequence[str]]:
    """Each circle of references once, from its first member in order of name back to it."""
    seen: set[str] = set()
    for start in sorted(edges):
        if start in seen:
            continue
        trail: list[str] = []
        stack: list[tuple[str, Iterator[str]]] = [(start, iter(sorted(edges[start])))]
        trail.append(start)
        while stack:
            _, targets = stack[-1]
            target = next(targets, None)
            if target is None:
                stack.pop()
                seen.add(trail.pop())
            elif target in trail:
                circle = trail[trail.index(target) :]
                first = circle.index(min(circle))
                yield [*circle[first:], *circle[:first], circle[first]]
            elif target not in seen:
                trail.append(target)
                stack.append((target, iter(sorted(edges.get(target, ())))))


def _policy_texts(nodes: Sequence[Node]) -> Iterator[PolicyText]:
    """Every policy's document as resolved, for what ``check`` reads in them."""
    for node in nodes:
        for prop in _POLICY_PLACES.get(node.type, ()):
            value = node.properties.get(prop)
            if prop == "Policies":
                for entry in node.objects(prop):
                    yield PolicyText(
                        node.logical_id,
                        entry.text("PolicyName", ""),
                        entry.properties.get("PolicyDocument", {}),
                        node.resolver.source(entry.at("PolicyDocument")),
                    )
            elif value is not None:
                yield PolicyText(node.logical_id, prop, value, node.resolver.source(node.at(prop)))
