"""The grammar of one CSV field, compiled from the options of a file format. Pure.

Sources: Snowflake, CREATE FILE FORMAT, "formatTypeOptions" of TYPE = CSV. Where that page is silent
this is what is done (each is a row of the tests' table):

- a quote opens an enclosed field only at the field's first character, or after blanks with
  TRIM_SPACE; elsewhere it is data, so ``, "x"`` keeps blank and quotes;
- an escape character makes the delimiters, the enclosing quote and itself literal and vanishes;
  before anything else both characters are data, so ``C:\\temp`` and ``\\N`` stay what they are;
- NULL_IF is compared with the field as written and as read, enclosed ones too;
- an empty enclosed field is an empty string, an empty unenclosed one NULL (EMPTY_FIELD_AS_NULL).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CsvGrammar", "grammar"]

_NEVER = r"((?!))"
_NEWLINES = ("\n", "\r\n")


@dataclass(frozen=True, slots=True)
class CsvGrammar:
    """The options in the tokenizers' terms; None stands for NONE.

    ``field_pattern`` matches one field and what ends it: group 1 is an enclosed field's inside,
    2 an unenclosed one, 3 the field delimiter, 4 the record delimiter; neither means the end of the
    text. It does not match where an enclosed field is not closed, or garbage follows its quote;
    ``enclosed_pattern`` then matches the closed field alone. ``logical_newline``: the record
    delimiter is ``\\n`` and ``\\r\\n``. ``specials`` are the characters without which splitting a
    record at the field delimiter is exact; ``nulls`` the unenclosed texts that are NULL.
    """

    field_delimiter: str | None
    record_delimiter: str | None
    enclosure: str | None
    skip_header: int
    skip_blank_lines: bool
    blanks: str
    multi_line: bool
    count_error: bool
    null_if: frozenset[str]
    nulls: frozenset[str]
    logical_newline: bool
    specials: str
    field_pattern: re.Pattern[str]
    enclosed_pattern: re.Pattern[str] | None
    special: re.Pattern[str] | None
    escapes: re.Pattern[str] | None = field(default=None)
    enclosed_escapes: re.Pattern[str] | None = field(default=None)

    def unenclosed(self, raw: str) -> str | None:
        """The value of an unenclosed field."""
        text = raw.strip(self.blanks) if self.blanks else raw
        if text in self.nulls:
            return None
        if self.escapes is not None and self.specials_in(text):
            text = self.escapes.sub(r"\1", text)
            return None if text in self.null_if else text
        return text

    def enclosed(self, raw: str) -> str | None:
        """The value of an enclosed field's inside."""
        text = raw
        if self.enclosed_escapes is not None:
            text = self.enclosed_escapes.sub(r"\1", raw)
        return None if raw in self.null_if or text in self.null_if else text

    def specials_in(self, text: str) -> bool:
        """True if plain splitting would not be exact."""
        return any([char in text for char in self.specials])  # noqa: C419 - a list is quicker here


def grammar(options: Mapping[str, Any]) -> CsvGrammar:
    """Compile the effective options of a CSV file format (``stack.sql_options``)."""
    enclosure: str | None = options["FIELD_OPTIONALLY_ENCLOSED_BY"]
    escape: str | None = options["ESCAPE"]
    if enclosure is None or escape == enclosure:
        escape = None
    escape_unenclosed: str | None = options["ESCAPE_UNENCLOSED_FIELD"]
    delimiter: str | None = options["FIELD_DELIMITER"]
    record: str | None = options["RECORD_DELIMITER"]
    logical = record in _NEWLINES
    blanks = (
        "".join(c for c in " \t" if c not in (delimiter or "")) if options["TRIM_SPACE"] else ""
    )
    ends = [re.escape(delimiter)] if delimiter is not None else []
    if record is not None:
        ends.append(r"\r?\n" if logical else re.escape(record))
    blank = f"[{blanks}]*+" if blanks else ""
    enclosed = _enclosed(enclosure, escape, ends, blank)
    unenclosed = _unenclosed(delimiter, record, escape_unenclosed, ends)
    guard = f"(?!{blank}{enclosure})" if enclosure else ""
    delimiter_group = f"({re.escape(delimiter)})" if delimiter is not None else _NEVER
    record_group = f"({ends[-1]})" if record is not None else _NEVER
    specials = (enclosure or "") + (escape_unenclosed or "")
    null_if = frozenset(options["NULL_IF"])
    return CsvGrammar(
        field_delimiter=delimiter,
        record_delimiter=record,
        enclosure=enclosure,
        skip_header=options["SKIP_HEADER"],
        skip_blank_lines=options["SKIP_BLANK_LINES"],
        blanks=blanks,
        multi_line=options["MULTI_LINE"],
        count_error=options["ERROR_ON_COLUMN_COUNT_MISMATCH"],
        null_if=null_if,
        nulls=null_if | {""} if options["EMPTY_FIELD_AS_NULL"] else null_if,
        logical_newline=logical,
        specials=specials,
        special=re.compile(f"[{re.escape(specials)}]") if specials else None,
        field_pattern=re.compile(
            f"(?:{enclosed}|{guard}{unenclosed})(?:{delimiter_group}|{record_group}|\\Z)", re.DOTALL
        ),
        enclosed_pattern=re.compile(enclosed, re.DOTALL) if enclosure else None,
        escapes=_escapes(escape_unenclosed, enclosure, ends),
        enclosed_escapes=_enclosed_escapes(enclosure, escape, ends),
    )


def _enclosed(enclosure: str | None, escape: str | None, ends: list[str], blank: str) -> str:
    if enclosure is None:
        return _NEVER
    pieces = [f"[^{enclosure}{re.escape(escape or '')}]++", enclosure * 2]
    if escape is not None:
        pieces.append(f"{re.escape(escape)}(?:{'|'.join([*ends, '.'])})")
    return f"{blank}{enclosure}((?:{'|'.join(pieces)})*+){enclosure}{blank}"


def _unenclosed(
    delimiter: str | None, record: str | None, escape: str | None, ends: list[str]
) -> str:
    """Runs of plain characters, escaped ones, and beginnings of a delimiter that is none."""
    firsts = {text[0] for text in (delimiter, record) if text is not None}
    if record in _NEWLINES:
        firsts |= {"\r", "\n"}
    stops = "".join(re.escape(char) for char in sorted(firsts | {escape or ""}))
    if not stops:
        return "(.*+)"
    pieces = [f"[^{stops}]++"]
    if escape is not None:
        pieces.append(f"{re.escape(escape)}(?:{'|'.join([*ends, '.', chr(92) + 'Z'])})")
        firsts.discard(escape)
    if firsts:
        classes = "".join(re.escape(char) for char in sorted(firsts))
        pieces.append(f"(?!{'|'.join(ends)})[{classes}]")
    return f"((?:{'|'.join(pieces)})*+)"


def _escapes(escape: str | None, enclosure: str | None, ends: list[str]) -> re.Pattern[str] | None:
    if escape is None:
        return None
    literal = [*ends, re.escape(escape), *([enclosure] if enclosure else [])]
    return re.compile(f"{re.escape(escape)}({'|'.join(literal)})")


def _enclosed_escapes(
    enclosure: str | None, escape: str | None, ends: list[str]
) -> re.Pattern[str] | None:
    if enclosure is None:
        return None
    if escape is None:
        return re.compile(f"{enclosure}({enclosure})")
    literal = [*ends, re.escape(escape), enclosure]
    return re.compile(f"[{enclosure}{re.escape(escape)}]({'|'.join(literal)})")
