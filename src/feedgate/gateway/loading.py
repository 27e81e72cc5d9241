"""The loader's process: sole owner of the warehouse; a load never costs a supplier anything.

It reads each object as the storage integration's role, asks the judge for every read, and lets
``pipes.loader`` turn landings into rows. Between landings it sleeps on its wake socket; the ledger
is polled each second, so a lost wake-up costs a second and never a file.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from feedgate.access.principals import role_session_for_integration
from feedgate.errors import (
    AccessDenied,
    CouldNot,
    DefinitionError,
    FeedgateError,
    Finding,
    NotFound,
)
from feedgate.gateway.access_checks import explain_pipe_path
from feedgate.gateway.folder import DataFolder
from feedgate.gateway.process import Channel
from feedgate.gateway.queries import Answer, QueryServer, bind_short
from feedgate.gateway.services import Services
from feedgate.gateway.warehouse_key import warehouse_key
from feedgate.ledger.receipts import Landing
from feedgate.limits import POLL_S, WAKE_PAUSE_S, WAREHOUSE_LOCK_WAIT_S
from feedgate.pipes.duckdb import DuckDBWarehouse
from feedgate.pipes.loader import Loader
from feedgate.stack.warehouse import Pipe
from feedgate.stack.warehouse import Warehouse as Declared
from feedgate.storage.bucket import ObjectReader

__all__ = ["open_warehouse", "query_offline", "run_loader"]


def run_loader(channel: Channel, open_services: Callable[[], Services]) -> None:
    """Load until told to drain, or until the supervisor is gone."""
    message = channel.receive()
    if message is None:
        return
    try:
        process = _LoaderProcess(channel, open_services())
    except FeedgateError as error:
        with contextlib.suppress(OSError):
            channel.send("failed", message=str(error), hint=error.hint)
        return
    try:
        channel.send("ready")
        process.run()
    except BrokenPipeError:
        return  # the supervisor gave up: another child could not start
    finally:
        process.close()


def open_warehouse(services: Services) -> DuckDBWarehouse:
    """Open the warehouse, waiting a little for a predecessor that is just ending.

    Raises:
        CouldNot: another process holds the DuckDB files, or the KMS key cannot be used.
    """
    key = warehouse_key(services)
    deadline = time.monotonic() + WAREHOUSE_LOCK_WAIT_S
    while True:
        try:
            return DuckDBWarehouse(services.folder.warehouse, encryption_key=key)
        except CouldNot:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def query_offline(folder: DataFolder, services: Services, sql: str) -> Answer:
    """Run a query on the files themselves, when no gateway runs in ``folder``."""
    definition = services.definition.warehouse
    if definition is None:
        raise NotFound("this stack has no warehouse.sql", hint="`feedgate init` shows one")
    warehouse = open_warehouse(services)
    try:
        warehouse.apply(definition)
        return _answer(warehouse, sql)
    finally:
        warehouse.close()


class _LoaderProcess:
    def __init__(self, channel: Channel, services: Services) -> None:
        self._channel = channel
        self._services = services
        self._warehouse: DuckDBWarehouse | None = None
        self._loader: Loader | None = None
        self._declared: Declared | None = None
        self._refreshed_at = time.monotonic()
        self._take_up_due = False
        self._woken = False
        self._queries = QueryServer(services.folder.query_socket, self._query)
        self._selector = selectors.DefaultSelector()
        self._wake = _wake_socket(services.folder)
        self._selector.register(self._wake, selectors.EVENT_READ)
        channel.sock.setblocking(False)
        self._selector.register(channel.sock, selectors.EVENT_READ)
        self._draining = False
        try:
            self._take_up()
        except DefinitionError as error:  # suppliers are not kept out by a column
            self._trouble(f"nothing is loaded until it is corrected: {_told(error.findings)}")
        self._queries.start()

    def _take_up(self) -> None:
        """Bring the warehouse to what the definition declares; the first one opens it.

        A column that cannot become what is declared stays as it is, and is told as trouble.

        Raises:
            DefinitionError: a pipe cannot do without such a column.
        """
        declared = self._services.definition.warehouse
        if declared is None:
            self._loader = None
            self._services.definitions.set_trouble(None)
            return
        if self._warehouse is None:
            self._warehouse = open_warehouse(self._services)
        applied = self._warehouse.apply(declared)
        self._declared = applied.declared
        if applied.refused:
            self._trouble(_told(applied.refused))
        else:
            self._services.definitions.set_trouble(None)
        self._loader = Loader(
            applied.declared,
            warehouse=self._warehouse,
            landings=self._services.ledger,
            open_object=self._open_object,
            now=time.time,
            log=self._services.log,
            crash_at=self._services.crash_at,
            on_loaded=self._report if self._channel.wants_events else None,
        )

    def _query(self, sql: str) -> Answer:
        if self._warehouse is None:
            raise NotFound("this stack has no warehouse.sql", hint="`feedgate init` shows one")
        return _answer(self._warehouse, sql)

    def _open_object(self, pipe: Pipe, landing: Landing) -> ObjectReader:
        """The landing's object, opened as the pipe's storage integration may open it."""
        assert self._declared is not None
        stage = self._declared.stages[pipe.copy.stage]
        integration = self._declared.integrations[stage.integration]
        try:
            session = role_session_for_integration(
                self._services.stack,
                integration.role_arn,
                judge=self._services.judge,
                external_id=integration.external_id,
            )
            bucket = self._services.guarded(session).get(landing.bucket)
            if bucket is None:
                raise NotFound(f"the bucket `{landing.bucket}` is no longer in the stack")
            reader = bucket.open_landed(landing.key, landing.object_id, landing.version_id)
        except AccessDenied as error:
            raise self._explained(error, pipe, landing.key) from error
        if reader is None:
            raise NotFound(
                f"`s3://{landing.bucket}/{landing.key}` was removed before it was loaded"
            )
        return reader

    def _explained(self, error: AccessDenied, pipe: Pipe, key: str) -> AccessDenied:
        """The refusal with what is missing and where, as the receipt is to say it."""
        explanation = explain_pipe_path(self._services.definition, str(pipe.name), key)
        missing = [f"missing in {fix.where}: {fix.inline()}" for fix in explanation.fixes]
        return AccessDenied(
            "; ".join([error.message, *missing]),
            decision=error.decision,
            hint=f"feedgate explain --pipe {pipe.name}",
        )

    def _report(self, load: Any) -> None:
        with contextlib.suppress(OSError):
            self._channel.send(
                "event",
                event={
                    "activity-type": "LOAD",
                    "landing-id": load.landing_id,
                    "pipe": load.pipe,
                    "table": load.table,
                    "status": load.status,
                    "rows-loaded": load.rows_loaded,
                    "errors-seen": load.errors_seen,
                    "message": load.message,
                },
            )

    def run(self) -> None:
        while not self._draining:
            try:
                busy = self._loader is not None and self._loader.step()
            except FeedgateError as error:
                self._services.log.error("loading failed, will be tried again", reason=str(error))
                busy = False
            # a hint stands for all that landed within the pause after it: look a second time
            again, self._woken = self._woken, False
            self._wait(0.0 if busy else 2 * WAKE_PAUSE_S if again else POLL_S)
            # a burst of small files must not cost the workers a core: look at most so often
            if not busy:
                time.sleep(WAKE_PAUSE_S)

    def _wait(self, timeout_s: float) -> None:
        for key, _events in self._selector.select(timeout_s):
            if key.fileobj is self._wake:
                self._woken = True
                with contextlib.suppress(BlockingIOError):
                    while self._wake.recv(16):
                        pass
            else:
                self._on_message()
        if time.monotonic() - self._refreshed_at >= POLL_S:
            self._refresh()

    def _on_message(self) -> None:
        try:
            received = self._channel.receive()
        except BlockingIOError:
            return
        if received is None or received[0]["kind"] == "drain":
            self._draining = True

    def _refresh(self) -> None:
        """Take up a changed definition; until that succeeds the last good one goes on loading."""
        self._refreshed_at = time.monotonic()
        try:
            self._take_up_due = self._services.refresh() or self._take_up_due
            if self._take_up_due:
                self._take_up()
                self._take_up_due = False
        except DefinitionError as error:
            self._take_up_due = False  # only another definition will do
            self._trouble(f"loading goes on as before: {_told(error.findings)}")
        except FeedgateError as error:
            self._trouble(f"loading goes on as before: {error}")

    def _trouble(self, text: str) -> None:
        """Tell the log and, while it lasts, `feedgate status`."""
        if self._services.definitions.trouble() != text:
            self._services.log.error("could not take up a change", reason=text)
        self._services.definitions.set_trouble(text)

    def close(self) -> None:
        self._queries.stop()
        if self._warehouse is not None:
            self._warehouse.close()
        self._wake.close()
        self._services.folder.loader_socket.unlink(missing_ok=True)
        self._services.close()


def _told(findings: Sequence[Finding]) -> str:
    return "; ".join(map(str, findings))


def _wake_socket(folder: DataFolder) -> socket.socket:
    path = folder.loader_socket
    path.unlink(missing_ok=True)
    wake = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bind_short(wake, path)
    path.chmod(0o600)
    wake.setblocking(False)
    return wake


def _answer(warehouse: DuckDBWarehouse, sql: str) -> Answer:
    result = warehouse.query(sql)
    return Answer(
        tuple(result.columns), tuple(result.types), tuple(map(tuple, result.rows)), result.truncated
    )
