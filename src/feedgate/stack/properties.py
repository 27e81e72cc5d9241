"""The one table of what each property of each resource type does on a local run.

Every property that CloudFormation's schema knows is here as one of: *effective*; *always* (true of
the embedded form whatever it says, or without effect on AWS too); *ignored*, with the reason that
``check`` prints; *only* some values; *refused*. Ignoring what protects data would be a silent hole,
so such a property is never ignored. A test holds the table complete against the schemas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from feedgate.stack.template import Path

__all__ = [
    "OWN_SECURITY_POLICIES",
    "RESOURCE_TYPES",
    "SECURITY_POLICIES",
    "Always",
    "Effect",
    "Effective",
    "Ignored",
    "Only",
    "Refused",
    "ResourceType",
    "property_findings",
]


@dataclass(frozen=True, slots=True)
class Effective:
    """It is done. ``members`` are those of an object, or of each object in a list."""

    members: Mapping[str, Effect] | None = None


@dataclass(frozen=True, slots=True)
class Always:
    """Nothing to report: it is so by construction, or it says nothing that anybody acts on."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """No effect on a local run, for a reason worth a line."""

    reason: str


@dataclass(frozen=True, slots=True)
class Only:
    """Done for these values; for any other the definition is refused."""

    values: tuple[Any, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The definition is refused: ignoring it would weaken or change what the author wants."""

    reason: str


Effect = Effective | Always | Ignored | Only | Refused


@dataclass(frozen=True, slots=True)
class ResourceType:
    """A type that is understood. ``inert`` says why the whole resource does nothing here.

    Properties of an inert type are resolved and otherwise not looked at.
    """

    properties: Mapping[str, Effect] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    inert: str | None = None


_DONE: Final = Effective()
_ALWAYS: Final = Always()
_NO_HTTP: Final = "the bucket is reached through the gateway, not over HTTP"
_NO_USERS: Final = "IAM users and groups do not exist on a local run"
_NO_DNS: Final = "no DNS record is made: names are the operator's on a local run"
_NO_QUEUE: Final = "no queue or topic exists: the loader reads landings from the ledger"
_LOCAL_LOG: Final = "structured log lines go to the gateway's own log"
_VERSIONS: Final = "versions of objects are not kept yet"
_LOCK: Final = "nothing keeps an object from being overwritten or deleted yet"

# known to feedgate alone; the first holds where a template names none
OWN_SECURITY_POLICIES: Final = ("Feedgate-2026-11", "Feedgate-PQ-Strict-2026-11")
SECURITY_POLICIES: Final = OWN_SECURITY_POLICIES + tuple(
    f"TransferSecurityPolicy-{name}"
    for name in (
        "2018-11",
        "2020-06",
        "2022-03",
        "2023-05",
        "2024-01",
        "2025-03",
        "AS2Restricted-2025-07",
        "FIPS-2020-06",
        "FIPS-2023-05",
        "FIPS-2024-01",
        "FIPS-2024-05",
        "FIPS-2025-03",
        "Restricted-2018-11",
        "Restricted-2020-06",
        "SshAuditCompliant-2025-02",
    )
)

_SERVER: Final[Mapping[str, Effect]] = {
    "Certificate": Ignored("only FTPS uses a certificate"),
    "CreateWithHostKey": Refused("a private host key does not belong into a template"),
    "Domain": Only(("S3",), "only S3 is served; EFS is not"),
    "EndpointDetails": Ignored("the door listens where --listen says"),
    "EndpointType": Ignored("the door listens where --listen says"),
    "IdentityProviderDetails": Refused("only SERVICE_MANAGED users exist here"),
    "IdentityProviderType": Only(("SERVICE_MANAGED",), "only SERVICE_MANAGED users exist here"),
    "IpAddressType": Ignored("the door listens where --listen says"),
    "LoggingRole": Ignored(_LOCAL_LOG),
    "PostAuthenticationLoginBanner": Ignored("SFTP has no place to show it, on AWS either"),
    "PreAuthenticationLoginBanner": _DONE,
    "ProtocolDetails": Effective(
        {
            "As2Transports": Ignored("only AS2 uses it"),
            "PassiveIp": Ignored("only FTPS uses it"),
            "ProxyConfig": Refused("the PROXY protocol is not spoken yet"),
            "SetStatOption": _DONE,
            "SftpPorts": Ignored("the door listens where --listen says"),
            "TlsSessionResumptionMode": Ignored("only FTPS uses it"),
        }
    ),
    "Protocols": Only((["SFTP"],), "only SFTP is spoken"),
    "S3StorageOptions": Ignored("listings read an index: they are always optimised"),
    "SecurityPolicyName": Only(SECURITY_POLICIES, "no such security policy"),
    "StructuredLogDestinations": Ignored(_LOCAL_LOG),
    "Tags": _DONE,
    "WorkflowDetails": Refused("managed workflows are not run here"),
}

_USER: Final[Mapping[str, Effect]] = {
    "HomeDirectory": _DONE,
    "HomeDirectoryMappings": Effective({"Entry": _DONE, "Target": _DONE, "Type": _DONE}),
    "HomeDirectoryType": Only(("PATH", "LOGICAL"), "no such type of home directory"),
    "Policy": _DONE,
    "PosixProfile": Refused("only EFS uses it, and EFS is not served"),
    "Role": _DONE,
    "ServerId": _DONE,
    "SshPublicKeys": _DONE,
    "Tags": _DONE,
    "UserName": _DONE,
}

_BUCKET: Final[Mapping[str, Effect]] = {
    "AbacStatus": Only(("Disabled",), "tags of a bucket take no part in decisions yet"),
    "AccelerateConfiguration": Ignored(_NO_HTTP),
    "AccessControl": Ignored("access control lists grant nothing here; policies do"),
    "AnalyticsConfigurations": Ignored("usage is not analysed here"),
    "BucketEncryption": Effective(
        {
            "ServerSideEncryptionConfiguration": Effective(
                {
                    "BlockedEncryptionTypes": _ALWAYS,  # no client chooses an encryption
                    "BucketKeyEnabled": _DONE,
                    "ServerSideEncryptionByDefault": Effective(
                        {
                            "KMSMasterKeyID": _DONE,
                            "SSEAlgorithm": Only(
                                ("aws:kms", "AES256"), "objects are encrypted once, not twice"
                            ),
                        }
                    ),
                }
            )
        }
    ),
    "BucketName": _DONE,
    "BucketNamePrefix": Refused("name the bucket by BucketName, or leave the name to the stack"),
    "BucketNamespace": Only(("global",), "name the bucket by BucketName"),
    "CorsConfiguration": Ignored(_NO_HTTP),
    "IntelligentTieringConfigurations": Ignored("there is one storage class"),
    "InventoryConfigurations": Ignored("inventories are not written here"),
    "LifecycleConfiguration": Ignored("objects neither expire nor change their class here"),
    "LoggingConfiguration": Effective(
        {
            "DestinationBucketName": _DONE,
            "LogFilePrefix": _DONE,
            "TargetObjectKeyFormat": Ignored("log keys have the simple form"),
        }
    ),
    "MetadataConfiguration": Ignored("metadata tables are not written here"),
    "MetadataTableConfiguration": Ignored("metadata tables are not written here"),
    "MetricsConfigurations": Ignored("the gateway has metrics of its own"),
    "NotificationConfiguration": Ignored(_NO_QUEUE),
    "ObjectLockConfiguration": Refused(_LOCK),
    "ObjectLockEnabled": Only((False,), _LOCK),
    "OwnershipControls": _ALWAYS,  # one account owns every object
    "PublicAccessBlockConfiguration": _ALWAYS,  # nobody is served unauthenticated
    "ReplicationConfiguration": Ignored("objects are not copied to another bucket here"),
    "Tags": _DONE,
    "VersioningConfiguration": Effective({"Status": Only(("Suspended",), _VERSIONS)}),
    "WebsiteConfiguration": Ignored(_NO_HTTP),
}

_KEY: Final[Mapping[str, Effect]] = {
    "BypassPolicyLockoutSafetyCheck": _ALWAYS,
    "Description": _ALWAYS,
    "EnableKeyRotation": _DONE,
    "Enabled": _DONE,
    "KeyPolicy": _DONE,
    "KeySpec": Only(("SYMMETRIC_DEFAULT",), "S3 encrypts with symmetric KMS keys"),
    "KeyUsage": Only(("ENCRYPT_DECRYPT",), "S3 encrypts with KMS keys for encryption"),
    "MultiRegion": Only((False,), "KMS keys have one region here"),
    "Origin": Only(("AWS_KMS",), "key material is made here, not imported"),
    "PendingWindowInDays": _DONE,
    "RotationPeriodInDays": _DONE,
    "Tags": _ALWAYS,
}

_ROLE: Final[Mapping[str, Effect]] = {
    "AssumeRolePolicyDocument": _DONE,
    "Description": _ALWAYS,
    "ManagedPolicyArns": _DONE,
    "MaxSessionDuration": Ignored("a role session lasts as long as its connection"),
    "Path": _DONE,
    "PermissionsBoundary": Refused("permissions boundaries are not evaluated yet"),
    "Policies": Effective({"PolicyDocument": _DONE, "PolicyName": _DONE}),
    "RoleName": _DONE,
    "Tags": _DONE,
}

_POLICY: Final[Mapping[str, Effect]] = {
    "Groups": Ignored(_NO_USERS),
    "PolicyDocument": _DONE,
    "PolicyName": _DONE,
    "Roles": _DONE,
    "Users": Ignored(_NO_USERS),
}

_MANAGED_POLICY: Final[Mapping[str, Effect]] = {
    "Description": _ALWAYS,
    "Groups": Ignored(_NO_USERS),
    "ManagedPolicyName": _DONE,
    "Path": _DONE,
    "PolicyDocument": _DONE,
    "Roles": _DONE,
    "Users": Ignored(_NO_USERS),
}

RESOURCE_TYPES: Final[Mapping[str, ResourceType]] = {
    "AWS::CDK::Metadata": ResourceType(inert="the CDK's own statistics"),
    "AWS::IAM::ManagedPolicy": ResourceType(_MANAGED_POLICY, ("PolicyDocument",)),
    "AWS::IAM::Policy": ResourceType(_POLICY, ("PolicyDocument", "PolicyName")),
    "AWS::IAM::Role": ResourceType(_ROLE, ("AssumeRolePolicyDocument",)),
    "AWS::IAM::RolePolicy": ResourceType(
        {"PolicyDocument": _DONE, "PolicyName": _DONE, "RoleName": _DONE},
        ("PolicyDocument", "PolicyName", "RoleName"),
    ),
    "AWS::KMS::Alias": ResourceType(
        {"AliasName": _DONE, "TargetKeyId": _DONE}, ("AliasName", "TargetKeyId")
    ),
    "AWS::KMS::Key": ResourceType(_KEY),
    "AWS::Logs::LogGroup": ResourceType(inert=_LOCAL_LOG),
    "AWS::Route53::HostedZone": ResourceType(inert=_NO_DNS),
    "AWS::Route53::RecordSet": ResourceType(inert=_NO_DNS),
    "AWS::Route53::RecordSetGroup": ResourceType(inert=_NO_DNS),
    "AWS::S3::Bucket": ResourceType(_BUCKET),
    "AWS::S3::BucketPolicy": ResourceType(
        {"Bucket": _DONE, "PolicyDocument": _DONE}, ("Bucket", "PolicyDocument")
    ),
    "AWS::SNS::Subscription": ResourceType(inert=_NO_QUEUE),
    "AWS::SNS::Topic": ResourceType(inert=_NO_QUEUE),
    "AWS::SNS::TopicPolicy": ResourceType(inert=_NO_QUEUE),
    "AWS::SQS::Queue": ResourceType(inert=_NO_QUEUE),
    "AWS::SQS::QueuePolicy": ResourceType(inert=_NO_QUEUE),
    "AWS::Transfer::Server": ResourceType(_SERVER),
    "AWS::Transfer::User": ResourceType(_USER, ("Role", "ServerId", "UserName")),
}

# Attributes beside Type, Properties, Condition and DependsOn, which the builder reads.
RESOURCE_ATTRIBUTES: Final[Mapping[str, Effect]] = {
    "CreationPolicy": Ignored("resources exist at once here"),
    "DeletionPolicy": _ALWAYS,  # a change that deletes waits for the operator's word anyway
    "Metadata": _ALWAYS,
    "UpdatePolicy": Ignored("resources change at once here"),
    "UpdateReplacePolicy": _ALWAYS,
}


def property_findings(
    properties: Mapping[str, Any],
    effects: Mapping[str, Effect],
    path: Path,
    report: Callable[[str, Path, str], None],
    known: Callable[[Any], bool],
) -> None:
    """Report (message, path, severity) for each property that is not plainly done.

    ``known`` tells values from marks of faults that were reported already.
    """
    for name, value in properties.items():
        here = (*path, name)
        effect = effects.get(name)
        if effect is None:
            report(f"no such property: `{name}`", here, "error")
        elif isinstance(effect, Refused):
            report(f"`{name}` is refused: {effect.reason}", here, "error")
        elif isinstance(effect, Ignored):
            report(f"`{name}` is ignored: {effect.reason}", here, "ignored")
        elif isinstance(effect, Only):
            if known(value) and not any(_same(value, allowed) for allowed in effect.values):
                report(f"`{name}` is `{_shown(value)}`: {effect.reason}", here, "error")
        elif isinstance(effect, Effective) and effect.members is not None:
            for member, place in _objects(value, here):
                property_findings(member, effect.members, place, report, known)


def _objects(value: Any, path: Path) -> Iterator[tuple[Mapping[str, Any], Path]]:
    if isinstance(value, Mapping):
        yield value, path
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, Mapping):
                yield item, (*path, index)


def _same(value: Any, allowed: Any) -> bool:
    """Equal, where CloudFormation takes `"true"` for true."""
    if isinstance(allowed, bool):
        return value is allowed or value == str(allowed).lower()
    return bool(value == allowed)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
