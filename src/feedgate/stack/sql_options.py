"""File format options: one table a type, with defaults, and how each value is read.

Source: Snowflake's CREATE FILE FORMAT and COPY INTO <table> pages. What Snowflake knows and this
does not is refused by name; nothing is left out in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from feedgate.stack.sql_reader import Cursor, Option, Value
from feedgate.stack.warehouse import FileFormat

__all__ = [
    "CSV_DEFAULTS",
    "JSON_DEFAULTS",
    "boolean",
    "effective_options",
    "read_format_options",
    "text",
]

DELIMITER_CHARS_MAX = 20

Reader = Callable[[Cursor, Option], Any]

CSV_DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "COMPRESSION": "AUTO",
        "RECORD_DELIMITER": "\n",  # a logical newline: \n and \r\n
        "FIELD_DELIMITER": ",",
        "MULTI_LINE": True,
        "PARSE_HEADER": False,
        "SKIP_HEADER": 0,
        "SKIP_BLANK_LINES": False,
        "DATE_FORMAT": "AUTO",
        "TIME_FORMAT": "AUTO",
        "TIMESTAMP_FORMAT": "AUTO",
        "BINARY_FORMAT": "HEX",
        "ESCAPE": None,
        "ESCAPE_UNENCLOSED_FIELD": "\\",
        "TRIM_SPACE": False,
        "FIELD_OPTIONALLY_ENCLOSED_BY": None,
        "NULL_IF": ("\\N",),
        "ERROR_ON_COLUMN_COUNT_MISMATCH": True,
        "REPLACE_INVALID_CHARACTERS": False,
        "EMPTY_FIELD_AS_NULL": True,
        "SKIP_BYTE_ORDER_MARK": True,
        "ENCODING": "UTF8",
    }
)

JSON_DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "COMPRESSION": "AUTO",
        "DATE_FORMAT": "AUTO",
        "TIME_FORMAT": "AUTO",
        "TIMESTAMP_FORMAT": "AUTO",
        "BINARY_FORMAT": "HEX",
        "TRIM_SPACE": False,
        "NULL_IF": ("\\N",),
        "MULTI_LINE": True,
        "ENABLE_OCTAL": False,
        "ALLOW_DUPLICATE": False,
        "STRIP_OUTER_ARRAY": False,
        "STRIP_NULL_VALUES": False,
        "REPLACE_INVALID_CHARACTERS": False,
        "IGNORE_UTF8_ERRORS": False,
        "SKIP_BYTE_ORDER_MARK": True,
    }
)

_DEFAULTS = {"CSV": CSV_DEFAULTS, "JSON": JSON_DEFAULTS}
_LATER_TYPES = ("PARQUET", "AVRO", "ORC", "XML")


def effective_options(file_format: FileFormat) -> Mapping[str, Any]:
    """Every option of the format's type: the author's value, else Snowflake's default."""
    merged = {**_DEFAULTS[file_format.type], **file_format.options}
    if merged.get("IGNORE_UTF8_ERRORS"):  # the older name of the same option
        merged["REPLACE_INVALID_CHARACTERS"] = True
    return MappingProxyType(merged)


def read_format_options(cursor: Cursor, options: Sequence[Option]) -> tuple[str, dict[str, Any]]:
    """The type and the decoded options of a file format; every fault is noted on the cursor."""
    type_name = "CSV"
    for option in options:
        if option.key == "TYPE":
            type_name = option.value.text.upper()
    if type_name in _LATER_TYPES:
        cursor.collect(f"file format TYPE={type_name} is not done yet", offset=options[0].start)
        return type_name, {}
    if type_name not in _DEFAULTS:
        cursor.collect(f"`{type_name}` is not a file format TYPE", offset=options[0].start)
        return type_name, {}
    readers = _READERS[type_name]
    decoded: dict[str, Any] = {}
    for option in options:
        if option.key == "TYPE":
            continue
        reader = readers.get(option.key)
        if reader is None:
            _unknown(cursor, option, type_name)
            continue
        decoded[option.key] = reader(cursor, option)
    if type_name == "CSV":
        _check_csv(cursor, options, decoded)
    return type_name, decoded


def _unknown(cursor: Cursor, option: Option, type_name: str) -> None:
    other = [name for name, readers in _READERS.items() if option.key in readers]
    known = f"; it belongs to TYPE={other[0]}" if other else ""
    cursor.collect(
        f"unknown option {option.key} of a {type_name} file format{known}", offset=option.start
    )


def _check_csv(cursor: Cursor, options: Sequence[Option], decoded: Mapping[str, Any]) -> None:
    places = {option.key: option.start for option in options}
    record = decoded.get("RECORD_DELIMITER", "\n")
    field = decoded.get("FIELD_DELIMITER", ",")
    if record and field and (record in field or field in record):
        place = places.get("FIELD_DELIMITER", places.get("RECORD_DELIMITER"))
        cursor.collect("FIELD_DELIMITER and RECORD_DELIMITER contain one another", offset=place)
    if decoded.get("PARSE_HEADER") and decoded.get("SKIP_HEADER"):
        cursor.collect(
            "PARSE_HEADER and SKIP_HEADER exclude each other", offset=places["PARSE_HEADER"]
        )
    enclosed = decoded.get("FIELD_OPTIONALLY_ENCLOSED_BY")
    if enclosed and enclosed == field:
        cursor.collect(
            "FIELD_OPTIONALLY_ENCLOSED_BY is the FIELD_DELIMITER",
            offset=places["FIELD_OPTIONALLY_ENCLOSED_BY"],
        )


# -- values -------------------------------------------------------------------------------------


def boolean(cursor: Cursor, option: Option) -> bool:
    """TRUE or FALSE; a fault reads as FALSE."""
    word = option.value.text.upper()
    if option.value.kind not in ("word", "string") or word not in ("TRUE", "FALSE"):
        _wrong(cursor, option, "TRUE or FALSE")
    return word == "TRUE"


def text(cursor: Cursor, option: Option) -> str:
    """A string constant."""
    if option.value.kind != "string":
        _wrong(cursor, option, "a string in single quotes")
    return option.value.text


def _wrong(cursor: Cursor, option: Option, wanted: str) -> None:
    given = option.value.text or "( … )"
    cursor.collect(f"{option.key} takes {wanted}, not `{given}`", offset=option.value.start)


def _only(allowed: Mapping[str, Any], later: tuple[str, ...] | None = ()) -> Reader:
    """One word out of a table; ``later``: Snowflake's words not done yet, None: all others."""

    def read(cursor: Cursor, option: Option) -> Any:
        word = option.value.text.upper()
        if word in allowed:
            return allowed[word]
        if later is None or word in later:
            cursor.collect(
                f"{option.key}={word} is not done yet",
                hint=f"{option.key} may be {', '.join(allowed)}",
                offset=option.start,
            )
        else:
            _wrong(cursor, option, " or ".join(allowed))
        return next(iter(allowed.values()))

    return read


def _boolean_only(accepted: bool) -> Reader:
    """A Boolean whose other value is refused."""

    def read(cursor: Cursor, option: Option) -> bool:
        value = boolean(cursor, option)
        if value is not accepted:
            cursor.collect(
                f"{option.key}={str(value).upper()} is not done yet", offset=option.start
            )
        return accepted

    return read


def _without_effect(reader: Reader, why: str) -> Reader:
    def read(cursor: Cursor, option: Option) -> Any:
        cursor.remark("ignored", f"{option.key} {why}", rule="format-option", offset=option.start)
        return reader(cursor, option)

    return read


def _count(cursor: Cursor, option: Option) -> int:
    if option.value.kind != "number" or not option.value.text.isdigit():
        _wrong(cursor, option, "a whole number")
        return 0
    return int(option.value.text)


def _format(cursor: Cursor, option: Option) -> str:
    if option.value.kind == "word" and option.value.text.upper() == "AUTO":
        return "AUTO"
    value = text(cursor, option)
    return "AUTO" if value.upper() == "AUTO" else value


def _strings(cursor: Cursor, option: Option) -> tuple[str, ...]:
    value = option.value
    items = value.items if value.kind == "list" else (value,)
    if any(item.kind != "string" for item in items):
        _wrong(cursor, option, "a list of strings")
    return tuple(item.text for item in items)


_SEQUENCE = re.compile(r"\\x([0-9A-Fa-f]{2})|\\([0-7]{3})|\\(.)|(.)", re.DOTALL)
_HEX = re.compile(r"0[xX]([0-9A-Fa-f]{2})+")
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "b": "\b", "f": "\f", "0": "\0"}


def _delimiter(cursor: Cursor, option: Option) -> str | None:
    r"""A delimiter: NONE, or characters, ``0x27``, ``\x27``, ``\047``, ``\t`` and their like."""
    value = option.value
    if value.kind in ("word", "string") and value.text.upper() == "NONE":
        return None
    if value.kind != "string":
        _wrong(cursor, option, "a string in single quotes, or NONE")
        return None
    decoded = _decoded(cursor, option, value)
    if not decoded or len(decoded) > DELIMITER_CHARS_MAX:
        _wrong(cursor, option, f"1 to {DELIMITER_CHARS_MAX} characters")
        return None
    return decoded


def _decoded(cursor: Cursor, option: Option, value: Value) -> str:
    if _HEX.fullmatch(value.text):
        data = bytes.fromhex(value.text[2:])
    else:
        data = b"".join(_decoded_piece(match) for match in _SEQUENCE.finditer(value.text))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        _wrong(cursor, option, "a delimiter that is valid UTF-8")
        return ""


def _decoded_piece(match: re.Match[str]) -> bytes:
    hexadecimal, octal, escaped, plain = match.groups()
    if hexadecimal:
        return bytes.fromhex(hexadecimal)
    if octal:
        return bytes([int(octal, 8) & 0xFF])
    if escaped:
        return _CONTROLS.get(escaped, escaped).encode()
    return str(plain).encode()


def _character(cursor: Cursor, option: Option) -> str | None:
    """One single-byte character, or NONE."""
    decoded = _delimiter(cursor, option)
    if decoded is not None and (len(decoded) > 1 or ord(decoded) > 127):
        _wrong(cursor, option, "one single-byte character, or NONE")
        return None
    return decoded


def _enclosure(cursor: Cursor, option: Option) -> str | None:
    decoded = _character(cursor, option)
    if decoded not in (None, "'", '"'):
        _wrong(cursor, option, "a single quote, a double quote or NONE")
        return None
    return decoded


_COMPRESSIONS = _only(
    {"AUTO": "AUTO", "GZIP": "GZIP", "NONE": "NONE"},
    ("BZ2", "BROTLI", "ZSTD", "DEFLATE", "RAW_DEFLATE"),
)
_BINARY = _only({"HEX": "HEX", "BASE64": "BASE64", "UTF8": "UTF8", "UTF-8": "UTF8"})
_UNUSED_JSON = "of JSON works only with MATCH_BY_COLUMN_NAME"

_TIMES: dict[str, Reader] = {
    "DATE_FORMAT": _format,
    "TIME_FORMAT": _format,
    "TIMESTAMP_FORMAT": _format,
    "BINARY_FORMAT": _BINARY,
}
_READERS: Final[Mapping[str, Mapping[str, Reader]]] = {
    "CSV": {
        **_TIMES,
        "COMPRESSION": _COMPRESSIONS,
        "RECORD_DELIMITER": _delimiter,
        "FIELD_DELIMITER": _delimiter,
        "MULTI_LINE": boolean,
        "PARSE_HEADER": _boolean_only(accepted=False),
        "SKIP_HEADER": _count,
        "SKIP_BLANK_LINES": boolean,
        "ESCAPE": _character,
        "ESCAPE_UNENCLOSED_FIELD": _character,
        "TRIM_SPACE": boolean,
        "FIELD_OPTIONALLY_ENCLOSED_BY": _enclosure,
        "NULL_IF": _strings,
        "ERROR_ON_COLUMN_COUNT_MISMATCH": boolean,
        "REPLACE_INVALID_CHARACTERS": boolean,
        "EMPTY_FIELD_AS_NULL": boolean,
        "SKIP_BYTE_ORDER_MARK": boolean,
        "ENCODING": _only({"UTF8": "UTF8", "UTF-8": "UTF8"}, None),
        "VALIDATE_UTF8": _boolean_only(accepted=True),
    },
    "JSON": {
        **_TIMES,
        "COMPRESSION": _COMPRESSIONS,
        "TRIM_SPACE": _without_effect(boolean, _UNUSED_JSON),
        "NULL_IF": _without_effect(_strings, _UNUSED_JSON),
        "MULTI_LINE": boolean,
        "ENABLE_OCTAL": _boolean_only(accepted=False),
        "ALLOW_DUPLICATE": boolean,
        "STRIP_OUTER_ARRAY": boolean,
        "STRIP_NULL_VALUES": _boolean_only(accepted=False),
        "REPLACE_INVALID_CHARACTERS": boolean,
        "IGNORE_UTF8_ERRORS": boolean,
        "SKIP_BYTE_ORDER_MARK": boolean,
    },
}
