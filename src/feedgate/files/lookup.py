"""What lies at a key, as far as this user may know it.

S3 tells that a key is missing only to who may list the bucket without restriction; to others
HeadObject is a refusal (API Reference, HeadObject). A policy that allows ListBucket under the
user's own prefix, as AWS Transfer documents it, would so turn every "no such file" into "permission
denied". Such a user may list the key itself, and then learns what a listing says.
"""

from __future__ import annotations

from feedgate.access.guarded import GuardedBucket
from feedgate.database import Transaction
from feedgate.errors import AccessDenied
from feedgate.files.objects import StoredObject

__all__ = ["exists", "exists_in", "find", "is_directory", "is_missing", "may_be_directory"]


def find(bucket: GuardedBucket, key: str, *, by_listing: bool = True) -> StoredObject | None:
    """The object, or None where there is none and the user may know that.

    ``by_listing`` False asks HeadObject alone, as AWS Transfer does.

    Raises:
        AccessDenied: it may not be read, or whether it exists may not be told.
    """
    try:
        return bucket.head(key)
    except AccessDenied:
        if by_listing and is_missing(bucket, key):
            return None
        raise


def is_missing(bucket: GuardedBucket, key: str) -> bool:
    """Whether a listing that the user may see says that there is no such object."""
    try:
        page = bucket.list(key, max_keys=1)
    except AccessDenied:
        return False
    return not any(item.key == key for item in page.objects)


def exists(bucket: GuardedBucket, key: str) -> bool:
    """Whether the user sees an object there.

    Who may write a key and neither read nor list it cannot be told. S3 lets him replace it, and
    AWS documents an upload-only policy under which WinSCP renames ``x.filepart`` to ``x``
    (User Guide, configure-storage).
    """
    try:
        return find(bucket, key) is not None
    except AccessDenied:
        return False


def exists_in(tx: Transaction, bucket: GuardedBucket, key: str) -> bool:
    """As ``exists``, inside a transaction: the writes that share its commit are seen too."""
    try:
        return bucket.head_in(tx, key) is not None
    except AccessDenied:
        return False  # what a listing may still tell makes no object visible to `exists` either


def is_directory(bucket: GuardedBucket, prefix: str) -> bool:
    """Whether anything lies under ``prefix``, its own marker included. Raises ``AccessDenied``."""
    return bucket.holds_below(prefix)


def may_be_directory(bucket: GuardedBucket, prefix: str) -> bool:
    """As ``is_directory``; False for who may not list."""
    try:
        return is_directory(bucket, prefix)
    except AccessDenied:
        return False
