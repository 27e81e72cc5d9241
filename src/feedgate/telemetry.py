"""Log events as JSON lines: one event, one line, whatever a supplier called his file.

Event shapes follow AWS Transfer's structured logs (User Guide, cw-structure-logs):
``activity-type`` and the fields that page lists. Hostile text cannot break out of its line:
``json`` escapes control characters, and ``ensure_ascii`` the bidirectional and line-separator ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TextIO

import msgspec

__all__ = ["EventLog", "begin_burst", "end_burst", "rendered", "utc_iso"]

Clock = Callable[[], float]


def utc_iso(unix_s: float) -> str:
    """A UTC instant as ISO 8601 with milliseconds: ``2026-11-24T16:30:00.123Z``."""
    second, milliseconds = divmod(int(unix_s * 1000), 1000)
    return f"{_iso_second(second)}.{milliseconds:03d}Z"


@lru_cache(maxsize=4)  # a burst of events shares its second
def _iso_second(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class EventLog:
    """Writes whole JSON lines in one ``write``, so that processes sharing a file never mix.

    ``stream`` takes text (default: stderr); ``EventLog.file`` appends to a file without a buffer.
    """

    def __init__(self, stream: TextIO | None = None, *, now: Clock) -> None:
        text = stream if stream is not None else sys.stderr
        self._now = now
        self._second = -1
        self._second_text = b""
        self._write_line: Callable[[bytes], object] = lambda line: _write_text(text, line)

    @classmethod
    def file(cls, path: Path, *, now: Clock) -> EventLog:
        """Append to ``path``, made 0600 if it is not there."""
        fd = os.open(
            path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        log = cls(now=now)
        log._write_line = lambda line: os.write(fd, line)
        return log

    def emit(self, activity_type: str, **fields: object) -> None:
        """Write one activity (``CONNECTED``, ``OPEN``, ``CLOSE``, …); None fields are left out.

        Field names use underscores here and hyphens in the log, as AWS spells them.
        """
        self._write("activity-type", activity_type, fields)

    def debug(self, message: str, **fields: object) -> None:
        """Detail for whoever debugs the gateway."""
        self._write("message", message, {"level": "debug", **fields})

    def info(self, message: str, **fields: object) -> None:
        """Something that an operator wants to see."""
        self._write("message", message, {"level": "info", **fields})

    def warning(self, message: str, **fields: object) -> None:
        """Something that will go wrong unless someone acts."""
        self._write("message", message, {"level": "warning", **fields})

    def error(self, message: str, **fields: object) -> None:
        """Something that went wrong."""
        self._write("message", message, {"level": "error", **fields})

    def emit_rendered(self, head: bytes, fields: Mapping[str, object] | None = None) -> None:
        """Write one line that begins with what ``rendered`` made, the activity type among it.

        For events that differ in a field or two: the others are rendered once. ``fields`` may be
        kept until the burst ends, so they must not change.
        """
        milliseconds = int(self._now() * 1000)
        events = _burst.events
        if events is None:
            self._write_out(self._line(milliseconds, head, fields))
        else:
            events.append((self, milliseconds, head, fields))

    def _line(self, milliseconds: int, head: bytes, fields: Mapping[str, object] | None) -> bytes:
        second = milliseconds // 1000
        if second != self._second:
            self._second, self._second_text = second, _iso_second(second).encode()
        return b'{"timestamp":"%b.%03dZ"%b%b}\n' % (
            self._second_text,
            milliseconds % 1000,
            head,
            rendered(fields) if fields else b"",
        )

    def _write(self, head: str, value: str, fields: dict[str, object]) -> None:
        self.emit_rendered(rendered({head: value, **fields}))

    def _write_out(self, lines: bytes) -> None:
        # a full disk or a closed pipe must never stop a transfer
        with contextlib.suppress(OSError, ValueError):
            self._write_line(lines)


_Event = tuple[EventLog, int, bytes, Mapping[str, object] | None]


class _Burst(threading.local):
    events: list[_Event] | None = None


_burst = _Burst()


def begin_burst() -> None:
    """From now on keep what this thread logs, until ``end_burst``: one write for several lines.

    Whoever begins a burst ends it before anything else can run in its thread.
    """
    _burst.events = []


def end_burst() -> None:
    """Render and write what was kept."""
    events, _burst.events = _burst.events, None
    if not events:
        return
    lines: dict[EventLog, list[bytes]] = {}
    for log, milliseconds, head, fields in events:
        lines.setdefault(log, []).append(log._line(milliseconds, head, fields))  # noqa: SLF001
    for log, kept in lines.items():
        log._write_out(b"".join(kept))  # noqa: SLF001


_encoder = msgspec.json.Encoder(enc_hook=repr)


def rendered(fields: Mapping[str, object]) -> bytes:
    """Fields as a line has them, each after a comma; None is left out, ``_`` becomes ``-``.

    ASCII; the fast encoder keeps other letters, so such fields go the slow way.
    """
    record = {name.replace("_", "-"): value for name, value in fields.items() if value is not None}
    try:
        text = _encoder.encode(record)
    except UnicodeEncodeError:  # lone surrogates: bytes that are no UTF-8
        text = b"\xff"
    if not text.isascii():
        text = json.dumps(record, ensure_ascii=True, default=repr).encode("ascii")
    return b"," + text[1:-1] if record else b""


def _write_text(stream: TextIO, line: bytes) -> None:
    stream.write(line.decode("ascii"))
    stream.flush()
