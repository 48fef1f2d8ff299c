"""What was delivered to one destination: counts since the start, and how it stands now.

Loops and relays give it, the report carries it to the supervisor, the page and the metrics show it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from node.delivery.attempt import Attempt, Damaged, result_of
from node.delivery.calls import Calls
from node.delivery.circuit import Breaker, Circuit
from node.model import Delivered

#: Of two circuits the one that tells more: what is open anywhere is worth knowing.
_WORSE = (Circuit.CLOSED, Circuit.HALF_OPEN, Circuit.OPEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`failed` counts instances that the destination refused for good or that were damaged;
    `spooled` those that a relay could not pass on and spooled instead; `attempts` what came of each
    try, by result; `delivered_bytes` are those of the files, as they lie in the spool;
    `associations` those with it that stand, `associations_ended` how the others ended."""

    delivered: int = 0
    failed: int = 0
    spooled: int = 0
    delivered_bytes: int = 0
    attempts: dict[str, int] = field(default_factory=dict)
    circuit: Circuit = Circuit.CLOSED
    waiting_for_seconds: float = 0.0
    last_error: str = ""
    failures_in_a_row: int = 0
    associations: int = 0
    associations_ended: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Progress:
        """Return what `asdict` made these of; raises ValueError or TypeError for anything else."""
        return cls(**{**fields, "circuit": Circuit(fields.get("circuit", Circuit.CLOSED))})

    def plus(self, other: Progress) -> Progress:
        """Return what two processes did together for one destination."""
        return Progress(
            delivered=self.delivered + other.delivered,
            failed=self.failed + other.failed,
            spooled=self.spooled + other.spooled,
            delivered_bytes=self.delivered_bytes + other.delivered_bytes,
            attempts=_sum(self.attempts, other.attempts),
            circuit=max(self.circuit, other.circuit, key=_WORSE.index),
            waiting_for_seconds=max(self.waiting_for_seconds, other.waiting_for_seconds),
            last_error=other.last_error or self.last_error,
            failures_in_a_row=max(self.failures_in_a_row, other.failures_in_a_row),
            associations=self.associations + other.associations,
            associations_ended=_sum(self.associations_ended, other.associations_ended),
        )

    def ended(self) -> Progress:
        """Return what stays true when the process has ended: the counts."""
        return Progress(
            delivered=self.delivered,
            failed=self.failed,
            spooled=self.spooled,
            delivered_bytes=self.delivered_bytes,
            attempts=self.attempts,
            associations_ended=self.associations_ended,
        )

    def shortened(self, characters: int) -> Progress:
        """Return it with its last error cut to so many characters."""
        return replace(self, last_error=self.last_error[:characters])


def _sum(some: dict[str, int], others: dict[str, int]) -> dict[str, int]:
    return dict(Counter(some) + Counter(others))


@dataclass(slots=True)
class Account:
    """What a loop adds up since its start; the loop has the lock."""

    failed: int = 0
    delivered_bytes: int = 0
    attempts: Counter[str] = field(default_factory=Counter)
    #: Tries that came to nothing since the destination last took or refused an instance.
    failures_in_a_row: int = 0
    last_error: str = ""

    def count(self, made: Attempt) -> None:
        """Count a try that the destination gave an answer to."""
        if made.byte_count is not None and not isinstance(made.outcome, Damaged):
            self.attempts[result_of(made.outcome)] += 1
            if isinstance(made.outcome, Delivered):
                self.delivered_bytes += made.byte_count

    def set_aside(self, cause: str) -> None:
        """Note that an entry is not tried again."""
        self.failed += 1
        self.last_error = cause

    def put_off(self, cause: str) -> None:
        """Note that something is tried again."""
        self.failures_in_a_row += 1
        self.last_error = cause

    def progress(self, delivered: int, breaker: Breaker, calls: Calls, now: float) -> Progress:
        """Return all of it, with what the loop's other parts know."""
        return Progress(
            delivered=delivered,
            failed=self.failed,
            delivered_bytes=self.delivered_bytes,
            attempts=dict(self.attempts),
            circuit=breaker.circuit,
            waiting_for_seconds=breaker.seconds_left(now),
            last_error=self.last_error,
            failures_in_a_row=self.failures_in_a_row,
            associations=calls.open,
            associations_ended=calls.ended,
        )
