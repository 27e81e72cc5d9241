"""A bucket behind the judge: every call is judged as its principal, then passed to storage.

One per principal and bucket. It has the methods of ``storage.bucket.Bucket`` and ``require`` for
what an operation needs beyond its calls. What each call is judged as is ``actions.CALLS``.

S3's own rule is kept: a missing key is told only to who may list; to others it is a refusal
(S3 API, HeadObject and GetObject: 404 with ListBucket, else 403). KMS is asked about objects that
exist, by the KMS key that wraps them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from feedgate.access.actions import CALLS, Stage
from feedgate.access.authorize import Judge, asker_of
from feedgate.access.principals import Principal
from feedgate.access.reader import JudgedReader
from feedgate.database import Transaction
from feedgate.storage.bucket import (
    Bucket,
    Listing,
    ObjectInfo,
    ObjectReader,
    StagedObject,
    Upload,
)

__all__ = ["GuardedBucket", "guarded_buckets"]


class GuardedBucket:
    """A ``Bucket`` as one principal may use it; each method may raise ``AccessDenied``."""

    __slots__ = ("_bucket", "_calls", "_judge", "_principal", "name")

    def __init__(self, principal: Principal, judge: Judge, bucket: Bucket) -> None:
        self.name = bucket.name
        self._principal = principal
        self._judge = judge
        self._bucket = bucket
        self._calls = CALLS[asker_of(principal)]

    def require(
        self, operation: str, key: str, stage: Stage | None = None, *, target: str | None = None
    ) -> None:
        """Judge an operation of ``actions.OPERATIONS`` on a key, or what of it shows at ``stage``.

        A directory's key may end with ``/`` or not; ``""`` is the bucket's root.
        """
        self._judge.require(self._principal, operation, self.name, key, stage=stage, target=target)

    def head(self, key: str) -> ObjectInfo | None:
        """The object's facts, or None where there is none and the principal may list."""
        return self._head(key, lambda: self._bucket.head(key))

    def head_in(self, tx: Transaction, key: str) -> ObjectInfo | None:
        """As ``head``, seeing what the transaction and those committed with it have written.

        What a write depends on is to be asked here: ``head`` sees only what is committed, and so
        not the other writes that share this commit.
        """
        return self._head(key, lambda: self._bucket.head_in(tx, key))

    def _head(self, key: str, find: Callable[[], ObjectInfo | None]) -> ObjectInfo | None:
        self._ask("head", key, only="s3:")
        info = find()
        if info is None:
            self._ask("list", key)
            return None
        self._ask("head", key, only="kms:", kms_key_arn=info.kms_key_arn)
        return info

    def list(
        self,
        prefix: str = "",
        *,
        delimiter: str = "",
        start_after: str = "",
        max_keys: int = 1000,
    ) -> Listing:
        """A page of keys, judged by exactly this prefix: ``bob`` also lists ``bob2/``.

        A supplier's listing with the delimiter ``/`` is READDIR, which reads the directory's marker
        too and so needs ``s3:GetObject`` and ``kms:Decrypt`` on it.
        """
        call = "list_directory" if delimiter == "/" else "list"
        self._judge.require(
            self._principal, self._calls[call], self.name, prefix, listing=(prefix, delimiter)
        )
        return self._bucket.list(
            prefix, delimiter=delimiter, start_after=start_after, max_keys=max_keys
        )

    def holds_below(self, prefix: str) -> bool:
        """Whether any key starts with ``prefix``; judged as the listing that would tell."""
        self._judge.require(
            self._principal, self._calls["list"], self.name, prefix, listing=(prefix, "")
        )
        return self._bucket.holds_below(prefix)

    def used_bytes(self, owner: str, tx: Transaction | None = None) -> int:
        """See ``storage.bucket.Bucket.used_bytes``. Not judged: it tells of no object."""
        return self._bucket.used_bytes(owner, tx)

    def replaces_bytes(self, key: str, owner: str) -> int:
        """The size of the object that an upload to ``key`` would replace, were it ``owner``'s.

        Not judged: only to say how much room there is for who may write the key.
        """
        info = self._bucket.head(key)
        mine = info is not None and info.metadata.get("user-agent-id") == owner
        return info.size if info is not None and mine else 0

    def open(self, key: str) -> ObjectReader | None:
        """Open an object for reading, or None where there is none and the principal may list.

        Reads from it are judged again once other policies are served.
        """
        stack = self._judge.stack
        reader = self._open(key, lambda: self._bucket.open(key))
        if reader is None:
            return None
        kms_key_arn = reader.info.kms_key_arn
        return JudgedReader(
            reader, self._judge, stack, lambda: self._ask("open", key, kms_key_arn=kms_key_arn)
        )

    def open_landed(self, key: str, object_id: str, version_id: str) -> ObjectReader | None:
        """Open what landed under ``key``, though another object may have taken the key since.

        Judged as reading ``key``, the name under which it was offered to the pipes.
        """
        return self._open(key, lambda: self._bucket.open_version(object_id, version_id))

    def _open(self, key: str, find: Callable[[], ObjectReader | None]) -> ObjectReader | None:
        self._ask("open", key, only="s3:")
        reader = find()
        if reader is None:
            self._ask("list", key)
            return None
        try:
            self._ask("open", key, only="kms:", kms_key_arn=reader.info.kms_key_arn)
        except BaseException:
            reader.close()
            raise
        return reader

    def begin_upload(
        self,
        key: str,
        *,
        owner: str,
        metadata: Mapping[str, str] | None = None,
        user: str = "",
        over: ObjectReader | None = None,
    ) -> Upload:
        """Start an object.

        Refused at once; whoever serves SFTP drops the bytes and shows the refusal at CLOSE.
        ``over`` was judged when it was opened.
        """
        self._ask("begin_upload", key)
        return self._bucket.begin_upload(key, owner=owner, metadata=metadata, user=user, over=over)

    def has_partial(self, key: str, user: str) -> bool:
        """Whether ``user`` left something unfinished at ``key``. Not judged: his own business."""
        return self._bucket.has_partial(key, user=user)

    def partial_size(self, key: str, user: str) -> int | None:
        """How much may be resumed from, for who may write the key; blocks after a crash."""
        self._ask("begin_upload", key)
        return self._bucket.partial_size(key, user=user)

    def resume_upload(self, key: str, *, owner: str, user: str) -> Upload | None:
        """Go on with what ``user`` left, judged as an upload that begins."""
        self._ask("begin_upload", key)
        return self._bucket.resume_upload(key, owner=owner, user=user)

    def drop_partials(self, key: str, user: str) -> int:
        """Forget what ``user`` left unfinished at ``key``. Not judged: no object is touched."""
        return self._bucket.drop_partials(key, user=user)

    def partial_bytes(self, user: str) -> int:
        """How many bytes are kept for ``user`` to resume. Not judged: it tells of no object."""
        return self._bucket.partial_bytes(user=user)

    def set_metadata(
        self, tx: Transaction, key: str, changes: Mapping[str, str | None]
    ) -> ObjectInfo | None:
        """Change user metadata, for who may write the object."""
        self._ask("set_metadata", key)
        return self._bucket.set_metadata(tx, key, changes)

    def would_hide(self, key: str) -> bool:
        """Whether an object at ``key`` would be new and hide what lies under ``key/``.

        Not judged: for who was allowed to write ``key``, and to tell him no more than that.
        """
        return self._bucket.holds_below(f"{key}/") and self._bucket.head(key) is None

    def would_hide_in(self, tx: Transaction, key: str) -> bool:
        """As ``would_hide``, seeing what the transaction and those committed with it have written.

        Whoever is about to write ``key`` asks here; the answer of ``would_hide`` may be old.
        """
        below = self._bucket.keys_below_in(tx, f"{key}/", 1)
        return bool(below) and self._bucket.head_in(tx, key) is None

    def is_taken_in(self, tx: Transaction, marker: str) -> bool:
        """Whether a file or a directory has the name of the marker ``dir/``, in a transaction.

        Not judged: for who was allowed to write the marker.
        """
        if self._bucket.keys_below_in(tx, marker, 1):
            return True
        return self._bucket.head_in(tx, marker.removesuffix("/")) is not None

    def keys_below_in(self, tx: Transaction, prefix: str, keys_max: int) -> tuple[str, ...]:
        """The first keys under a directory's prefix, judged as a listing of it."""
        self._ask("list", prefix)
        return self._bucket.keys_below_in(tx, prefix, keys_max)

    def has_content_in(self, tx: Transaction, marker: str) -> bool:
        """Whether the object of a directory's own name has bytes, which no path can reach.

        Not judged: for who was allowed to list it, and is about to remove it.
        """
        info = self._bucket.head_in(tx, marker)
        return info is not None and info.size > 0

    def publish(self, tx: Transaction, staged: StagedObject) -> ObjectInfo:
        """Make a staged object visible, if it may still be written.

        Audited only when refused: the same request was audited when the upload began.
        """
        assert staged.bucket == self.name
        self._ask("publish", staged.key, audit_allowed=False)
        return self._bucket.publish(tx, staged)

    def delete(self, tx: Transaction, key: str) -> bool:
        """Remove an object; False where there was none (S3 says the same to both)."""
        self._ask("delete", key)
        return self._bucket.delete(tx, key)

    def move(self, tx: Transaction, source: str, target: str) -> ObjectInfo:
        """Give an object another key: CopyObject and DeleteObject as far as the judge knows."""
        info = self._bucket.head_in(tx, source)
        self._judge.require(
            self._principal,
            self._calls["move"],
            self.name,
            source,
            target=target,
            kms_key_arn=info.kms_key_arn if info is not None else None,
        )
        return self._bucket.move(tx, source, target)

    def _ask(
        self,
        call: str,
        key: str,
        *,
        only: str = "",
        kms_key_arn: str | None = None,
        audit_allowed: bool = True,
    ) -> None:
        assert call in self._calls, f"a {asker_of(self._principal)} never calls {call}"
        self._judge.require(
            self._principal,
            self._calls[call],
            self.name,
            key,
            only=only,
            kms_key_arn=kms_key_arn,
            audit_allowed=audit_allowed,
        )


def guarded_buckets(
    principal: Principal, judge: Judge, buckets: Mapping[str, Bucket]
) -> Mapping[str, GuardedBucket]:
    """Every bucket as this principal may use it, by name."""
    return {name: GuardedBucket(principal, judge, bucket) for name, bucket in buckets.items()}
