"""The door: connections wait here, at the price of a descriptor each, until they ask for something.

A connection gets a thread when its A-ASSOCIATE-RQ has arrived, whole, in the kernel's buffer (or
its TLS ClientHello). Until then nothing of it is read and no memory is spent. One that closes,
stays silent, dawdles or speaks another protocol never gets further than this, so neither a scan
nor a thousand silent peers cost the others anything.

The answers given here are those of the state table before there is an association (PS3.8 Table
9-10, Sta2), all constant: A-ABORT(0,0) for anything but an A-ASSOCIATE-RQ (AA-1), A-ASSOCIATE-RJ
when a limit is reached or the node is stopping, close when ARTIM expires (AA-2) or on an A-ABORT.

`Workers` attend to the door, one thread at a time; who lets an association in goes on with it, and
another stays. What others may call says so. Nothing is raised; how many were turned away for what
is counted in `turned_away`.
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from collections import Counter
from typing import Any, Final, Protocol

from node.network.alertness import Alertness
from node.network.departures import Departures
from node.network.entrance import Entrance, NoRoom
from node.network.first_bytes import arrived, bytes_wanted, has_ended
from node.network.limits import Limits
from node.network.line import close_for_good
from node.network.pdu_reader import A_ABORT, HEADER, InvalidPDU
from node.network.refusals import Refusals
from node.network.visitor import Queue, Visitor
from node.network.workers import Task, Workers

LOGGER = logging.getLogger(__name__)

#: A-ASSOCIATE-RJ, transient, by the presentation related service provider (PS3.8 9.3.4).
TEMPORARY_CONGESTION: Final = bytes.fromhex("03000000000400020301")
LOCAL_LIMIT_EXCEEDED: Final = bytes.fromhex("03000000000400020302")
_ABORT: Final = struct.Struct(">BxIxxBB")

#: What fits is seen at the first look; the requests of most peers are shorter.
_USUAL_BYTES: Final = 4096
_PEEK: Final = socket.MSG_PEEK | socket.MSG_DONTWAIT


class Host(Protocol):
    """Whose door it is; asked while the door is attended to, and must not call it meanwhile."""

    def admit(self, sock: socket.socket, address: Any) -> Task | bytes:
        """Take a connection over and return its association's task, or what turns it away."""

    def prepare(self) -> None:
        """Do what can be done before somebody asks to be admitted."""

    def visitor_came(self) -> None:
        """Count one more who waits at the door."""

    def visitor_went(self) -> None:
        """Count one less."""

    def others_have_fewer(self) -> bool:
        """Tell whether another process on the socket has less to do."""


class Doorman:
    """Accepts connections and passes on those that ask for an association."""

    def __init__(
        self,
        listening: socket.socket,
        limits: Limits,
        secured: bool,
        host: Host,
    ) -> None:
        self._limits = limits
        self._secured = secured
        self._host = host
        self._workers = Workers(self, f"door {listening.getsockname()[1]}")
        epoll = self._workers.epoll
        self._entrance = Entrance(listening, epoll, self._workers.unlocked, host.others_have_fewer)
        self._visitors = Queue(epoll, limits.artim_seconds)
        #: Told when nobody is left whose association was released.
        self._departed = threading.Condition(self._workers.lock)
        self._departures = Departures(epoll, limits, self._departed.notify_all)
        self._accepting = True
        self._refusals = Refusals()
        #: Of how soon those who have connected ask, or go.
        self._alertness = Alertness()

    @property
    def accepted(self) -> int:
        """Return how many connections were let in so far."""
        return self._entrance.accepted

    @property
    def turned_away(self) -> Counter[str]:
        """Return how many connections were turned away, by reason."""
        return self._refusals.counted

    @property
    def waiting(self) -> int:
        """Return how many connections are at the door, or may still come to it.

        Until the door is shut whoever may slip in counts: 0 after `stop_accepting` means that none
        will come any more. Any thread may ask.
        """
        with self._workers.lock:
            closing = not self._accepting and self._entrance.is_open
            return len(self._visitors) + len(self._departures) + closing

    @property
    def is_there(self) -> bool:
        """Tell whether the door is looked after."""
        return self._workers.is_waiting

    def start(self) -> None:
        """Look after the door until `stop`, in threads."""
        self._entrance.open()
        self._workers.start()

    def stop(self, seconds: float) -> None:
        """Let connections at the door go; returns when that is done. Any thread may call it."""
        self._workers.stop()
        self.wait(seconds)

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the door is looked after no more."""
        self._workers.ended.wait(seconds)

    def wait_for_released(self, seconds: float) -> None:
        """Wait at most so long until no released peer still has to close."""
        with self._departed:
            self._departed.wait_for(lambda: not self._departures.released, seconds)

    def stop_accepting(self) -> None:
        """Leave new connections to other processes on the same socket, or refused.

        Any thread may call it.
        """
        self._accepting = False
        self._workers.call()

    # -- what the threads do here --------------------------------------------------------------

    def prepare(self) -> None:
        """Let the host be ready for the next one, if it can be: who asks will be told."""
        try:
            self._host.prepare()
        except Exception:
            LOGGER.debug("nothing is prepared", exc_info=True)

    def next_deadline(self) -> float:
        """Return when somebody or something at the door has waited long enough."""
        departing = self._departures.next_deadline()
        return min(self._entrance.deadline, self._visitors.deadline, departing)

    def attend(self, descriptor: int) -> None:
        """Look at a connection, or let one in."""
        if descriptor == self._entrance.descriptor:
            self._accept()
        elif (visitor := self._visitors.get(descriptor)) is not None:
            # Not more is looked at: one that sends it byte by byte would have all seen each time.
            self._is_done_with(visitor, HEADER.size)
        else:
            self._departures.attend(descriptor)

    def attend_to_call(self) -> None:
        """Stop listening, where that is wanted."""
        if not self._accepting:
            self._entrance.close()

    def _accept(self) -> None:
        try:
            found = self._entrance.accept()
        except NoRoom:
            self._refusals.note("no descriptor left", "this node")
            if self._makes_room():
                self._entrance.listen()
            else:
                self._entrance.pause(time.monotonic())
            return
        if found is not None:
            self._receive(*found)

    def _makes_room(self) -> bool:
        """One that is over goes, or the one that has waited longest; False where there is none."""
        if self._departures:
            self._departures.dismiss_one()
        elif self._visitors:
            self._dismiss(self._visitors.first)
        else:
            return False
        return True

    def _receive(self, sock: socket.socket, address: Any) -> None:
        visitor = Visitor(sock, address, time.monotonic())
        if self._is_done_with(visitor, _USUAL_BYTES):  # the request had come with the connection
            return
        with self._workers.unlocked:
            comes_at_once = self._alertness.wait(sock.fileno())
        if comes_at_once and self._is_done_with(visitor, _USUAL_BYTES):
            return
        self._host.visitor_came()
        if len(self._visitors) >= self._limits.waiting:
            # A peer that means it is here for milliseconds: the oldest is the one to go.
            self._refusals.note("door is full", self._visitors.first.address[0])
            self._dismiss(self._visitors.first)
        self._visitors.put(visitor, visitor.came_at)
        if not self._visitors.watch(visitor):
            # What nobody watches would never be let in.
            self._refusals.note("no descriptor left", visitor.address[0])
            self._dismiss(visitor)

    def _is_done_with(self, visitor: Visitor, most: int) -> bool:
        """Look at the first bytes of a connection; False where it is to wait for more."""
        try:
            said = visitor.sock.recv(most, _PEEK)
        except BlockingIOError:
            return False
        except OSError:
            said = b""
        if not said:
            self.turned_away["closed without a word"] += 1
            self._dismiss(visitor)
            return True
        try:
            wanted = bytes_wanted(said, self._secured, self._limits)
        except InvalidPDU as fault:
            self._refuse(visitor, said, fault)
            return True
        if wanted is not None and (len(said) >= wanted or arrived(visitor.sock) >= wanted):
            self._pass_on(visitor)
            return True
        if has_ended(visitor.sock):
            self._dismiss(visitor)
            return True
        return False

    def _pass_on(self, visitor: Visitor) -> None:
        self._forget(visitor)
        try:
            self._workers.make_ready()
            answer = self._host.admit(visitor.sock, visitor.address)
        except Exception:
            LOGGER.exception("cannot start an association")
            answer = LOCAL_LIMIT_EXCEEDED
        if not isinstance(answer, bytes):
            self._workers.put(answer)
            return
        stopping = answer == TEMPORARY_CONGESTION
        self._refusals.note(
            "the node is stopping" if stopping else "association limit", visitor.address[0]
        )
        self._answer(visitor, b"" if self._secured else answer)

    # -- turning away --------------------------------------------------------------------------

    def _refuse(self, visitor: Visitor, said: bytes, fault: InvalidPDU) -> None:
        """Answer what is no request. What it was is not read again: it may be reset by now."""
        self._forget(visitor)
        self._refusals.note("not a DICOM request", visitor.address[0])
        silent = self._secured or said[0] == A_ABORT
        abort = _ABORT.pack(A_ABORT, 4, fault.source, fault.reason)
        self._answer(visitor, b"" if silent else abort)

    def _answer(self, visitor: Visitor, pdu: bytes) -> None:
        """Send the last PDU, then wait a little for the peer to close (Sta13)."""
        self._departures.refuse(visitor, pdu, time.monotonic())

    def see_off(self, sock: socket.socket) -> None:
        """Wait for the peer of an association that was released to close; any thread may call it.

        Where there is no door any more it is closed now.
        """
        with self._workers.lock:
            if self._workers.ended.is_set():
                close_for_good(sock)
            else:
                self._departures.see_off(sock, time.monotonic())

    def attend_to_deadlines(self) -> None:
        """Let those go that have waited long enough; try again to let somebody in."""
        now = time.monotonic()
        while self._visitors.deadline <= now:
            self._refusals.note("said nothing in time", self._visitors.first.address[0])
            self._dismiss(self._visitors.first)
        self._departures.attend_to_deadlines(now)
        self._entrance.attend_to_deadline(now)

    def _dismiss(self, visitor: Visitor) -> None:
        self._forget(visitor)
        visitor.sock.close()

    def _forget(self, visitor: Visitor) -> None:
        """Let a connection wait for its request no more."""
        if visitor.queue is not None:
            visitor.queue.remove(visitor)
            self._alertness.note(time.monotonic() - visitor.came_at)
            self._host.visitor_went()

    def end(self) -> None:
        """Close whatever is here."""
        while self._visitors:
            self._dismiss(self._visitors.first)
        self._departures.close()
        self._entrance.close()
