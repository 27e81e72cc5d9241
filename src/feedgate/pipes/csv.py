"""The exact lane of CSV: text blocks become batches of fields as Snowflake reads them.

In the path: after ``decode``, before the warehouse's SQL. Why not the standard library's ``csv`` or
DuckDB's reader: neither tells ``""`` from an empty field, both differ in escapes, blank lines,
garbage after a quote and counts of columns, and neither names the place of an error.

Three ways through, tried in this order, with the same result: a block without quote, escape, blank
line or lone carriage return is parsed by ``pyarrow`` (``csv_blocks``); a record without quote and
escape is split; the rest goes through the grammar's pattern field by field. Memory is bounded by
one block of text, one batch of rows, and the longest record allowed.

Errors are Snowflake's words where they are known (facts: COPY INTO errors of astro-sdk #1708,
snowplow-snowflake-loader #5); a record that is refused is skipped and the next one read, except
where no end of it can be found.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

from feedgate.errors import RowError
from feedgate.limits import LOAD_BATCH_ROWS, RECORD_CHARS_MAX
from feedgate.pipes import csv_blocks
from feedgate.pipes.csv_grammar import CsvGrammar
from feedgate.pipes.records import (
    ESCAPED_BYTE,
    Batch,
    Rows,
    invalid_utf8,
    line_offset,
    place,
    with_last,
)

__all__ = ["csv_batches"]

_COUNT = (
    "Number of columns in file ({}) does not match that of the corresponding table ({}), use file"
    " format option error_on_column_count_mismatch=false to ignore this error"
)
_TOO_LONG = f"Record is longer than {RECORD_CHARS_MAX} characters"


def csv_batches(
    blocks: Iterable[str],
    grammar: CsvGrammar,
    *,
    width: int,
    count_columns: bool,
    label: Callable[[int], str],
) -> Iterator[Batch]:
    """Batches of ``width`` columns.

    ``count_columns``: a record of another number of fields is an error, unless the format says
    otherwise; else it is cut or filled with NULL (a transforming SELECT). ``label`` names the
    column of a number from 1 in an error.
    """
    reader = _Reader(grammar, width, count_columns and grammar.count_error, label)
    return reader.read(blocks)


class _FaultError(Exception):
    """A record that cannot be parsed: why, where, and where the next one begins if that is known.

    Otherwise it is looked for after ``offset``.
    """

    def __init__(
        self,
        message: str,
        offset: int,
        column: int = 0,
        *,
        code: str | None = None,
        after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.column = column
        self.code = code
        self.after = after


class _IncompleteError(Exception):
    """The text ends inside the record, and more text will come."""


class _Reader:
    def __init__(
        self, grammar: CsvGrammar, width: int, count_columns: bool, label: Callable[[int], str]
    ) -> None:
        self._grammar = grammar
        self._width = width
        self._count_columns = count_columns
        self._label = label
        self._header = grammar.skip_header
        self._row = 0  # of the last record read
        self._line = 1  # where the text not yet read begins
        self._character = 1
        self._delimiter_chars_max = max(
            2, len(grammar.field_delimiter or ""), len(grammar.record_delimiter or "")
        )
        self._invalid = False  # the text holds bytes that were no UTF-8

    def read(self, blocks: Iterable[str]) -> Iterator[Batch]:
        held: list[str] = []
        held_chars = wanted_chars = 0
        for block, last in with_last(blocks):
            held.append(block)
            held_chars += len(block)
            if held_chars < wanted_chars and not last:
                continue  # a long record: look at it again when twice as much is here
            text = self._without_header("".join(held), last)
            rest = yield from self._take(text, last)
            if len(rest) > RECORD_CHARS_MAX and not last:
                yield self._refused(_TOO_LONG)
                return
            held, held_chars, wanted_chars = [rest], len(rest), 2 * len(rest)

    def _without_header(self, text: str, last: bool) -> str:
        """SKIP_HEADER counts lines, whatever the record delimiter and the quotes."""
        start = 0
        while self._header and start < len(text):
            end = text.find("\n", start)
            if end < 0:
                if not last:
                    break
                end = len(text) - 1
            start = end + 1
            self._header -= 1
            self._line += 1
        return text[start:]

    def _take(self, text: str, last: bool) -> Generator[Batch, None, str]:
        """Batches of the text's whole records; returns the rest."""
        if self._header:
            return text
        end = len(text) if last else text.rfind("\n") + 1
        body = text[:end]
        if body and self._plain(body):
            batch = self._plain_batch(body)
            if batch is not None:
                yield batch
                return text[end:]
        self._invalid = not text.isascii() and ESCAPED_BYTE.search(text) is not None
        while text:
            rows = Rows(text, self._line, self._character)
            end = self._collect(rows, last)
            if rows.lines or rows.errors:
                yield self._batch(rows)
            if not end:
                break
            self._line, self._character = place(text, end, rows.line, rows.character)
            text = text[end:]
        return text

    # -- blocks in which splitting is exact -------------------------------------------------------

    def _plain(self, body: str) -> bool:
        grammar = self._grammar
        if not grammar.logical_newline or grammar.specials_in(body):
            return False
        return body.count("\r") == body.count("\r\n")

    def _plain_batch(self, body: str) -> Batch | None:
        """The block's batch, or None where a record needs a closer look."""
        text = body.replace("\r\n", "\n") if "\r" in body else body
        if text.startswith("\n") or "\n\n" in text:
            return None
        columns = self._plain_columns(text)
        if columns is None:
            return None
        count = text.count("\n") + (not text.endswith("\n"))
        line, row = self._line, self._row + 1
        self._line += count
        self._row += count

        def locate(index: int, column: int) -> tuple[int, int]:
            record = text.split("\n", index + 1)[index]
            return line + index, 1 + self._field_offset(record, 0, column)

        return Batch(columns, range(line, line + count), range(row, row + count), locate)

    def _plain_columns(self, text: str) -> tuple[Any, ...] | None:
        """``width`` columns, or None where the records do not all have the same right number."""
        found = len(self._fields(text[: text.find("\n")] if "\n" in text else text))
        if self._count_columns and found != self._width:
            return None
        columns = csv_blocks.parse(text, self._grammar, found) or self._split(text, found)
        if columns is None:
            return None
        if found < self._width:
            nothing = [None] * len(columns[0])
            return (*columns, *(nothing for _ in range(self._width - found)))
        return columns[: self._width]

    def _split(self, text: str, found: int) -> tuple[Any, ...] | None:
        grammar = self._grammar
        if not text.isascii() and ESCAPED_BYTE.search(text):
            return None
        rows = [self._fields(record) for record in text.removesuffix("\n").split("\n")]
        if any(len(row) != found for row in rows):
            return None
        if grammar.blanks:
            value = grammar.unenclosed
            return tuple([value(raw) for raw in column] for column in zip(*rows, strict=True))
        nulls = grammar.nulls
        return tuple(
            [None if raw in nulls else raw for raw in column] for column in zip(*rows, strict=True)
        )

    def _fields(self, record: str) -> list[str]:
        delimiter = self._grammar.field_delimiter
        return [record] if delimiter is None else record.split(delimiter)

    # -- record by record -------------------------------------------------------------------------

    def _collect(self, rows: Rows, last: bool) -> int:
        """Collect up to a batch of records from the text's begin; returns where the next begins."""
        text, line = rows.text, rows.line
        position = 0
        while position < len(text) and len(rows.lines) < LOAD_BATCH_ROWS:
            if end := self._plain_run(rows, position, line):
                line += text.count("\n", position, end)
                position = end
                continue
            try:
                end, values = self._record(text, position, last)
            except _IncompleteError:
                break
            except _FaultError as fault:
                following = fault.after
                if following is None:
                    following = self._next_record(text, fault.offset, last)
                if following is None:
                    break
                end = following
                self._row += 1
                rows.errors.append(self._error(rows, fault))
            else:
                if values is not None:
                    self._row += 1
                    rows.add(values, position, line, self._row)
            line += text.count("\n", position, end)
            position = end
        return position

    def _plain_run(self, rows: Rows, position: int, line: int) -> int:
        """Split the whole lines up to the next quote or escape; their end, 0 if there are none.

        Exact where nothing else is special, and several times the speed of ``_record``.
        """
        grammar, text = self._grammar, rows.text
        if not grammar.logical_newline or grammar.blanks or self._invalid:
            return 0
        special = grammar.special.search(text, position) if grammar.special else None
        end = text.rfind("\n", position, special.start() if special else len(text)) + 1
        if end <= position:
            return 0
        run = text[position : end - 1].replace("\r\n", "\n").removesuffix("\r")
        records = run.split("\n")
        split = [self._fields(record) for record in records]
        width = self._width
        if "\r" in run or "" in records or any(len(fields) != width for fields in split):
            return 0
        nulls = grammar.nulls
        count = len(records)
        rows.values += [[None if raw in nulls else raw for raw in fields] for fields in split]
        rows.starts += [-1] * count
        rows.lines += range(line, line + count)
        rows.numbers += range(self._row + 1, self._row + 1 + count)
        self._row += count
        return end

    def _record(self, text: str, start: int, last: bool) -> tuple[int, Sequence[str | None] | None]:
        """The record at ``start``: where the next begins, and its values; None if it is no record.

        Raises:
            _IncompleteError: its end is not in the text yet.
            _FaultError: it cannot be parsed.
        """
        stop, end = self._record_end(text, start)
        if end is None and not last:
            raise _IncompleteError
        raw = text[start:stop]
        if not raw and end is not None:
            if self._grammar.skip_blank_lines:
                return end, None
            raise _FaultError(
                f"End of record reached while expected to parse column '{self._label(1)}'", start, 1
            )
        if self._grammar.specials_in(raw):
            return self._enclosed_record(text, start, last)
        after = len(text) if end is None else end
        self._check_utf8(text, start, after)
        values = [self._grammar.unenclosed(field) for field in self._fields(raw)]
        return after, self._fit(values, text, start, stop, after)

    def _check_utf8(self, text: str, start: int, end: int) -> None:
        if self._invalid and (found := ESCAPED_BYTE.search(text, start, end)) is not None:
            raise _FaultError(invalid_utf8(found.group()), found.start(), after=end)

    def _record_end(self, text: str, start: int) -> tuple[int, int | None]:
        """The first record delimiter from ``start``: its beginning and end; (end of text, None)."""
        grammar = self._grammar
        if grammar.record_delimiter is None:
            return len(text), None
        if not grammar.logical_newline:
            stop = text.find(grammar.record_delimiter, start)
            return (stop, stop + len(grammar.record_delimiter)) if stop >= 0 else (len(text), None)
        stop = text.find("\n", start)
        if stop < 0:
            return len(text), None
        end = stop + 1
        return (stop - 1 if stop > start and text[stop - 1] == "\r" else stop), end

    def _enclosed_record(
        self, text: str, start: int, last: bool
    ) -> tuple[int, Sequence[str | None]]:
        grammar = self._grammar
        match_field = grammar.field_pattern.match
        values: list[str | None] = []
        position = start
        while True:
            match = match_field(text, position)
            if match is None:
                raise self._unmatched(text, position, last, len(values) + 1)
            inside, plain, delimited, ended = match.groups()
            if delimited is None and ended is None and not last:
                raise _IncompleteError
            if inside is None:
                values.append(grammar.unenclosed(plain))
            else:
                if not grammar.multi_line and self._holds_delimiter(inside):
                    raise _FaultError(
                        "Record delimiter found in an enclosed field, and MULTI_LINE is FALSE",
                        position,
                        len(values) + 1,
                    )
                values.append(grammar.enclosed(inside))
            position = match.end()
            if delimited is None:
                break
        self._check_utf8(text, start, position)
        stop = match.end(1 if plain is None else 2)
        return position, self._fit(values, text, start, stop, position)

    def _holds_delimiter(self, inside: str) -> bool:
        grammar = self._grammar
        delimiter = "\n" if grammar.logical_newline else grammar.record_delimiter
        return delimiter is not None and delimiter in inside

    def _unmatched(self, text: str, position: int, last: bool, column: int) -> Exception:
        """Why no field matches: it is not closed, or something follows its closing quote."""
        pattern = self._grammar.enclosed_pattern
        assert pattern is not None
        closed = pattern.match(text, position)
        if closed is None:
            if not last:
                return _IncompleteError()
            quote = self._grammar.enclosure
            message = f"End of file reached while expected to find the closing {quote}"
            return _FaultError(f"{message} of an enclosed field", position, column, after=len(text))
        after = closed.end()
        if not last and after > len(text) - self._delimiter_chars_max:
            return _IncompleteError()  # half a delimiter, perhaps
        expected = (
            f"field delimiter '{_shown(self._grammar.field_delimiter)}'"
            if column < self._width
            else f"record delimiter '{_shown(self._grammar.record_delimiter)}'"
        )
        return _FaultError(
            f"Found character '{_shown(text[after])}' instead of {expected}", after, column
        )

    def _fit(
        self, values: list[str | None], text: str, start: int, stop: int, after: int
    ) -> Sequence[str | None]:
        """Exactly ``width`` values, or a fault."""
        count = len(values)
        if count == self._width:
            return values
        if not self._count_columns:
            return values[: self._width] + [None] * (self._width - count)
        offset = stop if count < self._width else self._field_offset(text, start, self._width)
        raise _FaultError(
            _COUNT.format(count, self._width),
            offset,
            min(count, self._width),
            code="100080",
            after=after,
        )

    def _next_record(self, text: str, offset: int, last: bool) -> int | None:
        """Where the record after a refused one begins; None if that is not known yet."""
        _stop, end = self._record_end(text, offset)
        if end is None:
            return len(text) if last else None
        return end

    def _field_offset(self, text: str, start: int, column: int) -> int:
        """Where field ``column`` (from 0) of the record at ``start`` begins."""
        position = start
        for _ in range(column):
            match = self._grammar.field_pattern.match(text, position)
            if match is None or match.group(3) is None:
                break
            position = match.end()
        return position

    # -- what leaves ------------------------------------------------------------------------------

    def _batch(self, rows: Rows) -> Batch:
        def locate(index: int, column: int) -> tuple[int, int]:
            start = rows.starts[index]
            if start < 0:
                start = line_offset(rows.text, rows.lines[index] - rows.line)
            offset = self._field_offset(rows.text, start, column)
            return place(rows.text, offset, rows.line, rows.character)

        columns = tuple(zip(*rows.values, strict=True)) or ((),) * self._width
        return Batch(columns, rows.lines, rows.numbers, locate, tuple(rows.errors))

    def _error(self, rows: Rows, fault: _FaultError) -> RowError:
        line, character = place(rows.text, fault.offset, rows.line, rows.character)
        label = self._label(fault.column) if fault.column else None
        return RowError(fault.message, line, character, self._row, label, fault.code)

    def _refused(self, message: str) -> Batch:
        error = RowError(message, self._line, self._character, self._row + 1)
        return Batch(((),) * self._width, (), (), lambda _row, _column: (0, 0), (error,))


def _shown(text: str | None) -> str:
    """A character or delimiter as Snowflake shows it: ``\\n``, ``\\u0016``."""
    if text is None:
        return "NONE"
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "".join(
        named.get(char) or (char if char.isprintable() else f"\\u{ord(char):04x}") for char in text
    )
