"""The order in which a queue is tried: pure, with a clock that is a number."""

from __future__ import annotations

from pathlib import Path

from node.delivery.schedule import FAILURES_OF_A_DESTINATION
from node.delivery.worklist import Fate, Worklist
from node.model import Blame
from node.spool import Entry, State


def entries(count: int) -> list[Entry]:
    return [
        Entry(name, State.QUEUED, Path(name), "pacs")
        for name in (f"{number:03d}" for number in range(count))
    ]


def names(batch: list[Entry]) -> str:
    return " ".join(entry.name for entry in batch)


def test_what_was_under_way_when_the_destination_went_keeps_its_place() -> None:
    work, queue = Worklist(), entries(6)
    batch = work.borrow(0, 2, lambda: iter([*queue]))
    assert names(batch) == "000 001"
    assert work.judge(batch[0], Blame.UNCLEAR) is Fate.PUT_OFF
    work.put_off(batch[0], due=1)
    work.give_back(batch)
    # Not yet due: the others go on, unless it is clear by now that the destination went.
    batch = work.borrow(0.5, 2, lambda: iter([*queue]))
    assert names(batch) == "001"
    work.give_back(batch)
    batch = work.borrow(0.5, 2, lambda: iter([*queue]), may_be_back=True)
    assert names(batch) == "000 001"
    work.give_back(batch)
    assert names(work.borrow(1, 2, lambda: iter([*queue]))) == "000 001"


def test_one_that_failed_twice_is_tried_after_the_others() -> None:
    work, queue = Worklist(), entries(6)
    for now in (0, 1):
        batch = work.borrow(now, 2, lambda: iter([*queue]))
        assert names(batch) == "000 001"
        work.judge(batch[0], Blame.UNCLEAR)
        work.put_off(batch[0], due=now + 1)
        work.give_back(batch)
    order = []
    while batch := work.borrow(9, 2, lambda: iter([*queue])):
        for entry in batch:
            order.append(entry)
            queue.remove(entry)
            work.settle(entry, delivered=True)
    assert names(order) == "001 002 003 004 005 000"


def test_many_that_fail_do_not_hold_up_those_behind_them() -> None:
    work, queue = Worklist(), entries(20)
    poison = queue[:10]
    delivered: list[Entry] = []
    rounds = 0
    while len(delivered) < 10:
        rounds += 1
        batch = work.borrow(rounds, 4, lambda: iter([*queue]))
        for entry in batch:
            if entry not in poison:
                delivered.append(entry)
                queue.remove(entry)
                work.settle(entry, delivered=True)
                continue
            fate = work.judge(entry, Blame.UNCLEAR)
            work.put_off(entry, due=rounds)
            if fate is Fate.DESTINATION_FAILS:
                break
        work.give_back(batch)
    assert delivered == [entry for entry in entries(20) if entry not in poison]
    # Each failed once, a few once more; the back-off was paid for no more than that.
    assert rounds <= 10 + FAILURES_OF_A_DESTINATION + 3
