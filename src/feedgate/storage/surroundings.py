"""What a bucket's uploads and readers work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from feedgate.database import Database
from feedgate.kms.envelope import KmsKey, s3_encryption_context
from feedgate.storage.partfiles import PartFiles, SpaceFloor

__all__ = ["Surroundings"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a bucket's uploads and readers work with.

    ``partial_s``: how long what a lost connection left of an upload is kept for its resume.
    """

    bucket: str
    arn: str
    database: Database
    files: PartFiles
    space: SpaceFloor
    kms: KmsKey  # new objects are under this one
    kms_key: Callable[[str], KmsKey]  # by ARN, for objects that are under another
    bucket_key_enabled: bool
    now_ms: Callable[[], int]
    crash_at: Callable[[str], None]
    partial_s: int

    def context(self, key: str, *, bucket_key: bool | None = None) -> dict[str, str]:
        """The encryption context of an object's data key."""
        enabled = self.bucket_key_enabled if bucket_key is None else bucket_key
        return s3_encryption_context(self.arn, key, bucket_key_enabled=enabled)

    def data_key(self, kms_key_arn: str, wrapped: bytes, key: str, *, bucket_key: bool) -> bytes:
        """Unwrap a data key. Raises ``Integrity``, ``CouldNot``."""
        kms = self.kms if kms_key_arn == self.kms.arn else self.kms_key(kms_key_arn)
        return kms.decrypt(wrapped, self.context(key, bucket_key=bucket_key))
