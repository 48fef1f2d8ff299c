"""Threads that look after one epoll together, and each do what comes of it themselves.

One of those that wait takes an event, attends to it, and where a task comes of that it runs the
task itself: nothing is handed from thread to thread, which costs more than a short association
does. Before it goes, somebody else is there: another that waits, or a thread that is started.
One that has finished its task waits again. At most `MOST_WAITING` wait, and those that had nothing
to do for `IDLE_SECONDS` end, but for one.

What is attended to is told by `Duty`, whose methods are called by one thread at a time. Where one
raises, nobody waits any more. `call` and `stop` may be called from any thread.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

#: Must not raise.
Task: TypeAlias = Callable[[], None]

#: Long enough for modalities that open an association for each instance.
IDLE_SECONDS: Final = 1.0
#: A burst of short associations on two or four cores uses no more at a time.
MOST_WAITING: Final = 8


class Duty(Protocol):
    """What the threads are there for."""

    def attend(self, descriptor: int) -> None:
        """Look at what is watched and has an event."""

    def attend_to_call(self) -> None:
        """Look at what was changed by another thread."""

    def next_deadline(self) -> float:
        """Return when something is to be done even if nothing happens, on the monotonic clock."""

    def attend_to_deadlines(self) -> None:
        """Do what is due."""

    def end(self) -> None:
        """Leave nothing behind; nothing else is called any more."""


class Workers:
    """The threads; what they wait for is registered with `epoll`."""

    def __init__(self, duty: Duty, name: str) -> None:
        self.epoll = select.epoll()
        #: Nobody waits any more, and what was waited for is closed.
        self.ended = threading.Event()
        #: Held by the thread that attends.
        self.lock = threading.Lock()
        self._duty = duty
        self._name = name
        self._called = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.epoll.register(self._called, select.EPOLLIN)
        self._stopping = False
        #: Threads that wait, attend, or are about to.
        self._present = 0
        #: When each of those that wait will look at the clock again.
        self._alarms: dict[int, float] = {}
        self._tasks: deque[Task] = deque()

    def start(self) -> None:
        """Start the first thread."""
        with self.lock:
            self._start_thread()

    def call(self) -> None:
        """Let a thread look again."""
        with self.lock:
            self._call()

    def stop(self) -> None:
        """Let nobody wait any more; tasks that run go on."""
        with self.lock:
            self._stopping = True
            if self._present:
                self._call()
            elif not self.ended.is_set():
                self._end()

    @property
    def is_waiting(self) -> bool:
        """Tell whether somebody waits, and will go on to."""
        return self._present > 0 and not self._stopping

    def make_ready(self) -> None:
        """Called while attending, before `put`: see to it that somebody stays when a thread goes.

        RuntimeError where none can be started: no task can be taken then.
        """
        if self._present <= len(self._tasks) + 1:
            self._start_thread()

    def put(self, task: Task) -> None:
        """Called while attending: have `task` run by this thread, or by another if it has one."""
        self._tasks.append(task)

    # -- a thread ------------------------------------------------------------------------------

    def _start_thread(self) -> None:
        threading.Thread(target=self._work, name=self._name, daemon=True).start()
        self._present += 1

    def _work(self) -> None:
        thread = threading.current_thread()
        task = self._next(is_new=True)
        while task is not None:
            task()
            task = None  # what it holds must not wait with us
            thread.name = self._name
            task = self._next(is_new=False)

    def _next(self, is_new: bool) -> Task | None:
        """Wait, attend, and return a task; None where this thread is needed no more."""
        with self.lock:
            if not is_new:
                self._present += 1
            try:
                too_many = self._present > MOST_WAITING + len(self._tasks)
                return None if too_many else self._await_task()
            except BaseException:
                self._stopping = True
                raise
            finally:
                self._go()

    def _await_task(self) -> Task | None:
        idle_at = time.monotonic() + IDLE_SECONDS
        while not self._tasks and not self._stopping:
            is_spare = self._present > 1
            if self._attend_once(idle_at if is_spare else math.inf):
                idle_at = time.monotonic() + IDLE_SECONDS
            elif time.monotonic() >= idle_at and self._present > 1:
                return None
        return self._tasks.popleft() if self._tasks else None

    def _attend_once(self, until: float) -> bool:
        """Wait for events, at most `until`, and attend to them; False if there was none."""
        alarm = min(until, self._duty.next_deadline())
        self._alarms[threading.get_ident()] = alarm
        self.lock.release()
        try:
            events = self.epoll.poll(_seconds_until(alarm))
        finally:
            self.lock.acquire()
            del self._alarms[threading.get_ident()]
        for descriptor, _ in events:
            if descriptor != self._called:
                self._duty.attend(descriptor)
            elif not self._stopping:  # or all are to see it
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._called)
                self._duty.attend_to_call()
        self._duty.attend_to_deadlines()
        return bool(events)

    def _go(self) -> None:
        """Leave; what this thread would have seen to is seen to by others."""
        self._present -= 1
        if self._stopping and not self._present:
            if not self.ended.is_set():
                self._end()
        elif self._tasks or self._stopping or self._alarm_is_missing():
            self._call()

    def _alarm_is_missing(self) -> bool:
        return self._duty.next_deadline() < min(self._alarms.values(), default=math.inf)

    def _call(self) -> None:
        if not self.ended.is_set():
            with contextlib.suppress(OSError):
                os.eventfd_write(self._called, 1)

    def _end(self) -> None:
        self._duty.end()
        self.epoll.close()
        # Whoever still calls must not write into another file that has this number by then.
        self.ended.set()
        os.close(self._called)


def _seconds_until(moment: float) -> float:
    """Return what `epoll.poll` takes: -1 where it is to wait for ever."""
    return -1 if moment == math.inf else max(0.0, moment - time.monotonic())
