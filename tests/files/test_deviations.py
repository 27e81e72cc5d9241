"""The table of deviations, its page, and its switch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from feedgate.files.deviations import DEVIATIONS, Fidelity, page

ROOT = Path(__file__).parents[2]


def test_page_is_the_table() -> None:
    """The page in the documentation is the table in the code."""
    written = (ROOT / "docs" / "reference" / "deviations.md").read_text(encoding="utf-8")
    assert written == page(), "python -m feedgate.files.deviations > docs/reference/deviations.md"


def test_code_and_table_name_the_same_switches() -> None:
    """Whatever asks for its side of a row has one, and each switched row is asked for."""
    asked: set[str] = set()
    for path in (ROOT / "src" / "feedgate").rglob("*.py"):
        asked |= set(re.findall(r"\.ours\(\s*\"([^\"]+)\"", path.read_text(encoding="utf-8")))
    names = [row.name for row in DEVIATIONS]
    assert len(set(names)) == len(names)
    assert asked == {row.name for row in DEVIATIONS if row.switched and not row.through}
    assert {row.through for row in DEVIATIONS if row.through} <= asked


def test_switch() -> None:
    """`--like-aws` takes AWS's side of a switched row; another row has no side to ask for."""
    assert Fidelity().ours("extensions")
    assert not Fidelity(like_aws=True).ours("extensions")
    with pytest.raises(AssertionError, match="holds either way"):
        Fidelity().ours("quota")
