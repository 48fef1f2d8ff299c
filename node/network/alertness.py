"""Whether to wait awake, a moment, for what mostly comes at once.

To fall asleep and be woken costs some 20 us, on both sides of a connection: more than a peer on the
same machine or in the same rack takes to say what it says next. So where the last waits were short
the next one begins awake. Where they were long, as with most modalities, or where all cores are
busy, it does not. Python's lock is free meanwhile, and so is the processor for whoever wants it.
"""

from __future__ import annotations

import os
from typing import Final

from node.network.kernel import KERNEL

#: So long a wait is short. Twice what it costs to sleep.
MOST_MICROSECONDS: Final = 50
_MOST_SECONDS: Final = MOST_MICROSECONDS * 1e-6
#: As a processor guesses branches: short waits count up to a most, long ones down to 0.
_MOST: Final = 8
_ENOUGH: Final = 4


class Alertness:
    """What is known of waits of one kind; threads that share it may lose a count."""

    def __init__(self) -> None:
        self._can_be_awake = KERNEL is not None and len(os.sched_getaffinity(0)) > 1
        self._short = 0

    @property
    def microseconds(self) -> int:
        """Return how long to wait awake; 0 where that is not worth it."""
        return MOST_MICROSECONDS if self._short >= _ENOUGH else 0

    def wait(self, descriptor: int) -> bool:
        """Wait awake if that is worth it; True when something can be read.

        Otherwise the caller waits in its own way, and tells `note_sleep`.
        """
        if self._short < _ENOUGH or not KERNEL.wait_awake(descriptor, MOST_MICROSECONDS):
            return False
        if self._short < _MOST:
            self._short += 1
        return True

    def note(self, seconds: float) -> None:
        """Learn how long something was waited for."""
        if seconds > _MOST_SECONDS:
            self._short = max(0, self._short - 1)
        elif self._can_be_awake:
            self._short = min(_MOST, self._short + 1)
