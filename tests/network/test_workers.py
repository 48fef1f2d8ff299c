"""The threads that look after one epoll: who keeps watch, who goes with a task, who is called."""

from __future__ import annotations

import contextlib
import math
import os
import re
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from network.peers import wait_until

from node.network import relief, workers
from node.network.alertness import AWAKE_SECONDS
from node.network.relief import Relief
from node.network.workers import Workers


@pytest.fixture(params=[True, False], ids=["timer", "no timer"], autouse=True)
def has_timer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param and relief.KERNEL is None:
        pytest.skip("the kernel was not built")
    if not request.param:
        monkeypatch.setattr(relief, "KERNEL", None)
    return bool(request.param)


#: Without one a call comes at once.
WITH_TIMER = pytest.mark.parametrize("has_timer", [True], ids=["timer"], indirect=True)


class Duty:
    """A task for each byte that comes through a pipe, which ends when `go_on` is set."""

    def __init__(self) -> None:
        self.workers = Workers(self, "waits")
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK)
        self.workers.epoll.register(self.reader, select.EPOLLIN | select.EPOLLET)
        self.go_on = threading.Event()
        self.deadline = math.inf
        self.threads: set[int] = set()
        self.calls = self.begun = self.done = self.deadlines = self.ends = self.prepared = 0

    def give(self, count: int = 1) -> None:
        os.write(self.writer, b"!" * count)

    def attend(self, descriptor: int) -> None:
        assert descriptor == self.reader
        for _ in os.read(self.reader, 1000):
            self.workers.make_ready()
            self.workers.put(self._task)

    def _task(self) -> None:
        self.begun += 1
        self.threads.add(threading.get_ident())
        self.go_on.wait(10)
        self.done += 1

    def attend_to_call(self) -> None:
        self.calls += 1

    def prepare(self) -> None:
        self.prepared += 1

    def next_deadline(self) -> float:
        return self.deadline

    def attend_to_deadlines(self) -> None:
        if time.monotonic() >= self.deadline:
            self.deadline = math.inf
            self.deadlines += 1

    def end(self) -> None:
        self.ends += 1


class Watchman(Duty):
    """Looks at what comes, and has a task only of a `?`."""

    def attend(self, descriptor: int) -> None:
        for said in os.read(self.reader, 1000):
            self.calls += 1
            if said == ord("?"):
                self.workers.make_ready()
                self.workers.put(lambda: None)


def test_only_who_comes_back_from_a_task_waits_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no task, a byte of a request and then another, must not keep a processor busy."""
    waits = []
    monkeypatch.setattr(workers.Alertness, "wait", lambda self, descriptor: waits.append(1))
    watchman = Watchman()
    watchman.workers.start()
    try:
        for number in range(5):
            os.write(watchman.writer, b"!")
            wait_until(lambda: watchman.calls == number + 1, "looked at")  # noqa: B023
        assert len(waits) == watchman.prepared == 1
        os.write(watchman.writer, b"?")
        wait_until(lambda: len(waits) == 2, "back from a task")
        for number in range(5):
            os.write(watchman.writer, b"!")
            wait_until(lambda: watchman.calls == number + 7, "looked at")  # noqa: B023
        assert len(waits) == watchman.prepared == 2
    finally:
        watchman.workers.stop()
        assert watchman.workers.ended.wait(5)


def test_a_door_stays_awake_for_longer_than_an_association() -> None:
    one = Duty()
    for _ in range(10):
        one.workers._alertness.note(2 * AWAKE_SECONDS)
    expected = one.workers._alertness._can_be_awake
    assert (one.workers._alertness.awake_seconds > 2 * AWAKE_SECONDS) == expected
    one.workers.stop()


@pytest.fixture
def duty() -> Iterator[Duty]:
    duty = Duty()
    yield duty
    duty.go_on.set()
    duty.workers.stop()
    assert duty.workers.ended.wait(10)
    assert duty.ends == 1
    os.close(duty.reader)
    os.close(duty.writer)


def waiting() -> int:
    return sum(thread.name == "waits" for thread in threading.enumerate())


def test_the_call_comes_after_its_time_and_not_when_it_is_cancelled(has_timer: bool) -> None:
    call = Relief()
    begun = time.monotonic()
    call.set(20_000)
    call.wait(10)
    assert time.monotonic() - begun < 5
    assert not has_timer or time.monotonic() - begun >= 0.02
    for _ in range(2):
        call.set(1)
        call.cancel()
        begun = time.monotonic()
        call.wait(0.05)
        assert time.monotonic() - begun >= 0.05
    call.set(30_000_000)
    call.set(1)  # the last one counts
    begun = time.monotonic()
    call.wait(10)
    assert time.monotonic() - begun < 5
    call.close()


@WITH_TIMER
def test_a_call_that_is_put_off_comes_after_the_last_time_that_was_said() -> None:
    """The timer of an earlier time may run out meanwhile, which nobody is to hear."""
    call = Relief()
    heard: list[float] = []
    waiting = threading.Thread(target=lambda: (call.wait(10), heard.append(time.monotonic())))
    waiting.start()
    for _ in range(20):
        call.set(20_000)
        time.sleep(0.01)
        call.cancel()
    time.sleep(0.05)
    assert not heard
    begun = time.monotonic()
    call.set(20_000)
    for _ in range(20):
        time.sleep(0.005)
        call.set(20_000)
    last = time.monotonic()
    waiting.join(5)
    assert not waiting.is_alive()
    assert heard[0] >= begun + 0.12
    assert heard[0] < last + 2
    call.close()


def test_no_call_is_lost_that_is_set_while_the_timer_runs_out() -> None:
    call = Relief()
    is_over = False
    heard = threading.Semaphore(0)

    def wait() -> None:
        while not is_over:
            begun = time.monotonic()
            call.wait(20)
            assert time.monotonic() - begun < 10, "nobody called"
            heard.release()

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(5000):
        call.set(20)
        call.cancel()
        # So the timer runs out before, after and while the call is set again.
        until = time.perf_counter() + number % 100 * 1e-6
        while time.perf_counter() < until:
            pass
        while heard.acquire(blocking=False):
            pass
        call.set(100)
        assert heard.acquire(timeout=5), number
    is_over = True
    for thread in threads:
        while thread.is_alive():
            call.set(1)
            thread.join(0.01)
    call.close()


@WITH_TIMER
def test_a_call_that_is_cancelled_in_time_sets_no_timer_again() -> None:
    """To set it for each short task would cost more than much of the rest of it."""
    call = Relief()

    def left() -> float:
        """Seconds until the timer runs out."""
        told = Path(f"/proc/self/fdinfo/{call._descriptor}").read_text()
        seconds, nanoseconds = re.search(r"it_value: \((\d+), (\d+)\)", told).groups()
        return int(seconds) + int(nanoseconds) * 1e-9

    call.set(10_000_000)
    ends = time.monotonic() + left()
    while time.monotonic() < ends - 9.9:
        call.cancel()
        call.set(10_000_000)
    assert abs(time.monotonic() + left() - ends) < 0.05
    call.set(1_000_000)
    assert left() <= 1
    call.close()


def test_short_tasks_are_done_by_one_thread(duty: Duty, monkeypatch, has_timer: bool) -> None:
    monkeypatch.setattr(workers, "UNWATCHED_MICROSECONDS", 30_000_000)
    duty.go_on.set()
    duty.workers.start()
    for number in range(1, 11):
        if number == 3:
            duty.threads.clear()  # the second thread may have come when it was started
        duty.give()
        wait_until(lambda number=number: duty.done == number, "done")
    assert len(duty.threads) == 1 or not has_timer


def test_it_is_learnt_how_long_nothing_happened(duty: Duty, monkeypatch) -> None:
    noted: list[float] = []
    monkeypatch.setattr(duty.workers._alertness, "note", noted.append)
    duty.go_on.set()
    duty.workers.start()
    wait_until(lambda: duty.workers._is_watched, "somebody keeps watch")
    time.sleep(0.1)
    duty.give()
    wait_until(lambda: duty.done == 1, "done")
    assert 0.05 < noted[0] < 5


def test_nobody_waits_long_for_one_who_keeps_watch(duty: Duty) -> None:
    duty.workers.start()
    for number in range(1, 5):
        begun = time.monotonic()
        duty.give()
        wait_until(lambda number=number: duty.begun == number, "begun")
        assert time.monotonic() - begun < 1
    assert len(duty.threads) == 4


def test_one_in_reserve_is_called_when_nobody_keeps_watch(duty: Duty, monkeypatch) -> None:
    """It would find out by itself only when it has been idle for long."""
    monkeypatch.setattr(workers, "IDLE_SECONDS", 60)
    duty.go_on.set()
    duty.workers.start()
    duty.give()
    wait_until(lambda: duty.done == 1 and duty.workers._present == 2, "one keeps watch, one waits")
    duty.go_on.clear()
    duty.give()
    wait_until(lambda: duty.begun == 2, "one has gone")
    wait_until(lambda: duty.workers._is_watched, "the other has come", 5)


def test_one_thread_waits_and_another_stays_when_it_goes_with_a_task(duty: Duty) -> None:
    duty.workers.start()
    assert duty.workers.is_waiting
    for number in range(1, 4):
        duty.give()
        wait_until(lambda number=number: duty.begun == number, "begun")
        assert duty.workers.is_waiting
    assert waiting() == 4
    duty.workers.call()
    wait_until(lambda: duty.calls == 1, "attended to beside the tasks")


def test_many_tasks_at_a_time_have_a_thread_each(duty: Duty) -> None:
    duty.workers.start()
    duty.give(20)
    wait_until(lambda: duty.begun == 20, "all begun")
    duty.go_on.set()
    wait_until(lambda: duty.done == 20, "all done")
    wait_until(lambda: waiting() <= workers.MOST_WAITING, "no more wait than may")


def test_a_thread_that_has_finished_takes_the_next_task(duty: Duty) -> None:
    duty.go_on.set()
    duty.workers.start()
    for number in range(1, 51):
        duty.give()
        wait_until(lambda number=number: duty.done == number, "done")
    assert waiting() <= 3


def test_those_that_have_nothing_to_do_end_but_for_one(duty: Duty, monkeypatch) -> None:
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.1)
    duty.go_on.set()
    duty.workers.start()
    duty.give(6)
    wait_until(lambda: duty.done == 6, "done")
    wait_until(lambda: waiting() == 1, "one is left")
    duty.give()
    wait_until(lambda: duty.done == 7, "it is there")


def test_a_deadline_of_one_who_goes_is_kept_by_another(duty: Duty) -> None:
    """The other waits for ever, for all that it knew when it began to."""
    duty.workers.start()
    duty.give()
    wait_until(lambda: duty.begun == 1, "the second one waits alone")
    with duty.workers.lock:
        duty.deadline = time.monotonic() + 0.1  # as one does who attends
        duty.give()
    wait_until(lambda: duty.begun == 2, "goes")
    wait_until(lambda: duty.deadlines == 1, "kept")


def test_a_deadline_of_one_who_ends_because_enough_wait_is_kept(duty: Duty, monkeypatch) -> None:
    duty.workers.start()
    duty.give()
    wait_until(lambda: duty.begun == 1 and waiting() == 2, "one waits")
    monkeypatch.setattr(workers, "MOST_WAITING", 1)
    duty.deadline = time.monotonic() + 0.1
    duty.go_on.set()
    wait_until(lambda: waiting() == 1, "it ends")
    wait_until(lambda: duty.deadlines == 1, "kept")


def test_somebody_keeps_watch_even_where_nobody_is_to_wait(duty: Duty, monkeypatch) -> None:
    monkeypatch.setattr(workers, "MOST_WAITING", 0)
    duty.go_on.set()
    duty.workers.start()
    for number in range(1, 11):
        duty.give()
        wait_until(lambda number=number: duty.done == number, "done")


def test_where_no_thread_can_start_the_task_is_not_taken(duty: Duty, monkeypatch) -> None:
    def fails(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    duty.workers.start()
    wait_until(lambda: waiting() == 1, "waits")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fails)
        with duty.workers.lock, pytest.raises(RuntimeError):
            duty.workers.make_ready()
    duty.give()
    wait_until(lambda: duty.begun == 1, "still there")
    assert duty.workers.is_waiting


def test_a_failure_ends_all_who_wait(duty: Duty, monkeypatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    duty.workers.start()
    duty.give(3)
    wait_until(lambda: duty.begun == 3, "begun")
    duty.go_on.set()
    wait_until(lambda: duty.done == 3, "several wait")

    def broken() -> None:
        raise OSError("no memory")

    duty.attend_to_call = broken  # type: ignore[method-assign]
    duty.workers.call()
    assert duty.workers.ended.wait(10)
    assert not duty.workers.is_waiting
    wait_until(lambda: waiting() == 0, "all have gone")


def test_what_was_put_before_the_end_is_run(duty: Duty) -> None:
    duty.workers.start()
    with duty.workers.lock:
        for _ in range(5):
            duty.workers.make_ready()
            duty.workers.put(duty._task)
    duty.workers.stop()
    wait_until(lambda: duty.begun == 5, "all begun")
    assert duty.workers.ended.wait(10)
    duty.go_on.set()
    wait_until(lambda: duty.done == 5, "done")


def test_whoever_calls_after_the_end_writes_into_no_file(tmp_path) -> None:
    duty = Duty()
    duty.workers.start()
    called = duty.workers._called
    duty.workers.stop()
    assert duty.workers.ended.wait(10)
    with contextlib.ExitStack() as stack:
        opened = -1
        while opened < called:  # the lowest number that is free is the next
            opened = stack.enter_context((tmp_path / f"{opened}").open("wb")).fileno()
        duty.workers.call()
        duty.workers.stop()
        assert os.fstat(opened).st_size == 0
    assert duty.ends == 1
