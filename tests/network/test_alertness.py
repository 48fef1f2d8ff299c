"""Waiting awake: only where what is waited for mostly comes at once."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from node.network import alertness
from node.network.alertness import AWAKE_SECONDS, Alertness
from node.network.kernel import KERNEL
from node.network.line import Line

LONG, SHORT = 0.01, 0.00001

pytestmark = pytest.mark.skipif(KERNEL is None, reason="the C extension was not built")


@pytest.fixture
def several_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alertness.os, "sched_getaffinity", lambda _: {0, 1})


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def noted(*waits: float, most: float = AWAKE_SECONDS) -> Alertness:
    made = Alertness(most)
    for seconds in waits:
        made.note(seconds)
    return made


@pytest.mark.parametrize(
    ("waits", "is_awake"),
    [
        ([], False),
        ([SHORT] * 3, False),
        ([SHORT] * 4, True),
        ([SHORT] * 4 + [LONG], False),
        ([SHORT] * 1000 + [LONG] * 4, True),
        ([SHORT] * 1000 + [LONG] * 5, False),
        ([LONG] * 1000 + [SHORT] * 4, True),
        ([SHORT, LONG] * 100, False),
    ],
)
@pytest.mark.usefixtures("several_cores")
def test_short_waits_make_the_next_one_begin_awake(waits: list[float], is_awake: bool) -> None:
    assert noted(*waits).awake_seconds == (AWAKE_SECONDS if is_awake else 0)


@pytest.mark.usefixtures("several_cores")
def test_where_more_is_worth_it_longer_waits_are_short_and_begin_awake(pair) -> None:
    """Who calls again has to connect first."""
    longer = 20 * AWAKE_SECONDS
    awake = noted(*[2 * AWAKE_SECONDS] * 5, most=longer)
    assert awake.awake_seconds == longer
    assert noted(*[2 * longer] * 4, most=longer).awake_seconds == 0
    ours, theirs = pair
    begun = time.perf_counter()
    assert not awake.wait(ours.fileno())
    assert time.perf_counter() - begun >= longer
    theirs.send(b"!")
    assert awake.wait(ours.fileno())


@pytest.mark.usefixtures("several_cores")
def test_what_is_there_is_seen_and_what_is_not_costs_no_more_than_said(pair) -> None:
    ours, theirs = pair
    took = []
    for _ in range(20):
        awake = noted(*[SHORT] * 4)
        begun = time.perf_counter()
        assert not awake.wait(ours.fileno())
        took.append(time.perf_counter() - begun)
    awake = noted(*[SHORT] * 4)
    assert AWAKE_SECONDS <= min(took) < 20 * AWAKE_SECONDS
    theirs.send(b"!")
    assert awake.wait(ours.fileno())
    theirs.close()
    ours.recv(1)
    assert awake.wait(ours.fileno())  # the end can be read too


@pytest.mark.usefixtures("several_cores")
def test_who_waited_awake_in_vain_soon_does_so_no_more(pair) -> None:
    """A crowd of peers that connect and say nothing must not cost 50 us each."""
    awake = noted(*[SHORT] * 1000)
    for _ in range(5):
        assert awake.awake_seconds
        assert not awake.wait(pair[0].fileno())
    assert not awake.awake_seconds


@pytest.mark.usefixtures("several_cores")
def test_what_comes_while_awake_counts_as_short(pair) -> None:
    ours, theirs = pair
    awake = noted(*[SHORT] * 4)
    theirs.send(b"!")
    for _ in range(1000):
        assert awake.wait(ours.fileno())
    for _ in range(3):  # one of them may have been long, where others had the processor
        awake.note(LONG)
    assert awake.awake_seconds
    for _ in range(2):
        awake.note(LONG)
    assert not awake.awake_seconds


@pytest.mark.usefixtures("several_cores")
def test_in_a_crowd_nobody_waits_awake(pair) -> None:
    ours, theirs = pair
    theirs.send(b"!")
    awake = noted(*[SHORT] * 8)
    awake.is_crowded = True
    assert not awake.awake_seconds
    assert not awake.wait(ours.fileno())
    awake.is_crowded = False
    assert awake.awake_seconds
    assert awake.wait(ours.fileno())


def test_on_one_core_nobody_waits_awake(monkeypatch, pair) -> None:
    monkeypatch.setattr(alertness.os, "sched_getaffinity", lambda _: {0})
    ours, theirs = pair
    theirs.send(b"!")
    lonely = noted(*[SHORT] * 1000)
    assert not lonely.awake_seconds
    assert not lonely.wait(ours.fileno())


@pytest.mark.usefixtures("several_cores")
def test_others_run_while_one_waits_awake(pair) -> None:
    ours, theirs = pair
    threading.Timer(0.05, theirs.send, [b"!"]).start()  # needs Python's lock
    begun = time.perf_counter()
    assert noted(*[SHORT] * 4, most=10.0).wait(ours.fileno())
    assert time.perf_counter() - begun < 5


@pytest.mark.usefixtures("several_cores")
def test_a_line_learns_from_how_long_it_waited(pair) -> None:
    ours, theirs = pair
    line = Line(ours)
    view = memoryview(bytearray(1))
    for _ in range(10):
        theirs.send(b"!")
        assert line.receive_into(view, None) == 1
    assert line.alertness.awake_seconds
    for _ in range(5):
        threading.Timer(0.005, theirs.send, [b"!"]).start()
        assert line.receive_into(view, None) == 1
    assert not line.alertness.awake_seconds


@pytest.mark.usefixtures("several_cores")
def test_a_deadline_is_kept_awake_or_not(pair) -> None:
    line = Line(pair[0], noted(*[SHORT] * 8))
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        line.receive_into(memoryview(bytearray(1)), begun + 0.1)
    assert 0.1 <= time.monotonic() - begun < 1


@pytest.mark.usefixtures("several_cores")
def test_a_deadline_is_kept_where_something_is_always_there(pair) -> None:
    """A peer that sends byte by byte must not gain time by it."""
    ours, theirs = pair
    line = Line(ours, noted(*[SHORT] * 8))
    theirs.send(bytes(1000))
    with pytest.raises(TimeoutError):
        line.receive_into(memoryview(bytearray(1)), time.monotonic() - 0.001)
    assert line.alertness.awake_seconds


@pytest.mark.usefixtures("several_cores")
def test_what_is_gone_when_it_is_read_is_waited_for(pair, monkeypatch) -> None:
    line = Line(pair[0], noted(*[SHORT] * 8))
    monkeypatch.setattr(line.alertness, "wait", lambda descriptor: True)
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        line.receive_into(memoryview(bytearray(1)), begun + 0.1)
    assert 0.1 <= time.monotonic() - begun < 1


@pytest.mark.usefixtures("several_cores")
def test_what_comes_late_because_others_had_the_processor_counts_as_long(pair, monkeypatch) -> None:
    awake = noted(*[SHORT] * 4)
    pair[1].send(b"!")
    clock = iter([0.0, 0.004])
    monkeypatch.setattr(alertness.time, "monotonic", lambda: next(clock))
    assert awake.wait(pair[0].fileno())
    assert not awake.awake_seconds
