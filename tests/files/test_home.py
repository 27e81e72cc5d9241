"""What a supplier can do with files, over the real bucket, ledger and judge."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from feedgate.errors import AccessDenied, Conflict, NotFound, Unsupported, UsageError
from feedgate.files.home import Directory, Entry, HomeDirectory
from feedgate.limits import READDIR_NAMES_MAX

Site = Any  # what the `site` fixture gives; see conftest.py
Scenario = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Attributes:
    """The attributes of a SETSTAT."""

    size: int | None = None
    permissions: int | None = None
    modified_s: int | None = None


async def put(home: HomeDirectory, path: str, data: bytes = b"x", **flags: bool) -> str | None:
    """Upload a file whole; its landing's id."""
    file = await home.open_write(path.encode(), **flags)
    await file.write(0, data)
    await file.close()
    return file.landing_id


async def put_at(home: HomeDirectory, path: str, offset: int) -> None:
    """Begin an upload without truncation in the middle."""
    file = await home.open_write(path.encode(), truncate=False)
    try:
        await file.write(offset, b"x")
    finally:
        await file.abandon()


async def get(home: HomeDirectory, path: str) -> bytes:
    """Download a file whole."""
    file = await home.open_read(path.encode())
    blocks: list[bytes] = []
    while block := await file.read(sum(map(len, blocks)), 100_000):
        blocks.append(block)
    await file.close()
    return b"".join(blocks)


async def drained(directory: Directory) -> list[Entry]:
    """Every entry of a directory handle."""
    entries: list[Entry] = []
    while page := await directory.read():
        assert len(page) <= READDIR_NAMES_MAX
        entries += page
    await directory.close()
    return entries


async def names(home: HomeDirectory, path: str = "/") -> list[str]:
    """Names in a directory, those of directories with a slash behind."""
    entries = await drained(await home.open_directory(path.encode()))
    return [entry.name.decode() + ("/" if entry.kind == "directory" else "") for entry in entries]


def store(site: Site, bucket: str, *keys: str, data: bytes = b"") -> None:
    """Put objects into a bucket past the gateway, as another tool would."""
    target = site.buckets()[bucket]
    staged = []
    for key in keys:
        upload = target.begin_upload(key, owner="test")
        upload.write(0, [data])
        staged.append(upload.finish())

    def publish(tx: Any) -> None:
        for item in staged:
            target.publish(tx, item)

    site.database.write_now(publish)


# -- uploads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 48 * 1024, 48 * 1024 + 1, 3_000_000])
def test_upload_is_visible_after_close_with_its_landing(site: Site, size: int) -> None:
    """Before CLOSE nobody sees the file, after it everyone does; the receipt says who sent it."""

    async def scenario() -> None:
        home, other = site.home(), site.home()
        data = (bytes(range(256)) * (size // 256 + 1))[:size]
        file = await home.open_write(b"/orders.csv")
        for offset in range(0, size, 32_768):
            await file.write(offset, data[offset : offset + 32_768])
        assert file.size == size
        with pytest.raises(NotFound):
            await other.stat(b"/orders.csv")
        assert await names(home) == []
        await file.close()
        assert await names(other) == ["orders.csv"]
        assert await get(other, "/orders.csv") == data
        receipt = site.ledger.receipt(file.landing_id)
        assert receipt is not None
        landing = receipt.landing
        assert (landing.bucket, landing.key) == ("landing", "acme/orders.csv")
        assert (landing.path, landing.kind, landing.size) == ("/orders.csv", "put", size)
        assert landing.sha256 == hashlib.sha256(data).hexdigest()
        assert (landing.user_name, landing.source_ip) == ("acme", "192.0.2.7")
        assert site.ledger.pending(10) == [landing]
        assert site.landed == [file.landing_id]

    asyncio.run(scenario())


def test_object_carries_the_metadata_of_aws_transfer(site: Site) -> None:
    """Downstream code reads who sent an object from its user metadata, as on AWS."""

    async def scenario() -> None:
        await put(site.home(), "/a")

    asyncio.run(scenario())
    info = site.buckets()["landing"].head("acme/a")
    assert dict(info.metadata) == {
        "user-agent": "AWSTransfer",
        "user-agent-id": "acme@s-01234567890abcdef",
    }


def test_crash_points_are_crossed_in_order(site: Site) -> None:
    """An upload passes the three points at which the crash tests kill the process."""

    async def scenario() -> None:
        await put(site.home(), "/a")

    asyncio.run(scenario())
    assert site.crossed == ["upload-before-publish", "landing-before-commit", "landing-committed"]


def test_failure_inside_the_commit_leaves_neither_object_nor_landing(site: Site) -> None:
    """Object and landing are one commit: an error at its very end undoes both."""

    async def scenario() -> None:
        home = site.home()
        file = await home.open_write(b"/a")
        await file.write(0, b"x")

        def crash_at(point: str) -> None:
            if point == "landing-before-commit":
                raise OSError("killed")

        object.__setattr__(home._landings, "crash_at", crash_at)
        with pytest.raises(OSError, match="killed"):
            await file.close()
        assert await names(home) == []
        assert site.ledger.pending(10) == []
        assert site.landed == []

    asyncio.run(scenario())


def test_last_close_wins_whole(site: Site) -> None:
    """Two handles on one path never mix: the object is what the later CLOSE wrote."""

    async def scenario() -> None:
        home = site.home()
        first, second = await home.open_write(b"/a"), await home.open_write(b"/a")
        await first.write(0, b"1" * 100_000)
        await second.write(0, b"2" * 50)
        await second.close()
        await first.close()
        assert await get(home, "/a") == b"1" * 100_000
        assert len(site.ledger.pending(10)) == 2

    asyncio.run(scenario())


def test_lost_connection_leaves_nothing(site: Site) -> None:
    """Closing the session abandons what was being written and keeps the old object."""

    async def scenario() -> None:
        home = site.home()
        await put(home, "/a", b"old")
        for path, size in ((b"/a", 5_000_000), (b"/b", 10)):
            file = await home.open_write(path)
            for offset in range(0, size, 250_000):
                await file.write(offset, bytes(min(size, 250_000)))
        await home.open_read(b"/a")
        await home.close()
        fresh = site.home()
        assert await names(fresh) == ["a"]
        assert await get(fresh, "/a") == b"old"

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [9, 90_000])
def test_commit_that_was_queued_happens_though_its_client_is_gone(site: Site, size: int) -> None:
    """A session cancelled in the middle of CLOSE ends with the whole file or an intact old one."""

    async def scenario() -> None:
        home = site.home()
        file = await home.open_write(b"/a")
        await file.write(0, bytes(size))
        held, release = threading.Event(), threading.Event()
        holder = threading.Thread(
            target=site.database.write_now, args=(lambda _tx: (held.set(), release.wait(5)),)
        )
        holder.start()
        held.wait(5)
        closing = asyncio.create_task(file.close())
        await asyncio.sleep(0.1)
        assert not closing.done()
        closing.cancel()
        ending = asyncio.create_task(home.close())
        await asyncio.sleep(0.05)
        release.set()
        holder.join()
        await ending
        with pytest.raises(asyncio.CancelledError):
            await closing
        site.database.write_now(lambda _tx: None)  # after the queue
        assert await get(site.home(), "/a") == bytes(size)
        assert len(site.ledger.pending(10)) == 1

    asyncio.run(scenario())


def test_upload_needs_no_directory_above_it(site: Site) -> None:
    """As on S3, `a/b.csv` can be written where there is no `a`, and makes one."""

    async def scenario() -> None:
        home = site.home()
        await put(home, "/a/b/c.csv")
        assert await names(home) == ["a/"]
        assert await names(home, "/a") == ["b/"]
        assert (await home.stat(b"/a/b")).kind == "directory"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/", Conflict),
        ("/anotherpath", Conflict),
        ("/in", Conflict),
        ("/elsewhere/x", NotFound),
        ("/file", NotFound),
        ("/in\0", UsageError),
    ],
)
def test_levels_above_the_mappings_take_no_files(
    site: Site, path: str, error: type[Exception]
) -> None:
    """Virtual levels and mapping roots cannot be written, and unmapped paths do not exist."""
    user = site.supplier("acme", ("/in", "/landing/acme"), ("/anotherpath/x", "/shared/x"))

    async def scenario() -> None:
        home = site.home(user)
        with pytest.raises(error):
            await home.open_write(path.encode())
        with pytest.raises(error):
            await home.mkdir(path.encode())

    asyncio.run(scenario())


def test_flags_of_open(site: Site) -> None:
    """EXCL refuses what exists, a missing CREAT what does not, APPEND goes to the end."""

    async def scenario() -> None:
        home = site.home()
        with pytest.raises(NotFound):
            await home.open_write(b"/a", create=False)
        await put(home, "/a", b"first", exclusive=True)
        with pytest.raises(Conflict):
            await home.open_write(b"/a", exclusive=True)
        await put(home, "/a", b"second", create=False)
        assert await get(home, "/a") == b"second"
        await put(home, "/a", b" third", truncate=False, append=True)
        assert await get(home, "/a") == b"second third"

    asyncio.run(scenario())


def test_exclusive_open_loses_to_an_upload_that_closed_before(site: Site) -> None:
    """EXCL holds at CLOSE as well: what appeared meanwhile is not replaced."""

    async def scenario() -> None:
        home = site.home()
        first = await home.open_write(b"/a", exclusive=True)
        second = await home.open_write(b"/a", exclusive=True)
        await first.write(0, b"first")
        await second.write(0, b"second")
        await first.close()
        with pytest.raises(Conflict):
            await second.close()
        assert await get(home, "/a") == b"first"

    asyncio.run(scenario())


def test_open_without_truncation(site: Site) -> None:
    """What is there stays beneath what is written; nothing written changes nothing."""

    async def scenario() -> None:
        home = site.home()
        await put(home, "/a", b"0123456789")
        await (await home.open_write(b"/a", truncate=False)).close()
        assert len(site.landed) == 1
        longer = await home.open_write(b"/a", truncate=False)
        assert longer.size == 10
        await longer.write(12, b"more")
        assert await get(home, "/a") == b"0123456789"
        await longer.close()
        assert await get(home, "/a") == b"0123456789\0\0more"
        again = await home.open_write(b"/a", truncate=False)
        await again.write(0, b"new")
        await again.set_attributes(Attributes(size=3))  # as scp does before it closes
        await again.close()
        assert await get(home, "/a") == b"new"
        assert len(site.landed) == 3

    asyncio.run(scenario())


def test_reads_see_what_the_handle_wrote(site: Site) -> None:
    """READ|WRITE reads the object beneath and what was written over it, before CLOSE."""

    async def scenario() -> None:
        home = site.home()
        await put(home, "/a", b"0123456789" * 20_000)
        file = await home.open_write(b"/a", truncate=False, read=True)
        assert await file.read(199_995, 100) == b"56789"
        await file.write(5, b"abc")
        assert await file.read(0, 10) == b"01234abc89"
        assert await file.read(200_000, 10) == b""
        fresh = await home.open_write(b"/b", read=True)
        await fresh.write(3, b"x")
        assert await fresh.read(0, 10) == b"\0\0\0x"
        await fresh.close()
        assert (await get(home, "/a"))[:8] == b"01234567"
        await file.close()
        assert (await get(home, "/a"))[:10] == b"01234abc89"

    asyncio.run(scenario())


def test_a_change_of_another_version_is_refused(site: Site) -> None:
    """Two who change one object: the second CLOSE would undo the first, and is refused."""

    async def scenario() -> None:
        home = site.home()
        await put(home, "/a", b"0123456789")
        first = await home.open_write(b"/a", truncate=False, append=True)
        second = await home.open_write(b"/a", truncate=False, append=True)
        await first.write(0, b"first")
        await second.write(0, b"second")
        await first.close()
        with pytest.raises(Conflict):
            await second.close()
        gone = await home.open_write(b"/a", truncate=False)
        await gone.write(0, b"x")
        await home.remove(b"/a")
        with pytest.raises(Conflict):
            await gone.close()
        with pytest.raises(NotFound):
            await home.stat(b"/a")

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [0, 3, 10, 11, 100_000])
def test_sizes_of_stored_files_are_set(site: Site, size: int) -> None:
    """SETSTAT with another size lands a new version of exactly that size."""

    async def scenario() -> None:
        home = site.home()
        await put(home, "/a", b"0123456789")
        await home.set_attributes(b"/a", Attributes(size=size, modified_s=77))
        assert await get(home, "/a") == b"0123456789"[:size].ljust(size, b"\0")
        assert len(site.landed) == (1 if size == 10 else 2)
        assert (await home.stat(b"/a")).modified_s == 77

    asyncio.run(scenario())


def test_a_time_is_metadata_and_lands_nothing(site: Site) -> None:
    """SETSTAT of a time after CLOSE leaves version, bytes and landings; the row stays sealed."""

    async def scenario() -> None:
        home = site.home()
        await put(home, "/a", b"abc")
        await put(home, "/b", b"abc" * 100_000)
        before = [site.buckets()["landing"].head(f"acme/{name}") for name in "ab"]
        for name in (b"/a", b"/b"):
            await home.set_attributes(name, Attributes(modified_s=1_000_000_000))
            assert (await home.stat(name)).modified_s == 1_000_000_000
        after = [site.buckets()["landing"].head(f"acme/{name}") for name in "ab"]
        for old, new in zip(before, after, strict=True):
            assert (old.version_id, old.last_modified_ms) == (new.version_id, new.last_modified_ms)
            assert new.metadata == {**old.metadata, "mtime": "1000000000"}
        assert len(site.landed) == 2
        assert await get(home, "/b") == b"abc" * 100_000
        directory = await home.open_directory(b"/")
        assert {entry.modified_s for entry in await directory.read()} == {1_000_000_000}
        await home.rename(b"/a", b"/c")
        assert (await home.stat(b"/c")).modified_s == 1_000_000_000
        await put(home, "/c", b"new")
        assert (await home.stat(b"/c")).modified_s > 1_500_000_000

    asyncio.run(scenario())


def test_a_time_needs_the_right_to_write(site: Site) -> None:
    """Who may read an object and not write it cannot give it another time."""
    read_only = {
        "Sid": "Get",
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": "*",
    }

    async def scenario() -> None:
        await put(site.home(), "/a", b"abc")
        home = site.home(scope_down(site, read_only, site.kms_statement))
        await home.set_attributes(b"/a", Attributes(permissions=0o600))
        for changes in (Attributes(modified_s=1), Attributes(size=1)):
            with pytest.raises(AccessDenied):
                await home.set_attributes(b"/a", changes)
        assert await get(home, "/a") == b"abc"

    asyncio.run(scenario())


def test_attributes_of_what_is_there(site: Site) -> None:
    """Modes have no effect, a directory's time neither; what is missing is said to be."""

    async def scenario() -> None:
        home = site.home()
        await put(home, "/a", b"abc")
        await home.set_attributes(b"/a", Attributes(permissions=0o600))
        await home.set_attributes(b"/a", Attributes(size=3))
        await home.set_attributes(b"/", Attributes(modified_s=1))
        with pytest.raises(NotFound):
            await home.set_attributes(b"/b", Attributes(modified_s=1))
        file = await home.open_write(b"/b")
        await home.set_attributes(b"/b", Attributes(modified_s=9, size=2))
        await file.close()
        assert (await home.stat(b"/b")).modified_s == 9
        assert await get(home, "/b") == b"\0\0"

    asyncio.run(scenario())


# -- interrupted uploads ------------------------------------------------------------------------


async def cut_short(home: HomeDirectory, path: str, data: bytes) -> int:
    """Lose an upload after so many bytes; the size that STAT tells afterwards."""
    file = await home.open_write(path.encode())
    await file.write(0, data)
    await home.lose(file)
    return (await home.stat(path.encode())).size


@pytest.mark.parametrize("append", [True, False])
def test_an_interrupted_upload_is_resumed_by_its_user(site: Site, append: bool) -> None:
    """Its size is told to its user alone; it is listed to nobody; the whole lands once."""
    data = bytes(range(256)) * 4096

    async def scenario() -> None:
        home, other = site.home(), site.home(site.supplier("other", ("/", "/landing/acme")))
        size = await cut_short(home, "/a.filepart", data[:600_000])
        assert 500_000 < size < 600_000
        with pytest.raises(NotFound):
            await other.stat(b"/a.filepart")
        with pytest.raises(NotFound):
            await home.open_read(b"/a.filepart")
        with pytest.raises(NotFound):
            await home.rename(b"/a.filepart", b"/a")
        directory = await home.open_directory(b"/")
        assert await directory.read() == []
        again = site.home()
        assert (await again.stat(b"/a.filepart")).size == size
        file = await again.open_write(b"/a.filepart", truncate=False, append=append)
        assert file.size == size
        await file.write(size, data[size:])
        await file.close()
        assert await get(other, "/a.filepart") == data
        assert len(site.landed) == 1

    asyncio.run(scenario())


def test_a_resume_with_another_content_in_mind_is_refused(site: Site) -> None:
    """With an older object of that name STAT tells of it, and the two are never joined."""
    old, new = b"o" * 300_000, b"n" * 600_000

    async def scenario() -> None:
        home = site.home()
        await put(home, "/a", old)
        assert await cut_short(home, "/a", new) == len(old)
        for append in (True, False):
            file = await home.open_write(b"/a", truncate=False, append=append)
            with pytest.raises(Unsupported):
                await file.write(len(old), new[len(old) :])
            with pytest.raises(Unsupported):
                await file.close()
        assert await get(home, "/a") == old
        await put(home, "/a", new)
        await put(home, "/a", b"+", truncate=False, append=True)
        assert await get(home, "/a") == new + b"+"

    asyncio.run(scenario())


def test_who_begins_anew_gets_nothing_of_the_old(site: Site) -> None:
    """An upload that truncates drops what an earlier one left, however small it is itself."""

    async def scenario() -> None:
        home = site.home()
        await cut_short(home, "/a", b"1" * 600_000)
        file = await home.open_write(b"/a")
        await file.write(0, b"2" * 100)
        await home.lose(file)
        with pytest.raises(NotFound):
            await home.stat(b"/a")
        await cut_short(home, "/b", b"1" * 600_000)
        await home.remove(b"/b")
        with pytest.raises(NotFound):
            await home.stat(b"/b")
        with pytest.raises(NotFound):
            await home.remove(b"/b")

    asyncio.run(scenario())


def test_a_resume_that_sends_nothing_lands_nothing(site: Site) -> None:
    """OPEN and CLOSE alone leave the partial as it was."""

    async def scenario() -> None:
        home = site.home()
        size = await cut_short(home, "/a", b"1" * 600_000)
        await (await home.open_write(b"/a", truncate=False)).close()
        assert (await home.stat(b"/a")).size == size
        assert site.landed == []
        wrong = await home.open_write(b"/a", truncate=False, append=True)
        with pytest.raises(Unsupported):
            await wrong.write(size + 1000, b"x")
        with pytest.raises(Unsupported):
            await wrong.close()

    asyncio.run(scenario())


def test_a_session_is_told_what_it_has_written(site: Site) -> None:
    """STAT by path during an upload tells its own session the bytes so far, others nothing."""

    async def scenario() -> None:
        home = site.home()
        file = await home.open_write(b"/a")
        await file.write(0, b"12345")
        assert (await home.stat(b"/a")).size == 5
        with pytest.raises(NotFound):
            await site.home().stat(b"/a")
        await file.close()

    asyncio.run(scenario())


# -- downloads ----------------------------------------------------------------------------------


def test_reads_are_clamped_at_the_end(site: Site) -> None:
    """Reads across and past the end are short, then empty; huge lengths are cut."""

    async def scenario() -> None:
        home = site.home()
        await put(home, "/a", b"0123456789")
        file = await home.open_read(b"/a")
        assert file.size == 10
        assert file.modified_s > 1_700_000_000
        assert await file.read(8, 10) == b"89"
        assert await file.read(10, 10) == b""
        assert await file.read(2**63, 2**32 - 1) == b""
        assert await file.read(0, 2**32 - 1) == b"0123456789"
        await file.close()
        await file.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [10, 500_000])
def test_open_file_outlives_replacement_and_removal(site: Site, size: int) -> None:
    """A handle reads the version that it opened, whatever happens to the name."""

    async def scenario() -> None:
        home = site.home()
        await put(home, "/a", b"1" * size)
        file = await home.open_read(b"/a")
        await put(home, "/a", b"2" * size)
        await home.remove(b"/a")
        assert await file.read(size - 5, 5) == b"11111"
        await file.close()

    asyncio.run(scenario())


def test_what_is_no_file_cannot_be_read(site: Site) -> None:
    """Missing files and directories are refused at OPEN."""

    async def scenario() -> None:
        home = site.home()
        await put(home, "/d/a")
        for path in (b"/missing", b"/d"):
            with pytest.raises(NotFound):
                await home.open_read(path)
        with pytest.raises(Conflict):
            await home.open_read(b"/")

    asyncio.run(scenario())


# -- directories --------------------------------------------------------------------------------


def test_directory_lifecycle(site: Site) -> None:
    """MKDIR makes an empty directory, RMDIR removes it only when nothing lies in it."""

    async def scenario() -> None:
        home = site.home()
        await home.mkdir(b"/d")
        assert await names(home) == ["d/"]
        assert await names(home, "/d") == []
        assert (await home.stat(b"/d")) == Entry(b"d", "directory")
        with pytest.raises(Conflict):
            await home.mkdir(b"/d")
        await put(home, "/d/a")
        with pytest.raises(Conflict):
            await home.rmdir(b"/d")
        await home.remove(b"/d/a")
        assert await names(home) == ["d/"]
        await home.rmdir(b"/d")
        assert await names(home) == []
        for missing in (b"/d", b"/never"):
            with pytest.raises(NotFound):
                await home.rmdir(missing)
        with pytest.raises(Conflict):
            await home.rmdir(b"/")

    asyncio.run(scenario())


def test_directory_is_not_a_file_and_a_file_not_a_directory(site: Site) -> None:
    """REMOVE leaves directories, OPENDIR and RMDIR leave files, MKDIR does not cover one."""

    async def scenario() -> None:
        home = site.home()
        await put(home, "/d/a")
        with pytest.raises(Conflict):
            await home.remove(b"/d")
        with pytest.raises(NotFound):
            await home.open_directory(b"/d/a")
        with pytest.raises(NotFound):
            await home.rmdir(b"/d/a")
        with pytest.raises(Conflict):
            await home.mkdir(b"/d/a")
        with pytest.raises(NotFound):
            await home.remove(b"/missing")
        with pytest.raises(NotFound):
            await home.open_directory(b"/missing")

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/orders", "/orders/", "/orders/.", "/made", "/new/", "/new/."])
@pytest.mark.parametrize("can_list", [True, False])
def test_a_file_never_hides_a_directory(site: Site, path: str, can_list: bool) -> None:
    """Neither an upload nor a rename puts a file where a directory is, or is named."""
    role = site.everything if can_list else site.everything[1:]

    async def scenario() -> None:
        home = site.home()
        await put(home, "/orders/a")
        await put(home, "/other")
        await home.mkdir(b"/made")
        limited = site.home(role=role)
        with pytest.raises(Conflict):
            await limited.open_write(path.encode())
        with pytest.raises(Conflict):
            await limited.rename(b"/other", path.encode())
        assert await names(home) == ["made/", "orders/", "other"]
        assert await names(home, "/orders") == ["a"]

    asyncio.run(scenario())


def test_a_file_beside_a_prefix_can_be_replaced(site: Site) -> None:
    """Another tool's ``a`` beside ``a/b`` hides already, and stays a file that can be written."""

    async def scenario() -> None:
        home = site.home()
        await put(home, "/a", b"1")
        await put(home, "/a/b", b"2")
        await put(home, "/a", b"3")
        assert await get(home, "/a") == b"3"

    asyncio.run(scenario())


def test_who_may_not_write_learns_no_directory(site: Site) -> None:
    """A refused upload shows at CLOSE whether or not a directory is there."""

    async def scenario() -> None:
        await put(site.home(), "/orders/a")
        home = site.home(role=())
        for path in (b"/orders", b"/nothing"):
            file = await home.open_write(path)
            with pytest.raises(AccessDenied):
                await file.close()

    asyncio.run(scenario())


def test_root_exists_in_an_empty_bucket(site: Site) -> None:
    """A new supplier's first `ls` shows an empty directory, never an error."""

    async def scenario() -> None:
        home = site.home()
        assert await names(home) == []
        assert (await home.stat(b"/")) == Entry(b"/", "directory")

    asyncio.run(scenario())


def test_listing_shows_what_paths_can_reach(site: Site) -> None:
    """Markers and names of other tools that no path reaches are hidden; order is S3's."""
    store(
        site, "landing", "acme/", "acme/b", "acme/B", "acme/d/", "acme/d/x", "acme//y", "acme/./z"
    )
    store(site, "landing", "acme/é", "acme/..", "acme-secret/x", "acme/b-1", "acme/b/inner")
    store(site, "landing", "acme/new\nline")

    async def scenario() -> None:
        home = site.home()
        assert await names(home) == ["B", "b", "b-1", "d/", "new\nline", "é"]
        assert await names(home, "/b") == ["inner"]
        assert (await home.stat(b"/b")).kind == "file"

    asyncio.run(scenario())


def test_long_listing_comes_in_pages(site: Site) -> None:
    """Thousands of names come complete, once each, in order, with no more than a page held."""
    keys = [f"acme/{number:05}" for number in range(2500)]
    store(site, "landing", *keys)
    store(site, "landing", *(f"acme/000{number}/x" for number in range(100, 999)))

    async def scenario() -> None:
        home = site.home()
        directory = await home.open_directory(b"/")
        seen: list[Entry] = []
        while page := await directory.read():
            seen += page
            assert len(directory._entries) <= 1000
        expected = sorted(
            [key[5:].encode() for key in keys] + [b"000%d" % n for n in range(100, 999)]
        )
        assert [entry.name for entry in seen] == expected

    asyncio.run(scenario())


def test_names_that_stay_are_listed_once_while_others_change(site: Site) -> None:
    """A listing in the middle of changes shows every stable name exactly once."""
    stable = [f"acme/s{number:04}" for number in range(1500)]
    store(site, "landing", *stable)

    async def scenario() -> None:
        home = site.home()
        directory = await home.open_directory(b"/")
        seen: list[bytes] = []
        number = 0
        while page := await directory.read():
            seen += [entry.name for entry in page]
            number += 1
            await put(home, f"/s{number * 100:04}-new")
            await put(home, f"/a{number}")
        kept = [name for name in seen if name.startswith(b"s") and b"new" not in name]
        assert kept == [key[5:].encode() for key in stable]

    asyncio.run(scenario())


def test_virtual_levels_list_their_entries(site: Site) -> None:
    """The root of several mappings shows them as directories and files, in byte order."""
    user = site.supplier(
        "acme",
        ("/in", "/landing/acme"),
        ("/other/deep/share", "/shared/public"),
        ("/readme.txt", "/shared/docs/readme.txt", "FILE"),
        ("/absent.txt", "/shared/docs/absent.txt", "FILE"),
    )
    store(site, "shared", "docs/readme.txt", data=b"read me")

    async def scenario() -> None:
        home = site.home(user)
        assert await names(home) == ["in/", "other/", "readme.txt"]
        assert await names(home, "/other") == ["deep/"]
        assert await names(home, "/other/deep") == ["share/"]
        assert (await home.stat(b"/other/deep")).kind == "directory"
        assert (await home.stat(b"/readme.txt")).size == 7
        assert await get(home, "/readme.txt") == b"read me"
        with pytest.raises(NotFound):
            await home.open_directory(b"/readme.txt")
        with pytest.raises(NotFound):
            await home.stat(b"/absent.txt")
        await put(home, "/other/deep/share/x")
        assert site.buckets()["shared"].head("public/x") is not None

    asyncio.run(scenario())


def test_realpath_looks_nothing_up(site: Site) -> None:
    """The absolute form of any path comes back, whether or not anything lies there."""

    async def scenario() -> None:
        home = site.home()
        assert await home.realpath(b".") == b"/"
        assert await home.realpath(b"/../x//y/./z/..") == b"/x/y"
        assert home.s3_path(b"/x/y") == "/landing/acme/x/y"
        assert home.s3_path(b"/x\xff") == "/x\\xff"

    asyncio.run(scenario())


def test_path_home_starts_in_its_directory(site: Site) -> None:
    """A PATH user sees bucket paths as they are and starts in HomeDirectory."""
    user = site.supplier("acme")
    user = type(user)(
        logical_id="Acme",
        user_name="acme",
        arn=user.arn,
        role_arn=user.role_arn,
        home_directory_type="PATH",
        home_directory="/landing/acme",
    )

    async def scenario() -> None:
        home = site.home(user)
        assert await home.realpath(b".") == b"/landing/acme"
        assert await names(home, ".") == []
        await put(home, "a.csv")
        await put(home, "/shared/b.csv")
        assert await names(home, "/landing/acme") == ["a.csv"]
        assert site.buckets()["shared"].head("b.csv") is not None
        assert await names(home, "/") == ["landing/"]
        with pytest.raises(NotFound):
            await home.stat(b"/no-such-bucket/x")

    asyncio.run(scenario())


# -- rename -------------------------------------------------------------------------------------


def test_rename_keeps_bytes_and_origin(site: Site) -> None:
    """A renamed object keeps its bytes; its landing refers to the one that brought them."""

    async def scenario() -> None:
        home = site.home()
        origin = await put(home, "/a.filepart", b"abc")
        await home.rename(b"/a.filepart", b"/in/a.csv")
        assert await names(home) == ["in/"]
        assert await get(home, "/in/a.csv") == b"abc"
        await home.rename(b"/in/a.csv", b"/b.csv")
        first, second, third = site.ledger.pending(10)
        assert first.landing_id == origin
        assert (second.kind, second.key, second.path) == ("rename", "acme/in/a.csv", "/in/a.csv")
        assert second.origin_landing_id == third.origin_landing_id == origin
        assert second.object_id == first.object_id
        assert site.landed == [first.landing_id, second.landing_id, third.landing_id]
        assert site.ledger.successor(first) == third

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("/a", "/b", Conflict),
        ("/a", "/a", Conflict),
        ("/a", "/", Conflict),
        ("/", "/c", Conflict),
        ("/missing", "/c", NotFound),
        ("/d", "/a", Conflict),
        ("/d", "/d", Conflict),
        ("/d", "/d/e", Conflict),
        ("/a", "/d", Conflict),
        ("/a", "/a\0", UsageError),
    ],
)
def test_rename_that_is_refused_changes_nothing(
    site: Site, old: str, new: str, error: type[Exception]
) -> None:
    """Existing targets, roots and missing sources are refused, and a directory in itself."""

    async def scenario() -> None:
        home = site.home()
        for path in ("/a", "/b", "/d/x"):
            await put(home, path, path.encode())
        with pytest.raises(error):
            await home.rename(old.encode(), new.encode())
        assert await names(home) == ["a", "b", "d/"]
        assert await get(home, "/a") == b"/a"
        assert await get(home, "/b") == b"/b"
        assert len(site.ledger.pending(10)) == 3

    asyncio.run(scenario())


def test_rename_across_buckets_is_refused(site: Site) -> None:
    """Two mappings into two buckets: the file stays where it is."""
    user = site.supplier("acme", ("/in", "/landing/acme"), ("/out", "/shared/acme"))

    async def scenario() -> None:
        home = site.home(user)
        await put(home, "/in/a")
        with pytest.raises(Unsupported):
            await home.rename(b"/in/a", b"/out/a")
        assert await names(home, "/in") == ["a"]

    asyncio.run(scenario())


# -- decisions ----------------------------------------------------------------------------------


def scope_down(site: Site, *statements: dict[str, Any]) -> Any:
    """`acme` with a session policy."""
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    return site.supplier("acme", policy=json.dumps(document))


def test_session_policy_without_the_kms_key(site: Site) -> None:
    """The author's first error: `ls` fails at READDIR, put at CLOSE, get at OPEN."""
    store(site, "landing", "acme/a", data=b"x")

    async def scenario() -> None:
        home = site.home(scope_down(site, *site.s3_statements))
        directory = await home.open_directory(b"/")
        with pytest.raises(AccessDenied):
            await directory.read()
        file = await home.open_write(b"/b")
        for offset in range(0, 3_000_000, 100_000):
            await file.write(offset, bytes(100_000))
        assert file.size == 3_000_000
        with pytest.raises(AccessDenied):
            await file.close()
        with pytest.raises(AccessDenied):
            await home.open_read(b"/a")

    asyncio.run(scenario())
    assert site.buckets()["landing"].head("acme/b") is None
    assert site.ledger.pending(10) == []


def test_role_without_the_kms_key(site: Site) -> None:
    """The author's second error: `ls` fails at OPENDIR already."""

    async def scenario() -> None:
        home = site.home(role=site.s3_statements)
        with pytest.raises(AccessDenied):
            await home.open_directory(b"/")

    asyncio.run(scenario())


def test_write_only_user(site: Site) -> None:
    """Who may only write uploads, sets times and renames into place; LSTAT is refused."""
    put_only = {
        "Sid": "Put",
        "Effect": "Allow",
        "Action": ["s3:PutObject", "s3:DeleteObject", "s3:GetObjectTagging"],
        "Resource": "arn:aws:s3:::landing/*",
    }
    part = {
        "Sid": "Part",
        "Effect": "Allow",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::landing/*.filepart",
    }

    async def scenario() -> None:
        home = site.home(scope_down(site, put_only, part, site.kms_statement))
        await put(home, "/a.csv.filepart", b"abc")
        await home.rename(b"/a.csv.filepart", b"/a.csv")
        await home.set_attributes(b"/a.csv", Attributes())
        with pytest.raises(AccessDenied):
            await home.stat(b"/a.csv")
        with pytest.raises(AccessDenied):
            await home.open_read(b"/a.csv")
        await put(home, "/a.csv", b"again", truncate=False)
        with pytest.raises(Unsupported):
            await put_at(home, "/a.csv", 5)
        untouched = await home.open_write(b"/a.csv", truncate=False)
        with pytest.raises(AccessDenied):
            await untouched.close()

    asyncio.run(scenario())
    assert site.buckets()["landing"].head("acme/a.csv").size == 5


def test_user_who_may_list_only_his_prefix(site: Site) -> None:
    """Under the scope-down policy that AWS documents, missing files are missing, not forbidden."""
    listing = {
        "Sid": "AllowListingOfUserFolder",
        "Action": ["s3:ListBucket"],
        "Effect": "Allow",
        "Resource": ["arn:aws:s3:::landing"],
        "Condition": {
            "StringLike": {"s3:prefix": ["${transfer:UserName}/*", "${transfer:UserName}"]}
        },
    }
    objects = {
        "Sid": "HomeDirObjectAccess",
        "Effect": "Allow",
        "Action": ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"],
        "Resource": "arn:aws:s3:::landing/${transfer:UserName}/*",
    }

    async def scenario() -> None:
        home = site.home(scope_down(site, listing, objects, site.kms_statement))
        assert await names(home) == []
        await put(home, "/d/a", b"abc", truncate=False)
        await put(home, "/d/a", b"abcd", truncate=False)
        assert (await home.stat(b"/d/a")).size == 4
        assert (await home.stat(b"/d")).kind == "directory"
        for request in (
            home.stat(b"/missing"),
            home.open_read(b"/missing"),
            home.remove(b"/missing"),
            home.rename(b"/missing", b"/b"),
            home.open_directory(b"/missing"),
            home.rmdir(b"/missing"),
        ):
            with pytest.raises(NotFound):
                await request
        await home.rename(b"/d", b"/e")
        await home.rename(b"/e", b"/d")
        await home.mkdir(b"/empty")
        await home.rename(b"/d/a", b"/empty/a")
        assert await names(home) == ["empty/"]
        await home.remove(b"/empty/a")
        await home.rmdir(b"/empty")
        assert await names(home) == []

    asyncio.run(scenario())


@pytest.mark.parametrize("operation", ["remove", "rename", "mkdir", "rmdir"])
def test_refused_changes_change_nothing(site: Site, operation: str) -> None:
    """A user who may only read cannot remove, rename, or make directories."""
    store(site, "landing", "acme/a", "acme/d/", data=b"")
    reading = {
        "Sid": "Read",
        "Effect": "Allow",
        "Action": ["s3:ListBucket", "s3:GetObject", "s3:GetObjectTagging"],
        "Resource": "*",
    }

    async def scenario() -> None:
        home = site.home(scope_down(site, reading, site.kms_statement))
        requests = {
            "remove": lambda: home.remove(b"/a"),
            "rename": lambda: home.rename(b"/a", b"/b"),
            "mkdir": lambda: home.mkdir(b"/new"),
            "rmdir": lambda: home.rmdir(b"/d"),
        }
        with pytest.raises(AccessDenied):
            await requests[operation]()
        assert await names(home) == ["a", "d/"]

    asyncio.run(scenario())


def test_suppliers_do_not_see_each_other(site: Site) -> None:
    """No path of one supplier reaches another's file, whose prefix begins with his name."""
    store(site, "landing", "acme2/secret", "acme-2/secret", "bolt/secret", data=b"secret")

    async def scenario() -> None:
        home = site.home()
        assert await names(home) == []
        for path in (
            "/../acme2/secret",
            "/../bolt/secret",
            "../bolt/secret",
            "/2/secret",
            "2/secret",
        ):
            with pytest.raises(NotFound):
                await home.stat(path.encode())
            with pytest.raises(NotFound):
                await home.open_read(path.encode())

    asyncio.run(scenario())


def test_one_commit_gives_a_name_once(site: Site) -> None:
    """Renames and exclusive creates that share a commit: one gets the name, none is lost."""

    async def scenario() -> None:
        homes = [site.home() for _ in range(8)]
        for number, home in enumerate(homes):
            await put(home, f"/a{number}", b"content %d" % number)
        turn = site.database._turn
        turn.acquire()  # somebody else's commit is under way
        try:
            files = [await home.open_write(b"/new", exclusive=True) for home in homes]
            for number, file in enumerate(files):
                await file.write(0, b"new %d" % number)
            renames = [
                asyncio.create_task(home.rename(b"/a%d" % number, b"/x"))
                for number, home in enumerate(homes)
            ]
            closes = [asyncio.create_task(file.close()) for file in files]
            await asyncio.sleep(0.05)
        finally:
            turn.release()
        renamed = await asyncio.gather(*renames, return_exceptions=True)
        created = await asyncio.gather(*closes, return_exceptions=True)
        for outcomes in (renamed, created):
            assert [type(outcome) for outcome in outcomes] == [type(None), *[Conflict] * 7]
        assert await names(homes[0]) == [*(f"a{number}" for number in range(1, 8)), "new", "x"]
        assert await get(homes[0], "/x") == b"content 0"
        assert await get(homes[0], "/new") == b"new 0"

    asyncio.run(scenario())


def test_a_name_that_was_renamed_away_in_the_same_commit(site: Site) -> None:
    """Two renames of one file that share a commit: the second finds nothing."""

    async def scenario() -> None:
        homes = [site.home(), site.home()]
        await put(homes[0], "/a", b"content")
        turn = site.database._turn
        turn.acquire()
        try:
            renames = [
                asyncio.create_task(home.rename(b"/a", target))
                for home, target in zip(homes, (b"/x", b"/y"), strict=True)
            ]
            await asyncio.sleep(0.05)
        finally:
            turn.release()
        first, second = await asyncio.gather(*renames, return_exceptions=True)
        assert first is None
        assert isinstance(second, NotFound)
        assert await names(homes[0]) == ["x"]

    asyncio.run(scenario())
