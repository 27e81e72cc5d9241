"""The difference between the definition last applied and this one, as CloudFormation would plan it.

Pure: two definitions in, a list of changes out. A change that deletes or replaces something that
holds data is ``destructive`` and waits for the operator's word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from feedgate.pipes.table_changes import TableChange, table_changes
from feedgate.stack.resources import Stack
from feedgate.stack.warehouse import Warehouse

__all__ = ["Change", "difference"]


@dataclass(frozen=True, slots=True)
class Change:
    """One change: what happens to which resource, by which properties; ``detail``: what else.

    A change of a ``column`` that values stand in the way of is ``refused``; all else goes on.
    """

    action: Literal["Add", "Modify", "Replace", "Remove"]
    kind: str
    name: str
    properties: tuple[str, ...] = ()
    destructive: bool = False
    detail: str = ""
    refused: bool = False
    column: TableChange | None = None

    def __str__(self) -> str:
        what = f"{self.action} {self.kind} `{self.name}`"
        if self.properties:
            what += f" ({', '.join(self.properties)})"
        return f"{what}: {self.detail}" if self.detail else what


# resources whose removal takes data with it, and the properties whose change means another resource
_HOLDS_DATA = {"AWS::S3::Bucket", "AWS::KMS::Key", "TABLE"}
_REPLACED_BY = {"AWS::Transfer::Server": {"ServerId"}, "AWS::S3::Bucket": {"BucketName"}}
# removing drops nothing: what the operator must know of what is there
_WHAT_STAYS = {
    "AWS::S3::Bucket": "its objects stay stored, out of everybody's reach until a bucket of that"
    " name is in the stack again",
    "TABLE": "nothing is dropped: its rows stay, `feedgate query` reads them, nothing loads into"
    " it",
}
_NOT_COMPARED = {"source"}
# where CloudFormation's property is not the field's name in Pascal case
_PROPERTY_NAMES = {
    "kms_key_arn": "BucketEncryption",
    "bucket_key_enabled": "BucketEncryption",
    "logging_bucket": "LoggingConfiguration",
    "logging_prefix": "LoggingConfiguration",
    "name": "BucketName",
    "role_arn": "Role",
    "trust": "AssumeRolePolicyDocument",
    "pending_window_days": "PendingWindowInDays",
    "rotation_period_days": "RotationPeriodInDays",
    "logging_role_arn": "LoggingRole",
    "set_stat_option": "ProtocolDetails",
}


def difference(
    before: tuple[Stack, Warehouse | None] | None, after: tuple[Stack, Warehouse | None]
) -> tuple[Change, ...]:
    """Changes from ``before`` (None: nothing was applied yet) to ``after``, in a stable order."""
    if before is None:
        return ()
    changes: list[Change] = []
    old, new = dict(_resources(*before)), dict(_resources(*after))
    for identity, value in new.items():
        kind, name = identity
        if identity not in old:
            changes.append(Change("Add", kind, name))
            continue
        if kind == "TABLE":
            continue  # told column by column below
        changed = tuple(dict.fromkeys(_changed_properties(old[identity], value)))
        if changed:
            replaced = bool(_REPLACED_BY.get(kind, set()) & set(changed))
            action: Literal["Replace", "Modify"] = "Replace" if replaced else "Modify"
            detail = _WHAT_STAYS.get(kind, "") if replaced else ""
            changes.append(Change(action, kind, name, changed, replaced, detail))
    if before[1] is not None and after[1] is not None:
        for item in table_changes(before[1], after[1]):
            text = f"{item.source}: {item.text}" if item.question and item.source else item.text
            changes.append(Change("Modify", "TABLE", item.table, (text,), column=item))
    for kind, name in old:
        if (kind, name) not in new:
            detail = _WHAT_STAYS.get(kind, "")
            removal = Change("Remove", kind, name, (), kind in _HOLDS_DATA, detail)
            changes.append(removal)
    return tuple(changes)


def _resources(
    stack: Stack, warehouse: Warehouse | None
) -> Iterator[tuple[tuple[str, str], object]]:
    yield ("AWS::Transfer::Server", stack.server.logical_id), stack.server
    groups: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("AWS::Transfer::User", stack.users),
        ("AWS::IAM::Role", stack.roles),
        ("AWS::S3::Bucket", stack.buckets),
        ("AWS::KMS::Key", stack.kms_keys),
    )
    for kind, group in groups:
        for item in group.values():
            yield (kind, item.user_name if kind.endswith("User") else item.logical_id), item
    if warehouse is None:
        return
    named: tuple[tuple[str, Mapping[Any, object]], ...] = (
        ("TABLE", warehouse.tables),
        ("FILE FORMAT", warehouse.file_formats),
        ("STORAGE INTEGRATION", warehouse.integrations),
        ("STAGE", warehouse.stages),
        ("PIPE", warehouse.pipes),
    )
    for kind, group in named:
        for name, item in group.items():
            yield (kind, str(name)), item


def _changed_properties(old: object, new: object) -> Iterator[str]:
    for field in fields(new):  # type: ignore[arg-type]
        if field.name in _NOT_COMPARED:
            continue
        if _comparable(getattr(old, field.name)) != _comparable(getattr(new, field.name)):
            yield _PROPERTY_NAMES.get(field.name) or field.name.title().replace("_", "")


def _comparable(value: object) -> object:
    """A value without the places it was written at: moving a line is no change."""
    if hasattr(value, "__dataclass_fields__"):
        return tuple(
            (field.name, _comparable(getattr(value, field.name)))
            for field in fields(value)  # type: ignore[arg-type]
            if field.name not in _NOT_COMPARED and field.compare
        )
    if isinstance(value, tuple | list):
        return tuple(_comparable(item) for item in value)
    if isinstance(value, Mapping):
        return tuple((key, _comparable(item)) for key, item in value.items())
    return value
