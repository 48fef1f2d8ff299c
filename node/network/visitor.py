"""Connections at the door, before they ask for an association and after it."""

from __future__ import annotations

import math
import select
import socket
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

_WATCHED: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET


@dataclass(slots=True, eq=False)
class Visitor:
    """A connection at the door, which may wait in one `Queue`."""

    sock: socket.socket
    address: Any = None
    #: When it came; this and the deadline on the monotonic clock.
    came_at: float = 0.0
    queue: Queue | None = None
    deadline: float = 0.0
    is_watched: bool = False
    discarded: int = 0

    def say_last(self, pdu: bytes) -> None:
        """Send `pdu`, which may be empty, and the end; OSError where the line broke."""
        if pdu:
            self.sock.send(pdu, socket.MSG_DONTWAIT)
        self.sock.shutdown(socket.SHUT_WR)

    def has_left(self, most: int) -> bool:
        """Discard what has come; True at the end of the stream, or beyond `most` bytes of it."""
        try:
            while data := self.sock.recv(8192, socket.MSG_DONTWAIT):
                self.discarded += len(data)
                if self.discarded > most:
                    return True
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True


class Queue(OrderedDict[int, Visitor]):
    """Connections by descriptor that are given the same time: the first to come is first to go."""

    def __init__(self, epoll: select.epoll, seconds: float) -> None:
        super().__init__()
        self._epoll = epoll
        self._seconds = seconds

    def put(self, visitor: Visitor, now: float) -> None:
        """Let `visitor` wait here from `now` on the monotonic clock."""
        visitor.queue, visitor.deadline = self, now + self._seconds
        self[visitor.sock.fileno()] = visitor

    def watch(self, visitor: Visitor) -> bool:
        """Be told of what happens on a connection; False where that cannot be."""
        try:
            self._epoll.register(visitor.sock, _WATCHED)
        except OSError:
            return False
        visitor.is_watched = True
        return True

    def remove(self, visitor: Visitor) -> None:
        """Let `visitor` wait here no more."""
        visitor.queue = None
        del self[visitor.sock.fileno()]
        if visitor.is_watched:
            visitor.is_watched = False
            self._epoll.unregister(visitor.sock)

    @property
    def first(self) -> Visitor:
        """Return who has waited longest; there has to be one."""
        return next(iter(self.values()))

    @property
    def deadline(self) -> float:
        """Return when the first one has waited long enough, on the monotonic clock."""
        for visitor in self.values():
            return visitor.deadline
        return math.inf
