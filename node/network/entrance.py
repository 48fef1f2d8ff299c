"""The listening socket, and how connections are taken from it: one at a time, by who has time.

Processes may share it. All are told of one who comes; a process lets one with less to do be the
first to take it, for a few milliseconds. Whoever calls this holds the lock of the door.
"""

from __future__ import annotations

import contextlib
import errno
import math
import select
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from node.network.ports import as_people_write_it
from node.network.workers import Unlocked

#: No descriptor left: let associations end before accepting again.
_PAUSE_SECONDS: Final = 0.1
#: A connection is left to a process that has less to do for so long, so many times.
_DEFERENCE_SECONDS: Final = 0.001
_MOST_DEFERENCES: Final = 4
#: One that does not take it is not deferred to again for so long.
_PRECEDENCE_SECONDS: Final = 0.01
#: One thread is woken for one that comes; who else has come is told after it was let in.
_LISTENED_TO: Final = select.EPOLLIN | select.EPOLLET
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class NoRoom(Exception):
    """Somebody has come, and there is no descriptor for a connection."""


class Entrance:
    """A listening socket that is watched."""

    def __init__(
        self,
        listening: socket.socket,
        epoll: select.epoll,
        unlocked: Unlocked,
        others_have_fewer: Callable[[], bool],
    ) -> None:
        self._listening = listening
        self._family = listening.family
        self._epoll = epoll
        self._unlocked = unlocked
        self._others_have_fewer = others_have_fewer
        self._defer_again = 0.0
        #: When a pause ends, on the monotonic clock.
        self.deadline = math.inf
        self.accepted = 0

    @property
    def descriptor(self) -> int:
        """Return the file descriptor, -1 when closed."""
        return self._listening.fileno()

    @property
    def is_open(self) -> bool:
        """Tell whether somebody may come in, now or after a pause."""
        return self.descriptor >= 0

    def open(self) -> None:
        """Be told of those who come."""
        self._listening.setblocking(False)
        self._epoll.register(self._listening, _LISTENED_TO)

    def close(self) -> None:
        """Leave who comes to other processes on the same socket, or refused."""
        if self.is_open:
            with contextlib.suppress(OSError):
                self._epoll.unregister(self._listening)
            self._listening.close()
        self.deadline = math.inf

    def accept(self) -> tuple[socket.socket, Any] | None:
        """Take one connection, and who it is from; others wait for the next turn.

        None where nobody is there any more. `NoRoom` is raised where there is no descriptor left;
        `listen` or `pause` has to be called then.
        """
        self._defer()
        try:
            # As `accept` does, but for two enumerations that it makes anew each time: 10 us of the
            # 280 that a short association takes, with what they push out of the caches.
            descriptor, address = self._listening._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise NoRoom from error
            self.listen()  # this one was reset before it was accepted
            return None
        self.listen()
        sock = socket.socket(self._family, socket.SOCK_STREAM, 0, descriptor)
        if sock.gettimeout() is not None:  # a program that embeds us may have set a default
            sock.settimeout(None)
        self.accepted += 1
        return sock, as_people_write_it(address)

    def listen(self) -> None:
        """Be told of one more who has come, or who comes."""
        self._epoll.modify(self._listening, _LISTENED_TO)

    def pause(self, now: float) -> None:
        """Let nobody in for a moment."""
        self.deadline = now + _PAUSE_SECONDS

    def attend_to_deadline(self, now: float) -> None:
        """Let others in again, where a pause is over."""
        if self.deadline <= now:
            self.deadline = math.inf
            self.listen()

    def _defer(self) -> None:
        """Let a process with less to do come first, for as long as it takes what comes."""
        if time.monotonic() < self._defer_again:
            return
        for _ in range(_MOST_DEFERENCES):
            if not self._others_have_fewer():
                return
            with self._unlocked:
                time.sleep(_DEFERENCE_SECONDS)
        self._defer_again = time.monotonic() + _PRECEDENCE_SECONDS
