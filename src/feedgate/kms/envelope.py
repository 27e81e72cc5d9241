"""Envelope encryption: a fresh data key per object, wrapped under an encryption context.

The context is what AWS uses for SSE-KMS: ``aws:s3:arn`` = the object's ARN, or the bucket's where
the S3 Bucket Key is on (S3 User Guide, UsingKMSEncryption). Policies see the same context.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

__all__ = ["DATA_KEY_BYTES", "DataKey", "KmsKey", "s3_encryption_context"]

DATA_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class DataKey:
    """``plaintext`` never leaves memory; ``wrapped`` is stored beside the object."""

    plaintext: bytes
    wrapped: bytes
    kms_key_arn: str

    def __repr__(self) -> str:
        return f"DataKey(kms_key_arn={self.kms_key_arn!r})"


class KmsKey(Protocol):
    """One KMS key. Forms: ``kms.keyring`` (a file), AWS KMS (later).

    Blocking and thread-safe. ``decrypt`` raises ``errors.Integrity`` when the context differs or
    the wrapped key was changed; all raise ``errors.CouldNot`` when the KMS key is disabled or
    pending deletion.
    """

    arn: str

    def generate_data_key(self, context: Mapping[str, str]) -> DataKey:
        """Make 256 fresh bits and wrap them."""
        ...

    def wrap(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """Wrap an existing data key, as a rename under a new encryption context needs it."""
        ...

    def decrypt(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Unwrap a data key."""
        ...


def s3_encryption_context(bucket_arn: str, key: str, *, bucket_key_enabled: bool) -> dict[str, str]:
    """The encryption context that S3 passes to KMS for an object."""
    return {"aws:s3:arn": bucket_arn if bucket_key_enabled else f"{bucket_arn}/{key}"}
