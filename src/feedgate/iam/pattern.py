"""Texts of a policy that stand for many: ``*``, ``?`` and ``${variables}``.

A text becomes tokens once, when its policy is parsed. Tokens become a matcher: without variables at
once, with variables when their values are known. A substituted value is one literal token, so a
``*`` in a user's name is a star and no wildcard.

Matching never backtracks: the text is cut at ``*`` into chunks, each looked for left to right;
a chunk with ``?`` inside is found by the Shift-And automaton (Baeza-Yates and Gonnet, 1992). Not
``re`` or ``fnmatch``: they backtrack, and ``.`` stops at a newline.

Source: IAM User Guide, reference_policies_variables, reference_policies_elements_resource.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from feedgate.limits import POLICY_BINDINGS_MAX

__all__ = [
    "ArnPattern",
    "Lookup",
    "PatternError",
    "TextPattern",
    "Variable",
    "Wildcard",
    "compile_tokens",
    "tokenise",
]

Lookup: TypeAlias = Callable[[str], str | None]  # lower-case name → its one value
Matcher: TypeAlias = Callable[[str], bool]


class PatternError(ValueError):
    """The text is not a pattern; the message says why."""


class Wildcard(Enum):
    """``?`` is exactly one character, ``*`` any run, the empty one too."""

    ONE = "?"
    RUN = "*"


@dataclass(frozen=True, slots=True)
class Variable:
    """``${name}`` or ``${name, 'default'}``. ``name`` is lower case."""

    name: str
    default: str | None = None


Token: TypeAlias = str | Wildcard | Variable

_VARIABLE: Final = re.compile(r"\$\{([^,'{}$]+)(?:, '([^']*)')?\}")
_ESCAPES: Final = ("${*}", "${?}", "${$}")


def tokenise(text: str, *, wildcards: bool, variables: bool) -> tuple[Token, ...]:
    """Cut a text into literals, wildcards and variables.

    ``variables`` is off for policies of Version 2008-10-17, where ``${`` is plain text.

    Raises:
        PatternError: a variable is malformed.
    """
    tokens: list[Token] = []
    literal: list[str] = []
    place = 0
    while place < len(text):
        char = text[place]
        token: Token | None = None
        size = 1
        if variables and text.startswith("${", place):
            if text[place : place + 4] in _ESCAPES:
                char, size = text[place + 2], 4
            else:
                token, size = _variable(text, place)
        elif wildcards and char in "*?":
            token = Wildcard(char)
        if token is None:
            literal.append(char)
        else:
            if literal:
                tokens.append("".join(literal))
                literal = []
            tokens.append(token)
        place += size
    if literal:
        tokens.append("".join(literal))
    return tuple(tokens)


def _variable(text: str, place: int) -> tuple[Variable, int]:
    found = _VARIABLE.match(text, place)
    if found is None or found[1] != found[1].strip():
        raise PatternError(f"malformed policy variable in `{text}`")
    return Variable(found[1].lower(), found[2]), len(found[0])


class _Chunk:
    """A piece between two ``*``: literals with exactly one character between each two."""

    __slots__ = ("_any", "_masks", "length", "literals")

    def __init__(self, literals: list[str]) -> None:
        self.literals = tuple(literals)
        self.length = sum(map(len, literals)) + len(literals) - 1
        self._masks: dict[str, int] | None = None
        self._any = 0

    def at(self, text: str, place: int) -> bool:
        """Whether the chunk stands at ``place``; the caller has checked that it fits."""
        for literal in self.literals:
            if not text.startswith(literal, place):
                return False
            place += len(literal) + 1
        return True

    def find(self, text: str, start: int, end: int) -> int:
        """The first place in ``text[start:end]`` where the chunk stands, or -1."""
        if len(self.literals) == 1:
            return text.find(self.literals[0], start, end)
        masks = self._masks if self._masks is not None else self._make_masks()
        goal = 1 << (self.length - 1)
        state = 0
        for place in range(start, end):
            state = ((state << 1) | 1) & masks.get(text[place], self._any)
            if state & goal:
                return place - self.length + 1
        return -1

    def _make_masks(self) -> dict[str, int]:
        masks: dict[str, int] = {}
        any_mask = 0
        bit = 1
        for number, literal in enumerate(self.literals):
            if number:
                any_mask |= bit
                bit <<= 1
            for char in literal:
                masks[char] = masks.get(char, 0) | bit
                bit <<= 1
        self._any = any_mask
        self._masks = {char: mask | any_mask for char, mask in masks.items()}
        return self._masks


def compile_tokens(tokens: Iterable[str | Wildcard]) -> Matcher:
    """A function that says whether a whole text fits."""
    chunks = [[""]]
    for token in tokens:
        if token is Wildcard.RUN:
            chunks.append([""])
        elif token is Wildcard.ONE:
            chunks[-1].append("")
        else:
            assert isinstance(token, str)
            chunks[-1][-1] += token
    if len(chunks) == 1:
        return _whole(_Chunk(chunks[0]))
    if chunks[1:] == [[""]] and len(chunks[0]) == 1:
        return _prefix(chunks[0][0])
    middle = [_Chunk(chunk) for chunk in chunks[1:-1] if chunk != [""]]
    return _runs(_Chunk(chunks[0]), tuple(middle), _Chunk(chunks[-1]))


def _whole(chunk: _Chunk) -> Matcher:
    if len(chunk.literals) == 1:
        wanted = chunk.literals[0]
        return lambda text: text == wanted
    return lambda text: len(text) == chunk.length and chunk.at(text, 0)


def _prefix(prefix: str) -> Matcher:
    if not prefix:
        return lambda _text: True
    return lambda text: text.startswith(prefix)


def _runs(head: _Chunk, middle: tuple[_Chunk, ...], tail: _Chunk) -> Matcher:
    length_min = head.length + tail.length + sum(chunk.length for chunk in middle)

    def matches(text: str) -> bool:
        if len(text) < length_min or not head.at(text, 0):
            return False
        end = len(text) - tail.length
        if not tail.at(text, end):
            return False
        place = head.length
        for chunk in middle:
            place = chunk.find(text, place, end)
            if place < 0:
                return False
            place += chunk.length
        return True

    return matches


class _Bound:
    """Tokens with variables, and the matchers made for the values met so far."""

    __slots__ = ("_made", "_make", "tokens", "variables")

    def __init__(
        self, tokens: tuple[Token, ...], make: Callable[[list[str | Wildcard]], Matcher | None]
    ) -> None:
        self.tokens = tokens
        self.variables = tuple(token for token in tokens if isinstance(token, Variable))
        self._make = make
        self._made: dict[tuple[str, ...], Matcher | None] = {}

    def matcher(self, lookup: Lookup) -> Matcher | None:
        """None where a variable has neither value nor default."""
        values = []
        for variable in self.variables:
            value = lookup(variable.name)
            if value is None:
                value = variable.default
            if value is None:
                return None
            values.append(value)
        key = tuple(values)
        if key in self._made:
            return self._made[key]
        rest = iter(values)
        made = self._make(
            [next(rest) if isinstance(token, Variable) else token for token in self.tokens]
        )
        if len(self._made) >= POLICY_BINDINGS_MAX:
            self._made.clear()
        self._made[key] = made
        return made


class TextPattern:
    """A pattern over a plain text: a condition's value, an action."""

    __slots__ = ("_bound", "_fixed", "text", "variables")

    def __init__(self, text: str, *, wildcards: bool, variables: bool) -> None:
        """Raises ``PatternError``."""
        self.text = text
        tokens = tokenise(text, wildcards=wildcards, variables=variables)
        self.variables = _names(tokens)
        self._bound = _Bound(tokens, compile_tokens) if self.variables else None
        self._fixed = (
            compile_tokens(token for token in tokens if not isinstance(token, Variable))
            if not self.variables
            else None
        )

    def matches(self, text: str, lookup: Lookup) -> bool:
        """Whether the whole text fits; never where a variable has no value."""
        matcher = self._fixed or (self._bound.matcher(lookup) if self._bound else None)
        return matcher is not None and matcher(text)

    def resolves(self, lookup: Lookup) -> bool:
        """Whether each variable has a value."""
        return self._bound is None or self._bound.matcher(lookup) is not None


class ArnPattern:
    """A pattern over an ARN: six segments matched one by one, the last holding ``:`` and ``/``.

    ``*`` in one of the first five stays within its segment (IAM, elements_resource and
    elements_condition_operators, ArnLike).
    """

    __slots__ = ("_bound", "_fixed", "text", "variables")

    def __init__(self, text: str, *, variables: bool) -> None:
        """Raises ``PatternError`` where this cannot be an ARN."""
        self.text = text
        tokens = tokenise(text, wildcards=True, variables=variables)
        self.variables = _names(tokens)
        self._bound = _Bound(tokens, _compile_arn) if self.variables else None
        self._fixed: Matcher | None = None
        if not self.variables:
            self._fixed = _compile_arn(
                [token for token in tokens if not isinstance(token, Variable)]
            )
            if self._fixed is None:
                raise PatternError(f"`{text}` is not an ARN of six parts")

    def matches(self, arn: str, lookup: Lookup) -> bool:
        """Whether the ARN fits; never where a variable has no value."""
        matcher = self._fixed or (self._bound.matcher(lookup) if self._bound else None)
        return matcher is not None and matcher(arn)

    def resolves(self, lookup: Lookup) -> bool:
        """Whether each variable has a value."""
        return self._bound is None or self._bound.matcher(lookup) is not None


def _names(tokens: tuple[Token, ...]) -> frozenset[str]:
    return frozenset(token.name for token in tokens if isinstance(token, Variable))


def _compile_arn(tokens: list[str | Wildcard]) -> Matcher | None:
    segments: list[list[str | Wildcard]] = [[]]
    for token in tokens:
        if isinstance(token, Wildcard):
            segments[-1].append(token)
            continue
        first, *rest = token.split(":", 6 - len(segments))
        segments[-1].append(first)
        segments.extend([piece] for piece in rest)
    if len(segments) != 6 or segments[0] != ["arn"]:
        return None
    last = compile_tokens(segments[5])
    if not any(isinstance(token, Wildcard) for part in segments[:5] for token in part):
        prefix = "".join(f"{''.join(map(str, part))}:" for part in segments[:5])
        size = len(prefix)
        return lambda arn: arn.startswith(prefix) and last(arn[size:])
    matchers = tuple(compile_tokens(part) for part in segments[:5])

    def matches(arn: str) -> bool:
        parts = arn.split(":", 5)
        if len(parts) != 6 or not last(parts[5]):
            return False
        return all(map(_apply, matchers, parts))

    return matches


def _apply(matcher: Matcher, text: str) -> bool:
    return matcher(text)
