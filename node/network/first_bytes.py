"""What the first bytes of a connection say, before anything is read (PS3.8 9.3.1, RFC 8446 5.1)."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import sys
import termios
from typing import Final

from node.network.limits import KIB, Limits
from node.network.pdu_reader import A_ABORT, A_ASSOCIATE_RQ, HEADER, InvalidPDU, check_header

#: TLS record type of a handshake, and the bytes before its body (RFC 8446 5.1).
_TLS_HANDSHAKE: Final = 0x16
_TLS_HEADER: Final = struct.Struct(">BHH")

#: As much of a request is waited for in the kernel; the rest is read in a thread.
_LARGEST_WAITED_FOR: Final = 32 * KIB
#: A ClientHello is one record (RFC 8446 5.1).
_LARGEST_RECORD: Final = 16 * KIB


def bytes_wanted(said: bytes, secured: bool, limits: Limits) -> int | None:
    """Return how many bytes make the request whole; None if its beginning does not tell yet.

    Raises `InvalidPDU` for what is neither an A-ASSOCIATE-RQ nor, if `secured`, a ClientHello.
    """
    if secured:
        if said[0] != _TLS_HANDSHAKE:
            raise InvalidPDU("no TLS", 0, 0)
        if len(said) < _TLS_HEADER.size:
            return None
        return min(_TLS_HEADER.size + int(_TLS_HEADER.unpack_from(said)[2]), _LARGEST_RECORD)
    if len(said) < HEADER.size:
        if said[0] not in (A_ASSOCIATE_RQ, A_ABORT):
            check_header(said[0], 0, True, limits)
        return None
    pdu_type, length = HEADER.unpack_from(said)
    check_header(pdu_type, length, True, limits)
    return min(HEADER.size + int(length), _LARGEST_WAITED_FOR)


def arrived(sock: socket.socket) -> int:
    """Return how many bytes lie in the kernel's buffer."""
    answer = fcntl.ioctl(sock, termios.FIONREAD, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


def has_ended(sock: socket.socket) -> bool:
    """Tell whether the peer has closed its side: what is missing will not come."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))
