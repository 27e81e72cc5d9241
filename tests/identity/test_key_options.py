"""Options before a public key."""

from __future__ import annotations

import time

import pytest

from feedgate.errors import UsageError
from feedgate.identity.key_options import parse_options
from feedgate.identity.users import fingerprint_of, parse_public_key

BODY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN3LWpCazMByjRb9NJGeBF/NHK4xkoGkhlived6L0jQ6"


@pytest.mark.parametrize(
    ("sources", "address", "admitted"),
    [
        ("192.0.2.0/24", "192.0.2.7", True),
        ("192.0.2.0/24", "198.51.100.7", False),
        ("192.0.2.*", "192.0.2.7", True),
        ("192.0.2.?", "192.0.2.77", False),
        ("!192.0.2.7,192.0.2.0/24", "192.0.2.7", False),
        ("192.0.2.0/24,!192.0.2.7", "192.0.2.7", False),
        ("192.0.2.0/24,!192.0.2.7", "192.0.2.8", True),
        ("!192.0.2.7", "192.0.2.8", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:DB8:0:0::1", "2001:db8::1", True),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("*", "2001:db8::1", True),
        ("192.0.2.0/24", "", False),
    ],
)
def test_from(sources: str, address: str, admitted: bool) -> None:
    """Networks, addresses, wildcards and negation as sshd's from= has them."""
    assert parse_options(f'from="{sources}"').admit_address(address) is admitted


def test_expiry_time() -> None:
    """With Z in UTC, without in local time; a day alone is its beginning."""
    assert parse_options('expiry-time="20270102030405Z"').expires_at == 1798859045
    assert parse_options('expiry-time="202701020304Z"').expires_at == 1798859040
    assert parse_options('expiry-time="20270102Z"').expires_at == 1798848000
    local = time.mktime((2027, 1, 2, 0, 0, 0, 0, 0, -1))
    assert parse_options('expiry-time="20270102"').expires_at == local


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ('command="/bin/sh"', "command"),
        ("restrict", "restrict"),
        ("no-pty", "no-pty"),
        ("cert-authority", "cert-authority"),
        ("from", "from"),
        ('from="host.example.com"', "host.example.com"),
        ('from="192.0.2.1/24"', "192.0.2.1/24"),
        ('from=""', "from"),
        ('from="192.0.2.1",from="192.0.2.2"', "twice"),
        ('expiry-time="tomorrow"', "tomorrow"),
        ('expiry-time="20271302"', "20271302"),
        ('from="192.0.2.1"x', "x"),
        ('from="192.0.2.1', "from"),
    ],
)
def test_refused_by_name(options: str, named: str) -> None:
    """What is not honoured, or cannot be read, is refused and named."""
    with pytest.raises(UsageError) as raised:
        parse_options(options)
    assert named in raised.value.message


def test_a_line_with_options() -> None:
    """Key, comment and fingerprint are what they are without; the line can be written again."""
    line = f'from="192.0.2.0/24, 2001:db8::/32",expiry-time="20270102" {BODY} my key'
    key = parse_public_key(line)
    plain = parse_public_key(f"{BODY} my key")
    assert (key.body, key.comment, key.fingerprint) == (plain.body, "my key", plain.fingerprint)
    assert fingerprint_of(line) == plain.fingerprint
    assert parse_public_key(key.line) == key
    assert key.options.admit_address("2001:db8::7")
    assert not plain.options.sources
