"""A child process of the node: a receiver or the deliverer. Run by the supervisor, not by people.

    python -m node.service.process receiver|deliverer PLAIN SECURED PLACES READING WRITING REPORT

The numbers are inherited descriptors: the listening sockets (-1 for none), the file of places for
associations, the bell's two ends, and the pipe for reports. Settings come as one line of JSON on
stdin, which then stays open for as long as the supervisor lives: when it closes, the child finishes
what is under way and ends. SIGTERM asks for the same; so does SIGUSR1, after which a receiver
leaves new associations to other processes instead of rejecting them and gives those that run an
hour. The first report says that the child is at work.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
import time
from types import FrameType
from typing import Protocol

from node.service import logs
from node.service.audit import open_trail
from node.service.bell import Bell
from node.service.deliverer import Deliverer
from node.service.doors import Doors
from node.service.node import open_spool
from node.service.receiver import Receiver
from node.service.report import Report
from node.settings import Settings

#: Seconds between two reports; the supervisor takes a child for hung after many of them.
REPORT_EVERY = 1.0
#: Seconds that running associations have to end when the node stops.
DRAIN_SECONDS = 30.0
#: The deliverer works with what the receivers leave: under a load that takes every core, a tenth
#: of one. Many small instances come in a third faster for it.
DELIVERER_NICENESS = 10
#: The same when other processes go on with the work: a long transfer ends in its own time.
LEAVE_SECONDS = 3600.0
#: How often a process that leaves looks whether it may go, in seconds.
_LOOK_EVERY = 0.05


class Work(Protocol):
    """What a child does until it is asked to stop."""

    def tick(self) -> None:
        """Do what is due once a second; raises where the work cannot go on."""

    def report(self) -> Report:
        """Say what was done."""

    def leave(self) -> None:
        """Leave new work to others, and go on with what is under way."""

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing is under way."""

    def stop(self) -> None:
        """Finish what is under way."""


class Receiving:
    """The work of a receiver."""

    def __init__(self, settings: Settings, bell: Bell, doors: Doors) -> None:
        self._receiver = Receiver(settings, open_spool(settings), bell, open_trail(settings).record)
        self._receiver.start(doors)

    def tick(self) -> None:
        """Release what is idle; raise where nobody can get in: the process is started again."""
        self._receiver.tick()

    def report(self) -> Report:
        """Say what was received."""
        return Report(
            tally=self._receiver.tally,
            active_associations=self._receiver.associations,
            at_work=self._receiver.at_work,
            turned_away=self._receiver.turned_away,
            destinations=self._receiver.progress,
            has_room=self._receiver.has_room(),
            disk_failure=self._receiver.disk_failure,
        )

    def leave(self) -> None:
        """Leave new connections to other receivers."""
        self._receiver.leave()

    @property
    def is_idle(self) -> bool:
        """Tell whether nobody is here."""
        return self._receiver.is_idle

    def stop(self) -> None:
        """Take no new association and let those that run end."""
        self._receiver.stop(DRAIN_SECONDS)


class Delivering:
    """The work of the deliverer."""

    def __init__(self, settings: Settings, bell: Bell) -> None:
        # What waits here is safe; who sends is waiting for an answer. It is not worth failing for.
        with contextlib.suppress(OSError):
            os.nice(DELIVERER_NICENESS)
        trail = open_trail(settings)
        self._deliverer = Deliverer(settings, open_spool(settings), bell, trail, trail.record)
        self._deliverer.start()

    def tick(self) -> None:
        """Raise where a loop has died: the process ends and is started again."""
        if not self._deliverer.is_alive:
            raise RuntimeError("a delivery loop ended")

    def report(self) -> Report:
        """Say what was delivered."""
        return Report(destinations=self._deliverer.progress)

    def leave(self) -> None:
        """Nothing: there is never more than one deliverer, so none goes on beside it."""

    @property
    def is_idle(self) -> bool:
        """Tell that stopping is all there is to do."""
        return True

    def stop(self) -> None:
        """Finish the instances that are being sent."""
        self._deliverer.stop()


def main(arguments: list[str]) -> None:
    """Do the work of one child."""
    role, numbers = arguments[0], [int(number) for number in arguments[1:]]
    *doors, reading, writing, reporting = numbers
    settings = Settings.decode(sys.stdin.buffer.readline())
    logs.configure(settings.log)
    asked = _signals()
    # What was imported stays. To look through it for garbage again and again takes 20 ms each time,
    # for which every association waits.
    gc.collect()
    gc.freeze()
    bell = Bell(reading, writing)
    work: Work = (
        Receiving(settings, bell, Doors.inherited(*doors))
        if role == "receiver"
        else Delivering(settings, bell)
    )
    reporter = Reporter(reporting)
    try:
        going = True
        while going:
            work.tick()
            reporter.send(work.report())
            going = _may_go_on(asked, REPORT_EVERY)
        if _is_to_leave(asked):
            _finish_in_peace(work, reporter, asked)
    finally:
        work.stop()
    reporter.send(work.report())


def _finish_in_peace(work: Work, reporter: Reporter, asked: int) -> None:
    """Let all that is under way end, until somebody wants it to end now."""
    work.leave()
    now = report_at = time.monotonic()
    deadline = now + LEAVE_SECONDS
    while not work.is_idle and now < deadline and _may_go_on(asked, _LOOK_EVERY):
        now = time.monotonic()
        if now >= report_at:
            work.tick()
            reporter.send(work.report())
            report_at = now + REPORT_EVERY


def _signals() -> int:
    """Return a descriptor from which the signals that came are read, one byte each."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def ask(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writing, bytes([number]))

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, ask)
    # Ctrl-C reaches the whole group of processes; the supervisor decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return reading


def _may_go_on(asked: int, seconds: float) -> bool:
    """Wait for so long; False when something came that ends the work."""
    ends = select.poll()
    ends.register(asked, select.POLLIN)
    ends.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    return not ends.poll(seconds * 1000)


def _is_to_leave(asked: int) -> bool:
    """Tell whether SIGUSR1 came, and no SIGTERM."""
    with contextlib.suppress(BlockingIOError):
        numbers = os.read(asked, 64)
        return signal.SIGUSR1 in numbers and signal.SIGTERM not in numbers
    return False


class Reporter:
    """Writes reports into a pipe without waiting: a supervisor that does not read loses reports,
    and nothing else. A line of which the pipe took a part is finished before the next one.
    """

    def __init__(self, writing: int) -> None:
        self._writing = writing
        self._rest = b""

    def send(self, report: Report) -> None:
        """Write a report, or drop it where the one before is still not through."""
        with contextlib.suppress(OSError):
            self._write(self._rest)
            if not self._rest:
                self._write(report.encode())

    def _write(self, data: bytes) -> None:
        if data:
            self._rest = data[os.write(self._writing, data) :]


if __name__ == "__main__":
    main(sys.argv[1:])
