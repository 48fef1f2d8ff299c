"""The bell: nothing that was committed is overlooked, however seldom it is rung."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator

import pytest

from node.service import bell as bells
from node.service.bell import Bell


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def bell() -> Iterator[Bell]:
    with contextlib.closing(Bell.make()) as made:
        yield made


def test_a_ring_stands_for_those_that_follow(bell: Bell, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(bells, "time", clock)
    for _ in range(3):
        bell.ring()
        assert bell.wait(10)
        clock.now += bells._STANDS_SECONDS * 0.9
        bell.ring()
        assert not bell.wait(0)
        clock.now += bells._STANDS_SECONDS * 0.2


def test_a_ring_stands_for_less_than_who_hears_it_waits() -> None:
    assert bells._STANDS_SECONDS < bells.QUIET_SECONDS


def test_gathering_ends_when_it_is_quiet(bell: Bell) -> None:
    bell.gather(threading.Event())
    assert not bell.wait(0)


def test_gathering_ends_although_it_is_never_quiet(
    bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What rings in the last moment is heard afterwards."""
    clock, rings = Clock(), itertools.count()
    monkeypatch.setattr(bells, "time", clock)

    class Restless(Bell):
        def wait(self, seconds: float) -> bool:
            next(rings)
            clock.now += seconds
            self._rung = 0.0
            self.ring()
            return super().wait(0)

    class Last(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout == bells.QUIET_SECONDS
            bell._rung = 0.0
            bell.ring()
            return False

    Restless(bell.reading, bell.writing).gather(Last())
    assert next(rings) == pytest.approx(bells.GATHER_SECONDS / bells.QUIET_SECONDS, abs=1)
    assert bell.wait(0)


def test_a_stop_ends_the_gathering(bell: Bell) -> None:
    stop = threading.Event()
    stop.set()
    bell.gather(stop)
