"""PATTERN of a pipe: a regular expression that cannot be made to run for ever.

The author writes the pattern, the supplier chooses the names it is tried on. Python's ``re``
backtracks: ``.*a.*b.*c`` on a name of a thousand characters can take hours. So the pattern becomes
an automaton that is walked once along the name, all its states at a time: the work is at most
(characters of the name) x (states), whatever either says. One module both refuses a pattern when
the stack loads and matches names later, so there is one dialect.

Read is what Snowflake documents for its regular expressions (POSIX classes, ``\\d \\s \\w``, no
look-around, no back-references); the whole name must match (COPY INTO, PATTERN).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Pattern", "PatternError", "compile_pattern"]

PATTERN_CHARS_MAX: Final = 1_024
STATES_MAX: Final = 4_096  # counted repeats are written out
GROUP_DEPTH_MAX: Final = 32

Test = Callable[[str], bool]


class PatternError(ValueError):
    """The pattern is not read here; the message says why and where."""


@dataclass(slots=True)
class _State:
    """Either a test of one character and what follows it, or free moves to other states."""

    test: Test | None = None
    following: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern."""

    text: str
    _states: tuple[_State, ...]
    _first: int
    _last: int

    def matches(self, name: str) -> bool:
        """True if the whole of ``name`` matches."""
        current = self._reach((self._first,))
        for character in name:
            moved: list[int] = []
            for index in current:
                state = self._states[index]
                if state.test is not None and state.test(character):
                    moved += state.following
            if not moved:
                return False
            current = self._reach(moved)
        return self._last in current

    def _reach(self, start: Iterable[int]) -> set[int]:
        """The states reached without taking a character."""
        found = set(start)
        waiting = list(found)
        while waiting:
            state = self._states[waiting.pop()]
            if state.test is None:
                new = [each for each in state.following if each not in found]
                found.update(new)
                waiting += new
        return found


def compile_pattern(text: str) -> Pattern:
    """Compile a PATTERN.

    Raises:
        PatternError: not a regular expression that Snowflake reads, or too large.
    """
    if len(text) > PATTERN_CHARS_MAX:
        raise PatternError(f"the pattern has more than {PATTERN_CHARS_MAX} characters")
    compiler = _Compiler(text)
    first, last = compiler.whole()
    return Pattern(text, tuple(compiler.states), first, last)


_Fragment = tuple[int, int]  # first and last state
_POSIX: Final[dict[str, str]] = {
    "alpha": "A-Za-z",
    "digit": "0-9",
    "alnum": "A-Za-z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r"\t\n\v\f\r ",
    "blank": r"\t ",
    "punct": r"!-/:-@\[-`{-~",
    "xdigit": "0-9A-Fa-f",
    "word": r"A-Za-z0-9_",
}
_CLASSES: Final = {"d": "[0-9]", "w": "[A-Za-z0-9_]", "s": r"[\t\n\v\f\r ]"}
_CONTROLS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v"}
_COUNT: Final = re.compile(r"\{(\d{1,4})(,(\d{0,4}))?\}")


class _Compiler:
    """Recursive descent over the pattern, Thompson's construction as it goes."""

    def __init__(self, text: str) -> None:
        self.states: list[_State] = []
        self._text = text
        self._at = 0
        self._depth = 0
        self._ignore_case = False

    def whole(self) -> _Fragment:
        if self._text.startswith("(?i)"):
            self._ignore_case = True
            self._at = 4
        fragment = self._alternatives()
        if self._at < len(self._text):
            raise self._error("a closing parenthesis without an opening one")
        return fragment

    def _error(self, what: str) -> PatternError:
        return PatternError(f"{what}, at character {self._at + 1} of the pattern")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _new(self, test: Test | None = None) -> int:
        if len(self.states) >= STATES_MAX:
            raise PatternError("the pattern is too large once its repeats are written out")
        self.states.append(_State(test))
        return len(self.states) - 1

    def _link(self, source: int, target: int) -> None:
        self.states[source].following.append(target)

    def _alternatives(self) -> _Fragment:
        branches = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            branches.append(self._sequence())
        if len(branches) == 1:
            return branches[0]
        first, last = self._new(), self._new()
        for start, end in branches:
            self._link(first, start)
            self._link(end, last)
        return first, last

    def _sequence(self) -> _Fragment:
        first = last = self._new()
        while (character := self._peek()) and character not in "|)":
            if character in "^$":
                self._anchor(character)
                continue
            start, end = self._repeated()
            self._link(last, start)
            last = end
        return first, last

    def _anchor(self, character: str) -> None:
        """The whole name must match anyway, so an anchor at its end of the pattern says nothing."""
        outer = self._depth == 0
        edge = self._at in (0, 4 if self._ignore_case else 0) or self._text[self._at - 1] == "|"
        ending = self._text[self._at + 1 : self._at + 2] in ("", "|")
        if not outer or not (edge if character == "^" else ending):
            raise self._error(f"`{character}` inside a pattern is not read here")
        self._at += 1

    def _repeated(self) -> _Fragment:
        begin = self._at
        fragment = self._atom()
        end = self._at
        low, high = self._quantifier()
        if (low, high) == (1, 1):
            return fragment
        return self._copies(begin, end, fragment, low, high)

    def _quantifier(self) -> tuple[int, int | None]:
        character = self._peek()
        if character in ("*", "+", "?") and character:
            self._at += 1
            bounds = {"*": (0, None), "+": (1, None), "?": (0, 1)}[character]
        elif character == "{" and (count := _COUNT.match(self._text, self._at)):
            self._at = count.end()
            low = int(count[1])
            high = low if count[2] is None else int(count[3]) if count[3] else None
            if high is not None and high < low:
                raise self._error("a repeat whose bounds are the wrong way round")
            bounds = (low, high)
        else:
            return 1, 1
        if self._peek() == "?":  # lazy: of no consequence where the whole must match
            self._at += 1
        if self._peek() in ("*", "+", "?", "{") and self._peek():
            raise self._error("a repeat of a repeat")
        return bounds

    def _copies(
        self, begin: int, end: int, fragment: _Fragment, low: int, high: int | None
    ) -> _Fragment:
        """Written out: ``x{2,}`` is ``xxx*``. Each copy is compiled from the text again."""
        after, depth = self._at, self._depth
        first = last = self._new()
        spare: list[int] = []  # from here the rest may be left out
        total = max(low, 1) if high is None else high
        unused: _Fragment | None = fragment
        for number in range(total):
            if unused is None:
                self._at = begin
                copy = self._atom()
                assert self._at == end
            else:
                copy, unused = unused, None
            if number >= low:
                spare.append(last)
            self._link(last, copy[0])
            last = self._new()
            self._link(copy[1], last)
            if high is None and number == total - 1:
                self._link(last, copy[0])
        self._at, self._depth = after, depth
        for place in spare:
            self._link(place, last)
        return first, last

    def _atom(self) -> _Fragment:
        character = self._peek()
        if character == "(":
            return self._group()
        if character == "[":
            return self._one(self._bracket())
        if character in "*+?{" and character:
            raise self._error(f"`{character}` with nothing to repeat")
        self._at += 1
        if character == "\\":
            return self._one(self._escape())
        if character == ".":
            return self._one(lambda each: each != "\n")
        return self._one(self._literal(character))

    def _one(self, test: Test) -> _Fragment:
        first, last = self._new(test), self._new()
        self._link(first, last)
        return first, last

    def _literal(self, character: str) -> Test:
        if self._ignore_case:
            folded = character.lower()
            return lambda each: each.lower() == folded
        return lambda each: each == character

    def _group(self) -> _Fragment:
        self._at += 1
        if self._peek() == "?":
            if not self._text.startswith("?:", self._at):
                raise self._error("`(?` other than `(?:` is not read here")
            self._at += 2
        self._depth += 1
        if self._depth > GROUP_DEPTH_MAX:
            raise PatternError(f"the pattern nests more than {GROUP_DEPTH_MAX} parentheses")
        fragment = self._alternatives()
        if self._peek() != ")":
            raise self._error("a parenthesis without its end")
        self._at += 1
        self._depth -= 1
        return fragment

    def _escape(self) -> Test:
        character = self._peek()
        self._at += 1
        if not character:
            raise self._error("a backslash at the end")
        if character.lower() in _CLASSES:
            expression = _CLASSES[character.lower()]
            known = re.compile(expression)
            negated = character.isupper()
            return lambda each: (known.fullmatch(each) is None) is negated
        if character in _CONTROLS:
            return self._literal(_CONTROLS[character])
        if character.isalnum():
            raise self._error(f"`\\{character}` is not read here")
        return self._literal(character)

    def _bracket(self) -> Test:
        """A bracket expression; each alone is one character, so ``re`` may judge it in O(1)."""
        begin = self._at
        end = self._bracket_end()
        self._at = end + 1
        body = self._text[begin + 1 : end]
        negated = body.startswith("^")
        body = body[negated:]
        for name, members in _POSIX.items():
            body = body.replace(f"[:{name}:]", members)
        if "[:" in body or re.search(r"\\[^dwsDWStnrfv\W_]", body):
            raise self._error(f"`{self._text[begin : self._at]}` is not read here")
        body = re.sub(r"(?<!\\)\[", r"\\[", body)
        body = re.sub(r"^\]", r"\\]", body)
        flags = re.IGNORECASE if self._ignore_case else re.NOFLAG
        try:
            known = re.compile(f"[{'^' if negated else ''}{_plain(body)}]", flags | re.ASCII)
        except re.error as error:
            raise self._error(f"`{self._text[begin : self._at]}`: {error.msg}") from error
        return lambda each: known.fullmatch(each) is not None

    def _bracket_end(self) -> int:
        at = self._at + 1
        at += self._text.startswith("^", at)
        at += self._text.startswith("]", at)  # a first `]` is a member
        while at < len(self._text) and self._text[at] != "]":
            if self._text.startswith("[:", at):
                at = self._text.find(":]", at) + 1
                if at == 0:
                    break
            at += 2 if self._text[at] == "\\" else 1
        if at >= len(self._text) or self._text[at] != "]":
            raise self._error("a bracket without its end")
        return at


def _plain(body: str) -> str:
    """Python warns of ``--``, ``&&``, ``~~``, ``||`` in a set as future syntax."""
    return re.sub(r"([&~|])(?=\1)", r"\\\1", body)
