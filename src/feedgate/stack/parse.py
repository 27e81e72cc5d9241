"""JSON and YAML text to a tree with the place of every node.

The parsers of the standard library and of PyYAML keep no positions, take the last of two equal
keys, and PyYAML reads `2012-10-17` as a date, so both are driven here from below: JSON by its
grammar (RFC 8259) with the standard string scanner, YAML by PyYAML's composed nodes with
CloudFormation's short tags
(https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/template-formats.html).
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Mapping
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]
from typing import Any, Final

from feedgate.errors import DefinitionError, Finding, Source

__all__ = ["Path", "Positions", "parse_json", "parse_yaml"]

Path = tuple[str | int, ...]
Positions = dict[Path, tuple[int, int]]  # line and column, from 1

DEPTH_MAX: Final = 64  # nesting; CloudFormation documents no figure, its templates need about 20

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?P<fraction>\.\d+)?(?P<exponent>[eE][+-]?\d+)?")
_NUMBER_CHARS_MAX: Final = 400  # Python bounds its integers at 4,300 digits; no property needs more
_YAML_TAG: Final = "tag:yaml.org,2002:"
_YAML_TYPES: Final = frozenset({"map", "seq", "str", "int", "float", "bool", "null"})
_WORDS: Final = {"true": True, "false": False, "null": None}


def parse_json(text: str, file: str) -> tuple[Any, Positions]:
    """Return the value and where each of its nodes begins.

    A key's node is where the key begins. Raises ``DefinitionError`` at the first syntax error, or
    listing every duplicate key.
    """
    parser = _Json(text, file)
    value = parser.document()
    if parser.faults:
        raise DefinitionError(parser.faults)
    return value, parser.positions


class _Json:
    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._lines = [0] + [m.end() for m in re.finditer("\n", text)]
        self.positions: Positions = {}
        self.faults: list[Finding] = []

    def _place(self, at: int) -> tuple[int, int]:
        line = bisect.bisect_right(self._lines, at)
        return line, at - self._lines[line - 1] + 1

    def _finding(self, message: str, at: int) -> Finding:
        return Finding("error", message, Source(self._file, *self._place(at)), rule="json")

    def _wrong(self, message: str, at: int) -> DefinitionError:
        return DefinitionError([self._finding(message, at)])

    def _skip(self, at: int) -> int:
        match = _SPACE.match(self._text, at)
        assert match is not None
        return match.end()

    def document(self) -> Any:
        value, at = self._value(self._skip(0), (), None)
        if (at := self._skip(at)) != len(self._text):
            raise self._wrong("text after the end of the document", at)
        return value

    def _value(self, at: int, path: Path, place: tuple[int, int] | None) -> tuple[Any, int]:
        self.positions[path] = place or self._place(at)
        if len(path) > DEPTH_MAX:
            raise self._wrong(f"nested deeper than {DEPTH_MAX}", at)
        head = self._text[at : at + 1]
        if head == "{":
            return self._object(at + 1, path)
        if head == "[":
            return self._array(at + 1, path)
        if head == '"':
            return self._string(at)
        for word, value in _WORDS.items():
            if self._text.startswith(word, at):
                return value, at + len(word)
        return self._number(at)

    def _number(self, at: int) -> tuple[int | float, int]:
        match = _NUMBER.match(self._text, at)
        if match is None or match.end() - at > _NUMBER_CHARS_MAX:
            raise self._wrong("a value expected", at)
        whole = match["fraction"] is None and match["exponent"] is None
        value = (int if whole else float)(match[0])
        if value in {float("inf"), float("-inf")}:
            raise self._wrong("a number out of range", at)
        return value, match.end()

    def _string(self, at: int) -> tuple[str, int]:
        if self._text[at : at + 1] != '"':
            raise self._wrong("a string expected", at)
        try:
            value, end = scanstring(self._text, at + 1, True)
        except JSONDecodeError as error:
            raise self._wrong(error.msg[:1].lower() + error.msg[1:], error.pos) from None
        return str(value), int(end)

    def _object(self, at: int, path: Path) -> tuple[dict[str, Any], int]:
        members: dict[str, Any] = {}
        at = self._skip(at)
        if self._text[at : at + 1] == "}":
            return members, at + 1
        while True:
            start = at
            key, at = self._string(start)
            at = self._skip(at)
            if self._text[at : at + 1] != ":":
                raise self._wrong("`:` expected", at)
            if key in members:
                self.faults.append(self._finding(f"duplicate key `{key}`", start))
            members[key], at = self._value(self._skip(at + 1), (*path, key), self._place(start))
            at = self._skip(at)
            head = self._text[at : at + 1]
            if head == "}":
                return members, at + 1
            if head != ",":
                raise self._wrong("`,` or `}` expected", at)
            at = self._skip(at + 1)

    def _array(self, at: int, path: Path) -> tuple[list[Any], int]:
        items: list[Any] = []
        at = self._skip(at)
        if self._text[at : at + 1] == "]":
            return items, at + 1
        while True:
            item, at = self._value(at, (*path, len(items)), None)
            items.append(item)
            at = self._skip(at)
            head = self._text[at : at + 1]
            if head == "]":
                return items, at + 1
            if head != ",":
                raise self._wrong("`,` or `]` expected", at)
            at = self._skip(at + 1)


# -- YAML ---------------------------------------------------------------------------------------


def parse_yaml(text: str, file: str) -> tuple[Any, Positions]:
    """Return the value and where each of its nodes begins, short tags written out.

    ``!Sub x`` becomes ``{"Fn::Sub": "x"}``, ``!Ref x`` ``{"Ref": "x"}``, ``!GetAtt A.B`` keeps its
    string. Aliases, merges and other tags are refused, as CloudFormation does. Raises
    ``DefinitionError`` like ``parse_json``.
    """
    import yaml  # noqa: PLC0415 - 30 ms, and most templates are Jsonnet

    loader = yaml.SafeLoader(text)
    try:
        # A date is a string to CloudFormation: `Version: 2012-10-17`.
        loader.yaml_implicit_resolvers = {
            first: [(tag, form) for tag, form in forms if not tag.endswith(":timestamp")]
            for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }
        root = loader.get_single_node()
        reader = _Yaml(file, loader.construct_object)
        value = reader.value(root, ()) if root is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Source(file, mark.line + 1, mark.column + 1) if mark else Source(file)
        message = " ".join((error.problem or error.context or "not YAML").split())
        raise DefinitionError([Finding("error", message, place, rule="yaml")]) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        message = " ".join((str(error) or "nested too deep").split())
        raise DefinitionError([Finding("error", message, Source(file), rule="yaml")]) from None
    finally:
        loader.dispose()
    if reader.faults:
        raise DefinitionError(reader.faults)
    return value, reader.positions


class _Yaml:
    def __init__(self, file: str, scalar: Callable[[Any], Any]) -> None:
        self._file = file
        self._scalar = scalar
        self._seen: set[int] = set()
        self.positions: Positions = {}
        self.faults: list[Finding] = []

    def _fault(self, message: str, mark: Any) -> None:
        place = Source(self._file, mark.line + 1, mark.column + 1)
        self.faults.append(Finding("error", message, place, rule="yaml"))

    def value(self, node: Any, path: Path) -> Any:
        self.positions.setdefault(path, (node.start_mark.line + 1, node.start_mark.column + 1))
        if id(node) in self._seen:
            self._fault("aliases are not used in a template", node.start_mark)
            return None
        self._seen.add(id(node))
        if len(path) > DEPTH_MAX:
            self._fault(f"nested deeper than {DEPTH_MAX}", node.start_mark)
            return None
        tag = str(node.tag)
        if not tag.startswith("!"):
            return self._plain(node, tag, path)
        name = tag[1:]
        name = name if name in {"Ref", "Condition"} else f"Fn::{name}"
        self.positions[(*path, name)] = self.positions[path]
        return {name: self._plain(node, None, (*path, name))}

    def _plain(self, node: Any, tag: str | None, path: Path) -> Any:
        kind = node.id
        if tag is not None and tag.removeprefix(_YAML_TAG) not in _YAML_TYPES:
            self._fault(f"the tag `{tag}` is not used in a template", node.start_mark)
            return None
        if kind == "mapping":
            return self._mapping(node, path)
        if kind == "sequence":
            return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]
        if tag is None:  # under a short tag a scalar is text: `!Sub 10`, `!GetAtt A.B`
            return node.value
        return self._scalar(node)

    def _mapping(self, node: Any, path: Path) -> Mapping[str, Any]:
        members: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.id != "scalar":
                self._fault("a key must be a scalar", key_node.start_mark)
                continue
            key = str(key_node.value)
            if key_node.tag == "tag:yaml.org,2002:merge":
                self._fault("merges (`<<`) are not used in a template", key_node.start_mark)
                continue
            if key in members:
                self._fault(f"duplicate key `{key}`", key_node.start_mark)
            mark = key_node.start_mark
            self.positions[(*path, key)] = (mark.line + 1, mark.column + 1)
            members[key] = self.value(value_node, (*path, key))
        return members
