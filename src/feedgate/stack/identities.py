"""Physical ids and ARNs: what Ref and Fn::GetAtt answer for each resource type.

Ids that AWS would draw at random are derived from account, region, stack name and logical id, so
that one template has one set of them, on every machine and after every restart. What Ref returns
is on each type's page under
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-template-resource-type-ref.html.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from feedgate.stack.intrinsics import (
    CHAIN_MAX,
    NO_VALUE,
    UNKNOWN,
    Identity,
    Resolver,
    is_known,
)
from feedgate.stack.template import Template

__all__ = ["OVERRIDABLE", "Identities", "Place", "partition_of"]

_LOWER: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


def partition_of(region: str) -> str:
    """The ARN partition that a region lies in."""
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"


@dataclass(frozen=True, slots=True)
class Place:
    """Whose stack it is and where: what ids and ARNs are made of."""

    account: str
    region: str
    stack_name: str

    @property
    def partition(self) -> str:
        """``aws``, ``aws-cn`` or ``aws-us-gov``."""
        return partition_of(self.region)

    @property
    def url_suffix(self) -> str:
        """The domain of AWS's endpoints in the partition."""
        return "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com"

    def arn(self, service: str, resource: str, *, regional: bool = True, owned: bool = True) -> str:
        """An ARN of this partition; S3's have neither region nor account, IAM's no region."""
        region = self.region if regional else ""
        account = self.account if owned else ""
        return f"arn:{self.partition}:{service}:{region}:{account}:{resource}"

    def digest(self, logical_id: str) -> bytes:
        """32 bytes that are this resource's own."""
        words = ("feedgate", self.account, self.region, self.stack_name, logical_id)
        return hashlib.sha256("\0".join(words).encode()).digest()

    def uuid(self, logical_id: str) -> str:
        """A UUID of the resource's own, in version 4's form."""
        digits = self.digest(logical_id).hex()
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"

    def suffix(self, logical_id: str) -> str:
        """Twelve lower-case characters, as CloudFormation appends to names that it makes."""
        return "".join(_LOWER[byte % len(_LOWER)] for byte in self.digest(logical_id)[:12])

    def unique_id(self, prefix: str, logical_id: str) -> str:
        """An IAM unique id: four letters and 17 characters of base 32."""
        return prefix + base64.b32encode(self.digest(logical_id)).decode()[:17]


class Identities:
    """Answers the resolver's ``identify``; asks it for names that are properties.

    ``present`` are the resources whose condition holds. A physical id given by the operator wins
    over the name that the template says.
    """

    def __init__(
        self,
        template: Template,
        place: Place,
        resolver: Resolver,
        present: Mapping[str, Mapping[str, Any]],
        physical_ids: Mapping[str, str],
    ) -> None:
        self._template = template
        self._place = place
        self._resolver = resolver
        self._present = present
        self._physical_ids = physical_ids
        self._known: dict[str, Identity | Any] = {}
        self._chain: list[str] = []

    def of(self, logical_id: str) -> Identity | Any:
        """The identity, ``UNKNOWN`` after a fault, None where there is no such resource."""
        if logical_id in self._known:
            return self._known[logical_id]
        resource = self._present.get(logical_id)
        if resource is None:
            return None
        if logical_id in self._chain or len(self._chain) >= CHAIN_MAX:
            return UNKNOWN  # the circle is reported from the edges
        self._chain.append(logical_id)
        identity = self._identify(logical_id, resource)
        self._chain.pop()
        self._known[logical_id] = identity
        return identity

    def _identify(self, logical_id: str, resource: Mapping[str, Any]) -> Identity | Any:
        kind = resource.get("Type")
        maker = _MAKERS.get(kind) if isinstance(kind, str) else None
        if maker is None:
            return UNKNOWN  # the type is refused where the resource is read
        naming = _Naming(self, logical_id, resource)
        identity = maker(naming)
        if naming.failed:
            return UNKNOWN
        given = self._physical_ids.get(logical_id, "")
        arn = identity.attributes.get("Arn", given)
        if given.startswith("arn:") and given != arn:
            self._resolver.fault(
                f"the physical id `{given}` given for `{logical_id}` would be `{arn}` here",
                ("Resources", logical_id),
                "--account and --region say whose stack it is",
            )
        return identity

    def override(self, logical_id: str, form: str, form_text: str) -> str | None:
        """The operator's physical id, of an ARN its last word; None where none was given."""
        given = self._physical_ids.get(logical_id)
        if given is None:
            return None
        word = re.split("[:/]", given)[-1] if given.startswith("arn:") else given
        if re.fullmatch(form, word) is None:
            self._resolver.fault(
                f"the physical id `{given}` given for `{logical_id}` must be {form_text}",
                ("Resources", logical_id),
            )
            return None
        return word

    def name(self, logical_id: str, resource: Mapping[str, Any], prop: str) -> str | Any | None:
        """A property that names the resource; None where it is absent."""
        properties = resource.get("Properties")
        if not isinstance(properties, Mapping) or prop not in properties:
            return None
        value = self._resolver.value(
            properties[prop], ("Resources", logical_id, "Properties", prop)
        )
        if value is NO_VALUE:
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str):
            return value
        if is_known(value):
            path = ("Resources", logical_id, "Properties", prop)
            self._resolver.fault(f"`{prop}` must be text", path)
        return UNKNOWN

    @property
    def place(self) -> Place:
        """Whose stack it is."""
        return self._place


class _Naming:
    """One resource's names, for the makers below. ``failed`` after any fault."""

    def __init__(
        self, identities: Identities, logical_id: str, resource: Mapping[str, Any]
    ) -> None:
        self._identities = identities
        self._resource = resource
        self.id = logical_id
        self.place = identities.place
        self.type = str(resource.get("Type"))
        self.failed = False

    def named(self, prop: str, made: str = "") -> str:
        """The property's text, or ``made`` where it is absent."""
        value = self._identities.name(self.id, self._resource, prop)
        if value is None:
            return made
        if not isinstance(value, str):
            self.failed = True
            return ""
        return value

    def made_name(self, chars_max: int, *, lower: bool = False) -> str:
        """``Stack-LogicalId-XXXXXXXXXXXX``, cut to ``chars_max``, as CloudFormation names."""
        suffix = self.place.suffix(self.id)
        room = chars_max - len(suffix) - 2
        stack = self.place.stack_name[: room // 2]
        name = f"{stack}-{self.id[: room - len(stack)]}-{suffix}"
        return name.lower() if lower else f"{name[: -len(suffix)]}{suffix.upper()}"

    def override(self, form: str, form_text: str) -> str | None:
        """The operator's physical id for this resource."""
        return self._identities.override(self.id, form, form_text)

    def identity(self, ref: str | None, **attributes: str) -> Identity:
        """The answer, with this resource's type."""
        return Identity(self.type, ref, attributes)


# -- one maker a type ---------------------------------------------------------------------------


def _server(n: _Naming) -> Identity:
    made = "s-" + n.place.digest(n.id).hex()[:17]
    server_id = n.override(r"s-[0-9a-f]{17}", "`s-` and 17 hex digits") or made
    arn = n.place.arn("transfer", f"server/{server_id}")
    return n.identity(arn, Arn=arn, ServerId=server_id, State="ONLINE")


def _user(n: _Naming) -> Identity:
    server_id, name = n.named("ServerId"), n.named("UserName")
    arn = n.place.arn("transfer", f"user/{server_id}/{name}")
    return n.identity(name, Arn=arn, ServerId=server_id, UserName=name)


def _bucket(n: _Naming) -> Identity:
    given = n.override(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "a bucket name")
    name = given or n.named("BucketName", n.made_name(63, lower=True))
    place = n.place
    return n.identity(
        name,
        Arn=place.arn("s3", name, regional=False, owned=False),
        DomainName=f"{name}.s3.{place.url_suffix}",
        DualStackDomainName=f"{name}.s3.dualstack.{place.region}.{place.url_suffix}",
        RegionalDomainName=f"{name}.s3.{place.region}.{place.url_suffix}",
    )


def _key(n: _Naming) -> Identity:
    given = n.override(r"(?:mrk-[0-9a-f]{32}|[0-9a-f-]{36})", "a KMS key id or its ARN")
    key_id = given or n.place.uuid(n.id)
    return n.identity(key_id, Arn=n.place.arn("kms", f"key/{key_id}"), KeyId=key_id)


def _role(n: _Naming) -> Identity:
    given = n.override(r"[\w+=,.@-]{1,64}", "a role name")
    name = given or n.named("RoleName", n.made_name(64))
    path = n.named("Path", "/")
    arn = n.place.arn("iam", f"role{path}{name}", regional=False)
    return n.identity(name, Arn=arn, RoleId=n.place.unique_id("AROA", n.id))


def _managed_policy(n: _Naming) -> Identity:
    name = n.named("ManagedPolicyName", n.made_name(128))
    arn = n.place.arn("iam", f"policy{n.named('Path', '/')}{name}", regional=False)
    return n.identity(arn, PolicyArn=arn, PolicyId=n.place.unique_id("ANPA", n.id))


def _policy(n: _Naming) -> Identity:
    return n.identity(n.named("PolicyName"), Id=n.made_name(64))


def _log_group(n: _Naming) -> Identity:
    name = n.named("LogGroupName", n.made_name(512))
    return n.identity(name, Arn=n.place.arn("logs", f"log-group:{name}:*"))


def _topic(n: _Naming) -> Identity:
    name = n.named("TopicName", n.made_name(256))
    arn = n.place.arn("sns", name)
    return n.identity(arn, TopicArn=arn, TopicName=name)


def _queue(n: _Naming) -> Identity:
    name = n.named("QueueName", n.made_name(80))
    url = f"https://sqs.{n.place.region}.{n.place.url_suffix}/{n.place.account}/{name}"
    return n.identity(url, Arn=n.place.arn("sqs", name), QueueName=name, QueueUrl=url)


def _hosted_zone(n: _Naming) -> Identity:
    zone = "Z" + n.place.suffix(n.id).upper()
    return n.identity(zone, Id=zone)


def _subscription(n: _Naming) -> Identity:
    arn = n.place.arn("sns", f"{n.id}:{n.place.uuid(n.id)}")
    return n.identity(arn, Arn=arn)


_MAKERS: Final[Mapping[str, Callable[[_Naming], Identity]]] = {
    "AWS::CDK::Metadata": lambda n: n.identity(n.made_name(64)),
    "AWS::IAM::ManagedPolicy": _managed_policy,
    "AWS::IAM::Policy": _policy,
    "AWS::IAM::Role": _role,
    "AWS::IAM::RolePolicy": lambda n: n.identity(None),
    "AWS::KMS::Alias": lambda n: n.identity(n.named("AliasName")),
    "AWS::KMS::Key": _key,
    "AWS::Logs::LogGroup": _log_group,
    "AWS::Route53::HostedZone": _hosted_zone,
    "AWS::Route53::RecordSet": lambda n: n.identity(n.named("Name")),
    "AWS::Route53::RecordSetGroup": lambda n: n.identity(n.made_name(64), Id=n.made_name(64)),
    "AWS::S3::Bucket": _bucket,
    "AWS::S3::BucketPolicy": lambda n: n.identity(None),
    "AWS::SNS::Subscription": _subscription,
    "AWS::SNS::Topic": _topic,
    "AWS::SNS::TopicPolicy": lambda n: n.identity(None),
    "AWS::SQS::Queue": _queue,
    "AWS::SQS::QueuePolicy": lambda n: n.identity(None),
    "AWS::Transfer::Server": _server,
    "AWS::Transfer::User": _user,
}

# Where an operator's physical id has a meaning: what policies and callers name literally.
OVERRIDABLE: Final = frozenset(
    {"AWS::IAM::Role", "AWS::KMS::Key", "AWS::S3::Bucket", "AWS::Transfer::Server"}
)
