"""What a node received over the last minutes, hour and day: rings of rates, sampled from totals.

The supervisor notes its totals about once a second; nothing grows, nothing is written to disk,
and a restart begins anew. Bytes are those of data sets, rates are per second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

#: Points of every ring: what a chart on a wide screen can show.
POINTS = 300


@dataclass(frozen=True, slots=True)
class Totals:
    """What was received until now."""

    bytes_in: int = 0
    bytes_out: int = 0
    instances: int = 0


@dataclass(frozen=True, slots=True)
class Rate:
    """What came in one second: bytes received, bytes stored, instances."""

    bytes_in: float = 0.0
    bytes_out: float = 0.0
    instances: float = 0.0


@dataclass(slots=True)
class Ring:
    """The last `POINTS` steps of `step` seconds, the newest last."""

    step: float
    rates: deque[Rate] = field(default_factory=lambda: deque(maxlen=POINTS))
    _last: Totals = field(default_factory=Totals)
    _at: float | None = None

    def note(self, now: float, totals: Totals) -> None:
        """Take the totals at a time; what came since the last step is spread over it."""
        if self._at is None:
            self._at, self._last = now, totals
            return
        steps = int((now - self._at) // self.step)
        if steps < 1:
            return
        rate = _rate(self._last, totals, steps * self.step)
        self.rates.extend([rate] * min(steps, POINTS))
        self._at += steps * self.step
        self._last = totals


def _rate(before: Totals, after: Totals, seconds: float) -> Rate:
    return Rate(
        max(0, after.bytes_in - before.bytes_in) / seconds,
        max(0, after.bytes_out - before.bytes_out) / seconds,
        max(0, after.instances - before.instances) / seconds,
    )


class History:
    """Five minutes, an hour and a day. Written by one thread, read by others."""

    #: The seconds of one step, by what a ring is called.
    SPANS: ClassVar = {"5 min": 1.0, "1 h": 12.0, "24 h": 288.0}

    def __init__(self) -> None:
        self._rings = {name: Ring(step) for name, step in self.SPANS.items()}

    def note(self, now: float, totals: Totals) -> None:
        """Take the totals at a time, in seconds of a clock that is not set."""
        for ring in self._rings.values():
            ring.note(now, totals)

    def rates(self, span: str) -> list[Rate]:
        """Return `POINTS` rates, zero where nothing is known; raises KeyError."""
        # A copy in one step: the supervisor's thread may be appending.
        known = list(self._rings[span].rates)
        return [Rate()] * (POINTS - len(known)) + known

    def mean(self, seconds: int) -> Rate:
        """Return the mean rate over the last seconds, at most five minutes."""
        last = list(self._rings["5 min"].rates)[-seconds:]
        return Rate(*(sum(values) / seconds for values in _columns(last)))


def _columns(rates: list[Rate]) -> Iterator[list[float]]:
    yield [rate.bytes_in for rate in rates]
    yield [rate.bytes_out for rate in rates]
    yield [rate.instances for rate in rates]
