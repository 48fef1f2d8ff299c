"""pynetdicom's state machine table, driven by the thread that has something for it (PS3.8 9.2).

The table's actions put and get events, primitives and PDUs here as if these were pynetdicom's
locked queues. What the table leaves open is decided here: that an event which comes after the end
changes nothing, and which A-ABORT reason answers a PDU that was not expected (PS3.8 9.3.8).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE, StateMachine

from node.network import pdu_reader
from node.network.connection import Connection
from node.network.indications import NO_TIMER, Mailbox

if TYPE_CHECKING:
    from node.network.association import NodeAssociation

LOGGER = logging.getLogger(__name__)

#: The association is over; at most the connection is left (PS3.8 Table 9-10).
OVER: Final = frozenset({"Sta1", "Sta13"})
#: Of what a log line quotes, in characters.
_MOST_SAID: Final = 300


class StateTable(DULServiceProvider):
    """What the table acts on, for one association."""

    assoc: NodeAssociation
    event_queue: Any
    to_provider_queue: Any
    to_user_queue: Any
    _recv_pdu: Any

    # The parent's initialiser makes a thread and four locked queues: not called.
    def __init__(self, assoc: NodeAssociation) -> None:
        self._assoc: NodeAssociation = assoc
        self.socket = None
        self.state_machine = StateMachine(self)
        self.artim_timer = NO_TIMER
        self._idle_timer = NO_TIMER
        self._kill_thread = False
        self.event_queue = Mailbox()
        self.to_provider_queue = Mailbox()
        self.to_user_queue = Mailbox()
        self._recv_pdu = Mailbox()
        self._abort: tuple[int, int] | None = None

    @property
    def connection(self) -> Connection:
        """Return the transport connection."""
        connected: Connection = self.socket  # type: ignore[assignment]
        return connected

    @property
    def is_over(self) -> bool:
        """Tell whether no association exists any more, or none will."""
        return self.state_machine.current_state in OVER

    def idle_timer_expired(self) -> bool:
        """Return False: the deadline of a read is the idle timer here."""
        return False

    def is_alive(self) -> bool:
        """Return False: this is a thread in name only."""
        return False

    def stop_dul(self) -> bool:
        """Return True: there is no thread to stop."""
        return True

    # -- the table ---------------------------------------------------------------------------

    def _note_fault(self, what: str, reason: int, source: int) -> None:
        # It may quote what the peer sent.
        said = what[:_MOST_SAID]
        LOGGER.warning("aborting association with %s: %s", self.assoc.peer_name, said)
        self._abort = (source, reason)

    def is_next(self, event: str, action: str) -> bool:
        """Tell whether the table does `action` on `event` now, and nobody wants to see how.

        Then what it does is done without the objects that it passes around.
        """
        state = self.state_machine.current_state
        return not self._assoc.watched.pdu_sent and TRANSITION_TABLE.get((event, state)) == action

    def _run(self) -> None:
        """Let the table act until nothing is left to do."""
        while not self.event_queue.empty() or self._process_recv_primitive():
            event = self.event_queue.get()
            state = self.state_machine.current_state
            action = TRANSITION_TABLE.get((event, state))
            if action is None and (state in OVER or state == "Sta2"):
                self._forget(event)
                continue
            if action == "AA-8" and self._abort is None:
                # The table knows only one AA-8; PS3.8 9.3.8 has a reason for this one.
                self._abort = (pdu_reader.SERVICE_PROVIDER, pdu_reader.UNEXPECTED_PDU)
            self.state_machine.do_action(event)

    def _forget(self, event: str) -> None:
        """Drop what came too late: the peer was quicker in ending the association."""
        self._recv_pdu.clear()
        self.to_provider_queue.clear()
        LOGGER.debug("%s after the association ended", event)
