"""Sending an instance from a file or from memory, in bounded memory (PS3.7 9.1.1, PS3.8 9.3.5).

`send_store` sends one C-STORE request and returns the peer's answer. The data set is never held
whole: a window of P-DATA-TF PDUs whose headers are written once is filled and sent again and
again, with one read and one send for many PDUs.

The peer may be as slow as it likes as long as it takes something every `progress_seconds`; the
`response_seconds` begin when the last byte has been sent. `AssociationEnded` tells that the peer
aborted or the line broke, `PeerTooSlow` that a deadline passed, `ContextNotAccepted` that the
context is none of this association. After the first two the association is over; what became of
the instance is not known, and sending it again is harmless (PS3.4 B.2). A source that cannot be
read raises its `OSError`, and the association is aborted, for half a data set cannot be taken
back.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeGuard, cast

from pynetdicom.fsm import TRANSITION_TABLE
from pynetdicom.presentation import PresentationContext

from node.dicom.status import Category, category
from node.errors import PeerRefused, PeerUnreachable
from node.network import command_set
from node.network.association import NodeAssociation
from node.network.limits import KIB
from node.network.pdu_reader import P_DATA_TF

#: PDU header, PDV header (PS3.8 9.3.5 and 9.3.5.1, E.2).
_HEADERS: Final = struct.Struct(">BxIIBB")
_PDV_HEADER_BYTES: Final = 6
_DATA: Final = 0
_LAST_DATA: Final = 2
#: The shortest maximum length of a peer that leaves room for fragments worth sending.
LEAST_PDU: Final = 16
#: Sent at one go: enough for few system calls, little enough to stay in the cache.
_WINDOW_BYTES: Final = 256 * KIB

#: The PDU of a command set with the longest of every parameter is shorter.
_LEAD_BYTES: Final = 512

#: IOV_MAX: `preadv` takes no more, and a peer may ask for PDUs of 16 bytes.
_MOST_VECTORS: Final = 1024

#: Error Comment (0000,0902) is an LO: 64 characters (PS3.7 Annex E).
_COMMENT_CHARACTERS: Final = 64

Buffer: TypeAlias = bytes | bytearray | memoryview
#: An open file's descriptor, where in it the data set begins, and its length.
FileSlice: TypeAlias = tuple[int, int, int]


class AssociationEnded(PeerUnreachable):
    """The peer aborted the association, or the connection broke."""


class PeerTooSlow(PeerUnreachable):
    """The peer took nothing, or did not answer, in the time it was given."""


class ContextNotAccepted(PeerRefused):
    """The peer has not accepted this presentation context."""


@dataclass(frozen=True, slots=True)
class StoreResponse:
    """The peer's answer to a C-STORE: its status, and its Error Comment if there is one."""

    status: int
    comment: str = ""

    @property
    def meaning(self) -> Category:
        """Return what the status means."""
        return category(self.status)


def send_store(
    assoc: NodeAssociation,
    context: PresentationContext,
    sop_class_uid: str,
    sop_instance_uid: str,
    source: FileSlice | Iterable[Buffer],
    *,
    message_id: int = 1,
    priority: int = 0,
    progress_seconds: float = 30,
    response_seconds: float = 60,
    move_originator: tuple[str, int] | None = None,
) -> StoreResponse:
    """Send one instance, encoded in the transfer syntax of `context`."""
    context_id = cast(int, context.context_id)
    if context_id not in assoc._accepted_cx:
        raise ContextNotAccepted(f"presentation context {context_id} was not accepted")
    _notice_the_end(assoc)
    command: command_set.Command = {
        "AffectedSOPClassUID": sop_class_uid,
        "CommandField": command_set.C_STORE_RQ,
        "MessageID": message_id,
        "Priority": priority,
        "CommandDataSetType": 1,
        "AffectedSOPInstanceUID": sop_instance_uid,
    }
    if move_originator is not None:
        command["MoveOriginatorApplicationEntityTitle"] = move_originator[0]
        command["MoveOriginatorMessageID"] = move_originator[1]
    window = _window_of(assoc, context_id)
    pdu = assoc.dimse.command_pdu(command, context_id)
    if pdu is None or not window.lead(pdu):
        assoc.dimse.send_command(command, context_id)
    try:
        _send_data_set(assoc, window, source, progress_seconds)
    except TimeoutError as error:
        assoc.abort()
        raise PeerTooSlow(f"{assoc.peer_name}: {error}") from error
    return _await_response(assoc, message_id, response_seconds)


def _notice_the_end(assoc: NodeAssociation) -> None:
    """See an A-ABORT, a release or a closed connection from before this instance."""
    if assoc.dul.peek_next_pdu() is not None or assoc.abort_wanted:
        assoc._settle()
    _require_established(assoc)


def _require_established(assoc: NodeAssociation) -> None:
    if not assoc.is_established:
        raise AssociationEnded(f"{assoc.peer_name} ended the association")


def _send_data_set(
    assoc: NodeAssociation,
    window: Window,
    source: FileSlice | Iterable[Buffer],
    progress_seconds: float,
) -> None:
    if _is_file(source):
        filled = window.from_file(*source)
    else:
        filled = window.from_chunks(cast("Iterable[Buffer]", source))
    connection = assoc.dul.connection
    try:
        for pdus in filled:
            # What DT-1 does, without a P-DATA primitive for each PDU.
            if TRANSITION_TABLE.get(("Evt9", assoc.dul.state_machine.current_state)) != "DT-1":
                break
            connection.send_all(pdus, progress_seconds)
        connection.wait_until_taken(progress_seconds)
    except TimeoutError:
        raise
    except SourceFailed as failure:
        assoc.abort()
        raise failure.error from None
    except OSError:
        # The peer may have said why before it closed: read that rather than guess.
        assoc.dul.pump(0)
        assoc.dul.lose_connection()
    if assoc.dul.is_over or not assoc.dul.to_user_queue.empty():
        assoc._settle()
        _require_established(assoc)


def _window_of(assoc: NodeAssociation, context_id: int) -> Window:
    """Return the window of an association, made anew only for another context."""
    window = assoc.send_window
    if window is None or window.context_id != context_id:
        window = assoc.send_window = Window(context_id, assoc.dimse.maximum_pdu_size)
    window.reset()
    return window


def _is_file(source: FileSlice | Iterable[Buffer]) -> TypeGuard[FileSlice]:
    return isinstance(source, tuple) and len(source) == 3 and isinstance(source[0], int)


def _await_response(assoc: NodeAssociation, message_id: int, seconds: float) -> StoreResponse:
    while True:
        context_id, response = assoc.dimse.get_response(seconds)
        if response is None:
            assoc._settle()
            _require_established(assoc)
            assoc.abort()
            raise PeerTooSlow(f"{assoc.peer_name} did not answer in {seconds:g} s")
        if getattr(response, "MessageIDBeingRespondedTo", None) == message_id:
            if response.Status is None:
                assoc.abort()
                raise AssociationEnded(f"{assoc.peer_name} answered without a status")
            return StoreResponse(response.Status, _comment_of(response))
        assoc._serve_request(response, cast(int, context_id))


def _comment_of(response: object) -> str:
    """Return what may be logged and kept of the Error Comment, an LO, that a peer wrote."""
    comment = str(getattr(response, "ErrorComment", None) or "")[:_COMMENT_CHARACTERS]
    return "".join(character for character in comment if character.isprintable())


class SourceFailed(Exception):
    """The data set could not be read to its end."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Window:
    """Some P-DATA-TF PDUs in one buffer: full ones, so that only the last one needs a header.

    Before them is room for the PDU of the command set, which is sent together with the first.
    """

    def __init__(self, context_id: int, maximum_pdu_size: int) -> None:
        self.context_id = context_id
        self._last = 0
        self._begin = _LEAD_BYTES
        # Every fragment but the last has an even length (PS3.8 E.1 follows PS3.5 7.1.1).
        self._room = (maximum_pdu_size - _PDV_HEADER_BYTES) & ~1
        self._stride = _HEADERS.size + self._room
        count = min(max(1, _WINDOW_BYTES // self._stride), _MOST_VECTORS)
        self._buffer = memoryview(bytearray(_LEAD_BYTES + count * self._stride))
        self._holes = [
            self._buffer[start + _HEADERS.size : start + self._stride]
            for start in range(_LEAD_BYTES, len(self._buffer), self._stride)
        ]
        for index in range(count):
            self._write_header(index, self._room, _DATA)

    def reset(self) -> None:
        """Make ready for another data set: the header of the last one's end is undone."""
        self._write_header(self._last, self._room, _DATA)
        self._begin = _LEAD_BYTES

    def lead(self, pdu: bytes) -> bool:
        """Let `pdu` be sent before the first PDU; False where it is too long."""
        if len(pdu) > _LEAD_BYTES:
            return False
        self._begin = _LEAD_BYTES - len(pdu)
        self._buffer[self._begin : _LEAD_BYTES] = pdu
        return True

    def _write_header(self, index: int, length: int, flag: int) -> None:
        pdv = length + 2
        position = _LEAD_BYTES + index * self._stride
        _HEADERS.pack_into(self._buffer, position, P_DATA_TF, pdv + 4, pdv, self.context_id, flag)

    def _filled(self, byte_count: int, is_last: bool) -> memoryview:
        """Return the PDUs with the first `byte_count` bytes in them, the last one marked."""
        begin, self._begin = self._begin, _LEAD_BYTES
        index, rest = divmod(byte_count, self._room)
        if not is_last:
            return self._buffer[begin : _LEAD_BYTES + index * self._stride]
        if rest == 0 and index:
            index, rest = index - 1, self._room
        self._last = index
        self._write_header(index, rest, _LAST_DATA)
        return self._buffer[begin : _LEAD_BYTES + index * self._stride + _HEADERS.size + rest]

    def from_file(self, descriptor: int, offset: int, length: int) -> Iterator[memoryview]:
        """Yield the PDUs that carry a slice of a file."""
        capacity = self._room * len(self._holes)
        while True:
            wanted = min(capacity, length)
            self._read(descriptor, offset, wanted)
            offset, length = offset + wanted, length - wanted
            yield self._filled(wanted, is_last=length == 0)
            if length == 0:
                return

    def _read(self, descriptor: int, offset: int, wanted: int) -> None:
        """Fill the first `wanted` bytes of the holes, in as few calls as the kernel allows."""
        done = 0
        while done < wanted:
            index, inside = divmod(done, self._room)
            holes = [self._holes[index][inside:], *self._holes[index + 1 :]]
            try:
                received = os.preadv(descriptor, holes, offset + done)
            except OSError as error:
                raise SourceFailed(error) from error
            if received == 0:
                raise SourceFailed(OSError("file is shorter than the data set it should hold"))
            done += received

    def from_chunks(self, chunks: Iterable[Buffer]) -> Iterator[memoryview]:
        """Yield the PDUs that carry `chunks`, which may be of any lengths."""
        capacity = self._room * len(self._holes)
        filled = 0
        for chunk in _readable(chunks):
            view = memoryview(chunk).cast("B")
            position = 0
            while position < len(view):
                if filled == capacity:
                    yield self._filled(filled, is_last=False)
                    filled = 0
                index, inside = divmod(filled, self._room)
                part = view[position : position + self._room - inside]
                self._holes[index][inside : inside + len(part)] = part
                position += len(part)
                filled += len(part)
        yield self._filled(filled, is_last=True)


def _readable(chunks: Iterable[Buffer]) -> Iterator[Buffer]:
    """Yield `chunks`; an `OSError` of theirs must not be taken for one of the connection."""
    try:
        yield from chunks
    except OSError as error:
        raise SourceFailed(error) from error
