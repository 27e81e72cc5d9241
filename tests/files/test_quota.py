"""Quota and largest file of a user, by tags."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from feedgate.errors import CouldNot, DefinitionError
from feedgate.files.home import HomeDirectory
from feedgate.files.quota import Space
from feedgate.limits import OBJECT_BYTES_MAX

Site = Any  # what the `site` fixture gives; see conftest.py


def limited(site: Site, **tags: str) -> Any:
    """`acme` with tags."""
    return site.supplier("acme", tags={f"feedgate:{name}": value for name, value in tags.items()})


async def put(home: HomeDirectory, path: str, size: int, block: int = 50_000) -> None:
    """Upload zeros; what it raises, a client sees at a WRITE or at CLOSE."""
    file = await home.open_write(path.encode())
    try:
        for offset in range(0, size, block):
            await file.write(offset, bytes(min(block, size - offset)))
    except CouldNot:
        with pytest.raises(CouldNot):
            await file.close()
        raise
    await file.close()


def test_quota_counts_what_is_there(site: Site) -> None:
    """Files count until they are removed; replacing one counts the difference."""

    async def scenario() -> None:
        home = site.home(limited(site, quotaBytes="200KB"))
        assert await home.space(b"/") == Space(200_000, 200_000)
        await put(home, "/a", 120_000)
        assert await home.space(b"/any/where") == Space(200_000, 80_000)
        with pytest.raises(CouldNot, match="the quota of `acme` is exceeded: 200,000 bytes"):
            await put(home, "/b", 80_001)
        await put(home, "/b", 80_000)
        assert await home.space(b"/") == Space(200_000, 0)
        await put(home, "/a", 120_000)
        with pytest.raises(CouldNot):
            await put(home, "/a", 120_001)
        with pytest.raises(CouldNot):
            await put(home, "/c", 1)
        await put(home, "/empty", 0)
        await home.remove(b"/b")
        await home.rename(b"/a", b"/d/a")
        await put(home, "/c", 80_000)
        entries = await (await home.open_directory(b"/")).read()
        assert [entry.name for entry in entries] == [b"c", b"d", b"empty"]

    asyncio.run(scenario())


def test_uploads_side_by_side_cannot_exceed_the_quota_together(site: Site) -> None:
    """Each had room when it began; the one that closes last does not land."""

    async def scenario() -> None:
        home = site.home(limited(site, quotaBytes="100"))
        files = [await home.open_write(b"/%d" % number) for number in range(3)]
        for file in files:
            await file.write(0, bytes(50))
        await files[0].close()
        await files[1].close()
        with pytest.raises(CouldNot, match="exceeded"):
            await files[2].close()
        assert [item.path for item in site.ledger.pending(10)] == ["/0", "/1"]

    asyncio.run(scenario())


def test_a_lowered_quota_takes_nothing_away(site: Site) -> None:
    """Above it a user may still replace a file by one that is no longer, and remove."""

    async def scenario() -> None:
        await put(site.home(limited(site)), "/a", 1000)
        home = site.home(limited(site, quotaBytes="10"))
        assert await home.space(b"/") == Space(10, 0)
        with pytest.raises(CouldNot):
            await put(home, "/b", 1)
        await put(home, "/a", 10)
        await home.remove(b"/a")

    asyncio.run(scenario())


def test_quotas_are_each_users_own(site: Site) -> None:
    """What another user sent into the same place is not counted, nor freed by replacing it."""
    shared = ("/", "/shared/box")

    async def scenario() -> None:
        acme = site.home(site.supplier("acme", shared, tags={"feedgate:quotaBytes": "100"}))
        zeta = site.home(site.supplier("zeta", shared))
        await put(zeta, "/a", 1000)
        await put(acme, "/b", 100)
        with pytest.raises(CouldNot):
            await put(acme, "/a", 1)
        await put(zeta, "/b", 1)
        await put(acme, "/a", 100)

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [100_001, 3_000_000])
def test_largest_file(site: Site, size: int) -> None:
    """A file beyond the bound is refused at the WRITE that exceeds it, and never lands."""

    async def scenario() -> None:
        home = site.home(limited(site, maxFileBytes="100KB"))
        await put(home, "/fits", 100_000)
        with pytest.raises(CouldNot, match="longer than `acme` may send: 100,000 bytes"):
            await put(home, "/long", size)
        assert (await home.space(b"/")).free_bytes == OBJECT_BYTES_MAX
        assert len(site.ledger.pending(10)) == 1

    asyncio.run(scenario())


def test_a_tag_that_is_no_size_opens_no_session(site: Site) -> None:
    """It is refused rather than ignored."""
    with pytest.raises(DefinitionError, match="`lots` is no size"):
        site.home(limited(site, quotaBytes="lots"))


@pytest.mark.parametrize("size", [10, 300_000])
def test_synced_bytes_count_once_and_land(site: Site, size: int) -> None:
    """fsync before CLOSE: small or large, the file lands whole, and the quota counts it once."""

    async def scenario() -> None:
        home = site.home(limited(site, quotaBytes="1MB"))
        file = await home.open_write(b"/a")
        await file.write(0, bytes(size))
        await file.sync()
        await file.write(size, b"end")
        await file.sync()
        await file.close()
        assert (await home.stat(b"/a")).size == size + 3
        assert (await home.space(b"/")).free_bytes == 1_000_000 - size - 3

    asyncio.run(scenario())
