"""Counters of what each sender's objects take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from feedgate.database import Database
from feedgate.kms.keyring import Keyring
from feedgate.storage import embedded
from feedgate.storage.embedded import EmbeddedBucket
from feedgate.storage.garbage import collect
from feedgate.storage.usage import recount, used_bytes

KEY_ARN = "arn:aws:kms:us-east-1:000000000000:key/11111111-2222-3333-4444-555555555555"


@pytest.fixture
def bucket(tmp_path: Path) -> Any:
    """A bucket, its database at hand."""
    database = Database(tmp_path)
    database.migrate(embedded.MIGRATIONS)
    keyring = Keyring.create(tmp_path / "keyring.json")
    keyring.ensure(KEY_ARN, enable_rotation=False, now_ms=0)
    made = EmbeddedBucket(
        name="landing",
        arn="arn:aws:s3:::landing",
        database=database,
        folder=tmp_path,
        kms=keyring.key(KEY_ARN),
        bucket_key_enabled=True,
    )
    yield made, database, tmp_path
    database.close()


def put(bucket: EmbeddedBucket, database: Database, key: str, size: int, owner: str | None) -> None:
    """Store an object of that sender."""
    metadata = {} if owner is None else {"user-agent-id": owner}
    upload = bucket.begin_upload(key, owner="test", metadata=metadata)
    upload.write(0, [bytes(size)])
    staged = upload.finish()
    database.write_now(lambda tx: bucket.publish(tx, staged))


def test_counters_follow_every_change(bucket: Any) -> None:
    """Objects count for who sent them until they are replaced or removed, wherever they move."""
    store, database, folder = bucket
    put(store, database, "a", 10, "acme@s-1")
    put(store, database, "b", 70_000, "acme@s-1")
    put(store, database, "c", 5, None)
    assert used_bytes(database.read, "acme@s-1") == 70_010
    put(store, database, "a", 3, "zeta@s-1")
    assert used_bytes(database.read, "acme@s-1") == 70_000
    assert used_bytes(database.read, "zeta@s-1") == 3
    database.write_now(lambda tx: store.move(tx, "b", "a"))
    assert used_bytes(database.read, "acme@s-1") == 70_000
    assert used_bytes(database.read, "zeta@s-1") == 0
    collect(database, folder, 0)
    database.write_now(lambda tx: store.delete(tx, "a"))
    collect(database, folder, 0)
    assert used_bytes(database.read, "acme@s-1") == used_bytes(database.read, "none") == 0
    assert recount(database) == 0


def test_an_undone_transaction_counts_nothing(bucket: Any) -> None:
    """The counter is part of the transaction that writes the object."""
    store, database, _folder = bucket
    upload = store.begin_upload("a", owner="test", metadata={"user-agent-id": "acme@s-1"})
    upload.write(0, [b"12345"])
    staged = upload.finish()

    def fail(tx: Any) -> None:
        store.publish(tx, staged)
        assert used_bytes(tx.execute, "acme@s-1") == 5
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        database.write_now(fail)
    assert used_bytes(database.read, "acme@s-1") == 0


def test_recount_sets_right_what_was_changed(bucket: Any) -> None:
    """Counters that somebody changed, lost or invented are those of the objects again."""
    store, database, _folder = bucket
    put(store, database, "a", 10, "acme@s-1")
    put(store, database, "b", 20, "zeta@s-1")
    for sql in (
        "UPDATE usage SET bytes = 7 WHERE owner = 'acme@s-1'",
        "DELETE FROM usage WHERE owner = 'zeta@s-1'",
        "INSERT INTO usage VALUES('nobody@s-1', 5, 1)",
    ):
        database.write_now(lambda tx, sql=sql: tx.execute(sql))
    assert recount(database) > 0
    assert recount(database) == 0
    found = [used_bytes(database.read, name) for name in ("acme@s-1", "zeta@s-1", "nobody@s-1")]
    assert found == [10, 20, 0]


def test_objects_from_before_are_counted(tmp_path: Path) -> None:
    """A data folder of an earlier feedgate gets counters for what lies in it."""
    database = Database(tmp_path)
    storage = [step for step in embedded.MIGRATIONS if step.name == "storage"]
    database.migrate(storage)
    database.write_now(
        lambda tx: tx.execute(
            "INSERT INTO object_version(bucket, key, version_id, object_id, is_current, size,"
            " sha256, last_modified_ms, kms_key_arn, metadata, wrapped_key, bucket_key, seal,"
            " layout) VALUES('b', x'61', 'v', 'o', 1, 9, '', 0, '',"
            " '{\"user-agent-id\":\"acme@s-1\"}', x'', 1, x'', 'inline')"
        )
    )
    database.migrate(embedded.MIGRATIONS)
    assert used_bytes(database.read, "acme@s-1") == 9
    database.close()
