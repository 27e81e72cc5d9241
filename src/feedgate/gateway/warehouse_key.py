"""The key that encrypts the warehouse's files: a data key like an object's, wrapped by a KMS key.

It is wrapped by the KMS key of the first bucket that a stage reads, so that whoever schedules that
key's deletion takes the rows' protection into account with the files'. The encryption context names
the stack, so a wrapped key copied into another data folder does not unwrap there by accident.
"""

from __future__ import annotations

from feedgate.database import Transaction
from feedgate.gateway.services import DEFAULT_KMS_KEY, Services

__all__ = ["warehouse_key"]

_NAME = "warehouse"


def warehouse_key(services: Services) -> bytes:
    """Unwrap the warehouse's data key, making it at the first use. 32 bytes.

    Raises:
        CouldNot: the KMS key is disabled or pending deletion.
        Integrity: the wrapped key was changed.
    """
    context = {"feedgate:warehouse": services.definition.name}
    rows = services.database.read(
        "SELECT kms_key_arn, wrapped FROM sealed_key WHERE name = ?", (_NAME,)
    )
    if rows:
        arn, wrapped = rows[0]
        return services.keyring.key(arn).decrypt(wrapped, context)
    data_key = services.keyring.key(_wrapping_key_arn(services)).generate_data_key(context)

    def insert(tx: Transaction) -> None:
        tx.execute(
            "INSERT INTO sealed_key (name, kms_key_arn, wrapped) VALUES (?, ?, ?)",
            (_NAME, data_key.kms_key_arn, data_key.wrapped),
        )

    services.database.write_now(insert)
    return data_key.plaintext


def _wrapping_key_arn(services: Services) -> str:
    warehouse = services.definition.warehouse
    for stage in warehouse.stages.values() if warehouse is not None else ():
        bucket = services.stack.buckets.get(stage.url.removeprefix("s3://").split("/", 1)[0])
        if bucket is not None and bucket.kms_key_arn is not None:
            return bucket.kms_key_arn
    return DEFAULT_KMS_KEY
