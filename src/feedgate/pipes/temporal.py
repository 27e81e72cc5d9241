"""Dates and times out of text: Snowflake's formats as DuckDB SQL.

AUTO is Snowflake's documented list ("Supported formats for AUTO detection") without the forms that
combine day names with a 12-hour clock, which are refused as any unknown text is. A number is an
epoch: seconds below 31,536,000,000, then milliseconds, microseconds, nanoseconds, as TO_TIMESTAMP
documents; ``20240102`` is therefore a day in August 1970, as on Snowflake.

Two choices differ from Snowflake and are stated where they show. A time without an offset is UTC
when it becomes TIMESTAMP_LTZ or TIMESTAMP_TZ (Snowflake takes the session's zone), and the offset
itself is not kept. TIMESTAMP_NTZ of precision 7 to 9 reaches from 1677 to 2262 only, and a value
beyond is an error that says so, never a wrong value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from feedgate.errors import Unsupported
from feedgate.pipes.conversion import Conversion, literal, message

__all__ = [
    "AUTO",
    "TimeFormat",
    "date_from_text",
    "parse_format",
    "time_from_moment",
    "time_from_text",
    "timestamp",
    "timestamp_from_moment",
]

AUTO = "AUTO"
MICROSECOND_DIGITS = 6
NANOSECOND_DIGITS = 9

_DATE = r"\d{4}-\d{1,2}-\d{1,2}"
_HOUR = r"(2[0-3]|[01]?\d)"
_MINUTES = r":[0-5]?\d(:[0-5]?\d(\.\d{1,9})?)?"
_MINUTES_OR_UTC = (
    r":[0-5]?\d(:[0-5]?\d(\.\d{1,9})?Z?)?"  # which DuckDB casts to the same wall clock
)
_OFFSET = r" ?(Z|[+-](0\d|1[0-4])(:?[0-5]\d)?)"
_RFC_1 = r"[A-Za-z]{3}, \d{1,2} [A-Za-z]{3} \d{4} " + _HOUR + r":\d{2}:\d{2}"
_RFC_2 = r"[A-Za-z]{3} [A-Za-z]{3} \d{1,2} " + _HOUR + r":\d{2}:\d{2}( [+-]\d{4})? \d{4}"
_DAY_MONTH_YEAR = r"\d{1,2}-[A-Za-z]{3}-\d{4}"
_SLASHES = r"\d{1,2}/\d{1,2}/\d{4}"
_SLASHES_TIME = _SLASHES + " " + _HOUR + r":\d{2}:\d{2}"
_TWELVE_HOURS = r"(?i)(1[0-2]|0?\d):[0-5]\d(:[0-5]\d)? ?[ap]m"
_EPOCH = r"-?\d{1,19}"
_EPOCH_NANOSECONDS = r"\d{17,19}"
_FIRST_GROUP = r"'\1'"

# Snowflake's elements in the order in which they must be tried, and strptime's
_ELEMENTS = (
    ("YYYY", "%Y"),
    ("YY", "%y"),
    ("MMMM", "%B"),
    ("MON", "%b"),
    ("MM", "%m"),
    ("DD", "%d"),
    ("DY", "%a"),
    ("HH24", "%H"),
    ("HH12", "%I"),
    ("AM", "%p"),
    ("PM", "%p"),
    ("MI", "%M"),
    ("SS", "%S"),
)
_FRACTION = re.compile(r"FF\d?")
_ZONE = re.compile(r"( ?)(TZHTZM|TZH:TZM|TZH|TZISO)$")


@dataclass(frozen=True, slots=True)
class TimeFormat:
    """A Snowflake format: ``strptime`` without its offset, and whether an offset follows."""

    text: str
    strptime: str
    zone: bool = False


def parse_format(text: str) -> TimeFormat:
    """Translate a Snowflake date, time or timestamp format.

    Raises:
        Unsupported: an element that is not read here, by name.
    """
    upper = text.upper()
    zone = _ZONE.search(upper)
    body = text[: zone.start()] if zone else text
    out: list[str] = []
    at = 0
    while at < len(body):
        if body[at] == '"':
            end = body.find('"', at + 1)
            if end < 0:
                raise Unsupported(f"format `{text}` has a quote that does not end")
            out.append(body[at + 1 : end].replace("%", "%%"))
            at = end + 1
            continue
        piece, length = _element(body, at, text)
        out.append(piece)
        at += length
    return TimeFormat(text, "".join(out), zone is not None)


def _element(body: str, at: int, text: str) -> tuple[str, int]:
    upper = body[at:].upper()
    if fraction := _FRACTION.match(upper):
        return "%n", len(fraction.group())
    for element, directive in _ELEMENTS:
        if upper.startswith(element):
            return directive, len(element)
    if body[at] in "TZ" and not upper.startswith("TZ"):
        return body[at], 1
    if body[at].isalpha():
        word = re.match(r"[A-Za-z0-9]+", body[at:])
        assert word is not None
        raise Unsupported(
            f"format `{text}`: element `{word.group()}` is not read here",
            hint='write literal letters in double quotes, as in `YYYY-MM-DD"T"HH24:MI:SS`',
        )
    return ("%%" if body[at] == "%" else body[at]), 1


def date_from_text(x: str, format_text: str = AUTO) -> Conversion:
    """DATE out of a VARCHAR expression."""
    if format_text.upper() != AUTO:
        parsed = parse_format(format_text)
        value = f"CAST({_strptime(_without_offset(x, parsed), parsed, ns=False)} AS DATE)"
        return _refused(value, x, _by_format("date", format_text), "100096")
    number = f"TRY_CAST({x} AS BIGINT)"
    value = (
        f"(CASE WHEN {_full(x, _DATE)} THEN TRY_CAST({x} AS DATE)"
        f" WHEN {_full(x, _DATE + '[T ]' + _HOUR + f'({_MINUTES})?({_OFFSET})?')}"
        f" THEN TRY_CAST(regexp_extract({x}, {literal(_DATE)}) AS DATE)"
        f" WHEN {_full(x, _DAY_MONTH_YEAR)}"
        f" THEN CAST(try_strptime({x}, '%d-%b-%Y') AS DATE)"
        f" WHEN {_full(x, _SLASHES)}"
        f" THEN CAST(try_strptime({x}, '%m/%d/%Y') AS DATE)"
        f" WHEN {_full(x, _EPOCH)} THEN CAST({_epoch(number)} AS DATE) END)"
    )
    return _refused(value, x, "Date '{}' is not recognized", "100040")


def time_from_text(x: str, format_text: str = AUTO, *, precision: int = 9) -> Conversion:
    """TIME out of a VARCHAR expression; precision above 6 gives TIME_NS."""
    target = "TIME_NS" if precision > MICROSECOND_DIGITS else "TIME"
    if format_text.upper() != AUTO:
        parsed = parse_format(format_text)
        moment = _strptime(_cut(_without_offset(x, parsed), precision), parsed, ns=True)
        value = f"TRY_CAST(strftime({moment}, '%H:%M:%S.%n') AS {target})"
        return _refused(value, x, _by_format("time", format_text), "100096")
    twelve = ", ".join(
        f"'%I:%M{seconds}{blank}%p'" for seconds in (":%S", "") for blank in (" ", "")
    )
    value = (
        f"(CASE WHEN {_full(x, _HOUR + _MINUTES + f'({_OFFSET})?')}"
        f" THEN TRY_CAST(regexp_extract({_cut(x, precision)}, '[0-9:.]+') AS {target})"
        f" WHEN {_full(x, _TWELVE_HOURS)}"
        f" THEN TRY_CAST(strftime(try_strptime({x}, [{twelve}]), '%H:%M:%S') AS {target}) END)"
    )
    return _refused(value, x, "Time '{}' is not recognized", "100108")


def timestamp(x: str, type_name: str, format_text: str = AUTO, *, precision: int = 9) -> Conversion:
    """TIMESTAMP_NTZ, _LTZ or _TZ out of a VARCHAR expression."""
    nanoseconds = _is_nanoseconds(type_name, precision)
    digits = precision if nanoseconds else min(precision, MICROSECOND_DIGITS)
    if format_text.upper() == AUTO:
        wall, offset = _auto_wall(_cut(x, digits)), _auto_offset(x)
        template, code = "Timestamp '{}' is not recognized", "100035"
    else:
        parsed = parse_format(format_text)
        moment = _strptime(_cut(_without_offset(x, parsed), digits), parsed, ns=nanoseconds)
        wall, offset = f"CAST({moment} AS VARCHAR)", _offset_of(x) if parsed.zone else "'+00'"
        template, code = _by_format("timestamp", format_text), "100096"
    refused = _refused(_stored(wall, offset, type_name, nanoseconds), x, template, code)
    if not nanoseconds:
        return refused
    wide = timestamp(x, type_name, format_text, precision=MICROSECOND_DIGITS).value_sql
    explained = (
        f"(CASE WHEN {wide} IS NOT NULL THEN {message(_BEYOND, x)} ELSE {refused.message_sql} END)"
    )
    return Conversion(refused.value_sql, refused.error_sql, explained, refused.code_sql)


_BEYOND = (
    "Timestamp '{}' is outside 1677 to 2262, which nanoseconds reach here: declare TIMESTAMP_NTZ(6)"
)


def timestamp_from_moment(x: str, moment: str, type_name: str, *, precision: int = 9) -> Conversion:
    """A timestamp out of ``moment``, a DATE or TIMESTAMP expression in UTC; ``x`` is what it was.

    DuckDB's casts between its timestamps raise even under TRY_CAST (tried, 1.5.5); text does not.
    """
    nanoseconds = _is_nanoseconds(type_name, precision)
    text = _cut(f"CAST({moment} AS VARCHAR)", precision if nanoseconds else min(precision, 6))
    value = _stored(text, "'+00'", type_name, nanoseconds)
    return _refused(value, x, _BEYOND, "100035")


def time_from_moment(x: str, moment: str, *, precision: int = 9) -> Conversion:
    """A TIME out of ``moment``, a TIME or TIMESTAMP expression that prints its time last."""
    target = "TIME_NS" if precision > MICROSECOND_DIGITS else "TIME"
    text = _cut(f"regexp_extract(CAST({moment} AS VARCHAR), '[0-9:.]+$')", precision)
    return _refused(f"TRY_CAST({text} AS {target})", x, "Time '{}' is not recognized", "100108")


def _is_nanoseconds(type_name: str, precision: int) -> bool:
    return type_name == "TIMESTAMP_NTZ" and precision > MICROSECOND_DIGITS


def _stored(wall: str, offset: str, type_name: str, nanoseconds: bool) -> str:
    """The text of a wall-clock time as the column's DuckDB type; NULL where it cannot be."""
    if nanoseconds:
        # The first day that nanoseconds reach is incomplete, and printing it raises (tried,
        # 1.5.5). A list names the expression once, where nullif() would plan it twice.
        edge = "TIMESTAMP_NS '1677-09-22 00:00:00'"
        return f"list_filter([TRY_CAST({wall} AS TIMESTAMP_NS)], lambda m: m > {edge})[1]"
    plain = f"TRY_CAST({wall} AS TIMESTAMP)"
    if type_name == "TIMESTAMP_NTZ":
        return plain
    # through TIMESTAMP, which adds the seconds that an offset must follow
    return f"TRY_CAST(CAST({plain} AS VARCHAR) || {offset} AS TIMESTAMPTZ)"


def _refused(value: str, x: str, template: str, code: str) -> Conversion:
    error = f"({x} IS NOT NULL AND {value} IS NULL)"
    return Conversion(value, error, message(template, x), literal(code))


def _by_format(kind: str, format_text: str) -> str:
    return f"Can't parse '{{}}' as {kind} with format '{format_text}'"


def _full(x: str, pattern: str) -> str:
    return f"regexp_full_match({x}, {literal(pattern)})"


def _cut(x: str, digits: int) -> str:
    """The text with its fraction cut to ``digits``, as Snowflake cuts what a precision exceeds."""
    if digits >= NANOSECOND_DIGITS:
        return x
    pattern = r"(:\d{1,2})\.\d+" if digits == 0 else rf"(:\d{{1,2}}\.\d{{{digits}}})\d+"
    return f"regexp_replace({x}, {literal(pattern)}, {_FIRST_GROUP})"


def _epoch(number: str) -> str:
    """TIMESTAMP (microseconds) of an epoch number whose unit its size tells."""
    micro = (
        f"(CASE WHEN {number} < 31536000000 THEN {number} * 1000000"
        f" WHEN {number} < 31536000000000 THEN {number} * 1000"
        f" WHEN {number} < 31536000000000000 THEN {number} ELSE {number} // 1000 END)"
    )
    return f"TRY(make_timestamp({micro}))"


def _auto_wall(x: str) -> str:
    """Text of the wall-clock time, as DuckDB casts it; NULL where AUTO knows no format."""
    head = f"{_DATE}[T ]{_HOUR}"
    number = f"TRY_CAST({x} AS BIGINT)"
    nanoseconds = f"CAST(TRY(make_timestamp_ns({number})) AS VARCHAR)"
    return (
        f"(CASE WHEN {_full(x, head + _MINUTES_OR_UTC)} THEN {x}"
        f" WHEN {_full(x, _DATE)} THEN {x} || ' 00:00'"
        f" WHEN {_full(x, head + _MINUTES + _OFFSET)}"
        f" THEN regexp_extract({x}, {literal(_DATE + '[T ][0-9:.]+')})"
        f" WHEN {_full(x, head + f'({_OFFSET})?')}"
        f" THEN regexp_extract({x}, {literal(_DATE + '[T ][0-9]+')}) || ':00'"
        f" WHEN {_full(x, _SLASHES_TIME)}"
        f" THEN CAST(try_strptime({x}, '%m/%d/%Y %H:%M:%S') AS VARCHAR)"
        f" WHEN {_full(x, _RFC_1 + '( [+-][0-9]{4})?')}"
        f" THEN CAST(try_strptime(regexp_replace({x}, ' [+-][0-9]{{4}}$', ''),"
        f" '%a, %d %b %Y %H:%M:%S') AS VARCHAR)"
        f" WHEN {_full(x, _RFC_2)}"
        f" THEN CAST(try_strptime("
        f"regexp_replace({x}, ' [+-][0-9]{{4}}( [0-9]{{4}})$', {_FIRST_GROUP}),"
        f" '%a %b %d %H:%M:%S %Y') AS VARCHAR)"
        f" WHEN {_full(x, _EPOCH_NANOSECONDS)} AND {number} >= 31536000000000000 THEN {nanoseconds}"
        f" WHEN {_full(x, _EPOCH)} THEN CAST({_epoch(number)} AS VARCHAR) END)"
    )


def _auto_offset(x: str) -> str:
    """The offset of a time that AUTO knows, `+00` where it has none."""
    inner = f"regexp_extract({x}, ' ([+-][0-9]{{4}}) [0-9]{{4}}$', 1)"
    return (
        f"(CASE WHEN {_full(x, _RFC_2)}"
        f" THEN CASE WHEN {inner} = '' THEN '+00' ELSE {inner} END"
        f" WHEN contains({x}, ':') OR contains({x}, 'T') OR contains({x}, ' ')"
        f" THEN {_offset_of(x)} ELSE '+00' END)"
    )


def _offset_of(x: str) -> str:
    found = f"regexp_extract({x}, '(Z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)$', 1)"
    return f"(CASE WHEN {found} IN ('', 'Z') THEN '+00' ELSE {found} END)"


def _without_offset(x: str, parsed: TimeFormat) -> str:
    if not parsed.zone:
        return x
    return f"regexp_replace({x}, {literal(_OFFSET + '$')}, '')"


def _strptime(x: str, parsed: TimeFormat, *, ns: bool) -> str:
    """A moment by an explicit format. Two-digit years from 70 are of the last century
    (TWO_DIGIT_CENTURY_START 1970), where strptime begins at 69."""
    pattern = parsed.strptime if ns else parsed.strptime.replace("%n", "%f")
    value = f"try_strptime({x}, {literal(pattern)})"
    if "%y" in parsed.strptime:
        value = (
            f"(CASE WHEN year({value}) = 1969 THEN {value} + INTERVAL 100 YEAR ELSE {value} END)"
        )
    return value
