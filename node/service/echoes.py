"""Asking destinations whether they are there, and what they last answered.

A C-ECHO on an association of its own for those on the network; for a folder, whether it can be
written to. Whoever asks waits, for as long as the destination's time limits at most.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, replace

from node.dicom import status
from node.errors import NodeError
from node.network.store_scu import Peer, connect
from node.service.destinations import peer_of
from node.settings import DiskDestination, NetworkDestination, Settings

#: Nobody waits longer for a page than this, whatever the destination's own limits are, in seconds.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """One answer: when (Unix time), after how many seconds, and what was wrong, if anything."""

    at: float
    seconds: float
    error: str = ""


class Echoes:
    """The last answer of each destination. Safe to share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, Echo] = {}

    def last(self, destination: str) -> Echo | None:
        """Return what it answered last, None where it was never asked."""
        with self._lock:
            return self._last.get(destination)

    def ask(self, settings: Settings, destination: DiskDestination | NetworkDestination) -> Echo:
        """Ask now, and remember the answer."""
        began = time.perf_counter()
        error = ""
        try:
            if isinstance(destination, DiskDestination):
                _require_folder(destination)
            else:
                _echo(peer_of(settings, destination))
        except (NodeError, OSError) as failure:
            error = str(failure)
        echo = Echo(at=time.time(), seconds=time.perf_counter() - began, error=error)
        with self._lock:
            self._last[destination.name] = echo
        return echo


def _require_folder(destination: DiskDestination) -> None:
    if not os.access(destination.directory, os.W_OK | os.X_OK):
        raise OSError("the folder is not there or cannot be written to")


def _echo(peer: Peer) -> None:
    """Send a C-ECHO (PS3.7 9.1.5); raises `NodeError` where the answer is not Success."""
    hasty = replace(
        peer,
        connect_seconds=min(peer.connect_seconds, _PATIENCE),
        response_seconds=min(peer.response_seconds, _PATIENCE),
    )
    association = connect(hasty, [])
    try:
        answer = association.echo()
    finally:
        association.close()
    if answer != status.SUCCESS:
        raise NodeError(f"it answered with {status.describe(answer)}")
