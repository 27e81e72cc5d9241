"""Renames: over a file, of directories, and what shares their commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from typing import Any

import pytest

from feedgate.errors import AccessDenied, Conflict, NotFound, Unsupported
from feedgate.files.home import HomeDirectory
from feedgate.limits import RENAME_KEYS_MAX
from feedgate.storage.bucket import StagedObject

Site = Any  # what the `site` fixture gives; see conftest.py


async def put(home: HomeDirectory, path: str, data: bytes = b"x") -> str | None:
    """Upload a file whole; its landing's id."""
    file = await home.open_write(path.encode())
    await file.write(0, data)
    await file.close()
    return file.landing_id


async def get(home: HomeDirectory, path: str) -> bytes:
    """Download a small file whole."""
    file = await home.open_read(path.encode())
    data = await file.read(0, 1000)
    await file.close()
    return data


async def names(home: HomeDirectory, path: str = "/") -> list[str]:
    """Names in a directory of one page, those of directories with a slash behind."""
    directory = await home.open_directory(path.encode())
    entries = await directory.read()
    await directory.close()
    return [entry.name.decode() + ("/" if entry.kind == "directory" else "") for entry in entries]


@contextmanager
def one_commit(site: Site) -> Any:
    """What is asked for meanwhile shares one commit: somebody else's is under way."""
    turn = site.database._turn
    turn.acquire()
    try:
        yield
    finally:
        turn.release()


async def together(site: Site, *acts: Callable[[], Coroutine[Any, Any, Any]]) -> list[type]:
    """Run acts whose writes share one commit; what each raised, NoneType where nothing."""
    with one_commit(site):
        tasks = [asyncio.create_task(act()) for act in acts]
        await asyncio.sleep(0.05)
    return [type(item) for item in await asyncio.gather(*tasks, return_exceptions=True)]


def test_posix_rename_takes_the_name_of_a_file(site: Site) -> None:
    """The new name holds the old file's bytes at once; the landing keeps the bytes' origin."""

    async def scenario() -> None:
        home = site.home()
        origin = await put(home, "/a", b"new")
        await put(home, "/b", b"old")
        reader = await home.open_read(b"/b")
        with pytest.raises(Conflict):
            await home.rename(b"/a", b"/b")
        await home.rename(b"/a", b"/b", replace=True)
        assert await names(home) == ["b"]
        assert await get(home, "/b") == b"new"
        assert await reader.read(0, 10) == b"old"
        await reader.close()
        last = site.ledger.pending(10)[-1]
        assert (last.kind, last.path, last.origin_landing_id) == ("rename", "/b", origin)

    asyncio.run(scenario())


def test_rename_onto_itself(site: Site) -> None:
    """POSIX's rename of a name to itself changes nothing; the draft's finds the name taken."""

    async def scenario() -> None:
        home = site.home()
        await put(home, "/a")
        await put(home, "/d/a")
        for path in (b"/a", b"/d"):
            await home.rename(path, path, replace=True)
            with pytest.raises(Conflict):
                await home.rename(path, path)
        assert len(site.ledger.pending(10)) == 2
        with pytest.raises(NotFound):
            await home.rename(b"/none", b"/none", replace=True)

    asyncio.run(scenario())


@pytest.mark.parametrize("replace", [False, True])
def test_directory_moves_whole(site: Site, replace: bool) -> None:
    """All that lies under the old name lies under the new one, a landing for each file."""

    async def scenario() -> None:
        home = site.home()
        await home.mkdir(b"/d")
        origin = await put(home, "/d/a", b"1")
        await put(home, "/d/deep/b", b"2")
        await put(home, "/d2", b"3")
        await home.rename(b"/d", b"/to/e/", replace=replace)
        assert await names(home) == ["d2", "to/"]
        assert await names(home, "/to/e") == ["a", "deep/"]
        assert await get(home, "/to/e/deep/b") == b"2"
        landings = {landing.path: landing for landing in site.ledger.pending(10)}
        assert landings["/to/e/a"].origin_landing_id == origin
        assert landings["/to/e/a"].key == "acme/to/e/a"
        assert "/to/e" not in landings, "a marker is no file and is offered to no pipe"
        with pytest.raises(NotFound):
            await home.stat(b"/d")

    asyncio.run(scenario())


def test_directory_takes_an_empty_ones_name_only_as_posix_does(site: Site) -> None:
    """posix-rename replaces an empty directory, never a full one or a file."""

    async def scenario() -> None:
        home = site.home()
        await put(home, "/d/a")
        await home.mkdir(b"/empty")
        await put(home, "/full/b")
        await put(home, "/file")
        with pytest.raises(Conflict):
            await home.rename(b"/d", b"/empty")
        for taken in (b"/full", b"/file"):
            with pytest.raises(Conflict):
                await home.rename(b"/d", taken, replace=True)
        assert await names(home) == ["d/", "empty/", "file", "full/"]
        await home.rename(b"/d", b"/empty", replace=True)
        assert await names(home) == ["empty/", "file", "full/"]
        assert await names(home, "/empty") == ["a"]

    asyncio.run(scenario())


def test_directory_beyond_the_bound_stays(site: Site) -> None:
    """More objects than one transaction may move: refused with the reason, nothing changed."""
    bucket = site.buckets()["landing"]

    def staged(number: int) -> StagedObject:
        return bucket.begin_upload(f"acme/d/{number:05}", owner="test").finish()

    objects = [staged(number) for number in range(RENAME_KEYS_MAX + 1)]
    site.database.write_now(lambda tx: [bucket.publish(tx, item) for item in objects])

    async def scenario() -> None:
        home = site.home()
        with pytest.raises(Unsupported, match="more than 1,000 objects"):
            await home.rename(b"/d", b"/e")
        assert await names(home) == ["d/"]
        await home.remove(b"/d/00000")
        await home.rename(b"/d", b"/e")
        assert await names(home) == ["e/"]

    asyncio.run(scenario())


def test_each_object_of_a_directory_is_judged(site: Site) -> None:
    """One object that may not be taken away keeps the whole directory where it is."""
    deny = {
        "Effect": "Deny",
        "Action": "s3:DeleteObject",
        "Resource": "arn:aws:s3:::landing/acme/d/kept",
    }

    async def scenario() -> None:
        home = site.home(role=(*site.everything, deny))
        for name in ("a", "kept", "z"):
            await put(home, f"/d/{name}")
        with pytest.raises(AccessDenied):
            await home.rename(b"/d", b"/e")
        assert await names(home) == ["d/"]
        assert await names(home, "/d") == ["a", "kept", "z"]
        assert len(site.ledger.pending(10)) == 3

    asyncio.run(scenario())


def test_a_name_becomes_a_file_or_a_directory_in_one_commit(site: Site) -> None:
    """`a` and `a/b` that share a commit: whichever comes first, no file hides a directory."""

    async def scenario() -> None:
        home = site.home()
        files = [await home.open_write(path) for path in (b"/a/b", b"/a", b"/m")]
        for file in files:
            await file.write(0, b"x")
        await put(home, "/r")
        done = await together(
            site,
            *(file.close for file in files),
            lambda: home.mkdir(b"/m"),
            lambda: home.rename(b"/r", b"/a", replace=True),
        )
        assert done == [type(None), Conflict, type(None), Conflict, Conflict]
        assert await names(home) == ["a/", "m", "r"]

    asyncio.run(scenario())


def test_one_commit_makes_a_directory_once(site: Site) -> None:
    """MKDIR twice in one commit: one is acknowledged."""

    async def scenario() -> None:
        home, other = site.home(), site.home()
        done = await together(site, lambda: home.mkdir(b"/d"), lambda: other.mkdir(b"/d/"))
        assert set(done) == {Conflict, type(None)}
        assert await names(home) == ["d/"]

    asyncio.run(scenario())


def test_a_file_that_lands_in_a_directory_while_it_is_removed(site: Site) -> None:
    """RMDIR looks inside its commit: what lands before it there keeps the directory."""

    async def scenario() -> None:
        home = site.home()
        await home.mkdir(b"/d")
        file = await home.open_write(b"/d/a")
        await file.write(0, b"x")
        done = await together(site, file.close, lambda: home.rmdir(b"/d"))
        assert done == [type(None), Conflict]
        assert await names(home, "/d") == ["a"]

    asyncio.run(scenario())
