"""The index: what a listing costs, and which look-ups have an index."""

from __future__ import annotations

from typing import Any

import pytest

from feedgate.storage import index


@pytest.fixture
def counted(place: Any, monkeypatch: Any) -> list[int]:
    """How many rows each read returned."""
    counts: list[int] = []
    read = place.database.read

    def counting(sql: str, params: Any = ()) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = read(sql, params)
        counts.append(len(rows))
        return rows

    monkeypatch.setattr(place.database, "read", counting)
    return counts


def fill(place: Any, keys: list[str]) -> None:
    """Rows with these keys, without contents."""

    def insert(tx: Any) -> None:
        tx.executemany(
            "INSERT INTO object_version(bucket, key, version_id, object_id, is_current, size,"
            " sha256, last_modified_ms, kms_key_arn, metadata, wrapped_key, bucket_key, seal,"
            " layout) VALUES('landing', ?, 'v', ?, 1, 0, '', 0, '', '{}', x'', 0, x'', 'inline')",
            [(key.encode(), key) for key in keys],
        )

    place.database.write_now(insert)


def test_common_prefix_costs_a_seek_not_its_keys(place: Any, counted: list[int]) -> None:
    """Ten directories of two thousand objects each are listed by reading a few hundred rows."""
    fill(place, [f"d{d}/{n:05}" for d in range(10) for n in range(2000)] + ["z"])
    listing = place.bucket.list(delimiter="/")
    assert listing.common_prefixes == tuple(f"d{d}/" for d in range(10))
    assert [info.key for info in listing.objects] == ["z"]
    assert sum(counted) <= 400


def test_flat_page_costs_its_rows(place: Any, counted: list[int]) -> None:
    """A page of a flat directory reads little more than the page, in a few queries."""
    fill(place, [f"in/{n:05}" for n in range(5000)])
    listing = place.bucket.list("in/", delimiter="/", start_after="in/02000", max_keys=1000)
    assert listing.objects[0].key == "in/02001"
    assert listing.next_start_after == "in/03000"
    assert sum(counted) <= 2000
    assert len(counted) <= 6


@pytest.mark.parametrize(
    ("sql", "uses"),
    [
        (index._CURRENT, "object_current"),
        (index._HEAD, "object_current"),
        (index._IDENTITY, "object_identity"),
        (
            f"{index._SELECT} WHERE bucket = ? AND is_current = 1 AND key >= ? AND key < ?"
            " ORDER BY key LIMIT 10",
            "object_current",
        ),
    ],
    ids=["open", "head", "version", "list"],
)
def test_look_ups_use_their_index(place: Any, sql: str, uses: str) -> None:
    """No look-up scans the table or sorts."""
    params = tuple("x" for _ in range(sql.count("?")))
    plan = " | ".join(row[3] for row in place.database.read(f"EXPLAIN QUERY PLAN {sql}", params))
    assert f"INDEX {uses} (" in plan
    assert "SCAN" not in plan
    assert "TEMP B-TREE" not in plan


def test_layout_round_trip() -> None:
    """A layout's text is canonical and parses back."""
    from feedgate.storage.extents import Extent

    layout = index.Layout(False, {1: 500, 2: 70}, (Extent(0, 10, 1, 5), Extent(90, 3, 2, 0)))
    assert index.Layout.parse(layout.text()) == layout
    assert layout.text() == '{"extents":[[0,10,1,5],[90,3,2,0]],"parts":[[1,500],[2,70]]}'
    assert index.Layout.parse("inline") == index.Layout(True, {}, ())
