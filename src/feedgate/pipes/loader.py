"""The loader: each pending landing is offered once to each pipe that covers it, oldest first.

In the path: after the commit that made an object visible, before its receipt. This module only
arranges: the ledger says what is pending, the gateway opens an object as the pipe's integration,
the warehouse loads, the ledger records. Exactly once rests on the warehouse's history, whose key is
(pipe, landing): a crash between load and record repeats the load, which finds itself recorded.

What is final and what is not: a bad file and a damaged object are results, recorded once. A refused
object is a result too, but its landing stays pending for the next loader, which a changed
definition makes. A fault of disk or warehouse leaves the landing pending; it is tried again after a
pause that doubles, and other landings go on meanwhile. A file that runs out of memory, or ends the
process (large ones only: their attempts are recorded), is set aside after a few attempts.

A landing's own bytes are read, whatever took its key since. A rename keeps the landing: its bytes
are offered only to pipes that they were not offered to under another name.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol

from feedgate.errors import AccessDenied, FeedgateError, Integrity, NotFound
from feedgate.ledger.receipts import Landing, LoadStatus, PipeLoad
from feedgate.limits import (
    LOAD_ATTEMPTS_MAX,
    LOAD_CLAIM_BYTES,
    LOAD_PAGE,
    LOAD_READ_BYTES,
    LOAD_REFUSED_MAX,
    LOAD_RETRY_S,
    LOAD_RETRY_S_MAX,
    LOAD_STEP_S,
    UNCLAIMED_S,
)
from feedgate.pipes.match import covering
from feedgate.pipes.warehouse import LoadRequest, LoadResult, OutOfMemory, Warehouse
from feedgate.stack.warehouse import Pipe
from feedgate.stack.warehouse import Warehouse as Declared
from feedgate.telemetry import EventLog

__all__ = ["Landings", "Loader", "Reader"]


class Reader(Protocol):
    """An open object, as ``storage.ObjectReader`` is."""

    @property
    def info(self) -> ObjectIdentity:
        """Which object it is."""
        ...

    def pread(self, offset: int, length: int) -> bytes:
        """Bytes at ``offset``; short only at the end. Raises ``errors.Integrity``."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class ObjectIdentity(Protocol):
    """What tells one object from another under the same key."""

    @property
    def object_id(self) -> str: ...


class Landings(Protocol):
    """What the loader asks of the ledger. Every call is one short transaction."""

    def pending(self, limit: int) -> Sequence[Landing]:
        """Landings not offered yet, in the order in which they became visible."""
        ...

    def record(self, loads: Sequence[PipeLoad], *, finished: Iterable[str] = ()) -> None:
        """Record loads, and landings that every covering pipe was offered, in one commit."""
        ...

    def family_loads(self, landing: Landing) -> Sequence[PipeLoad]:
        """Loads of the same bytes under whatever name."""
        ...

    def successor(self, landing: Landing) -> Landing | None:
        """The last rename of the landing's object after it, if there was one."""
        ...


@dataclass(slots=True)
class _Pause:
    """A landing that could not be loaded for now."""

    attempts: int
    until_s: float


_SENT_AGAIN: Final[dict[bool, tuple[LoadStatus, str]]] = {
    True: ("LOAD_SKIPPED", "the same bytes were loaded under this name before"),
    False: (
        "AWAITING_DECISION",
        "other bytes were loaded under this name before; these are kept and not loaded",
    ),
}


class Loader:
    """Turns landings into rows and receipts. Not thread-safe; one a data folder.

    Args:
        declared: the warehouse as declared; ``warehouse`` has applied it.
        open_object: opens the landing's object as the pipe's integration, though another may have
            taken its key. Raises ``AccessDenied``, ``NotFound``, ``Integrity``.
        now: clock, in Unix seconds.
        crash_at: is told each point at which a crash is tested.
        on_loaded: is told each load after it was recorded.
    """

    def __init__(
        self,
        declared: Declared,
        *,
        warehouse: Warehouse,
        landings: Landings,
        open_object: Callable[[Pipe, Landing], Reader],
        now: Callable[[], float],
        log: EventLog,
        crash_at: Callable[[str], None],
        on_loaded: Callable[[PipeLoad], None] | None = None,
    ) -> None:
        self._declared = declared
        self._warehouse = warehouse
        self._landings = landings
        self._open_object = open_object
        self._now = now
        self._log = log
        self._crash_at = crash_at
        self._on_loaded = on_loaded
        self._pauses: dict[str, _Pause] = {}
        self._unclaimed: dict[str, float] = {}  # landings that no pipe covers, since when
        self._refused: set[str] = set()  # landings for the loader of another definition
        self._failed: set[tuple[str, str]] = set()  # (landing, pipe) of pending landings
        self._tries: dict[tuple[str, str], int] = {}  # those that ran out of memory or ended us

    def step(self) -> bool:
        """Load what is pending, for about ``limits.LOAD_STEP_S``; False if nothing could be done.

        Raises:
            CouldNot: the ledger cannot be read or written.
        """
        started = self._now()
        busy = False
        waiting = len(self._pauses) + len(self._unclaimed) + len(self._refused)
        for landing in self._landings.pending(LOAD_PAGE + waiting):
            if landing.landing_id in self._unclaimed or landing.landing_id in self._refused:
                continue
            if not covering(self._declared, landing.bucket, landing.key):
                self._unclaimed[landing.landing_id] = started
                continue
            pause = self._pauses.get(landing.landing_id)
            if pause is not None and self._now() < pause.until_s:
                continue
            busy = self._offer(landing) or busy
            if self._now() - started > LOAD_STEP_S:
                break
        self._finish_unclaimed()
        return busy

    def _finish_unclaimed(self) -> None:
        """One commit for many: a burst of files for no pipe must not take the disk from uploads."""
        if not self._unclaimed:
            return
        age_s = self._now() - next(iter(self._unclaimed.values()))
        if len(self._unclaimed) >= LOAD_PAGE or age_s >= UNCLAIMED_S:
            self._landings.record((), finished=tuple(self._unclaimed))
            self._unclaimed.clear()

    def _offer(self, landing: Landing) -> bool:
        """Offer a landing to every pipe that covers it; False if it stays pending."""
        loads: list[PipeLoad] = []
        try:
            for pipe, tries in self._pipes(landing):
                loads.append(self._load(pipe, landing, tries))
        except FeedgateError as error:
            self._pause(landing, error.message)
        except Exception as error:  # our own bug must not stop the other landings
            self._pause(landing, f"{type(error).__name__} at {_where(error)}")
        else:
            self._pauses.pop(landing.landing_id, None)
            refused = landing.landing_id in self._refused
            self._record(loads, finished=() if refused else (landing.landing_id,))
            self._forget(landing)
            return True
        self._record(loads, finished=())
        self._failed |= {(load.landing_id, load.pipe) for load in loads}
        return bool(loads)

    def _forget(self, landing: Landing) -> None:
        for key in [key for key in self._failed if key[0] == landing.landing_id]:
            self._failed.discard(key)
        for key in [key for key in self._tries if key[0] == landing.landing_id]:
            del self._tries[key]

    def _pipes(self, landing: Landing) -> Iterator[tuple[Pipe, int]]:
        """The pipes to offer it to, and how often each ended or ran out of memory over it."""
        family = self._landings.family_loads(landing)
        elsewhere = {load.pipe for load in family if load.landing_id != landing.landing_id}
        own = {load.pipe: load for load in family if load.landing_id == landing.landing_id}
        for pipe in covering(self._declared, landing.bucket, landing.key):
            name = str(pipe.name)
            load, tries = own.get(name), self._tries.get((landing.landing_id, name), 0)
            if load is not None and load.status == "PENDING":
                tries = max(tries, load.attempts)
            elif name in elsewhere or (load is not None and self._is_final(load)):
                continue
            yield pipe, tries

    def _is_final(self, load: PipeLoad) -> bool:
        """A failure of a pending landing may be a refusal, which is what a new loader is for."""
        return load.status != "LOAD_FAILED" or (load.landing_id, load.pipe) in self._failed

    def _record(self, loads: Sequence[PipeLoad], *, finished: Iterable[str]) -> None:
        if loads or finished:
            self._landings.record(loads, finished=finished)
        if self._on_loaded is not None:
            for load in loads:
                self._on_loaded(load)

    def _pause(self, landing: Landing, reason: str) -> None:
        pause = self._pauses.setdefault(landing.landing_id, _Pause(0, 0.0))
        wait_s = min(LOAD_RETRY_S * 2**pause.attempts, LOAD_RETRY_S_MAX)
        pause.attempts += 1
        pause.until_s = self._now() + wait_s
        self._log.warning(
            "a landing could not be loaded and will be tried again",
            landing_id=landing.landing_id,
            attempts=pause.attempts,
            retry_in_s=wait_s,
            reason=reason,
        )

    # -- one landing, one pipe --------------------------------------------------------------------

    def _load(self, pipe: Pipe, landing: Landing, tries: int) -> PipeLoad:
        """What became of the landing; raises ``CouldNot`` if that cannot be said yet."""
        history = self._warehouse.history(pipe, landing)
        if history.result is not None:
            return self._loaded(pipe, landing, history.result)
        if history.loaded_sha256 is not None:
            return self._unloaded(
                pipe, landing, *_SENT_AGAIN[history.loaded_sha256 == landing.sha256]
            )
        if tries >= LOAD_ATTEMPTS_MAX:
            return self._set_aside(pipe, landing, tries)
        return self._attempt(pipe, landing, tries)

    def _attempt(self, pipe: Pipe, landing: Landing, tries: int) -> PipeLoad:
        try:
            reader = self._open(pipe, landing)
            try:
                result = self._tried(pipe, landing, reader, tries)
            finally:
                reader.close()
        except NotFound as error:
            return self._unloaded(pipe, landing, "LOAD_SKIPPED", error.message)
        except Integrity as error:
            return self._unloaded(pipe, landing, "LOAD_FAILED", error.message)
        except AccessDenied as error:
            if len(self._refused) < LOAD_REFUSED_MAX:
                self._refused.add(landing.landing_id)
            return self._unloaded(pipe, landing, "LOAD_FAILED", error.message)
        if result is None:
            return self._set_aside(pipe, landing, tries + 1)
        self._crash_at("load-after-commit")
        return self._loaded(pipe, landing, result)

    def _tried(self, pipe: Pipe, landing: Landing, reader: Reader, tries: int) -> LoadResult | None:
        """The warehouse's result; None if memory did not suffice for the last time.

        That a large file is begun is recorded: it may be what ends this process. Small ones keep to
        one commit.
        """
        claimed = landing.size > LOAD_CLAIM_BYTES
        if claimed:
            self._landings.record((self._pending(pipe, landing, tries + 1),))
        self._crash_at("load-claimed")
        chunks = _chunks(reader)
        before_commit = partial(self._crash_at, "load-before-commit")
        try:
            return self._warehouse.load(
                LoadRequest(pipe, landing, chunks, self._now, before_commit)
            )
        except (OutOfMemory, MemoryError):
            self._tries[landing.landing_id, str(pipe.name)] = tries + 1
            if tries + 1 >= LOAD_ATTEMPTS_MAX:
                return None
            raise
        except Exception:
            if claimed:  # the file is not to blame
                self._landings.record((self._pending(pipe, landing, tries),))
            raise

    def _pending(self, pipe: Pipe, landing: Landing, attempts: int) -> PipeLoad:
        return PipeLoad(
            landing_id=landing.landing_id,
            pipe=str(pipe.name),
            table=str(pipe.copy.table),
            status="PENDING",
            attempts=attempts,
        )

    def _set_aside(self, pipe: Pipe, landing: Landing, tries: int) -> PipeLoad:
        message = f"set aside after {tries} attempts that ran out of memory or ended the loader"
        return replace(
            self._unloaded(pipe, landing, "LOAD_FAILED", message), attempts=max(1, tries)
        )

    def _open(self, pipe: Pipe, landing: Landing) -> Reader:
        """The bytes of the landing, wherever a rename has put them.

        A replaced version is kept while its landing is pending, so that being replaced is no loss.

        Raises:
            NotFound: they are gone: removed, or replaced where a bucket keeps no versions.
            AccessDenied: the integration's role may not read them.
        """
        gone: FeedgateError = NotFound(f"`{landing.key}` was removed before it was loaded")
        for place in (landing, self._landings.successor(landing)):
            if place is None:
                continue
            try:
                reader = self._open_object(pipe, place)
            except NotFound:
                continue
            except AccessDenied as error:  # a role that may not list is denied what is not there
                gone = error
                continue
            if reader.info.object_id == landing.object_id:
                return reader
            reader.close()
            gone = NotFound(f"`{landing.key}` was replaced before it was loaded")
        raise gone

    def _loaded(self, pipe: Pipe, landing: Landing, result: LoadResult) -> PipeLoad:
        return PipeLoad(
            landing_id=landing.landing_id,
            pipe=str(pipe.name),
            table=str(pipe.copy.table),
            status=result.status,
            rows_parsed=result.rows_parsed,
            rows_loaded=result.rows_loaded,
            errors_seen=result.errors_seen,
            message=result.message,
            errors=result.errors,
            loaded_at_ms=result.loaded_at_ms,
            attempts=self._attempts(landing),
        )

    def _unloaded(self, pipe: Pipe, landing: Landing, status: LoadStatus, message: str) -> PipeLoad:
        return PipeLoad(
            landing_id=landing.landing_id,
            pipe=str(pipe.name),
            table=str(pipe.copy.table),
            status=status,
            message=message,
            loaded_at_ms=int(self._now() * 1000),
            attempts=self._attempts(landing),
        )

    def _attempts(self, landing: Landing) -> int:
        pause = self._pauses.get(landing.landing_id)
        return 1 + (pause.attempts if pause is not None else 0)


def _chunks(reader: Reader) -> Iterator[bytes]:
    offset = 0
    while chunk := reader.pread(offset, LOAD_READ_BYTES):
        yield chunk
        offset += len(chunk)


def _where(error: BaseException) -> str:
    """The place of a fault, without any value."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.name}, line {last.lineno}"
