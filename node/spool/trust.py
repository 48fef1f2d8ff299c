"""Whether the spool's disk can be relied on: a failed fsync is final, and says more than its file.

After it the kernel may have dropped what was written, and say so only once: the next fsync would
succeed. So what failed is given up and never synced again, and nothing more is taken until the
probe works: a new file made, written, synced, and its folder synced. It is tried by whoever asks,
once a second at most; what was acknowledged before stays where it is and is delivered.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from node.spool.durable import Disk, SyncFailed

log = logging.getLogger(__name__)

#: The disk, not what was asked of it, is why a call failed. That it is full is no such reason.
DISK_FAILED = frozenset(
    {errno.EIO, errno.EROFS, errno.ENXIO, errno.ENODEV, errno.EUCLEAN, errno.ESTALE}
)
#: What is done about it, in the log and on the page.
DISK_MEND = (
    "look for errors of this disk in the kernel's log (dmesg); instances are taken again as soon "
    "as a new file can be written and synced there"
)
#: Between two probes, in seconds: soon enough for a sender that tries again, and a disk in trouble
#: is not kept busy.
PROBE_EVERY = 1.0
#: As much as a file system writes at once.
_PROBE = bytes(range(256)) * 16


class Trust:
    """What is thought of one disk. Safe to share between threads."""

    def __init__(
        self, folder: Path, disk: Disk, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Probes are made in `folder`, which a restart empties."""
        self._folder = folder
        self._disk = disk
        self._clock = clock
        self._counter = itertools.count()
        self._lock = threading.Lock()
        self._failure = ""
        self._due = 0.0

    def doubt(self, failure: OSError) -> bool:
        """Take a failed call on the disk for what it says: that it failed as a whole, or not."""
        if not isinstance(failure, SyncFailed) and failure.errno not in DISK_FAILED:
            return False
        with self._lock:
            if not self._failure:
                log.error(
                    "the spool's disk failed: %s; nothing more is taken: %s", failure, DISK_MEND
                )
            self._note(failure)
        return True

    def failure(self) -> str:
        """Return what is wrong with the disk; nothing where it is relied on, perhaps again."""
        if self._failure:
            with self._lock:
                if self._failure and self._clock() >= self._due:
                    self._probe()
        return self._failure

    def _note(self, failure: OSError) -> None:
        self._failure = failure.strerror or str(failure)
        self._due = self._clock() + PROBE_EVERY

    def _probe(self) -> None:
        try:
            self._write_and_sync()
        except OSError as failure:
            self._note(failure)
        else:
            log.warning("the spool's disk takes and syncs files again; so instances are taken")
            self._failure = ""

    def _write_and_sync(self) -> None:
        path = self._folder / f"probe-{os.getpid():07d}-{next(self._counter):09d}"
        try:
            with open(self._disk.create(path), "wb") as file:
                file.write(_PROBE)
                file.flush()
                self._disk.sync_file(file.fileno())
            self._disk.sync_folder(self._folder)
        finally:
            with contextlib.suppress(OSError):
                self._disk.remove(path)
