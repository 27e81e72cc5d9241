"""What the judge holds: of the busy principals, and no more of them than its bound."""

from __future__ import annotations

from typing import Any

from feedgate.access.views import Views
from feedgate.limits import VIEWS_KEPT_MAX


class Held:
    """Something to hold, with the flag that its user sets."""

    used = False


def test_who_asks_stays_and_who_is_idle_makes_room(site: Any) -> None:
    """Of many sessions the one in use is held on, though it is the oldest."""
    judge = site.judge()
    views: Views[Held] = Views()
    sessions = [site.supplier(judge) for _ in range(3 * VIEWS_KEPT_MAX)]
    views.keep(sessions[0], busy := Held())
    for session in sessions[1:]:
        views.keep(session, Held())
        busy.used = True
    assert len(views) == VIEWS_KEPT_MAX
    assert views.get(sessions[0]) is busy
    assert views.get(sessions[1]) is None
    assert views.get(sessions[-1]) is not None


def test_an_idle_session_is_judged_as_before_when_it_asks_again(site: Any) -> None:
    """Whose policies made room is judged by the same ones; the audit is told each time."""
    told = site.events
    judge = site.judge()
    first = site.supplier(judge)
    del told[:]
    judge.require(first, "open-read", "land", "bob/x")
    before = len(told)
    others = [site.supplier(judge) for _ in range(2 * VIEWS_KEPT_MAX)]
    for other in others:
        judge.require(other, "open-read", "land", "bob/x")
    assert judge._views.get(first) is None
    del told[:]
    judge.require(first, "open-read", "land", "bob/x")
    assert len(told) == before
