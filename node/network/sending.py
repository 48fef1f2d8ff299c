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

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeGuard, cast

from pynetdicom.fsm import TRANSITION_TABLE
from pynetdicom.presentation import PresentationContext

from node.dicom.status import Category, category
from node.errors import PeerRefused, PeerUnreachable
from node.network import command_set
from node.network.association import NodeAssociation
from node.network.window import Buffer, FileSlice, SourceFailed, Window

#: Error Comment (0000,0902) is an LO: 64 characters (PS3.7 Annex E).
_COMMENT_CHARACTERS: Final = 64


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
    encoded = command_set.encode_store_request(
        sop_class_uid, sop_instance_uid, message_id, priority, move_originator
    )
    window = _window_of(assoc, context_id)
    pdu = assoc.dimse.command_pdu(encoded, context_id)
    if pdu is None or not window.lead(pdu):
        assoc.dimse.send_encoded(encoded, context_id)
    try:
        _send_data_set(assoc, window, source, progress_seconds)
    except TimeoutError as error:
        # An A-ABORT would wait behind what the peer does not take.
        assoc.dul.lose_connection()
        assoc.kill()
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
    # One time for the whole answer: a peer that says other things all the while has not answered.
    end = time.monotonic() + seconds
    while True:
        context_id, response = assoc.dimse.get_response(seconds, end)
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
