"""Two hundred ways to leave a home directory, tried with every operation.

The forms are those of published path traversals (asyncssh 2.24.0's ``//``, SFTPGo CVE-2026-30914
and CVE-2026-49244, Erlang CVE-2026-32147 and their kin): doubled and trailing slashes, dots in
every position, percent and overlong encodings, backslashes, NULs, look-alike characters.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from feedgate.errors import FeedgateError
from feedgate.files.home import HomeDirectory

SECRET = b"canary-of-another-supplier"
OTHERS = ("bolt/secret.csv", "acme2/secret.csv", "acme-old/secret.csv", "secret.csv", "acme")

CLIMBS = (
    b"../bolt/secret.csv|/../bolt/secret.csv|//../bolt/secret.csv|/./../bolt/secret.csv|"
    b"/a/../../bolt/secret.csv|/a/b/../../../bolt/secret.csv|/../../../../bolt/secret.csv|"
    b"/..//bolt/secret.csv|/../bolt//secret.csv|/.//..//bolt/secret.csv|/../acme2/secret.csv|"
    b"/../acme-old/secret.csv|/../secret.csv|/..|/../|/../.|/..//|..|../|../..|../../|/...|/..../x|"
    b"/../bolt|/../bolt/|/../bolt/.|/../landing/bolt/secret.csv|//landing/bolt/secret.csv|"
    b"/landing/bolt/secret.csv|/s3://landing/bolt/secret.csv|s3://landing/bolt/secret.csv|"
    b"/arn:aws:s3:::landing/bolt/secret.csv|/bolt/secret.csv|bolt/secret.csv|/acme/../../bolt/secret.csv"
).split(b"|")
ENCODED = (
    b"/%2e%2e/bolt/secret.csv|/%2e%2e%2fbolt%2fsecret.csv|/..%2fbolt/secret.csv|"
    b"/%252e%252e/bolt/secret.csv|/..%c0%afbolt/secret.csv|/..%5cbolt%5csecret.csv|"
    b"/..\\bolt\\secret.csv|..\\..\\bolt\\secret.csv|/..\\/bolt/secret.csv|/\\../bolt/secret.csv|"
    b"/.\\./bolt/secret.csv|/..;/bolt/secret.csv|/..\t/bolt/secret.csv|/.. /bolt/secret.csv|"
    b"/ ../bolt/secret.csv|/..\n/bolt/secret.csv|/..\r/bolt/secret.csv|/..\x7f/bolt/secret.csv|"
    b"/..\x00/bolt/secret.csv|/..\x00|/\x00../bolt/secret.csv|/a\x00/../../bolt/secret.csv|%00|"
    b"/..\xc0\xafbolt/secret.csv|/\xc0\xae\xc0\xae/bolt/secret.csv|/\xe0\x80\xae./bolt/secret.csv|"
    b"/\xf0\x80\x80\xae./bolt|/..\xff/bolt/secret.csv|/\xff\xfe/../../bolt/secret.csv|"
    b"/\xef\xbc\x8e\xef\xbc\x8e/bolt/secret.csv|/\xe2\x80\xa5/bolt/secret.csv|"
    b"/..\xef\xbc\x8fbolt/secret.csv|/..\xe2\x88\x95bolt|/..\xe2\x81\x84bolt|/\xe2\x80\xae../bolt|"
    b"/.\xe2\x80\x8b./bolt/secret.csv|/.\xcc\x80./bolt/secret.csv|~/../bolt/secret.csv|~bolt/secret.csv|"
    b"$HOME/../bolt|${transfer:UserName}/../../bolt/secret.csv|`id`|*|/*/secret.csv|?|[a-z]*|{a,b}|"
    b"C:\\secret.csv|C:/secret.csv|\\\\host\\share|//host/share|file:///etc/passwd|/dev/null|/proc/self"
).split(b"|")


def corpus() -> list[bytes]:
    """The forms above, each also nested, with doubled slashes, and with a tail."""
    dots = [b".", b"..", b"...", b""]
    grid = [
        b"/" + b"/".join(levels) + b"/bolt/secret.csv"
        for levels in itertools.product(dots, repeat=3)
    ]
    long = [b"/x/.." * 600 + b"/../bolt/secret.csv", b"/" * 4000 + b"bolt", b"../" * 1300 + b"bolt"]
    tails = [form + tail for form in CLIMBS for tail in (b"/", b"/.", b"//")]
    nested = [b"/in/deep" + b"/.." * depth + b"/bolt/secret.csv" for depth in range(1, 8)]
    return [*dict.fromkeys(CLIMBS + ENCODED + grid + long + tails + nested)]


FORMS = corpus()


def requests(home: HomeDirectory, path: bytes) -> Iterator[Callable[[], Awaitable[Any]]]:
    """Every operation that takes a path."""

    async def write() -> None:
        file = await home.open_write(path)
        await file.write(0, b"intruder")
        await file.close()

    async def read() -> bytes:
        file = await home.open_read(path)
        try:
            return await file.read(0, 1000)
        finally:
            await file.close()

    async def listing() -> list[bytes]:
        directory = await home.open_directory(path)
        return [entry.name for entry in await directory.read()]

    yield lambda: home.realpath(path)
    yield lambda: home.stat(path)
    yield read
    yield listing
    yield lambda: home.rename(b"/mine", path)
    yield lambda: home.rename(path, b"/stolen")
    yield lambda: home.mkdir(path)
    yield lambda: home.rmdir(path)
    yield write
    yield lambda: home.remove(path)


def test_corpus_is_large() -> None:
    """The corpus has at least the two hundred forms that it promises."""
    assert len(FORMS) >= 200


@pytest.mark.parametrize("part", range(4))
def test_no_form_with_no_operation_leaves_the_home(site: Any, part: int) -> None:
    """Nothing outside the mapping is asked for, shown, changed or made, whatever the form."""
    bucket = site.buckets()["landing"]
    for key in OTHERS:
        upload = bucket.begin_upload(key, owner="test")
        upload.write(0, [SECRET])
        staged = upload.finish()
        site.database.write_now(lambda tx, staged=staged: bucket.publish(tx, staged))

    async def scenario() -> None:
        home = site.home()
        file = await home.open_write(b"/mine")
        await file.close()
        for path in FORMS[part::4]:
            for request in requests(home, path):
                try:
                    answer = await request()
                except FeedgateError:
                    continue
                assert SECRET not in (answer or b"") if isinstance(answer, bytes) else True

    asyncio.run(scenario())
    asked = set(site.asked)
    assert asked
    assert {name for name, _key in asked} == {"landing"}
    outside = [key for _name, key in asked if not key.startswith("acme/")]
    assert outside == []
    assert not any(level in (".", "..") for _name, key in asked for level in key.split("/"))
    for key in OTHERS:
        reader = bucket.open(key)
        assert reader is not None
        assert reader.pread(0, 100) == SECRET
        reader.close()
