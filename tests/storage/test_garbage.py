"""What is deleted, and what never is."""

from __future__ import annotations

import os
from typing import Any

import pytest

from feedgate import errors, limits
from feedgate.storage import garbage

LEASE_MS = limits.UPLOAD_LEASE_S * 1000


def rows(place: Any) -> tuple[int, int]:
    """How many versions and inline contents the index holds."""
    [(versions,)] = place.database.read("SELECT count(*) FROM object_version")
    [(inline,)] = place.database.read("SELECT count(*) FROM object_inline")
    return versions, inline


def begin(place: Any, size: int = 100_000) -> Any:
    """An upload with that many bytes written."""
    upload = place.bucket.begin_upload("k", owner="session")
    upload.write(0, [bytes(size)])
    return upload


def publish(place: Any, staged: Any) -> Any:
    """Publish in a transaction of its own."""
    return place.database.write_now(lambda tx: place.bucket.publish(tx, staged))


def test_replaced_and_deleted_versions_go(place: Any) -> None:
    """Parts and rows of versions that are no longer current are removed, others stay."""
    for key in ("a", "b", "c"):
        place.put(key, bytes(100_000))
        place.put(f"small-{key}", b"x")
    place.put("a", bytes(100_001))
    place.put("small-a", b"y")
    place.database.write_now(lambda tx: place.bucket.delete(tx, "b"))
    place.database.write_now(lambda tx: place.bucket.move(tx, "small-b", "small-c"))
    assert (len(place.parts()), rows(place)) == (4, (8, 4))
    assert place.collect() == 2
    assert (len(place.parts()), rows(place)) == (2, (4, 2))
    assert place.get("a") == bytes(100_001)
    assert place.get("c") == bytes(100_000)
    assert place.get("small-a") == b"y"
    assert place.get("small-c") == b"x"
    assert place.collect() == 0


def test_many_are_collected_in_batches(place: Any, monkeypatch: Any) -> None:
    """More than one batch is collected in one call."""
    monkeypatch.setattr(limits, "GARBAGE_BATCH", 3)
    for _ in range(8):
        place.put("k", bytes(70_000))
    assert place.collect() == 7
    assert rows(place) == (1, 0)


def test_wanted_versions_stay(place: Any) -> None:
    """What an unloaded landing still needs is kept until it is not needed any more."""
    first = place.put("k", b"1" * 100_000)
    place.put("k", b"2" * 100_000)
    assert place.collect(wanted=lambda ids: [i for i in ids if i == first.object_id]) == 0
    reader = place.bucket.open_version(first.object_id, first.version_id)
    assert reader is not None
    reader.close()
    assert place.collect() == 1


def test_open_reader_keeps_reading_after_collection(place: Any) -> None:
    """An open file outlives its name."""
    place.put("k", b"1" * 300_000)
    reader = place.bucket.open("k")
    assert reader is not None
    place.database.write_now(lambda tx: place.bucket.delete(tx, "k"))
    assert place.collect() == 1
    assert place.parts() == []
    assert reader.pread(250_000, 10) == b"1" * 10
    reader.close()


def test_lease_that_expired_is_collected(place: Any) -> None:
    """An upload that wrote nothing for the length of its lease loses its parts, and is told so."""
    upload = begin(place)
    place.now_ms += LEASE_MS - 1
    assert place.collect() == 0
    place.now_ms += 1
    assert place.collect() == 1
    assert (place.parts(), place.uploads()) == ([], [])
    with pytest.raises(errors.CouldNot, match="idle"):
        upload.write(100_000, [b"more"])
    upload.abort()


def test_expired_upload_cannot_be_published(place: Any) -> None:
    """Once collected, a finished upload can never become visible."""
    staged = begin(place).finish()
    place.now_ms += LEASE_MS
    place.collect()
    with pytest.raises(errors.CouldNot, match="idle"):
        publish(place, staged)
    assert place.bucket.head("k") is None


def test_writing_renews_the_lease(place: Any) -> None:
    """A slow upload that keeps writing is never collected."""
    upload = begin(place)
    for number in range(4):
        place.now_ms += LEASE_MS * 3 // 4
        upload.write(100_000 + number, [b"x"])
        assert place.collect() == 0
    publish(place, upload.finish())
    place.now_ms += 10 * LEASE_MS
    assert place.collect() == 0
    assert place.get("k") == bytes(100_000) + b"xxxx"


def test_recover_expires_every_lease_and_release_one_owners(place: Any) -> None:
    """At the start of a gateway all uploads are dead; when a worker dies, its own are."""
    upload = begin(place)
    assert garbage.release(place.database, "somebody else") == 0
    assert place.collect() == 0
    assert garbage.release(place.database, "session") == 1
    assert place.collect() == 1
    other = begin(place)
    assert garbage.recover(place.database) == 1
    assert place.collect() == 1
    for dead in (upload, other):
        dead.abort()
    assert place.uploads() == []


def test_unknown_files_are_left_alone(place: Any) -> None:
    """Absence from the index is no reason: what no dead row names stays."""
    info = place.put("k", bytes(100_000))
    [part] = place.parts()
    stranger = part.with_name("f" * 32 + ".1")
    stranger.write_bytes(b"?")
    lookalike = part.with_name(part.name.replace(".", "0."))
    lookalike.write_bytes(b"?")
    place.database.write_now(lambda tx: place.bucket.delete(tx, "k"))
    assert place.collect() == 1
    assert sorted(place.parts()) == sorted([stranger, lookalike])
    assert info.object_id not in {path.name.split(".")[0] for path in place.parts()}


def test_row_goes_only_after_its_file(place: Any, monkeypatch: Any) -> None:
    """When unlinking fails, the row stays and the next collection does it."""
    place.put("k", bytes(100_000))
    upload = begin(place)
    garbage.recover(place.database)
    place.put("k", b"small")

    def fail(_path: object) -> None:
        raise PermissionError(13, "no")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fail)
        with pytest.raises(errors.CouldNot):
            place.collect()
    assert (len(place.parts()), len(place.uploads())) == (2, 1)
    assert place.collect() == 2
    upload.abort()
    assert (place.parts(), place.uploads(), rows(place)) == ([], [], (1, 1))


def test_parts_of_an_object_that_is_current_somewhere_stay(place: Any) -> None:
    """A dead version that shares its object with a live one takes nothing with it."""
    info = place.put("k", b"1" * 100_000)
    place.sql(
        "INSERT INTO object_version(bucket, key, version_id, object_id, is_current, size, sha256,"
        " last_modified_ms, kms_key_arn, metadata, wrapped_key, bucket_key, seal, layout)"
        " SELECT bucket, key, 'older', object_id, 0, size, sha256, last_modified_ms, kms_key_arn,"
        " metadata, wrapped_key, bucket_key, seal, layout FROM object_version"
    )
    assert place.collect() == 0
    assert place.get("k") == b"1" * 100_000
    assert place.bucket.head("k") == info
