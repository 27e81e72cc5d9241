"""What a suite found, and what was expected of it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Missing", "Suite", "Verdict", "expected_failures", "judge"]

EXPECTED = Path(__file__).with_name("expected.toml")


class Missing(Exception):
    """A suite cannot run here; the text says what to install."""


@dataclass
class Suite:
    """One run of a suite: each case by its own name; a failure's text is its last lines."""

    name: str
    version: str = ""
    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    missing: str = ""
    seconds: float = 0.0

    def add(self, case: str, failure: str | None) -> None:
        """Note a case; ``failure`` is None when it passed."""
        if failure is None:
            self.passed.append(case)
        else:
            self.failed[case] = failure


@dataclass(frozen=True)
class Verdict:
    """A suite beside its expected failures, each a case and a text."""

    expected: dict[str, str]
    unexpected: dict[str, str]
    passing: dict[str, str]

    @property
    def good(self) -> bool:
        """Whether all went as the list says."""
        return not self.unexpected and not self.passing


def expected_failures() -> dict[str, dict[str, str]]:
    """Suite → case → why it fails."""
    return tomllib.loads(EXPECTED.read_text(encoding="utf-8"))


def judge(suite: Suite, reasons: dict[str, str]) -> Verdict:
    """Compare a run with its list: a listed case that passes, or does not exist, is a fault too."""
    expected = {case: reasons[case] for case in suite.failed if case in reasons}
    unexpected = {case: text for case, text in suite.failed.items() if case not in reasons}
    passing = {}
    if not suite.missing:
        for case in reasons.keys() - suite.failed.keys():
            there = case in suite.passed
            passing[case] = "passes now" if there else "no case of that name ran"
        if not suite.passed and not suite.failed:
            unexpected["(the suite)"] = "no case ran"
    return Verdict(expected, unexpected, passing)
