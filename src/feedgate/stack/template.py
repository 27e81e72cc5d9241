"""A rendered template: its sections, and where the author wrote each part.

Before it: ``gateway.rendering`` (Jsonnet) or a file's own text. After it: ``stack.build``. A
Jsonnet template's text has no lines that its author knows, so places lead back to the author's
files: the one that holds the logical id as a field, or the one that this field imports.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from feedgate.errors import DefinitionError, Finding, Source
from feedgate.stack.parse import Path, parse_json, parse_yaml

__all__ = ["Path", "Template", "parse_template"]

SECTIONS: Final = frozenset(
    {
        "AWSTemplateFormatVersion",
        "Conditions",
        "Description",
        "Mappings",
        "Metadata",
        "Outputs",
        "Parameters",
        "Resources",
        "Rules",
        "Transform",
    }
)

_JSONNET: Final = (".jsonnet", ".libsonnet")
_IMPORT: Final = re.compile(r"import\s*@?(['\"])(?P<name>[^'\"\n]+)\1")


@dataclass(frozen=True)
class Template:
    """``body`` is the template as data; ``source(path)`` the place of any node in it.

    A path is the keys and indices from the root: ``("Resources", "Key", "Properties")``.
    """

    file: str
    body: Mapping[str, Any]
    positions: Mapping[Path, tuple[int, int]] = field(default_factory=dict, repr=False)
    authored: Mapping[str, str] = field(default_factory=dict, repr=False)

    def section(self, name: str) -> Mapping[str, Any]:
        """A section's members; empty where it is absent."""
        value = self.body.get(name)
        return value if isinstance(value, Mapping) else {}

    def source(self, path: Path) -> Source:
        """The place of the node at ``path``, or of the nearest one above it that has a place."""
        if self.authored:
            return _authored_place(self, path)
        for length in range(len(path), -1, -1):
            if place := self.positions.get(path[:length]):
                return Source(self.file, *place)
        return Source(self.file)


def parse_template(text: str, *, file: str, authored: Mapping[str, str] | None = None) -> Template:
    """Parse rendered text: JSON where it begins with ``{`` or ``file`` says so, else YAML.

    ``authored`` are the author's Jsonnet files, name to text, where the text was rendered from
    them. Raises ``DefinitionError``: syntax, duplicate keys, unknown or misshapen sections.
    """
    rendered = file.endswith(_JSONNET)
    is_json = rendered or file.endswith(".json") or text.lstrip("\ufeff \t\r\n").startswith("{")
    body, positions = (parse_json if is_json else parse_yaml)(text, file)
    if not isinstance(body, Mapping):
        raise DefinitionError([Finding("error", "a template is an object", Source(file))])
    # Lines of the rendered text would mislead who has only the Jsonnet before him.
    template = Template(file, body, {} if rendered else positions, authored or {})
    if faults := list(_shape_faults(template)):
        raise DefinitionError(faults)
    return template


def _shape_faults(template: Template) -> Iterator[Finding]:
    for name, value in template.body.items():
        source = template.source((name,))
        if name not in SECTIONS:
            yield Finding("error", f"unknown section `{name}`", source)
        elif name not in {"AWSTemplateFormatVersion", "Description", "Transform"} and not (
            isinstance(value, Mapping)
        ):
            yield Finding("error", f"section `{name}` must be an object", source)
    if not template.section("Resources"):
        yield Finding("error", "the template has no `Resources`", template.source(()))


# -- places in the author's files ---------------------------------------------------------------


def _authored_place(template: Template, path: Path) -> Source:
    names = [step for step in path if isinstance(step, str)]
    root, text = template.file, template.authored.get(template.file, "")
    section = _field(text, names[0]) if names else None
    if section is None or len(names) < 2:
        return _place(root, text, section.start()) if section else Source(root)
    # A section of its own file, then the rest of the template, then every other file.
    target = _imported(template, root, section)
    places = [(target, 0)] if target else [(root, section.end())]
    places += [(file, 0) for file in template.authored if file.endswith(_JSONNET)]
    for file, start in places:
        if match := _field(template.authored[file], names[1], start):
            whole = _by_text(template, path)
            return whole or _follow(template, file, match, names[2:])
    # Made by a function: users, for one, carry a name that the author's data file spells out.
    return _by_text(template, path) or _by_user_name(template, path) or Source(root)


def _field(text: str, name: str, start: int = 0) -> re.Match[str] | None:
    """The first Jsonnet field of that name from ``start`` on, bare or quoted, not in a comment."""
    word = re.escape(name)
    pattern = rf"(?<![\w$.'\"])(?P<quote>['\"]?){word}(?P=quote)\s*\+?:"
    for match in re.finditer(pattern, text[start:]):
        at = start + match.start()
        head = text[text.rfind("\n", 0, at) + 1 : at]
        if "//" not in head and "#" not in head:
            return re.compile(pattern).match(text, at)
    return None


def _follow(template: Template, file: str, match: re.Match[str], rest: list[str]) -> Source:
    """Go into the file that the field imports, if its line imports one; then towards ``rest``."""
    if target := _imported(template, file, match):
        return _within(template, target, 0, rest) or Source(target, 1)
    start = match.start()
    text = template.authored[file]
    return _within(template, file, match.end(), rest) or _place(file, text, start)


def _imported(template: Template, file: str, field: re.Match[str]) -> str | None:
    """The file whose import is the whole value of a field, as far as its line shows."""
    text = template.authored[file]
    end = text.find("\n", field.end())
    line = text[field.end() : end if end >= 0 else len(text)]
    match = _IMPORT.match(line.strip().lstrip("("))
    target = _join(file, match["name"]) if match else None
    return target if target in template.authored else None


def _within(template: Template, file: str, start: int, names: list[str]) -> Source | None:
    """The place of the last of ``names`` that can be found in order from ``start``."""
    text = template.authored.get(file, "")
    found: Source | None = None
    at = start
    for name in names:
        match = _field(text, name, at)
        if match is None:
            break
        at = match.end()
        found = _place(file, text, match.start())
    return found


def _by_text(template: Template, path: Path) -> Source | None:
    """The file that ``importstr`` took whole as the text at ``path``, or within its Fn::Sub."""
    node: Any = template.body
    for step in path:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return None
    if isinstance(node, Mapping) and len(node) == 1:
        node = next(iter(node.values()))
    if isinstance(node, list) and node:
        node = node[0]
    if not isinstance(node, str) or "\n" not in node:
        return None
    return next((Source(file, 1) for file, text in template.authored.items() if text == node), None)


def _by_user_name(template: Template, path: Path) -> Source | None:
    node = template.section(str(path[0])).get(str(path[1]))
    properties = node.get("Properties") if isinstance(node, Mapping) else None
    name = properties.get("UserName") if isinstance(properties, Mapping) else None
    if not isinstance(name, str):
        return None
    for file, text in template.authored.items():
        if (at := text.find(f'"{name}"')) >= 0 or (at := text.find(f"'{name}'")) >= 0:
            return _place(file, text, at)
    return None


def _place(file: str, text: str, at: int) -> Source:
    return Source(file, text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))


def _join(file: str, name: str) -> str:
    """``name`` as imported by ``file``, with ``..`` and ``.`` taken out."""
    parts: list[str] = file.split("/")[:-1]
    for part in name.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)
