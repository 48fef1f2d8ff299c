"""The loop of one destination: order, tries, what is set aside, what a broken disk does to it."""

from __future__ import annotations

import errno
import itertools
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import instances
import pytest
from peers import wait_until
from pydicom.uid import ExplicitVRLittleEndian

from node.delivery import attempt
from node.delivery.circuit import Circuit
from node.delivery.loop import BATCH, Loop
from node.delivery.memory import Memory, NoMemory
from node.delivery.schedule import ATTEMPTS_FOR_ONE_INSTANCE, Backoff
from node.dicom.part10 import FileMeta
from node.dicom.scan import scan
from node.model import Blame, Deferred, Delivered, Failed, Outcome
from node.pixels.files import write_file
from node.pixels.policy import Options
from node.pixels.stored import StoredInstance
from node.spool import Disk, Durability, Entry, Indexer, Spool, State, Tried
from node.spool.index import NAME, Unusable, read

OK = Delivered(destination="pacs", status=0)
REFUSED = Failed(destination="pacs", cause="0122")
DOWN = Deferred(destination="pacs", cause="refused", blame=Blame.DESTINATION)
NOT_NOW = Deferred(destination="pacs", cause="C000", blame=Blame.INSTANCE)


class Scripted:
    """A destination that answers as it was told to, by entry; otherwise it takes everything."""

    name = "pacs"
    at_once = 1

    def __init__(self, **answers: list[Outcome]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.announced: list[int] = []
        self.closed = 0

    def begin(self, entries: Iterable[Entry]) -> None:
        self.announced.append(len(list(entries)))

    def deliver(self, entry: Entry, instance: StoredInstance) -> Outcome:
        uid = instances.parts_of(entry.path)[0].MediaStorageSOPInstanceUID
        name = {"1.1": "a", "1.2": "b", "1.3": "c"}.get(uid, uid)
        self.asked.append(name)
        script = self.answers.get(name, [])
        return script.pop(0) if script else OK

    def settle(self) -> Deferred | None:
        return None

    def close(self) -> None:
        self.closed += 1


class Running:
    """A spool with a loop on a thread of its own."""

    def __init__(
        self,
        root: Path,
        destination: Scripted,
        disk: Disk | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.spool = Spool(root / "spool", disk or Disk(Durability.NONE))
        self.spool.add_destination("pacs")
        self.destination = destination
        self.stop = threading.Event()
        self.loop = Loop(
            lanes=[destination],
            spool=self.spool,
            backoff=Backoff(0.001, 0.002),
            stop=self.stop,
            memory=memory or NoMemory(),
        )
        self.thread = threading.Thread(target=self.loop.run, daemon=True)

    def put(self, *uids: str) -> list[Entry]:
        for uid in uids:
            data_set = instances.encoded(instances.image(SOPInstanceUID=uid))
            meta = FileMeta(
                sop_class_uid="1.2",
                sop_instance_uid=uid,
                transfer_syntax_uid=ExplicitVRLittleEndian,
            )
            with self.spool.begin() as incoming:
                scanned = scan(data_set, ExplicitVRLittleEndian)
                write_file(scanned, meta, incoming.file, Options())
                entry = incoming.commit()
            self.spool.fan_out([entry], ["pacs"])
        return self.queued

    def start(self) -> None:
        self.thread.start()

    @property
    def queued(self) -> list[Entry]:
        return list(self.spool.queued("pacs"))

    def wait_until_empty(self) -> None:
        wait_until(lambda: not self.queued, "nothing is queued", 10)

    def close(self) -> None:
        self.stop.set()
        self.loop.ring()
        if self.thread.ident is not None:
            self.thread.join(10)
            assert not self.thread.is_alive()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[list[Running]]:
    """Loops to be stopped after the test."""
    loops: list[Running] = []
    yield loops
    for loop in loops:
        loop.close()


SCRIPTS: dict[str, tuple[dict[str, list[Outcome]], list[str], list[str]]] = {
    "all taken, in order": ({}, ["a", "b", "c"], []),
    "one refused for good": ({"b": [REFUSED]}, ["a", "b", "c"], ["0122"]),
    "one not now: the others first": ({"a": [NOT_NOW]}, ["a", "b", "c", "a"], []),
    "all wait for a destination that is down": (
        {"a": [DOWN, DOWN]},
        ["a", "a", "a", "b", "c"],
        [],
    ),
    "one that is never taken": (
        {"b": [NOT_NOW] * 9},
        ["a", "b", "c", *["b"] * (ATTEMPTS_FOR_ONE_INSTANCE - 1)],
        [f"C000 (after {ATTEMPTS_FOR_ONE_INSTANCE} tries)"],
    ),
    "that the destination was down is not held against an instance": (
        {"a": [*[DOWN] * 9, NOT_NOW]},
        [*["a"] * 10, "b", "c", "a"],
        [],
    ),
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_order_and_outcome(case: str, tmp_path: Path, running: list[Running]) -> None:
    answers, asked, causes = SCRIPTS[case]
    loop = Running(tmp_path, Scripted(**answers))
    running.append(loop)
    loop.put("1.1", "1.2", "1.3")
    loop.start()
    loop.wait_until_empty()
    loop.close()
    assert loop.destination.asked == asked
    assert [failed.cause for failed in loop.spool.failed("pacs")] == causes
    progress = loop.loop.progress
    assert (progress.delivered, progress.failed) == (3 - len(causes), len(causes))


def test_what_is_not_what_was_written_is_set_aside_and_never_sent(
    tmp_path: Path, running: list[Running]
) -> None:
    loop = Running(tmp_path, Scripted())
    running.append(loop)
    first, second, third = loop.put("1.1", "1.2", "1.3")
    content = bytearray(first.path.read_bytes())
    content[-1] ^= 1
    first.path.write_bytes(content)
    second.path.write_bytes(b"")
    loop.start()
    loop.wait_until_empty()
    assert loop.destination.asked == ["c"]
    corrupt = sorted(path.name for path in (loop.spool.root / "corrupt" / "pacs").iterdir())
    assert corrupt == [first.name, second.name]
    assert third.name not in corrupt


@pytest.mark.parametrize("is_large", [False, True], ids=["read", "mapped"])
def test_an_entry_that_the_disk_cannot_give_back_holds_up_no_other(
    is_large: bool, tmp_path: Path, running: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad place on a disk, which cannot be had: the others go on, and it is kept."""
    monkeypatch.setattr(attempt, "_IN_MEMORY", 0 if is_large else 1 << 20)
    loop = Running(tmp_path, Scripted())
    running.append(loop)
    first, *_ = loop.put("1.1", "1.2", "1.3")
    bad = first.path.stat().st_ino
    real = os.pread

    def pread(descriptor: int, count: int, offset: int) -> bytes:
        if os.fstat(descriptor).st_ino == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", pread)
    loop.start()
    loop.wait_until_empty()
    assert loop.destination.asked == ["b", "c"]
    [failed] = loop.spool.failed("pacs")
    assert (failed.entry.name, failed.tries) == (first.name, ATTEMPTS_FOR_ONE_INSTANCE)
    assert failed.cause.startswith("its file cannot be read: Input/output error")


def test_what_comes_next_is_announced_in_batches(tmp_path: Path, running: list[Running]) -> None:
    loop = Running(tmp_path, Scripted())
    running.append(loop)
    loop.put(*(f"1.9.{n}" for n in range(BATCH + 1)))
    loop.start()
    loop.wait_until_empty()
    assert loop.destination.announced == [BATCH, 1]


def test_a_bell_wakes_it_at_once(tmp_path: Path, running: list[Running]) -> None:
    loop = Running(tmp_path, Scripted())
    loop.loop.look_every_seconds = 3600
    loop.loop.idle_seconds = 0.001
    running.append(loop)
    loop.put("1.1")
    loop.start()
    wait_until(lambda: loop.destination.closed, "it is idle")
    loop.put("1.2")
    loop.loop.ring()
    loop.wait_until_empty()


def test_its_association_is_kept_while_something_comes_now_and_then(
    tmp_path: Path, running: list[Running]
) -> None:
    loop = Running(tmp_path, Scripted())
    loop.loop.idle_seconds = 3600
    running.append(loop)
    loop.start()
    for number in range(5):
        loop.put(f"1.{number}")
        loop.loop.ring()
        loop.wait_until_empty()
    assert loop.destination.closed == 0


def test_what_somebody_dropped_is_passed_over(tmp_path: Path, running: list[Running]) -> None:
    loop = Running(tmp_path, Scripted(b=[NOT_NOW]))
    running.append(loop)
    first, second, _ = loop.put("1.1", "1.2", "1.3")
    real = loop.destination.begin

    def dropping(entries: Iterable[Entry]) -> None:
        real(entries)
        first.path.unlink(missing_ok=True)

    loop.destination.begin = dropping  # type: ignore[method-assign]
    loop.loop.backoff = Backoff(0.2, 0.2)
    loop.start()
    wait_until(lambda: loop.destination.asked == ["b", "c"], "b waits")
    second.path.unlink()
    loop.wait_until_empty()
    wait_until(lambda: loop.loop._work.next_due() is None, "b is forgotten")
    assert loop.destination.asked == ["b", "c"]
    assert loop.loop.progress.circuit is Circuit.CLOSED


def test_nothing_leaves_the_queue_before_it_is_settled(
    tmp_path: Path, running: list[Running]
) -> None:
    """What was delivered and cannot be settled is delivered again."""

    class Together(Scripted):
        at_once = 4
        settled = 0

        def settle(self) -> Deferred | None:
            seen.append((len(self.asked), len(loop.queued)))
            self.settled += 1
            return DOWN if self.settled == 1 else None

    seen: list[tuple[int, int]] = []
    lane = Together()
    loop = Running(tmp_path, lane)
    running.append(loop)
    loop.put(*(f"1.9.{number}" for number in range(10)))
    loop.start()
    loop.wait_until_empty()
    wait_until(lambda: loop.loop.progress.delivered == 10, "all are delivered")
    assert seen == [(4, 10), (8, 10), (12, 6), (14, 2)]
    assert loop.loop.progress.attempts == {"success": 10}


class Together(Scripted):
    """A lane that waits in its first delivery until all lanes are in theirs."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__()
        self.barrier = barrier

    def deliver(self, entry: Entry, instance: StoredInstance) -> Outcome:
        if not self.asked:
            self.barrier.wait(30)
        return super().deliver(entry, instance)


def test_several_lanes_deliver_at_the_same_time_and_each_entry_once(
    tmp_path: Path, running: list[Running]
) -> None:
    barrier = threading.Barrier(3)
    lanes = [Together(barrier) for _ in range(3)]
    loop = Running(tmp_path, lanes[0])
    loop.loop.lanes = lanes
    running.append(loop)
    uids = [f"1.9.{number}" for number in range(100)]
    loop.put(*uids)
    loop.start()
    loop.wait_until_empty()
    assert sorted(uid for lane in lanes for uid in lane.asked) == sorted(uids)
    wait_until(lambda: loop.loop.progress.delivered == len(uids), "all are counted")


def test_one_lane_alone_tries_a_destination_that_was_down(
    tmp_path: Path, running: list[Running]
) -> None:
    """While it is down there is one call for each back-off, however many lanes there are."""
    calls: list[float] = []
    up = threading.Event()

    class Down(Scripted):
        def deliver(self, entry: Entry, instance: StoredInstance) -> Outcome:
            if up.is_set():
                return super().deliver(entry, instance)
            calls.append(time.monotonic())
            return DOWN

    lanes = [Down() for _ in range(4)]
    loop = Running(tmp_path, lanes[0])
    loop.loop.lanes = lanes
    loop.loop.backoff = loop.loop._breaker.backoff = Backoff(0.05, 0.05)
    running.append(loop)
    loop.put(*(f"1.9.{number}" for number in range(50)))
    # It has failed already: otherwise all four may be under way the first time.
    loop.loop._breaker.failed(time.monotonic(), 1)
    loop.start()
    wait_until(lambda: len(calls) >= 5, "it was tried")
    up.set()
    loop.wait_until_empty()
    assert all(later - earlier >= 0.02 for earlier, later in itertools.pairwise(calls))
    assert loop.loop.progress.circuit is Circuit.CLOSED


def test_it_stops_in_the_middle_of_a_back_off(tmp_path: Path, running: list[Running]) -> None:
    loop = Running(tmp_path, Scripted(a=[DOWN] * 99))
    loop.loop.backoff = Backoff(3600, 3600)
    running.append(loop)
    loop.put("1.1")
    loop.start()
    wait_until(lambda: loop.loop.progress.waiting_for_seconds, "it waits")
    loop.close()
    assert len(loop.queued) == 1


class BrokenOnce(Disk):
    """A disk on which the n-th removal or renaming fails."""

    def __init__(self) -> None:
        super().__init__(Durability.NONE)
        self.to_fail = 0

    def _call(self) -> None:
        if self.to_fail:
            self.to_fail -= 1
            raise OSError(errno.EIO, "injected")

    def create(self, path: Path) -> int:
        self._call()
        return super().create(path)

    def move(self, source: Path, target: Path) -> None:
        self._call()
        super().move(source, target)

    def remove(self, path: Path) -> None:
        self._call()
        super().remove(path)


@pytest.mark.parametrize("outcome", [OK, REFUSED], ids=["delivered", "refused"])
@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_spool_that_cannot_be_written_for_a_while_does_not_end_it(
    outcome: Outcome, times: int, tmp_path: Path, running: list[Running]
) -> None:
    """What was delivered may be delivered again, which is harmless; nothing is lost or stuck."""
    disk = BrokenOnce()
    loop = Running(tmp_path, Scripted(a=[outcome] * 9), disk)
    running.append(loop)
    loop.put("1.1", "1.2")
    disk.to_fail = times
    loop.start()
    loop.wait_until_empty()
    assert loop.thread.is_alive()
    assert set(loop.destination.asked) == {"a", "b"}
    failed = [one.cause for one in loop.spool.failed("pacs")]
    assert failed == ([] if outcome is OK else ["0122"])


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Indexer]:
    """The index of the spool that `Running` uses."""
    index = Indexer(Spool(tmp_path / "spool", Disk(Durability.NONE)), again_seconds=0.05)
    yield index
    index.close()


class Telling:
    """A memory that counts what it is told and forgets it."""

    def __init__(self, *known: Tried) -> None:
        self.known = list(known)
        self.told: list[Tried | str] = []

    def recall(self, destination: str) -> list[Tried]:
        return self.known

    def note(self, tried: Tried) -> None:
        self.told.append(tried)

    def forget(self, destination: str, name: str) -> None:
        self.told.append(name)


def waiting(entry: Entry, tries: int, due: float) -> Tried:
    return Tried(
        destination="pacs", name=entry.name, state=State.QUEUED, tries=tries, due=due, cause="C000"
    )


def test_tries_and_due_time_survive_a_restart(
    tmp_path: Path, running: list[Running], index: Indexer
) -> None:
    first = Running(tmp_path, Scripted(b=[NOT_NOW] * 9), memory=index)
    running.append(first)
    _, second, _ = first.put("1.1", "1.2", "1.3")
    first.loop.backoff = Backoff(3600, 3600)
    before = time.time()
    first.start()
    wait_until(lambda: len(read(first.spool.root, "pacs")) == 1, "that b failed is known")
    wait_until(lambda: len(first.queued) == 1, "the others are delivered")
    first.close()
    index.close()
    [known] = read(first.spool.root, "pacs")
    assert (known.name, known.tries, known.cause) == (second.name, 1, "C000")
    assert known.sop_instance_uid == "1.2"
    assert before + 1800 <= known.due <= time.time() + 3600

    again = Indexer(first.spool)
    try:
        after = Running(tmp_path, Scripted(b=[NOT_NOW] * 9), memory=again)
        after.loop.backoff = Backoff(3600, 3600)
        running.append(after)
        after.put("1.3")
        after.start()
        wait_until(lambda: after.destination.asked == ["c"], "others go")
        wait_until(lambda: after.loop._work.next_due() is not None, "b waits")
        left = (after.loop._work.next_due() or 0) - time.monotonic()
        assert left == pytest.approx(known.due - time.time(), abs=5)
        assert after.loop._work.tries(second) == 1
    finally:
        again.close()


def test_tries_before_a_restart_count(tmp_path: Path, running: list[Running]) -> None:
    memory = Telling()
    loop = Running(tmp_path, Scripted(a=[NOT_NOW]), memory=memory)
    running.append(loop)
    [entry] = loop.put("1.1")
    memory.known = [waiting(entry, ATTEMPTS_FOR_ONE_INSTANCE - 1, 0)]
    loop.start()
    loop.wait_until_empty()
    loop.close()
    [failed] = loop.spool.failed("pacs")
    assert failed.tries == ATTEMPTS_FOR_ONE_INSTANCE
    [*_, last] = memory.told
    assert isinstance(last, Tried)
    assert (last.state, last.tries, last.cause[:4]) == (State.FAILED, failed.tries, "C000")


def test_a_due_time_of_another_clock_is_not_waited_for(
    tmp_path: Path, running: list[Running]
) -> None:
    memory = Telling()
    loop = Running(tmp_path, Scripted(), memory=memory)
    running.append(loop)
    [entry] = loop.put("1.1")
    memory.known = [waiting(entry, 1, time.time() + 1e9)]
    loop.start()
    loop.wait_until_empty()
    loop.close()
    assert memory.told == [entry.name]


def test_where_nothing_fails_nobody_is_told(
    tmp_path: Path, running: list[Running], index: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Telling()
    loop = Running(tmp_path, Scripted(), memory=memory)
    running.append(loop)
    loop.put(*(f"1.9.{number}" for number in range(10)))
    loop.start()
    loop.wait_until_empty()
    loop.close()
    assert memory.told == []

    def query(*_: object, **__: object) -> None:
        pytest.fail("the index was opened")

    monkeypatch.setattr(sqlite3, "connect", query)
    real = Running(tmp_path, Scripted(), memory=index)
    running.append(real)
    real.put(*(f"1.9.{number}" for number in range(10)))
    real.start()
    real.wait_until_empty()
    real.close()
    index.close()
    assert not (real.spool.root / NAME).exists()


def known(root: Path) -> bool:
    """Tell whether the index has a row; one that is being made cannot be read yet."""
    try:
        return bool(read(root, "pacs"))
    except Unusable:
        return False


def test_an_index_of_others_is_not_touched_by_what_is_delivered(
    tmp_path: Path, running: list[Running], index: Indexer
) -> None:
    loop = Running(tmp_path, Scripted(b=[REFUSED]), memory=index)
    running.append(loop)
    loop.put("1.1", "1.2")
    loop.start()
    loop.wait_until_empty()
    wait_until(lambda: known(loop.spool.root), "that b failed is known")
    watched = sqlite3.connect(loop.spool.root / NAME)
    try:
        before = watched.execute("PRAGMA data_version").fetchone()
        loop.put(*(f"1.9.{number}" for number in range(20)))
        loop.loop.ring()
        loop.wait_until_empty()
        loop.close()
        assert watched.execute("PRAGMA data_version").fetchone() == before
        assert index._pending == {}
    finally:
        watched.close()


def nothing(_: Path) -> None:
    """Leave it missing."""


UNUSABLE = {
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 64),
    "a folder": lambda path: path.mkdir(),
    "nothing": nothing,
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_with_an_unusable_index_delivery_goes_on_and_it_is_back(
    case: str, tmp_path: Path, running: list[Running], index: Indexer
) -> None:
    loop = Running(tmp_path, Scripted(a=[REFUSED], b=[NOT_NOW] * 9), memory=index)
    running.append(loop)
    loop.loop.backoff = Backoff(3600, 3600)
    UNUSABLE[case](loop.spool.root / NAME)
    loop.put("1.1", "1.2", "1.3")
    loop.start()
    wait_until(lambda: loop.destination.asked == ["a", "b", "c"], "all were tried")

    def states() -> list[State]:
        try:
            return [each.state for each in read(loop.spool.root, "pacs")]
        except Unusable:
            return []

    wait_until(lambda: states() == [State.FAILED, State.QUEUED], "the index is back")
