"""Rendering for people and as JSON: data on stdout, all else on stderr, colour on terminals."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import click

from feedgate.errors import DefinitionError, FeedgateError, Finding

__all__ = [
    "SCHEMA_VERSION",
    "fail",
    "finding_line",
    "note",
    "on_terminal",
    "print_json",
    "result",
    "safe",
    "shortened",
    "shown",
    "size_text",
    "table",
    "time_text",
]

SCHEMA_VERSION = 1
_CUT_WIDTH_MIN = 16  # characters; a name cut to fewer says nothing
_SEVERITY_COLOUR = {"error": "red", "warning": "yellow", "ignored": "cyan"}


def result(text: str) -> None:
    """One line of the command's result."""
    click.echo(text)


def note(text: str) -> None:
    """A line for the person, on stderr."""
    click.echo(text, err=True)


def print_json(value: Mapping[str, Any]) -> None:
    """The command's result as one JSON object with ``schema_version``."""
    click.echo(json.dumps({"schema_version": SCHEMA_VERSION, **value}, indent=2, default=str))


def safe(text: str) -> str:
    """Hostile text made harmless for a terminal: control and direction characters as escapes."""
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text
    )


def finding_line(finding: Finding) -> str:
    """``file:line:column: severity: resource: message``."""
    place = f"{finding.source}: " if finding.source else ""
    resource = f"`{finding.resource}`: " if finding.resource else ""
    severity = click.style(finding.severity, fg=_SEVERITY_COLOUR[finding.severity])
    return f"{place}{severity}: {resource}{finding.message}"


def fail(error: FeedgateError, *, as_json: bool) -> None:
    """What failed, where, and the next step, on stderr."""
    findings = error.findings if isinstance(error, DefinitionError) else ()
    if as_json:
        body = {
            "schema_version": SCHEMA_VERSION,
            "error": {
                "message": error.message,
                "source": str(error.source) if error.source else None,
                "hint": error.hint,
                "findings": [finding_json(finding) for finding in findings],
            },
        }
        click.echo(json.dumps(body, indent=2), err=True)
        return
    if findings:
        for finding in findings:
            note(finding_line(finding))
            if finding.hint:
                note(f"    {finding.hint}")
        faults = "1 fault" if len(findings) == 1 else f"{len(findings)} faults"
        note(f"{click.style('feedgate', fg='red')}: {faults} in the definition")
    else:
        note(f"{click.style('feedgate', fg='red')}: {safe(str(error))}")
    if error.hint:
        note(f"  next: {error.hint}")


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding's documented JSON shape."""
    return {
        "severity": finding.severity,
        "message": finding.message,
        "file": finding.source.file if finding.source else None,
        "line": finding.source.line if finding.source else None,
        "column": finding.source.column if finding.source else None,
        "resource": finding.resource,
        "hint": finding.hint,
        "rule": finding.rule,
    }


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    cut: Container[str] = (),
) -> None:
    """Aligned columns on stdout under their headings; numbers to the right.

    On a terminal the columns named in ``cut`` are cut in the middle until a line fits.
    """
    cells = [[safe(_cell(item)) for item in row] for row in rows]
    numeric = [
        bool(cells) and all(_is_number(row[i]) for row in cells) for i in range(len(headings))
    ]
    widths = [max(len(row[i]) for row in [list(headings), *cells]) for i in range(len(headings))]
    if on_terminal():
        _narrow(widths, [i for i, heading in enumerate(headings) if heading in cut])
    click.echo(click.style(_line(headings, widths, numeric), bold=True))
    for row in cells:
        row_cells = [shortened(cell, width) for cell, width in zip(row, widths, strict=True)]
        click.echo(_line(row_cells, widths, numeric))


def _narrow(widths: list[int], cut: Sequence[int]) -> None:
    """Take the widest of the columns ``cut`` down, again and again, until a line fits."""
    excess = sum(widths) + 2 * (len(widths) - 1) - _terminal_columns()
    while excess > 0 and cut:
        widest = max(cut, key=lambda i: widths[i])
        others = [widths[i] for i in cut if widths[i] < widths[widest]]
        floor = max([_CUT_WIDTH_MIN, *others])
        taken = min(excess, max(1, widths[widest] - floor))
        if widths[widest] - taken < _CUT_WIDTH_MIN:
            return  # narrower would say nothing: the line wraps
        widths[widest] -= taken
        excess -= taken


def shown(head: str, text: str) -> str:
    """``head`` and then ``text``, which a terminal gets cut in the middle to one line."""
    if not on_terminal():
        return head + text
    return head + shortened(text, max(_CUT_WIDTH_MIN, _terminal_columns() - len(head)))


def shortened(text: str, width: int) -> str:
    """At most ``width`` characters: the middle gives way, as names differ at both ends."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def _terminal_columns() -> int:
    return shutil.get_terminal_size().columns


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    parts = [
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    ]
    return "  ".join(parts).rstrip()


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _is_number(text: str) -> bool:
    return text == "" or text.replace(".", "", 1).replace("-", "", 1).isdigit()


def size_text(size_bytes: int) -> str:
    """A size for people: ``1.5 MiB``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def time_text(unix_ms: int | None) -> str:
    """A time for people, in the local zone to the second."""
    if unix_ms is None:
        return ""
    from datetime import datetime

    return datetime.fromtimestamp(unix_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def on_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()
