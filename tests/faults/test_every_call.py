"""A process of the node is killed, or told of an error, at each of its system calls in turn.

    pytest tests/faults/test_every_call.py --long        reading calls too, and every error

The calls are those of a trace of the running node, so no call that it learns to make is left out:
for each thread and each kind of call the first, the second, and so on until one more did not come.
A receiver takes whatever thread is free, so there it is the Nth call of whichever makes so many.
After each the modality sends again, and in the end the ledger is held against every destination.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from faults.ledger import Ledger, at_downstream, in_archive, visible
from faults.made import STUDY, made
from faults.modality import Modality
from faults.serving import DELIVERER, RECEIVER, Downstream, Served, served
from faults.strace import CHANGES, OPENS, TELLS, Traced, attached, need_strace, threads_of
from peers import wait_until

#: A child that died so often is started again late: begin with a new supervisor then.
_DEATHS = 3
#: The short form leaves some calls out: of many writes, which are much alike, and of many opens.
_STEPS = {"write": 4, "openat": 2}
ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "EMFILE")


@dataclass(frozen=True)
class Point:
    """The Nth call of a kind, of one thread by all that it calls; of any where that is None."""

    role: str
    thread: frozenset[str] | None
    call: str
    number: int = 1

    def __str__(self) -> str:
        return f"{self.role}'s {self.call} {self.number}"


@dataclass
class Bench:
    """A running node, a modality, and what was done to them."""

    node: Served
    folder: Path
    modality: Modality
    downstream: Path | None = None
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(0, STUDY))
    done: list[str] = field(default_factory=list)
    deaths: int = 0
    kinds: list[str] = field(default_factory=list)
    _habits: dict[int, dict[int, frozenset[str]]] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.folder / "strace"

    def settle(self) -> None:
        """Wait until nothing is under way."""
        self.modality.close()
        wait_until(lambda: self.node.is_drained, f"delivered after {self.done[-1:]}")

    def send(self) -> None:
        self.modality.send_until_taken(made(next(self.numbers)))
        self.settle()

    def points(self, kinds: list[str]) -> list[Point]:
        """The first call of each kind of each thread, from traces of one instance."""
        self.kinds = kinds
        found = set()
        for role in (RECEIVER, DELIVERER):
            for calls in self.habits(self.node.one(role)).values():
                thread = calls if role == DELIVERER else None
                found.update(Point(role, thread, call) for call in calls)
        return sorted(found, key=str)

    def habits(self, pid: int) -> dict[int, frozenset[str]]:
        """Which calls the threads of a process make for one instance."""
        if pid not in self._habits:
            with attached(pid, self.log, f"trace={','.join(self.kinds)}") as traced:
                self.send()
            calls: dict[int, set[str]] = {}
            for thread, call in traced.counts():
                calls.setdefault(thread, set()).add(call)
            # The first thread only says that it lives.
            calls.pop(pid, None)
            self._habits[pid] = {thread: frozenset(those) for thread, those in calls.items()}
        return self._habits[pid]

    def thread_like(self, pid: int, calls: frozenset[str]) -> int:
        """The thread of a process that does what one of its predecessor's did."""
        habits = self.habits(pid)
        return max(habits, key=lambda thread: -len(habits[thread] ^ calls))

    @contextlib.contextmanager
    def injected(self, point: Point, fault: str) -> Iterator[Traced]:
        """Send an instance while a fault lies in wait."""
        pid = self.node.one(point.role)
        thread = None if point.thread is None else self.thread_like(pid, point.thread)
        inject = f"inject={point.call}:{fault}:when={point.number}"
        with attached(pid, self.log, f"trace={point.call}", inject, thread=thread) as traced:
            yield traced

    def is_quiet(self, pid: int, threads: int) -> bool:
        """Whether a process has ended, or has done all that there was to do."""
        try:
            return self.node.is_drained and len(threads_of(pid)) <= threads
        except OSError:
            return True

    def kill(self, point: Point) -> bool:
        """Send one instance; the process is killed at this call. False where it did not come."""
        pid = self.node.one(point.role)
        threads = len(threads_of(pid))
        instance = made(next(self.numbers))
        with self.injected(point, "signal=KILL") as traced:
            self.modality.send(instance)
            self.modality.close()
            wait_until(lambda: traced.was_killed or self.is_quiet(pid, threads), str(point))
        was_killed = traced.was_killed
        if was_killed:
            self.done.append(f"{point}: {traced.last}")
            self.revive(point.role, pid)
        self.modality.send_until_taken(instance)
        self.settle()
        return was_killed

    def revive(self, role: str, killed: int) -> None:
        """Wait for the successor, or begin anew where the supervisor would take its time."""
        self.deaths += 1
        if self.deaths % _DEATHS:
            self.node.one(role, besides=killed)
        else:
            self.node.crash()
            self.node.start()

    def fail(self, point: Point, error: str, *, for_ever: bool = False) -> bool:
        """Send one instance; a call fails. False where it did not come."""
        pid = self.node.one(point.role)
        threads = len(threads_of(pid))
        instance = made(next(self.numbers))
        when = f"{point.number}+" if for_ever else f"{point.number}"
        fault = replace(point, number=when)  # type: ignore[arg-type]
        with self.injected(fault, f"error={error}") as traced:
            answer = self.modality.send(instance)
            self.modality.close()
            wait_until(lambda: traced.injected or self.is_quiet(pid, threads), str(point))
        has_failed = bool(traced.injected)
        if has_failed:
            self.done.append(f"{point}: {error} answered {answer}: {traced.injected[0]}")
        # Taken, refused for want of resources (PS3.4 B.2.3), or no answer at all.
        assert answer is None or answer == 0 or answer >> 8 == 0xA7, self.done[-1:]
        assert self.node.is_up, "the node ended"
        self.modality.send_until_taken(instance)
        self.settle()
        return has_failed

    def judge(self) -> str:
        """Hold the ledger against every destination; return what is to be said."""
        told = Ledger(self.folder / "ledger").read()
        verdicts = []
        if visible(self.node.archive):
            verdicts.append(in_archive(self.node.archive, told))
        if self.downstream is not None:
            verdicts.append(at_downstream(self.downstream, told))
        assert self.node.set_aside() == []
        assert verdicts
        assert all(verdict.is_well for verdict in verdicts), [verdict.seen for verdict in verdicts]
        return "; ".join(map(str, verdicts))


@contextlib.contextmanager
def bench(folder: Path, mode: str, downstream: tuple[Downstream, Path] | None) -> Iterator[Bench]:
    """A node with one receiver that writes to a folder, forwards, relays, or relays and writes."""
    archive = replace(downstream[0], mode=mode.split()[0]) if downstream else None
    with served(folder / "node", archive=mode in KEEPING, downstream=archive) as node:
        modality = Modality(node.port, Ledger(folder / "ledger"))
        with contextlib.closing(modality):
            made_bench = Bench(node, folder, modality, downstream[1] if downstream else None)
            # What the first instance of a process does alone, as to import, is not of interest.
            made_bench.send()
            yield made_bench


#: What is only relayed is never in a file: there are few calls to fail.
MODES = ("disk", "forward", "relay", "relay and disk")
KEEPING = ("disk", "relay and disk")


@pytest.fixture
def to(mode: str, request: pytest.FixtureRequest) -> tuple[Downstream, Path] | None:
    """The downstream, where the mode has one."""
    if mode == "disk":
        return None
    found: tuple[Downstream, Path] = request.getfixturevalue("downstream")
    return found


@pytest.mark.peer
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("mode", MODES)
def test_killed_at_every_call(
    mode: str,
    to: tuple[Downstream, Path] | None,
    tmp_path: Path,
    is_long: bool,
    counted: list[str],
) -> None:
    need_strace()
    kinds = CHANGES + TELLS + (OPENS if is_long else [])
    with bench(tmp_path, mode, to) as run:
        for point in run.points(kinds):
            # A receiver does the same for a folder and for a forward.
            if mode == "forward" and point.role == RECEIVER and not is_long:
                continue
            step = 1 if is_long else _STEPS.get(point.call, 1)
            while run.kill(point):
                point = replace(point, number=point.number + step)
        verdict = run.judge()
    (tmp_path / "points").write_text("\n".join(run.done))
    counted.append(f"killed at {len(run.done)} calls in turn, {mode}: {verdict}")
    # A deliverer that forwards makes five: a sync, a message, three names removed.
    assert len(run.done) >= (2 if mode == "relay" else 4), run.done


@pytest.mark.peer
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("mode", MODES)
def test_an_error_at_every_call(
    mode: str,
    to: tuple[Downstream, Path] | None,
    tmp_path: Path,
    is_long: bool,
    counted: list[str],
) -> None:
    """The short form gives each call one of the errors, the long form each of them, once and for
    as long as the modality waits.
    """
    need_strace()
    errors = itertools.cycle(ERRORS)
    with bench(tmp_path, mode, to) as run:
        for point in run.points(CHANGES + OPENS):
            if mode == "forward" and point.role == RECEIVER and not is_long:
                continue
            for _ in ERRORS if is_long else ERRORS[:1]:
                error, now = next(errors), point
                while run.fail(now, error):
                    if is_long:
                        run.fail(now, error, for_ever=True)
                    step = 1 if is_long else _STEPS.get(point.call, 1)
                    now, error = replace(now, number=now.number + step), next(errors)
        verdict = run.judge()
    (tmp_path / "points").write_text("\n".join(run.done))
    counted.append(f"an error at {len(run.done)} calls in turn, {mode}: {verdict}")
    assert len(run.done) > (1 if mode == "relay" else 5), run.done
