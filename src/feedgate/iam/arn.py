"""Amazon Resource Names: six parts, of which the last may hold colons and slashes.

Source: AWS General Reference, "Amazon Resource Names (ARNs)".
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Arn", "parse_arn", "s3_arn", "session_arn", "split_arn"]

Segments = tuple[str, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Arn:
    """A concrete ARN. ``resource`` is all after the fifth colon."""

    partition: str
    service: str
    region: str
    account: str
    resource: str

    def __str__(self) -> str:
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account}:{self.resource}"


def split_arn(text: str) -> Segments | None:
    """The six segments, or None where this is no ARN."""
    parts = text.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn":
        return None
    return (parts[0], parts[1], parts[2], parts[3], parts[4], parts[5])


def parse_arn(text: str) -> Arn:
    """Read a concrete ARN. Raises ``ValueError``."""
    segments = split_arn(text)
    if segments is None or not segments[1] or not segments[2] or not segments[5]:
        raise ValueError(f"`{text}` is not an ARN")
    return Arn(*segments[1:])


def s3_arn(partition: str, bucket: str, key: str | None = None) -> str:
    """The ARN of a bucket, or of one of its objects."""
    base = f"arn:{partition}:s3:::{bucket}"
    return base if key is None else f"{base}/{key}"


def session_arn(role_arn: str, session_name: str) -> str:
    """The ARN of a role session: the role's name without its path (IAM, reference_identifiers)."""
    role = parse_arn(role_arn)
    name = role.resource.rsplit("/", 1)[-1]
    return str(Arn(role.partition, "sts", "", role.account, f"assumed-role/{name}/{session_name}"))
