"""Listening for associations, and the associations that run (PS3.8 section 9.1).

`listen` returns a running `Server`, which is pynetdicom's `AssociationServer` with its accept
loop, its sockets and its associations replaced, made by the public `AE.make_server`. The door is
kept by `Doorman`, whose threads are the associations' too: one for each, from the door to its end,
which does the TLS handshake as well. One association is made before somebody asks for it.

Limits: so many associations in all and for one peer's address; one too many is answered with
A-ASSOCIATE-RJ(2,3,2), any while draining with (2,3,1). Several processes may listen on one
address, with a socket that they inherited.

Raises `CannotWrite` when the address cannot be taken.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

from pynetdicom import AE, evt
from pynetdicom.events import EventHandlerType
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AssociationServer

from node.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.errors import CannotWrite
from node.network.association import NodeAssociation
from node.network.association_handler import AssociationHandler, new_association
from node.network.census import Census
from node.network.doorman import LOCAL_LIMIT_EXCEEDED, TEMPORARY_CONGESTION, Doorman
from node.network.limits import Limits
from node.network.prototype import Prototype
from node.network.watched import copy_of, watched
from node.network.workers import Task

Address: TypeAlias = tuple[str, int]

#: pynetdicom counts associations too; the limits here are ours.
_NO_LIMIT = 1 << 30
#: An association that is told to abort needs no longer than this to notice.
_ABORT_SECONDS = 2.0


class Server(AssociationServer):
    """A running server; `listen` makes one."""

    def __init__(
        self,
        ae: AE,
        address: Address,
        ae_title: str,
        contexts: list[PresentationContext],
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: list[EventHandlerType] | None = None,
        request_handler: type[AssociationHandler] = AssociationHandler,
        *,
        limits: Limits,
        spill: Path | None = None,
        listening: socket.socket | None = None,
        census: Census | None = None,
    ) -> None:
        self.limits = limits
        self._census = census or Census(limits)
        self.spill = spill
        self._listening = listening
        self._lock = threading.Lock()
        #: Told when no association runs any more.
        self._all_ended = threading.Condition(self._lock)
        self._running: set[NodeAssociation] = set()
        self._draining = False
        #: An association that nobody has asked for yet; changed with the door's lock held.
        self._next: NodeAssociation | None = None
        super().__init__(
            ae, address, ae_title, contexts, ssl_context, evt_handlers, request_handler
        )
        self.prototype = Prototype(ae, ae_title, self.address, self.contexts, limits)
        self._doorman = Doorman(
            cast(socket.socket, self.socket),
            limits,
            ssl_context is not None,
            self,
        )

    def bind(
        self, event: evt.EventType, handler: Callable[..., Any], args: list[Any] | None = None
    ) -> None:
        """Bind `handler` to `event`, for the associations that run and those to come."""
        super().bind(event, handler, args)
        self._note_handlers()

    def unbind(self, event: evt.EventType, handler: Callable[..., Any]) -> None:
        """Undo `bind`."""
        super().unbind(event, handler)
        self._note_handlers()

    def _note_handlers(self) -> None:
        self.handlers, self.watched = copy_of(self._handlers), watched(self._handlers)

    def _bind_defaults(self) -> None:
        """Bind nothing but what intervention events need: no log line per PDU."""
        for event in evt._INTERVENTION_EVENTS:
            self.bind(event, evt.get_default_handler(event))

    # -- the listening socket --------------------------------------------------------------------

    def server_bind(self) -> None:
        """Take the address, or the socket that was handed over."""
        own = cast(socket.socket, self.socket)
        if self._listening is not None:
            own.close()
            self.socket = self._listening
        else:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            own.bind(self.server_address)
        self.server_address = cast(socket.socket, self.socket).getsockname()

    def server_activate(self) -> None:
        """Let the kernel queue connections, which are without delay as their listener is."""
        listening = cast(socket.socket, self.socket)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.listen(self.limits.backlog)

    @property
    def address(self) -> Address:
        """Return the host and port that are listened on."""
        return cast(Address, tuple(self.server_address)[:2])

    # -- running ---------------------------------------------------------------------------------

    def serve_forever(self, poll_interval: float = 0) -> None:
        """Look after the door until `shutdown`."""
        self._doorman.start()
        self._doorman.wait()

    def start(self) -> None:
        """Look after the door, in threads."""
        self._doorman.start()

    @property
    def is_serving(self) -> bool:
        """Tell whether the door is looked after; where it is not, nobody gets in."""
        return self._doorman.is_there

    @property
    def active_associations(self) -> list[Any]:
        """Return the associations that run."""
        with self._lock:
            return list(self._running)

    @property
    def active(self) -> int:
        """Return how many associations run."""
        return len(self._running)

    @property
    def over(self) -> int:
        """Return how many associations have nothing to do any more, but to see their peer close.

        Those over TLS and aborted ones do that themselves.
        """
        with self._lock:
            return sum(assoc.is_released or assoc.is_aborted for assoc in self._running)

    @property
    def waiting(self) -> int:
        """Return how many connections have no association: not yet, or not any more."""
        return self._doorman.waiting

    @property
    def turned_away(self) -> Counter[str]:
        """Return how many connections were turned away at the door, by reason."""
        return Counter(self._doorman.turned_away)

    def visitor_came(self) -> None:
        """Let other processes know of one who waits at the door."""
        self._census.visitor_came()

    def visitor_went(self) -> None:
        """Let other processes know that there is one less."""
        self._census.visitor_went()

    def others_have_fewer(self) -> bool:
        """Tell whether another process on the same socket has less to do."""
        return self._census.others_have_fewer(self.over if self._running else 0)

    def prepare(self) -> None:
        """Make the next association while nobody waits for it."""
        if self._next is None:
            self._next = new_association(self)

    def next_association(self) -> NodeAssociation:
        """Return an association that is nobody's yet."""
        assoc, self._next = self._next, None
        return assoc or new_association(self)

    def admit(self, sock: socket.socket, address: Any) -> Task | bytes:
        """Give `sock` to an association and return its task, or the PDU that rejects it."""
        if self._draining:
            return TEMPORARY_CONGESTION
        if not self._census.take(address[0]):
            return LOCAL_LIMIT_EXCEEDED
        try:
            handler: Any = self.RequestHandlerClass(sock, address, cast(Any, self))
        except BaseException:
            self._census.ended(address[0])
            raise
        assoc: NodeAssociation = handler.assoc
        with self._lock:
            self._running.add(assoc)
            self._note_crowd()
        return assoc.run_reactor

    def _note_crowd(self) -> None:
        self.prototype.alertness.is_crowded = len(self._running) > 1

    def see_off(self, sock: socket.socket) -> None:
        """Wait at the door for the peer of an association that is over to close."""
        self._doorman.see_off(sock)

    def association_ended(self, assoc: NodeAssociation) -> None:
        """Forget `assoc`; its thread calls this as the last thing."""
        with self._lock:
            self._running.discard(assoc)
            self._note_crowd()
            self._census.ended(assoc.peer_address)
            if not self._running:
                self._all_ended.notify_all()

    # -- ending ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop listening; associations go on, and so do connections at the door."""
        self._doorman.stop_accepting()

    def reject(self) -> None:
        """Reject new associations with (2,3,1) from now on."""
        self._draining = True

    def drain(self, seconds: float) -> bool:
        """Reject new associations; True when the running ones ended in time.

        Peers that are still taking their last answers have that time too.
        """
        self.reject()
        end = time.monotonic() + seconds
        has_ended = self._wait_until_none_runs(seconds)
        self._doorman.wait_for_released(max(0.0, end - time.monotonic()))
        return has_ended

    def _wait_until_none_runs(self, seconds: float) -> bool:
        with self._lock:
            return self._all_ended.wait_for(lambda: not self._running, seconds)

    def shutdown(self) -> None:
        """Stop listening and abort what runs; returns when nothing of it is left."""
        self._doorman.stop(_ABORT_SECONDS)
        self._next = None
        for assoc in self.active_associations:
            assoc.abort(block=False)
        self._wait_until_none_runs(_ABORT_SECONDS)
        with contextlib.suppress(ValueError):
            self.ae._servers.remove(cast(Any, self))

    def server_close(self) -> None:
        """Close the listening socket."""
        cast(socket.socket, self.socket).close()


def listen(
    *,
    address: Address | socket.socket,
    ae_title: str,
    handlers: Sequence[Any],
    contexts: list[PresentationContext],
    limits: Limits | None = None,
    spill: Path | None = None,
    ssl_context: ssl.SSLContext | None = None,
    require_called_aet: bool = False,
    census: Census | None = None,
) -> Server:
    """Listen on `address`, or on a socket that is listening already, and return at once.

    Servers with the same `census` share the limits on associations.
    """
    limits = limits or Limits()
    ae = AE(ae_title)
    ae.implementation_class_uid = cast(Any, IMPLEMENTATION_CLASS_UID)
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.maximum_associations = _NO_LIMIT
    ae.maximum_pdu_size = limits.max_pdu
    ae.acse_timeout = limits.artim_seconds
    ae.dimse_timeout = limits.idle_seconds
    ae.network_timeout = limits.idle_seconds
    ae.require_called_aet = require_called_aet
    inherited = address if isinstance(address, socket.socket) else None
    where: Address = address.getsockname()[:2] if isinstance(address, socket.socket) else address
    try:
        server = ae.make_server(
            where,
            contexts=contexts,
            ssl_context=ssl_context,
            evt_handlers=list(handlers),
            server_class=Server,
            limits=limits,
            spill=spill,
            listening=inherited,
            census=census,
        )
    except OSError as error:
        raise CannotWrite(f"cannot listen on {where[0]}:{where[1]}: {error.strerror}") from error
    server = cast(Server, server)
    ae._servers.append(cast(Any, server))
    server.start()
    return server
