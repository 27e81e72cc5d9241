"""Who may connect, and how much: the counts and penalties that hold for the gateway as a whole.

One instance lives in the supervisor. Values in, values out: no socket, no clock of its own, so the
laws that tests state hold for what serves.

- **Places.** Connections are counted in all, per address and (once logged in) per user. The places
  of connections that have not logged in are fewer; when they are all taken, a newer connection
  displaces the oldest of the address that holds most. A thousand silent connections so cost an
  honest client nothing: it logs in long before it is the oldest.
- **Penalties per address.** Each failure adds one to a score that halves every
  ``PENALTY_HALF_LIFE_S``. Above ``AUTH_FAILURES_MAX`` the address is refused for a time that
  doubles with each further failure, up to ``PENALTY_S_MAX``; refused connections do not count.
- **Delays per user.** Wrong passwords for one user, from whatever addresses, make the answer to
  each further password for that user slower, up to ``PASSWORD_DELAY_S_MAX``. It is never a refusal:
  else anybody could lock a supplier out by failing in his name. An address from which the user
  logged in lately is spared the delay, and so is every key, which cannot be guessed. Names that do
  not exist are counted as those that do.

An address stands for its network where one customer has many: a /64 of IPv6.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_network
from typing import Generic, TypeVar

from feedgate import limits
from feedgate.identity.refusals import RefusalCause
from feedgate.stack.access_tags import ANY_ADDRESS, AddressRules, Network, address_of, is_within

__all__ = ["Admission", "AdmissionLimits", "source_of"]

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What an operator may set; ``exempt`` addresses are never penalised, only counted."""

    connections: int = limits.CONNECTIONS_MAX
    per_address: int = limits.CONNECTIONS_PER_ADDRESS_MAX
    per_user: int = limits.CONNECTIONS_PER_USER_MAX
    unauthenticated: int = limits.UNAUTHENTICATED_MAX
    unauthenticated_per_address: int = limits.UNAUTHENTICATED_PER_ADDRESS_MAX
    auth_failures: int = limits.AUTH_FAILURES_MAX
    penalty_s_max: float = limits.PENALTY_S_MAX
    exempt: tuple[Network, ...] = ()


def source_of(address: str) -> str:
    """What an address is counted as: itself, or its /64."""
    found = address_of(address)
    if isinstance(found, IPv6Address):
        return str(ip_network((found, 64), strict=False))
    return str(found) if found is not None else address


@dataclass(slots=True)
class _Connection:
    source: str
    user_name: str | None = None


class _Scores(Generic[K]):
    """Scores that halve with time; at most ``SCORES_KEPT_MAX`` of them, the stalest go first."""

    def __init__(self, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self._kept: OrderedDict[K, tuple[float, float]] = OrderedDict()

    def of(self, key: K, now: float) -> float:
        score, at = self._kept.get(key, (0.0, now))
        return score * float(0.5 ** (max(0.0, now - at) / self._half_life_s))

    def add(self, key: K, now: float, weight: float = 1.0) -> float:
        score = self.of(key, now) + weight
        self._kept[key] = (score, now)
        self._kept.move_to_end(key)
        if len(self._kept) > limits.SCORES_KEPT_MAX:
            self._kept.popitem(last=False)
        return score

    def forget(self, key: K) -> None:
        self._kept.pop(key, None)


class Admission:
    """``now`` is monotonic time in seconds, the same clock in each call."""

    def __init__(self, bounds: AdmissionLimits | None = None) -> None:
        self.bounds = bounds or AdmissionLimits()
        self.rules: AddressRules = ANY_ADDRESS  # the server's
        self._connections: dict[int, _Connection] = {}
        self._waiting: dict[str, dict[int, None]] = {}  # by source, oldest first
        self._waiting_count = 0
        self._per_source: Counter[str] = Counter()
        self._per_user: Counter[str] = Counter()
        self._failures: _Scores[str] = _Scores(limits.PENALTY_HALF_LIFE_S)
        self._blocked_until: OrderedDict[str, float] = OrderedDict()
        self._wrong_passwords: _Scores[str] = _Scores(limits.PENALTY_HALF_LIFE_S)
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._connections)

    def __contains__(self, number: int) -> bool:
        return number in self._connections

    # -- places -------------------------------------------------------------------------------

    def admit(self, number: int, address: str, now: float) -> tuple[RefusalCause | None, list[int]]:
        """Give a new connection a place; why not, else None, and whom it displaces.

        The displaced are forgotten here; the caller disconnects them.
        """
        cause = self._refusal(address, now)
        if cause is not None:
            return cause, []
        source = source_of(address)
        displaced = self._make_room(source)
        self._connections[number] = _Connection(source)
        self._per_source[source] += 1
        self._waiting.setdefault(source, {})[number] = None
        self._waiting_count += 1
        return None, displaced

    def _refusal(self, address: str, now: float) -> RefusalCause | None:
        if not self.rules.admit(address):
            return RefusalCause.ADDRESS_REFUSED
        source = source_of(address)
        if self._blocked_until.get(source, 0.0) > now:
            return RefusalCause.RATE_LIMITED
        waiting = self._waiting_count
        if len(self._connections) >= self.bounds.connections and not waiting:
            return RefusalCause.TOO_MANY_CONNECTIONS
        if self._per_source[source] >= self.bounds.per_address and not self._waiting.get(source):
            return RefusalCause.TOO_MANY_FROM_ADDRESS
        return None

    def _make_room(self, source: str) -> list[int]:
        """Displace so many unauthenticated connections that one more fits; at most two."""
        displaced = []
        own = self._waiting.get(source, {})
        if own and (
            len(own) >= self.bounds.unauthenticated_per_address
            or self._per_source[source] >= self.bounds.per_address
        ):
            displaced.append(self._displace(source))
        if self._waiting_count and (
            self._waiting_count >= self.bounds.unauthenticated
            or len(self._connections) >= self.bounds.connections
        ):
            crowd = max(self._waiting, key=lambda name: len(self._waiting[name]))
            displaced.append(self._displace(crowd))
        return displaced

    def _displace(self, source: str) -> int:
        number = next(iter(self._waiting[source]))
        self.closed(number)
        return number

    def authenticated(
        self, number: int, user_name: str, address: str, now: float
    ) -> RefusalCause | None:
        """Count a login; why this user may not have one more connection, else None."""
        connection = self._connections.get(number)
        if connection is None:  # displaced in the same moment
            return RefusalCause.DISPLACED
        self._no_longer_waits(number, connection.source)
        connection.user_name = user_name
        self._per_user[user_name] += 1
        _remember(self._seen, (user_name, source_of(address)), now)
        if self._per_user[user_name] > self.bounds.per_user:
            return RefusalCause.TOO_MANY_OF_USER
        return None

    def closed(self, number: int) -> None:
        """Free a place. Idempotent."""
        connection = self._connections.pop(number, None)
        if connection is None:
            return
        _count_down(self._per_source, connection.source)
        if connection.user_name is None:
            self._no_longer_waits(number, connection.source)
        else:
            _count_down(self._per_user, connection.user_name)

    def _no_longer_waits(self, number: int, source: str) -> None:
        waiting = self._waiting.get(source, {})
        if number in waiting:
            del waiting[number]
            self._waiting_count -= 1
            if not waiting:
                del self._waiting[source]

    # -- failures -----------------------------------------------------------------------------

    def failed(self, address: str, now: float, *, password_of: str | None = None) -> None:
        """A login failed; ``password_of`` names the user for whom a password was wrong."""
        if password_of is not None:
            self._wrong_passwords.add(password_of, now)
        source = source_of(address)
        if is_within(address, self.bounds.exempt):
            return
        excess = self._failures.add(source, now) - self.bounds.auth_failures
        if excess > 0:
            doublings = min(int(excess), 32)
            block_s = min(limits.PENALTY_S * 2.0**doublings, self.bounds.penalty_s_max)
            _remember(self._blocked_until, source, now + block_s)

    def penalty_s(self, address: str, now: float) -> float:
        """How much longer the address is refused for its failures."""
        return max(0.0, self._blocked_until.get(source_of(address), 0.0) - now)

    def forgive(self, address: str) -> None:
        """Forget the failures of an address."""
        self._failures.forget(source_of(address))
        self._blocked_until.pop(source_of(address), None)

    def password_delay_s(self, user_name: str, address: str, now: float) -> float:
        """How long the answer to a password for this user waits."""
        if now - self._seen.get((user_name, source_of(address)), -1e9) < limits.KNOWN_ADDRESS_S:
            return 0.0
        score = self._wrong_passwords.of(user_name, now) - limits.WRONG_PASSWORDS_FREE
        if score <= 0:
            return 0.0
        return float(min(limits.PASSWORD_DELAY_S * 2.0 ** min(score, 32), _DELAY_S_MAX))


_DELAY_S_MAX = limits.PASSWORD_DELAY_S_MAX


def _remember(kept: OrderedDict[K, float], key: K, value: float) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > limits.SCORES_KEPT_MAX:
        kept.popitem(last=False)


def _count_down(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if counts[key] <= 0:
        del counts[key]
