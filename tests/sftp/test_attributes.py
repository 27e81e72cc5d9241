"""Attributes and long names, as AWS Transfer shows them."""

from __future__ import annotations

import calendar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedgate.files.home import Entry
from feedgate.sftp.attributes import (
    Attributes,
    decode_attributes,
    encode_attributes,
    encode_name,
    long_name,
)
from feedgate.sftp.packets import Fields, MalformedError

NOW = calendar.timegm((2026, 11, 24, 16, 0, 0))


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        (
            Entry(b"foobar", "directory"),
            b"drwxr--r--   1        -        -        0 Jan  1  1970 foobar",
        ),
        (
            Entry(b"a.csv", "file", 121, calendar.timegm((2026, 11, 3, 7, 5, 0))),
            b"-rwxr--r--   1        -        -      121 Nov  3 07:05 a.csv",
        ),
        (
            Entry(b"old", "file", 5, calendar.timegm((2025, 12, 31, 23, 59, 59))),
            b"-rwxr--r--   1        -        -        5 Dec 31  2025 old",
        ),
        (
            Entry(b"big", "file", 5 * 1024**4, NOW + 60),
            b"-rwxr--r--   1        -        - 5497558138880 Nov 24 16:01 big",
        ),
        (
            Entry(b"a\nb\xff", "file", 0, 0),
            b"-rwxr--r--   1        -        -        0 Jan  1  1970 a\nb\xff",
        ),
    ],
)
def test_long_names(entry: Entry, line: bytes) -> None:
    """The first is the line that a capture of AWS shows; dates follow ls."""
    assert long_name(entry, NOW) == line


def test_attributes_have_no_owner() -> None:
    """Size, mode 0744 and times; neither uid nor gid, as on AWS."""
    encoded = encode_attributes(Entry(b"a", "file", 7, 1000))
    assert encoded == bytes.fromhex("0000000d0000000000000007000081e4000003e8000003e8")
    assert encode_attributes(Entry(b"d", "directory"))[12:16] == bytes.fromhex("000041e4")


@given(st.integers(0, 2**64 - 1), st.integers(-(2**40), 2**40), st.binary(max_size=300))
def test_own_attributes_read_back(size: int, modified_s: int, name: bytes) -> None:
    """What is sent is what a client decodes; a time that does not fit is clamped."""
    entry = Entry(name, "file", size, modified_s)
    fields = Fields(encode_name(entry, NOW))
    assert fields.string() == name
    assert fields.string().endswith(b" " + name)
    read = decode_attributes(fields)
    time_s = min(max(modified_s, 0), 2**32 - 1)
    assert read == Attributes(size, 0o100744, time_s, time_s)


def test_everything_a_client_may_send() -> None:
    """All flags at once, extensions included, are read to the end."""
    data = (0x8000000F).to_bytes(4, "big") + (9).to_bytes(8, "big")
    data += b"".join(number.to_bytes(4, "big") for number in (1000, 1001, 0o644, 5, 6, 1))
    data += b"\0\0\0\1k\0\0\0\1v" + b"rest"
    fields = Fields(data)
    assert decode_attributes(fields) == Attributes(9, 0o644, 5, 6, has_owner=True)
    assert decode_attributes(Fields(bytes(4))) == Attributes()
    for end in range(len(data) - 4):
        with pytest.raises(MalformedError):
            decode_attributes(Fields(data[:end]))
