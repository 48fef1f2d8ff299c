"""The child processes of a node: started, heard, restarted with a throttle, stopped.

A child that dies is started again at once; one that keeps dying soon after its start is started
ever later, up to `SLOWEST_RESTART`. A child that has not reported for `SILENCE_SECONDS` hangs and
is killed.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

from node.service.bell import Bell
from node.service.doors import Doors
from node.service.report import Report, version_in
from node.settings import Settings

log = logging.getLogger(__name__)

RECEIVER = "receiver"
DELIVERER = "deliverer"

FIRST_RESTART = 0.1
SLOWEST_RESTART = 10.0
#: A child that lived so long was healthy: its next death is restarted at once.
HEALTHY_SECONDS = 10.0
#: Thirty missed reports; encoding one very large instance does not stop them.
SILENCE_SECONDS = 30.0


@dataclass(slots=True)
class Child:
    """One child process and what it reported."""

    role: str
    settings: Settings
    process: subprocess.Popen[bytes]
    reports: int
    started: float
    heard: float
    report: Report | None = None
    #: The version that wrote its reports, where they are not in our format.
    other_version: str = ""
    #: Its reports have ended: it is about to end.
    has_hung_up: bool = False
    is_killed: bool = False
    _partial: bytes = b""

    @property
    def is_ready(self) -> bool:
        """Tell whether it has begun its work; one of another version has when it says anything."""
        return self.report is not None or bool(self.other_version)

    def read_reports(self, now: float) -> None:
        """Take what it has written; a line that is no report is skipped."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.reports, 65536):
                self._partial += data
            self.has_hung_up = True
        *lines, self._partial = self._partial.split(b"\n")
        for line in lines:
            self.heard = now
            try:
                self.report = Report.decode(line)
            except ValueError:
                self.other_version = version_in(line)

    def hangs(self, now: float) -> bool:
        """Tell whether it has been silent for too long."""
        return now - self.heard > SILENCE_SECONDS

    def ask_to_stop(self) -> None:
        """Ask it to finish what is under way and end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def ask_to_leave(self) -> None:
        """Ask the same, and a receiver to leave new associations to others from now on."""
        if self.process.poll() is None:
            number = signal.SIGUSR1 if self.role == RECEIVER else signal.SIGTERM
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it now. One that waits for a disk that is gone ends only with that."""
        self.is_killed = True
        self.process.kill()

    def close(self) -> None:
        """Give its descriptors back; its process has ended."""
        os.close(self.reports)
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()


def start(role: str, settings: Settings, bell: Bell, doors: Doors, lock: int) -> Child:
    """Start a child. The spool's lock goes with it, so that an orphan still holds the spool.

    Raises OSError where there is no memory, no process or no descriptor left.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    own = [bell.reading, bell.writing, writing, lock]
    open_doors = [number for number in doors.descriptors if number >= 0]
    arguments = [*doors.descriptors, bell.reading, bell.writing, writing]
    try:
        process = subprocess.Popen(
            # -P: the package that runs, not one that happens to lie in the working directory.
            [sys.executable, "-P", "-m", "node.service.process", role, *map(str, arguments)],
            stdin=subprocess.PIPE,
            pass_fds=[*own, *open_doors] if role == RECEIVER else own,
        )
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    now = time.monotonic()
    child = Child(role, settings, process, reading, now, now)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(settings.encode().encode() + b"\n")
        process.stdin.flush()
    return child


@dataclass(slots=True)
class Throttle:
    """When a child of one role may be started again."""

    _delay: dict[str, float] = field(default_factory=dict)
    _due: dict[str, list[float]] = field(default_factory=dict)

    def died(self, role: str, lived: float, now: float) -> float:
        """Note a death and return the seconds until the next start."""
        last = self._delay.get(role, 0.0)
        delay = 0.0 if lived >= HEALTHY_SECONDS else min(SLOWEST_RESTART, last * 2 or FIRST_RESTART)
        self._delay[role] = delay
        self.plan(role, now + delay)
        return delay

    def plan(self, role: str, when: float) -> None:
        """Let a child be started at a time."""
        self._due.setdefault(role, []).append(when)

    def seconds_left(self, now: float) -> float:
        """Return the seconds until a child is to be started; infinity where none is."""
        planned = itertools.chain.from_iterable(self._due.values())
        return max(0.0, min(planned, default=math.inf) - now)

    def forget_plans(self) -> None:
        """Start none of the children that are planned."""
        self._due.clear()

    def due(self, now: float) -> list[str]:
        """Return the roles to start now, one for each death."""
        ready = []
        for role, times in self._due.items():
            ready += [role for due in times if due <= now]
            times[:] = [due for due in times if due > now]
        return ready


def describe_end(process: subprocess.Popen[bytes]) -> str:
    """Return how a process ended, in words."""
    code = process.returncode
    if code is None or code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}, perhaps out of memory" if name == "SIGKILL" else name
