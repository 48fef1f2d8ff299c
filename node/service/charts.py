"""Charts as geometry: rates -> the paths of an SVG that any browser draws without a script.

Pure functions. A chart is drawn on `WIDTH` by `HEIGHT` and stretched by the page's style; its
labels are text of the page, which is not stretched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from node.service.history import Rate

WIDTH, HEIGHT = 600, 100


@dataclass(frozen=True, slots=True)
class Throughput:
    """A drawn chart: what was received as a line, what was stored below it, the rest saved."""

    received: str
    stored: str
    top: float
    is_empty: bool


def throughput(rates: Sequence[Rate]) -> Throughput:
    """Draw rates, oldest first; `top` is what the upper edge means, in bytes per second."""
    highest = max((max(rate.bytes_in, rate.bytes_out) for rate in rates), default=0.0)
    top = rounded_up(highest)
    return Throughput(
        received=_area([rate.bytes_in for rate in rates], top),
        stored=_area([rate.bytes_out for rate in rates], top),
        top=top,
        is_empty=highest == 0,
    )


def rounded_up(value: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten, at least a million."""
    if value <= 1e6:
        return 1e6
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= value)


def _area(values: Sequence[float], top: float) -> str:
    """Return the path of an area above the lower edge."""
    if len(values) < 2:
        return ""
    step = WIDTH / (len(values) - 1)
    points = [
        f"{number * step:.1f} {HEIGHT * (1 - value / top):.1f}"
        for number, value in enumerate(values)
    ]
    return f"M0 {HEIGHT}L{'L'.join(points)}L{WIDTH} {HEIGHT}Z"
