"""Which entry of a queue is tried next: order, tries, what waits. No disk, clock or lock.

Entries are lent in the order of the queue, first those that have not failed, then those whose own
back-off is over. One that failed once keeps its place: it may only have been under way when the
destination went. A borrower settles each entry, puts it off, or gives it back. What is remembered
is bounded by the entries that failed and the ones that are lent; the queue itself is read on as
it is needed.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from node.delivery.schedule import ATTEMPTS_FOR_ONE_INSTANCE, FAILURES_OF_A_DESTINATION
from node.model import Blame
from node.spool import Entry


class Fate(enum.Enum):
    """What becomes of an entry that failed and may be tried again."""

    PUT_OFF = "tried again after the others"
    SET_ASIDE = "failed too often, and it is not because of the destination"
    DESTINATION_FAILS = "so many failed one after the other that the destination is left alone"


@dataclass(slots=True)
class _Waiting:
    """An entry that failed alone: how often, when it is due, what was delivered before it."""

    entry: Entry
    delivered_before: int
    tries: int = 0
    due: float = 0.0


@dataclass(slots=True)
class Worklist:
    """The queue of one destination as its lanes see it."""

    delivered: int = 0
    _reading: Iterator[Entry] | None = None
    _returned: list[Entry] = field(default_factory=list)
    _lent: set[str] = field(default_factory=set)
    #: By name of entry: those that failed alone.
    _waiting: dict[str, _Waiting] = field(default_factory=dict)
    #: Those of them that failed once, in that order.
    _once: dict[str, _Waiting] = field(default_factory=dict)
    #: Entries that failed alone since the last one got through.
    _failing: set[str] = field(default_factory=set)

    @property
    def is_busy(self) -> bool:
        """Tell whether an entry is lent."""
        return bool(self._lent)

    def tries(self, entry: Entry) -> int:
        """Return how often this entry failed alone."""
        waiting = self._waiting.get(entry.name)
        return waiting.tries if waiting else 0

    def remember(self, entry: Entry, tries: int, due: float) -> None:
        """Let an entry wait that failed before this worklist was begun."""
        self._waiting[entry.name] = _Waiting(entry, self.delivered, tries, due)

    def borrow(
        self,
        now: float,
        most: int,
        queued: Callable[[], Iterator[Entry]],
        *,
        may_be_back: bool = False,
    ) -> list[Entry]:
        """Return entries to be tried now; `queued` lists the queue from its beginning.

        `may_be_back` tells that the destination failed as a whole and is called again.
        """
        first = self._once_more(now, may_be_back=may_be_back)
        self._lent.update(entry.name for entry in first)
        others = self._others(now, max(1, most - len(first)), queued)
        self._lent.update(entry.name for entry in others)
        return first + others

    def _once_more(self, now: float, *, may_be_back: bool) -> list[Entry]:
        """Return the first of those that failed once, when it is due; those that failed when the
        destination went, when that is called again.

        None while it is unclear whether the destination fails: those behind them are not to wait
        for entries that nobody takes. For the same reason one at a time.
        """
        if len(self._failing) >= FAILURES_OF_A_DESTINATION:
            return []
        if may_be_back and (went := self._failing & self._once.keys() - self._lent):
            return [self._once[name].entry for name in sorted(went)]
        for name, one in self._once.items():
            if one.due <= now and name not in self._lent:
                return [one.entry]
        return []

    def _others(self, now: float, most: int, queued: Callable[[], Iterator[Entry]]) -> list[Entry]:
        batch = self._returned[:most]
        del self._returned[:most]
        if not batch and self._reading is not None:
            batch = self._read(most) or self._due(now, most)
        if not batch:
            self._reading = queued()
            batch = self._read(most) or self._due(now, most)
        return batch

    def _read(self, most: int) -> list[Entry]:
        if self._reading is None:
            return []
        known = self._waiting.keys() | self._lent
        untried = (entry for entry in self._reading if entry.name not in known)
        batch = list(itertools.islice(untried, most))
        if not batch:
            self._reading = None
        return batch

    def _due(self, now: float, most: int) -> list[Entry]:
        due = [
            one for name, one in self._waiting.items() if one.due <= now and name not in self._lent
        ]
        due.sort(key=lambda one: one.due)
        return [one.entry for one in due[:most]]

    def next_due(self) -> float | None:
        """Return when the first of the entries that wait is due."""
        return min(
            (one.due for name, one in self._waiting.items() if name not in self._lent),
            default=None,
        )

    def give_back(self, entries: list[Entry]) -> None:
        """Take back those of `entries` that are still lent; they are the next ones."""
        back = [entry for entry in entries if entry.name in self._lent]
        self._lent.difference_update(entry.name for entry in back)
        untried = [entry for entry in back if entry.name not in self._waiting]
        self._returned = sorted([*self._returned, *untried], key=lambda entry: entry.name)

    def settle(self, entry: Entry, *, delivered: bool) -> bool:
        """Forget an entry that has left the queue; tell whether it had failed before."""
        self._lent.discard(entry.name)
        had_failed = self._waiting.pop(entry.name, None) is not None
        self._once.pop(entry.name, None)
        self._failing.discard(entry.name)
        if delivered:
            self._failing.clear()
            self.delivered += 1
        return had_failed

    def judge(self, entry: Entry, blame: Blame) -> Fate:
        """Note that an entry failed alone, or perhaps so, and say what becomes of it.

        Where it is unclear whether the destination failed it counts against the entry only if
        others got through since its first failure. That there is no room never does.
        """
        self._failing.add(entry.name)
        is_destination = len(self._failing) >= FAILURES_OF_A_DESTINATION
        if entry.name in self._waiting:
            self._once.pop(entry.name, None)
        else:
            self._waiting[entry.name] = _Waiting(entry, self.delivered)
            self._once[entry.name] = self._waiting[entry.name]
        waiting = self._waiting[entry.name]
        others_got_through = self.delivered > waiting.delivered_before
        is_certain = blame is Blame.INSTANCE or (
            blame is Blame.UNCLEAR and others_got_through and not is_destination
        )
        waiting.tries += blame is Blame.INSTANCE or not is_destination
        if is_certain and waiting.tries >= ATTEMPTS_FOR_ONE_INSTANCE:
            return Fate.SET_ASIDE
        return Fate.DESTINATION_FAILS if is_destination else Fate.PUT_OFF

    def put_off(self, entry: Entry, due: float) -> None:
        """Let an entry that was judged wait."""
        self._lent.discard(entry.name)
        self._waiting[entry.name].due = due
