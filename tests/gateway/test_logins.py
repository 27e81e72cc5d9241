"""The tally of logins and refusals: one row for each kind, bounded whatever strangers do."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from feedgate import limits
from feedgate.database import Database
from feedgate.gateway.admission import Admission, AdmissionLimits
from feedgate.gateway.folder import DataFolder
from feedgate.gateway.logins import LoginTally
from feedgate.gateway.services import open_database
from feedgate.identity.logins import LoginStore
from feedgate.identity.refusals import Refusal, RefusalCause
from feedgate.identity.store import UserStore
from feedgate.stack.resources import User
from feedgate.telemetry import EventLog

NOW = 1_800_000_000.0


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """One for tally and store."""
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A data folder's database."""
    opened = open_database(DataFolder.create(tmp_path / "data"))
    yield opened
    opened.close()


@pytest.fixture
def said() -> io.StringIO:
    """What was logged."""
    return io.StringIO()


@pytest.fixture
def tally(database: Database, clock: Clock, said: io.StringIO) -> LoginTally:
    """One that writes when a test says so."""
    return LoginTally(database, EventLog(said, now=clock), now=clock)


@pytest.fixture
def store(database: Database, clock: Clock) -> LoginStore:
    """The table."""
    return LoginStore(database, now=clock)


def refusal(
    cause: RefusalCause = RefusalCause.KEY_NOT_ON_FILE,
    *,
    address: str = "192.0.2.1",
    user: str = "acme",
    at: float = NOW,
    fingerprint: str = "SHA256:a",
) -> Refusal:
    """A refused connection."""
    return Refusal(cause, at, address, user, "publickey", (fingerprint,), "SSH-2.0-x", "why", 2)


def test_the_same_again_is_one_row(tally: LoginTally, store: LoginStore) -> None:
    """Count, first and last time of a kind go on over writes; what varies is the last one's."""
    tally.refused(refusal(at=NOW - 60))
    tally.refused(refusal(at=NOW - 50))
    tally.flush()
    tally.refused(refusal(at=NOW - 10, fingerprint="SHA256:b"))
    tally.flush()
    tally.flush()
    [record] = store.list()
    assert (record.count, record.first_at, record.last_at) == (3, NOW - 60, NOW - 10)
    assert record.cause is RefusalCause.KEY_NOT_ON_FILE
    assert (record.user_name, record.source_ip) == ("acme", "192.0.2.1")
    assert (record.method, record.fingerprints) == ("publickey", ("SHA256:b",))
    assert (record.client_version, record.detail) == ("SSH-2.0-x", "why")


def test_what_is_listed(tally: LoginTally, store: LoginStore, clock: Clock) -> None:
    """By user, by address, refused ones alone, since a time, so many: the newest first."""
    tally.accepted("acme", "192.0.2.1", "SHA256:a", "SSH-2.0-x")
    clock.now += 1
    tally.accepted("globex", "2001:db8::1", "", "SSH-2.0-x")
    tally.refused(refusal(at=NOW + 2))
    tally.refused(refusal(address="2001:db8::ffff", user="globex", at=NOW + 3))
    tally.flush()
    told = [(item.user_name, item.cause is None, item.method) for item in store.list()]
    assert told == [
        ("globex", False, "publickey"),
        ("acme", False, "publickey"),
        ("globex", True, "password"),
        ("acme", True, "publickey"),
    ]
    assert [item.last_at for item in store.list(user_name="acme")] == [NOW + 2, NOW]
    assert [item.last_at for item in store.list(failed=True)] == [NOW + 3, NOW + 2]
    assert [item.last_at for item in store.list(since=NOW + 3)] == [NOW + 3]
    assert [item.last_at for item in store.list(count_max=1)] == [NOW + 3]
    both = store.list(source="2001:db8::/64")
    assert [item.source_ip for item in both] == ["2001:db8::ffff", "2001:db8::1"]


def test_strangers_displace_nobody(database: Database, clock: Clock, tally: LoginTally) -> None:
    """Names that nobody has, from ever new addresses, leave rows of users and of logins alone."""
    store = LoginStore(database, now=clock, kept_max=5)
    UserStore(database).add_live_user(User("U", "acme", "arn:u", "arn:r"))
    tally.accepted("acme", "192.0.2.1", "SHA256:a", "")
    tally.refused(refusal())
    tally.flush()
    for number in range(20):
        stranger = refusal(
            RefusalCause.UNKNOWN_USER, address=f"198.51.100.{number}", user="x", at=NOW + number
        )
        tally.refused(stranger)
    tally.flush()
    store.add(())
    kept = store.list()
    assert len(kept) == 7
    assert [item.user_name for item in kept] == ["x"] * 5 + ["acme"] * 2
    assert kept[0].source == "198.51.100.19"


def test_an_address_has_room_for_few_invented_names(tally: LoginTally, store: LoginStore) -> None:
    """The names that one address invents are bounded; within a second, they are not even told."""
    for number in range(limits.LOGINS_PENDING_MAX * 2):
        tally.refused(refusal(RefusalCause.UNKNOWN_USER, user=f"n{number}", at=NOW + number))
    assert len(tally._pending) == limits.LOGINS_PENDING_MAX + 1
    tally.flush()
    kept = store.list()
    assert kept[0].user_name == ""
    assert kept[0].count == limits.LOGINS_PENDING_MAX
    assert len(kept) == limits.LOGINS_PER_ADDRESS_MAX + 1
    assert kept[1].user_name == f"n{limits.LOGINS_PENDING_MAX - 1}"


def test_old_rows_go(tally: LoginTally, store: LoginStore, clock: Clock) -> None:
    """After ninety days nothing is told."""
    tally.refused(refusal())
    tally.accepted("acme", "192.0.2.1", "", "")
    tally.flush()
    clock.now += limits.LOGINS_KEPT_S + 1
    tally.accepted("globex", "192.0.2.1", "", "")
    tally.flush()
    assert [item.user_name for item in store.list()] == ["globex"]


def test_hostile_text_is_kept_short(tally: LoginTally, store: LoginStore) -> None:
    """Names of any length and kind are kept, cut and in UTF-8."""
    tally.refused(refusal(user="\ud800\0" + "x" * 100_000))
    tally.flush()
    [record] = store.list()
    assert record.user_name == "?\0" + "x" * (limits.LOGIN_TEXT_CHARS_MAX - 2)


def test_pardons_are_told_once(tally: LoginTally, store: LoginStore) -> None:
    """An operator's word reaches the supervisor once, and the refusals that it mends are gone."""
    tally.refused(refusal(RefusalCause.RATE_LIMITED, user=""))
    tally.refused(refusal())
    tally.flush()
    store.pardon("192.0.2.1")
    store.pardon("192.0.2.1")
    assert [item.cause for item in store.list()] == [RefusalCause.KEY_NOT_ON_FILE]
    tally.stop()
    assert tally.take_pardons() == ["192.0.2.1"]
    assert tally.take_pardons() == []


def test_a_table_that_fails_is_told_once(
    tally: LoginTally, database: Database, said: io.StringIO
) -> None:
    """Where the table cannot be written, the tally goes on and the log says so, once."""
    database.write_now(lambda tx: tx.execute("DROP TABLE logins"))
    for _ in range(3):
        tally.refused(refusal())
        tally.stop()
    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    assert [line["message"] for line in lines] == ["logins were not written down"]


def test_a_penalty_is_told_and_forgiven() -> None:
    """How long an address is refused, and that it is not after a pardon, nor at once again."""
    admission = Admission(AdmissionLimits(auth_failures=2))
    for _ in range(4):
        admission.failed("192.0.2.1", 100.0)
    assert admission.penalty_s("192.0.2.1", 100.0) == limits.PENALTY_S * 4
    assert admission.penalty_s("192.0.2.1", 1_000.0) == 0
    assert admission.admit(1, "192.0.2.1", 100.0) == (RefusalCause.RATE_LIMITED, [])
    admission.forgive("192.0.2.1")
    admission.failed("192.0.2.1", 100.0)
    assert admission.penalty_s("192.0.2.1", 100.0) == 0
    assert admission.admit(1, "192.0.2.1", 100.0) == (None, [])
