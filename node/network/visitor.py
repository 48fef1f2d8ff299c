"""Connections at the door, before they ask for an association and after it."""

from __future__ import annotations

import math
import socket
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class Visitor:
    """A connection at the door, in one `Queue`."""

    sock: socket.socket
    address: Any
    queue: Queue
    deadline: float = math.inf
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


class Queue:
    """Connections that are given the same time, so that the first is the first who has had it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._visitors: OrderedDict[int, Visitor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._visitors)

    def put(self, visitor: Visitor, now: float) -> None:
        """Let `visitor` wait here from `now` on the monotonic clock."""
        visitor.queue, visitor.deadline = self, now + self._seconds
        self._visitors[visitor.sock.fileno()] = visitor

    def remove(self, visitor: Visitor) -> None:
        """Let `visitor` wait here no more."""
        self._visitors.pop(visitor.sock.fileno(), None)

    def get(self, descriptor: int) -> Visitor | None:
        """Return who has this descriptor."""
        return self._visitors.get(descriptor)

    @property
    def first(self) -> Visitor | None:
        """Return who has waited longest."""
        for visitor in self._visitors.values():
            return visitor
        return None

    @property
    def deadline(self) -> float:
        """Return when the first one has waited long enough, on the monotonic clock."""
        first = self.first
        return math.inf if first is None else first.deadline
