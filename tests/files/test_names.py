"""Names of any bytes: kept exactly, or refused when the file is opened; never altered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from feedgate.errors import Conflict, FeedgateError, UsageError

Site = Any  # what the `site` fixture gives; see conftest.py

KEPT = [
    "e\u0301".encode(),
    "\u00e9".encode(),
    "\U0001f4be.csv".encode(),
    b"x" * 255,
    b"-leading",
    b"trailing ",
    b"trailing.",
    b" ",
    b"back\\slash",
    b"new\nline",
    b"\x1b[31mred",
    b"\x7f\x01",
    b"*?[a]",
    b"...",
    "\u202etxt.exe".encode(),
    "\uff0f".encode(),
    b"a" * (1024 - len(b"acme/")),
]


def test_names_are_kept_byte_for_byte(site: Site) -> None:
    """What was written under a name is listed, found, read and removed under exactly that name."""

    async def scenario() -> None:
        home = site.home()
        for name in KEPT:
            file = await home.open_write(b"/" + name)
            await file.write(0, name)
            await file.close()
        directory = await home.open_directory(b"/")
        listed = [entry.name for entry in await directory.read()]
        assert listed == sorted(KEPT)
        for name in KEPT:
            assert (await home.stat(b"/" + name)).name == name
            reader = await home.open_read(name)
            assert await reader.read(0, 2000) == name
            await reader.close()
            await home.rename(name, b"renamed")
            await home.remove(b"renamed")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (b"/\xff\xfe", UsageError),
        (b"/a\xc3", UsageError),
        (b"/\xed\xa0\x80", UsageError),
        (b"/a\0b", UsageError),
        (b"/" + b"a" * 1020, UsageError),
        (b"/d/.", Conflict),
        (b"/d/..", Conflict),
        (b"/.", Conflict),
        (b"", Conflict),
    ],
)
def test_names_that_no_object_can_have_are_refused_at_open(
    site: Site, path: bytes, error: type[FeedgateError]
) -> None:
    """Not UTF-8, a NUL, too long for a key, or only a directory's: refused, and nothing stored."""

    async def scenario() -> None:
        home = site.home()
        with pytest.raises(error):
            await home.open_write(path)
        assert await (await home.open_directory(b"/")).read() == []

    asyncio.run(scenario())
