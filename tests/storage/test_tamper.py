"""What someone who can write the data folder, but has no KMS key, cannot do unnoticed."""

from __future__ import annotations

from typing import Any

import pytest

from feedgate import errors

COLUMNS = ["version_id", "object_id", "sha256", "size", "metadata", "wrapped_key", "seal"]


@pytest.fixture
def two(place: Any) -> Any:
    """Two objects of each kind."""
    for number in (1, 2):
        place.put(f"small{number}", bytes([number]) * 100)
        place.put(f"large{number}", bytes([number]) * 200_000)
    return place


def refused(place: Any, key: str) -> None:
    """Opening or reading the key raises Integrity."""
    with pytest.raises(errors.Integrity):
        place.get(key)


def swap(place: Any, column: str, first: str, second: str) -> None:
    """Exchange one column between two objects."""
    values = {
        key: place.sql(f"SELECT {column} FROM object_version WHERE key = ?", key.encode())[0][0]
        for key in (first, second)
    }
    for key, other in ((first, second), (second, first)):
        place.sql(
            f"UPDATE object_version SET {column} = ? WHERE key = ?", values[other], key.encode()
        )


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        *((kind, column) for kind in ("small", "large") for column in COLUMNS),
        ("large", "layout"),  # small objects have no layout of their own
    ],
)
def test_no_column_can_be_exchanged(two: Any, kind: str, column: str) -> None:
    """A value taken from another object's row is noticed wherever the two differ."""
    two.sql("UPDATE object_version SET size = size + 1 WHERE key = ?", f"{kind}2".encode())
    two.sql('UPDATE object_version SET metadata = \'{"a":"b"}\' WHERE key = ?', f"{kind}2".encode())
    if column == "layout":
        two.sql("UPDATE object_version SET layout = layout || ' ' WHERE key = ?", b"large2")
    swap(two, column, f"{kind}1", f"{kind}2")
    refused(two, f"{kind}1")


@pytest.mark.parametrize("kind", ["small", "large"])
@pytest.mark.parametrize("bucket_key", [False, True])
def test_rows_cannot_change_names(place: Any, kind: str, bucket_key: bool) -> None:
    """Exchanging two objects' keys is noticed, also where one wrapping context serves both."""
    bucket = place.make(bucket_key_enabled=bucket_key)
    size = 100 if kind == "small" else 200_000
    place.put("a", b"a" * size, bucket)
    place.put("b", b"b" * size, bucket)
    place.sql("UPDATE object_version SET key = CAST('x' AS BLOB) WHERE key = CAST('a' AS BLOB)")
    place.sql("UPDATE object_version SET key = CAST('a' AS BLOB) WHERE key = CAST('b' AS BLOB)")
    for key in ("a", "x"):
        with pytest.raises(errors.Integrity):
            bucket.open(key)
        with pytest.raises(errors.Integrity):
            place.database.write_now(lambda tx, key=key: bucket.move(tx, key, "laundered"))


def test_rows_cannot_change_buckets(place: Any) -> None:
    """An object moved into another bucket's rows is noticed."""
    place.put("a", b"a")
    other = place.make("other", bucket_key_enabled=False)
    place.sql("UPDATE object_version SET bucket = 'other'")
    with pytest.raises(errors.Integrity):
        other.open("a")


def test_inline_bytes_cannot_be_exchanged_cut_or_removed(two: Any) -> None:
    """The ciphertexts of small objects are bound to their objects."""
    rows = two.sql("SELECT id, ciphertext FROM object_inline ORDER BY id")
    (first, bytes1), (second, bytes2) = rows
    two.sql("UPDATE object_inline SET ciphertext = ? WHERE id = ?", bytes2, first)
    two.sql("UPDATE object_inline SET ciphertext = ? WHERE id = ?", bytes1[:-1], second)
    refused(two, "small1")
    refused(two, "small2")
    two.sql("DELETE FROM object_inline")
    refused(two, "small1")


def test_part_files_cannot_be_exchanged(two: Any) -> None:
    """A part under another object's name does not open."""
    first, second = two.parts()
    bytes1, bytes2 = first.read_bytes(), second.read_bytes()
    first.write_bytes(bytes2)
    second.write_bytes(bytes1)
    refused(two, "large1")
    refused(two, "large2")


@pytest.mark.parametrize("cut", [1, 65_536, 131_072])
def test_cut_part_is_noticed_at_open(two: Any, cut: int) -> None:
    """A part cut at a segment's edge too is noticed before a byte is served."""
    for part in two.parts():
        part.write_bytes(part.read_bytes()[:-cut])
    with pytest.raises(errors.Integrity):
        two.bucket.open("large1")


def test_changed_byte_raises_where_it_is_read(two: Any) -> None:
    """A damaged segment is refused; others of the object stay readable."""
    for part in two.parts():
        data = bytearray(part.read_bytes())
        data[70_000] ^= 1
        part.write_bytes(data)
    reader = two.bucket.open("large1")
    assert reader is not None
    assert reader.pread(0, 1000) == b"\x01" * 1000
    with pytest.raises(errors.Integrity):
        reader.pread(66_000, 100)
    reader.close()


def test_missing_part_is_said(two: Any) -> None:
    """A part file that somebody removed is an integrity error, not an absent object."""
    for part in two.parts():
        part.unlink()
    with pytest.raises(errors.Integrity, match="missing"):
        two.bucket.open("large1")


def test_older_row_of_the_same_key_is_not_noticed_but_its_bytes_verify(place: Any) -> None:
    """Putting back a whole older version is possible: the folder has no outside witness."""
    place.put("k", b"old")
    place.put("k", b"new")
    place.sql("UPDATE object_version SET is_current = 0")
    place.sql("UPDATE object_version SET is_current = 1 WHERE id = 1")
    assert place.get("k") == b"old"
