"""Who was turned away at the door, and why: counted, and told in few lines.

A scan, or a monitor that connects once a second, must not fill the log: one line for a peer and
reason in a minute, with what an administrator can do about it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from typing import Final

LOGGER = logging.getLogger(__name__)

#: One line per peer and kind in so many seconds; the rest is counted.
_LOG_SECONDS: Final = 60.0
_MOST_LOGGED_PEERS: Final = 256

#: What an administrator can do about it.
_MENDS: Final = {
    "association limit": "raise limits.associations or limits.associations_per_peer if it may "
    "have more at the same time",
    "the node is stopping": "it may try again in a moment",
    "not a DICOM request": "it speaks another protocol, or TLS to a port without it, or none to a "
    "port with it: see tls.port",
    "no descriptor left": "let the service open more files (LimitNOFILE=), or lower "
    "limits.associations",
}


class Refusals:
    """The connections that were turned away; belongs to one thread."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self._logged: OrderedDict[tuple[str, str], float] = OrderedDict()

    def note(self, why: str, peer: str) -> None:
        """Count, and log if that peer has not been told of for this lately."""
        self.counted[why] += 1
        now = time.monotonic()
        last = self._logged.get((peer, why))
        if last is not None and now - last < _LOG_SECONDS:
            return
        self._logged[peer, why] = now
        self._logged.move_to_end((peer, why))
        while len(self._logged) > _MOST_LOGGED_PEERS:
            self._logged.popitem(last=False)
        mend = f"; {_MENDS[why]}" if why in _MENDS else ""
        LOGGER.warning("turned away %s: %s (%d so far)%s", peer, why, self.counted[why], mend)
