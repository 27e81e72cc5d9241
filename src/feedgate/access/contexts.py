"""What a request says of itself: the condition keys that policies may ask for.

Filled as for an S3 call that Transfer makes with the user's role, and for the KMS call that S3
makes for it by a forward access session. Left out because a local run has no true value:
``aws:SourceIp`` (on AWS it is never the SFTP client's), ``aws:SourceVpce``, ``aws:PrincipalOrgID``,
``aws:MultiFactorAuthPresent``, and the ``s3:x-amz-…`` headers, which Transfer does not send.

Sources: IAM User Guide, reference_policies_condition-keys; S3 and KMS pages of the Service
Authorization Reference; KMS Developer Guide, policy-conditions.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from feedgate.access.principals import Operator, Principal
from feedgate.iam.condition import ContextValue
from feedgate.stack.resources import Stack

__all__ = [
    "FILLED_KEYS",
    "TIME_KEYS",
    "kms_context",
    "list_context",
    "principal_context",
    "time_context",
]

TIME_KEYS: Final = frozenset({"aws:currenttime", "aws:epochtime"})

# in lower case; a key that is not here is absent from every request (`check` says so)
FILLED_KEYS: Final = frozenset(
    {
        "aws:principalarn",
        "aws:principalaccount",
        "aws:principaltype",
        "aws:userid",
        "aws:tokenissuetime",
        "aws:securetransport",
        "aws:requestedregion",
        "aws:viaawsservice",
        "aws:calledvia",
        "aws:calledviafirst",
        "aws:calledvialast",
        "aws:principalisawsservice",
        "aws:resourceaccount",
        "s3:resourceaccount",
        "s3:prefix",
        "s3:delimiter",
        "kms:viaservice",
        "kms:calleraccount",
        "kms:encryptioncontext:aws:s3:arn",
        "kms:encryptioncontextkeys",
        "kms:resourcealiases",
        "aws:sourceaccount",
        "aws:sourcearn",
        "sts:externalid",
        *TIME_KEYS,
    }
)


def principal_context(principal: Principal, stack: Stack) -> dict[str, ContextValue]:
    """What every request of a principal says, whatever it asks for."""
    context: dict[str, ContextValue] = {
        "aws:PrincipalAccount": principal.account,
        "aws:PrincipalIsAWSService": False,
        "aws:SecureTransport": True,
        "aws:RequestedRegion": stack.region,
    }
    if isinstance(principal, Operator):
        context["aws:PrincipalArn"] = f"arn:{stack.partition}:iam::{principal.account}:root"
        context["aws:PrincipalType"] = "Account"
        context["aws:userid"] = principal.account
        return context
    role = principal.role
    context["aws:PrincipalArn"] = role.arn
    context["aws:PrincipalType"] = "AssumedRole"
    context["aws:userid"] = f"{role.unique_id}:{principal.session_name}"
    for tag, value in role.tags.items():
        context[f"aws:PrincipalTag/{tag}"] = value
    if principal.issued_at_s is not None:
        context["aws:TokenIssueTime"] = _iso(principal.issued_at_s)
    return context


@lru_cache(maxsize=4)
def time_context(now_s: int) -> Mapping[str, ContextValue]:
    """``now_s`` is Unix time."""
    return {"aws:CurrentTime": _iso(now_s), "aws:EpochTime": now_s}


def list_context(prefix: str, delimiter: str) -> dict[str, ContextValue]:
    """ListBucket's own keys. A bucket's root is prefix ``""``; an unsent delimiter is absent."""
    context: dict[str, ContextValue] = {"s3:prefix": prefix}
    if delimiter:
        context["s3:delimiter"] = delimiter
    return context


def kms_context(
    stack: Stack, account: str, encryption_context: Mapping[str, str], aliases: tuple[str, ...]
) -> dict[str, ContextValue]:
    """What S3 says to KMS on the caller's behalf."""
    suffix = "amazonaws.com.cn" if stack.partition == "aws-cn" else "amazonaws.com"
    context: dict[str, ContextValue] = {
        "kms:ViaService": f"s3.{stack.region}.{suffix}",
        "kms:CallerAccount": account,
        "kms:EncryptionContextKeys": tuple(sorted(encryption_context)),
        "kms:ResourceAliases": aliases,
        "aws:ViaAWSService": True,
        "aws:CalledVia": ("s3.amazonaws.com",),
        "aws:CalledViaFirst": "s3.amazonaws.com",
        "aws:CalledViaLast": "s3.amazonaws.com",
    }
    for key, value in encryption_context.items():
        context[f"kms:EncryptionContext:{key}"] = value
    return context


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
