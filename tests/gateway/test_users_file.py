"""Editing users.json."""

from __future__ import annotations

import json

import pytest

from feedgate.errors import Conflict, NotFound, UsageError
from feedgate.gateway.users_file import (
    add_public_key,
    add_user,
    has_user,
    remove_public_key,
    remove_user,
)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBase64 acme"
TEXT = json.dumps([{"UserName": "acme", "Tags": [{"Key": "team", "Value": "Ünïcode"}]}])


def test_add_key_keeps_everything_else() -> None:
    """Fields that the edit does not touch stay, readable."""
    edited = add_public_key(TEXT, "acme", KEY)
    assert json.loads(edited) == [
        {
            "UserName": "acme",
            "Tags": [{"Key": "team", "Value": "Ünïcode"}],
            "SshPublicKeys": [KEY],
        }
    ]
    assert "Ünïcode" in edited


def test_the_same_key_twice_is_refused() -> None:
    """A key is the same whatever its comment."""
    edited = add_public_key(TEXT, "acme", KEY)
    with pytest.raises(Conflict):
        add_public_key(edited, "acme", KEY.replace("acme", "other"))


def test_remove_key_restores_the_text() -> None:
    """Adding and removing leaves no key behind."""
    edited = remove_public_key(add_public_key(TEXT, "acme", KEY), "acme", lambda line: line == KEY)
    assert json.loads(edited)[0]["SshPublicKeys"] == []


def test_add_and_remove_user() -> None:
    """A user comes and goes whole; twice is refused, and so is one who is not there."""
    mappings = [{"Entry": "/", "Target": "/b/globex"}]
    edited = add_user(TEXT, "globex", [KEY], mappings)
    assert has_user(edited, "globex")
    with pytest.raises(Conflict):
        add_user(edited, "globex", [], [])
    assert json.loads(remove_user(edited, "globex")) == json.loads(TEXT)
    with pytest.raises(NotFound):
        remove_user(TEXT, "globex")


@pytest.mark.parametrize("text", ["{", '{"acme": {}}', "[1]"])
def test_a_damaged_file_is_refused(text: str) -> None:
    """What is no array of users is refused before anything is written."""
    with pytest.raises(UsageError):
        add_public_key(text, "acme", KEY)
