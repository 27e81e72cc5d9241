"""Output for people and for programs."""

from __future__ import annotations

import pytest

from feedgate.cli.output import safe, shortened, size_text, table


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb", "a\\nb"),
        ("a\u202eb", "a\\u202eb"),
        ("naïve.csv", "naïve.csv"),
    ],
)
def test_hostile_names_cannot_move_the_cursor(hostile: str, shown: str) -> None:
    """Control and direction characters are shown as escapes, other letters as they are."""
    assert safe(hostile) == shown


def test_table_aligns_numbers_right(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns line up; numbers end at the same place."""
    table(("NAME", "ROWS"), [("a", 5), ("bbbbbb", 1000)])
    assert capsys.readouterr().out.splitlines() == ["NAME    ROWS", "a          5", "bbbbbb  1000"]


def test_size_text() -> None:
    """Binary units, one decimal above bytes."""
    assert [size_text(n) for n in (0, 1023, 1536, 5 * 1024**3)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 GiB",
    ]


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("abcdef", 6, "abcdef"), ("abcdefg", 6, "abc…fg"), ("abcdefg", 5, "ab…fg")],
)
def test_names_give_way_in_the_middle(text: str, width: int, expected: str) -> None:
    """What is cut keeps both ends and is exactly as wide as there is room."""
    assert shortened(text, width) == expected
