"""Places and penalties of the gateway as a whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedgate import limits
from feedgate.gateway.admission import Admission, AdmissionLimits, source_of
from feedgate.identity.refusals import RefusalCause
from feedgate.stack.access_tags import AddressRules, parse_networks

GOOD, BAD = "192.0.2.1", "198.51.100.7"


def filled(bounds: AdmissionLimits, address: str, count: int) -> Admission:
    """With so many silent connections of one address, numbers from 0."""
    admission = Admission(bounds)
    for number in range(count):
        assert admission.admit(number, address, 0.0)[0] is None
    return admission


def log_in(admission: Admission, number: int, address: str = GOOD, user: str = "acme") -> None:
    """Connect and log in."""
    assert admission.admit(number, address, 0.0) == (None, [])
    assert admission.authenticated(number, user, address, 0.0) is None


@pytest.mark.parametrize(
    ("bounds", "cause"),
    [
        (AdmissionLimits(connections=3), RefusalCause.TOO_MANY_CONNECTIONS),
        (AdmissionLimits(per_address=3), RefusalCause.TOO_MANY_FROM_ADDRESS),
    ],
    ids=["in all", "per address"],
)
def test_places_end_and_come_back(bounds: AdmissionLimits, cause: RefusalCause) -> None:
    """The fourth is refused, those before it stay, and one that closes makes room."""
    admission = Admission(bounds)
    for number in range(3):
        log_in(admission, number)
    assert admission.admit(3, GOOD, 0.0) == (cause, [])
    admission.closed(1)
    admission.closed(1)
    log_in(admission, 4)
    assert len(admission) == 3
    assert 1 not in admission


def test_one_address_does_not_take_anothers_places() -> None:
    """A full address leaves room for others."""
    admission = Admission(AdmissionLimits(per_address=1))
    log_in(admission, 0, BAD)
    log_in(admission, 1, GOOD)


def test_too_many_of_a_user() -> None:
    """The third login of a user is one too many, wherever it comes from; others log in."""
    admission = Admission(AdmissionLimits(per_user=2))
    log_in(admission, 0, "192.0.2.1")
    log_in(admission, 1, "192.0.2.2")
    admission.admit(2, "192.0.2.3", 0.0)
    cause = admission.authenticated(2, "acme", "192.0.2.3", 0.0)
    assert cause is RefusalCause.TOO_MANY_OF_USER
    admission.closed(2)
    log_in(admission, 3, user="other")
    admission.closed(0)
    log_in(admission, 4, "192.0.2.3")


def test_silent_connections_make_room() -> None:
    """A newcomer displaces the oldest unauthenticated one of the address that holds most."""
    admission = filled(AdmissionLimits(unauthenticated=5), BAD, 4)
    assert admission.admit(10, GOOD, 0.0) == (None, [])
    assert admission.admit(11, GOOD, 0.0) == (None, [0])
    assert admission.admit(12, GOOD, 0.0) == (None, [1])
    assert admission.authenticated(10, "acme", GOOD, 0.0) is None
    assert 0 not in admission


def test_displaced_within_its_own_address() -> None:
    """Who opens too many at once only displaces himself."""
    admission = filled(AdmissionLimits(unauthenticated_per_address=3), BAD, 3)
    admission.admit(10, GOOD, 0.0)
    assert admission.admit(11, BAD, 0.0) == (None, [0])
    assert admission.authenticated(0, "acme", BAD, 0.0) is RefusalCause.DISPLACED
    assert 10 in admission


def test_a_full_gateway_displaces_the_silent() -> None:
    """Silent connections do not hold the last places against one that may log in."""
    admission = filled(AdmissionLimits(connections=3), BAD, 3)
    assert admission.admit(3, GOOD, 0.0) == (None, [0])


def test_logged_in_connections_are_never_displaced() -> None:
    """Only those that have not logged in are."""
    admission = Admission(AdmissionLimits(connections=2))
    log_in(admission, 0)
    admission.admit(1, BAD, 0.0)
    assert admission.admit(2, BAD, 0.0) == (None, [1])
    assert 0 in admission


def test_failures_are_penalised_and_forgiven() -> None:
    """Too many failures refuse the address, for longer each time, up to a bound, then no more."""
    bounds = AdmissionLimits(auth_failures=3, penalty_s_max=60.0)
    admission = Admission(bounds)
    blocked = []
    now = 0.0
    for _ in range(12):
        admission.failed(BAD, now)
        start = now
        while admission.admit(0, BAD, now)[0] is RefusalCause.RATE_LIMITED:
            now += 0.5
        admission.closed(0)
        blocked.append(now - start)
    assert blocked[:3] == [0, 0, 0]
    assert 0 < blocked[4] <= blocked[-1] <= 60.5
    assert blocked[-1] > 30
    assert admission.admit(1, GOOD, now)[0] is None
    now += 20 * limits.PENALTY_HALF_LIFE_S
    admission.failed(BAD, now)
    assert admission.admit(2, BAD, now)[0] is None


def test_exempt_addresses_are_not_penalised() -> None:
    """An address of --penalty-exempt may fail as often as it likes."""
    admission = Admission(
        AdmissionLimits(auth_failures=1, exempt=parse_networks("198.51.100.0/24"))
    )
    for _ in range(100):
        admission.failed(BAD, 0.0)
    assert admission.admit(0, BAD, 0.0)[0] is None


def test_nobody_can_be_locked_out_by_others() -> None:
    """However often strangers fail as a user, he connects, and his password is only slower."""
    admission = Admission()
    for number in range(5_000):
        admission.failed(f"198.51.{number % 250}.{number % 200}", 0.0, password_of="acme")
    assert admission.admit(0, GOOD, 0.0)[0] is None
    delay = admission.password_delay_s("acme", GOOD, 0.0)
    assert 0 < delay <= limits.PASSWORD_DELAY_S_MAX < limits.LOGIN_TIMEOUT_S
    assert admission.password_delay_s("other", GOOD, 0.0) == 0
    assert admission.authenticated(0, "acme", GOOD, 0.0) is None
    assert admission.password_delay_s("acme", GOOD, 1.0) == 0
    assert admission.password_delay_s("acme", BAD, 1.0) > 0


def test_an_ipv6_customer_is_one_address() -> None:
    """Addresses of one /64 are counted together; IPv4 in IPv6 is IPv4."""
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff:2%eth0")
    assert source_of("2001:db8:0:1::1") != source_of("2001:db8::1")
    assert source_of("::ffff:192.0.2.1") == "192.0.2.1"


def test_the_servers_lists() -> None:
    """An address that the server refuses gets no place; a new list holds from then on."""
    admission = Admission()
    admission.rules = AddressRules(parse_networks("192.0.2.0/24"), parse_networks("192.0.2.9"))
    causes = [admission.admit(n, a, 0.0)[0] for n, a in enumerate((GOOD, BAD, "192.0.2.9"))]
    refused = RefusalCause.ADDRESS_REFUSED
    assert causes == [None, refused, refused]


steps = st.lists(
    st.tuples(
        st.sampled_from(["admit", "login", "close"]),
        st.integers(0, 12),
        st.sampled_from(["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
    ),
    max_size=60,
)


@given(steps)
def test_counts_never_drift(taken: list[tuple[str, int, str]]) -> None:
    """Whatever happens, bounds hold, and when all is closed nothing is counted."""
    bounds = AdmissionLimits(
        connections=6, per_address=4, per_user=3, unauthenticated=3, unauthenticated_per_address=2
    )
    admission = Admission(bounds)
    open_ones: dict[int, tuple[str, bool]] = {}
    for step, number, address in taken:
        if step == "admit" and number not in open_ones:
            cause, displaced = admission.admit(number, address, 0.0)
            for one in displaced:
                assert not open_ones.pop(one)[1], "only those that have not logged in"
            if cause is None:
                open_ones[number] = (address, False)
        elif step == "login" and number in open_ones and not open_ones[number][1]:
            cause = admission.authenticated(number, "acme", open_ones[number][0], 0.0)
            open_ones[number] = (open_ones[number][0], True)
            if cause is not None:
                admission.closed(number)
                del open_ones[number]
        elif step == "close":
            admission.closed(number)
            open_ones.pop(number, None)
        waiting = [where for where, logged_in in open_ones.values() if not logged_in]
        assert len(admission) == len(open_ones) <= bounds.connections
        assert len(waiting) <= bounds.unauthenticated
        assert sum(logged_in for _where, logged_in in open_ones.values()) <= bounds.per_user
        for source in {where for where, _ in open_ones.values()}:
            assert waiting.count(source) <= bounds.unauthenticated_per_address
            assert sum(where == source for where, _ in open_ones.values()) <= bounds.per_address
    for number in list(open_ones):
        admission.closed(number)
    for number in range(100, 100 + bounds.unauthenticated):
        assert admission.admit(number, f"198.51.100.{number}", 0.0) == (None, [])
