"""Connections that are over, until their peers close them (PS3.8 Table 9-10, Sta13).

Those that were turned away, and those whose association was released. What still comes is read and
discarded, so that the last PDU is not lost in a reset. Who does not close in time, says too much,
or has waited longest where too many do, is closed; with a reset where it has not taken what it was
sent, or the kernel would keep that for it.

Most of those whose association was released close at once. They are not watched until they have
had time for that: then nobody is woken for it.

Whoever calls this holds the lock of the door.
"""

from __future__ import annotations

import math
import select
import socket
from collections.abc import Callable
from typing import Final

from node.network.limits import Limits
from node.network.line import close_for_good, unsent_bytes
from node.network.visitor import Queue, Visitor

_PEEK: Final = socket.MSG_PEEK | socket.MSG_DONTWAIT
#: An association that is over: its peer has closed by then, or is watched.
_LOOK_SECONDS: Final = 0.02


class Departures:
    """The connections that are over."""

    def __init__(
        self, epoll: select.epoll, limits: Limits, tell_none_is_released: Callable[[], None]
    ) -> None:
        """`tell_none_is_released` is called when the last whose association was released goes."""
        self._limits = limits
        self._tell_none_is_released = tell_none_is_released
        self._refused = Queue(epoll, limits.refuse_seconds)
        self._released = Queue(epoll, limits.close_seconds)
        #: Those that have time to close, and since when.
        self._unwatched: list[tuple[socket.socket, float]] = []
        self._look_again = math.inf

    def __len__(self) -> int:
        return len(self._refused) + self.released

    def refuse(self, visitor: Visitor, pdu: bytes, now: float) -> None:
        """Send the last PDU to one that is turned away; it may be empty."""
        try:
            visitor.say_last(pdu)
        except OSError:
            visitor.sock.close()
            return
        self._put(visitor, self._refused, now)

    def see_off(self, sock: socket.socket, now: float) -> None:
        """Take the connection of an association that was released."""
        self._make_room()
        # Those before it are looked at here and not when the next one comes, who would wait for it.
        looked_at, self._unwatched = self._unwatched, [(sock, now)]
        self._look_again = now + _LOOK_SECONDS
        self._look_at(looked_at)

    def attend(self, descriptor: int) -> None:
        """Look at a connection on which something happened, if it is one of these."""
        visitor = self._refused.get(descriptor) or self._released.get(descriptor)
        if visitor is not None and self._has_left(visitor):
            self._dismiss(visitor)

    def next_deadline(self) -> float:
        """Return when one has waited long enough, on the monotonic clock."""
        return min(self._look_again, self._refused.deadline, self._released.deadline)

    def attend_to_deadlines(self, now: float) -> None:
        """Close those that have waited long enough."""
        if self._look_again <= now:
            looked_at, self._unwatched = self._unwatched, []
            self._look_again = math.inf
            self._look_at(looked_at)
        for queue in (self._refused, self._released):
            while queue.deadline <= now:
                self._dismiss(queue.first)

    def dismiss_one(self) -> None:
        """Close the one that has waited longest where most do; there has to be one."""
        if queue := max(self._refused, self._released, key=len):
            self._dismiss(queue.first)
        else:
            close_for_good(self._unwatched.pop(0)[0])
            self._tell()

    @property
    def released(self) -> int:
        """Return how many there are whose association was released."""
        return len(self._released) + len(self._unwatched)

    def close(self) -> None:
        """Close all; what is under way to them still gets there."""
        for sock, _ in self._unwatched:
            sock.close()
        self._unwatched.clear()
        for queue in (self._refused, self._released):
            while queue:
                visitor = queue.first
                queue.remove(visitor)
                visitor.sock.close()
        self._tell()

    def _put(self, visitor: Visitor, queue: Queue, since: float) -> None:
        """Let one wait and be watched."""
        self._make_room()
        queue.put(visitor, since)
        if not queue.watch(visitor):
            self._dismiss(visitor)

    def _make_room(self) -> None:
        if len(self) >= self._limits.leaving:
            self.dismiss_one()

    def _has_left(self, visitor: Visitor) -> bool:
        """Tell whether the peer is done; one that only said its last may still be reading ours."""
        most = self._limits.closing_bytes
        if not visitor.has_left(most):
            return False
        try:
            return visitor.discarded > most or not unsent_bytes(visitor.sock)
        except OSError:
            return True

    def _look_at(self, released: list[tuple[socket.socket, float]]) -> None:
        for sock, since in released:
            if _has_closed(sock):
                sock.close()
            else:
                self._put(Visitor(sock), self._released, since)
        self._tell()

    def _dismiss(self, visitor: Visitor) -> None:
        if visitor.queue is not None:
            visitor.queue.remove(visitor)
        close_for_good(visitor.sock)
        self._tell()

    def _tell(self) -> None:
        if not self.released:
            self._tell_none_is_released()


def _has_closed(sock: socket.socket) -> bool:
    """Tell whether the peer has, and has taken all; what it said before is left to be read."""
    try:
        return not sock.recv(1, _PEEK) and not unsent_bytes(sock)
    except BlockingIOError:
        return False
    except OSError:
        return True
