"""A connection at the door, before it has asked for an association and after it was turned away."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Visitor:
    """A connection at the door; `leaving` once its answer has been sent."""

    sock: socket.socket
    address: Any
    deadline: float
    leaving: bool = False
    discarded: int = 0

    def say_last(self, pdu: bytes) -> None:
        """Send `pdu`, which may be empty, and the end; OSError where the line broke."""
        self.sock.setblocking(False)  # an association that could not start changed that
        if pdu:
            self.sock.send(pdu)
        self.sock.shutdown(socket.SHUT_WR)

    def has_left(self, most: int) -> bool:
        """Discard what has come; True at the end of the stream, or beyond `most` bytes of it."""
        try:
            while data := self.sock.recv(8192):
                self.discarded += len(data)
                if self.discarded > most:
                    return True
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True
