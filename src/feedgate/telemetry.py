"""Log events as JSON lines: one event, one line, whatever a supplier called his file.

Event shapes follow AWS Transfer's structured logs (User Guide, cw-structure-logs):
``activity-type`` and the fields that page lists. Hostile text cannot break out of its line:
``json`` escapes control characters, and ``ensure_ascii`` the bidirectional and line-separator ones.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

__all__ = ["EventLog", "utc_iso"]

Clock = Callable[[], float]


def utc_iso(unix_s: float) -> str:
    """A UTC instant as ISO 8601 with milliseconds: ``2026-11-24T16:30:00.123Z``."""
    instant = datetime.fromtimestamp(unix_s, UTC)
    return instant.strftime("%Y-%m-%dT%H:%M:%S.") + f"{instant.microsecond // 1000:03d}Z"


class EventLog:
    """Writes JSON lines, each in one ``write``, so that processes sharing a file never mix."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        now: Clock,
        observers: tuple[Callable[[dict[str, object]], None], ...] = (),
    ) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._now = now
        self._observers = observers

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
        try:
            self._stream.write(json.dumps(record, ensure_ascii=True, default=repr) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # a full disk or a closed pipe must never stop a transfer
        for observer in self._observers:
            observer(record)
