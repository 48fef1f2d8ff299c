"""The census: limits that hold for all processes, and places that a killed one gives back."""

import os
import subprocess
import sys

import pytest

from node.network.census import Census
from node.network.limits import Limits

LIMITS = Limits(associations=5, associations_per_peer=2)
HOLD = """
import signal, sys
from node.network.census import Census
from node.network.limits import Limits
census = Census(Limits(associations=5, associations_per_peer=2), int(sys.argv[1]))
print(*[census.take(address) for address in sys.argv[2:]], flush=True)
if sys.stdin.read() == "leave":
    census.leave()
    print(flush=True)
    signal.pause()
"""


class Other:
    """Another process that takes places and holds them until it is killed."""

    def __init__(self, places: int, *addresses: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(places), *addresses],
            pass_fds=[places], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.took = [word == "True" for word in self.process.stdout.readline().split()]

    def leave(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("leave")
        self.process.stdin.close()
        assert self.process.stdout.readline() == "\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("shared", [False, True])
def test_the_limits_hold_in_one_process(shared: bool) -> None:
    places = os.memfd_create("places") if shared else None
    census = Census(LIMITS, places)
    assert [census.take("a") for _ in range(3)] == [True, True, False]
    assert [census.take(address) for address in "bcde"] == [True, True, True, False]
    census.ended("a")
    assert [census.take(address) for address in "ef"] == [True, False]
    for address in "abcde":
        census.ended(address)
    assert [census.take("a") for _ in range(3)] == [True, True, False]


def test_the_limits_hold_for_all_processes_and_a_kill_gives_back() -> None:
    places = os.memfd_create("places")
    census = Census(LIMITS, places)
    assert census.take("a")
    other = Other(places, "a", "a", "b", "c", "d", "e")
    try:
        assert other.took == [True, False, True, True, True, False]
        assert not census.take("f")
        other.process.send_signal(19)  # one that is stopped keeps its places
        assert not census.take("f")
    finally:
        other.kill()
    assert [census.take(address) for address in "abcd"] == [True] * 4
    assert not census.take("e")


def test_who_has_less_to_do_is_known_to_the_others() -> None:
    places = os.memfd_create("places")
    census = Census(LIMITS, places)
    other = Other(places, "a", "b")
    try:
        census.visitor_came()
        assert not census.others_have_fewer(over=0)
        assert census.take("c")
        assert not census.others_have_fewer(over=0)
        assert census.take("d")
        assert census.others_have_fewer(over=0)
        assert not census.others_have_fewer(over=1)
        census.ended("d")
        assert not census.others_have_fewer(over=0)
        census.visitor_came()
        assert census.others_have_fewer(over=0)
        census.visitor_went()
        assert not census.others_have_fewer(over=0)
    finally:
        other.kill()


def test_who_was_killed_or_has_left_has_not_less_to_do() -> None:
    places = os.memfd_create("places")
    leaving = Other(places)
    census = Census(LIMITS, places)
    assert census.take("a")
    assert census.others_have_fewer(over=0)
    leaving.kill()
    assert not census.others_have_fewer(over=0)
    staying = Other(places)
    assert census.others_have_fewer(over=0)
    staying.leave()
    assert not census.others_have_fewer(over=0)
    staying.kill()
    census.leave()
    assert not census.others_have_fewer(over=0)
    census.ended("a")
    assert census.take("b")


def test_without_others_nobody_has_less_to_do() -> None:
    census = Census(LIMITS)
    assert census.take("a")
    assert not census.others_have_fewer(over=0)


def test_a_closed_census_leaves_its_file_alone() -> None:
    """It may be closed by then, and its descriptor be another file's."""
    places = os.memfd_create("places")
    census = Census(LIMITS, places)
    assert census.take("a")
    census.visitor_came()
    census.close()
    os.ftruncate(places, 0)
    census.visitor_went()
    assert os.fstat(places).st_size == 0
    os.close(places)
    census.ended("a")
    assert census.take("b")
