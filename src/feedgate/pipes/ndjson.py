"""The exact lane of JSON: text blocks become batches of JSON values, one column of their text.

In the path: after ``decode``, before the warehouse's SQL. Values follow one another with white
space or nothing between them (NDJSON and concatenated JSON alike); with STRIP_OUTER_ARRAY the
elements of top-level arrays are the rows. A value is handed on as the file's own characters, so no
number passes through a float. Why not DuckDB's reader: it strips arrays unasked, keeps the first of
a duplicate key where Snowflake refuses, and names no line.

Sources: Snowflake, CREATE FILE FORMAT, TYPE = JSON. After a value that cannot be parsed, reading
goes on at the next line that begins with a brace or bracket; inside an outer array nothing after a
fault is read. The scanner is strict JSON (RFC 8259), where Snowflake's is more lenient.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from feedgate.errors import RowError
from feedgate.limits import LOAD_BATCH_ROWS, RECORD_CHARS_MAX
from feedgate.pipes.records import ESCAPED_BYTE, Batch, Rows, invalid_utf8, place, with_last

__all__ = ["JsonFormat", "json_batches", "json_format"]

_SPACE = re.compile(r"[ \t\n\r]*+")
_WORD = re.compile(r"[\w.+-]*+")  # what may not follow a number or a literal directly
_NEXT_VALUE = re.compile(r"\n(?=[{\[])")
_TAIL_CHARS = 12  # a fault this near the end of a block may be a value that goes on
_PARSING = "Error parsing JSON: "


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """The options of TYPE = JSON that concern the scanner."""

    strip_outer_array: bool
    allow_duplicate: bool
    multi_line: bool


def json_format(options: Mapping[str, Any]) -> JsonFormat:
    """Take the effective options of a JSON file format (``stack.sql_options``)."""
    return JsonFormat(
        strip_outer_array=options["STRIP_OUTER_ARRAY"],
        allow_duplicate=options["ALLOW_DUPLICATE"],
        multi_line=options["MULTI_LINE"],
    )


def json_batches(blocks: Iterable[str], form: JsonFormat) -> Iterator[Batch]:
    """Batches of one column, ``c1``, that holds each value's text."""
    return _Reader(form).read(blocks)


class _FaultError(Exception):
    """A value that cannot be parsed: why, where it began, where the fault is.

    ``after`` is where the next value begins, if that is known. ``final``: nothing after it can be
    read.
    """

    def __init__(
        self, why: str, start: int, offset: int, *, after: int | None = None, final: bool = False
    ) -> None:
        super().__init__(why)
        self.message = why
        self.start = start
        self.offset = offset
        self.after = after
        self.final = final


class _IncompleteError(Exception):
    """The text ends inside the value, and more text will come."""


class _ConstantError(Exception):
    """NaN or Infinity, which JSON does not have."""


class _Number(str):
    """A number's own characters."""

    __slots__ = ()


class _Reader:
    def __init__(self, form: JsonFormat) -> None:
        self._form = form
        self._row = 0
        self._line = 1
        self._character = 1
        self._in_array = False
        self._after_element = False
        self._finished = False
        self._duplicate: str | None = None
        self._decoder = _decoder(str, self._object)

    def read(self, blocks: Iterable[str]) -> Iterator[Batch]:
        held: list[str] = []
        held_chars = wanted_chars = 0
        for block, last in with_last(blocks):
            held.append(block)
            held_chars += len(block)
            if held_chars < wanted_chars and not last:
                continue
            rest = yield from self._take("".join(held), last)
            if len(rest) > RECORD_CHARS_MAX and not last:
                message = f"Value is longer than {RECORD_CHARS_MAX} characters"
                where = place(rest, _skip(_SPACE, rest, 0), self._line, self._character)
                error = RowError(message, *where, self._row + 1)
                yield Batch(((),), (), (), lambda _row, _column: (0, 0), (error,))
                return
            if self._finished:
                return
            held, held_chars, wanted_chars = [rest], len(rest), 2 * len(rest)

    def _take(self, text: str, last: bool) -> Generator[Batch, None, str]:
        while text and not self._finished:
            rows = Rows(text, self._line, self._character)
            end = self._collect(rows, last)
            if rows.lines or rows.errors:
                yield _batch(rows)
            if not end:
                break
            self._line, self._character = place(text, end, rows.line, rows.character)
            text = text[end:]
        return text

    def _collect(self, rows: Rows, last: bool) -> int:
        """Collect up to a batch of values from the text's begin; returns where the next begins."""
        text, line = rows.text, rows.line
        position = counted = 0
        while position < len(text) and len(rows.lines) < LOAD_BATCH_ROWS and not self._finished:
            try:
                start, end, value = self._value(text, position, last)
            except _IncompleteError:
                break
            except _FaultError as fault:
                following = self._after_fault(text, fault, last)
                if following is None:
                    break
                self._row += 1
                where = place(text, fault.offset, rows.line, rows.character)
                rows.errors.append(RowError(fault.message, *where, self._row))
                position = following
                continue
            if value is not None:
                self._row += 1
                line += text.count("\n", counted, start)
                counted = start
                rows.add(value, start, line, self._row)
            elif end == position:
                break
            position = end
        return position

    def _after_fault(self, text: str, fault: _FaultError, last: bool) -> int | None:
        """Where reading goes on; None if that is not known yet."""
        if fault.after is not None:
            return fault.after
        if fault.final:
            self._finished = True
            return len(text)
        found = _NEXT_VALUE.search(text, fault.start)
        if found is None:
            return len(text) if last else None
        return found.end()

    def _value(self, text: str, position: int, last: bool) -> tuple[int, int, str | None]:
        """Start, end and text of the next value; None for punctuation and white space alone.

        Raises:
            _IncompleteError: its end is not in the text yet.
            _FaultError: it cannot be parsed.
        """
        start = _skip(_SPACE, text, position)
        if start == len(text):
            if last and self._in_array:
                why = f"{_PARSING}the outer array is not closed"
                raise _FaultError(why, start, start - 1, final=True)
            return start, start, None
        if self._punctuation(text[start], start):
            return start, start + 1, None
        end = self._scan(text, start, last)
        self._after_element = self._in_array
        return start, end, self._checked(text, start, end)

    def _punctuation(self, char: str, start: int) -> bool:
        """Take a bracket or comma of an outer array."""
        if not self._in_array:
            self._in_array = char == "[" and self._form.strip_outer_array
            return self._in_array
        if char == "]":
            self._in_array = self._after_element = False
            return True
        if not self._after_element:
            return False
        if char != ",":
            raise _FaultError(f"{_PARSING}missing comma", start, start, final=True)
        self._after_element = False
        return True

    def _scan(self, text: str, start: int, last: bool) -> int:
        """The end of the value at ``start``."""
        self._duplicate = None
        try:
            _value, end = self._decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            unterminated = error.msg.startswith("Unterminated string")
            if not last and (unterminated or error.pos >= len(text) - _TAIL_CHARS):
                raise _IncompleteError from None
            why, offset = _said(error.msg), min(error.pos, len(text) - 1)
        except _ConstantError as error:
            why, offset = f"{error} is no JSON number", start
        except RecursionError:
            why, offset = "value is nested too deeply", start
        else:
            after = end if text[start] in '{["' else _skip(_WORD, text, end)
            if after == len(text) and not last:
                raise _IncompleteError  # `12` may become `123`, and `0.` may become `0.5`
            if after == end:
                return end
            why, offset = "unexpected character", end
        final = self._in_array or text[start] == "["
        raise _FaultError(_PARSING + why, start, offset, final=final)

    def _checked(self, text: str, start: int, end: int) -> str:
        """The value's text, if the options allow it."""
        value = text[start:end]
        if not value.isascii() and (found := ESCAPED_BYTE.search(value)) is not None:
            raise _FaultError(invalid_utf8(found.group()), start, start + found.start(), after=end)
        if not self._form.multi_line and "\n" in value:
            why = f"{_PARSING}value spans lines, and MULTI_LINE is FALSE"
            raise _FaultError(why, start, start, after=end)
        if self._duplicate is None:
            return value
        if not self._form.allow_duplicate:
            why = f"{_PARSING}duplicate object attribute {json.dumps(self._duplicate)}"
            raise _FaultError(why, start, start, after=end)
        return _written(_decoder(_Number, dict).decode(value))

    def _object(self, pairs: list[tuple[str, Any]]) -> None:
        """Note a name that an object holds twice; what it holds is not kept."""
        names = {name for name, _value in pairs}
        if len(names) != len(pairs) and self._duplicate is None:
            seen: set[str] = set()
            for name, _value in pairs:
                if name in seen:
                    self._duplicate = name
                    break
                seen.add(name)


def _skip(run: re.Pattern[str], text: str, position: int) -> int:
    found = run.match(text, position)
    assert found is not None
    return found.end()


def _said(text: str) -> str:
    """Python's message as part of ours."""
    text = text[0].lower() + text[1:]
    for ending in (" starting at", " at"):
        text = text.removesuffix(ending)
    return text.rstrip(": ")


def _decoder(number: Callable[[str], Any], of_pairs: Callable[[Any], Any]) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=of_pairs,
        parse_float=number,
        parse_int=number,
        parse_constant=_refuse_constant,
    )


def _refuse_constant(name: str) -> None:
    raise _ConstantError(name)


def _written(value: Any) -> str:
    """JSON text again, numbers as they were."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        members = (f"{json.dumps(name)}:{_written(inner)}" for name, inner in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _batch(rows: Rows) -> Batch:
    def locate(index: int, _column: int) -> tuple[int, int]:
        return place(rows.text, rows.starts[index], rows.line, rows.character)

    return Batch((rows.values,), rows.lines, rows.numbers, locate, tuple(rows.errors))
