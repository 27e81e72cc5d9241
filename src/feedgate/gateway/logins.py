"""The supervisor's tally of logins and refusals, written down once a second.

Adding costs a dictionary's entry, so that a thousand wrong keys a second cost the supervisor little
and the database one short transaction each second. What comes within that second in too many kinds
is counted without its address and name.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from feedgate.database import Database
from feedgate.gateway.admission import source_of
from feedgate.identity.logins import LoginRecord, LoginStore
from feedgate.identity.refusals import Refusal, RefusalCause
from feedgate.limits import LOGIN_TEXT_CHARS_MAX, LOGINS_PENDING_MAX, LOGINS_WRITTEN_S
from feedgate.telemetry import EventLog

__all__ = ["LoginTally"]

_Key = tuple[RefusalCause | None, str, str]


class LoginTally:
    """Runs from ``start`` until ``stop``, which writes what is left. Adding never raises."""

    def __init__(
        self, database: Database, log: EventLog, *, now: Callable[[], float] = time.time
    ) -> None:
        self._store = LoginStore(database, now=now)
        self._log = log
        self._now = now
        self._pending: dict[_Key, LoginRecord] = {}
        self._lock = threading.Lock()
        self._pardons: deque[str] = deque(maxlen=LOGINS_PENDING_MAX)
        self._trouble = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="logins", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write the rest, and end."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self._round()

    # -- what the supervisor tells ----------------------------------------------------------------

    def refused(self, refusal: Refusal) -> None:
        """A connection was refused."""
        self._add(
            LoginRecord(
                refusal.cause,
                source_of(refusal.source_ip),
                _stored(refusal.user_name),
                refusal.source_ip,
                1,
                refusal.at,
                refusal.at,
                refusal.method,
                refusal.fingerprints,
                _stored(refusal.client_version),
                _stored(refusal.detail, LOGIN_TEXT_CHARS_MAX * 8),
            )
        )

    def accepted(self, user_name: str, address: str, fingerprint: str, client_version: str) -> None:
        """Somebody logged in; without a fingerprint, by a password alone."""
        at = self._now()
        self._add(
            LoginRecord(
                None,
                source_of(address),
                _stored(user_name),
                address,
                1,
                at,
                at,
                "publickey" if fingerprint else "password",
                (fingerprint,) if fingerprint else (),
                _stored(client_version),
            )
        )

    def _add(self, record: LoginRecord) -> None:
        key = (record.cause, record.source, record.user_name)
        with self._lock:
            if key not in self._pending and len(self._pending) >= LOGINS_PENDING_MAX:
                key = (record.cause, "", "")
                record = LoginRecord(record.cause, "", "", "", 1, record.first_at, record.last_at)
            before = self._pending.get(key)
            self._pending[key] = record if before is None else before.followed_by(record)

    def take_pardons(self) -> Sequence[str]:
        """Addresses whose failures the operator wants forgotten; each is told once."""
        found = []
        while self._pardons:
            found.append(self._pardons.popleft())
        return found

    # -- writing ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopped.wait(LOGINS_WRITTEN_S):
            self._round()

    def _round(self) -> None:
        try:
            self._pardons.extend(self._store.take_pardons())
            self.flush()
        except Exception as error:  # one bad round must not end all later ones
            if str(error) != self._trouble:  # told once, not each second
                self._log.error("logins were not written down", reason=repr(error))
            self._trouble = str(error)
        else:
            self._trouble = ""

    def flush(self) -> None:
        """Write what was added. Raises what the database does; that much is then lost."""
        with self._lock:
            records, self._pending = list(self._pending.values()), {}
        if records:
            self._store.add(records)


def _stored(text: str, chars_max: int = LOGIN_TEXT_CHARS_MAX) -> str:
    """Cut, and without what UTF-8 cannot say."""
    return text[:chars_max].encode("utf-8", "replace").decode()
