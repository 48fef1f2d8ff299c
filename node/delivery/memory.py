"""What a loop remembers over a restart of the entries that failed: tries, due time, cause.

Entries that never failed are never asked about and never told of. Times are monotonic for the loop
and Unix time for whoever remembers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from node.delivery.worklist import Worklist
from node.spool import Entry, Spool, State, Tried


class Memory(Protocol):
    """Where it is kept, if anywhere. Nothing here takes long, raises, or has to work."""

    def recall(self, destination: str) -> list[Tried]:
        """Return what is known of entries that wait."""

    def note(self, tried: Tried) -> None:
        """Remember that an entry failed."""

    def forget(self, destination: str, name: str) -> None:
        """Forget an entry that failed and has left since."""


class NoMemory:
    """Everything is forgotten with the process."""

    def recall(self, destination: str) -> list[Tried]:
        """Return nothing."""
        return []

    def note(self, tried: Tried) -> None:
        """Let it go."""

    def forget(self, destination: str, name: str) -> None:
        """Let it go."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """The memory of one destination's loop."""

    destination: str
    memory: Memory

    def restore(self, work: Worklist, spool: Spool, longest: float) -> None:
        """Let the entries that waited wait on: for what is left of it, at most `longest`."""
        now, clock = time.monotonic(), time.time()
        for tried in self.memory.recall(self.destination):
            entry = spool.find(State.QUEUED, self.destination, tried.name)
            if entry is not None:
                left = min(longest, max(0.0, tried.due - clock))
                work.remember(entry, tried.tries, now + left)

    def put_off(self, entry: Entry, uid: str, tries: int, delay: float, cause: str) -> None:
        """Remember an entry that is tried again after `delay` seconds."""
        self.memory.note(
            Tried(
                destination=self.destination,
                name=entry.name,
                state=State.QUEUED,
                tries=tries,
                due=time.time() + delay,
                cause=cause,
                sop_instance_uid=uid,
            )
        )

    def failed(self, entry: Entry, uid: str, tries: int, cause: str) -> None:
        """Remember an entry that is not tried again."""
        self.memory.note(
            Tried(
                destination=self.destination,
                name=entry.name,
                state=State.FAILED,
                tries=tries,
                cause=cause,
                sop_instance_uid=uid,
            )
        )

    def left(self, entry: Entry) -> None:
        """Forget an entry that had failed."""
        self.memory.forget(self.destination, entry.name)
