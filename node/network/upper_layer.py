"""The DICOM upper layer without a thread of its own, a poll or a sleep (PS3.8 section 9).

Takes the place of pynetdicom's `DULServiceProvider`; `state_table` drives its table. The service
user's thread does the work: `send_pdu` encodes and sends before it returns, `receive_pdu` and
`pump` read the connection until a deadline. Nothing happens in between.

Which A-ABORT reason answers which fault (PS3.8 9.3.8) is decided here, that only one A-ABORT is
sent, and that in Sta13 input is discarded unread.

Nothing a peer sends raises. The association's fate is told in pynetdicom's way, by primitives in
`to_user_queue`, where a request may stand for its indication. Faults are logged once, as one line.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from pynetdicom import evt
from pynetdicom.dul import _PDU_TYPES
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.pdu_primitives import A_ABORT, A_ASSOCIATE, A_P_ABORT, A_RELEASE

from node.network import pdu_reader
from node.network.answers import judged_pdu
from node.network.command_set import in_one_pdu
from node.network.indications import DataTransfer, ReleaseRequest
from node.network.pdu_reader import ConnectionClosed, InvalidPDU, PDUReader
from node.network.state_table import OVER, StateTable

if TYPE_CHECKING:
    from node.network.association import NodeAssociation

LOGGER = logging.getLogger(__name__)

_RELEASE_RP: Final = bytes.fromhex("06000000000400000000")  # PS3.8 Table 9-25
_ACSE_PRIMITIVES: Final = (A_ASSOCIATE, A_RELEASE, A_ABORT, A_P_ABORT)


class UpperLayer(StateTable):
    """The upper layer of one association."""

    def __init__(self, assoc: NodeAssociation) -> None:
        super().__init__(assoc)
        self._limits = assoc.limits
        self._reader: PDUReader | None = None
        self._pumping: int | None = None

    # -- what the rest of pynetdicom asks ----------------------------------------------------

    def send_pdu(self, primitive: Any) -> None:
        """Let the table act on a request or response of the local user, here and now."""
        if self._assoc.watched.primitives and isinstance(primitive, _ACSE_PRIMITIVES):
            evt.trigger(self.assoc, evt.EVT_ACSE_SENT, {"primitive": primitive})
        self.to_provider_queue.put(primitive)
        self._run()

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:
        """Return the next indication for the local user; None when none came in time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.to_user_queue:
            if not wait or not self.pump(deadline):
                return None
        primitive = self.to_user_queue.popleft()
        if self._assoc.watched.primitives and isinstance(primitive, _ACSE_PRIMITIVES):
            evt.trigger(self.assoc, evt.EVT_ACSE_RECV, {"primitive": primitive})
        return primitive

    def peek_next_pdu(self) -> Any:
        """Return the next indication and leave it; look at the connection if there is none."""
        if not self.to_user_queue:
            self.pump_what_is_there()
        return self.to_user_queue[0] if self.to_user_queue else None

    def open(self) -> None:
        """Tell the table that a peer has connected (AE-5)."""
        if self.is_next("Evt5", "AE-5"):
            self.state_machine.transition("Sta2")
            return
        self.event_queue.put("Evt5")
        self._run()

    def is_waiting_elsewhere(self) -> bool:
        """Tell whether another thread waits for the peer."""
        return self._pumping not in (None, threading.get_ident())

    # -- the loop ----------------------------------------------------------------------------

    def pump(self, deadline: float | None) -> bool:
        """Wait for one PDU and let the table act on it. False: not in time, or it is over."""
        if self.is_over or self._pumping is not None:
            return False
        self._pumping = threading.get_ident()
        try:
            event = self._next_event(deadline)
        except TimeoutError:
            return False
        finally:
            self._pumping = None
        if event is not None:
            self.event_queue.put(event)
        if self.event_queue:
            self._run()
        return True

    def pump_what_is_there(self) -> None:
        """Let the table act on PDUs that have arrived, until a message waits to be served."""
        while (
            self._pumping is None
            and not self.is_over
            and self.assoc.dimse.msg_queue.empty()
            and (self._reader_of_now().has_data or self.connection.ready)
        ):
            if not self.pump(None):
                return

    def protest(self, what: str, reason: int, source: int = pdu_reader.SERVICE_PROVIDER) -> None:
        """Give the association up because of what the peer sent: Evt19, with this A-ABORT."""
        if not self.is_over and self._abort is None:
            self._note_fault(what, reason, source)
            self.event_queue.put("Evt19")

    def _reader_of_now(self) -> PDUReader:
        if self._reader is None:
            self._reader = PDUReader(self.connection, self._limits)
        return self._reader

    def _next_event(self, deadline: float | None) -> str | None:
        """Read one PDU and return its event; put the PDU where the table's actions look.

        None where it was data: in Sta6 the table has nothing to do but to pass it on (DT-2).
        """
        state = self.state_machine.current_state
        reader = self._reader or self._reader_of_now()
        try:
            if state == "Sta6" and not self._assoc.watched.pdu_received:
                return self._transfer(reader, deadline)
            pdu_type, body = reader.read(deadline, state == "Sta2")
            if pdu_type == pdu_reader.P_DATA_TF and state in ("Sta6", "Sta7"):
                return self._indicate_data(body)
            return self._indicate(pdu_type, body)
        except ConnectionClosed:
            return self._closed()
        except InvalidPDU as fault:
            self._note_fault(str(fault), fault.reason, fault.source)
            return "Evt19"

    def _transfer(self, reader: PDUReader, deadline: float | None) -> str | None:
        """Take a PDU of Sta6, and what follows of a data set that it begins or goes on with."""
        dimse = self._assoc.dimse
        if not dimse.take_store(reader, deadline):
            pdu_type, body = reader.read(deadline)
            if pdu_type != pdu_reader.P_DATA_TF:
                return self._indicate(pdu_type, body)
            if not dimse.take_pdvs(body):
                return None
        # A TimeoutError in here is one of an idle peer, as in any read.
        dimse.take_fragments(reader)
        return None

    def _closed(self) -> str:
        """Return what the end of the stream means: the peer's, or another thread's wish.

        Before there is an association there is none to abort either.
        """
        if not self.assoc.abort_wanted or self._awaits_request:
            return "Evt17"
        self.to_provider_queue.put(user_abort())
        return "Evt15"

    def _indicate_data(self, body: memoryview) -> str:
        if self._assoc.watched.pdu_received:
            self._decode_pdu(bytearray(_whole(pdu_reader.P_DATA_TF, body)))
        self._recv_pdu.put(DataTransfer(body))
        return "Evt10"

    def _indicate(self, pdu_type: int, body: memoryview) -> str | None:
        if pdu_type == pdu_reader.A_RELEASE_RQ and self.assoc.dimse.is_receiving:
            raise InvalidPDU("A-RELEASE-RQ inside a message", pdu_reader.UNEXPECTED_PDU)
        if pdu_type == pdu_reader.P_DATA_TF:
            return "Evt10"  # not in Sta6: AA-8, and the PDU is not looked at
        if pdu_type == pdu_reader.A_ASSOCIATE_RQ:
            return self._indicate_request(body) if self._awaits_request else "Evt6"
        if pdu_type == pdu_reader.A_RELEASE_RQ and not self._assoc.watched.pdu_received:
            return self._indicate_release()
        try:
            pdu, event = self._decode_pdu(bytearray(_whole(pdu_type, body)))
            primitive = pdu.to_primitive()
        except Exception as error:  # pynetdicom's decoders raise whatever happens to them
            fault = f"{_PDU_TYPES[bytes([pdu_type])][0].__name__}: {error!r}"
            raise InvalidPDU(fault, pdu_reader.INVALID_PARAMETER) from None
        # Converted once, and here, where a value that pynetdicom refuses can still be answered.
        setattr(pdu, "to_primitive", lambda: primitive)  # noqa: B010
        self._recv_pdu.put(pdu)
        return event

    def _indicate_release(self) -> str | None:
        if self.is_next("Evt12", "AR-2"):
            self.to_user_queue.append(A_RELEASE())
            self.state_machine.transition("Sta8")
            return None
        self._recv_pdu.put(ReleaseRequest)
        return "Evt12"

    @property
    def _awaits_request(self) -> bool:
        return self.state_machine.current_state == "Sta2"

    def _indicate_request(self, body: memoryview) -> str | None:
        """Judge an A-ASSOCIATE-RQ by the Standard before anything else looks at it."""
        judge = judged_pdu if self.assoc.answers is None else self.assoc.answers.judged_pdu
        try:
            pdu = judge(bytes(body), self.connection.is_tls)
            if self._assoc.watched.pdu_received:
                self._decode_pdu(bytearray(_whole(pdu_reader.A_ASSOCIATE_RQ, pdu.judged.body)))
        except InvalidPDU:
            raise
        except Exception as error:  # as above
            raise InvalidPDU(f"A-ASSOCIATE-RQ: {error!r}", pdu_reader.INVALID_PARAMETER) from None
        self.assoc.judged = pdu.judged
        if pdu.protocol_version == 1 and self.is_next("Evt6", "AE-6"):
            # The indication is made of it when the requestor is asked for (`Parties.requestor`).
            self.to_user_queue.append(pdu.to_primitive() if self._assoc.watched.primitives else pdu)
            self.state_machine.transition("Sta3")
            return None
        self._recv_pdu.put(pdu)
        return "Evt6"

    # -- sending -----------------------------------------------------------------------------

    def send_accept(self, primitive: A_ASSOCIATE, encoded: bytes) -> None:
        """Send an A-ASSOCIATE-AC that was encoded before: what AE-7 does, Sta3 to Sta6."""
        if self._assoc.watched.primitives or not self.is_next("Evt7", "AE-7"):
            self.send_pdu(primitive)
        else:
            self._send_and_go_on(encoded, "Sta6")

    def send_release_response(self) -> bool:
        """Send an A-RELEASE-RP as AR-4 does; False where that is not what is next."""
        if self._assoc.watched.primitives or not self.is_next("Evt14", "AR-4"):
            return False
        self._send_and_go_on(_RELEASE_RP, "Sta13")
        return True

    def _send_and_go_on(self, pdu: bytes, state: str) -> None:
        self.connection.send(pdu)
        self.state_machine.transition(state)
        if self.event_queue:  # the line broke
            self._run()

    def _send(self, pdu: Any) -> None:
        if isinstance(pdu, A_ABORT_RQ) and self._abort is not None:
            pdu.source, pdu.reason_diagnostic = self._abort
        self.connection.send(pdu.encode())
        if self._assoc.watched.pdu_sent:
            evt.trigger(self.assoc, evt.EVT_PDU_SENT, {"pdu": pdu})

    def command_pdu(self, context_id: int, encoded: bytes) -> bytes | None:
        """Return a command set that fits into one PDU as that; None if that is not for DT-1.

        Without the three objects that a P-DATA primitive is on its way out.
        """
        return in_one_pdu(context_id, encoded) if self.is_next("Evt9", "DT-1") else None

    def send_encoded(self, pdu: bytes) -> None:
        """Send a PDU: what DT-1 does."""
        assert self.socket is not None
        self.socket.send(pdu)
        if self.event_queue:
            self._run()

    def lose_connection(self) -> None:
        """Tell the table that the connection broke while something was sent (Evt17)."""
        if not self.is_over:
            self.event_queue.put("Evt17")
            self._run()

    # -- the end -----------------------------------------------------------------------------

    def finish(self) -> None:
        """End in Sta1 with the connection closed, whatever the state is now."""
        state = self.state_machine.current_state
        if self.socket is None:
            return
        if state not in OVER and state != "Sta2":
            self.send_pdu(user_abort())
        if self.state_machine.current_state == "Sta13" and not self._is_seen_off():
            self._await_close()
        if self.state_machine.current_state == "Sta2":
            self.event_queue.put("Evt18")
            self._run()
        self.connection.close()

    def _is_seen_off(self) -> bool:
        """Leave what is left of Sta13 to the door, where that can be: no thread has to wait."""
        see_off = self._assoc.see_off
        if see_off is None or not self._assoc.is_released or self.connection.is_tls:
            return False
        sock = self.connection.hand_over()
        if sock is not None:
            see_off(sock)
        # AR-5: for the association the connection is closed.
        if not self._assoc.watched.closing and self.is_next("Evt17", "AR-5"):
            self.state_machine.transition("Sta1")
        else:
            self.event_queue.put("Evt17")
            self._run()
        return True

    def _await_close(self) -> None:
        """Sta13: discard what the peer still sends, until it closes or ARTIM expires."""
        established = self.assoc.was_established
        seconds = self._limits.close_seconds if established else self._limits.refuse_seconds
        if not self.assoc.is_released:
            self.connection.finish_sending()
        self.connection.drain(self._limits.closing_bytes, time.monotonic() + seconds)
        # The same end by both ways; AA-2 closes the connection, AR-5 expects it to be closed.
        self.event_queue.put("Evt18")
        self._run()


def _whole(pdu_type: int, body: memoryview | bytes) -> bytes:
    """Return the PDU as it was on the wire."""
    return pdu_reader.HEADER.pack(pdu_type, len(body)) + body


def user_abort() -> A_ABORT:
    """Return the request of the local user to end the association (PS3.8 7.3)."""
    primitive = A_ABORT()
    primitive.abort_source = pdu_reader.SERVICE_USER
    return primitive
