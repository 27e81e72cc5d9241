"""What is wrong with a policy that many users share, told once and at its line.

A scope-down policy is one text file that the template gives to every user (``importstr``), so each
thing found in it is found as often as there are users, and all at the file's first line. Here
those become one finding that names the users, at the line of the file where it can be known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from feedgate.errors import DefinitionError, Finding, Source
from feedgate.stack.parse import parse_json
from feedgate.stack.template import Template

__all__ = ["told_once"]

_USERS_NAMED_MAX: Final = 5
_STATEMENT: Final = re.compile(r"\bStatement\[(\d+)\]")
_SYNTAX: Final = re.compile(r" at line (\d+), column (\d+)$")
_QUOTED: Final = re.compile(r"`([^`]+)`")
_REFUSAL: Final = re.compile(
    r"^`(?P<user>[^`]+)` cannot (?P<what>\w+) `(?P<url>[^`]*)`: (?P<why>.* session policy)$"
)
_POLICY: Final = "in user `{}`, Policy (the session policy)"


def told_once(findings: Iterable[Finding], template: Template) -> list[Finding]:
    """The findings in their order, those of a shared policy file merged into the first of each."""
    shared = dict(_shared(template))
    merged: dict[object, tuple[Finding, list[str]]] = {}
    for finding in findings:
        user = shared.get(finding.resource or "")
        if user is None or not _is_of_policy(finding, user[1]):
            merged.setdefault(("alone", finding), (finding, []))
            continue
        name, file = user
        general = _general(finding, file)
        merged.setdefault(general, (finding, []))[1].append(name)
    return [
        _told(finding, users, key, template.authored) if users else finding
        for key, (finding, users) in merged.items()
    ]


def _shared(template: Template) -> Iterator[tuple[str, tuple[str, str]]]:
    """Logical id → user name and policy file, of each user whose policy is a file taken whole."""
    for logical_id, resource in template.section("Resources").items():
        if not isinstance(resource, Mapping) or resource.get("Type") != "AWS::Transfer::User":
            continue
        properties = resource.get("Properties")
        if not isinstance(properties, Mapping) or "Policy" not in properties:
            continue
        source = template.source(("Resources", logical_id, "Properties", "Policy"))
        is_whole = source.line == 1 and not source.column
        if is_whole and not source.file.endswith((".jsonnet", ".libsonnet")):
            yield logical_id, (str(properties.get("UserName", logical_id)), source.file)


def _is_of_policy(finding: Finding, file: str) -> bool:
    if _REFUSAL.match(finding.message):
        return True
    return finding.source is not None and finding.source.file == file


def _general(finding: Finding, file: str) -> Finding:
    """The finding without what is different from user to user."""
    hint = (finding.hint or "").replace(_POLICY.format(finding.resource), f"in `{file}`")
    message = finding.message
    if refusal := _REFUSAL.match(message):
        message = f"cannot {refusal['what']}: {refusal['why']}"
    return replace(
        finding, message=message, source=Source(file, 1), resource=None, hint=hint or None
    )


def _told(finding: Finding, users: list[str], general: object, texts: Mapping[str, str]) -> Finding:
    assert isinstance(general, Finding)
    assert general.source is not None
    file = general.source.file
    named = ", ".join(f"`{name}`" for name in dict.fromkeys(users[:_USERS_NAMED_MAX]))
    if (more := len(users) - _USERS_NAMED_MAX) > 0:
        named += f" and {more} more"
    if refusal := _REFUSAL.match(finding.message):
        if len(users) == 1:
            return finding
        message = f"{named} {general.message}, as at `{refusal['url']}`"
    else:
        message = f"{general.message} (policy of {named})"
    source, message = _located(file, texts.get(file, ""), message, finding.message)
    return replace(general, message=message, source=source)


def _located(file: str, text: str, message: str, found: str) -> tuple[Source, str]:
    """Where in the policy's text the words of a finding stand, as near as can be known."""
    if syntax := _SYNTAX.search(found):
        return Source(file, int(syntax[1]), int(syntax[2])), message.replace(syntax[0], "", 1)
    try:
        _value, positions = parse_json(text, file)
    except DefinitionError:
        positions = {}
    quoted = _QUOTED.findall(found)
    if statement := _STATEMENT.search(found):
        path = ("Statement", int(statement[1]))
        for word in quoted:
            if place := positions.get((*path, word)):
                return Source(file, *place), message
        if place := positions.get(path):
            return Source(file, *place), message
    if not _REFUSAL.match(found):
        for word in quoted:
            variable = word.replace("${", "${!", 1) if word.startswith("${") else word
            for spelling in (word, variable):
                at = text.lower().find(spelling.lower())
                if at >= 0:
                    line = text.count("\n", 0, at) + 1
                    return Source(file, line, at - text.rfind("\n", 0, at)), message
    return Source(file, 1), message
