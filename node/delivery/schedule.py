"""When to try again: pure functions of the attempt, the settings and a random number."""

from __future__ import annotations

from dataclasses import dataclass

#: Tries of one instance before it is set aside as poison (the destination said so every time, or
#: others got through meanwhile, so it is this instance that it cannot take).
ATTEMPTS_FOR_ONE_INSTANCE = 5

#: So many instances that failed one after the other, none getting through, put off the
#: destination.
FAILURES_OF_A_DESTINATION = 3


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off: `first` seconds, doubled after each failure, at most `longest`."""

    first: float
    longest: float

    def delay(self, failures: int, chance: float, *, lasting: bool = False) -> float:
        """Return seconds to wait after `failures` (1 or more) in a row.

        A `lasting` failure, which somebody has to mend, is not asked after more often than that.
        `chance`, between 0 and 1, spreads the delay over its upper half, so that many nodes whose
        archive came back do not call at the same moment.
        """
        # 2**64 seconds are long enough, and a float.
        full = self.longest if lasting else self.first * 2.0 ** min(failures - 1, 64)
        return min(self.longest, full) * (0.5 + 0.5 * chance)
