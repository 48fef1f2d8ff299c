"""Logging: one line an event on stderr, as text for people or as JSON for a log server.

What the thread of an association logs begins with the association's code, the same that the audit
trail has. UIDs are logged, patient names and IDs never. What a peer sent is escaped, so that no
value can begin a line of its own, and cut where it is long. Of warnings that come faster than
anybody reads them most are left out, and counted: whoever can connect can cause some.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable

from node.network.association_handler import THREAD_NAME
from node.network.ledger import FACTS
from node.settings import LogSettings

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
#: What these libraries tell, our own lines say in fewer words and with the name of the peer;
#: pynetdicom reports a rejection in three lines of ERROR.
_CHATTY = {
    "pynetdicom": logging.CRITICAL,
    "pydicom": logging.WARNING,
    "uvicorn": logging.WARNING,
}


#: Warnings from one place in the code that are logged in a minute.
_MOST_WARNINGS = 600
_MINUTE = 60.0
#: Of one line; a traceback has more of them.
_MOST_CHARACTERS = 4000


class Flood(logging.Filter):
    """Leaves out warnings beyond the most of a minute. Safe to share between threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        #: By place in the code: since when, and how many.
        self._counts: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is logged; the last one before a gap and the first after say so."""
        if record.levelno < logging.WARNING:
            return True
        place, now, left_out = (record.pathname, record.lineno), self._clock(), 0
        with self._lock:
            since, count = self._counts.get(place, (now, 0))
            if now - since >= _MINUTE:
                left_out, since, count = max(0, count - _MOST_WARNINGS), now, 0
            count += 1
            self._counts[place] = since, count
        if left_out:
            _add(record, f"{left_out:,} lines like this were left out before it")
        elif count == _MOST_WARNINGS:
            _add(record, "more lines like this are left out for now")
        return count <= _MOST_WARNINGS


def _add(record: logging.LogRecord, text: str) -> None:
    record.msg, record.args = f"{record.getMessage()} ({text})", ()


def association_of(record: logging.LogRecord) -> str:
    """Return the code of the association whose thread logged this; "" for other threads."""
    name = record.threadName or ""
    return name.removeprefix(THREAD_NAME) if name.startswith(THREAD_NAME) else ""


class TextFormatter(logging.Formatter):
    """`2026-01-31 12:00:00.123 INFO [3fa9c1] message`, control characters escaped.

    What follows on lines of its own is indented, so that no line but a first begins with a time.
    """

    default_msec_format = "%s.%03d"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and below it, indented, a traceback or what else has more lines."""
        line, *more = super().format(record).split("\n")
        if code := association_of(record):
            line = line.replace(f" {record.levelname} ", f" {record.levelname} [{code}] ", 1)
        return "\n".join([_escaped(line), *(f"    {_escaped(text)}" for text in more)])


def _escaped(line: str) -> str:
    if len(line) > _MOST_CHARACTERS:
        line = f"{line[:_MOST_CHARACTERS]}… ({len(line):,} characters)"
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)


class JSONFormatter(logging.Formatter):
    """One JSON object a line; facts that a line was logged with are fields of their own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object; times are UTC."""
        seconds = time.gmtime(record.created)
        fields = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', seconds)}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage()[:_MOST_CHARACTERS],
        }
        if code := association_of(record):
            fields["association"] = code
        fields |= getattr(record, FACTS, {})
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=True)


def configure(settings: LogSettings) -> None:
    """Set up logging for this process; for programs of ours, not for ones that embed a node."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Flood())
    handler.setFormatter(JSONFormatter() if settings.format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = _LEVELS[settings.level]
    root.setLevel(level)
    for name, least in _CHATTY.items():
        logging.getLogger(name).setLevel(max(level, least))
