"""What is left of an interrupted upload, and who may go on with it.

A partial belongs to the user and the key of its upload. Whether its session still lives is told by
the locks (flock) that a writer holds on the upload's part files: the kernel lets go of them with
the process, so a crash of any kind needs no time-out.

What a crash left is looked at once, by whoever asks first: every segment of the part that was being
written is verified and then made durable, so the size told is never more than what can be read. A
partial is told in whole ``PARTIAL_GRAIN_BYTES`` and never to its last byte: a client that had sent
everything before it lost CLOSE has something left to send, and so lands its file.
"""

from __future__ import annotations

import fcntl
import hmac
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from feedgate import limits
from feedgate.errors import CouldNot, FeedgateError, Integrity
from feedgate.kms.envelope import DataKey
from feedgate.storage import parts
from feedgate.storage.extents import Extent, ExtentMap
from feedgate.storage.index import key_bytes
from feedgate.storage.openpart import OpenPart
from feedgate.storage.partfiles import disk_error
from feedgate.storage.partial import (
    Partial,
    PartialState,
    claim,
    condemn,
    find_partials,
    partials_of_user,
    save_state,
    state_seal,
)
from feedgate.storage.reader import part_reader
from feedgate.storage.surroundings import Surroundings

__all__ = [
    "EarlierParts",
    "Resumed",
    "drop_partials",
    "ended",
    "find_partial",
    "partial_bytes",
    "resume",
    "told_bytes",
]


class EarlierParts:
    """The parts that an upload had before this session went on with it; open and locked."""

    def __init__(
        self,
        fds: Mapping[int, int],
        readers: Mapping[int, parts.PartReader],
        sizes: Mapping[int, tuple[int, bool]],
    ) -> None:
        self.readers = dict(readers)
        self.sizes = dict(sizes)  # of the ciphertext, and whether it was cut
        self._fds = dict(fds)

    def add(self, number: int, fd: int, reader: parts.PartReader, size: tuple[int, bool]) -> None:
        """One more part, open and locked."""
        self._fds[number] = fd
        self.readers[number] = reader
        self.sizes[number] = size

    def close(self) -> None:
        """Let go of the files and their locks. Idempotent."""
        self.readers.clear()
        while self._fds:
            os.close(self._fds.popitem()[1])


@dataclass(frozen=True, slots=True)
class Resumed:
    """An upload that a session has taken over."""

    partial: Partial
    data_key: DataKey
    earlier: EarlierParts
    extents: tuple[Extent, ...]
    size: int


def told_bytes(contiguous: int, before: int) -> int:
    """How much of so many bytes without a gap a partial is said to hold.

    ``before``: what an earlier session was told, and so had not sent all of.
    """
    grain = limits.PARTIAL_GRAIN_BYTES
    return max(max(0, contiguous - 1) // grain * grain, min(contiguous, before))


def find_partial(store: Surroundings, key: str, user: str) -> Partial | None:
    """What this user may go on with at ``key``; None where there is nothing.

    Blocks, and after a crash reads what it left: for a thread. ``Partial.size`` is what is kept.
    """
    read, now_ms = store.database.read, store.now_ms()
    for partial in find_partials(read, user, store.bucket, key_bytes(key), now_ms):
        settled = _settled(store, partial)
        if settled is not None:
            return settled
    return None


def resume(store: Surroundings, key: str, user: str, owner: str) -> Resumed | None:
    """Take a partial over for the session ``owner``; None where there is none any more."""
    found = find_partial(store, key, user)
    if found is None:
        return None
    partial = found
    data_key = _data_key(store, partial)
    state = PartialState.parse(partial.state)
    fds = _lock_parts(store, partial.object_id, state.parts)
    if fds is None:
        return None
    lease_until_ms = store.now_ms() + limits.UPLOAD_LEASE_S * 1000
    try:
        readers = {}
        for number, (size, cut) in state.parts.items():
            if number not in fds:
                raise Integrity(f"a part of what was left of `{key}` is missing")
            readers[number] = part_reader(
                fds[number], data_key, partial.object_id, number, size, cut=cut
            )
        if not store.database.write_now(lambda tx: claim(tx, partial, owner, lease_until_ms)):
            raise CouldNot(f"what was left of `{key}` was taken up elsewhere")
    except BaseException:
        _close(fds)
        raise
    taken = replace(partial, owner=owner, lease_until_ms=lease_until_ms)
    earlier = EarlierParts(fds, readers, state.parts)
    whole_key = DataKey(data_key, found.wrapped_key, found.kms_key_arn)
    return Resumed(taken, whole_key, earlier, state.extents, found.size)


def ended(part: OpenPart, before: Resumed | None, partial: Partial, extents: ExtentMap) -> Resumed:
    """An upload whose open part was made durable, as if another session had left it: ``sync``.

    Raises ``OSError``.
    """
    part.make_durable()
    number, size, data_key = part.number, part.written, part.data_key
    fd = part.take_fd()
    reader = part_reader(fd, data_key.plaintext, part.object_id, number, size)
    earlier = before.earlier if before is not None else EarlierParts({}, {}, {})
    earlier.add(number, fd, reader, (size, False))
    return Resumed(partial, data_key, earlier, tuple(extents), extents.contiguous())


def drop_partials(store: Surroundings, key: str, user: str) -> int:
    """Give up what this user left unfinished at ``key``; how many there were.

    One that a live session is writing is its own business. Cheap where there is nothing.
    """
    name = key_bytes(key)
    found = find_partials(store.database.read, user, store.bucket, name, store.now_ms())
    dead = [partial for partial in found if not partial.owner or not _is_alive(store, partial)]
    for partial in dead:
        _give_up(store, partial)
    return len(dead)


def partial_bytes(store: Surroundings, user: str) -> int:
    """How many bytes are kept for this user to resume, also those a crash left unseen."""
    return sum(
        partial.size or _stored_bytes(store, partial)
        for partial in partials_of_user(store.database.read, user, store.bucket)
    )


def _stored_bytes(store: Surroundings, partial: Partial) -> int:
    number = PartialState.parse(partial.state).open_part
    try:
        return store.files.path(partial.object_id, number).stat().st_size
    except FileNotFoundError:
        return 0


# -- one partial --------------------------------------------------------------------------------


def _settled(store: Surroundings, partial: Partial) -> Partial | None:
    """A partial of which is known what can be read; None when its session lives or nothing can."""
    state = _checked_state(store, partial)
    if not partial.owner and not state.open_part and partial.size:
        return replace(partial, size=ExtentMap(state.extents).contiguous())
    with _locked(store, partial, state) as fds:
        if fds is None:
            return None
        try:
            recovered = _recovered(store, partial, state, fds)
        except OSError as error:
            raise disk_error(error, "read what was left of an upload") from error
        if recovered is None:
            _give_up(store, partial)
            return None
        if not store.database.write_now(lambda tx: save_state(tx, recovered)):
            return None
    return recovered


def _recovered(
    store: Surroundings, partial: Partial, state: PartialState, fds: Mapping[int, int]
) -> Partial | None:
    if not state.parts.keys() <= fds.keys():
        return None
    data_key = _data_key(store, partial)
    closed, readable = dict(state.parts), 0
    number = state.open_part
    if number in fds:
        size = _readable_ciphertext(data_key, partial.object_id, number, fds[number])
        if size:
            os.fdatasync(fds[number])
            store.files.sync_directory(partial.object_id)
            closed[number] = (size, True)
            reader = part_reader(fds[number], data_key, partial.object_id, number, size, cut=True)
            readable = reader.size
    extents = ExtentMap(tuple(_clipped(state.extents, number, readable)))
    if state.follows >= 0 and readable:
        extents.put(state.follows, readable, number, 0)
    size = told_bytes(extents.contiguous(), partial.size)
    if not size:
        return None
    extents.cut(size)
    kept = replace(
        partial,
        owner="",
        lease_until_ms=store.now_ms() + store.partial_s * 1000,
        size=size,
        state=PartialState(closed, tuple(extents)).text(),
    )
    return replace(kept, seal=state_seal(data_key, kept))


def _readable_ciphertext(data_key: bytes, object_id: str, number: int, fd: int) -> int:
    def read_at(offset: int, length: int) -> bytes:
        return os.pread(fd, length, offset)

    associated = parts.associated_data(object_id, number)
    size = os.fstat(fd).st_size
    return parts.whole_segments(data_key, associated, size, read_at) * limits.SEGMENT_BYTES


def _clipped(extents: Iterable[Extent], number: int, readable: int) -> Iterator[Extent]:
    """The extents without what they would have in part ``number`` beyond its readable bytes."""
    for extent in extents:
        if extent.part != number:
            yield extent
        elif readable > extent.part_offset:
            length = min(extent.length, readable - extent.part_offset)
            yield replace(extent, length=length)


def _checked_state(store: Surroundings, partial: Partial) -> PartialState:
    data_key = _data_key(store, partial)
    if not hmac.compare_digest(state_seal(data_key, partial), partial.seal):
        raise Integrity(f"the row of what was left of `{partial.key}` does not verify")
    return PartialState.parse(partial.state)


def _data_key(store: Surroundings, partial: Partial) -> bytes:
    return store.data_key(
        partial.kms_key_arn, partial.wrapped_key, partial.key, bucket_key=partial.bucket_key
    )


def _give_up(store: Surroundings, partial: Partial) -> None:
    store.database.write_now(lambda tx: condemn(tx, partial))


# -- locks --------------------------------------------------------------------------------------


def _is_alive(store: Surroundings, partial: Partial) -> bool:
    try:
        state = PartialState.parse(partial.state)
    except FeedgateError:
        return False
    with _locked(store, partial, state) as fds:
        return fds is None


@contextmanager
def _locked(
    store: Surroundings, partial: Partial, state: PartialState
) -> Iterator[dict[int, int] | None]:
    """The parts' descriptors; None while the session that writes them lives."""
    numbers = [*state.parts, *([state.open_part] if state.open_part else [])]
    fds = _lock_parts(store, partial.object_id, numbers)
    try:
        # between its row and its first bytes a writer cannot be told from one that died there
        begins = (
            fds is not None
            and bool(partial.owner and state.open_part)
            and not _has_bytes(fds, state.open_part)
        )
        yield None if begins else fds
    finally:
        if fds is not None:
            _close(fds)


def _has_bytes(fds: Mapping[int, int], number: int) -> bool:
    return number in fds and os.fstat(fds[number]).st_size > 0


def _lock_parts(
    store: Surroundings, object_id: str, numbers: Iterable[int]
) -> dict[int, int] | None:
    """Descriptors of those parts that exist; None when a live session holds one of them."""
    fds: dict[int, int] = {}
    try:
        for number in numbers:
            try:
                fds[number] = store.files.open(object_id, number)
            except FileNotFoundError:
                continue
            fcntl.flock(fds[number], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _close(fds)
        return None
    except OSError as error:
        _close(fds)
        raise disk_error(error, "open what was left of an upload") from error
    return fds


def _close(fds: dict[int, int]) -> None:
    while fds:
        os.close(fds.popitem()[1])
