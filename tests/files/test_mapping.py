"""Paths to keys: the vectors, and the law that no path leaves its mapping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feedgate.errors import DefinitionError, NotFound, UsageError
from feedgate.files.mapping import HomeMapping, Mapped, Virtual, child_name
from feedgate.stack.resources import HomeDirectoryMapping, User

VECTORS = json.loads(
    (Path(__file__).parent.parent / "vectors" / "mapping.json").read_text(encoding="utf-8")
)


def home_user(home: dict[str, Any]) -> User:
    """A user with the HomeDirectory properties of a vector."""
    mappings = [(*mapping, "DIRECTORY")[:3] for mapping in home.get("Mappings", [])]
    name = home.get("UserName", "jane")
    return User(
        logical_id="Jane",
        user_name=name,
        arn=f"arn:aws:transfer:us-east-1:000000000000:user/s-01234567890abcdef/{name}",
        role_arn="arn:aws:iam::000000000000:role/transfer",
        home_directory_type=home.get("Type", "LOGICAL"),
        home_directory=home.get("HomeDirectory", "/"),
        home_directory_mappings=tuple(HomeDirectoryMapping(*mapping) for mapping in mappings),
    )


def case_path(case: dict[str, Any]) -> bytes:
    """The bytes of a vector's path."""
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    return (case["path"] * case.get("times", 1)).encode()


def case_id(case: dict[str, Any]) -> str:
    """A vector's name in pytest's output."""
    return f"{case['home']}:{case_path(case)[:24]!r}"


HOMES = {name: HomeMapping.of(home_user(home)) for name, home in VECTORS["homes"].items()}


@pytest.mark.parametrize("case", VECTORS["cases"], ids=case_id)
def test_path_lies_where_the_vector_says(case: dict[str, Any]) -> None:
    """Each path of the vectors resolves, is not found, or is refused, as written there."""
    mapping, path, expected = HOMES[case["home"]], case_path(case), case["is"]
    if expected == "refused":
        with pytest.raises(UsageError):
            mapping.resolve(path)
        return
    if expected == "not-found":
        with pytest.raises(NotFound):
            mapping.resolve(path)
        return
    found = mapping.resolve(path)
    if isinstance(expected, dict):
        assert isinstance(found, Virtual)
        assert list(found.children) == expected["virtual"]
    else:
        assert isinstance(found, Mapped)
        assert [found.bucket, found.key] == expected
        assert found.is_root == case.get("root", False)
    assert mapping.normalise(path) == case.get("realpath", found.path)


@pytest.mark.parametrize("home", VECTORS["refused_homes"], ids=lambda home: home["why"])
def test_bad_home_is_refused(home: dict[str, Any]) -> None:
    """A home that AWS Transfer would not take ends in a finding, never in a guess."""
    with pytest.raises(DefinitionError) as refused:
        HomeMapping.of(home_user(home))
    assert all(item.resource == "Jane" for item in refused.value.findings)


def test_every_fault_of_a_home_is_told_at_once() -> None:
    """Three bad mappings make three findings."""
    home = {"Mappings": [["a", "/b/x"], ["/c", "/b/"], ["/d", "/b/.."]]}
    with pytest.raises(DefinitionError) as refused:
        HomeMapping.of(home_user(home))
    assert len(refused.value.findings) == 3


PIECES = st.sampled_from(
    b"/|//|.|..|/..|../|a|in|share|share-secret|jane|%2e%2e|%2f|\\|..\\|~|..;|*|anotherpath|subpath|"
    b"financials|logs|readme.txt|landing|\xff|\xc0\xae|\xe2\x80\xa5|\0| ".split(b"|")
)
HOSTILE_PATHS = st.lists(PIECES, max_size=24).map(b"".join) | st.binary(max_size=64)


@given(path=HOSTILE_PATHS, home=st.sampled_from(sorted(set(HOMES) - {"path", "path-root"})))
@example(path=b"//../..//in/../../share/../share-secret", home="several")
def test_no_path_escapes_its_mapping(path: bytes, home: str) -> None:
    """Whatever the bytes, a key lies under one of the user's targets, level by level."""
    try:
        found = HOMES[home].resolve(path)
    except (NotFound, UsageError):
        return
    if isinstance(found, Virtual):
        return
    levels = (found.bucket, *found.key.split("/"))
    assert ".." not in levels
    assert "." not in levels
    assert "" not in levels or found.key == ""
    name = VECTORS["homes"][home].get("UserName", "jane")
    targets = [
        mapping[1].replace("${transfer:UserName}", name).split("/")[1:]
        for mapping in VECTORS["homes"][home]["Mappings"]
    ]
    if home == "spelled":
        targets = [["landing", "x-a@b.c-d-y", "a@b.c-d"]]
    full = [found.bucket, *(found.key.split("/") if found.key else [])]
    assert any(full[: len(target)] == target for target in targets)


@given(path=HOSTILE_PATHS, home=st.sampled_from(sorted(HOMES)))
def test_normalising_twice_changes_nothing(path: bytes, home: str) -> None:
    """The absolute form of a path is its own absolute form and lies where the path lies."""
    mapping = HOMES[home]
    try:
        absolute = mapping.normalise(path)
    except UsageError:
        return
    assert mapping.normalise(absolute.encode()) == absolute
    try:
        found = mapping.resolve(path)
    except NotFound:
        with pytest.raises(NotFound):
            mapping.resolve(absolute.encode())
    except UsageError:
        return
    else:
        assert mapping.resolve(absolute.encode()) == found
        assert found.path == absolute


def test_virtual_children_stand_in_byte_order() -> None:
    """Children of a virtual level are ordered by their UTF-8 bytes, as S3 orders keys."""
    entries = ["/é", "/z", "/Z", "/\U0001f600", "/\ufb01", "/a-b", "/a"]
    mapping = HomeMapping.of(home_user({"Mappings": [[entry, "/b/x"] for entry in entries]}))
    root = mapping.resolve(b"/")
    assert isinstance(root, Virtual)
    assert list(root.children) == sorted(
        (entry[1:] for entry in entries), key=lambda name: name.encode()
    )


@pytest.mark.parametrize(
    ("prefix", "key", "name"),
    [
        ("", "a", b"a"),
        ("d/", "d/a.csv", b"a.csv"),
        ("d/", "d/sub/", b"sub"),
        ("d/", "d/", None),
        ("d/", "d//", None),
        ("d/", "d/./", None),
        ("d/", "d/..", None),
        ("", "/", None),
        ("", "a\0b", None),
        ("", "\u00e9", "\u00e9".encode()),
    ],
)
def test_names_that_no_path_reaches_are_not_listed(
    prefix: str, key: str, name: bytes | None
) -> None:
    """Markers and the odd names that other tools can make have no name in a listing."""
    assert child_name(prefix, key) == name
