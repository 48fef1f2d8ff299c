"""A bell: whoever committed an entry rings, the deliverer wakes. It works between processes.

A ring that finds the pipe full is no loss: the bell is ringing already. A lost bell costs at most
the second after which the deliverer looks by itself.
"""

from __future__ import annotations

import contextlib
import os
import select


class Bell:
    """A pipe that carries no meaning but "look". Descriptors can be inherited by name."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading = reading
        self.writing = writing
        self._poll = select.poll()
        self._poll.register(reading, select.POLLIN)

    @classmethod
    def make(cls) -> Bell:
        """Make a new bell."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        return cls(reading, writing)

    def ring(self) -> None:
        """Wake whoever waits. No failure of it may be taken for one of what was committed."""
        with contextlib.suppress(OSError):
            os.write(self.writing, b"!")

    def wait(self, seconds: float) -> bool:
        """Wait for a ring, at most so long; tell whether there was one."""
        if not self._poll.poll(seconds * 1000):
            return False
        with contextlib.suppress(BlockingIOError):
            while os.read(self.reading, 4096):
                pass
        return True

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self.reading)
        os.close(self.writing)
