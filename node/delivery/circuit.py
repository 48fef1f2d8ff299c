"""The circuit breaker of a destination: whether it is called now (a table), and when again.

    CLOSED     it is called
    OPEN       it failed and is left alone until the back-off is over
    HALF_OPEN  the back-off is over: one association tries, the others wait for what comes of it

`AFTER` has every step there is; any other raises `IllegalStep` and changes nothing. Time and chance
are arguments. Not safe to share: the loop or the relay that owns a breaker has the lock.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from node.delivery.schedule import Backoff


class Circuit(enum.StrEnum):
    """Where a breaker stands. The value is shown to people and in metrics."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Step(enum.Enum):
    """What can happen to a breaker."""

    ANSWERED = "the destination took or refused an instance: it works"
    FAILED = "the destination failed as a whole"
    DUE = "the back-off is over"


AFTER: dict[tuple[Circuit, Step], Circuit] = {
    (Circuit.CLOSED, Step.ANSWERED): Circuit.CLOSED,
    (Circuit.CLOSED, Step.FAILED): Circuit.OPEN,
    (Circuit.OPEN, Step.DUE): Circuit.HALF_OPEN,
    # Of another association, whose instance was under way when this one failed.
    (Circuit.OPEN, Step.ANSWERED): Circuit.CLOSED,
    (Circuit.OPEN, Step.FAILED): Circuit.OPEN,
    (Circuit.HALF_OPEN, Step.ANSWERED): Circuit.CLOSED,
    (Circuit.HALF_OPEN, Step.FAILED): Circuit.OPEN,
}


class IllegalStep(Exception):
    """A defect of this program: a step that the table does not have."""


def after(circuit: Circuit, step: Step) -> Circuit:
    """Return where the breaker stands then; raises `IllegalStep`."""
    try:
        return AFTER[circuit, step]
    except KeyError:
        raise IllegalStep(f"a breaker that is {circuit}: {step.value}") from None


@dataclass(slots=True)
class Breaker:
    """A circuit with its count of failures and the time at which it is tried again."""

    backoff: Backoff
    circuit: Circuit = Circuit.CLOSED
    failures: int = 0
    due: float = 0.0

    def admits(self, now: float, *, is_busy: bool) -> bool:
        """Tell whether the destination may be called; the first call after a back-off is alone.

        `is_busy` tells that somebody is calling it already.
        """
        if self.circuit is Circuit.OPEN and now >= self.due:
            self.circuit = after(self.circuit, Step.DUE)
        return self.circuit is Circuit.CLOSED or (self.circuit is Circuit.HALF_OPEN and not is_busy)

    def answered(self) -> None:
        """Note that the destination took or refused an instance."""
        self.circuit = after(self.circuit, Step.ANSWERED)
        self.failures = 0

    def failed(self, now: float, chance: float, *, lasting: bool = False) -> float:
        """Note that the destination failed and return the seconds to leave it alone.

        `lasting` goes to the longest delay at once. Associations that fail together fail once.
        """
        if self.circuit is not Circuit.OPEN:
            self.failures += 1
            self.due = now + self.backoff.delay(self.failures, chance, lasting=lasting)
        self.circuit = after(self.circuit, Step.FAILED)
        return self.due - now

    def hurry(self, now: float) -> None:
        """End the back-off: somebody wants it tried now."""
        self.due = min(self.due, now)

    def seconds_left(self, now: float) -> float:
        """Return how long the destination is still left alone."""
        return max(0.0, self.due - now) if self.circuit is Circuit.OPEN else 0.0
