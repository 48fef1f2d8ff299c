"""Threads that run one association after another.

To start a thread costs as much as a short association takes otherwise, so one that has finished
waits a moment for the next task. No more threads than tasks at the busiest are ever started, and
at most `MOST_IDLE` wait, for `IDLE_SECONDS`. Any thread may call `run`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

#: Long enough for modalities that open an association for each instance.
IDLE_SECONDS: Final = 1.0
#: A burst of short associations on two or four cores uses no more at a time.
MOST_IDLE: Final = 8


class Workers:
    """Threads for tasks, which must not raise."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._idle = 0

    def run(self, task: Callable[[], None]) -> None:
        """Run `task` in a thread; RuntimeError where none can be started."""
        with self._lock:
            if self._idle:
                self._idle -= 1
                self._tasks.put(task)
                return
        threading.Thread(target=self._work, args=(task,), daemon=True).start()

    def _work(self, task: Callable[[], None] | None) -> None:
        while task is not None:
            task()
            task = None  # what it holds must not wait with us
            with self._lock:
                if self._idle >= MOST_IDLE:
                    return
                self._idle += 1
            task = self._next()

    def _next(self) -> Callable[[], None] | None:
        try:
            return self._tasks.get(timeout=IDLE_SECONDS)
        except Empty:
            with self._lock:
                if not self._tasks.empty():
                    return self._tasks.get()
                self._idle -= 1
                return None
