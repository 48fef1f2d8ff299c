"""A wake-up call that can be put off: for threads that wait in reserve.

Whoever leaves a post sets it to a moment later and is mostly back before; then nobody was woken.
Where there is no kernel of ours there is no timer, and the call comes at once.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import Final

from node.network.kernel import KERNEL

_NEVER: Final = -1


class Relief:
    """The call; one of those that wait for it hears it. One thread at a time may set it."""

    def __init__(self) -> None:
        if KERNEL is None:
            self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self._descriptor, self._state = KERNEL.relief()
        self._epoll = select.epoll()
        self._epoll.register(self._descriptor, select.EPOLLIN | select.EPOLLET)
        self._is_set = False

    def set(self, microseconds: int) -> None:
        """Call after so long, unless `cancel` or `set` comes before."""
        self._is_set = True
        if KERNEL is None:
            os.eventfd_write(self._descriptor, 1)
        else:
            KERNEL.set_relief(self._descriptor, self._state, microseconds)

    def cancel(self) -> None:
        """Do not call."""
        if not self._is_set:
            return
        self._is_set = False
        if KERNEL is None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._descriptor)
        else:
            KERNEL.set_relief(self._descriptor, self._state, _NEVER)

    def wait(self, seconds: float) -> None:
        """Wait for the call, at most so long."""
        if KERNEL is None:
            self._epoll.poll(seconds)
        else:
            KERNEL.await_relief(self._descriptor, self._epoll.fileno(), self._state, seconds)

    def close(self) -> None:
        """Give everything back; nobody may wait any more."""
        self._epoll.close()
        os.close(self._descriptor)
