"""The supervisor's decisions, with children that are not processes."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.network.tally import Tally
from node.service import children, systemd
from node.service.bell import Bell
from node.service.children import DELIVERER, RECEIVER, Child
from node.service.doors import Doors
from node.service.report import Report
from node.service.supervisor import Supervisor
from node.settings import NodeSettings, Settings, SpoolSettings, StatusSettings


class Process:
    """A process that ends when the test says so, or when it is killed."""

    stdin = None
    count = 0

    def __init__(self) -> None:
        Process.count += 1
        self.pid = Process.count
        self.returncode: int | None = None
        self.signals: list[int] = []

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        self.signals.append(number)

    def kill(self) -> None:
        self.returncode = -signal.SIGKILL


class Started:
    """What `children.start` is here: counts, and fails when asked to."""

    def __init__(self) -> None:
        self.fails = False
        self.children: list[Child] = []

    def __call__(self, role: str, settings: Settings, *_: object) -> Child:
        if self.fails:
            raise OSError(24, "Too many open files")
        reading = os.open("/dev/null", os.O_RDONLY)
        now = time.monotonic()
        child = Child(role, settings, Process(), reading, now, now)  # type: ignore[arg-type]
        child.report = Report()
        self.children.append(child)
        return child

    def alive(self, role: str) -> list[Child]:
        return [c for c in self.children if c.role == role and c.process.poll() is None]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    started = Started()
    monkeypatch.setattr(children, "start", started)
    return started


@pytest.fixture
def node(tmp_path: Path, started: Started) -> Iterator[Supervisor]:
    settings = Settings(
        node=NodeSettings(port=0, receivers=2, state_directory=tmp_path / "state"),
        spool=SpoolSettings(reserve_bytes=0, reserve_percent=0),
        status=StatusSettings(port=0),
    )
    node = Supervisor(settings, lambda: settings)
    node._start_all()
    yield node
    node._doors.close()


def turn(node: Supervisor, now: float) -> None:
    node._look_after(now)
    for role in node._throttle.due(now):
        node._start(role)


def test_a_start_that_is_planned_is_forgotten_at_a_reload(
    node: Supervisor, started: Started
) -> None:
    now = time.monotonic()
    for child in started.alive(DELIVERER) + started.alive(RECEIVER):
        child.process.kill()
    node._look_after(now)
    node._take_new_settings()
    for later in range(10):
        turn(node, now + later)
    assert len(started.alive(DELIVERER)) == 1
    assert len(started.alive(RECEIVER)) == 2
    assert node._is_complete()


def test_a_new_deliverer_waits_for_the_old_one_which_is_killed_in_the_end(
    node: Supervisor, started: Started
) -> None:
    now = time.monotonic()
    [old] = started.alive(DELIVERER)
    node._take_new_settings()
    node._take_new_settings()
    for later in range(30):
        turn(node, now + later)
        assert started.alive(DELIVERER) == [old]
    assert not node._is_complete()
    for _ in range(2):
        turn(node, now + 36)
    [new] = started.alive(DELIVERER)
    assert new is not old


def test_a_child_that_cannot_be_started_is_tried_again(node: Supervisor, started: Started) -> None:
    now = time.monotonic()
    started.alive(RECEIVER)[0].process.kill()
    started.fails = True
    for later in range(20):
        turn(node, now + later)
    assert len(started.alive(RECEIVER)) == 1
    started.fails = False
    turn(node, now + 25)
    assert len(started.alive(RECEIVER)) == 2


def test_what_a_leaving_child_did_is_counted(node: Supervisor, started: Started) -> None:
    started.alive(RECEIVER)[0].report = Report(tally=Tally(instances=7), active_associations=1)
    node._take_new_settings()
    assert node.snapshot().instances_total == 7
    assert node.snapshot().associations == 1


def test_the_watchdog_is_fed_while_a_child_is_gone_and_not_while_one_hangs(
    node: Supervisor, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(systemd, "notify", said.append)
    now = time.monotonic()
    started.alive(DELIVERER)[0].process.kill()
    node._look_after(now)
    node._feed_watchdog(now)
    assert said == ["WATCHDOG=1"]
    node._feed_watchdog(now + 60)
    assert said == ["WATCHDOG=1"]


def test_a_child_that_the_kernel_does_not_let_go_of_costs_nothing(
    node: Supervisor, started: Started, caplog: pytest.LogCaptureFixture
) -> None:
    """It has closed its reports, is killed once, and the loop does not spin until it ends."""
    [stuck] = started.alive(DELIVERER)
    stuck.process.kill = lambda: None  # type: ignore[method-assign]
    now = time.monotonic()
    for child in started.children:
        child.heard = now + 60
    stuck.heard = now
    for later in range(40, 50):
        node._look_after(now + later)
    assert caplog.text.count("hangs: killing it") == 1
    assert stuck.has_hung_up
    begin = time.monotonic()
    node._wait()
    assert time.monotonic() - begin >= 0.015


def test_the_next_start_ends_the_wait(node: Supervisor, started: Started) -> None:
    now = time.monotonic()
    assert node._throttle.seconds_left(now) == float("inf")
    started.alive(RECEIVER)[0].process.kill()
    node._look_after(now)
    assert node._throttle.seconds_left(now) == pytest.approx(children.FIRST_RESTART)
    assert node._throttle.seconds_left(now + 1) == 0


def test_one_more_child_than_wanted_is_no_harm(node: Supervisor) -> None:
    node._start(RECEIVER)
    assert node._is_complete()


def test_no_descriptor_is_lost_where_a_process_cannot_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    bell = Bell.make()
    monkeypatch.setattr(subprocess, "Popen", fail)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="memory"):
        children.start(RECEIVER, Settings(), bell, Doors(), 0)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    bell.close()
