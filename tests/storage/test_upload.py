"""Uploads into the embedded bucket: what they cost, hold, refuse, and how they fail."""

from __future__ import annotations

import errno
import hashlib
import os
import random
from typing import Any

import pytest

from feedgate import errors, limits
from feedgate.storage import partfiles
from feedgate.storage import upload as upload_module
from feedgate.storage.bucket import Upload

INLINE = limits.INLINE_OBJECT_BYTES_MAX - 56
MIB = 1 << 20


def complete(upload: Upload, offset: int, mebibytes: int) -> None:
    """Write so much from ``offset`` on and finish."""
    for number in range(mebibytes):
        upload.write(offset + number * MIB, [bytes(MIB)])
    upload.finish()


def test_small_upload_is_memory_only_until_it_is_published(place: Any) -> None:
    """Up to 64 KiB of ciphertext there is neither row nor file, and the bytes lie in the index."""
    upload = place.bucket.begin_upload("k", owner="session")
    upload.write(0, [bytes(INLINE)])
    assert (place.uploads(), place.parts()) == ([], [])
    staged = upload.finish()
    assert (place.uploads(), place.parts()) == ([], [])
    place.database.write_now(lambda tx: place.bucket.publish(tx, staged))
    assert place.parts() == []
    [(length,)] = place.database.read("SELECT length(ciphertext) FROM object_inline")
    assert length == limits.INLINE_OBJECT_BYTES_MAX


@pytest.mark.parametrize("more", ["nothing", "a write", "a write before", "a cut", "much"])
def test_sealed_ahead_is_what_was_written(place: Any, more: str) -> None:
    """What was sealed while nobody waited counts only if nothing was written after it."""
    upload = place.bucket.begin_upload("k", owner="session")
    upload.write(10, [b"old bytes"])
    upload.seal_ahead()
    expected = bytes(10) + b"old bytes"
    if more == "a write":
        upload.write(10, [b"new"])
        expected = bytes(10) + b"new bytes"
    elif more == "a write before":
        upload.write(0, [b"0123456789"])
        expected = b"0123456789old bytes"
    elif more == "a cut":
        upload.truncate(13)
        expected = bytes(10) + b"old"
    elif more == "much":
        upload.write(0, [b"x" * (INLINE + 1)])
        expected = b"x" * (INLINE + 1)
    upload.seal_ahead()
    staged = upload.finish()
    place.database.write_now(lambda tx: place.bucket.publish(tx, staged))
    reader = place.bucket.open("k")
    assert reader.pread(0, 1 << 20) == expected
    assert reader.info.sha256 == hashlib.sha256(expected).hexdigest()


def test_larger_upload_is_first_a_row_then_a_file(place: Any, monkeypatch: Any) -> None:
    """The row with owner, lease and wrapped data key is committed before the file exists."""
    order = []
    create = partfiles.PartFiles.create

    def watched(files: partfiles.PartFiles, object_id: str, number: int) -> int:
        order.append((place.uploads() == [object_id], place.parts()))
        return create(files, object_id, number)

    monkeypatch.setattr(partfiles.PartFiles, "create", watched)
    upload = place.bucket.begin_upload("k", owner="session")
    upload.write(0, [bytes(INLINE + 1)])
    assert order == [(True, [])]
    [(owner, lease, wrapped)] = place.database.read(
        "SELECT owner, lease_until_ms, wrapped_key FROM upload"
    )
    assert owner == "session"
    assert lease == place.now_ms + limits.UPLOAD_LEASE_S * 1000
    context = {"aws:s3:arn": "arn:aws:s3:::landing/k"}
    assert len(place.keyring.key(place.bucket._store.kms.arn).decrypt(wrapped, context)) == 32
    [part] = place.parts()
    assert part.name == f"{upload.object_id}.1"
    assert part.parent.name == upload.object_id[:2]
    assert part.stat().st_mode & 0o777 == 0o600
    staged = upload.finish()
    place.database.write_now(lambda tx: place.bucket.publish(tx, staged))
    assert place.uploads() == []


def test_no_plaintext_on_disk(place: Any) -> None:
    """Neither index, WAL nor parts hold what was uploaded."""
    secret = b"name;iban\nAda;DE89370400440532013000\n" * 10
    place.put("small", secret)
    place.put("large", secret * 1000)
    for path in place.folder.rglob("*"):
        if path.is_file():
            assert b"DE89370400440532013000" not in path.read_bytes()


def test_sequential_upload_is_one_extent_and_hashed_on_the_fly(
    place: Any, monkeypatch: Any
) -> None:
    """A sequential upload with packets a little out of order is never read back."""
    monkeypatch.setattr("feedgate.storage.upload.sha256_of", None)
    data = random.Random(1).randbytes(3 * MIB)
    upload = place.bucket.begin_upload("k", owner="session")
    offsets = list(range(0, len(data), 32 * 1024))
    for at in range(0, len(offsets), 8):
        random.Random(at).shuffle(group := offsets[at : at + 8])
        for offset in group:
            upload.write(offset, [data[offset : offset + 32 * 1024]])
    staged = upload.finish()
    assert len(list(upload._extents)) == 1
    assert staged.sha256 == hashlib.sha256(data).hexdigest()


def test_memory_is_bounded_by_the_window(place: Any) -> None:
    """What can never be contiguous is written out once the window is full, and reads right."""
    upload = place.bucket.begin_upload("k", owner="session")
    block = bytes(range(256)) * 4096
    for number in range(1, 40):  # nothing before offset 1 MiB
        upload.write(number * MIB, [block])
        assert upload._window.cost <= limits.REORDER_WINDOW_BYTES + MIB
    upload.write(0, [block])
    assert len(list(upload._extents)) <= 5
    staged = upload.finish()
    place.database.write_now(lambda tx: place.bucket.publish(tx, staged))
    assert place.get("k") == block * 40
    assert staged.sha256 == hashlib.sha256(block * 40).hexdigest()


def test_windows_of_all_uploads_are_bounded_together(place: Any, monkeypatch: Any) -> None:
    """Above the process's bound each upload holds no more than its share, and reads right."""
    held = upload_module._held
    before = held._bytes
    monkeypatch.setattr(limits, "UPLOADS_HELD_BYTES_MAX", before + 4 * MIB)
    block = random.Random(1).randbytes(MIB // 8)
    uploads = [place.bucket.begin_upload(f"k{number}", owner="session") for number in range(8)]
    for upload in uploads:
        for number in range(1, 17):  # nothing before offset 128 KiB
            upload.write(number * len(block), [block])
        assert held._bytes - before <= 4 * MIB + 8 * (limits.UPLOAD_SHARE_BYTES + len(block))
    assert held._bytes - before > 4 * MIB
    uploads.pop().abort()
    for upload in uploads:
        upload.write(0, [block])
        staged = upload.finish()
        assert staged.sha256 == hashlib.sha256(block * 17).hexdigest()
    assert held._bytes == before


def test_tiny_pieces_of_a_small_upload_are_bounded_too(place: Any, monkeypatch: Any) -> None:
    """Single bytes out of order cost more than themselves; under pressure they go to a part."""
    held = upload_module._held
    before = held._bytes
    monkeypatch.setattr(limits, "UPLOADS_HELD_BYTES_MAX", before)
    upload = place.bucket.begin_upload("k", owner="session")
    for offset in range(4000, 0, -1):
        upload.write(offset, [b"x"])
        assert held._bytes - before <= limits.UPLOAD_SHARE_BYTES + 1000
    upload.write(0, [b"x"])
    assert upload.finish().sha256 == hashlib.sha256(b"x" * 4001).hexdigest()
    assert held._bytes == before


def test_overwrite_of_what_is_sealed_counts(place: Any) -> None:
    """A header written at the end, as some writers do, replaces what was sealed long ago."""
    upload = place.bucket.begin_upload("k", owner="session")
    upload.write(0, [bytes(20 * MIB)])
    upload.write(0, [b"HEAD"])
    upload.write(10 * MIB, [b"MIDDLE"])
    staged = upload.finish()
    place.database.write_now(lambda tx: place.bucket.publish(tx, staged))
    expected = bytearray(20 * MIB)
    expected[:4] = b"HEAD"
    expected[10 * MIB : 10 * MIB + 6] = b"MIDDLE"
    assert place.get("k") == expected
    assert staged.sha256 == hashlib.sha256(expected).hexdigest()


def test_too_scattered_is_refused(place: Any, monkeypatch: Any) -> None:
    """More extents than the bound make the upload fail by name, and nothing stays visible."""
    monkeypatch.setattr(limits, "EXTENTS_OPEN_MAX", 20)
    upload = place.bucket.begin_upload("k", owner="session")
    for number in range(30):
        upload.write(100_000 * number, [b"x"])
    with pytest.raises(errors.Unsupported, match="scattered"):
        upload.finish()
    upload.abort()
    assert place.bucket.head("k") is None
    assert place.parts() == []


@pytest.mark.parametrize("offset", [limits.HOLE_BYTES_MAX + 11, limits.OBJECT_BYTES_MAX])
def test_absurd_offsets_are_refused_and_the_upload_goes_on(place: Any, offset: int) -> None:
    """A gap of more than 64 MiB or an object above 5 TiB is refused before anything is stored."""
    upload = place.bucket.begin_upload("k", owner="session")
    upload.write(0, [b"0123456789"])
    with pytest.raises(errors.Unsupported):
        upload.write(offset, [b"x"])
    staged = upload.finish()
    assert staged.size == 10


def test_many_gaps_are_bounded_together(place: Any, monkeypatch: Any) -> None:
    """Holes are limited in total: SHA-256 must pass over them."""
    monkeypatch.setattr(limits, "HOLE_BYTES_MAX", MIB)
    upload = place.bucket.begin_upload("k", owner="session")
    for number in range(3):
        upload.write(number * MIB, [b"x"])
    with pytest.raises(errors.Unsupported, match="never written"):
        upload.finish()


def test_floor_of_free_space(place: Any, monkeypatch: Any) -> None:
    """Below the floor new uploads and growing ones fail; reading goes on; it recovers by itself."""
    bucket = place.make(space_floor_bytes=1000 * MIB)
    free = 2000 * MIB
    real = os.statvfs(place.folder)

    def statvfs(_path: object) -> os.statvfs_result:
        values = list(real)
        values[4] = free // real.f_frsize  # f_bavail
        return os.statvfs_result(values)

    monkeypatch.setattr(partfiles.os, "statvfs", statvfs)
    place.put("k", bytes(100_000), bucket)
    upload = bucket.begin_upload("grows", owner="session")
    upload.write(0, [bytes(MIB)])
    free = 999 * MIB
    with pytest.raises(errors.NoSpace, match="999 MiB are free"):
        bucket.begin_upload("new", owner="session")
    with pytest.raises(errors.NoSpace):
        upload.write(MIB, [bytes(2 * limits.SPACE_CHECK_BYTES)])
    with pytest.raises(errors.NoSpace):
        upload.finish()
    upload.abort()
    assert place.get("k", bucket) == bytes(100_000)
    free = 1001 * MIB
    place.put("new", b"again", bucket)
    assert place.get("new", bucket) == b"again"


def test_default_floor_is_the_smaller_of_the_two(place: Any, monkeypatch: Any) -> None:
    """Unless told otherwise the floor is 5 % of the file system or 1 GiB."""
    real = list(os.statvfs(place.folder))

    def disk(total_mib: int, free_mib: int) -> None:
        values = list(real)
        values[1], values[2] = total_mib * 256, total_mib * 256
        values[0] = values[1] = 4096
        values[2], values[4] = total_mib * 256, free_mib * 256
        monkeypatch.setattr(partfiles.os, "statvfs", lambda _p: os.statvfs_result(values))

    floor = partfiles.SpaceFloor(place.folder)
    for total, free, refused in [(1000, 49, True), (1000, 51, False), (10**6, 1023, True)]:
        disk(total, free)
        if refused:
            with pytest.raises(errors.NoSpace):
                floor.check()
        else:
            floor.check()


@pytest.mark.parametrize(
    ("call", "code", "kind"),
    [
        ("write", errno.ENOSPC, errors.NoSpace),
        ("write", errno.EDQUOT, errors.NoSpace),
        ("write", errno.EIO, errors.CouldNot),
        ("fdatasync", errno.EIO, errors.CouldNot),
        ("fsync", errno.EIO, errors.CouldNot),
    ],
)
def test_disk_errors_are_final(
    place: Any, monkeypatch: Any, call: str, code: int, kind: type[errors.FeedgateError]
) -> None:
    """A failed write or sync fails the upload for good; a second try proves nothing."""
    upload = place.bucket.begin_upload("k", owner="session")
    upload.write(0, [bytes(100_000)])

    def fail(*_arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(kind, match=os.strerror(code)):
            complete(upload, 100_000, 4)
    with pytest.raises((kind, AssertionError)):
        upload.finish()
    upload.abort()
    place.collect()
    assert (place.parts(), place.uploads(), place.bucket.head("k")) == ([], [], None)


def test_early_sync_failure_reaches_the_upload(place: Any, monkeypatch: Any) -> None:
    """When the background sync fails, the upload fails, though the last sync would succeed."""
    monkeypatch.setattr(limits, "EARLY_SYNC_BYTES", MIB)
    real, calls = os.fdatasync, []

    def fail_once(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fail_once)
    upload = place.bucket.begin_upload("k", owner="session")
    with pytest.raises(errors.CouldNot):
        complete(upload, 0, 5)
    upload.abort()
    assert place.bucket.head("k") is None


def test_order_at_the_end(place: Any, monkeypatch: Any) -> None:
    """fdatasync of the part, then fsync of its directory, before finish returns."""
    order = []
    fdatasync, fsync = os.fdatasync, os.fsync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (order.append("part"), fdatasync(fd))[1])
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("directory"), fsync(fd))[1])
    bucket = place.make(crash_at=order.append)
    upload = bucket.begin_upload("k", owner="session")
    upload.write(0, [bytes(100_000)])
    upload.finish()
    assert order == ["part-written", "part", "directory", "part-synced"]


def test_disabled_kms_key_refuses_new_objects(place: Any) -> None:
    """While the KMS key is disabled nothing new is encrypted, and nothing is left behind."""
    place.keyring.set_enabled(place.bucket._store.kms.arn, False)
    for size in (10, 100_000, 2 * MIB):
        upload = place.bucket.begin_upload("k", owner="session")
        upload.write(0, [b"x"])
        with pytest.raises(errors.CouldNot, match="disabled"):
            complete(upload, size, 1)
        upload.abort()
    assert (place.parts(), place.uploads()) == ([], [])


def test_bucket_key_leaves_wrapped_keys_alone_on_rename(place: Any) -> None:
    """With the S3 Bucket Key a rename changes no wrapped data key, without it wraps anew."""
    for bucket_key in (True, False):
        bucket = place.make(bucket_key_enabled=bucket_key)
        place.put("a", b"1", bucket)
        [(before,)] = place.database.read("SELECT wrapped_key FROM object_version WHERE is_current")
        place.database.write_now(lambda tx, b=bucket: b.move(tx, "a", "b"))
        [(after,)] = place.database.read("SELECT wrapped_key FROM object_version WHERE is_current")
        assert (before == after) is bucket_key
        assert place.get("b", bucket) == b"1"
        place.database.write_now(lambda tx, b=bucket: b.delete(tx, "b"))


def test_objects_survive_a_change_of_the_buckets_encryption(place: Any) -> None:
    """Objects under another KMS key, or with the other Bucket Key setting, stay readable."""
    place.put("a", b"1")
    place.put("b", bytes(100_000))
    place.keyring.ensure("arn:new", enable_rotation=False, now_ms=0)
    changed = place.make(
        kms=place.keyring.key("arn:new"), kms_key=place.keyring.key, bucket_key_enabled=True
    )
    assert place.get("a", changed) == b"1"
    assert place.get("b", changed) == bytes(100_000)
    moved = place.database.write_now(lambda tx: changed.move(tx, "a", "c"))
    assert moved.kms_key_arn == "arn:new"
    assert place.get("c", changed) == b"1"
    unaware = place.make(kms=place.keyring.key("arn:new"))
    with pytest.raises(errors.CouldNot, match="another KMS key"):
        unaware.open("b")


def test_a_replaced_version_can_be_opened_until_it_is_collected(place: Any) -> None:
    """A loader reads the bytes that landed, whatever has their key now."""
    first = place.put("k", b"1" * 100_000)
    place.put("k", b"2")
    place.database.write_now(lambda tx: place.bucket.move(tx, "k", "elsewhere"))
    reader = place.bucket.open_version(first.object_id, first.version_id)
    assert reader is not None
    assert reader.pread(0, 5) == b"11111"
    reader.close()
    place.collect()
    assert place.bucket.open_version(first.object_id, first.version_id) is None
