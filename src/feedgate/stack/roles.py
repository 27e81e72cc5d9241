"""Roles with every policy that is theirs: inline, separate, managed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from feedgate.iam.policy import Policy
from feedgate.stack.node import Node
from feedgate.stack.resources import Role

__all__ = ["AWS_MANAGED_POLICIES", "build_roles"]

MANAGED_POLICIES_MAX: Final = 20  # AWS's quota per role, the raised one

# AWS's own policies, as far as an SFTP gateway's roles use them; any other is refused.
# https://docs.aws.amazon.com/aws-managed-policy/latest/reference/policy-list.html
AWS_MANAGED_POLICIES: Final[Mapping[str, tuple[str, ...]]] = {
    "AmazonS3FullAccess": ("s3:*", "s3-object-lambda:*"),
    "AmazonS3ReadOnlyAccess": (
        "s3:Get*",
        "s3:List*",
        "s3:Describe*",
        "s3-object-lambda:Get*",
        "s3-object-lambda:List*",
    ),
    "service-role/AWSTransferLoggingAccess": (
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:CreateLogGroup",
        "logs:PutLogEvents",
    ),
}


def build_roles(
    roles: Iterable[Node], policies: Iterable[Node], managed: Iterable[Node]
) -> dict[str, Role]:
    """Return the roles by ARN. ``policies`` are AWS::IAM::Policy and AWS::IAM::RolePolicy."""
    nodes = list(roles)
    by_name = {node.ref: node for node in nodes}
    attached: dict[str, list[Policy]] = {node.ref: [] for node in nodes}
    customer: dict[str, Policy | None] = {}
    for node in managed:
        policy = node.policy("PolicyDocument", "identity", node.ref.rpartition("/")[2])
        customer[node.ref] = policy
        for name in _role_names(node, "Roles", by_name):
            attached[name].extend([policy] if policy else [])
    for node in nodes:
        attached[node.ref].extend(_managed(node, customer, attached[node.ref]))
    for node in policies:
        prop = "RoleName" if node.type == "AWS::IAM::RolePolicy" else "Roles"
        label = node.text("PolicyName", node.logical_id)
        policy = node.policy("PolicyDocument", "identity", label)
        for name in _role_names(node, prop, by_name):
            attached[name].extend([policy] if policy else [])
    found: dict[str, Role] = {}
    names: set[str] = set()
    for node in nodes:
        if node.ref in names:
            node.fault(f"the role `{node.ref}` exists twice", "RoleName")
        names.add(node.ref)
        if (role := _role(node)) is not None:
            found[role.arn] = replace(role, policies=(*role.policies, *attached[node.ref]))
    return found


def _role_names(node: Node, prop: str, by_name: Mapping[str, Node]) -> list[str]:
    names = [node.text(prop, "")] if prop == "RoleName" else node.texts(prop)
    for name in names:
        if name and name not in by_name:
            node.fault(f"no role `{name}` in this stack", prop)
    return [name for name in names if name in by_name]


def _role(node: Node) -> Role | None:
    trust = node.policy("AssumeRolePolicyDocument", "trust", f"{node.logical_id}/trust")
    policies: list[Policy] = []
    names: set[str] = set()
    for entry in node.objects("Policies"):
        name = entry.text("PolicyName")
        if name is None:
            entry.fault("an inline policy has a `PolicyName`")
            continue
        if name in names:
            entry.fault(f"the role has two policies `{name}`", "PolicyName")
        names.add(name)
        if "PolicyDocument" not in entry.properties:
            entry.fault("an inline policy has a `PolicyDocument`")
        if policy := entry.policy("PolicyDocument", "identity", name):
            policies.append(policy)
    tags = node.tags()
    if trust is None:
        return None
    return Role(
        logical_id=node.logical_id,
        role_name=node.ref,
        arn=node.attribute("Arn"),
        unique_id=node.attribute("RoleId"),
        trust=trust,
        policies=tuple(policies),
        tags=tags,
        source=node.source,
    )


def _managed(
    node: Node, customer: Mapping[str, Policy | None], already: list[Policy]
) -> list[Policy]:
    """The policies that ``ManagedPolicyArns`` attaches, except those attached already."""
    found: list[Policy] = []
    arns = node.texts("ManagedPolicyArns")
    if len(arns) > MANAGED_POLICIES_MAX:
        node.fault(f"more than {MANAGED_POLICIES_MAX} managed policies", "ManagedPolicyArns")
    prefix = f"arn:{node.place.partition}:iam::aws:policy/"
    for index, arn in enumerate(arns):
        name = arn.removeprefix(prefix)
        if arn in customer:
            policy = customer[arn]
            if policy is not None and policy not in already:
                found.append(policy)
        elif name in AWS_MANAGED_POLICIES and name != arn:
            document = _aws_document(AWS_MANAGED_POLICIES[name])
            if policy := node.parse(document, "identity", name, "ManagedPolicyArns"):
                found.append(policy)
        else:
            whose = "AWS's" if arn.startswith(prefix) else "the"
            node.fault(
                f"{whose} managed policy `{arn}` is not known here",
                "ManagedPolicyArns",
                index,
                hint="write its statements into the role, or declare an AWS::IAM::ManagedPolicy",
            )
    return found


def _aws_document(actions: tuple[str, ...]) -> Mapping[str, Any]:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}
