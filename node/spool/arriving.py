"""Names made in advance: one fsync makes an instance safe, content and name.

`Slots` makes empty files in small batches and syncs their folder once for all of them. What is
written into such a file has a durable name already, so when the fsync of the file has returned the
instance is safe, before any folder is synced again. The price: after a power cut a file in this
folder may be one that was acknowledged, or not. Which of them are to be kept is decided by
content: `is_whole` tells whether a file is all that was to be written, and `Spool.take_over` keeps
it then. So nothing may be written here that is thrown away once it is whole (what a relay sends
on is written elsewhere), and what is answered with a failure is removed, and its removal made
durable, before the answer.

Each file is locked (flock) for as long as the process that made it has it open; a file that is not
locked has no writer any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import threading
from collections import deque
from pathlib import Path

from node.dicom import part10
from node.errors import CannotUnderstand
from node.spool.durable import Disk

#: Files that are made at a time: few enough to be made quickly and to be held open, enough that
#: the fsync of their folder costs each of them little.
BATCH = 32


class Slots:
    """The empty files of one process. Safe to share between threads."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder = folder
        self._disk = disk
        self._spare: deque[tuple[Path, int]] = deque()
        self._lock = threading.Lock()
        # A name is never used twice, by whichever process: a stale one would be taken for it.
        self._prefix = f"{os.getpid():07d}-{os.urandom(6).hex()}"
        self._counter = itertools.count()

    def take(self) -> tuple[Path, int]:
        """Return an empty file with a durable name, and its descriptor."""
        with self._lock:
            if not self._spare:
                self._spare.extend(self._make())
            return self._spare.popleft()

    def close(self) -> None:
        """Remove those that nothing was written to."""
        with self._lock:
            self._give_up(self._spare)
            self._spare.clear()

    def _make(self) -> list[tuple[Path, int]]:
        made: list[tuple[Path, int]] = []
        try:
            for _ in range(BATCH):
                made.append(self._create())
        except OSError:
            if not made:
                raise
        try:
            self._disk.sync_folder(self._folder)
        except OSError:
            self._give_up(made)
            raise
        return made

    def _create(self) -> tuple[Path, int]:
        path = self._folder / f"{self._prefix}-{next(self._counter):09d}"
        descriptor = self._disk.create(path)
        hold(descriptor)
        return path, descriptor

    def _give_up(self, files: deque[tuple[Path, int]] | list[tuple[Path, int]]) -> None:
        for path, descriptor in files:
            with contextlib.suppress(OSError):
                self._disk.remove(path)
            os.close(descriptor)


def hold(descriptor: int) -> None:
    """Lock a new file as one that has a writer, for as long as it is open."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def is_whole(descriptor: int) -> bool:
    """Tell whether a file is a DICOM file of ours whose data set is what its record says."""
    if os.fstat(descriptor).st_size == 0:
        return False
    try:
        # Not by a map: a disk that fails, or a file that is cut off meanwhile, would be a signal.
        meta, data_set_offset = part10.decode_start(lambda count: os.pread(descriptor, count, 0))
    except CannotUnderstand:
        return False
    if meta.record is None:
        return False
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        file.seek(data_set_offset)
        return hashlib.file_digest(file, "sha256").hexdigest() == meta.record.sha256
