"""Audit messages to a syslog server, from the audit trail, in order, however long it was down.

The trail is the backlog: `STATE/audit/sent` holds how far the server has it, and what came after
is sent when the server is back, after a restart too. By TCP and TLS (RFC 6587, RFC 5425: each
message behind its length) a message counts as sent when the server's machine has confirmed its
bytes and the connection has stood `_CERTAIN_SECONDS` longer; what was sent later than that before
a break is sent again, so a message may come twice and none is lost. UDP (RFC 5426) tells nothing.

One thread, which never stops the node: a server that is down is logged once and tried again.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import select
import socket
import ssl
import struct
import termios
import threading
import time
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Protocol

from node.errors import BadConfiguration
from node.service.audit import Line, Position, Trail
from node.service.audit_message import message, syslog_line
from node.settings import AuditSettings
from node.spool import Disk

log = logging.getLogger(__name__)

_LOOK_EVERY = 0.5
_CONNECT_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_CERTAIN_SECONDS = 2.0
#: What stopping the node waits for the last messages.
_STOP_SECONDS = 2.0
#: So many messages are under way at most.
_MOST_DOUBTFUL = 1000
#: A datagram holds no more (RFC 5426 3.2); longer messages need TCP or TLS.
_LONGEST_DATAGRAM = 65507
_SENT = "sent"


class Link(Protocol):
    """A way to the server."""

    def send(self, line: bytes) -> None:
        """Send one message; OSError where that fails."""

    def is_confirmed(self) -> bool:
        """Tell whether everything sent has arrived; OSError where the link is broken."""

    def close(self) -> None:
        """Let go of it."""


class Stream:
    """TCP or TLS."""

    def __init__(self, server: tuple[str, int], context: ssl.SSLContext | None) -> None:
        self._socket: socket.socket = socket.create_connection(server, _CONNECT_SECONDS)
        if context is not None:
            try:
                self._socket = context.wrap_socket(self._socket, server_hostname=server[0])
            except BaseException:
                self._socket.close()
                raise
        self._socket.settimeout(_CONNECT_SECONDS)

    def send(self, line: bytes) -> None:
        """Send one message behind its length (RFC 5425 4.3)."""
        self._socket.sendall(b"%d %b" % (len(line), line))

    def is_confirmed(self) -> bool:
        """Ask the kernel whether all was acknowledged; a server that closes is a broken link."""
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        if poll.poll(0):
            raise ConnectionResetError("the server closed the connection")
        unsent = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
        return bool(struct.unpack("i", unsent)[0] == 0)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._socket.close()


class Datagrams:
    """UDP: sent is all that is known."""

    def __init__(self, server: tuple[str, int]) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(*server, type=socket.SOCK_DGRAM)[0]
        self._socket = socket.socket(family, kind, protocol)
        self._socket.connect(address)

    def send(self, line: bytes) -> None:
        """Send one message; one that fits no datagram is cut off its end."""
        self._socket.send(line[:_LONGEST_DATAGRAM])

    def is_confirmed(self) -> bool:
        """Nothing is ever confirmed; what was sent counts."""
        return True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def connect(settings: AuditSettings) -> Link:
    """Return a link to the server; OSError where there is none (ssl.SSLError is one)."""
    assert settings.server is not None
    if settings.protocol == "udp":
        return Datagrams(settings.server)
    return Stream(settings.server, _context(settings))


def require_usable(settings: AuditSettings) -> None:
    """Raise `BadConfiguration` where the certificates to trust cannot be read."""
    if settings.syslog is None:
        return
    try:
        _context(settings)
    except OSError as failure:
        raise BadConfiguration(
            f"audit.ca: {settings.ca}: {failure.strerror or failure}; name a file of certificates "
            "in PEM"
        ) from failure


def _context(settings: AuditSettings) -> ssl.SSLContext | None:
    if settings.protocol != "tls":
        return None
    context = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Sender:
    """Sends what the trail holds and the server does not have yet: `start`, later `stop`."""

    def __init__(self, trail: Trail, settings: AuditSettings, ae_title: str, disk: Disk) -> None:
        self._trail = trail
        self._settings = settings
        self._ae_title = ae_title
        self._disk = disk
        self._host = socket.gethostname()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._link: Link | None = None
        self._certain = self._load()
        self._next = self._certain
        #: What was sent and is not certain yet: when, and where in the trail it ended.
        self._doubtful: deque[tuple[float, Position]] = deque()
        self._failures = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Send what there is, for a moment, and end; the rest waits for the next start."""
        self._stop.set()
        if not self._thread.is_alive():
            return  # never started
        self._thread.join(_STOP_SECONDS + 1)

    def _run(self) -> None:
        while not self._stop.is_set():
            pause = _LOOK_EVERY
            if not self._guarded_pass():
                pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (self._failures - 1))
            self._stop.wait(pause)
        self._finish()

    def _finish(self) -> None:
        deadline = time.monotonic() + _STOP_SECONDS
        while self._guarded_pass() and self._doubtful and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY / 10)
            with contextlib.suppress(OSError):
                self._settle(certain_seconds=0)
        if self._link is not None:
            self._link.close()

    def _guarded_pass(self) -> bool:
        try:
            self._pass()
        except OSError as failure:
            self._break(failure)
            return False
        except Exception:
            log.exception("audit messages cannot be sent")
            self._break(None)
            return False
        if self._failures:
            log.info("the syslog server %s takes audit messages again", self._settings.syslog)
            self._failures = 0
        return True

    def _pass(self) -> None:
        """Send what is new, and note what is certain."""
        if self._link is None:
            self._link = connect(self._settings)
        self._settle()
        for line in islice(self._trail.read(self._next), _MOST_DOUBTFUL - len(self._doubtful)):
            if line.end.file > self._next.file + 1:
                log.error("the syslog server was away too long: the oldest audit messages are lost")
            if (text := self._text(line)) is not None:
                self._link.send(text)
            self._next = line.end
            self._doubtful.append((time.monotonic(), line.end))
        self._settle()

    def _text(self, line: Line) -> bytes | None:
        xml = message(line.event, line.time, self._ae_title)
        return syslog_line(xml, line.time, self._host, line.process) if xml is not None else None

    def _settle(self, certain_seconds: float = _CERTAIN_SECONDS) -> None:
        if self._link is None or not self._link.is_confirmed():
            return
        before = self._certain
        now = time.monotonic()
        while self._doubtful and now - self._doubtful[0][0] >= certain_seconds:
            self._certain = self._doubtful.popleft()[1]
        if self._certain != before:
            self._save()

    def _break(self, failure: OSError | None) -> None:
        """Let go of the link; what is not certain is sent again over the next one."""
        if self._link is not None:
            self._link.close()
            self._link = None
        self._doubtful.clear()
        self._next = self._certain
        self._failures += 1
        if self._failures == 1 and failure is not None:
            log.warning(
                "the syslog server %s is not there: %s; audit messages wait in %s",
                self._settings.syslog,
                failure.strerror or failure,
                self._trail.folder,
            )

    def _load(self) -> Position:
        try:
            file, offset = (self._trail.folder / _SENT).read_text("ascii").split()
            return Position(int(file), int(offset))
        except FileNotFoundError:
            return Position(1, 0)
        except (OSError, ValueError):
            log.warning("where the audit messages got to cannot be read: all are sent again")
            return Position(1, 0)

    def _save(self) -> None:
        draft = self._trail.folder / f"{_SENT}.draft"
        self._write(draft, f"{self._certain.file} {self._certain.offset}\n")
        self._disk.replace(draft, self._trail.folder / _SENT)

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_text(text, "ascii")
