"""Whole PDUs off a connection, each within its length and its time (PS3.8 9.3).

The guard of the room. A header is judged before a byte of the body is read or a byte of memory
allocated for it; a PDU has one deadline from its first byte to its last, so that a peer gains
nothing by sending a byte now and then. PDUs are handed out as views of one receive buffer, and
are valid until the next call.

Raises `InvalidPDU` with the A-ABORT that answers it, `ConnectionClosed` at the end of the stream
(also in mid-PDU, also on a reset), and `TimeoutError` where a PDU did not begin in time.
"""

from __future__ import annotations

import math
import struct
import time
from typing import Final, Protocol

from node.network.kernel import KERNEL, memory
from node.network.limits import KIB, MIB, Limits
from node.network.line import Line
from node.network.repetition import Pattern, Repeated

A_ASSOCIATE_RQ: Final = 0x01
A_ASSOCIATE_AC: Final = 0x02
A_ASSOCIATE_RJ: Final = 0x03
P_DATA_TF: Final = 0x04
A_RELEASE_RQ: Final = 0x05
A_ABORT: Final = 0x07

#: Abort sources and provider reasons (PS3.8 9.3.8).
SERVICE_USER: Final = 0
SERVICE_PROVIDER: Final = 2
NOT_SPECIFIED: Final = 0
UNRECOGNIZED_PDU: Final = 1
UNEXPECTED_PDU: Final = 2
UNEXPECTED_PARAMETER: Final = 5
INVALID_PARAMETER: Final = 6

#: PDU type, reserved byte, PDU length (PS3.8 9.3.1).
HEADER: Final = struct.Struct(">BxI")
#: The same, and the header of a first PDV: length, context ID and flags (PS3.8 9.3.5.1, E.2).
FRAGMENT: Final = struct.Struct(">BxIIBB")
#: Fixed part of A-ASSOCIATE-RQ and -AC (PS3.8 Table 9-11).
ASSOCIATE_FIXED_BYTES: Final = 68
#: The least maximum length (PS3.8 D.1) that leaves room for fragments worth sending.
LEAST_MAXIMUM_LENGTH: Final = 16
#: Length of A-ASSOCIATE-RJ, A-RELEASE and A-ABORT (PS3.8 9.3.4 and 9.3.6 to 9.3.8).
_FIXED_BYTES: Final = 4
#: Some peers count the PDV header as not part of the maximum length (PS3.8 D.1 counts it).
_SLACK_BYTES: Final = 6
_PDV_HEADER_BYTES: Final = 6
#: Bits of the message control header (PS3.8 E.2).
_IS_COMMAND: Final = 1
_IS_LAST: Final = 2
_LATE_PDU: Final = "PDU did not arrive in its time"


#: How a run of fragments ended, as the kernel tells it.
_OTHER, _LAST, _FULL, _CLOSED, _LATE, _IDLE = range(6)
#: Read at most, where it is not known what comes: the rest then goes straight to its place.
_FIRST_READ_BYTES: Final = 16 * KIB
_LARGEST_READ_BYTES: Final = 1 * MIB


class Place(Protocol):
    """Where the fragments of a data set go."""

    def free(self) -> tuple[memoryview, int, int]:
        """Return memory, how many bytes of it are filled, and how many may be."""

    def fill_to(self, filled: int) -> None:
        """Say that so many bytes of that memory are filled now."""

    def make_room(self) -> bool:
        """Put elsewhere what is filled, where that can be; tell whether there is room now."""


class ConnectionClosed(Exception):
    """The peer closed or reset the connection (Evt17)."""


class InvalidPDU(Exception):
    """A PDU that is answered with A-ABORT(`source`, `reason`) (Evt19)."""

    def __init__(self, what: str, reason: int, source: int = SERVICE_PROVIDER) -> None:
        super().__init__(what)
        self.source = source
        self.reason = reason


def check_header(pdu_type: int, length: int, before_association: bool, limits: Limits) -> None:
    """Judge a PDU by its header alone."""
    if before_association and pdu_type not in (A_ASSOCIATE_RQ, A_ABORT):
        # AA-1 (PS3.8 Table 9-9): there is no association whose provider could complain.
        raise InvalidPDU("no A-ASSOCIATE-RQ came first", NOT_SPECIFIED, SERVICE_USER)
    if pdu_type == P_DATA_TF:
        lowest, highest = _PDV_HEADER_BYTES, limits.max_pdu + _SLACK_BYTES
    elif pdu_type in (A_ASSOCIATE_RQ, A_ASSOCIATE_AC):
        lowest, highest = ASSOCIATE_FIXED_BYTES, limits.associate_bytes
    elif A_ASSOCIATE_RJ <= pdu_type <= A_ABORT:
        lowest = highest = _FIXED_BYTES
    else:
        raise InvalidPDU(f"unknown PDU type {pdu_type:02X}", UNRECOGNIZED_PDU)
    if not lowest <= length <= highest:
        raise InvalidPDU(f"PDU type {pdu_type:02X} of {length} bytes", INVALID_PARAMETER)


def _raise_end(outcome: int) -> None:
    """Raise what tells of an outcome that ended more than a run."""
    if outcome == _CLOSED:
        raise ConnectionClosed
    if outcome == _LATE:
        raise InvalidPDU(_LATE_PDU, NOT_SPECIFIED)
    if outcome == _IDLE:
        raise TimeoutError


class PDUReader:
    """The receiving half of one connection."""

    def __init__(self, connection: Line, limits: Limits) -> None:
        self._connection = connection
        self._limits = limits
        # What is encrypted has to pass through OpenSSL.
        self._kernel = None if connection.is_tls else KERNEL
        self._buffer = memoryview(memory(_FIRST_READ_BYTES))
        self._start = 0
        self._end = 0

    @property
    def has_data(self) -> bool:
        """Tell whether some bytes of a next PDU have been read already."""
        return self._end > self._start

    def read(
        self, begin_by: float | None, before_association: bool = False
    ) -> tuple[int, memoryview]:
        """Return the type and body of the next PDU.

        Its first byte has to arrive until `begin_by`, on the monotonic clock; the rest within its
        own deadline, or before an association until `begin_by` too, which then is ARTIM's.
        """
        if self._end == self._start:
            self._start = self._end = 0
            self._fill(begin_by, _FIRST_READ_BYTES)
        deadline = begin_by if before_association else None
        if self._end - self._start < HEADER.size:
            self._gather(HEADER.size, deadline)
        pdu_type, length = HEADER.unpack_from(self._buffer, self._start)
        check_header(pdu_type, length, before_association, self._limits)
        return pdu_type, self._body(length, deadline)

    def take_store(
        self, pattern: Pattern, room: int, begin_by: float | None, comes_late: bool = False
    ) -> tuple[Repeated, bytes | None] | None:
        """Take the PDU of a C-STORE-RQ like `pattern`, and its data set if that has come with it
        and is not longer than `room`. One that `comes_late` is not waited for awake.

        None before anything else, which is left to be read, and where there is no kernel.
        """
        if self._kernel is None:
            return None
        limits, connection, begun = self._limits, self._connection, time.monotonic()
        alertness = connection.alertness
        outcome, self._start, self._end, request, data = self._kernel.take_store(
            connection.descriptor,
            self._buffer,
            self._start,
            self._end,
            pattern.body,
            pattern.message_id_at,
            pattern.instance_at,
            room,
            limits.max_pdu + _SLACK_BYTES,
            math.inf if begin_by is None else begin_by - begun,
            limits.pdu_seconds,
            limits.pdu_bytes_per_second,
            0.0 if comes_late else alertness.awake_seconds,
        )
        if not comes_late and not alertness.is_crowded:
            # That of the whole request, which is short mostly.
            alertness.note(time.monotonic() - begun)
        if outcome != _LAST:
            _raise_end(outcome)
            return None
        return request, data

    def take_fragments(self, context_id: int, place: Place, idle_seconds: float) -> bool:
        """Put the fragments of those PDUs that hold one each into `place`.

        Every PDU is judged like any other, but without a turn through the state table, which would
        change nothing (DT-2 leads from Sta6 to Sta6). True when the data set is complete, False
        before the first PDU that is not of this kind, or whose fragment does not fit.
        """
        self._grow()
        outcome = self._take(context_id, place, idle_seconds)
        while outcome == _FULL and place.make_room():
            outcome = self._take(context_id, place, idle_seconds)
        if outcome == _LAST:
            return True
        _raise_end(outcome)
        return False

    def _take(self, context_id: int, place: Place, idle_seconds: float) -> int:
        """Return how a run of fragments ended."""
        view, filled, room = place.free()
        if self._kernel is None:
            outcome, filled = self._take_in_python(context_id, view, filled, room, idle_seconds)
        else:
            limits = self._limits
            outcome, self._start, self._end, filled = self._kernel.take(
                self._connection.descriptor,
                self._buffer,
                self._start,
                self._end,
                view,
                filled,
                room,
                context_id,
                limits.max_pdu + _SLACK_BYTES,
                idle_seconds,
                limits.pdu_seconds,
                limits.pdu_bytes_per_second,
            )
        place.fill_to(filled)
        return outcome

    def _take_in_python(
        self, context_id: int, view: memoryview, filled: int, room: int, idle_seconds: float
    ) -> tuple[int, int]:
        buffer, longest = self._buffer, self._limits.max_pdu + _SLACK_BYTES
        while True:
            if self._end - self._start < FRAGMENT.size and not self._next_is_data(idle_seconds):
                return _OTHER, filled
            kind, length, pdv_length, context, flags = FRAGMENT.unpack_from(buffer, self._start)
            if (
                kind != P_DATA_TF
                or pdv_length != length - 4
                or context != context_id
                or flags & _IS_COMMAND
                or not _PDV_HEADER_BYTES <= length <= longest
            ):
                return _OTHER, filled
            stop = filled + length - _PDV_HEADER_BYTES
            if stop > room:
                return _FULL, filled
            if self._end - self._start < HEADER.size + length:
                self._gather(HEADER.size + length, None)
            start = self._start + FRAGMENT.size
            self._start += HEADER.size + length
            view[filled:stop] = buffer[start : self._start]
            filled = stop
            if flags & _IS_LAST:
                return _LAST, filled

    def _next_is_data(self, idle_seconds: float) -> bool:
        """Wait for the header of the next PDU, and of its first PDV if it is a P-DATA-TF."""
        if self._end == self._start:
            self._start = self._end = 0
            self._fill(time.monotonic() + idle_seconds)
        if self._end - self._start < HEADER.size:
            self._gather(HEADER.size, None)
        kind, length = HEADER.unpack_from(self._buffer, self._start)
        if kind != P_DATA_TF:
            return False
        check_header(kind, length, False, self._limits)
        self._gather(FRAGMENT.size, None)
        return True

    def _body(self, length: int, deadline: float | None) -> memoryview:
        whole = HEADER.size + length
        if whole > len(self._buffer):
            if whole > self._limits.receive_buffer_bytes:
                return self._large_body(length, deadline)
            self._grow()
        if self._end - self._start < whole:
            self._gather(whole, deadline)
        body = self._buffer[self._start + HEADER.size : self._start + whole]
        self._start += whole
        return body

    def _grow(self) -> None:
        """Take the whole receive buffer: data comes, or a long PDU."""
        if len(self._buffer) == _FIRST_READ_BYTES:
            unread = self._buffer[self._start : self._end]
            self._buffer = memoryview(memory(self._limits.receive_buffer_bytes))
            self._buffer[: len(unread)] = unread
            self._start, self._end = 0, len(unread)

    def _gather(self, byte_count: int, deadline: float | None) -> None:
        """Read on until `byte_count` bytes lie in one piece from the start of the PDU."""
        if deadline is None:
            deadline = self._limits.pdu_deadline(time.monotonic(), byte_count)
        if self._start + byte_count > len(self._buffer):
            pending = self._end - self._start
            self._buffer[:pending] = self._buffer[self._start : self._end]
            self._start, self._end = 0, pending
        while self._end - self._start < byte_count:
            try:
                self._fill(deadline)
            except TimeoutError:
                raise InvalidPDU(_LATE_PDU, NOT_SPECIFIED) from None

    def _large_body(self, length: int, deadline: float | None) -> memoryview:
        """Read an A-ASSOCIATE PDU that is larger than the receive buffer; its length is checked."""
        if deadline is None:
            deadline = self._limits.pdu_deadline(time.monotonic(), length)
        body = memoryview(memory(length))
        position = self._end - self._start - HEADER.size
        body[:position] = self._buffer[self._start + HEADER.size : self._end]
        self._start = self._end = 0
        while position < length:
            received = self._connection.receive_into(body[position:], deadline)
            if not received:
                raise ConnectionClosed
            position += received
        return body

    def _fill(self, deadline: float | None, most: int = _LARGEST_READ_BYTES) -> None:
        end = self._end
        received = self._connection.receive_into(self._buffer[end : end + most], deadline)
        if not received:
            raise ConnectionClosed
        self._end += received
