"""Buckets, their policies, KMS keys and aliases out of resolved properties."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from feedgate.stack.node import Node
from feedgate.stack.resources import Bucket, KmsKey

__all__ = ["build_buckets", "build_kms_keys"]

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET_NAME: Final = re.compile(
    r"(?!\d+\.\d+\.\d+\.\d+$)(?!xn--|sthree-|amzn-s3-demo-)[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}"
    r"(?<!-s3alias)(?<!--ol-s3)[a-z0-9]"
)
_ALIAS_NAME: Final = re.compile(r"alias/(?!aws/)[A-Za-z0-9/_-]{1,250}")


def build_kms_keys(
    keys: Iterable[Node], aliases: Iterable[Node]
) -> tuple[dict[str, KmsKey], set[str]]:
    """Return the KMS keys by ARN, each with its aliases; and the ids of those at fault."""
    found: dict[str, KmsKey] = {}
    broken: set[str] = set()  # reported already; who refers to them is not at fault
    for node in keys:
        if (key := _kms_key(node)) is not None:
            found[key.arn] = key
        else:
            broken |= {node.attribute("Arn"), node.attribute("KeyId")}
    names: set[str] = set()
    for node in aliases:
        name, target = node.text("AliasName"), node.text("TargetKeyId")
        if name is None or target is None:
            continue
        if not _ALIAS_NAME.fullmatch(name):
            node.fault(f"`{name}` is no alias name: it begins with `alias/`", "AliasName")
        if name in names:
            node.fault(f"the alias `{name}` exists twice", "AliasName")
        names.add(name)
        match = next((k for k in found.values() if target in (k.key_id, k.arn)), None)
        if match is None:
            if target not in broken:
                node.fault(f"no KMS key `{target}` in this stack", "TargetKeyId")
            broken.add(name)
            continue
        found[match.arn] = replace(match, aliases=(*match.aliases, name))
    return found, broken


def _kms_key(node: Node) -> KmsKey | None:
    name = f"{node.logical_id}/KeyPolicy"
    if "KeyPolicy" in node.properties:
        policy = node.policy("KeyPolicy", "kms", name)
    else:  # what KMS gives a key that names no policy
        policy = node.parse(_default_key_policy(node), "kms", name, "KeyPolicy")
    key = {
        "enabled": node.boolean("Enabled", True),
        "enable_key_rotation": node.boolean("EnableKeyRotation", False),
        "rotation_period_days": node.integer("RotationPeriodInDays", 365, 90, 2560),
        "pending_window_days": node.integer("PendingWindowInDays", 30, 7, 30),
    }
    if policy is None:
        return None
    return KmsKey(
        logical_id=node.logical_id,
        key_id=node.attribute("KeyId"),
        arn=node.attribute("Arn"),
        policy=policy,
        source=node.source,
        **key,  # type: ignore[arg-type]
    )


def _default_key_policy(node: Node) -> Mapping[str, Any]:
    """https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-default.html."""
    root = node.place.arn("iam", "root", regional=False)
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": root},
        "Action": "kms:*",
        "Resource": "*",
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def build_buckets(
    buckets: Iterable[Node],
    policies: Iterable[Node],
    keys: Mapping[str, KmsKey],
    broken: Container[str],
) -> dict[str, Bucket]:
    """Return the buckets by name, each with its bucket policy and the ARN of its KMS key.

    A bucket that names a KMS key of ``broken`` is not to blame.
    """
    nodes = list(buckets)
    names = {node.ref for node in nodes}
    found: dict[str, Bucket] = {}
    for node in nodes:
        name = node.ref
        if not _BUCKET_NAME.fullmatch(name):
            node.fault(f"`{name}` is no bucket name", "BucketName")
        if name in found:
            node.fault(f"the bucket `{name}` exists twice", "BucketName")
        found[name] = _bucket(node, names, keys, broken)
    for node in policies:
        target = node.text("Bucket")
        if target is None:
            continue
        if target not in found:
            if target not in names:
                node.fault(f"no bucket `{target}` in this stack", "Bucket")
            continue
        policy = node.policy("PolicyDocument", "bucket", node.logical_id)
        if found[target].policy is not None:
            node.fault(f"the bucket `{target}` has a policy already", "Bucket")
        elif policy is not None:
            found[target] = replace(found[target], policy=policy)
    return found


def _bucket(
    node: Node, names: set[str], keys: Mapping[str, KmsKey], broken: Container[str]
) -> Bucket:
    kms_key_arn, bucket_key_enabled = _encryption(node, keys, broken)
    logging_bucket, logging_prefix = _logging(node, names)
    return Bucket(
        logical_id=node.logical_id,
        name=node.ref,
        arn=node.attribute("Arn"),
        kms_key_arn=kms_key_arn,
        bucket_key_enabled=bucket_key_enabled,
        logging_bucket=logging_bucket,
        logging_prefix=logging_prefix,
        tags=node.tags(),
        source=node.source,
    )


def _encryption(
    node: Node, keys: Mapping[str, KmsKey], broken: Container[str]
) -> tuple[str | None, bool]:
    """The KMS key's ARN (None for SSE-S3) and whether the bucket key is on."""
    configuration = node.member("BucketEncryption")
    rules = configuration.objects("ServerSideEncryptionConfiguration") if configuration else []
    if configuration is not None and len(rules) != 1:
        configuration.fault("the encryption of a bucket has one rule")
    if not rules:
        return None, False
    rule = rules[0]
    bucket_key = rule.boolean("BucketKeyEnabled", False)
    default = rule.member("ServerSideEncryptionByDefault")
    algorithm = default.text("SSEAlgorithm") if default else None
    if default is None or algorithm != "aws:kms":
        if default is not None and "KMSMasterKeyID" in default.properties:
            default.fault("a KMS key needs `SSEAlgorithm` `aws:kms`", "KMSMasterKeyID")
        return None, False
    if "KMSMasterKeyID" not in default.properties:
        default.fault(
            "`aws:kms` without `KMSMasterKeyID` means AWS's own key `aws/s3`, which exists only "
            "in an AWS account",
            "SSEAlgorithm",
            hint="declare an AWS::KMS::Key and name it",
        )
        return None, bucket_key
    wanted = default.text("KMSMasterKeyID")
    if wanted is None or wanted in broken:
        return None, bucket_key
    for key in keys.values():
        alias_arns = [node.place.arn("kms", alias) for alias in key.aliases]
        if wanted in (key.arn, key.key_id, *key.aliases, *alias_arns):
            return key.arn, bucket_key
    default.fault(
        f"no KMS key `{wanted}` in this stack",
        "KMSMasterKeyID",
        hint="`--physical-id LogicalId=KEY` lets a KMS key of this stack answer to that id",
    )
    return None, bucket_key


def _logging(node: Node, names: set[str]) -> tuple[str | None, str]:
    configuration = node.member("LoggingConfiguration")
    if configuration is None:
        return None, ""
    target = configuration.text("DestinationBucketName", node.ref)
    prefix = configuration.text("LogFilePrefix", "")
    if target not in names:
        node.resolver.fault(
            f"access logs are not written: the bucket `{target}` is not in this stack",
            configuration.at("DestinationBucketName"),
            severity="ignored",
        )
        return None, prefix
    return target, prefix
