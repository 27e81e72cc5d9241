"""Uploads as the event loop sees them: order, memory, errors, and the end in all its forms."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgate.errors import AccessDenied, CouldNot, NoSpace, Unsupported
from feedgate.files.objects import Buffer
from feedgate.files.upload import Beginning, UploadThreads, WriteFile
from feedgate.limits import UPLOAD_BATCH_BYTES, UPLOAD_QUEUE_BYTES_MAX, UPLOAD_SHARE_BYTES


class MemoryUpload:
    """A StoredUpload that keeps its bytes in memory and says which threads it saw."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.size = 0
        self.metadata: dict[str, str] = {}
        self.threads: set[str] = set()
        self.state = "open"
        self.fail_at = -1
        self.sealed_ahead: bytes | None = None
        self.gate = threading.Event()
        self.gate.set()
        self._busy = threading.Lock()

    def write(self, offset: int, pieces: Sequence[Buffer]) -> None:
        assert self.state == "open"
        assert self._busy.acquire(blocking=False), "two threads at once"
        try:
            self.gate.wait(10)
            self.threads.add(threading.current_thread().name)
            if 0 <= self.fail_at <= offset:
                raise NoSpace("no space left")
            data = b"".join(pieces)
            if len(self.data) < offset:
                self.data += bytes(offset - len(self.data))
            self.data[offset : offset + len(data)] = data
        finally:
            self._busy.release()

    def truncate(self, size: int) -> None:
        assert self.state == "open"
        del self.data[size:]
        self.data += bytes(size - len(self.data))

    def pread(self, offset: int, length: int) -> bytes:
        assert self.state == "open"
        return bytes(self.data[offset : offset + length])

    def seal_ahead(self) -> None:
        assert self.state == "open"
        self.sealed_ahead = bytes(self.data)

    def keep(self) -> int:
        assert self.state == "open"
        self.state = "kept"
        return len(self.data)

    def finish(self) -> bytes:
        assert self.state == "open"
        self.threads.add(threading.current_thread().name)
        self.state = "finished"
        return bytes(self.data)

    def abort(self) -> None:
        assert self._busy.acquire(blocking=False), "aborted during a write"
        self._busy.release()
        self.state = "aborted"


class Published:
    """Where a test's uploads land."""

    def __init__(self) -> None:
        self.objects: list[bytes] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, staged: bytes) -> str:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.objects.append(staged)
        return "landing"


def running(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test on a fresh event loop, in debug mode: a blocked or forgotten task is an error."""
    asyncio.run(test())


def write_file(
    upload: MemoryUpload | None,
    published: Published,
    *,
    threads: UploadThreads | None = None,
    **more: Any,
) -> WriteFile:
    """A handle over a memory upload."""
    return WriteFile(
        s3_path="/landing/a",
        upload=upload,
        refusal=more.pop("refusal", None),
        publish=published,
        threads=threads or UploadThreads(2),
        **more,
    )


@dataclass
class Packet:
    """One WRITE."""

    offset: int
    data: bytes


def packets_of(data: bytes, cuts: list[int]) -> list[Packet]:
    """``data`` cut at the given places."""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [Packet(a, data[a:b]) for a, b in pairwise(edges)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_order_of_packets_gives_the_bytes(data: st.DataObject) -> None:
    """Packets of any sizes in any order, overlapping repeats included, make the same object."""
    size = data.draw(st.sampled_from([0, 1, 4095, 4096, 48 * 1024, 48 * 1024 + 1, 3 * 1024 * 1024]))
    content = (bytes(range(256)) * (size // 256 + 1))[:size]
    packets = packets_of(content, data.draw(st.lists(st.integers(0, size), max_size=40)))
    packets += [
        Packet(packet.offset, packet.data)
        for packet in data.draw(
            st.lists(st.sampled_from(packets), max_size=3) if packets else st.just([])
        )
    ]
    order = data.draw(st.permutations(packets))

    async def scenario() -> None:
        upload, published = MemoryUpload(), Published()
        file = write_file(upload, published)
        for packet in order:
            pieces = [packet.data[:100], memoryview(packet.data)[100:]]
            await file.write(packet.offset, pieces if len(packet.data) > 200 else packet.data)
        assert file.size == size
        await file.close()
        assert published.objects == [content]
        assert file.landing_id == "landing"

    running(scenario)


@pytest.mark.parametrize(
    ("size", "in_loop"), [(0, True), (48 * 1024, True), (48 * 1024 + 1, False)]
)
def test_small_uploads_never_leave_the_loop(size: int, in_loop: bool) -> None:
    """Up to 48 KiB an upload costs no thread hop; above, the loop does no file work."""

    async def scenario() -> None:
        upload, published = MemoryUpload(), Published()
        file = write_file(upload, published)
        await file.write(0, bytes(size))
        await file.close()
        name = threading.current_thread().name
        assert (upload.threads == {name}) if in_loop else name not in upload.threads

    running(scenario)


def test_working_ahead_hands_a_small_upload_over() -> None:
    """While nobody waits its bytes are sealed; a later write still counts, an error waits."""

    @running
    async def _() -> None:
        upload, published = MemoryUpload(), Published()
        file = write_file(upload, published)
        await file.write(0, b"first")
        file.work_ahead()
        assert upload.sealed_ahead == b"first"
        await file.write(5, b" second")
        await file.close()
        assert bytes(upload.data) == b"first second"

        failing = MemoryUpload()
        failing.fail_at = 0
        file = write_file(failing, published)
        await file.write(0, b"first")
        file.work_ahead()
        with pytest.raises(NoSpace):
            await file.close()


def test_a_byte_at_a_far_offset_leaves_the_loop() -> None:
    """One byte far off makes a large object: hashing the hole is no work for the loop."""

    async def scenario() -> None:
        upload, published = MemoryUpload(), Published()
        file = write_file(upload, published)
        await file.write(16 * 1024 * 1024, b"x")
        await file.close()
        assert threading.current_thread().name not in upload.threads
        assert published.objects == [bytes(16 * 1024 * 1024) + b"x"]

    running(scenario)


def test_writer_waits_only_above_the_queue_bound() -> None:
    """With a stuck disk a client is stopped once the queue is full, and goes on when it drains."""

    async def scenario() -> None:
        upload, published = MemoryUpload(), Published()
        upload.gate.clear()
        file = write_file(upload, published)
        block = bytes(UPLOAD_BATCH_BYTES)
        offset = 0

        async def send() -> None:
            nonlocal offset
            for _ in range(40):
                await file.write(offset, block)
                offset += len(block)

        sender = asyncio.create_task(send())
        await asyncio.sleep(0.1)
        assert not sender.done()
        assert UPLOAD_QUEUE_BYTES_MAX - len(block) <= offset <= UPLOAD_QUEUE_BYTES_MAX + len(block)
        upload.gate.set()
        await sender
        await file.close()
        assert len(published.objects[0]) == 40 * len(block)

    running(scenario)


def test_all_uploads_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many uploads are open: the bound of the process, and a share of each beyond it."""
    bound = 8 * UPLOAD_BATCH_BYTES
    monkeypatch.setattr("feedgate.files.upload.UPLOADS_QUEUED_BYTES_MAX", bound)

    async def scenario() -> None:
        threads, published, count = UploadThreads(2), Published(), 30
        uploads = [MemoryUpload() for _ in range(count)]
        files = [write_file(upload, published, threads=threads) for upload in uploads]
        block = bytes(UPLOAD_SHARE_BYTES // 2)

        async def send(file: WriteFile) -> None:
            for number in range(10):
                await file.write(number * len(block), block)
                assert threads.held_bytes <= bound + count * (UPLOAD_SHARE_BYTES + len(block))

        for upload in uploads:
            upload.gate.clear()
        senders = [asyncio.create_task(send(file)) for file in files]
        await asyncio.sleep(0.05)
        assert threads.held_bytes > bound
        for upload in uploads:
            upload.gate.set()
        await asyncio.gather(*senders)
        for file in files[1:]:
            await file.close()
        await files[0].abandon()
        assert published.objects == [bytes(10 * len(block))] * (count - 1)
        assert threads.held_bytes == 0

    running(scenario)


def test_bytes_of_a_failed_upload_are_given_back() -> None:
    """After an error nothing of an upload counts any more."""

    async def scenario() -> None:
        threads, upload = UploadThreads(2), MemoryUpload()
        upload.fail_at = UPLOAD_BATCH_BYTES
        file = write_file(upload, Published(), threads=threads)

        async def send() -> None:
            for number in range(100):
                await file.write(number * UPLOAD_BATCH_BYTES, bytes(UPLOAD_BATCH_BYTES))
                await asyncio.sleep(0.01)

        with pytest.raises(NoSpace):
            await send()
        with pytest.raises(NoSpace):
            await file.close()
        assert threads.held_bytes == 0

    running(scenario)


def test_tiny_packets_are_bounded_by_their_number() -> None:
    """A client of 1-byte packets cannot pile up a million Python objects before a hand-over."""

    async def scenario() -> None:
        upload, published = MemoryUpload(), Published()
        file = write_file(upload, published)
        for offset in range(5000):
            await file.write(offset, b"x")
        assert len(file._runs) <= 1
        assert file._pieces < 1024
        await file.close()
        assert published.objects == [b"x" * 5000]

    running(scenario)


@pytest.mark.parametrize("size", [10, 3 * UPLOAD_BATCH_BYTES])
def test_write_error_is_raised_at_close_and_nothing_is_published(size: int) -> None:
    """A full disk shows at CLOSE, the bytes are forgotten, and the lease is given back."""

    async def scenario() -> None:
        upload, published, ended = MemoryUpload(), Published(), []
        upload.fail_at = 0
        file = write_file(upload, published, on_end=ended.append)
        await file.write(0, bytes(size))
        with pytest.raises(NoSpace):
            await file.close()
        assert upload.state == "aborted"
        assert published.objects == []
        assert ended == [file]

    running(scenario)


def test_write_after_an_error_raises_it() -> None:
    """The client is told early, so that it need not send the rest."""

    async def scenario() -> None:
        upload, published = MemoryUpload(), Published()
        upload.fail_at = 0
        file = write_file(upload, published)

        async def send() -> None:
            for number in range(100):
                await file.write(number * UPLOAD_BATCH_BYTES, bytes(UPLOAD_BATCH_BYTES))
                await asyncio.sleep(0.001)

        with pytest.raises(NoSpace):
            await send()
        with pytest.raises(NoSpace):
            await file.close()

    running(scenario)


def test_refused_upload_counts_and_drops_its_bytes() -> None:
    """Every WRITE of a denied upload succeeds, its size grows, and CLOSE raises the refusal."""

    async def scenario() -> None:
        published, threads = Published(), UploadThreads(1)
        file = write_file(None, published, refusal=AccessDenied("no"), threads=threads)
        for number in range(64):
            await file.write(number * UPLOAD_BATCH_BYTES, bytes(UPLOAD_BATCH_BYTES))
        assert file.size == 64 * UPLOAD_BATCH_BYTES
        with pytest.raises(AccessDenied):
            await file.close()
        assert published.objects == []
        assert threads.open_uploads == 0

    running(scenario)


OVER = Beginning(exists=True, begins_at=(30,), reason="a newer upload was cut short")


@pytest.mark.parametrize(("offset", "allowed"), [(0, True), (30, True), (100, False)])
def test_first_write_begins_where_it_can(offset: int, allowed: bool) -> None:
    """Where only some offsets mean something, a first write at another publishes nothing."""

    async def scenario() -> None:
        upload, published = MemoryUpload(), Published()
        file = write_file(upload, published, beginning=OVER)
        if allowed:
            await file.write(offset, b"rest")
            await file.close()
            assert published.objects == [bytes(offset) + b"rest"]
            return
        with pytest.raises(Unsupported, match="newer upload"):
            await file.write(offset, b"rest")
        with pytest.raises(Unsupported):
            await file.close()
        assert published.objects == []
        assert upload.state == "aborted"

    running(scenario)


def test_existing_object_opened_and_not_written_stays() -> None:
    """OPEN without TRUNC and CLOSE with nothing between changes nothing."""

    async def scenario() -> None:
        upload, published = MemoryUpload(), Published()
        file = write_file(upload, published, beginning=Beginning(exists=True))
        await file.close()
        assert published.objects == []
        assert upload.state == "kept"
        assert file.landing_id is None

    running(scenario)


def test_appending_ignores_offsets() -> None:
    """With APPEND each write goes to the end, where a truncation moves it."""

    async def scenario() -> None:
        upload, published = MemoryUpload(), Published()
        file = write_file(upload, published, append=True)
        await file.write(0, b"one")
        await file.write(0, b"two")
        await file.set_attributes(Changes(size=4))
        await file.write(1_000_000, b"three")
        await file.close()
        assert published.objects == [b"onetthree"]

    running(scenario)


@dataclass(frozen=True)
class Changes:
    """What FSETSTAT carries."""

    size: int | None = None
    modified_s: int | None = None


operations = st.lists(
    st.tuples(
        st.sampled_from(["write", "truncate", "read"]),
        st.integers(0, 200_000),
        st.integers(1, 100_000),
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(operations=operations)
def test_any_sequence_equals_a_bytearray(operations: list[tuple[str, int, int]]) -> None:
    """Reads see all that was written before them, truncations apply in their order."""

    async def scenario() -> None:
        upload, published, threads = MemoryUpload(), Published(), UploadThreads(2)
        file = write_file(upload, published, threads=threads)
        model = bytearray()
        for number, (kind, offset, length) in enumerate(operations):
            if kind == "read":
                assert await file.read(offset, length) == model[offset : offset + length]
            elif kind == "truncate":
                await file.set_attributes(Changes(size=offset))
                del model[offset:]
                model += bytes(offset - len(model))
            else:
                data = bytes([number + 1]) * length
                model += bytes(max(0, offset - len(model)))
                model[offset : offset + length] = data
                await file.write(offset, data)
            assert file.size == len(model)
        await file.close()
        assert published.objects == [bytes(model)]
        assert (threads.held_bytes, threads.open_uploads) == (0, 0)

    running(scenario)


def test_times_are_metadata() -> None:
    """The time that came last, with OPEN or FSETSTAT, is the object's `mtime`."""

    async def scenario() -> None:
        upload, published = MemoryUpload(), Published()
        file = write_file(upload, published, modified_s=5)
        assert file.modified_s == 5
        await file.set_attributes(Changes(modified_s=1_000_000_000))
        await file.close()
        assert upload.metadata == {"mtime": "1000000000"}

    running(scenario)


@pytest.mark.parametrize(("size", "state"), [(10, "aborted"), (5 * UPLOAD_BATCH_BYTES, "kept")])
def test_lost_connection_keeps_what_can_be_resumed(size: int, state: str) -> None:
    """It ends the upload once no thread is writing, with all bytes, and can be told twice."""

    async def scenario() -> None:
        upload, published, threads = MemoryUpload(), Published(), UploadThreads(1)
        file = write_file(upload, published, threads=threads)
        for offset in range(0, size, UPLOAD_BATCH_BYTES):
            await file.write(offset, bytes(min(size, UPLOAD_BATCH_BYTES)))
        await file.abandon()
        await file.abandon()
        assert upload.state == state
        assert len(upload.data) == (size if state == "kept" else 0)
        assert published.objects == []
        assert (threads.open_uploads, threads.held_bytes) == (0, 0)

    running(scenario)


def test_close_goes_on_when_its_client_is_gone() -> None:
    """A CLOSE that was received is finished, never aborted half-way, though nobody awaits it."""

    async def scenario() -> None:
        upload, published = MemoryUpload(), Published()
        published.gate.clear()
        file = write_file(upload, published)
        content = b"all of it" * 10_000
        await file.write(0, content)
        closing = asyncio.create_task(file.close())
        await asyncio.sleep(0.01)
        closing.cancel()
        abandoning = asyncio.create_task(file.abandon())
        await asyncio.sleep(0.01)
        assert not abandoning.done()
        published.gate.set()
        await abandoning
        assert published.objects == [content]
        assert upload.state == "finished"

    running(scenario)


def test_failed_commit_aborts_and_is_raised() -> None:
    """A commit that fails is an error at CLOSE, and the sealed bytes are given up."""

    async def scenario() -> None:
        upload, published = MemoryUpload(), Published()
        published.error = CouldNot("the disk is gone")
        landed: list[str] = []
        file = write_file(upload, published, on_landed=landed.append)
        await file.write(0, b"x")
        with pytest.raises(CouldNot):
            await file.close()
        assert upload.state == "aborted"
        assert landed == []

    running(scenario)


def test_landing_is_announced_after_its_commit() -> None:
    """The wake-up names the landing and comes before CLOSE returns."""

    async def scenario() -> None:
        upload, published = MemoryUpload(), Published()
        landed: list[tuple[str, int]] = []
        file = write_file(
            upload, published, on_landed=lambda name: landed.append((name, len(published.objects)))
        )
        await file.close()
        assert landed == [("landing", 1)]

    running(scenario)


def test_uploads_share_few_threads() -> None:
    """Twenty uploads at once run on the threads of their process and none starves."""

    async def scenario() -> None:
        threads, published = UploadThreads(2), Published()
        uploads = [MemoryUpload() for _ in range(20)]
        files = [write_file(upload, published, threads=threads) for upload in uploads]
        assert threads.open_uploads == 20
        for number in range(3):
            for file in files:
                await file.write(number * UPLOAD_BATCH_BYTES, bytes(UPLOAD_BATCH_BYTES))
        await asyncio.gather(*(file.close() for file in files))
        assert len(published.objects) == 20
        assert len(set().union(*(upload.threads for upload in uploads))) <= 2
        assert threads.open_uploads == 0

    running(scenario)
