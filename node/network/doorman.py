"""The door: connections wait here, at the price of a descriptor each, until they ask for something.

A connection gets a thread when its A-ASSOCIATE-RQ has arrived, whole, in the kernel's buffer (or
its TLS ClientHello). Until then nothing of it is read and no memory is spent. One that closes,
stays silent, dawdles or speaks another protocol never gets further than this, so neither a scan
nor a thousand silent peers cost the others anything.

The answers given here are those of the state table before there is an association (PS3.8 Table
9-10, Sta2), all constant: A-ABORT(0,0) for anything but an A-ASSOCIATE-RQ (AA-1), A-ASSOCIATE-RJ
when a limit is reached or the node is stopping, close when ARTIM expires (AA-2) or on an A-ABORT.

One thread, `Doorman.run`, owns every connection in here; `wake` and `stop` may be called from any.
Nothing is raised; how many were turned away for what is counted in `turned_away`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import struct
import time
from collections import Counter, OrderedDict
from typing import Any, Final, Protocol

from node.network.first_bytes import arrived, bytes_wanted, has_ended
from node.network.limits import Limits
from node.network.pdu_reader import A_ABORT, HEADER, InvalidPDU
from node.network.ports import as_people_write_it
from node.network.refusals import Refusals
from node.network.visitor import Visitor

LOGGER = logging.getLogger(__name__)

#: A-ASSOCIATE-RJ, transient, by the presentation related service provider (PS3.8 9.3.4).
TEMPORARY_CONGESTION: Final = bytes.fromhex("03000000000400020301")
LOCAL_LIMIT_EXCEEDED: Final = bytes.fromhex("03000000000400020302")
_ABORT: Final = struct.Struct(">BxIxxBB")

#: No descriptor left: let associations end before accepting again.
_PAUSE_SECONDS: Final = 0.1
#: A connection is left to a process that has less to do for so long, so many times.
_DEFERENCE_SECONDS: Final = 0.001
_MOST_DEFERENCES: Final = 4
#: One that does not take it is not deferred to again for so long.
_PRECEDENCE_SECONDS: Final = 0.01
_WATCHED: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Host(Protocol):
    """Whose door it is."""

    def admit(self, sock: socket.socket, address: Any) -> bytes | None:
        """Take a connection over, or return the PDU that turns it away."""

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
        self._listening = listening
        self._limits = limits
        self._secured = secured
        self._host = host
        # Oldest first: deadlines are in that order, but for those that are leaving.
        self._visitors: OrderedDict[int, Visitor] = OrderedDict()
        self._leaving: OrderedDict[int, Visitor] = OrderedDict()
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = False
        self._defer_again = 0.0
        self._accepting = True
        self._passing_on = 0
        self._accept_again: float | None = None
        self._refusals = Refusals()
        self.accepted = 0

    @property
    def turned_away(self) -> Counter[str]:
        """Return how many connections were turned away, by reason."""
        return self._refusals.counted

    @property
    def waiting(self) -> int:
        """Return how many connections are at the door, or may still come to it.

        One that is being passed on counts, and until the door is shut so does whoever may slip in:
        0 after `stop_accepting` means that none will come any more.
        """
        closing = not self._accepting and self._listening.fileno() >= 0
        return len(self._visitors) + len(self._leaving) + self._passing_on + closing

    def run(self) -> None:
        """Look after the door until `stop`."""
        self._listening.setblocking(False)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._epoll.register(self._listening, select.EPOLLIN)
        try:
            while not self._stopping:
                for descriptor, _ in self._epoll.poll(self._timeout()):
                    self._attend(descriptor)
                self._close_overdue()
        finally:
            self._close_all()

    def stop(self) -> None:
        """Let `run` return; connections at the door are closed."""
        self._stopping = True
        self.wake()

    def stop_accepting(self) -> None:
        """Leave new connections to other processes on the same socket, or refused."""
        self._accepting = False
        self.wake()

    def wake(self) -> None:
        """Let `run` look again."""
        if self._wake >= 0:
            with contextlib.suppress(OSError):
                os.eventfd_write(self._wake, 1)

    # -- the loop ------------------------------------------------------------------------------

    def _timeout(self) -> float:
        deadlines = [
            next(iter(group.values())).deadline
            for group in (self._visitors, self._leaving)
            if group
        ]
        if self._accept_again is not None:
            deadlines.append(self._accept_again)
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else -1

    def _attend(self, descriptor: int) -> None:
        if descriptor == self._wake:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            if not self._accepting:
                self._stop_listening()
        elif (visitor := self._visitors.get(descriptor)) is not None:
            self._look_at(visitor)
        elif (visitor := self._leaving.get(descriptor)) is not None:
            # What still comes is read, so that the answer is not lost in a reset.
            if visitor.has_left(self._limits.closing_bytes):
                self._dismiss(visitor)
        elif self._listening.fileno() == descriptor:
            self._accept()

    def _stop_listening(self) -> None:
        if self._listening.fileno() >= 0:
            with contextlib.suppress(OSError):
                self._epoll.unregister(self._listening)
            self._listening.close()
        self._accept_again = None

    def _accept(self) -> None:
        """Let in one connection: others wait for the next turn, or for another process.

        All processes are woken. The one with the fewest associations is the first to take it.
        """
        self._defer()
        try:
            sock, address = self._listening.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._make_room()
            return  # or this one was reset before it was accepted
        self.accepted += 1
        self._receive(sock, as_people_write_it(address))

    def _defer(self) -> None:
        """Let a process with less to do come first, for as long as it takes what comes."""
        if time.monotonic() < self._defer_again:
            return
        for _ in range(_MOST_DEFERENCES):
            if not self._host.others_have_fewer():
                return
            time.sleep(_DEFERENCE_SECONDS)
        self._defer_again = time.monotonic() + _PRECEDENCE_SECONDS

    def _make_room(self) -> None:
        """No descriptor is left: the one that has waited longest goes, or nobody enters."""
        self._refusals.note("no descriptor left", "this node")
        if self._visitors:
            self._dismiss(next(iter(self._visitors.values())))
            return
        self._epoll.modify(self._listening, 0)
        self._accept_again = time.monotonic() + _PAUSE_SECONDS

    def _receive(self, sock: socket.socket, address: Any) -> None:
        sock.setblocking(False)
        if len(self._visitors) >= self._limits.waiting:
            # A peer that means it is here for milliseconds: the oldest is the one to go.
            oldest = next(iter(self._visitors.values()))
            self._refusals.note("door is full", oldest.address[0])
            self._dismiss(oldest)
        visitor = Visitor(sock, address, time.monotonic() + self._limits.artim_seconds)
        descriptor = sock.fileno()
        self._visitors[descriptor] = visitor
        self._host.visitor_came()
        self._look_at(visitor)  # the request may have come with the connection
        if self._visitors.get(descriptor) is visitor:
            try:
                self._epoll.register(sock, _WATCHED)
            except OSError:
                # What nobody watches would never be let in.
                self._refusals.note("no descriptor left", visitor.address[0])
                self._dismiss(visitor)

    def _look_at(self, visitor: Visitor) -> None:
        """Decide what to do with a connection on which something happened."""
        try:
            head = visitor.sock.recv(HEADER.size, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            head = b""
        if not head:
            self.turned_away["closed without a word"] += 1
            self._dismiss(visitor)
            return
        try:
            wanted = bytes_wanted(head, self._secured, self._limits)
        except InvalidPDU as fault:
            self._refuse(visitor, head, fault)
            return
        if wanted is None or arrived(visitor.sock) < wanted:
            if has_ended(visitor.sock):
                self._dismiss(visitor)
            return
        self._pass_on(visitor)

    def _pass_on(self, visitor: Visitor) -> None:
        self._passing_on = 1
        try:
            self._forget(visitor)
            answer = self._host.admit(visitor.sock, visitor.address)
        except Exception:
            LOGGER.exception("cannot start an association")
            answer = LOCAL_LIMIT_EXCEEDED
        finally:
            self._passing_on = 0
        if answer is not None:
            stopping = answer == TEMPORARY_CONGESTION
            self._refusals.note(
                "the node is stopping" if stopping else "association limit", visitor.address[0]
            )
            self._answer(visitor, b"" if self._secured else answer)

    # -- turning away --------------------------------------------------------------------------

    def _refuse(self, visitor: Visitor, head: bytes, fault: InvalidPDU) -> None:
        """Answer what is no request. What it was is not read again: it may be reset by now."""
        self._forget(visitor)
        self._refusals.note("not a DICOM request", visitor.address[0])
        silent = self._secured or head[0] == A_ABORT
        abort = _ABORT.pack(A_ABORT, 4, fault.source, fault.reason)
        self._answer(visitor, b"" if silent else abort)

    def _answer(self, visitor: Visitor, pdu: bytes) -> None:
        """Send the last PDU, then wait a little for the peer to close (Sta13)."""
        descriptor = visitor.sock.fileno()
        visitor.leaving = True
        visitor.deadline = time.monotonic() + self._limits.refuse_seconds
        try:
            visitor.say_last(pdu)
            self._leaving[descriptor] = visitor
            self._epoll.register(descriptor, _WATCHED)
        except OSError:
            self._leaving.pop(descriptor, None)
            visitor.sock.close()

    def _close_overdue(self) -> None:
        now = time.monotonic()
        for group in (self._visitors, self._leaving):
            while group and (visitor := next(iter(group.values()))).deadline <= now:
                if not visitor.leaving:
                    self._refusals.note("said nothing in time", visitor.address[0])
                self._dismiss(visitor)
        if self._accept_again is not None and self._accept_again <= now:
            self._accept_again = None
            self._epoll.modify(self._listening, select.EPOLLIN)

    def _dismiss(self, visitor: Visitor) -> None:
        self._forget(visitor)
        visitor.sock.close()

    def _forget(self, visitor: Visitor) -> None:
        descriptor = visitor.sock.fileno()
        group = self._leaving if visitor.leaving else self._visitors
        if group.pop(descriptor, None) is not None and group is self._visitors:
            self._host.visitor_went()
        with contextlib.suppress(OSError):
            self._epoll.unregister(descriptor)

    def _close_all(self) -> None:
        for visitor in [*self._visitors.values(), *self._leaving.values()]:
            self._dismiss(visitor)
        self._stop_listening()
        self._epoll.close()
        # Whoever still wakes us must not write into another file that has its number by then.
        wake, self._wake = self._wake, -1
        os.close(wake)
