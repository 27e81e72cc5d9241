"""What the supervisor does once a minute: garbage, and KMS keys whose window has passed."""

from __future__ import annotations

import time

from feedgate.database import Database
from feedgate.gateway.folder import DataFolder
from feedgate.kms.keyring import Keyring
from feedgate.ledger.store import Ledger
from feedgate.storage.garbage import collect, recover
from feedgate.telemetry import EventLog

__all__ = ["Housekeeping"]


class Housekeeping:
    """Callable by the supervisor; only it deletes parts."""

    def __init__(self, folder: DataFolder, database: Database, log: EventLog) -> None:
        self._folder = folder
        self._database = database
        self._log = log

    def start(self) -> None:
        """At the start of a gateway no upload has an owner; the run lock is held."""
        if expired := recover(self._database):
            self._log.info("uploads that a crash cut short were given up", uploads=expired)

    def __call__(self) -> None:
        now_ms = int(time.time() * 1000)
        for arn in Keyring.open(self._folder.keyring).rotate_due(now_ms):
            self._log.info("rotated a KMS key", kms_key_arn=arn)
        wanted = Ledger(self._database).wanted  # a replaced object that is not loaded yet stays
        removed = collect(self._database, self._folder.root, now_ms, wanted=wanted)
        if removed:
            self._log.info("removed parts that nothing refers to", parts=removed)
