"""kill -9 in the middle: nothing half-visible, nothing lost that was acknowledged, no rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from feedgate.storage import garbage

CHILD = """
import os, signal, sys, time
from pathlib import Path
from feedgate.database import Database
from feedgate.kms.keyring import Keyring
from feedgate.storage.embedded import EmbeddedBucket

folder, point = Path(sys.argv[1]), sys.argv[2]

def crash_at(passed):
    if passed == point:
        os.kill(os.getpid(), signal.SIGKILL)

keyring = Keyring.open(folder / "keyring.json")
[arn] = keyring.kms_keys()
database = Database(folder)
bucket = EmbeddedBucket(
    name="landing", arn="arn:aws:s3:::landing", database=database, folder=folder,
    kms=keyring.key(arn), bucket_key_enabled=False, space_floor_bytes=0, crash_at=crash_at,
)
number = 0
while True:
    data = bytes([number % 251]) * (300_000 if number % 2 else 3_000)
    if point == "large":
        data *= 30
    upload = bucket.begin_upload(f"k{number}", owner="child")
    for offset in range(0, len(data), 100_000):
        upload.write(offset, [data[offset : offset + 100_000]])
        crash_at(f"write-{number}")
    staged = upload.finish()
    crash_at("finished")

    def publish(tx):
        bucket.publish(tx, staged)
        crash_at(f"publish-{number}")

    database.write_now(publish)
    print(number, flush=True)
    number += 1
"""


def run(place: Any, point: str) -> subprocess.Popen[str]:
    """A process that uploads and prints what is durable, until it kills itself at ``point``."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(place.folder), point],
        stdout=subprocess.PIPE,
        text=True,
    )


def expected(number: int, *, large: bool = False) -> bytes:
    """What the child writes as its object of that number."""
    return bytes([number % 251]) * (300_000 if number % 2 else 3_000) * (30 if large else 1)


def check(place: Any, acknowledged: int, *, large: bool = False) -> None:
    """Acknowledged objects are whole, at most one more is there, and garbage goes."""
    visible = {info.key for info in place.bucket.list().objects}
    needed = {f"k{number}" for number in range(acknowledged)}
    assert needed <= visible <= needed | {f"k{acknowledged}"}
    for key in visible:
        assert place.get(key) == expected(int(key[1:]), large=large)
    garbage.recover(place.database)
    place.collect()
    named = {
        row[0]
        for row in place.database.read(
            "SELECT object_id FROM object_version WHERE layout <> 'inline'"
        )
    }
    assert {path.name.split(".")[0] for path in place.parts()} == named
    assert place.uploads() == []
    place.put("after", b"alive")
    assert place.get("after") == b"alive"


@pytest.mark.crash
@pytest.mark.parametrize(
    ("point", "acknowledged"),
    [
        ("write-0", 0),
        ("write-1", 1),
        ("part-written", 1),
        ("part-synced", 1),
        ("finished", 0),
        ("publish-0", 0),
        ("publish-1", 1),
    ],
)
def test_kill_at_a_point(place: Any, point: str, acknowledged: int) -> None:
    """Killed at that point, what was not acknowledged is invisible and leaves no part behind."""
    process = run(place, point)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert len(output.split()) == acknowledged
    check(place, acknowledged)
    assert place.bucket.head(f"k{acknowledged}") is None


@pytest.mark.crash
@pytest.mark.parametrize("objects", [1, 5, 12])
def test_kill_at_any_moment(place: Any, objects: int) -> None:
    """Killed from outside while it uploads, the same holds."""
    process = run(place, "large")
    assert process.stdout is not None
    for _ in range(objects):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split()
    process.wait()
    check(place, objects + len(rest), large=True)


def test_parts_folder_is_made_whole(tmp_path: Path) -> None:
    """A start that was interrupted half-way through making the 256 directories is completed."""
    from feedgate.storage.partfiles import PartFiles

    (tmp_path / "parts" / "00").mkdir(parents=True)
    PartFiles(tmp_path)
    names = sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert names == [f"{number:02x}" for number in range(256)]
