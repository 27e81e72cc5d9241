"""Tags for quotas, file sizes and temporary names."""

from __future__ import annotations

import pytest

from feedgate.stack.limit_tags import (
    TEMPORARY_NAMES,
    UNBOUNDED,
    UserLimits,
    limit_tag_faults,
    limits_of,
    parse_bytes,
    temporary_names,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1048576),
        ("10GiB", 10 * 1024**3),
        ("10 GB", 10 * 1000**3),
        (" 5 Ti ", 5 * 1024**4),
        ("3K", 3000),
        ("2PiB", 2 * 1024**5),
        ("7B", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """Units of 1,024 with an `i`, of 1,000 without; bytes where there is none."""
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5GiB", "10 gib", "1e9", "٣", "1 2", "9" * 30])
def test_no_sizes(text: str) -> None:
    """Anything else is refused by name."""
    with pytest.raises(ValueError, match="is no size"):
        parse_bytes(text)


def test_limits_of_a_user() -> None:
    """Each tag counts for itself; without any there is no bound."""
    assert limits_of({"team": "x"}) is UNBOUNDED
    assert limits_of({"feedgate:quotaBytes": "1KiB"}) == UserLimits(1024, None)
    assert limits_of({"feedgate:maxFileBytes": "5"}) == UserLimits(None, 5)


def test_temporary_names() -> None:
    """Endings or patterns between spaces; none for an empty tag, the usual ones without a tag."""
    assert temporary_names({}) == TEMPORARY_NAMES
    assert temporary_names({"feedgate:temporaryNames": ".up _tmp* "}) == ("*.up", "_tmp*")
    assert temporary_names({"feedgate:temporaryNames": ""}) == ()


@pytest.mark.parametrize(
    ("tags", "of_user", "faults"),
    [
        ({"feedgate:quotaBytes": "much"}, True, 1),
        ({"feedgate:quotaBytes": "much", "feedgate:maxFileBytes": "-"}, True, 2),
        ({"feedgate:quotaBytes": "1"}, False, 1),
        ({"feedgate:temporaryNames": ".x"}, True, 1),
        ({"feedgate:temporaryNames": ".x"}, False, 0),
        ({"feedgate:maxFileBytes": "1GiB"}, True, 0),
        ({}, True, 0),
    ],
)
def test_faults(tags: dict[str, str], faults: int, *, of_user: bool) -> None:
    """What is no size, or is on the wrong kind of resource, is a fault of the template."""
    assert len(list(limit_tag_faults(tags, of_user=of_user))) == faults
