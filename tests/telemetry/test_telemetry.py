"""Log lines: one event, one line, whatever the names in it."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedgate.telemetry import EventLog, utc_iso


@given(st.text(st.characters(exclude_categories=[])))
def test_hostile_text_stays_in_its_line(name: str) -> None:
    """Any text, lone surrogates included, is one line of ASCII that reads back the same."""
    stream = io.StringIO()
    EventLog(stream, now=lambda: 0.0).emit("OPEN", path=name)
    text = stream.getvalue()
    assert text.isascii()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert json.loads(text)["path"] == name


def test_fields_are_spelt_as_aws_spells_them() -> None:
    """Underscores become hyphens, None is left out, the activity stands beside the time."""
    stream = io.StringIO()
    EventLog(stream, now=lambda: 1795541096.6869).emit("CLOSE", bytes_in="5", bytes_out=None)
    assert json.loads(stream.getvalue()) == {
        "timestamp": "2026-11-24T17:24:56.686Z",
        "activity-type": "CLOSE",
        "bytes-in": "5",
    }


@pytest.mark.parametrize(
    ("unix_s", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (0.9994, "1970-01-01T00:00:00.999Z"),
        (951_782_400, "2000-02-29T00:00:00.000Z"),
    ],
)
def test_utc_iso(unix_s: float, text: str) -> None:
    """Milliseconds are cut, never rounded into the next second."""
    assert utc_iso(unix_s) == text


def test_file_is_its_owners_and_shared(tmp_path: Path) -> None:
    """Two logs on one file append whole lines; nobody else may read it."""
    path = tmp_path / "gateway.log"
    first, second = (EventLog.file(path, now=lambda: 0.0) for _ in range(2))
    first.info("one")
    second.warning("two", value={1: object})
    lines = path.read_text().splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["one", "two"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
