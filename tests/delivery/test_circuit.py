"""The circuit breaker: every step that there is, and none that is not."""

from __future__ import annotations

import itertools

import pytest

from node.delivery.circuit import AFTER, Breaker, Circuit, IllegalStep, Step, after
from node.delivery.schedule import Backoff

CLOSED, HALF_OPEN, OPEN = Circuit.CLOSED, Circuit.HALF_OPEN, Circuit.OPEN


@pytest.mark.parametrize(
    ("circuit", "step"), [pair for pair in itertools.product(Circuit, Step) if pair not in AFTER]
)
def test_no_other_step(circuit: Circuit, step: Step) -> None:
    with pytest.raises(IllegalStep):
        after(circuit, step)


def test_a_destination_that_fails_is_left_alone_and_then_tried_by_one() -> None:
    breaker = Breaker(Backoff(10, 40))
    assert breaker.admits(0, is_busy=True)
    assert breaker.failed(0, 1) == 10
    assert breaker.circuit is OPEN
    assert not breaker.admits(9.9, is_busy=False)
    assert breaker.seconds_left(4) == 6
    assert not breaker.admits(10, is_busy=True)
    assert breaker.circuit is HALF_OPEN
    assert breaker.admits(10, is_busy=False)
    breaker.answered()
    assert (breaker.circuit, breaker.failures) == (CLOSED, 0)
    assert breaker.admits(10, is_busy=True)


def test_the_back_off_doubles_from_failure_to_failure() -> None:
    breaker, now, waited = Breaker(Backoff(10, 40)), 0.0, []
    for _ in range(4):
        waited.append(breaker.failed(now, 1))
        now += waited[-1]
        assert breaker.admits(now, is_busy=False)
    assert waited == [10, 20, 40, 40]


def test_lanes_that_fail_together_fail_once() -> None:
    breaker = Breaker(Backoff(10, 40))
    assert [breaker.failed(0, 1), breaker.failed(1, 1)] == [10, 9]
    assert breaker.failures == 1


def test_what_has_to_be_mended_is_asked_for_seldom() -> None:
    assert Breaker(Backoff(10, 40)).failed(0, 1, lasting=True) == 40


def test_an_instance_under_way_that_is_taken_closes_it() -> None:
    breaker = Breaker(Backoff(10, 40))
    breaker.failed(0, 1)
    breaker.answered()
    assert breaker.circuit is CLOSED


def test_a_back_off_ends_when_somebody_wants_it() -> None:
    breaker = Breaker(Backoff(100.0, 100.0))
    breaker.failed(0.0, 0.5)
    assert not breaker.admits(1.0, is_busy=False)
    breaker.hurry(1.0)
    assert breaker.admits(1.0, is_busy=False)
    assert breaker.circuit is Circuit.HALF_OPEN
