"""When to try again, as a table."""

from __future__ import annotations

import pytest

from node.delivery.schedule import Backoff

DEFAULT = Backoff(first=1, longest=300)
DELAYS = [
    (1, 0.0, 0.5),
    (1, 1.0, 1.0),
    (2, 1.0, 2.0),
    (3, 1.0, 4.0),
    (3, 0.0, 2.0),
    (3, 0.5, 3.0),
    (9, 1.0, 256.0),
    (10, 1.0, 300.0),
    (10, 0.0, 150.0),
    (1_000_000, 1.0, 300.0),
]


@pytest.mark.parametrize(("failures", "chance", "seconds"), DELAYS)
def test_delay(failures: int, chance: float, seconds: float) -> None:
    assert DEFAULT.delay(failures, chance) == seconds


def test_it_never_waits_longer_than_the_longest_though_the_first_is_longer() -> None:
    assert Backoff(first=60, longest=10).delay(1, 1.0) == 10
