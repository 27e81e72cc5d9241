"""An open object that is judged again once other policies are served.

On AWS every GetObject is judged, and a download is many of them. Here a decision holds as long as
the stack that it was made by: so an open handle costs one comparison a read, and asks the judge at
the first read after ``Judge.take_up``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from feedgate.access.authorize import Judge
from feedgate.stack.resources import Stack
from feedgate.storage.bucket import ObjectReader

__all__ = ["JudgedReader"]


class JudgedReader:
    """An ``ObjectReader``; ``require`` judges reading it, and was asked under ``stack``."""

    __slots__ = ("_judge", "_reader", "_require", "_stack", "info")

    def __init__(
        self, reader: ObjectReader, judge: Judge, stack: Stack, require: Callable[[], None]
    ) -> None:
        self.info = reader.info
        self._reader = reader
        self._judge = judge
        self._stack = stack
        self._require = require

    def pread(self, offset: int, length: int) -> bytes:
        """Bytes at ``offset``; short only at the end.

        Raises:
            AccessDenied: the policies that are served by now do not allow it.
            Integrity, CouldNot: as the reader.
        """
        if self._judge.stack is not self._stack:
            stack = self._judge.stack  # before it is judged: a change meanwhile is seen next time
            self._require()
            self._stack = stack
        return self._reader.pread(offset, length)

    def close(self) -> None:
        """Let go of the object. Idempotent."""
        self._reader.close()


if TYPE_CHECKING:  # the type checker holds the form to its protocol

    def _is_a_reader(reader: JudgedReader) -> ObjectReader:
        return reader
