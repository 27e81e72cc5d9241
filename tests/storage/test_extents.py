"""Extents and the reorder window against a plain array of bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from feedgate import limits
from feedgate.storage.extents import Extent, ExtentMap, hole_bytes
from feedgate.storage.window import Window

WRITES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=30)


@given(WRITES)
def test_extents_say_where_each_byte_was_last_written(writes: list[tuple[int, int]]) -> None:
    """Reading through the extents gives, for every position, the byte that was appended last."""
    extents, log, model = ExtentMap(), bytearray(), bytearray(80)
    written: set[int] = set()
    for number, (offset, length) in enumerate(writes):
        data = bytes([number + 1]) * length
        extents.put(offset, length, 1, len(log))
        log += data
        model[offset : offset + length] = data
        written.update(range(offset, offset + length))
    seen = bytearray(80)
    previous = 0
    for extent in extents:
        assert extent.offset >= previous
        assert extent.length > 0
        previous = extent.end
        at = extent.part_offset
        seen[extent.offset : extent.end] = log[at : at + extent.length]
    assert seen == model
    size = max(written, default=-1) + 1
    assert hole_bytes(tuple(extents), size) == size - len(written)


@given(st.lists(st.integers(1, 20), max_size=20))
def test_sequential_writes_are_one_extent(lengths: list[int]) -> None:
    """What continues the bytes before it grows their extent."""
    extents, offset = ExtentMap(), 0
    for length in lengths:
        extents.put(offset, length, 1, offset)
        offset += length
    assert list(extents) == ([Extent(0, offset, 1, 0)] if lengths else [])
    assert extents.sequential


@given(WRITES)
def test_sequential_means_appended_in_order(writes: list[tuple[int, int]]) -> None:
    """The flag is true exactly when the appended bytes, in their order, are the object."""
    extents, end, in_order, at = ExtentMap(), 0, True, 0
    for offset, length in writes:
        in_order = in_order and offset == end
        end = offset + length
        extents.put(offset, length, 1, at)
        at += length
    assert extents.sequential is in_order


@given(WRITES)
def test_window_gives_back_the_latest_bytes_in_runs(writes: list[tuple[int, int]]) -> None:
    """Runs come in order, do not touch, and hold for each position what was put last."""
    window, model = Window(), {}
    for number, (offset, length) in enumerate(writes):
        window.put(offset, bytes([number + 1]) * length)
        model.update(dict.fromkeys(range(offset, offset + length), number + 1))
    for position in range(90):
        assert window.overlaps(position, position + 1) is (position in model)
    seen: dict[int, int] = {}
    previous = -1
    for offset, run in window.take_all():
        assert offset > previous
        data = b"".join(run)
        seen.update(zip(range(offset, offset + len(data)), data, strict=True))
        previous = offset + len(data)
    assert seen == model
    assert window.cost == 0
    assert not window


@given(WRITES, st.integers(0, 60))
def test_take_run_starts_exactly_there(writes: list[tuple[int, int]], offset: int) -> None:
    """A run is taken only from a piece's first byte; the rest stays."""
    window, model = Window(), {}
    for number, (at, length) in enumerate(writes):
        window.put(at, bytes([number + 1]) * length)
        model.update(dict.fromkeys(range(at, at + length), number + 1))
    data = b"".join(window.take_run(offset))
    if data:
        assert list(data) == [model.pop(offset + i) for i in range(len(data))]
        assert offset + len(data) not in model
    left = {offset + i for offset, run in window.take_all() for i in range(len(b"".join(run)))}
    assert left == set(model)


def test_rests_of_covered_pieces_do_not_keep_the_whole_piece() -> None:
    """The cost of what is left of a large piece is its own bytes, so memory stays bounded."""
    window = Window()
    window.put(0, bytes(255 * 1024))
    window.put(1, bytes(255 * 1024))
    pieces = dict(zip(window._offsets, window._pieces, strict=True))
    assert pieces[0] == b"\0"
    assert window.cost == 1 + 255 * 1024 + 2 * limits.HELD_PIECE_OVERHEAD_BYTES
