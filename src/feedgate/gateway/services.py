"""The services of one process: stores, judge and files joined out of the data folder.

Every process of a gateway, and every command that looks into its data folder, opens the same
services; what differs is only who asks: a supplier's role session, the integration's, the operator.
"""

from __future__ import annotations

import os
import pwd
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from feedgate.access.audit import AuditEvent, Judged
from feedgate.access.authorize import Judge
from feedgate.access.guarded import GuardedBucket, guarded_buckets
from feedgate.access.principals import Operator, Principal
from feedgate.database import Database
from feedgate.errors import CouldNot
from feedgate.files.deviations import Fidelity
from feedgate.gateway import definition as definition_store
from feedgate.gateway.crash import CrashAt, never
from feedgate.gateway.definition import Definition, DefinitionStore
from feedgate.gateway.folder import DataFolder
from feedgate.gateway.queries import connect_short
from feedgate.gateway.sealing import DEFAULT_KMS_KEY, ReceiptSealer
from feedgate.identity import logins as login_store
from feedgate.identity import store as identity_store
from feedgate.identity.store import UserStore
from feedgate.kms.envelope import KmsKey
from feedgate.kms.keyring import Keyring
from feedgate.ledger import store as ledger_store
from feedgate.ledger.store import Ledger
from feedgate.limits import AUDIT_HEADS_KEPT_MAX, WAKE_PAUSE_S
from feedgate.stack.resources import Stack
from feedgate.storage import embedded
from feedgate.storage.embedded import EmbeddedBucket
from feedgate.telemetry import EventLog, rendered

__all__ = ["Services", "open_database"]


def open_database(folder: DataFolder) -> Database:
    """Open the data folder's database and bring its tables up to date.

    Raises:
        CouldNot: the folder was made by a newer feedgate, or lies on a network file system.
    """
    database = Database(folder.root)
    database.migrate(
        (
            *embedded.MIGRATIONS,
            *ledger_store.MIGRATIONS,
            *identity_store.MIGRATIONS,
            *definition_store.MIGRATIONS,
            *login_store.MIGRATIONS,
        )
    )
    return database


class Services:
    """Everything that answers a request, for the definition applied last."""

    def __init__(
        self,
        folder: DataFolder,
        log: EventLog,
        *,
        crash_at: CrashAt = never,
        audit: Callable[[AuditEvent], None] = lambda _event: None,
        database: Database | None = None,
        like_aws: bool = False,
    ) -> None:
        self.folder = folder
        self.log = log
        self.crash_at = crash_at
        self._like_aws = like_aws
        self.on_event: Callable[[dict[str, Any]], None] = lambda _event: None
        self.database = database if database is not None else open_database(folder)
        self.keyring = Keyring.open(folder.keyring)
        self.definitions = DefinitionStore(self.database)
        self.users = UserStore(self.database)
        self.ledger = Ledger(
            self.database, sealer=ReceiptSealer(self.database, lambda: self.keyring)
        )
        self._wake: socket.socket | None = None
        self._woken_at = 0.0
        self._generation = -1
        self.users_generation = self.users.generation()
        self.definition = self._applied()
        self.judge = Judge(self.definition.stack, audit, time.time)
        self.buckets: Mapping[str, EmbeddedBucket]
        self.refresh()

    @property
    def stack(self) -> Stack:
        return self.definition.stack

    def refresh(self) -> bool:
        """Take up what was applied or changed since; True when something was.

        Raises:
            CouldNot: nothing was applied yet.
        """
        generation = self.definitions.generation()
        if generation == self._generation:
            return False
        self._take_up_definition()
        self._generation = generation
        return True

    def users_changed(self) -> bool:
        """Whether users or keys changed since it was asked last; they are read at each use."""
        generation = self.users.generation()
        changed = generation != self.users_generation
        self.users_generation = generation
        return changed

    def _take_up_definition(self) -> None:
        applied = self.definition = self._applied()
        self.judge.take_up(applied.stack)  # sessions that are open are judged anew
        self.buckets = {
            bucket.name: EmbeddedBucket(
                name=bucket.name,
                arn=bucket.arn,
                database=self.database,
                folder=self.folder.root,
                kms=self.kms_key(bucket.kms_key_arn),
                bucket_key_enabled=bucket.bucket_key_enabled,
                kms_key=self.kms_key,
                crash_at=self.crash_at,
            )
            for bucket in applied.stack.buckets.values()
        }

    def _applied(self) -> Definition:
        applied = self.definitions.applied()
        if applied is None:
            raise CouldNot(
                f"nothing has been applied to `{self.folder.root}` yet",
                hint="`feedgate up` applies the stack and serves it",
            )
        return applied

    @property
    def fidelity(self) -> Fidelity:
        """Which side of the table of deviations this run is on."""
        no_op = self.stack.server.set_stat_option == "ENABLE_NO_OP"
        return Fidelity(like_aws=self._like_aws, setstat_no_op=no_op)

    def kms_key(self, arn: str | None) -> KmsKey:
        """The KMS key of that ARN, or the gateway's own where a bucket names none."""
        return self.keyring.key(arn or DEFAULT_KMS_KEY)

    def guarded(self, principal: Principal) -> Mapping[str, GuardedBucket]:
        """Every bucket of the stack, as this principal may use it."""
        return guarded_buckets(principal, self.judge, self.buckets)

    def operator(self) -> Operator:
        """Whoever runs commands on this machine: the account's root, bound by key policies."""
        return Operator(account=self.stack.account, name=_login_name())

    def wake_loader(self) -> None:
        """Hint that something landed, unless one was given just now: it looks twice at each."""
        now = time.monotonic()
        if now - self._woken_at < WAKE_PAUSE_S:
            return
        self._woken_at = now
        try:
            if self._wake is None:
                self._wake = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._wake.setblocking(False)
                connect_short(self._wake, self.folder.loader_socket)
            self._wake.send(b"1")
        except BlockingIOError:
            return  # its queue is full of hints already
        except OSError:  # the loader is being started again: connect anew next time
            if self._wake is not None:
                self._wake.close()
                self._wake = None

    def close(self) -> None:
        if self._wake is not None:
            self._wake.close()
        self.database.close()


def _login_name() -> str:
    """Who runs this process: the system's word before that of variables, which anybody can set."""
    uid = os.getuid()
    if uid == 0 and (name := os.environ.get("SUDO_USER")):
        return name
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a container run under a number that its passwd does not hold
        return os.environ.get("LOGNAME") or os.environ.get("USER") or f"uid {uid}"


def audit_to(path: Path, now: Callable[[], float]) -> Callable[[AuditEvent], None]:
    """Write each decision as one JSON line, appended."""
    log = EventLog.file(path, now=now)
    heads: dict[Judged, bytes] = {}  # all but the resource is the same for key after key

    def write(event: AuditEvent) -> None:
        head = heads.get(event.judged)
        if head is None:
            if len(heads) >= AUDIT_HEADS_KEPT_MAX:
                heads.clear()
            fields = event.fields()
            del fields["resource"]
            head = heads[event.judged] = rendered({"activity_type": "DECISION", **fields})
        log.emit_rendered(head, {"resource": event.resource})

    return write
