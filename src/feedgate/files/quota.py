"""What one user may store: a quota and a largest file, from the user's tags (``limit_tags``).

Enforced three times: when a file is opened, with every write, and in the commit, where the counter
of the same transaction is looked at, so that uploads side by side cannot exceed the quota together.
What waits for a resume counts. Replacing a file counts the difference, and what does not grow is
let through though the quota was lowered since.

A supplier reads "Failure", for AWS has no quotas and no text for one; the log has the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from feedgate.access.guarded import GuardedBucket
from feedgate.database import Transaction
from feedgate.errors import CouldNot, DefinitionError, Finding
from feedgate.limits import OBJECT_BYTES_MAX
from feedgate.stack.limit_tags import UNBOUNDED, UserLimits, limits_of
from feedgate.stack.resources import User

__all__ = ["Allowance", "Room", "Space"]


@dataclass(frozen=True, slots=True)
class Space:
    """What ``df`` shows, in bytes."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Room:
    """How long a file that is being written may become, and why no longer."""

    bytes_max: int
    reason: str

    def check(self, end: int) -> None:
        """Raises ``CouldNot`` when a file that ends there is too long."""
        if end > self.bytes_max:
            raise CouldNot(self.reason)


@dataclass(frozen=True, slots=True)
class Allowance:
    """One user's, for one session. ``owner`` is the ``user-agent-id`` of the user's objects."""

    user_name: str
    owner: str
    limits: UserLimits
    partial_bytes: Callable[[], int] = lambda: 0

    @classmethod
    def of(cls, user: User, owner: str, partial_bytes: Callable[[], int] = lambda: 0) -> Allowance:
        """Read a user's tags. Raises ``DefinitionError`` where they state no size."""
        try:
            limits = limits_of(user.tags)
        except ValueError as error:
            finding = Finding("error", f"tag of a limit: {error}", user.source, user.logical_id)
            raise DefinitionError([finding]) from error
        return cls(user.user_name, owner, limits, partial_bytes)

    def room(self, bucket: GuardedBucket, key: str) -> Room | None:
        """For an upload to ``key`` that begins now; None where nothing bounds it."""
        if self.limits is UNBOUNDED:
            return None
        largest, quota = self.limits.file_bytes_max, self.limits.quota_bytes
        bytes_max = OBJECT_BYTES_MAX
        reason = ""
        if largest is not None:
            bytes_max = largest
            reason = f"the file is longer than `{self.user_name}` may send: {largest:,} bytes"
        if quota is not None:
            used = bucket.used_bytes(self.owner) + self.partial_bytes()
            free = max(quota - used + bucket.replaces_bytes(key, self.owner), 0)
            if free < bytes_max:
                bytes_max, reason = free, self._exceeded(quota)
        return Room(bytes_max, reason) if reason else None

    def before(self, tx: Transaction, bucket: GuardedBucket) -> Callable[[], None]:
        """Called in the transaction before it makes an object visible; what it gives, after.

        That raises ``CouldNot`` when the user's objects grew beyond the quota.
        """
        quota = self.limits.quota_bytes
        if quota is None:
            return lambda: None
        used = bucket.used_bytes(self.owner, tx)

        def check() -> None:
            if max(quota, used) < bucket.used_bytes(self.owner, tx):
                raise CouldNot(self._exceeded(quota))

        return check

    def space(self, buckets: Mapping[str, GuardedBucket]) -> Space:
        """What ``df`` shows: the quota, never a disk.

        Without a quota the free space is the largest object that S3 takes.
        """
        used = self.partial_bytes()
        for bucket in buckets.values():
            used += bucket.used_bytes(self.owner)
            break  # each bucket's answer is for all of them
        quota = self.limits.quota_bytes
        if quota is None:
            return Space(used + OBJECT_BYTES_MAX, OBJECT_BYTES_MAX)
        return Space(quota, max(quota - used, 0))

    def _exceeded(self, quota: int) -> str:
        return f"the quota of `{self.user_name}` is exceeded: {quota:,} bytes"
