"""What the parsers hand to the warehouse: batches of text columns, and the records they refused.

A parser never converts: every value is the file's text, or None where the file format says NULL.
Rows keep their file row number (``METADATA$FILE_ROW_NUMBER``; the first record after the header is
1) and physical line, so that an error found later, in SQL, still names its place in the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from feedgate.errors import RowError

__all__ = [
    "ESCAPED_BYTE",
    "Batch",
    "Rows",
    "invalid_utf8",
    "line_offset",
    "place",
    "with_last",
]

ESCAPED_BYTE = re.compile("[\udc80-\udcff]+")  # what ``surrogateescape`` makes of invalid UTF-8


@dataclass(frozen=True, slots=True)
class Batch:
    """Some thousand records in file order, as columns of equal length.

    ``columns`` hold str or None (lists, or arrays of ``pyarrow``); ``lines`` and ``row_numbers``
    are ascending and as long as a column. ``errors`` are the records that could not be parsed, one
    each, which are in no column. ``locate(row, column)`` gives the line and character at which
    field ``column`` of the batch's row ``row`` (both from 0) begins; it is slow and for errors.
    """

    columns: tuple[Any, ...]
    lines: Sequence[int]
    row_numbers: Sequence[int]
    locate: Callable[[int, int], tuple[int, int]] = field(compare=False)
    errors: tuple[RowError, ...] = ()

    @property
    def records(self) -> int:
        """Records of the file in this batch, refused ones included."""
        return len(self.lines) + len(self.errors)


@dataclass(slots=True)
class Rows:
    """A batch being collected from ``text``, which begins at ``line`` and ``character``.

    ``starts`` are the offsets at which the records begin; -1 where a record is one whole line.
    """

    text: str
    line: int
    character: int
    values: list[Any] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    errors: list[RowError] = field(default_factory=list)

    def add(self, values: Any, start: int, line: int, number: int) -> None:
        """Add a record."""
        self.values.append(values)
        self.starts.append(start)
        self.lines.append(line)
        self.numbers.append(number)


def with_last(blocks: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Each block, and whether it is the last one."""
    stream = iter(blocks)
    for block in stream:
        held = block
        for following in stream:
            yield held, False
            held = following
        yield held, True


def place(text: str, offset: int, line: int, character: int) -> tuple[int, int]:
    """Line and character of ``text[offset]``; ``text[0]`` is at ``line``, ``character``."""
    breaks = text.count("\n", 0, offset)
    if not breaks:
        return line, character + offset
    return line + breaks, offset - text.rfind("\n", 0, offset)


def line_offset(text: str, lines: int) -> int:
    """Where the line begins that comes ``lines`` after the first."""
    offset = 0
    for _ in range(lines):
        offset = text.index("\n", offset) + 1
    return offset


def invalid_utf8(escaped: str) -> str:
    """Snowflake's message about bytes that were no UTF-8."""
    shown = escaped[:8].encode("utf-8", "surrogateescape").hex().upper()
    return f"Invalid UTF8 detected in string '0x{shown}'"
