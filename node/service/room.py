"""Whether there is disk space for more: a reserve with two marks.

Instances are refused when less than the reserve is free, and taken again only when a quarter more
than the reserve is: at a single mark every instance that is delivered would let one in, and
senders would be refused and accepted by turns. What was acknowledged is never harmed by either.
"""

from __future__ import annotations

import logging
import os
import threading

from node.settings import SpoolSettings
from node.spool import Spool

log = logging.getLogger(__name__)

#: Of the reserve must be free before instances are taken again.
AGAIN = 1.25


def takes(free: float, reserve: float, *, was_taking: bool) -> bool:
    """Tell whether to take instances with so many bytes free."""
    return free > (reserve if was_taking else reserve * AGAIN)


def reserve_of(disk: os.statvfs_result, settings: SpoolSettings) -> float:
    """Return how many bytes are to stay free on a disk."""
    share = disk.f_blocks * disk.f_frsize * settings.reserve_percent / 100
    return max(settings.reserve_bytes, share)


class Room:
    """The space on the spool's disk. Safe to share between threads."""

    def __init__(self, spool: Spool, settings: SpoolSettings) -> None:
        self._spool = spool
        self._settings = settings
        self._lock = threading.Lock()
        self._was_taking = True

    def is_enough(self) -> bool:
        """Tell whether instances are taken now."""
        try:
            disk = os.statvfs(self._spool.root)
        except OSError:
            return False
        free = disk.f_bavail * disk.f_frsize
        reserve = reserve_of(disk, self._settings)
        with self._lock:
            taking = takes(free, reserve, was_taking=self._was_taking)
            if taking is not self._was_taking:
                _tell(free, reserve, taking)
            self._was_taking = taking
        return taking and self._spool.is_mounted()


def _tell(free: float, reserve: float, taking: bool) -> None:
    if taking:
        log.warning("instances are taken again: %.1f GB are free", free / 1e9)
        return
    log.error(
        "instances are refused: %.1f GB are free and %.1f GB are to stay free; they are taken "
        "again from %.1f GB on",
        free / 1e9,
        reserve / 1e9,
        reserve * AGAIN / 1e9,
    )
