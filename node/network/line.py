"""A connected socket whose every wait has a deadline.

A read that has to wait is limited by the kernel itself (SO_RCVTIMEO), so an idle association costs
nothing and a descriptor above 1,024 is like any other. Where peers mostly go on at once it begins
awake (`Alertness`), but for TLS. A send waits for room and for the peer's word at once, so that an
A-ABORT is seen by one who would otherwise wait for a peer that stopped reading.

Deadlines are on the monotonic clock; None waits for ever. `TimeoutError` is raised when one has
passed, `OSError` for a broken line on sending; a line broken while receiving is its end. Another
thread may call `wake` and nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import select
import socket
import ssl
import struct
import sys
import termios
import time
from typing import Final

from node.network.alertness import Alertness
from node.network.kernel import KERNEL
from node.network.limits import KIB

_TIMEVAL: Final = struct.Struct("ll")
#: SO_LINGER: close at once, with a reset.
_RESET: Final = struct.pack("ii", 1, 0)
_AT_ONCE: Final = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
#: So little is sent at once, or what the peer's window leaves of it.
_SMALL_BYTES: Final = 64 * KIB
_STOPPED_READING: Final = "the peer takes no more data"
#: Where TCP_INFO has what the peer has acknowledged: tcpi_bytes_acked in linux/tcp.h.
_BYTES_ACKED: Final = slice(120, 128)
#: How often to look whether all was taken; there is no event for it.
_LOOK_MILLISECONDS: Final = 50
#: Deadlines are kept to about this; it also keeps SO_RCVTIMEO from becoming 0, "for ever".
_RESOLUTION: Final = 0.001


def remaining(deadline: float | None) -> float:
    """Return the seconds until `deadline`; raise `TimeoutError` when it has passed."""
    if deadline is None:
        return math.inf
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def unsent_bytes(sock: socket.socket) -> int:
    """Return how many bytes the peer has not acknowledged."""
    return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def taken_bytes(sock: socket.socket) -> int:
    """Return what grows whenever the peer acknowledges something: how many bytes it has.

    Where that is not counted, as in some sandboxes, it is how few are unsent.
    """
    information = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.stop)
    return int.from_bytes(information[_BYTES_ACKED], sys.byteorder) or -unsent_bytes(sock)


def _more_taken(sock: socket.socket, before: int) -> int:
    """Return how much was taken until now; raise `TimeoutError` where that is not more."""
    taken = taken_bytes(sock)
    if taken <= before:
        raise TimeoutError(_STOPPED_READING)
    return taken


def close_for_good(sock: socket.socket) -> None:
    """Close a connection, also where its peer takes no more."""
    try:
        if unsent_bytes(sock):
            # What the peer did not take until now it never will: without a reset the kernel
            # would keep on offering it, and keep the memory.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    except OSError:
        pass  # it is reset already
    sock.close()


class Line:
    """A socket, of TLS after `secure`; it is None when it is closed or not connected yet."""

    def __init__(self, connected: socket.socket | None, alertness: Alertness | None = None) -> None:
        self.socket = connected
        #: Whether the connection is secured; it stays so when it is closed.
        self.is_tls = False
        #: What is known of how soon peers go on; those of one listening address share it.
        self.alertness = alertness or Alertness()
        self._armed = math.inf
        self._input: select.poll | None = None

    @property
    def descriptor(self) -> int:
        """Return the file descriptor, -1 when closed."""
        return -1 if self.socket is None else self.socket.fileno()

    def secure(
        self, context: ssl.SSLContext, seconds: float | None, server_name: str | None = None
    ) -> None:
        """Do the TLS handshake, as the server unless `server_name` is given."""
        assert self.socket is not None
        secured = context.wrap_socket(
            self.socket,
            server_side=server_name is None,
            server_hostname=server_name or None,
            do_handshake_on_connect=False,
        )
        self.socket, self.is_tls = secured, True
        secured.settimeout(seconds)
        secured.do_handshake()
        secured.settimeout(None)

    # -- receiving -------------------------------------------------------------------------

    def receive_into(self, view: memoryview, deadline: float | None) -> int:
        """Read what there is, at least a byte, into `view`; 0 means that the stream has ended."""
        while (sock := self.socket) is not None:
            left = remaining(deadline)
            is_there = not self.is_tls and self.alertness.wait(sock.fileno())
            if not is_there and (left < self._armed - _RESOLUTION or self._armed is math.inf):
                self._arm(left)
            begun = time.monotonic()
            try:
                if is_there:
                    return sock.recv_into(view, 0, socket.MSG_DONTWAIT)
                received = sock.recv_into(view)
            except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
                # The kernel's timer ran out, which may have been set for an earlier deadline; or
                # nothing was there after all.
                self._arm(remaining(deadline))
            except OSError:
                return 0
            else:
                self.alertness.note(time.monotonic() - begun)
                return received
        return 0

    def _arm(self, seconds: float) -> None:
        """Let the next read return after `seconds`."""
        assert self.socket is not None
        if seconds == self._armed:
            return
        self._armed = seconds
        if isinstance(self.socket, ssl.SSLSocket):
            self.socket.settimeout(None if math.isinf(seconds) else seconds + _RESOLUTION)
            return
        if math.isinf(seconds):
            value = _TIMEVAL.pack(0, 0)
        else:
            whole, part = divmod(int((seconds + _RESOLUTION) * 1_000_000), 1_000_000)
            value = _TIMEVAL.pack(whole, part)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)

    @property
    def ready(self) -> bool:
        """Tell whether a read would return at once."""
        sock = self.socket
        if sock is None:
            return False
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            return True
        return bool(self._poll_input(sock).poll(0))

    def _poll_input(self, sock: socket.socket) -> select.poll:
        if self._input is None:
            self._input = select.poll()
            self._input.register(sock, select.POLLIN)
        return self._input

    # -- sending ---------------------------------------------------------------------------

    def send_all(self, view: memoryview, progress_seconds: float | None) -> None:
        """Send `view`; the peer has to take at least a byte every `progress_seconds`."""
        sock = self.socket
        if sock is None:
            raise ConnectionResetError("connection is closed")
        if isinstance(sock, ssl.SSLSocket):
            self._send_secured(sock, view, progress_seconds)
            return
        sent = 0
        if KERNEL is not None and len(view) <= _SMALL_BYTES:
            sent = KERNEL.send(sock.fileno(), view)
        while sent < len(view):
            try:
                sent += sock.send(view[sent:] if sent else view, _AT_ONCE)
            except BlockingIOError:
                self._wait_for_room(sock, progress_seconds)

    def _send_secured(
        self, sock: ssl.SSLSocket, view: memoryview, progress_seconds: float | None
    ) -> None:
        sock.settimeout(progress_seconds)
        self._armed = math.inf
        sent, taken = 0, taken_bytes(sock)
        while sent < len(view):
            try:
                # All of it has to go out in the time that is set; OpenSSL goes on where it was.
                sent += sock.send(view[sent:])
            except TimeoutError:
                taken = _more_taken(sock, taken)
        sock.settimeout(None)

    def _wait_for_room(self, sock: socket.socket, seconds: float | None) -> None:
        """Wait until the peer takes more, or has said something that matters more.

        The kernel tells of room only when there is a good deal of it; progress is what the peer
        acknowledges.
        """
        taken = taken_bytes(sock)
        poll = select.poll()
        poll.register(sock, select.POLLOUT | select.POLLIN)
        while True:
            ready = poll.poll(None if seconds is None else seconds * 1000)
            if not ready:
                taken = _more_taken(sock, taken)
            elif ready[0][1] & select.POLLOUT:
                return
            elif self._peer_gave_up(sock):
                raise ConnectionAbortedError("the peer aborted the association")
            else:
                poll.modify(sock, select.POLLOUT)

    def wait_until_taken(self, progress_seconds: float) -> None:
        """Wait until the peer has acknowledged every byte, or says something."""
        sock = self.socket
        if sock is None or not (unsent := unsent_bytes(sock)):
            return
        if not self.is_tls and self.alertness.wait(sock.fileno()):
            return
        poll = self._poll_input(sock)
        begun = since = time.monotonic()
        while not poll.poll(_LOOK_MILLISECONDS) and (left := unsent_bytes(sock)):
            if left < unsent:
                unsent, since = left, time.monotonic()
            elif time.monotonic() - since > progress_seconds:
                raise TimeoutError(_STOPPED_READING)
        self.alertness.note(time.monotonic() - begun)

    @staticmethod
    def _peer_gave_up(sock: socket.socket) -> bool:
        """Tell whether what waits to be read is the end, or begins with an A-ABORT PDU."""
        try:
            return sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) in (b"", b"\x07")
        except BlockingIOError:
            return False

    # -- closing ---------------------------------------------------------------------------

    def finish_sending(self) -> None:
        """Tell the peer that nothing more will come."""
        if self.socket is not None and not self.is_tls:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)

    def drain(self, byte_count: int, deadline: float) -> None:
        """Discard what still arrives, until the end of the stream, `deadline` or `byte_count`."""
        scratch = memoryview(bytearray(min(byte_count, 16384)))
        with contextlib.suppress(TimeoutError):
            while byte_count > 0 and (received := self.receive_into(scratch, deadline)):
                byte_count -= received

    def wake(self) -> None:
        """From any thread: let a blocked read of the association's thread return at once."""
        sock = self.socket
        if sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RD)

    def hand_over(self) -> socket.socket | None:
        """Return the socket, which is somebody else's from now on."""
        sock, self.socket = self.socket, None
        return sock

    def close(self) -> None:
        """Close the transport connection; harmless when done twice."""
        sock, self.socket = self.socket, None
        if sock is not None:
            close_for_good(sock)
