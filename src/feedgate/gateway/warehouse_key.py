"""The key that encrypts the warehouse's files: a data key of the folder, see ``sealing``."""

from __future__ import annotations

from feedgate.gateway.sealing import folder_data_key, wrapping_kms_key
from feedgate.gateway.services import Services

__all__ = ["warehouse_key"]


def warehouse_key(services: Services) -> bytes:
    """Unwrap the warehouse's data key, making it at the first use. 32 bytes.

    Raises:
        CouldNot: the KMS key is disabled or pending deletion.
        Integrity: the wrapped key was changed.
    """
    return folder_data_key(
        services.database,
        services.keyring,
        "warehouse",
        kms_key_arn=lambda: wrapping_kms_key(services.definition),
    )
