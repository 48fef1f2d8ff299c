"""A bell: whoever committed an entry rings, the deliverer wakes. It works between processes.

Whoever hears it lets more come before looking (`gather`), since many entries cost little more than
one. So who has just rung need not ring again: what is committed meanwhile is seen. A ring that
finds the pipe full is no loss: the bell is ringing already. A lost bell costs at most the second
after which the deliverer looks by itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time

#: Entries are gathered until nobody has rung for so long, and for at most so many seconds.
QUIET_SECONDS = 0.05
GATHER_SECONDS = 1.0
#: So long a ring stands for the next ones: less, as nobody looks sooner than that after it.
_STANDS_SECONDS = 0.04


class Bell:
    """A pipe that carries no meaning but "look". Descriptors can be inherited by name."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading = reading
        self.writing = writing
        self._poll = select.poll()
        self._poll.register(reading, select.POLLIN)
        self._rung = -_STANDS_SECONDS

    @classmethod
    def make(cls) -> Bell:
        """Make a new bell."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        return cls(reading, writing)

    def ring(self) -> None:
        """Wake whoever waits. No failure of it may be taken for one of what was committed."""
        now = time.monotonic()
        if now - self._rung < _STANDS_SECONDS:
            return
        self._rung = now
        with contextlib.suppress(OSError):
            os.write(self.writing, b"!")

    def wait(self, seconds: float) -> bool:
        """Wait for a ring, at most so long; tell whether there was one.

        Where there was, `gather` before anything is looked at.
        """
        if not self._poll.poll(seconds * 1000):
            return False
        with contextlib.suppress(BlockingIOError):
            while os.read(self.reading, 4096):
                pass
        return True

    def gather(self, stop: threading.Event) -> None:
        """Let more come while they do, and in any case what one ring stands for; or stop."""
        until = time.monotonic() + GATHER_SECONDS
        while not stop.is_set():
            if not self.wait(QUIET_SECONDS):
                return
            if time.monotonic() >= until:
                # What rings from now on is heard afterwards.
                stop.wait(QUIET_SECONDS)
                return

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self.reading)
        os.close(self.writing)
