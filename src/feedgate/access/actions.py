"""Which S3 and KMS actions an operation needs, and at which packet a refusal shows. One table.

Sources: Transfer User Guide, requirements-roles, configure-storage, encryption-at-rest; S3 User
Guide, UsingKMSEncryption; how suppliers see a refusal: OpenSSH's sftp client.

Not asked for, though AWS's own policies list them: ``kms:Decrypt`` for a multipart upload (when AWS
chooses multipart cannot be known here), ``s3:GetObjectTagging`` for a rename (needed only for
tagged objects, which there are none), a HeadObject per listed folder (AWS sends none where
DirectoryListingOptimization is on).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "CALLS",
    "COMMANDS",
    "OPERATIONS",
    "STAGE_TEXTS",
    "Asker",
    "Operation",
    "Requirement",
    "Stage",
    "operation",
]

Asker = Literal["supplier", "operator", "loader"]
Stage = Literal[
    "opendir",
    "readdir",
    "stat",
    "open",
    "read",
    "close",
    "remove",
    "rename",
    "mkdir",
    "rmdir",
    "setstat",
    "command",
    "load",
]
On = Literal["bucket", "object", "marker", "target"]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One action. ``on`` says of what; for KMS actions, whose encryption context is meant.

    ``marker`` is the zero-byte object ``dir/``; ``target`` a rename's new key. A bucket requirement
    is a listing and carries ``s3:prefix``. ``role_only``: judged without the session policy.
    """

    action: str
    on: On
    stage: Stage
    role_only: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One row: what ``by`` may ask for by this name."""

    name: str
    by: Asker
    requirements: tuple[Requirement, ...]
    note: str = ""


_LIST: Final = "s3:ListBucket"
_GET: Final = "s3:GetObject"
_PUT: Final = "s3:PutObject"
_DELETE: Final = "s3:DeleteObject"
_DECRYPT: Final = "kms:Decrypt"
_GENERATE: Final = "kms:GenerateDataKey"


def _directory(stage: Stage, *, role_only: bool = False) -> tuple[Requirement, ...]:
    return (
        Requirement(_LIST, "bucket", stage, role_only),
        Requirement(_GET, "marker", stage, role_only),
        Requirement(_DECRYPT, "marker", stage, role_only),
    )


def _read(stage: Stage) -> tuple[Requirement, ...]:
    return (Requirement(_GET, "object", stage), Requirement(_DECRYPT, "object", stage))


def _write(stage: Stage, on: On = "object") -> tuple[Requirement, ...]:
    return (Requirement(_PUT, on, stage), Requirement(_GENERATE, on, stage))


def _move(stage: Stage) -> tuple[Requirement, ...]:
    return (
        Requirement(_GET, "object", stage),
        Requirement(_PUT, "target", stage),
        Requirement(_DELETE, "object", stage),
        Requirement(_DECRYPT, "object", stage),
        Requirement(_GENERATE, "target", stage),
    )


_ROWS: Final = (
    Operation(
        "opendir",
        "supplier",
        _directory("opendir", role_only=True),
        "the role's policies alone; a bucket's root has no marker",
    ),
    Operation("readdir", "supplier", _directory("readdir")),
    Operation("list", "supplier", (Requirement(_LIST, "bucket", "stat"),)),
    Operation("stat", "supplier", _read("stat"), "a missing key is told only to who may list"),
    Operation("lstat", "supplier", _read("stat")),
    Operation("fstat", "supplier", ()),
    Operation("open-read", "supplier", _read("open")),
    Operation("read", "supplier", _read("read"), "when policies changed since OPEN"),
    Operation(
        "open-write",
        "supplier",
        _write("close"),
        "OPEN succeeds and the bytes are dropped; the refusal shows at CLOSE",
    ),
    Operation("write", "supplier", ()),
    Operation("close", "supplier", _write("close"), "of a handle for writing"),
    Operation("remove", "supplier", (Requirement(_DELETE, "object", "remove"),)),
    Operation(
        "rename",
        "supplier",
        _move("rename"),
        "CopyObject and DeleteObject; of a directory, for each object in it, and ListBucket",
    ),
    Operation("mkdir", "supplier", _write("mkdir", "marker")),
    Operation(
        "rmdir",
        "supplier",
        (Requirement(_LIST, "bucket", "rmdir"), Requirement(_DELETE, "marker", "rmdir")),
    ),
    Operation("realpath", "supplier", ()),
    Operation(
        "setstat",
        "supplier",
        (Requirement(_PUT, "object", "setstat"),),
        "of a time, which is metadata; a size is written as an upload is; the rest has no effect",
    ),
    Operation("fsetstat", "supplier", ()),
    Operation("ls", "operator", (Requirement(_LIST, "bucket", "command"),)),
    Operation("cat", "operator", _read("command")),
    Operation("cp", "operator", _write("command"), "into the bucket; out of it is `cat`"),
    Operation("rm", "operator", (Requirement(_DELETE, "object", "command"),)),
    Operation("mv", "operator", _move("command")),
    Operation("list", "loader", (Requirement(_LIST, "bucket", "load"),)),
    Operation("get", "loader", _read("load")),
)

OPERATIONS: Final[Mapping[tuple[Asker, str], Operation]] = {
    (row.by, row.name): row for row in _ROWS
}

# what people type in an SFTP client → the operations of which a refusal would stop it
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "ls": ("opendir", "readdir"),
    "put": ("open-write",),
    "get": ("open-read",),
    "rm": ("remove",),
    "delete": ("remove",),
}

# the methods of a bucket → the operation that each is judged as
CALLS: Final[Mapping[Asker, Mapping[str, str]]] = {
    "supplier": {
        "head": "stat",
        "list": "list",
        "list_directory": "readdir",
        "open": "open-read",
        "begin_upload": "open-write",
        "publish": "close",
        "set_metadata": "setstat",
        "delete": "remove",
        "move": "rename",
    },
    "operator": {
        "head": "cat",
        "list": "ls",
        "list_directory": "ls",
        "open": "cat",
        "begin_upload": "cp",
        "publish": "cp",
        "delete": "rm",
        "move": "mv",
    },
    "loader": {"head": "get", "list": "list", "list_directory": "list", "open": "get"},
}

# OpenSSH 8.9 and later; `{path}` is the supplier's. Others show the packet's name only.
STAGE_TEXTS: Final[Mapping[Stage, str]] = {
    "opendir": 'remote readdir("{path}"): Permission denied',
    "readdir": "Couldn't read directory: Permission denied",
    "open": 'remote open("{path}"): Permission denied',
    "close": "close remote: Permission denied",
}


def operation(by: Asker, name: str) -> Operation:
    """The row of that name.

    Raises:
        KeyError: there is none; callers show ``OPERATIONS``.
    """
    return OPERATIONS[by, name]
