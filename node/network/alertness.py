"""Whether to wait awake, a moment, for what mostly comes at once.

To fall asleep and be woken costs some 20 us, on both sides of a connection: more than a peer on the
same machine or in the same rack takes to say what it says next. So where the last waits were short
the next one begins awake. Where they were long, as with most modalities, or because others have the
processor, it does not; nor where a server has several associations, which use what a sleeping one
leaves. (Requestors do not know of each other: they only learn that waits have become long.)
Python's lock is free meanwhile.
"""

from __future__ import annotations

import os
import time
from typing import Final

from node.network.kernel import KERNEL

#: A wait is short up to this: what sleeping costs both sides, and a little more.
AWAKE_SECONDS: Final = 50e-6
#: As a processor guesses branches: a short wait counts one up, a long one down, between 0 and this.
_HIGHEST_COUNT: Final = 8
_ENOUGH: Final = 4


class Alertness:
    """What is known of waits of one kind; threads that share it may lose a count.

    A wait is short, and one that begins awake stays so, for up to `most` seconds.
    """

    def __init__(self, most: float = AWAKE_SECONDS) -> None:
        self._most = most
        self._can_be_awake = KERNEL is not None and len(os.sched_getaffinity(0)) > 1
        #: Whether several wait at a time.
        self.is_crowded = False
        self._count = 0

    @property
    def awake_seconds(self) -> float:
        """Return how long to wait awake; 0 where that is not worth it."""
        return self._most if self._count >= _ENOUGH and not self.is_crowded else 0.0

    def wait(self, descriptor: int) -> bool:
        """Wait awake if that is worth it; True when something can be read.

        Otherwise the caller waits in its own way, and tells `note` how long that took.
        """
        if self._count < _ENOUGH or self.is_crowded:
            return False
        begun = time.monotonic()
        has_come: bool = KERNEL.wait_awake(descriptor, self._most)
        # Where others had the processor meanwhile it was long, whatever has come.
        self._learn(has_come and time.monotonic() - begun <= self._most)
        return has_come

    def note(self, seconds: float) -> None:
        """Learn how long something was waited for."""
        self._learn(seconds <= self._most)

    def _learn(self, was_short: bool) -> None:
        if not was_short:
            self._count = max(0, self._count - 1)
        elif self._count < _HIGHEST_COUNT and self._can_be_awake:
            self._count += 1
