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
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TextIO

import msgspec

__all__ = ["EventLog", "utc_iso"]

Clock = Callable[[], float]


def utc_iso(unix_s: float) -> str:
    """A UTC instant as ISO 8601 with milliseconds: ``2026-11-24T16:30:00.123Z``."""
    second, milliseconds = divmod(int(unix_s * 1000), 1000)
    return f"{_iso_second(second)}.{milliseconds:03d}Z"


@lru_cache(maxsize=4)  # a burst of events shares its second
def _iso_second(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class EventLog:
    """Writes JSON lines, each in one ``write``, so that processes sharing a file never mix.

    ``stream`` takes text (default: stderr); ``EventLog.file`` appends to a file without a buffer.
    """

    def __init__(self, stream: TextIO | None = None, *, now: Clock) -> None:
        text = stream if stream is not None else sys.stderr
        self._now = now
        self._write_line: Callable[[bytes], object] = lambda line: _write_text(text, line)

    @classmethod
    def file(cls, path: Path, *, now: Clock) -> EventLog:
        """Append to ``path``, made 0600 if it is not there."""
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
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

    def _write(self, head: str, value: str, fields: dict[str, object]) -> None:
        record: dict[str, object] = {"timestamp": utc_iso(self._now()), head: value}
        for name, item in fields.items():
            if item is not None:
                record[name.replace("_", "-")] = item
        # a full disk or a closed pipe must never stop a transfer
        with contextlib.suppress(OSError, ValueError):
            self._write_line(_json_line(record))


_encoder = msgspec.json.Encoder(enc_hook=repr)


def _json_line(record: dict[str, object]) -> bytes:
    """One line of ASCII; the fast encoder keeps other letters, so such lines go the slow way."""
    try:
        line = _encoder.encode(record)
    except UnicodeEncodeError:  # lone surrogates: bytes that are no UTF-8
        line = b"\xff"
    if not line.isascii():
        line = json.dumps(record, ensure_ascii=True, default=repr).encode("ascii")
    return line + b"\n"


def _write_text(stream: TextIO, line: bytes) -> None:
    stream.write(line.decode("ascii"))
    stream.flush()
