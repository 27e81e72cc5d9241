"""What goes on beside serving, in a thread of the supervisor: garbage, rotation of KMS keys.

Only the supervisor deletes parts. Its own thread, because unlinking a large file takes longer than
an accept should wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from feedgate.database import Database
from feedgate.gateway.folder import DataFolder
from feedgate.kms.keyring import Keyring
from feedgate.ledger.store import Ledger
from feedgate.limits import HOUSEKEEPING_S
from feedgate.storage.garbage import collect, recover, release
from feedgate.storage.usage import recount
from feedgate.telemetry import EventLog

__all__ = ["Housekeeping"]


class Housekeeping:
    """Runs from ``start``, under the run lock, until ``stop``."""

    def __init__(self, folder: DataFolder, database: Database, log: EventLog) -> None:
        self._folder = folder
        self._database = database
        self._log = log
        self._ledger = Ledger(database)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Give up the uploads of a gateway that died, then begin."""
        if expired := recover(self._database):
            self._log.info("a crash cut uploads short: kept or given up", uploads=expired)
        self._thread.start()

    def give_up_uploads(self, session_ids: Sequence[str]) -> None:
        """Their worker died: what they were uploading has no owner any more."""
        given_up = sum(release(self._database, session_id) for session_id in session_ids)
        if given_up:
            self._log.info("gave up uploads of a worker that died", uploads=given_up)

    def stop(self) -> None:
        """End, waiting for a round that is under way."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _recount(self) -> None:
        """Counters of what each sender's objects take: SQLite keeps them, this is the check."""
        try:
            if wrong := recount(self._database):
                self._log.warning("counters of stored bytes were set right", senders=wrong)
        except Exception as error:
            self._log.error("stored bytes could not be counted", reason=repr(error))

    def _run(self) -> None:
        self._recount()
        while not self._stopped.wait(HOUSEKEEPING_S):
            try:
                self._round(int(time.time() * 1000))
            except Exception as error:  # one bad round must not end all later ones
                self._log.error("housekeeping failed", reason=repr(error))

    def _round(self, now_ms: int) -> None:
        for arn in Keyring.open(self._folder.keyring).rotate_due(now_ms):
            self._log.info("rotated a KMS key", kms_key_arn=arn)
        # the bytes of a replaced object stay until its landing was loaded
        collect(self._database, self._folder.root, now_ms, wanted=self._ledger.wanted)
