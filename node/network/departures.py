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
        self._unwatched: list[Visitor] = []
        self._look_again = math.inf

    def __len__(self) -> int:
        return len(self._refused) + len(self._released)

    def refuse(self, visitor: Visitor, pdu: bytes, now: float) -> None:
        """Send the last PDU to one that is turned away; it may be empty."""
        try:
            visitor.say_last(pdu)
        except OSError:
            visitor.sock.close()
            return
        self._put(visitor, self._refused, now)
        if not self._refused.watch(visitor):
            self._dismiss(visitor)

    def see_off(self, sock: socket.socket, now: float) -> None:
        """Take the connection of an association that was released."""
        visitor = Visitor(sock)
        self._put(visitor, self._released, now)
        # Those before it are looked at here and not when the next one comes, who would wait for it.
        self._look_at_unwatched()
        self._unwatched.append(visitor)
        self._look_again = now + _LOOK_SECONDS

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
            self._look_at_unwatched()
        for queue in (self._refused, self._released):
            while queue.deadline <= now:
                self._dismiss(queue.first)

    def dismiss_one(self) -> None:
        """Close the one that has waited longest where most do; there has to be one."""
        self._dismiss(max(self._refused, self._released, key=len).first)

    @property
    def released(self) -> int:
        """Return how many there are whose association was released."""
        return len(self._released)

    def close(self) -> None:
        """Close all; what is under way to them still gets there."""
        for queue in (self._refused, self._released):
            while queue:
                visitor = queue.first
                self._forget(visitor)
                visitor.sock.close()

    def _put(self, visitor: Visitor, queue: Queue, now: float) -> None:
        if len(self) >= self._limits.leaving:
            self.dismiss_one()
        queue.put(visitor, now)

    def _has_left(self, visitor: Visitor) -> bool:
        """Tell whether the peer is done; one that only said its last may still be reading ours."""
        most = self._limits.closing_bytes
        if not visitor.has_left(most):
            return False
        try:
            return visitor.discarded > most or not unsent_bytes(visitor.sock)
        except OSError:
            return True

    def _look_at_unwatched(self) -> None:
        looked_at, self._unwatched = self._unwatched, []
        self._look_again = math.inf
        for visitor in looked_at:
            if visitor.queue is not None and (
                self._has_left(visitor) or not visitor.queue.watch(visitor)
            ):
                self._dismiss(visitor)

    def _dismiss(self, visitor: Visitor) -> None:
        self._forget(visitor)
        close_for_good(visitor.sock)

    def _forget(self, visitor: Visitor) -> None:
        if visitor.queue is not None:
            visitor.queue.remove(visitor)
            if not self._released:
                self._tell_none_is_released()
