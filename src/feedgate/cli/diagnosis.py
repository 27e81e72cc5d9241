"""Why one user cannot connect: the one cause, from what was recorded and what holds now.

What holds now comes first, in the order in which a login would meet it: the gateway, the user, his
state, the addresses. Then the last thing that was seen of him decides. A refusal whose cause is
gone meanwhile is said to be mended. Last comes what the policies would say once he is in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from feedgate.cli.evidence import Facts, is_mended
from feedgate.cli.remedies import Remedy, explained, of_address, of_user
from feedgate.errors import AccessDenied, DefinitionError, Finding
from feedgate.gateway.access_checks import require_role, user_access_findings
from feedgate.identity.logins import LoginRecord
from feedgate.identity.refusals import RefusalCause as Cause
from feedgate.telemetry import utc_iso

__all__ = [
    "NOT_RUNNING",
    "NO_CONNECTION",
    "POLICY_DENIES",
    "Diagnosis",
    "diagnose",
    "distance",
    "record_fields",
]

NOT_RUNNING: Final = "not-running"
NO_CONNECTION: Final = "no-connection"
POLICY_DENIES: Final = "policy-denies"

# of a connection that named no user: these concern everybody at its address
_OF_ADDRESS: Final = {
    *(Cause.ADDRESS_REFUSED, Cause.RATE_LIMITED, Cause.TOO_MANY_CONNECTIONS),
    *(Cause.TOO_MANY_FROM_ADDRESS, Cause.NO_COMMON_ALGORITHM, Cause.PROXY_HEADER),
    *(Cause.NO_WORKER, Cause.NO_DESCRIPTOR, Cause.STOPPING),
}
_STRANGERS_TOLD_MAX: Final = 5
_SOURCES_MAX: Final = 50  # of a user's addresses, the latest of which are looked at
_NEAR_MAX: Final = 2  # letters that a mistyped name has wrong


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """``cause`` None: nothing keeps the user out. ``mend`` are commands, or what to tell him."""

    user_name: str
    cause: str | None
    summary: str
    mend: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seen: LoginRecord | None = None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``: plain types only."""
        return {
            "user_name": self.user_name,
            "ok": self.cause is None,
            "cause": self.cause,
            "summary": self.summary,
            "mend": list(self.mend),
            "notes": list(self.notes),
            "seen": record_fields(self.seen) if self.seen is not None else None,
        }


def diagnose(facts: Facts) -> Diagnosis:
    """The one cause, or None in its place."""
    for look in (_gateway, _name, _state, _address):
        found = look(facts)
        if found is not None:
            return found
    records = _records(facts)
    notes = _elsewhere(facts, records)
    last = records[0] if records else None
    if last is None:
        return _policies(facts) or _unseen(facts)
    if last.cause is not None and not is_mended(facts, last):
        remedy = explained(facts, last)
        return _diagnosis(facts, last.cause, remedy, last, (*remedy.notes, *notes))
    found = _policies(facts)
    if found is not None:
        return replace(found, seen=last, notes=(*found.notes, *notes))
    when = f"{utc_iso(last.last_at)} from {last.source_ip}"
    if last.cause is None:
        summary = f"nothing keeps him out: last login {when}"
    else:
        summary = f"nothing keeps him out any more: refused {when} ({last.cause}), mended since"
    return Diagnosis(facts.user_name, None, summary, notes=notes, seen=last)


def _diagnosis(
    facts: Facts,
    cause: str,
    remedy: Remedy,
    seen: LoginRecord | None = None,
    notes: Sequence[str] = (),
) -> Diagnosis:
    return Diagnosis(
        facts.user_name, str(cause), remedy.summary, remedy.mend, tuple(notes or remedy.notes), seen
    )


# -- what holds now -------------------------------------------------------------------------------


def _gateway(facts: Facts) -> Diagnosis | None:
    if facts.running is not None:
        return None
    remedy = Remedy("no gateway is running here", ("feedgate up -d",))
    return _diagnosis(facts, NOT_RUNNING, remedy)


def _name(facts: Facts) -> Diagnosis | None:
    if facts.user is not None:
        return None
    name = facts.user_name
    if facts.was_removed:
        remedy = Remedy(
            f"the template's user `{name}` was removed live",
            (f"feedgate apply --reset-drift {name}",),
        )
        return _diagnosis(facts, Cause.UNKNOWN_USER, remedy)
    near = min(facts.users, key=lambda known: distance(known, name), default=None)
    summary = f"there is no user `{name}`"
    mend = [f"feedgate user add {name} --key FILE.pub"]
    if near is not None and distance(near, name) <= max(_NEAR_MAX, len(name) // 3):
        summary += f"; the nearest name is `{near}`"
        mend.insert(0, f"tell the supplier to log in as `{near}`, or: feedgate doctor {near}")
    return _diagnosis(facts, Cause.UNKNOWN_USER, Remedy(summary, tuple(mend)), _last_of(facts))


def _state(facts: Facts) -> Diagnosis | None:
    found = of_user(facts)
    return _diagnosis(facts, *found, _last_of(facts)) if found is not None else None


def _address(facts: Facts) -> Diagnosis | None:
    if facts.address is None:
        return None
    found = of_address(facts, facts.address)
    return _diagnosis(facts, *found, _last_of(facts)) if found is not None else None


def _last_of(facts: Facts) -> LoginRecord | None:
    """The last connection that named him, from the address asked about."""
    found = facts.store.list(user_name=facts.user_name, source=facts.source, count_max=1)
    return found[0] if found else None


# -- what was seen --------------------------------------------------------------------------------


def _records(facts: Facts) -> list[LoginRecord]:
    """What was seen of the user, newest first; and of his addresses what concerns him."""
    named = facts.store.list(user_name=facts.user_name, source=facts.source)
    sources = dict.fromkeys(record.source for record in named)
    if facts.source is not None:
        sources[facts.source] = None
    latest = named[0].last_at if named else 0.0
    others = [
        record
        for source in list(sources)[:_SOURCES_MAX]
        for record in facts.store.list(source=source, failed=True)
        if record.last_at > latest
        and (_may_be_his(facts, record) if record.user_name else _is_his(record, bool(named)))
    ]
    return sorted([*named, *others], key=lambda record: -record.last_at)


def _is_his(record: LoginRecord, is_known_there: bool) -> bool:
    """Whether a connection that named nobody concerns a user of its address."""
    return record.cause in _OF_ADDRESS or not is_known_there


def _may_be_his(facts: Facts, record: LoginRecord) -> bool:
    """Whether a name that nobody has is his, mistyped."""
    name = record.user_name
    return bool(name) and name not in facts.users and distance(name, facts.user_name) <= _NEAR_MAX


def _elsewhere(facts: Facts, records: Sequence[LoginRecord]) -> tuple[str, ...]:
    """Refusals beside the last thing seen: from addresses where no login came after them."""
    if not records:
        return ()
    told = []
    before = next((item for item in records[1:] if item.source == records[0].source), None)
    if records[0].cause is Cause.RATE_LIMITED and before is not None and before.cause is not None:
        told.append(f"before that: {explained(facts, before).summary}, {_times(before)}")
    login = next((item for item in records[1:] if item.cause is None), None)
    if records[0].cause is not None and login is not None:
        told.append(f"last login {utc_iso(login.last_at)} from {login.source_ip}")
    done = {records[0].source}
    for record in records[1:]:
        is_last_there = record.source not in done
        done.add(record.source)
        if is_last_there and record.cause is not None and not is_mended(facts, record):
            told.append(
                f"refused from {record.source_ip}, too: {record.cause}, {_times(record)};"
                f" feedgate doctor {facts.user_name} --from {record.source_ip}"
            )
    return tuple(told[:_STRANGERS_TOLD_MAX])


def _unseen(facts: Facts) -> Diagnosis:
    """No connection that could be his."""
    name = facts.user_name
    for record in facts.store.list(failed=True, source=facts.source):
        if record.cause is Cause.UNKNOWN_USER and _may_be_his(facts, record):
            return _diagnosis(facts, Cause.UNKNOWN_USER, explained(facts, record), record)
    assert facts.running is not None
    host, port = facts.running["sftp"]["host"], facts.running["sftp"]["port"]
    where = f"from {facts.address} " if facts.address else ""
    summary = f"no connection {where}named `{name}`; the gateway listens on {host}:{port}"
    mend = [f"tell the supplier host and port, and look at firewalls on the way to port {port}"]
    if str(host).startswith("127.") or host in ("::1", "localhost"):
        summary = (
            f"no connection {where}was seen: the gateway listens on {host}, this machine alone"
        )
        mend.insert(0, f"feedgate down && feedgate up -d --listen 0.0.0.0:{port}")
    return _diagnosis(facts, NO_CONNECTION, Remedy(summary, tuple(mend), _strangers(facts)))


def _strangers(facts: Facts) -> tuple[str, ...]:
    """Refused connections without a name, from addresses that are nobody's: one may be his."""
    if facts.address is not None:
        return ()
    records = facts.store.list()
    known = {record.source for record in records if record.user_name in facts.users}
    return tuple(
        f"{record.source_ip} was refused: {record.cause}, {_times(record)}; if that is he:"
        f" feedgate doctor {facts.user_name} --from {record.source_ip}"
        for record in [r for r in records if not r.user_name and r.source and r.source not in known]
    )[:_STRANGERS_TOLD_MAX]


# -- what comes after the login -------------------------------------------------------------------


def _policies(facts: Facts) -> Diagnosis | None:
    """The judgement of ``check`` for this user: the role, then list, put and get."""
    assert facts.user is not None
    user, name = facts.user.user, facts.user_name
    role_is_refused = ""
    try:
        require_role(facts.definition, user)
    except (AccessDenied, DefinitionError) as error:
        role_is_refused = error.message
    findings = [
        finding
        for finding in user_access_findings(facts.definition, user)
        if finding.severity == "error"
    ]
    if not findings and not role_is_refused:
        return None
    explain = f"feedgate explain {name} ls /"
    mend = [*_hints(findings), "feedgate apply", explain]
    if role_is_refused:
        return _diagnosis(facts, Cause.ROLE_REFUSED, Remedy(role_is_refused, tuple(mend)))
    others = tuple(finding.message for finding in findings[1:])
    remedy = Remedy(f"he gets in, but {findings[0].message}", tuple(mend), others)
    return _diagnosis(facts, POLICY_DENIES, remedy)


def _hints(findings: Sequence[Finding]) -> list[str]:
    return [finding.hint for finding in findings[:1] if finding.hint]


# -- shapes ---------------------------------------------------------------------------------------


def _times(record: LoginRecord) -> str:
    return f"{record.count} time{'s' * (record.count != 1)}, last {utc_iso(record.last_at)}"


_FIELDS: Final[Mapping[str, Callable[[LoginRecord], Any]]] = {
    "outcome": lambda record: "logged-in" if record.cause is None else "refused",
    "cause": lambda record: record.cause,
    "user_name": lambda record: record.user_name,
    "source_ip": lambda record: record.source_ip,
    "count": lambda record: record.count,
    "first_at": lambda record: utc_iso(record.first_at),
    "last_at": lambda record: utc_iso(record.last_at),
    "method": lambda record: record.method,
    "fingerprints": lambda record: list(record.fingerprints),
    "client_version": lambda record: record.client_version,
    "detail": lambda record: record.detail,
}


def record_fields(record: LoginRecord) -> dict[str, Any]:
    """A record's documented JSON shape; times are UTC."""
    return {name: value(record) for name, value in _FIELDS.items()}


def distance(one: str, other: str) -> int:
    """Levenshtein's: letters to insert, delete or exchange, whatever their case."""
    one, other = one.lower(), other.lower()
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, wanted in enumerate(other, 1):
            before, row[j] = (
                row[j],
                min(before + (letter != wanted), row[j] + 1, row[j - 1] + 1),
            )
    return row[-1]
