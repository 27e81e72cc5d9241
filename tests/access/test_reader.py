"""Open downloads under policies that change."""

from __future__ import annotations

from typing import Any

import pytest

from feedgate.errors import AccessDenied


@pytest.mark.parametrize("withdrawn", ["s3:GetObject", "kms:Decrypt"])
def test_an_open_download_is_judged_again(site: Any, names: Any, withdrawn: str) -> None:
    """What the policies no longer allow ends at the next read, and goes on when they do again."""
    site.put("bob/a", b"0123456789" * 10_000)
    judge = site.judge()
    reader = site.bucket(site.supplier(judge), judge).open("bob/a")
    assert reader is not None
    assert reader.pread(0, 4) == b"0123"
    allowed = site.role
    deny = {"Effect": "Deny", "Action": withdrawn, "Resource": "*"}
    site.role = (*allowed, deny)
    judge.take_up(site.stack())
    for _ in range(2):
        with pytest.raises(AccessDenied, match=withdrawn):
            reader.pread(4, 4)
    site.role = allowed
    judge.take_up(site.stack())
    assert reader.pread(4, 4) == b"4567"
    reader.close()


def test_reads_are_judged_once_for_each_definition(site: Any) -> None:
    """Between two definitions a read asks nobody, and the audit says nothing of it."""
    site.put("bob/a", b"0123456789")
    judge = site.judge()
    reader = site.bucket(site.supplier(judge), judge).open("bob/a")
    assert reader is not None
    site.events.clear()
    reader.pread(0, 4)
    assert site.events == []
    judge.take_up(site.stack())
    reader.pread(0, 4)
    asked = len(site.events)
    assert asked > 0
    reader.pread(4, 4)
    assert len(site.events) == asked
    reader.close()
