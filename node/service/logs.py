"""Logging: one line an event on stderr, as text for people or as JSON for a log server.

What the thread of an association logs begins with the association's code, the same that the audit
trail has. UIDs are logged, patient names and IDs never. What a peer sent is escaped, so that no
value can begin a line of its own.
"""

from __future__ import annotations

import json
import logging
import sys
import time

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
            "message": record.getMessage(),
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
    handler.setFormatter(JSONFormatter() if settings.format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = _LEVELS[settings.level]
    root.setLevel(level)
    for name, least in _CHATTY.items():
        logging.getLogger(name).setLevel(max(level, least))
