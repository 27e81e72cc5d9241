"""Logging in with a password, alone and after an SSH key."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import paramiko
import pytest
from test_authentication import client, key_of

from feedgate.gateway.lifecycle import Unsupervised
from feedgate.identity.passwords import hash_password, password_matches
from feedgate.identity.users import Password
from feedgate.stack.access_tags import ALLOWED_TAG, DENIED_TAG, EXPIRES_TAG

SECRET = "correct horse battery"


def give_password(door: Any, *, require_key: bool = False, user: str | None = None) -> None:
    """Let a user in by ``SECRET``."""
    name = user or door.user
    kept = Password(hash_password(SECRET), require_key)
    door.login.users[name] = replace(door.login.users[name], password=kept)


def set_tags(door: Any, user: str, **tags: str) -> None:
    """Give a user tags."""
    served = door.login.users[user]
    door.login.users[user] = replace(served, user=replace(served.user, tags=tags))


def test_a_password_opens_a_session(door: Any) -> None:
    """The right one does, and a key still does; the log says which and never what."""
    give_password(door)
    transport = client(door)
    assert transport.auth_password(door.user, SECRET) == []
    transport.open_session(timeout=10).invoke_subsystem("sftp")
    transport.close()
    event = door.events("CONNECTED")[0]
    assert event["method"] == "password"
    assert "ssh-public-key-fingerprint" not in event
    door.raw().sftp().init()
    assert "method" not in door.events("CONNECTED")[1]
    assert SECRET not in str(door.log.lines)


def test_the_method_is_the_same_for_all_names(door: Any) -> None:
    """Once somebody has a password, the method is offered to every name; before, to none."""

    def methods(user: str) -> list[str]:
        transport = client(door)
        with pytest.raises(paramiko.BadAuthenticationType) as raised:
            transport.auth_none(user)
        transport.close()
        return list(raised.value.allowed_types)

    door.login.add("key_only")
    names = (door.user, "key_only", "nobody_here")
    assert [methods(name) for name in names] == [["publickey"]] * 3
    give_password(door)
    assert [methods(name) for name in names] == [["publickey", "password"]] * 3


def test_key_and_password(door: Any) -> None:
    """The key alone is partial success, the password alone nothing; key, then password log in."""
    give_password(door, require_key=True)
    alone = client(door)
    with pytest.raises(paramiko.AuthenticationException):
        alone.auth_password(door.user, SECRET)
    alone.close()
    transport = client(door)
    assert transport.auth_publickey(door.user, key_of(door.key)) == ["password"]
    assert not transport.is_authenticated()
    with pytest.raises(paramiko.AuthenticationException):
        transport.auth_password(door.user, "wrong but long enough")
    assert door.events("CONNECTED") == []
    assert transport.auth_password(door.user, SECRET) == []
    event = door.events("CONNECTED")[0]
    key = door.login.users[door.user].ssh_public_keys[0]
    assert event["ssh-public-key-fingerprint"] == key.fingerprint
    assert event["method"] == "password"
    transport.close()


def test_a_key_of_one_user_is_no_factor_of_another(door: Any) -> None:
    """Who proved a key as one user and gives another's password is neither."""
    door.login.add("second_user", door.other_key.with_suffix(".pub").read_text())
    give_password(door, require_key=True)
    give_password(door, require_key=True, user="second_user")
    transport = client(door)
    assert transport.auth_publickey("second_user", key_of(door.other_key)) == ["password"]
    with pytest.raises(paramiko.AuthenticationException):
        transport.auth_password(door.user, SECRET)
    assert door.events("CONNECTED") == []
    transport.close()


def refusal(door: Any, user: str, password: str) -> tuple[str, tuple[str, ...], float]:
    """What a refused password shows: the error, the methods that remain, the time."""
    transport = client(door)
    started = time.perf_counter()
    with pytest.raises(paramiko.AuthenticationException) as raised:
        transport.auth_password(user, password)
    took = time.perf_counter() - started
    with pytest.raises(paramiko.BadAuthenticationType) as remaining:
        transport.auth_none(user)
    transport.close()
    return str(raised.value), tuple(remaining.value.allowed_types), took


def test_refused_passwords_look_alike(door: Any) -> None:
    """Whatever is wrong with user or password, text and methods are the same, and so is time."""
    public = door.key.with_suffix(".pub").read_text()
    states = {
        "disabled_one": door.login.disable,
        "expired_one": lambda name: set_tags(door, name, **{EXPIRES_TAG: "2020-01-01"}),
        "from_elsewhere": lambda name: set_tags(door, name, **{ALLOWED_TAG: "192.0.2.0/24"}),
        "denied_here": lambda name: set_tags(door, name, **{DENIED_TAG: "127.0.0.0/8"}),
        "without_password": lambda _name: None,
        "needs_a_key": lambda name: give_password(door, require_key=True, user=name),
    }
    for name, change in states.items():
        door.login.add(name, public)
        if name != "without_password":
            give_password(door, user=name)
        change(name)
    give_password(door)
    tries = [(name, SECRET) for name in states]
    tries += [("nobody_here", SECRET), ("x", SECRET), (door.user, SECRET + "!")]
    seen: dict[str, list[float]] = {}
    shown = set()
    for _ in range(5):
        for name, password in tries:
            text, methods, took = refusal(door, name, password)
            shown.add((text, methods))
            seen.setdefault(name, []).append(took)
    assert shown == {("Authentication failed.", ("publickey", "password"))}
    times = {name: min(took) for name, took in seen.items()}
    assert max(times.values()) < 2.5 * min(times.values()), times
    assert door.events("CONNECTED") == []


def test_verification_leaves_the_loop_free(door: Any) -> None:
    """While passwords are verified, other sessions are answered."""
    give_password(door)
    session = door.raw().sftp()
    session.init()
    worst = 0.0
    waiting = [client(door) for _ in range(6)]
    for transport in waiting:
        transport.auth_password(door.user, "wrong but long enough", event=_Event())
    for _ in range(20):
        started = time.perf_counter()
        session.request(17, b"\0\0\0\1/")
        worst = max(worst, time.perf_counter() - started)
    for transport in waiting:
        transport.close()
    assert worst < 0.25


class _Event:
    """paramiko's word for "do not wait"."""

    def set(self) -> None:
        """Nobody waits."""


def test_answers_become_slower(make_door: Callable[..., Any]) -> None:
    """The supervisor's delay holds up the answer, the right one's too, and refuses nobody."""

    class Slow(Unsupervised):
        def __init__(self) -> None:
            self.wrong: list[tuple[str, str | None]] = []

        def failed(self, address: str, password_of: str | None) -> None:
            self.wrong.append((address, password_of))

        async def password_delay_s(self, number: int, user_name: str, address: str) -> float:
            del number, address
            return 0.3 if user_name == "jeffrey_aven" and self.wrong else 0.0

    supervision = Slow()
    door = make_door(supervision=supervision)
    give_password(door)
    refusal(door, door.user, "wrong but long enough")
    assert supervision.wrong == [("127.0.0.1", door.user)]
    transport = client(door)
    started = time.perf_counter()
    transport.auth_password(door.user, SECRET)
    assert time.perf_counter() - started >= 0.3
    assert transport.is_authenticated()
    transport.close()


def test_hashes() -> None:
    """A hash is Argon2id, names its cost, matches one password and never nobody's."""
    hashed = hash_password(SECRET)
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert password_matches(hashed, SECRET)
    assert not password_matches(hashed, SECRET + " ")
    assert not password_matches(None, SECRET)
    assert not password_matches("no hash", SECRET)
    assert hash_password(SECRET) != hashed
    assert hashed not in repr(Password(hashed))
