"""What the judge holds of principals: of the busy ones, the others are read anew when they ask.

An idle session that has listed and written holds some 50 KiB here, twice what all the rest of it
takes, and 2,000 of them are open; to make it again costs a millisecond or two.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Generic, Protocol, TypeVar

from feedgate.access.principals import Principal
from feedgate.limits import VIEWS_KEPT_MAX

__all__ = ["View", "Views"]


class View(Protocol):
    """What may be kept. Whoever uses one sets ``used``."""

    used: bool


V = TypeVar("V", bound=View)


class Views(Generic[V]):
    """By principal, as long as it lives, ``VIEWS_KEPT_MAX`` of them.

    The one that makes room is the oldest that was not used since it was looked at last (the clock
    algorithm), so that use costs no more than a flag. ``get`` may be called from any thread,
    ``keep`` from one at a time.
    """

    def __init__(self) -> None:
        self._by_principal: weakref.WeakKeyDictionary[Principal, V] = weakref.WeakKeyDictionary()
        self._in_turn: deque[weakref.ref[Principal]] = deque()
        self.get = self._by_principal.get

    def __len__(self) -> int:
        return len(self._by_principal)

    def keep(self, principal: Principal, view: V) -> None:
        """Add one, when there is room for it or room was made."""
        while len(self._in_turn) >= VIEWS_KEPT_MAX:
            turn = self._in_turn.popleft()
            oldest = turn()
            held = self._by_principal.get(oldest) if oldest is not None else None
            if oldest is None or held is None:
                continue
            if held.used:
                held.used = False
                self._in_turn.append(turn)
            else:
                del self._by_principal[oldest]
        self._by_principal[principal] = view
        self._in_turn.append(weakref.ref(principal))
