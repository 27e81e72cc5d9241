"""Writes of every kind, held against a bytearray: over one another, truncated, over an object."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedgate import limits

MIB = 1 << 20


def model_write(model: bytearray, offset: int, data: bytes) -> None:
    """What a file system does."""
    if len(model) < offset:
        model += bytes(offset - len(model))
    model[offset : offset + len(data)] = data


def model_truncate(model: bytearray, size: int) -> None:
    """As ``ftruncate``."""
    del model[size:]
    model += bytes(size - len(model))


def publish(place: Any, upload: Any) -> Any:
    """Finish and publish; the staged object."""
    staged = upload.finish()
    place.database.write_now(lambda tx: place.bucket.publish(tx, staged))
    return staged


offsets = st.one_of(st.integers(0, 300), st.integers(0, 400_000))
operations = st.lists(
    st.one_of(
        st.tuples(st.just("write"), offsets, st.integers(1, 90_000)),
        st.tuples(st.just("append"), st.just(0), st.integers(1, 90_000)),
        st.tuples(st.just("truncate"), offsets, st.just(0)),
        st.tuples(st.just("read"), offsets, st.integers(1, 90_000)),
    ),
    max_size=14,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(operations=operations, over=st.sampled_from([None, 0, 1000, 200_000]), seed=st.integers())
def test_any_sequence_equals_a_bytearray(
    long_lived: Any, operations: list[tuple[str, int, int]], over: int | None, seed: int
) -> None:
    """Writes, truncations and reads in any order leave what a file would hold, hash included."""
    place, source = long_lived, random.Random(seed)
    model = bytearray()
    reader = None
    if over is not None:
        model += source.randbytes(over)
        place.put("k", bytes(model))
        reader = place.bucket.open("k")
    upload = place.bucket.begin_upload("k", owner="session", over=reader)
    for kind, offset, length in operations:
        if kind == "truncate":
            upload.truncate(offset)
            model_truncate(model, offset)
        elif kind == "read":
            assert upload.pread(offset, length) == model[offset : offset + length]
        else:
            data = source.randbytes(length)
            at = len(model) if kind == "append" else offset
            upload.write(at, [data])
            model_write(model, at, data)
        assert upload.size == len(model)
    assert upload.pread(0, len(model) + 1) == model
    staged = publish(place, upload)
    assert (staged.size, staged.sha256) == (len(model), hashlib.sha256(model).hexdigest())
    assert place.get("k") == model
    place.collect()
    assert len(place.parts()) <= 1


def test_a_header_after_200_mib_is_written_again(place: Any) -> None:
    """Formats that write their header last get it at offset 0, without a second copy of the rest.

    Smaller than 200 MiB here; what counts is that the header lies far below the reorder window.
    """
    block = random.Random(1).randbytes(MIB)
    upload = place.bucket.begin_upload("k", owner="session")
    for number in range(40):
        upload.write(number * MIB, [block])
    upload.write(0, [b"HEADER"])
    staged = publish(place, upload)
    expected = b"HEADER" + block[6:] + block * 39
    assert staged.sha256 == hashlib.sha256(expected).hexdigest()
    assert place.get("k") == expected
    [part] = place.parts()
    assert part.stat().st_size < 41 * MIB


def test_many_extents_are_written_anew_in_order(place: Any, monkeypatch: Any) -> None:
    """An object that would have more extents than the bound becomes one part, in order."""
    monkeypatch.setattr(limits, "EXTENTS_MAX", 20)
    upload = place.bucket.begin_upload("k", owner="session")
    expected = bytearray()
    for number in range(60):
        upload.write(10_000 * number, [b"%03d" % number * 40])
        model_write(expected, 10_000 * number, b"%03d" % number * 40)
    staged = publish(place, upload)
    assert place.get("k") == expected
    assert staged.sha256 == hashlib.sha256(expected).hexdigest()
    [part] = place.parts()
    assert part.name.endswith(".2")
    [(layout,)] = place.database.read("SELECT layout FROM object_version WHERE is_current")
    assert layout == (
        f'{{"extents":[[0,{len(expected)},2,0]],"parts":[[2,{part.stat().st_size}]]}}'
    )


def test_bytes_written_over_and_over_do_not_stay(place: Any, monkeypatch: Any) -> None:
    """What was covered many times is left behind when the object is finished."""
    monkeypatch.setattr(limits, "DEAD_BYTES_MAX", MIB)
    monkeypatch.setattr(limits, "REORDER_WINDOW_BYTES", 0)
    monkeypatch.setattr("feedgate.storage.upload._WINDOW", 0)
    upload = place.bucket.begin_upload("k", owner="session")
    for number in range(40):
        upload.write(0, [bytes([number]) * 100_000])
    publish(place, upload)
    assert place.get("k") == bytes([39]) * 100_000
    [part] = place.parts()
    assert part.stat().st_size < 110_000


def test_an_object_that_is_changed_stays_until_the_new_version(place: Any) -> None:
    """Nothing of a change is visible before it is published, and then the old bytes may go."""
    old = random.Random(3).randbytes(300_000)
    first = place.put("k", old)
    upload = place.bucket.begin_upload("k", owner="session", over=place.bucket.open("k"))
    upload.write(150_000, [b"middle"])
    assert place.get("k") == old
    publish(place, upload)
    assert place.get("k") == old[:150_000] + b"middle" + old[150_006:]
    assert place.bucket.head("k").version_id != first.version_id
    assert place.collect() == 1
    assert place.get("k")[:150_000] == old[:150_000]


def test_a_change_that_is_given_up_changes_nothing(place: Any) -> None:
    """An aborted change leaves the object and no part."""
    place.put("k", bytes(200_000))
    upload = place.bucket.begin_upload(
        "k", owner="session", user="acme", over=place.bucket.open("k")
    )
    upload.write(0, [b"x" * 100_000])
    assert upload.keep() == 0
    assert place.get("k") == bytes(200_000)
    assert place.uploads() == [] or place.collect() == 0
    assert len(place.parts()) == 1


def test_extending_is_bounded(place: Any) -> None:
    """A truncation that would add more zeros than a hole may have is refused, and no more."""
    from feedgate.errors import Unsupported

    upload = place.bucket.begin_upload("k", owner="session")
    with pytest.raises(Unsupported):
        upload.truncate(limits.HOLE_BYTES_MAX + 1)
    upload.truncate(MIB)
    publish(place, upload)
    assert place.get("k") == bytes(MIB)
