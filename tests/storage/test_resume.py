"""What is left of an interrupted upload: kept, told, resumed, given up; by kill -9 too."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
from typing import Any

import pytest

from feedgate import errors, limits
from feedgate.storage import garbage

GRAIN = limits.PARTIAL_GRAIN_BYTES
DATA = random.Random(7).randbytes(1_000_000)


def cut_short(place: Any, size: int, *, user: str = "acme", key: str = "k") -> int:
    """Upload so many bytes and lose the session; how many are kept."""
    upload = place.bucket.begin_upload(key, owner="session", user=user)
    upload.write(0, [DATA[:size]])
    return int(upload.keep())


def resume(place: Any, owner: str = "another") -> Any:
    """Take over what is left."""
    upload = place.bucket.resume_upload("k", owner=owner, user="acme")
    assert upload is not None
    return upload


def land(place: Any, upload: Any) -> Any:
    """Finish and publish; the staged object."""
    staged = upload.finish()
    place.database.write_now(lambda tx: place.bucket.publish(tx, staged))
    return staged


def check_landed(place: Any, staged: Any) -> None:
    """The object is whole, its hash right, and nothing else is left."""
    assert staged.sha256 == hashlib.sha256(DATA).hexdigest()
    assert place.get("k") == DATA
    place.collect()
    assert place.uploads() == []
    assert {path.name.split(".")[0] for path in place.parts()} == {staged.object_id}
    assert place.bucket.partial_size("k", "acme") is None


def test_a_partial_is_told_to_its_user_alone(place: Any) -> None:
    """Its size is told under its key to its user, and nothing of it is visible."""
    kept = cut_short(place, 500_000)
    assert kept == 499_999 // GRAIN * GRAIN
    assert place.bucket.partial_size("k", "acme") == kept
    assert place.bucket.partial_bytes("acme") == kept
    assert place.bucket.partial_size("k", "other") is None
    assert place.bucket.partial_size("other", "acme") is None
    assert place.bucket.partial_bytes("other") == 0
    assert place.bucket.resume_upload("k", owner="s", user="other") is None
    assert place.bucket.head("k") is None
    assert place.bucket.list().objects == ()


def test_whoever_sent_everything_has_something_left_to_send(place: Any) -> None:
    """A partial never holds all that was sent: so its client must write, and CLOSE, again."""
    for size in (GRAIN * 3, GRAIN * 3 + 1, len(DATA)):
        assert 0 < cut_short(place, size) < size


def test_little_is_not_kept(place: Any) -> None:
    """What lay in memory only is sent again: no row, no part."""
    assert cut_short(place, 60_000) == 0
    assert place.bucket.partial_size("k", "acme") is None
    assert (place.uploads(), place.parts()) == ([], [])


def test_a_resumed_upload_lands_whole(place: Any) -> None:
    """The first session's bytes and the second's are one object, with its SHA-256."""
    kept = cut_short(place, 500_000)
    upload = resume(place)
    assert upload.size == kept
    assert upload.pread(kept - 10, 20) == DATA[kept - 10 : kept]
    upload.write(kept, [DATA[kept:]])
    check_landed(place, land(place, upload))
    assert len(place.parts()) == 2


def test_many_resumes(place: Any, monkeypatch: Any) -> None:
    """Each session adds a part; above the bound they become one."""
    monkeypatch.setattr(limits, "PARTS_MAX", 4)
    kept = cut_short(place, 100_000)
    for number in range(2, 9):
        upload = resume(place)
        assert upload.size == kept
        upload.write(kept, [DATA[kept : number * 100_000]])
        kept = upload.keep()
        assert kept == (number * 100_000 - 1) // GRAIN * GRAIN
        place.collect()
        assert len(place.parts()) <= 5
    upload = resume(place)
    upload.write(kept, [DATA[kept:]])
    check_landed(place, land(place, upload))


def test_bytes_after_a_gap_are_not_kept(place: Any) -> None:
    """A partial ends where its first gap begins: a client goes on from its size."""
    upload = place.bucket.begin_upload("k", owner="session", user="acme")
    upload.write(0, [DATA[:200_000]])
    upload.write(300_000, [DATA[300_000:400_000]])
    kept = upload.keep()
    assert kept == 199_999 // GRAIN * GRAIN
    upload = resume(place)
    upload.write(kept, [DATA[kept:]])
    check_landed(place, land(place, upload))


def test_a_header_rewritten_before_the_loss_is_kept(place: Any) -> None:
    """Overwritten bytes of a partial are the newer ones, after another loss, too."""
    upload = place.bucket.begin_upload("k", owner="session", user="acme")
    upload.write(0, [b"?" * 10 + DATA[10:500_000]])
    upload.write(0, [DATA[:10]])
    kept = upload.keep()
    upload = resume(place)
    upload.write(kept, [DATA[kept : kept + 200_000]])
    kept = upload.keep()
    upload = resume(place)
    upload.write(kept, [DATA[kept:]])
    check_landed(place, land(place, upload))


def test_a_resume_that_truncates(place: Any) -> None:
    """A resumed upload may be cut below what was kept and go on from there."""
    kept = cut_short(place, 500_000)
    upload = resume(place)
    upload.truncate(100_000)
    upload.write(100_000, [DATA[100_000 : kept + 1]])
    kept = upload.keep()
    upload = resume(place)
    upload.write(kept, [DATA[kept:]])
    check_landed(place, land(place, upload))


def test_one_session_resumes(place: Any) -> None:
    """While a session has a partial, it is told to no other, until that one is lost, too."""
    cut_short(place, 500_000)
    first = resume(place, "first")
    assert place.bucket.partial_size("k", "acme") is None
    assert place.bucket.resume_upload("k", owner="second", user="acme") is None
    kept = first.keep()
    assert place.bucket.partial_size("k", "acme") == kept
    resume(place, "second").abort()
    assert place.bucket.partial_size("k", "acme") is None
    place.collect()
    assert place.parts() == []


def test_an_upload_under_way_is_no_partial(place: Any) -> None:
    """A live session's upload is neither told nor dropped, however it looks from outside."""
    upload = place.bucket.begin_upload("k", owner="session", user="acme")
    upload.write(0, [DATA[:500_000]])
    assert place.bucket.partial_size("k", "acme") is None
    assert place.bucket.drop_partials("k", "acme") == 0
    upload.write(500_000, [DATA[500_000:]])
    check_landed(place, land(place, upload))


def test_the_newest_partial_counts(place: Any) -> None:
    """There is one partial for a user and key: a newer one replaces it."""
    cut_short(place, 800_000)
    place.now_ms += 1
    kept = cut_short(place, 200_000)
    assert place.bucket.partial_size("k", "acme") == kept
    assert place.collect() == 1
    assert place.bucket.partial_bytes("acme") == kept


def test_dropped_and_expired_partials_go(place: Any) -> None:
    """Who begins anew drops the partial; nobody comes: it goes when its time is over."""
    cut_short(place, 500_000)
    assert place.bucket.drop_partials("k", "other") == 0
    assert place.bucket.drop_partials("k", "acme") == 1
    assert place.bucket.partial_size("k", "acme") is None
    assert place.collect() == 1
    cut_short(place, 500_000)
    place.now_ms += limits.PARTIAL_S * 1000 - 1
    assert place.collect() == 0
    place.now_ms += 1
    assert place.bucket.partial_size("k", "acme") is None
    assert place.collect() == 1
    assert (place.uploads(), place.parts()) == ([], [])


def test_retention_is_an_option(place: Any) -> None:
    """A bucket may keep partials for another time."""
    bucket = place.make(partial_s=10)
    upload = bucket.begin_upload("k", owner="session", user="acme")
    upload.write(0, [DATA])
    assert upload.keep()
    place.now_ms += 10_000
    assert place.collect() == 1


def test_partials_survive_a_new_kms_key_and_no_change_of_it(place: Any) -> None:
    """A partial stays under the data key that it began with."""
    kept = cut_short(place, 500_000)
    place.keyring.ensure("arn:new", enable_rotation=False, now_ms=0)
    place.bucket = place.make(
        kms=place.keyring.key("arn:new"), kms_key=place.keyring.key, bucket_key_enabled=True
    )
    upload = resume(place)
    upload.write(kept, [DATA[kept:]])
    check_landed(place, land(place, upload))


@pytest.mark.parametrize("column", ["user", "key", "state"])
def test_a_partial_cannot_be_given_to_another(place: Any, column: str) -> None:
    """Who can write the database can neither move a partial nor rearrange it unnoticed."""
    cut_short(place, 500_000)
    changed: Any = {"user": "mallory", "key": b"m", "state": "[[],[],0,-1]"}[column]
    place.sql(f"UPDATE upload SET {column} = ?", changed)
    user, key = ("mallory", "k") if column == "user" else ("acme", "m" if column == "key" else "k")
    with pytest.raises(errors.Integrity):
        place.bucket.partial_size(key, user)
    with pytest.raises(errors.Integrity):
        place.bucket.resume_upload(key, owner="s", user=user)


def test_damage_in_a_part_shows_at_the_end(place: Any) -> None:
    """Bytes of a partial that were changed on disk never become an object."""
    kept = cut_short(place, 500_000)
    [part] = place.parts()
    damaged = bytearray(part.read_bytes())
    damaged[100_000] ^= 1
    part.write_bytes(damaged)
    upload = resume(place)
    upload.write(kept, [DATA[kept:]])
    with pytest.raises(errors.Integrity):
        upload.finish()
    upload.abort()
    assert place.bucket.head("k") is None


# -- kill -9 ---------------------------------------------------------------------------------------

CHILD = """
import os, random, signal, sys
from pathlib import Path
from feedgate import limits
from feedgate.database import Database
from feedgate.kms.keyring import Keyring
from feedgate.storage.embedded import EmbeddedBucket

folder, point, how = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
data = random.Random(7).randbytes(1_000_000)

def crash_at(passed):
    if passed == point:
        os.kill(os.getpid(), signal.SIGKILL)

keyring = Keyring.open(folder / "keyring.json")
[arn] = keyring.kms_keys()
bucket = EmbeddedBucket(
    name="landing", arn="arn:aws:s3:::landing", database=Database(folder), folder=folder,
    kms=keyring.key(arn), bucket_key_enabled=False, space_floor_bytes=0, crash_at=crash_at,
)
upload = bucket.resume_upload("k", owner="child", user="acme")
if upload is None:
    upload = bucket.begin_upload("k", owner="child", user="acme")
begin = upload.size
if how == "over":
    upload.write(0, [b"?" * 400_000])
    upload.write(100_000, [data[100_000:100_010]])
    upload.write(50_000, [data[50_000:350_000]])
    begin = 400_000
if how == "header":
    limits.EARLY_SYNC_BYTES = 1
    upload.write(begin, [b"?" * 100 + data[begin + 100 : begin + 300_000]])
    upload.write(begin, [data[begin : begin + 100]])
    upload._flush_window()
    begin += 300_000
for offset in range(begin, begin + 400_000, 10_000):
    upload.write(offset, [data[offset : offset + 10_000]])
crash_at("written")
upload.keep()
crash_at("kept")
"""


def killed(place: Any, point: str, how: str = "plain") -> None:
    """A process that uploads, or goes on with it, until it kills itself at ``point``."""
    process = subprocess.run(
        [sys.executable, "-c", CHILD, str(place.folder), point, how], check=False
    )
    assert process.returncode == -signal.SIGKILL


@pytest.mark.crash
@pytest.mark.parametrize("how", ["plain", "header"])
@pytest.mark.parametrize("noticed", [True, False])
@pytest.mark.parametrize(
    "point", ["written", "part-written", "part-synced", "partial-before-commit", "kept"]
)
def test_killed_and_resumed(place: Any, point: str, noticed: bool, how: str) -> None:
    """Killed anywhere, twice, an upload goes on with what can be read, and lands whole.

    ``noticed``: the gateway was started again; otherwise only that worker died.
    """
    sizes = []
    for _ in range(2):
        killed(place, point, how)
        place.now_ms = 10**15  # the child's clock is the real one
        place.sql("UPDATE upload SET lease_until_ms = ?", 2 * 10**15)
        if noticed:
            garbage.recover(place.database)
        assert place.collect() == 0
        size = place.bucket.partial_size("k", "acme")
        assert size is not None
        assert size % GRAIN == 0
        sizes.append(size)
        assert size <= place.bucket.partial_bytes("acme")
        place.sql("UPDATE upload SET began_ms = 1")
    assert 0 < sizes[0] <= sizes[1] < len(DATA)
    assert how == "header" or sizes[0] < sizes[1]
    upload = resume(place)
    for number, size in enumerate(sizes):
        assert upload.pread(size - 70_000, 70_000) == DATA[size - 70_000 : size], number
    upload.write(sizes[1], [DATA[sizes[1] :]])
    staged = land(place, upload)
    assert staged.sha256 == hashlib.sha256(DATA).hexdigest()
    assert place.get("k") == DATA
    place.collect()
    assert place.uploads() == []


@pytest.mark.crash
def test_what_was_being_written_over_is_not_told(place: Any) -> None:
    """Bytes that a client had replaced, and was told so, never come back by a resume."""
    killed(place, "written", "over")
    place.sql("UPDATE upload SET lease_until_ms = ?", 2 * 10**15)
    size = place.bucket.partial_size("k", "acme")
    assert size is None or size <= 50_000


@pytest.mark.crash
def test_torn_segments_are_not_told(place: Any) -> None:
    """After a loss of power, what of the part does not verify is not part of the partial."""
    killed(place, "written")
    place.sql("UPDATE upload SET lease_until_ms = ?", 2 * 10**15)
    garbage.recover(place.database)
    [part] = place.parts()
    with part.open("r+b") as stream:
        stream.seek(limits.SEGMENT_BYTES * 2 + 100)
        stream.write(bytes(50))
    size = place.bucket.partial_size("k", "acme")
    assert size == (2 * (limits.SEGMENT_BYTES - 16) - 40 - 1) // GRAIN * GRAIN
    upload = resume(place)
    upload.write(size, [DATA[size:]])
    check_landed(place, land(place, upload))


@pytest.mark.crash
def test_nothing_readable_is_given_up(place: Any) -> None:
    """A part of which not even one segment is there is no partial."""
    killed(place, "written")
    place.sql("UPDATE upload SET lease_until_ms = ?", 2 * 10**15)
    garbage.recover(place.database)
    [part] = place.parts()
    os.truncate(part, 1000)
    assert place.bucket.partial_size("k", "acme") is None
    assert place.collect() == 1
    assert place.uploads() == []
