"""What a session tells the log, in AWS Transfer's activity types and field names.

Source: User Guide, cw-structure-logs and cw-example-logs. Byte counts are strings there, so here.
``user`` and ``operation`` are ours where AWS's samples leave them out: a line says who. So are
an upload's ``seconds`` from OPEN to CLOSE, and its ``landing-id``, the name of its receipt.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from feedgate.errors import FeedgateError, NoSpace, NotFound
from feedgate.sftp.handles import Download, Upload
from feedgate.sftp.packets import MalformedError, Request
from feedgate.sftp.status import PERMISSION_DENIED, status_of
from feedgate.telemetry import EventLog, rendered

__all__ = ["ConnectionEvents", "SessionEvents"]

Observer = Callable[[dict[str, Any]], None]


class ConnectionEvents:
    """Events of one SSH connection; ``fields`` go with each of them."""

    def __init__(self, log: EventLog, fields: Mapping[str, object], observer: Observer) -> None:
        self._log = log
        self._fields = dict(fields)
        self._observer = observer
        self._heads: dict[str, bytes] = {}  # by activity type, what each line begins with

    def emit(self, activity_type: str, **fields: object) -> None:
        """One activity, to the log and, for who watches the terminal, to the observer."""
        head = self._heads.get(activity_type)
        if head is None:
            head = rendered({"activity_type": activity_type, **self._fields})
            self._heads[activity_type] = head
        if fields.keys() & self._fields.keys():
            self._log.emit(activity_type, **{**self._fields, **fields})
        else:
            self._log.emit_rendered(head, fields)
        if activity_type == "CLOSE":
            record = {**self._fields, **fields}
            shown = {name.replace("_", "-"): value for name, value in record.items()}
            self._observer({"activity-type": activity_type, **shown})

    def with_fields(self, **fields: object) -> ConnectionEvents:
        """The same log with more fields."""
        return ConnectionEvents(self._log, {**self._fields, **fields}, self._observer)

    def error(self, message: str, **fields: object) -> None:
        """Something that went wrong on our side."""
        self._log.error(message, **{**self._fields, **fields})

    def info(self, message: str, **fields: object) -> None:
        """Something that an operator wants to see."""
        self._log.info(message, **{**self._fields, **fields})


class SessionEvents:
    """Events of one SFTP session."""

    def __init__(self, events: ConnectionEvents) -> None:
        self._events = events

    def open(self, handle: Upload | Download, mode: str) -> None:
        """OPEN succeeded."""
        self._events.emit("OPEN", path=handle.path, mode=mode)

    def refused_open(self, path: str, mode: str, text: str) -> None:
        """OPEN in a mode that is not done here."""
        self._events.emit("ERROR", operation="OPEN", path=path, mode=mode, message=text)

    def close(self, handle: Upload | Download, *, error: Exception | None = None) -> None:
        """CLOSE succeeded, or (an upload's) was refused: then the bytes went nowhere."""
        if error is not None:
            code, message = status_of(error)
            reason = None if code == PERMISSION_DENIED else str(error)
            self._events.emit(
                "ERROR", operation="CLOSE", path=handle.path, message=message, reason=reason
            )
        elif isinstance(handle, Upload):
            self._events.emit(
                "CLOSE",
                path=handle.path,
                bytes_in=str(handle.bytes_in),
                seconds=round(time.monotonic() - handle.opened_at_s, 3),
                landing_id=handle.file.landing_id,
            )
        else:
            self._events.emit("CLOSE", path=handle.path, bytes_out=str(handle.bytes_out))

    def partial_close(self, handle: Upload) -> None:
        """The connection ended before CLOSE: nothing became visible."""
        self._events.emit("PARTIAL_CLOSE", path=handle.path, bytes_in=str(handle.bytes_in))

    def path(self, activity_type: str, path: str, new_path: str | None = None) -> None:
        """DELETE, RENAME, MKDIR, RMDIR, SETSTAT."""
        self._events.emit(activity_type, path=path, new_path=new_path)

    def ignored_attributes(self, path: str) -> None:
        """A client set a mode or an owner."""
        self._events.info("modes and owners are accepted and not kept", path=path)

    def refused(
        self, operation: str, request: Request, code: int, text: str, error: FeedgateError
    ) -> None:
        """An operation was answered with an error. Looking for what is not there is none.

        The operator reads the reason, which the supplier does not.
        """
        if operation == "CLOSE" or isinstance(error, NotFound):
            return
        fields: dict[str, object] = {"operation": operation, "message": text}
        if code != PERMISSION_DENIED or isinstance(error, NoSpace):
            fields["reason"] = str(error)
        self._events.emit("ERROR", **fields)

    def failed(self, operation: str, error: Exception) -> None:
        """Our own fault: the traceback is for the log alone."""
        assert not isinstance(error, MalformedError)
        trace = "".join(traceback.format_exception(error))
        self._events.error("an operation failed unexpectedly", operation=operation, trace=trace)

    def internal(self, message: str, trace: str) -> None:
        """Our own fault outside an operation."""
        self._events.error(message, trace=trace)
