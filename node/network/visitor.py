"""Connections at the door, before they ask for an association and after it."""

from __future__ import annotations

import socket
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class Visitor:
    """A connection at the door, which may wait in one `Queue`."""

    sock: socket.socket
    address: Any = None
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

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def put(self, visitor: Visitor, now: float) -> None:
        """Let `visitor` wait here from `now` on the monotonic clock."""
        visitor.queue, visitor.deadline = self, now + self._seconds
        self[visitor.sock.fileno()] = visitor

    @property
    def first(self) -> Visitor:
        """Return who has waited longest; there has to be one."""
        return next(iter(self.values()))
