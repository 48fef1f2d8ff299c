"""How much waits for each destination, looked at most every so often.

The spool counts cheaply; the bytes and the reading of a long queue's first names are not for every
scrape. What was found is told again until it is old, and the longer it took the older it may get.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from itertools import islice

from node.service.queues import waiting_again
from node.spool import Entry, Spool, State, received_at

#: What was found is told again for so long, in seconds,
_FRESH_SECONDS = 1.0
#: and for so many times as long as it took: it costs a twentieth of a core at most.
_COST = 20
#: The bytes of a longer queue are those of so many entries, and of the rest in proportion.
_MEASURED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCount:
    """What one destination's queue holds; `oldest_at` is Unix time, None for an empty one, and
    `waiting_again` those of the queued that failed before, one of them with this cause.
    """

    queued: int = 0
    queued_bytes: int = 0
    oldest_at: float | None = None
    failed: int = 0
    corrupt: int = 0
    paused: bool = False
    waiting_again: int = 0
    waiting_cause: str = ""


class QueueCounts:
    """Counts of one spool. Safe to share."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, QueueCount]] = {}

    def of(self, destination: str) -> QueueCount:
        """Return what was counted last, now where that is too old."""
        with self._lock:
            now = time.monotonic()
            until, count = self._known.get(destination, (0.0, QueueCount()))
            if now >= until:
                count = self._count(destination)
                after = time.monotonic()
                until = after + max(_FRESH_SECONDS, _COST * (after - now))
                self._known[destination] = until, count
            return count

    def waiting(self) -> int:
        """Return how many received entries were not yet handed to destinations."""
        return self._spool.count(State.RECEIVED).entries

    def forget(self) -> None:
        """Look anew when asked next: somebody has changed a queue."""
        with self._lock:
            self._known.clear()

    def _count(self, destination: str) -> QueueCount:
        spool = self._spool
        queue = spool.count(State.QUEUED, destination)
        sizes = [_size(entry) for entry in islice(spool.queued(destination), _MEASURED)]
        mean = sum(sizes) / len(sizes) if sizes else 0.0
        again = waiting_again(spool, destination)
        return QueueCount(
            queued=queue.entries,
            queued_bytes=round(mean * queue.entries),
            oldest_at=received_at(queue.oldest) if queue.oldest else None,
            failed=spool.count(State.FAILED, destination).entries,
            corrupt=spool.count(State.CORRUPT, destination).entries,
            paused=spool.paused(destination),
            waiting_again=len(again),
            waiting_cause=again[0].cause if again else "",
        )


def _size(entry: Entry) -> int:
    with contextlib.suppress(OSError):
        return os.stat(entry.path).st_size
    return 0
