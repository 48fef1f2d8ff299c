"""The associations requested of one destination: how many stand now, and how the others ended."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

from node.dicom.contexts import Proposal
from node.errors import PeerRefused, PeerUnreachable
from node.network.store_scu import NothingAccepted, Peer, StoreSCU, connect


class Calls:
    """Counts since the start. Safe to share between the lanes of a destination."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0
        self._ended: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """Associations that stand, as far as was noticed."""
        with self._lock:
            return self._open

    @property
    def ended(self) -> dict[str, int]:
        """How many were released, aborted, rejected, or could not be reached."""
        with self._lock:
            return dict(self._ended)

    def connect(self, peer: Peer, proposals: Sequence[Proposal]) -> StoreSCU:
        """Request an association; raises as `node.network.store_scu.connect`."""
        try:
            association = connect(peer, proposals)
        except NothingAccepted:
            self._end("released")
            raise
        except PeerRefused:
            self._end("rejected")
            raise
        except PeerUnreachable:
            self._end("unreachable")
            raise
        with self._lock:
            self._open += 1
        return association

    def close(self, association: StoreSCU) -> None:
        """Release an association that `connect` returned."""
        result = "released" if association.is_open else "aborted"
        try:
            association.close()
        finally:
            with self._lock:
                self._open -= 1
            self._end(result)

    def _end(self, result: str) -> None:
        with self._lock:
            self._ended[result] += 1
