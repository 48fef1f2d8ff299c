"""A relay destination: called while the modality waits, its own status is the answer.

Every inbound association works with an outbound one at a time; those that are not needed for a
moment are kept for the next instance and released when nobody took them for a second.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from node.delivery.forward import Forward
from node.events import Witness, nobody
from node.network.sending import StoreResponse
from node.network.store_scu import Peer
from node.pixels.policy import Run, here

#: An idle association is released after so many seconds: peers count them.
IDLE_SECONDS = 1.0


class Relay:
    """Sends instances at once, from as many threads as there are inbound associations."""

    def __init__(self, name: str, peer: Peer, run: Run = here, witness: Witness = nobody) -> None:
        self._name = name
        self._peer = peer
        self._run = run
        self._witness = witness
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Forward]] = []

    def send(self, path: Path) -> StoreResponse:
        """Send the instance in this file; raises as `Forward.send`."""
        with self._lock:
            forward = self._idle.pop()[1] if self._idle else self._new()
        try:
            response = forward.send(path)
        except BaseException:
            forward.close()
            raise
        with self._lock:
            self._idle.append((time.monotonic(), forward))
        return response

    def _new(self) -> Forward:
        return Forward(self._name, self._peer, run=self._run, witness=self._witness)

    def close_idle(self, older_than: float = IDLE_SECONDS) -> None:
        """Release the associations that nobody took for so many seconds."""
        now = time.monotonic()
        with self._lock:
            old = [forward for since, forward in self._idle if now - since >= older_than]
            self._idle = [item for item in self._idle if item[1] not in old]
        for forward in old:
            forward.close()

    def close(self) -> None:
        """Release every association that is not in use."""
        self.close_idle(0)
