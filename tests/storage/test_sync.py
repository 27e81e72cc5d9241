"""What was synced on an upload's handle outlives the process."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
from typing import Any

import pytest

from feedgate import limits
from feedgate.errors import CouldNot
from feedgate.storage import garbage

DATA = random.Random(7).randbytes(1_000_000)


def land(place: Any, upload: Any) -> Any:
    """Finish and publish; the staged object."""
    staged = upload.finish()
    place.database.write_now(lambda tx: place.bucket.publish(tx, staged))
    return staged


@pytest.mark.parametrize("user", ["acme", ""])
@pytest.mark.parametrize("size", [10, 60_000, 200_000, 999_999])
def test_an_upload_goes_on_after_it_was_synced(place: Any, size: int, user: str) -> None:
    """Bytes before and after make one object with the right hash; idle syncs are free."""
    upload = place.bucket.begin_upload("k", owner="session", user=user)
    upload.write(0, [DATA[:size]])
    upload.sync()
    upload.sync()
    assert upload.pread(0, size) == DATA[:size]
    upload.write(size, [DATA[size:]])
    upload.write(5, [DATA[5:8]])
    upload.sync()
    staged = land(place, upload)
    assert staged.sha256 == hashlib.sha256(DATA).hexdigest()
    assert place.get("k") == DATA
    place.collect()
    assert place.uploads() == []


@pytest.mark.parametrize("seed", range(8))
def test_writes_in_any_order_with_syncs_between(place: Any, seed: int) -> None:
    """Overlapping writes, holes and truncations around syncs: as in one buffer."""
    chance = random.Random(seed)
    expected = bytearray()
    upload = place.bucket.begin_upload("k", owner="session", user="acme")
    for _ in range(30):
        offset = chance.randrange(300_000)
        data = chance.randbytes(chance.choice((1, 1000, 70_000)))
        upload.write(offset, [data])
        expected.extend(bytes(max(0, offset + len(data) - len(expected))))
        expected[offset : offset + len(data)] = data
        if chance.random() < 0.3:
            upload.sync()
        if chance.random() < 0.1:
            size = chance.randrange(len(expected) + 1)
            upload.truncate(size)
            del expected[size:]
        assert upload.pread(0, len(expected)) == expected
    assert land(place, upload).sha256 == hashlib.sha256(expected).hexdigest()
    assert place.get("k") == expected


def test_syncs_are_bounded(place: Any) -> None:
    """Each ends a part with a descriptor; the one too many is refused and the upload goes on."""
    upload = place.bucket.begin_upload("k", owner="session", user="acme")
    for number in range(limits.PARTS_MAX):
        upload.write(number, [b"x"])
        upload.sync()
    upload.write(limits.PARTS_MAX, [b"y"])
    with pytest.raises(CouldNot, match="synced more than 64 times"):
        upload.sync()
    land(place, upload)
    assert place.get("k") == b"x" * limits.PARTS_MAX + b"y"


CHILD = """
import os, random, signal, sys
from pathlib import Path
from feedgate.database import Database
from feedgate.kms.keyring import Keyring
from feedgate.storage.embedded import EmbeddedBucket

folder = Path(sys.argv[1])
data = random.Random(7).randbytes(1_000_000)
keyring = Keyring.open(folder / "keyring.json")
[arn] = keyring.kms_keys()
bucket = EmbeddedBucket(
    name="landing", arn="arn:aws:s3:::landing", database=Database(folder), folder=folder,
    kms=keyring.key(arn), bucket_key_enabled=False, space_floor_bytes=0,
)
upload = bucket.begin_upload("k", owner="child", user="acme")
for size in (300_000, 333_333):
    upload.write(upload.size, [data[upload.size : size]])
    upload.sync()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.crash
def test_synced_bytes_outlive_a_kill(place: Any) -> None:
    """Not a segment of what was synced is missing when its user goes on after kill -9."""
    process = subprocess.run([sys.executable, "-c", CHILD, str(place.folder)], check=False)
    assert process.returncode == -signal.SIGKILL
    place.now_ms = 10**15  # the child's clock is the real one
    place.sql("UPDATE upload SET lease_until_ms = ?", 2 * 10**15)
    garbage.recover(place.database)
    grain = limits.PARTIAL_GRAIN_BYTES
    size = place.bucket.partial_size("k", "acme")
    assert size == 333_332 // grain * grain
    upload = place.bucket.resume_upload("k", owner="another", user="acme")
    upload.write(size, [DATA[size:]])
    assert land(place, upload).sha256 == hashlib.sha256(DATA).hexdigest()
    assert place.get("k") == DATA
