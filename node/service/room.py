"""Whether the spool takes more: its disk is there, can be relied on, and has space.

Of space there is a reserve with two marks.

Instances are refused when less than the reserve is free, and taken again only when a quarter more
than the reserve is: at a single mark every instance that is delivered would let one in, and
senders would be refused and accepted by turns. What was acknowledged is never harmed by either.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import NamedTuple

from node.settings import SpoolSettings
from node.spool import DISK_MEND, Spool

log = logging.getLogger(__name__)

#: Of the reserve must be free before instances are taken again.
AGAIN = 1.25


class Hindrance(NamedTuple):
    """Why nothing is taken now, and what to do."""

    cause: str
    mend: str


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

    def hindrance(self) -> Hindrance | None:
        """Return why nothing more is taken, or None."""
        if not self._spool.is_mounted():
            return Hindrance("the spool is not there: is its disk mounted?", "mount its disk")
        if failure := self._spool.trust.failure():
            return Hindrance(f"the spool's disk failed: {failure}", DISK_MEND)
        if not self._has_space():
            return Hindrance("free disk space is below the reserve", "make room")
        return None

    def is_enough(self) -> bool:
        """Tell whether the disk is there and has space."""
        return self._has_space() and self._spool.is_mounted()

    def _has_space(self) -> bool:
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
        return taking


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
