"""Threads that look after one epoll by turns, and each do what comes of it themselves.

One of them keeps watch: it waits for events, awake where they mostly come at once, and attends to
them. Where a task comes of that it leaves and runs the task itself: nothing is handed from thread
to thread, which costs more than a short association does. The others wait in reserve. One of them
is called when nobody has kept watch for a moment; a thread whose task was short is back before, and
nobody is woken. So short tasks are done by one thread, one after the other, and do not compete for
the interpreter.

Before a thread leaves somebody else is there, if need be a new one. At most `MOST_WAITING` wait,
and those that had nothing to do for `IDLE_SECONDS` end, but for one.

What is attended to is told by `Duty`, whose methods are called by one thread at a time. Where one
raises, nobody keeps watch any more. `call` and `stop` may be called from any thread.
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

from node.network.alertness import Alertness
from node.network.relief import Relief

#: Must not raise.
Task: TypeAlias = Callable[[], None]

#: Long enough for modalities that open an association for each instance.
IDLE_SECONDS: Final = 1.0
#: A burst of short associations on two or four cores uses no more at a time.
MOST_WAITING: Final = 8
#: Nobody keeps watch for so long at most. A C-ECHO with its association takes a quarter of it.
UNWATCHED_MICROSECONDS: Final = 1000
#: Who calls again and again closes and connects in between, which takes longer than to say what is
#: next on an association; who found us asleep would wait for that too.
_AWAKE_SECONDS: Final = 150e-6
_AT_ONCE: Final = 0
#: Attended to before others, who wait for the lock, have their turn.
_MOST_EVENTS: Final = 64


class Duty(Protocol):
    """What the threads are there for.

    Its methods are called with the lock held, and must not call `call` or `stop`. One that lets
    go of it for a moment (`unlocked`) finds what others may have changed.
    """

    def attend(self, descriptor: int) -> None:
        """Look at what is watched and has an event."""

    def attend_to_call(self) -> None:
        """Look at what was changed by another thread."""

    def prepare(self) -> None:
        """Get ready: a thread begins to keep watch."""

    def next_deadline(self) -> float:
        """Return when something is to be done even if nothing happens, on the monotonic clock."""

    def attend_to_deadlines(self) -> None:
        """Do what is due."""

    def end(self) -> None:
        """Leave nothing behind; nothing else is called any more."""


class Unlocked:
    """A context in which a lock that is held is not. (One made by a generator takes 1 us more.)"""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.release()

    def __exit__(self, *failure: object) -> None:
        self._lock.acquire()


class Workers:
    """The threads; what they wait for is registered with `epoll`."""

    def __init__(self, duty: Duty, name: str) -> None:
        self.epoll = select.epoll()
        #: Nobody keeps watch any more, and what was waited for is closed.
        self.ended = threading.Event()
        #: Held by the thread that attends, which lets others have it in a context of `unlocked`.
        self.lock = threading.Lock()
        self.unlocked = Unlocked(self.lock)
        self._duty = duty
        self._name = name
        self._called = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.epoll.register(self._called, select.EPOLLIN)
        self._relief = Relief()
        #: Of how soon something happens to what is watched.
        self._alertness = Alertness(_AWAKE_SECONDS)
        self._stopping = False
        #: Threads that keep watch, wait in reserve, or are about to.
        self._present = 0
        self._is_watched = False
        #: When the one that keeps watch will look at the clock again.
        self._alarm = math.inf
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
        """Let nobody keep watch any more; tasks that run go on."""
        with self.lock:
            self._stopping = True
            if self._present:
                self._call_all()
            elif not self.ended.is_set():
                self._end()

    @property
    def is_waiting(self) -> bool:
        """Tell whether somebody keeps watch, and will go on to."""
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
        """Keep watch or wait in reserve, and return a task; None to a thread that may end."""
        with self.lock:
            if not is_new:
                self._present += 1
            try:
                enough = MOST_WAITING + len(self._tasks)
                is_needed = self._present <= enough or not self._is_watched
                return self._await_task() if is_needed else None
            except BaseException:
                self._stopping = True
                raise
            finally:
                self._leave()

    def _await_task(self) -> Task | None:
        idle_at = time.monotonic() + IDLE_SECONDS
        while not self._tasks and not self._stopping:
            if not self._is_watched:
                self._keep_watch()
            elif (left := idle_at - time.monotonic()) > 0:
                self._wait_in_reserve(left)
            else:
                return None
        return self._tasks.popleft() if self._tasks else None

    def _keep_watch(self) -> None:
        """Attend to what happens until there is a task."""
        self._relief.cancel()
        self._is_watched = True
        try:
            self._duty.prepare()
            # One who was served may call again at once. What else happens is not waited for awake:
            # a peer that says little, again and again, would keep a processor busy.
            self._attend_once(may_be_awake=True)
            while not self._tasks and not self._stopping:
                self._attend_once(may_be_awake=False)
        finally:
            self._is_watched = False

    def _attend_once(self, may_be_awake: bool) -> None:
        self._alarm = self._duty.next_deadline()
        with self.unlocked:
            events = self._await_events(may_be_awake)
        for descriptor, _ in events:
            if descriptor == self._called:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._called)
                self._duty.attend_to_call()
            else:
                self._duty.attend(descriptor)
        # Deadlines that came with these events are looked at in the next turn.
        if time.monotonic() >= self._alarm:
            self._duty.attend_to_deadlines()

    def _await_events(self, may_be_awake: bool) -> list[tuple[int, int]]:
        begun = time.monotonic()
        if may_be_awake and self._alertness.wait(self.epoll.fileno()):
            return self.epoll.poll(0, _MOST_EVENTS)
        events = self.epoll.poll(_seconds_until(self._alarm), _MOST_EVENTS)
        if may_be_awake:
            self._alertness.note(time.monotonic() - begun)
        return events

    def _wait_in_reserve(self, seconds: float) -> None:
        if self._duty.next_deadline() < self._alarm:
            self._call()  # it comes from what this thread has done, and the other cannot know
        with self.unlocked:
            self._relief.wait(seconds)

    def _leave(self) -> None:
        """Go; what this thread would have seen to is seen to by others."""
        self._present -= 1
        if self._stopping and not self._present:
            if not self.ended.is_set():
                self._end()
        elif self._stopping:
            self._call_all()
        elif self._tasks:
            self._relief.set(_AT_ONCE)
        elif not self._is_watched:
            self._relief.set(UNWATCHED_MICROSECONDS)
        elif self._duty.next_deadline() < self._alarm:
            self._call()

    def _call(self) -> None:
        if not self.ended.is_set():
            with contextlib.suppress(OSError):
                os.eventfd_write(self._called, 1)

    def _call_all(self) -> None:
        """Each one that hears it leaves, and calls the next."""
        self._call()
        self._relief.set(_AT_ONCE)

    def _end(self) -> None:
        self._duty.end()
        self.epoll.close()
        self._relief.close()
        # Whoever still calls must not write into another file that has this number by then.
        self.ended.set()
        os.close(self._called)


def _seconds_until(moment: float) -> float:
    """Return what `epoll.poll` takes: -1 where it is to wait for ever."""
    return -1 if moment == math.inf else max(0.0, moment - time.monotonic())
