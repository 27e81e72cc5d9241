"""Tags that say who may connect."""

from __future__ import annotations

import pytest

from feedgate.stack.access_tags import (
    ALLOWED_TAG,
    ANY_ADDRESS,
    DENIED_TAG,
    EXPIRES_TAG,
    access_tag_faults,
    expires_at,
    rules_of,
)


@pytest.mark.parametrize(
    ("allowed", "denied", "address", "admitted"),
    [
        (None, "", "192.0.2.1", True),
        ("192.0.2.0/24 2001:db8::/32", "", "192.0.2.1", True),
        ("192.0.2.0/24 2001:db8::/32", "", "2001:db8::1", True),
        ("192.0.2.0/24", "", "2001:db8::1", False),
        ("192.0.2.0/24", "192.0.2.1", "192.0.2.1", False),
        (None, "192.0.2.1", "192.0.2.2", True),
        ("", "", "192.0.2.2", False),
        ("192.0.2.0/24", "", "::ffff:192.0.2.1", True),
        ("192.0.2.0/24", "", "no address", False),
    ],
)
def test_rules(allowed: str | None, denied: str, address: str, admitted: bool) -> None:
    """Denied wins; a list of allowed ones refuses all others, an empty one everybody."""
    tags = {DENIED_TAG: denied} if allowed is None else {ALLOWED_TAG: allowed, DENIED_TAG: denied}
    assert rules_of(tags).admit(address) is admitted


def test_no_tag_allows_all() -> None:
    """Where no tag speaks, every address may connect, and any text for one."""
    assert rules_of({}) is ANY_ADDRESS
    assert ANY_ADDRESS.admit("")


def test_expiry() -> None:
    """An instant with its zone, or a day, which begins in UTC."""
    assert expires_at({}) is None
    assert expires_at({EXPIRES_TAG: "2027-01-02T03:04:05Z"}) == 1798859045
    assert expires_at({EXPIRES_TAG: "2027-01-02T04:04:05+01:00"}) == 1798859045
    assert expires_at({EXPIRES_TAG: "2027-01-02"}) == 1798848000


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({ALLOWED_TAG: "192.0.2.1/24"}, "192.0.2.0/24"),
        ({DENIED_TAG: "192.0.2.1,192.0.2.2"}, "192.0.2.1,192.0.2.2"),
        ({EXPIRES_TAG: "next week"}, "next week"),
        ({EXPIRES_TAG: "2027-01-02T03:04:05"}, "time zone"),
    ],
)
def test_faults(tags: dict[str, str], said: str) -> None:
    """A tag that cannot be read is a fault that names it, never ignored."""
    (fault,) = access_tag_faults(tags, of_user=True)
    assert said in fault
    assert next(iter(tags)) in fault


def test_a_server_does_not_expire() -> None:
    """The tag of users on a server is a fault."""
    assert list(access_tag_faults({EXPIRES_TAG: "2027-01-02"}, of_user=False))
