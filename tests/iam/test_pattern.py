"""Wildcards and variables: what matches, and that it takes no longer than it may."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgate.iam.pattern import ArnPattern, PatternError, TextPattern, Variable, tokenise


def no_values(_name: str) -> None:
    """A request without any key."""
    return


def as_regex(pattern: str) -> str:
    """The same pattern for the standard library's matcher."""
    return "".join({"*": ".*", "?": "."}.get(char) or re.escape(char) for char in pattern)


@settings(max_examples=500, deadline=None)
@given(st.text("ab?*\n", max_size=10), st.text("ab\n?*", max_size=14))
def test_wildcards_match_as_a_regular_expression_would(pattern: str, text: str) -> None:
    """`*` is any run and `?` one character, over newlines too."""
    expected = re.fullmatch(as_regex(pattern), text, re.DOTALL) is not None
    matcher = TextPattern(pattern, wildcards=True, variables=False)
    assert matcher.matches(text, no_values) is expected


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=12))
def test_a_text_without_wildcards_matches_itself_only(text: str) -> None:
    """Without wildcards and variables every character is literal."""
    matcher = TextPattern(text, wildcards=False, variables=False)
    assert matcher.matches(text, no_values)
    assert not matcher.matches(text + "x", no_values)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=12), st.text("ab*", max_size=4))
def test_a_substituted_value_is_data(value: str, other: str) -> None:
    """Whatever a variable holds, it matches that text and nothing else."""
    matcher = TextPattern("x/${aws:userid}/", wildcards=True, variables=True)
    lookup = {"aws:userid": value}.get
    assert matcher.matches(f"x/{value}/", lookup)
    assert matcher.matches(f"x/{other}/", lookup) is (other == value)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("*a" * 400 + "b", "a" * 4_000),
        ("*a?" * 300 + "b", "a" * 4_000),
        ("*?a?a?a?a?a?a?a?a?a?b*", "a" * 20_000),
        ("a?" * 500 + "*" + "?a" * 500, "a" * 4_000),
        ("*" * 2_000 + "b", "a" * 20_000),
    ],
    ids=["stars", "stars and marks", "one long chunk", "no star inside", "only stars"],
)
def test_hostile_pattern_takes_linear_time(pattern: str, text: str) -> None:
    """Patterns that make a backtracking matcher run for ages take milliseconds."""
    matcher = TextPattern(pattern, wildcards=True, variables=False)
    began = time.perf_counter()
    matcher.matches(text, no_values)
    assert time.perf_counter() - began < 0.5


def test_tokens_of_each_kind() -> None:
    """Literals, escapes, variables and defaults are told apart."""
    assert tokenise("a${*}${?}${$}b", wildcards=True, variables=True) == ("a*?$b",)
    assert tokenise("${AWS:UserId}", wildcards=True, variables=True) == (Variable("aws:userid"),)
    assert tokenise("${aws:x, 'd e'}", wildcards=True, variables=True) == (
        Variable("aws:x", "d e"),
    )
    assert tokenise("${x}", wildcards=False, variables=False) == ("${x}",)


@pytest.mark.parametrize("text", ["${", "${}", "${a", "${a${b}}", "${a, b}", "${ a}", "${a 'x'}"])
def test_malformed_variable_is_refused(text: str) -> None:
    """What looks like a variable and is none is refused, not taken literally."""
    with pytest.raises(PatternError):
        tokenise(text, wildcards=True, variables=True)


def test_default_is_used_only_without_a_value() -> None:
    """`${key, 'text'}` is the key's value, or the text where it has none."""
    matcher = TextPattern("${aws:x, 'd'}", wildcards=True, variables=True)
    assert matcher.matches("d", no_values)
    assert not matcher.matches("d", {"aws:x": "v"}.get)
    assert matcher.matches("v", {"aws:x": "v"}.get)


ARNS = [
    ("arn:aws:s3:::b/*", "arn:aws:s3:::b/x:y/z", True),
    ("arn:aws:s3:::b/*", "arn:aws:s3:::b/", True),
    ("arn:aws:s3:::b/*", "arn:aws:s3:::b", False),
    ("arn:aws:s3:::b/*", "arn:aws:s3:us-east-1::b/x", False),
    ("arn:aws:s3:*:*:b/*", "arn:aws:s3:us-east-1:1:b/x", True),
    ("arn:aws:s3:*:*:b/*", "arn:aws:s3:a:b:c:b/x", False),
    ("arn:a*:s3:::b", "arn:aws:s3:::b", True),
    ("arn:a*:s3:::b", "arn:aws:x:s3:::b", False),
]


@pytest.mark.parametrize(("pattern", "arn", "expected"), ARNS)
def test_arn_patterns_match_by_segment(pattern: str, arn: str, expected: bool) -> None:
    """A wildcard stays in its segment; the last segment holds colons and slashes."""
    assert ArnPattern(pattern, variables=True).matches(arn, no_values) is expected


def test_a_whole_arn_may_come_from_a_variable() -> None:
    """A condition may compare with the ARN that a key holds."""
    pattern = ArnPattern("${aws:PrincipalArn}", variables=True)
    lookup = {"aws:principalarn": "arn:aws:iam::1:role/*"}.get
    assert pattern.matches("arn:aws:iam::1:role/*", lookup)
    assert not pattern.matches("arn:aws:iam::1:role/R", lookup)
    assert not pattern.matches("arn:aws:iam::1:role/R", no_values)
