"""What the supervisor does once a minute: garbage, and KMS keys whose window has passed."""

from __future__ import annotations

import time

from feedgate.database import Database
from feedgate.gateway.folder import DataFolder
from feedgate.kms.keyring import Keyring
from feedgate.storage.garbage import collect
from feedgate.telemetry import EventLog

__all__ = ["Housekeeping"]


class Housekeeping:
    """Callable by the supervisor; only it deletes parts."""

    def __init__(self, folder: DataFolder, database: Database, log: EventLog) -> None:
        self._folder = folder
        self._database = database
        self._log = log

    def __call__(self) -> None:
        now_ms = int(time.time() * 1000)
        for arn in Keyring.open(self._folder.keyring).rotate_due(now_ms):
            self._log.info("rotated a KMS key", kms_key_arn=arn)
        removed = collect(self._database, self._folder.root, now_ms)
        if removed:
            self._log.info("removed parts that nothing refers to", parts=removed)
