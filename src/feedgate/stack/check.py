"""What a definition that builds may still get wrong, or will not get on a local run.

``findings`` adds to what ``build`` noted on the way: variables that stay empty, ARNs and buckets
that match nothing here, users whom nobody can log in as. Whether a user's ``ls`` or a pipe's read
would be refused is the judge's to say, above this layer.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from feedgate.errors import Finding, Source
from feedgate.stack.resources import PolicyText, Stack, User
from feedgate.stack.warehouse import Warehouse

__all__ = ["findings"]

_VARIABLE: Final = re.compile(r"\$\{\s*(?P<name>transfer:\w+)[^}]*\}", re.IGNORECASE)
_ANY_VARIABLE: Final = re.compile(r"\$\{[^}]*\}")
_HOME_VARIABLES: Final = frozenset(
    {"transfer:homebucket", "transfer:homedirectory", "transfer:homefolder"}
)
_PUBLIC_KEY_TYPES: Final = frozenset(
    {
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "ssh-ed25519",
        "ssh-rsa",
    }
)


def findings(stack: Stack, warehouse: Warehouse | None) -> list[Finding]:
    """Return everything worth telling about a stack that runs, without duplicates, in order."""
    found = [
        *stack.findings,
        *_variable_findings(stack),
        *_arn_findings(stack),
        *_user_findings(stack),
        *_access_log_findings(stack),
        *(_warehouse_findings(stack, warehouse) if warehouse else ()),
    ]
    return list(dict.fromkeys(found))


def _warning(
    message: str, source: Source | None, resource: str | None = None, hint: str | None = None
) -> Finding:
    return Finding("warning", message, source, resource, hint=hint, rule="check")


def _access_log_findings(stack: Stack) -> Iterator[Finding]:
    for bucket in stack.buckets.values():
        if bucket.logging_bucket is not None:
            yield Finding(
                "ignored",
                "`LoggingConfiguration` is ignored: access logs are not written yet, every decision"
                " is in the gateway's audit log",
                bucket.source,
                bucket.logical_id,
                rule="check",
            )


# -- policy variables ---------------------------------------------------------------------------


def _variable_findings(stack: Stack) -> Iterator[Finding]:
    """https://docs.aws.amazon.com/transfer/latest/userguide/users-policies-session.html."""
    logical = {user.logical_id for user in stack.users.values() if _is_logical(user)}
    users = {user.logical_id: user for user in stack.users.values()}
    for policy in stack.policy_texts:
        text = _text(policy.document)
        names = sorted({match["name"] for match in _VARIABLE.finditer(text)}, key=str.lower)
        for name in names:
            if policy.logical_id not in users:
                message = (
                    f"`${{{name}}}` has a value in session policies only, not in `{policy.name}`"
                )
                yield _warning(message, policy.source, policy.logical_id)
            elif policy.logical_id in logical and name.lower() in _HOME_VARIABLES:
                yield _warning(
                    f"`${{{name}}}` has no value for a user with LOGICAL mappings: what holds it "
                    "matches nothing",
                    policy.source,
                    policy.logical_id,
                    "use ${transfer:UserName} and name the bucket",
                )
        user = users.get(policy.logical_id)
        if (
            user
            and not _is_logical(user)
            and user.home_directory.rstrip("/") != user.home_directory
        ):
            yield from _double_slash(user, text, policy)


def _double_slash(user: User, text: str, policy: PolicyText) -> Iterator[Finding]:
    match = re.search(r"\$\{transfer:Home(?:Directory|Folder)\}/", text, re.IGNORECASE)
    if match and user.home_directory != "/":
        yield _warning(
            f"`HomeDirectory` `{user.home_directory}` ends with `/`, so `{match[0]}` gives `//`, "
            "which matches no key",
            policy.source,
            user.logical_id,
            "take the last slash off HomeDirectory",
        )


def _is_logical(user: User) -> bool:
    return user.home_directory_type == "LOGICAL"


# -- literal ARNs -------------------------------------------------------------------------------


def _arn_findings(stack: Stack) -> Iterator[Finding]:
    for policy in stack.policy_texts:
        document = _document(policy.document)
        for statement in _list(document.get("Statement")):
            if not isinstance(statement, Mapping):
                continue
            for element in ("Resource", "NotResource"):
                for arn in _list(statement.get(element)):
                    yield from _resource_finding(stack, policy, str(arn))
            for element in ("Principal", "NotPrincipal"):
                principal = statement.get(element)
                names = principal.get("AWS") if isinstance(principal, Mapping) else None
                for name in _list(names):
                    yield from _principal_finding(stack, policy, str(name))


def _resource_finding(stack: Stack, policy: PolicyText, arn: str) -> Iterator[Finding]:
    parts = arn.split(":", 5)
    if len(parts) < 6 or parts[2] not in ("s3", "kms"):
        return
    pattern = _ANY_VARIABLE.sub("*", arn)
    if parts[2] == "s3":
        known = [f"arn:{stack.partition}:s3:::{name}" for name in stack.buckets]
        pattern = ":".join([*pattern.split(":", 5)[:5], pattern.split(":", 5)[5].split("/")[0]])
        what = "bucket"
    else:
        known = list(stack.kms_keys)
        aliases = (alias for key in stack.kms_keys.values() for alias in key.aliases)
        known += [
            f"arn:{stack.partition}:kms:{stack.region}:{stack.account}:{alias}" for alias in aliases
        ]
        what = "KMS key"
    if not any(fnmatchcase(name, _glob(pattern)) for name in known):
        yield _warning(
            f"`{arn}` in `{policy.name}` matches no {what} of this stack",
            policy.source,
            policy.logical_id,
            "refer to the resource, or give it that id here: --physical-id LogicalId=VALUE",
        )


def _principal_finding(stack: Stack, policy: PolicyText, name: str) -> Iterator[Finding]:
    if f":iam::{stack.account}:role/" in name and name not in stack.roles:
        yield _warning(
            f"the principal `{name}` in `{policy.name}` is no role of this stack",
            policy.source,
            policy.logical_id,
        )


def _glob(pattern: str) -> str:
    """IAM's pattern as fnmatch's, whose brackets are plain text to IAM."""
    return pattern.replace("[", "[[]")


# -- users --------------------------------------------------------------------------------------


def _user_findings(stack: Stack) -> Iterator[Finding]:
    for user in stack.users.values():
        hint = f"feedgate user key add {user.user_name} FILE.pub"
        usable = [key for key in user.ssh_public_keys if _is_public_key(key)]
        for index, key in enumerate(user.ssh_public_keys):
            if key not in usable:
                message = f"SSH public key {index + 1} of `{user.user_name}` cannot be used"
                yield _warning(message, user.source, user.logical_id, hint)
        if not usable:
            message = f"`{user.user_name}` has no usable SSH public key and cannot log in"
            yield _warning(message, user.source, user.logical_id, hint)


def _is_public_key(line: str) -> bool:
    """Whether the line is a key type that AWS Transfer takes, and a blob of that type."""
    kind, _, rest = line.partition(" ")
    try:
        blob = base64.b64decode(rest.split(" ")[0], validate=True)
    except (binascii.Error, ValueError):
        return False
    name = kind.encode("utf-8", "replace")
    return kind in _PUBLIC_KEY_TYPES and blob.startswith(len(name).to_bytes(4, "big") + name)


# -- warehouse ----------------------------------------------------------------------------------


def _warehouse_findings(stack: Stack, warehouse: Warehouse) -> Iterator[Finding]:
    for integration in warehouse.integrations.values():
        if integration.role_arn not in stack.roles:
            yield _warning(
                f"the role `{integration.role_arn}` of the integration `{integration.name}` is no "
                "role of this stack: its pipes cannot read",
                integration.source,
                hint="STORAGE_AWS_ROLE_ARN = '&{NameOfAnOutput}'",
            )
        for location in (*integration.allowed_locations, *integration.blocked_locations):
            if location != "*":
                yield from _location_finding(stack, location, integration.source)
    for stage in warehouse.stages.values():
        yield from _location_finding(stack, stage.url, stage.source)


def _location_finding(stack: Stack, url: str, source: Source | None) -> Iterator[Finding]:
    bucket = url.partition("://")[2].partition("/")[0]
    if bucket not in stack.buckets:
        yield _warning(
            f"`{url}` lies in no bucket of this stack: nothing there is loaded",
            source,
            hint="take the bucket's name from an Output: 's3://&{NameOfAnOutput}/prefix/'",
        )


# -- documents ----------------------------------------------------------------------------------


def _document(document: Mapping[str, Any] | str) -> Mapping[str, Any]:
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError:
            return {}
    return document if isinstance(document, Mapping) else {}


def _text(document: Mapping[str, Any] | str) -> str:
    return document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)


def _list(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)
