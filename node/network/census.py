"""How many associations run, in all and for each peer's address: shared by the ports of a node.

Whoever listens asks `has_room`, and reports who comes and who goes. Every method may be called
from any thread.
"""

from __future__ import annotations

import threading
from collections import Counter

from node.network.limits import Limits


class Census:
    """The associations of one process."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._peers: Counter[str] = Counter()

    def has_room(self, address: str) -> bool:
        """Tell whether a peer at `address` may have one association more."""
        with self._lock:
            return (
                self._peers.total() < self._limits.associations
                and self._peers[address] < self._limits.associations_per_peer
            )

    def begins(self, address: str) -> None:
        """Count an association that is about to start."""
        with self._lock:
            self._peers[address] += 1

    def ended(self, address: str) -> None:
        """Forget one that has ended."""
        with self._lock:
            self._peers[address] -= 1
            if self._peers[address] <= 0:
                del self._peers[address]
