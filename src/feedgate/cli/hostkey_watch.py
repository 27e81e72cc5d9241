"""Beside a running gateway: the ready file names today's host keys, retired ones are deleted."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from feedgate.cli.output import note
from feedgate.gateway.folder import write_atomically
from feedgate.limits import POLL_S

if TYPE_CHECKING:
    from feedgate.sftp.hostkeys import HostKey
    from feedgate.telemetry import EventLog

__all__ = ["HostKeyFollower"]


class HostKeyFollower:
    """A thread of the supervisor's process, from ``start`` until ``stop``.

    The door takes changed keys up by itself; this is for those who read fingerprints.
    """

    def __init__(self, folder: Path, ready_file: Path | None, log: EventLog) -> None:
        self._folder = folder
        self._ready_file = ready_file
        self._log = log
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="host keys", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End, waiting for a round that is under way."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        from feedgate.sftp.hostkeys import HostKeyFolder, HostKeyWatch

        watch, first, told = HostKeyWatch(self._folder), True, ""
        while not self._stopped.wait(0 if first else POLL_S / 2):
            try:
                if (keys := watch.changed()) is not None and not first:
                    self._tell(keys)
                    HostKeyFolder(self._folder).forget_retired(int(time.time() * 1000))
                told = ""
            except Exception as error:  # one bad round must not end all later ones
                if str(error) != told:
                    told = str(error)
                    self._log.error("host keys cannot be read", reason=told)
            first = False

    def _tell(self, keys: list[HostKey]) -> None:
        for key in keys:
            note(f"  host key {key.fingerprint}")
        if self._ready_file is not None and self._ready_file.exists():
            body = json.loads(self._ready_file.read_text(encoding="utf-8"))
            body["host_key_fingerprints"] = [key.fingerprint for key in keys]
            write_atomically(self._ready_file, body)
