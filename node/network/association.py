"""An association that is driven by one thread (PS3.8 section 7, PS3.7 section 7).

pynetdicom's `Association` with its transport replaced: negotiation, service classes, events and
the `send_*` methods are the parent's. As acceptor the association's own thread waits for requests
and serves them. As requestor there is no thread at all: the caller's thread does what it asks
for, and `serve` lets it wait for requests of the peer (an N-EVENT-REPORT, for example).

`abort` may be called from any thread; the thread that is reading notices at once. Everything else
belongs to one thread at a time. Diagnostics: one log line when a peer is given up; the rest is
told by pynetdicom's events.
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE

from node.network.acse import NodeACSE
from node.network.arena import Pool
from node.network.connection import Connection
from node.network.dimse import MessageProvider
from node.network.indications import ALREADY
from node.network.limits import Limits
from node.network.messages import close_data_of
from node.network.parties import Parties
from node.network.prototype import Prototype
from node.network.services import serve_request
from node.network.tls import identities
from node.network.upper_layer import UpperLayer
from node.network.watched import Watched

if TYPE_CHECKING:
    from node.network.window import Window

LOGGER = logging.getLogger(__name__)

_NOT_WATCHED: Final = Watched()
_DEFAULT_HANDLERS: Final[dict[Any, Any]] = {
    event: (evt.get_default_handler(event), None) for event in evt._INTERVENTION_EVENTS
}


class NodeAssociation(Parties):
    """One association over this room's transport."""

    dul: UpperLayer
    dimse: MessageProvider

    # pynetdicom's initialiser makes a thread, its events and a transport: not called.
    def __init__(
        self,
        ae: AE,
        mode: str,
        limits: Limits,
        spill: Path | None = None,
        prototype: Prototype | None = None,
    ) -> None:
        super().__init__(prototype)
        #: Names the association in log and audit.
        self.code = f"{random.getrandbits(24):06x}"
        #: Why the TLS handshake failed, where it did: whoever listens to EVT_CONN_CLOSE tells.
        self.tls_failure = ""
        self.limits = limits
        self.spill = spill
        self.pool = Pool() if prototype is None else prototype.pool
        self.was_established = False
        #: Requests that were refused and told of in the log.
        self.refusals_told = 0
        self.tls: ssl.SSLContext | None = None
        #: What the peer's certificate proves, where it has shown a good one.
        self.certificate_names: frozenset[str] = frozenset()
        self.send_window: Window | None = None
        #: Called for each C-STORE that is refused without a handler.
        self.on_refused: Callable[[], None] | None = None
        #: Called for each C-ECHO that was answered.
        self.on_echo: Callable[[], None] | None = None
        #: Called once when it is over, whatever ended it: pynetdicom's EVT_CONN_CLOSE is not
        #: triggered where a reset is found on the way.
        self.on_over: Callable[[], None] | None = None
        #: Takes the connection where the peer, released, is the one to close it.
        self.see_off: Callable[[socket.socket], None] | None = None
        #: Called in the association's thread as the last thing.
        self.on_end: Callable[[NodeAssociation], None] | None = None
        self._abort_wanted = False
        self._thread: int | None = None
        self._has_ended = False
        #: Held while a thread serves it.
        self._served = threading.Lock()
        self._be_an_association(ae, mode)
        self.acse = NodeACSE(self)
        self.dul = UpperLayer(self)
        self.dimse = MessageProvider(self)

    def _be_an_association(self, ae: AE, mode: str) -> None:
        """Set what pynetdicom's methods ask for, as its setters would."""
        self._ae = ae
        self._mode = mode
        self._server = None
        self.is_established = self.is_rejected = self.is_aborted = self.is_released = False
        self._sent_abort = self._sent_release = False
        self._accepted_cx = {}
        self._rejected_cx = []
        self.network_timeout_response = "A-ABORT"
        self._handlers, self.watched = _DEFAULT_HANDLERS, _NOT_WATCHED
        self._kill = self._started_dul = False
        self._reactor_checkpoint = ALREADY
        self._network_timeout = self.limits.send_seconds
        self.note_timeouts()

    def note_timeouts(self) -> None:
        """Have the timeouts that the application entity has now."""
        ae = self._ae
        self._acse_timeout, self._dimse_timeout = ae._acse_timeout, ae._dimse_timeout
        self.connection_timeout = ae._connection_timeout

    def __repr__(self) -> str:
        return f"<association with {self.peer_name}>"

    # -- a thread in name only -----------------------------------------------------------------

    name = ""

    def is_alive(self) -> bool:
        """Tell whether a thread serves this association."""
        return self._thread is not None and not self._has_ended

    def join(self, timeout: float | None = None) -> None:
        """Wait until no thread serves it any more."""
        if self._served.acquire(timeout=-1 if timeout is None else timeout):
            self._served.release()

    @property
    def peer_name(self) -> str:
        """Return the peer as every log line names it: AE title, once it is known, and address."""
        if self.is_acceptor and not self.client_address:
            return "nobody yet"
        peer = self.requestor if self.is_acceptor else self.acceptor
        title = f"{peer.ae_title.strip()}@" if peer.ae_title else ""
        address = peer.address_info
        if address is None:
            return f"{title}?"
        # The port of one who calls us is of no use to anybody.
        return f"{title}{address.address}" + ("" if self.is_acceptor else f":{address.port}")

    # The parent pauses a reactor thread with this before it sends; there is none to pause.
    @property
    def _is_paused(self) -> bool:
        return True

    @_is_paused.setter
    def _is_paused(self, value: bool) -> None:
        pass

    # -- acceptor ----------------------------------------------------------------------------

    def run_reactor(self) -> None:
        """Negotiate, serve until the end, leave nothing open; in a thread of the server's."""
        self._served.acquire()
        self._thread = threading.get_ident()
        threading.current_thread().name = self.name
        try:
            evt.trigger(self, evt.EVT_CONN_OPEN, {"address": self.client_address})
            if self._secure() and self._negotiate():
                self.was_established = True
                self._serve_until_end()
        except Exception:
            LOGGER.exception("association with %s failed", self.peer_name)
        finally:
            try:
                self.kill()
                over, self.on_over = self.on_over, None
                if over is not None:
                    over()
            finally:
                # Whatever failed: a place that is not given back is gone until a restart.
                self._has_ended = True
                self._served.release()
                if self.on_end is not None:
                    self.on_end(self)

    def _secure(self) -> bool:
        """Do the TLS handshake here, where a silent peer holds up nobody else."""
        if self.tls is None:
            return True
        connection = cast(Connection, self.dul.socket)
        try:
            connection.secure(self.tls, self.limits.artim_seconds)
            self.certificate_names = identities(connection.socket)
        except (OSError, ValueError) as error:
            self.tls_failure = str(error)
            evt.trigger(self, evt.EVT_CONN_CLOSE, {"address": self.peer_address})
            return False
        return True

    def _negotiate(self) -> bool:
        self.dul.open()
        request = self.dul.receive_pdu(wait=True, timeout=self.limits.artim_seconds)
        if request is None:
            return False
        self.take_request(request)
        rejection = self.judged.rejection if self.judged is not None else None
        if rejection is None:
            evt.trigger(self, evt.EVT_REQUESTED, {})
            if not self.is_aborted and not self.is_rejected:
                self.dimse.forget_maximum_pdu_size()
                self.acse._negotiate_as_acceptor()
        else:
            self.acse.send_reject(*rejection)
            evt.trigger(self, evt.EVT_REJECTED, {})
        return self.is_established

    def _serve_until_end(self) -> None:
        while not self._kill and self.is_established:
            if not self.serve(self.limits.idle_seconds) and self.is_established:
                LOGGER.info("aborting association with %s: idle", self.peer_name)
                self.abort()

    # -- both --------------------------------------------------------------------------------

    def serve(self, seconds: float | None) -> bool:
        """Wait at most `seconds` for the peer to say something and act on it.

        Returns False if it said nothing in that time, or if the association is over.
        """
        context_id, message = self.dimse.next_message(seconds)
        if message is not None:
            self._serve_request(message, context_id)
            return True
        return self._settle()

    def _serve_request(self, msg: Any, context_id: int) -> None:
        if not serve_request(self, msg, context_id):
            super()._serve_request(msg, context_id)

    def _c_store_scp(self, req: C_STORE) -> None:
        """Serve a C-STORE sub-operation of a C-GET of ours (PS3.4 C.4.3)."""
        try:
            super()._c_store_scp(req)
        finally:
            close_data_of(req)

    def _settle(self) -> bool:
        """Act on an A-RELEASE or A-ABORT that has arrived; False where none has."""
        if not self.is_established:
            return False
        if self._abort_wanted:
            self.is_aborted = True
            event = evt.EVT_ABORTED
        elif self.acse.is_release_requested():
            self.acse.send_release(is_response=True)
            self.is_released = True
            event = evt.EVT_RELEASED
        elif self.acse.is_aborted():
            self.dul.receive_pdu(wait=False)
            self.is_aborted = True
            event = evt.EVT_ABORTED
        else:
            return False
        self.is_established = False
        evt.trigger(self, event, {})
        if not self.is_alive():  # or its thread does that as the last thing
            self.kill()
        return True

    def _handle_no_response(self) -> None:
        if not self._settle() and self.is_established:
            LOGGER.warning("aborting association with %s: no response", self.peer_name)
            self.abort()

    def _abort_blocking(self, block: bool = True) -> None:
        """Abort, from whichever thread."""
        if self._sent_abort or self.is_released:
            return
        self._sent_abort = True
        serves = self.is_alive() and self._thread != threading.get_ident()
        if serves or self.dul.is_waiting_elsewhere():
            self._abort_wanted = True
            self.dul.connection.wake()
            return
        self.acse.send_abort(0x00)
        evt.trigger(self, evt.EVT_ABORTED, {})
        if block:
            self.kill()

    @property
    def abort_wanted(self) -> bool:
        """Tell whether another thread has asked for the end."""
        return self._abort_wanted

    def kill(self) -> None:
        """End here and now: the connection closed, no spill file left."""
        self._kill = True
        self.is_established = False
        self.dul.finish()
        self.dimse.abandon()

    def request(self) -> None:
        """Ask the peer for the association and wait for its answer."""
        self._started_dul = True
        self.acse.negotiate_association()
        self.dimse.forget_maximum_pdu_size()
        self.was_established = self.is_established
