"""A data folder with one bucket, for tests that look behind the Bucket protocol."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feedgate.database import Database
from feedgate.kms.keyring import Keyring
from feedgate.storage import embedded
from feedgate.storage.bucket import ObjectInfo
from feedgate.storage.embedded import EmbeddedBucket
from feedgate.storage.garbage import collect

KMS_KEY_ARN = "arn:aws:kms:us-east-1:000000000000:key/k"


class Place:
    """A data folder; ``bucket`` is ``landing`` in it. ``now_ms`` is the buckets' clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_ms = 1_000_000
        self.database = Database(folder)
        self.database.migrate(embedded.MIGRATIONS)
        self.keyring = Keyring.create(folder / "keyring.json")
        self.keyring.ensure(KMS_KEY_ARN, enable_rotation=False, now_ms=0)
        self.bucket = self.make()

    def make(self, name: str = "landing", **options: Any) -> EmbeddedBucket:
        """A bucket of this folder."""
        arguments: dict[str, Any] = {
            "name": name,
            "arn": f"arn:aws:s3:::{name}",
            "database": self.database,
            "folder": self.folder,
            "kms": self.keyring.key(KMS_KEY_ARN),
            "bucket_key_enabled": False,
            "space_floor_bytes": 0,
            "now_ms": lambda: self.now_ms,
            **options,
        }
        return EmbeddedBucket(**arguments)

    def put(self, key: str, data: bytes, bucket: EmbeddedBucket | None = None) -> ObjectInfo:
        """Upload in one piece and publish."""
        bucket = bucket or self.bucket
        upload = bucket.begin_upload(key, owner="session")
        upload.write(0, [data])
        staged = upload.finish()
        return self.database.write_now(lambda tx: bucket.publish(tx, staged))

    def get(self, key: str, bucket: EmbeddedBucket | None = None) -> bytes:
        """The whole object."""
        reader = (bucket or self.bucket).open(key)
        assert reader is not None
        try:
            return reader.pread(0, reader.info.size)
        finally:
            reader.close()

    def parts(self) -> list[Path]:
        """Every part file."""
        return sorted(path for path in (self.folder / "parts").rglob("*") if path.is_file())

    def uploads(self) -> list[str]:
        """The object ids of the rows in ``upload``."""
        return [row[0] for row in self.database.read("SELECT object_id FROM upload")]

    def collect(self, **options: Any) -> int:
        """Collect garbage as of now."""
        return collect(self.database, self.folder, self.now_ms, **options)

    def sql(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        """What someone with write access to the file can do."""
        return self.database.write_now(lambda tx: tx.execute(statement, params))


@pytest.fixture
def place() -> Iterator[Place]:
    """A fresh data folder with a bucket."""
    yield from _places()


@pytest.fixture(scope="module")
def long_lived() -> Iterator[Place]:
    """A data folder for many examples."""
    yield from _places()


def _places() -> Iterator[Place]:
    """One data folder; in memory where there is such a place, for speed."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        made = Place(Path(folder))
        yield made
        made.database.close()
