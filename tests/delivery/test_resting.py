"""How long a lane waits before it looks again: never not at all where it may not call."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from delivery.test_loop import Running, Scripted

from node.delivery.circuit import Circuit
from node.delivery.loop import Loop
from node.delivery.schedule import Backoff
from node.model import Blame


class Recorded(threading.Condition):
    """Writes down how long it was to be waited for, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return False


def resting(root: Path, lanes: int) -> tuple[Loop, Recorded]:
    """A loop that is not started, with two entries in its queue."""
    prepared = Running(root, Scripted())
    prepared.put("1.1", "1.2")
    changed = Recorded()
    destinations = [Scripted() for _ in range(lanes)]
    return Loop(
        destinations, prepared.spool, Backoff(0, 0), prepared.stop, _changed=changed
    ), changed


def test_one_that_is_paused_while_it_is_down_waits(tmp_path: Path) -> None:
    loop, changed = resting(tmp_path, lanes=1)
    loop._back_off("it is down")
    loop.spool.pause("pacs")
    assert loop._borrow() == []
    loop._rest(loop._rings, 1.0)
    assert changed.waits == [pytest.approx(1.0)]


def test_a_lane_waits_for_what_comes_of_the_one_that_tries(tmp_path: Path) -> None:
    loop, changed = resting(tmp_path, lanes=2)
    first, second = loop._borrow()
    loop._work.judge(first, Blame.INSTANCE)
    loop._work.put_off(first, due=0.0)
    loop._work.give_back([second])
    loop._back_off("it is down")
    assert loop._borrow() == [first, second]
    assert loop.progress.circuit is Circuit.HALF_OPEN
    assert loop._borrow() == []
    loop._rest(loop._rings, 1.0)
    assert changed.waits == [pytest.approx(1.0)]
