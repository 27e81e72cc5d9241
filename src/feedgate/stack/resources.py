"""The typed resources of a stack: what a template says, resolved, with ids and ARNs.

Values in, values out. ``stack.build`` makes these from a rendered template; everything above reads
them. Field names are CloudFormation's in snake case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from feedgate.errors import Finding, Source
from feedgate.iam.policy import Policy

__all__ = [
    "Bucket",
    "HomeDirectoryMapping",
    "KmsKey",
    "PolicyText",
    "Role",
    "Server",
    "Stack",
    "User",
]


@dataclass(frozen=True, slots=True)
class HomeDirectoryMapping:
    """One LOGICAL mapping: what the user sees (``Entry``) and where it lies (``Target``)."""

    entry: str
    target: str
    type: Literal["DIRECTORY", "FILE"] = "DIRECTORY"


@dataclass(frozen=True, slots=True)
class Server:
    """``AWS::Transfer::Server``. Ref is the ARN, ``server_id`` is ``s-`` and 17 hex digits."""

    logical_id: str
    server_id: str
    arn: str
    security_policy_name: str = "Feedgate-2026-11"
    identity_provider_type: str = "SERVICE_MANAGED"
    structured_log_destinations: tuple[str, ...] = ()
    logging_role_arn: str | None = None
    pre_authentication_login_banner: str | None = None
    set_stat_option: Literal["DEFAULT", "ENABLE_NO_OP"] = "DEFAULT"
    tags: Mapping[str, str] = field(default_factory=dict)
    source: Source | None = None

    @property
    def custom_hostname(self) -> str | None:
        """The vanity name, from the tag that AWS's console reads."""
        return self.tags.get("transfer:customHostname") or self.tags.get(
            "aws:transfer:customHostname"
        )


@dataclass(frozen=True, slots=True)
class User:
    """``AWS::Transfer::User``. ``policy`` is the session (scope-down) policy, not substituted."""

    logical_id: str
    user_name: str
    arn: str
    role_arn: str
    home_directory_type: Literal["PATH", "LOGICAL"] = "PATH"
    home_directory: str = "/"
    home_directory_mappings: tuple[HomeDirectoryMapping, ...] = ()
    policy: str | None = None
    ssh_public_keys: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Role:
    """``AWS::IAM::Role`` with every inline and attached policy, parsed."""

    logical_id: str
    role_name: str
    arn: str
    unique_id: str
    trust: Policy
    policies: tuple[Policy, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class KmsKey:
    """``AWS::KMS::Key``. ``key_id`` is a UUID; ``aliases`` are ``alias/…`` names."""

    logical_id: str
    key_id: str
    arn: str
    policy: Policy
    enabled: bool = True
    enable_key_rotation: bool = False
    rotation_period_days: int = 365
    pending_window_days: int = 30
    aliases: tuple[str, ...] = ()
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """``AWS::S3::Bucket``. ``kms_key_arn`` is None for SSE-S3 (the default encryption of S3)."""

    logical_id: str
    name: str
    arn: str
    kms_key_arn: str | None = None
    bucket_key_enabled: bool = False
    logging_bucket: str | None = None
    logging_prefix: str = ""
    policy: Policy | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A policy as the template says it, resolved: an object, or a session policy's JSON text."""

    logical_id: str
    name: str
    document: Mapping[str, Any] | str
    source: Source


@dataclass(frozen=True, slots=True)
class Stack:
    """A rendered, resolved template. Mappings are keyed by the name that requests use.

    ``roles`` and ``kms_keys`` by ARN, ``buckets`` and ``users`` by name. ``outputs`` and
    ``parameters`` are resolved strings, the source of warehouse.sql's ``&{Name}``. ``findings`` are
    what was found on the way and is no fault; ``physical_ids`` is what Ref returns per logical id.
    """

    name: str
    account: str
    region: str
    partition: str
    server: Server
    users: Mapping[str, User]
    roles: Mapping[str, Role]
    buckets: Mapping[str, Bucket]
    kms_keys: Mapping[str, KmsKey]
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    findings: tuple[Finding, ...] = ()
    policy_texts: tuple[PolicyText, ...] = ()
    physical_ids: Mapping[str, str] = field(default_factory=dict)
