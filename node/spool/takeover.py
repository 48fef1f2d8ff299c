"""What processes that are gone were writing: kept where it is whole, removed where it is not.

A file in `arriving` that has no name in `received` and is whole may have been acknowledged (that
name is not durable, so a power cut may lose it): it gets one again and goes on. It may also not
have been: then its sender sends it again, and the same content is stored once. A file that is
locked has a writer and is left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from node.spool.arriving import is_whole
from node.spool.durable import Disk
from node.spool.entries import TakenOver, is_slot, received_name, slot_of
from node.spool.states import State

#: A file is made, then locked: one that is younger may have a writer that has not got to that.
_SECONDS_TO_LOCK = 60.0


def take_over(root: Path, disk: Disk, most: int) -> TakenOver:
    """Go through `arriving` and `incoming`; at most `most` files are read whole."""
    adopted = removed = 0
    abandoned = _abandoned(root)
    for path in abandoned[:most]:
        with _without_writer(path) as descriptor:
            if descriptor is None:
                continue
            if is_whole(descriptor):
                modified = os.fstat(descriptor).st_mtime_ns
                disk.link(path, root / State.RECEIVED / received_name(modified, path.name))
                adopted += 1
            else:
                disk.remove(path)
                removed += 1
    for path in _files(root / State.INCOMING):
        with _without_writer(path) as descriptor:
            if descriptor is not None and not _is_young(descriptor):
                disk.remove(path)
                removed += 1
    return TakenOver(adopted=adopted, removed=removed, is_all=len(abandoned) <= most)


def _abandoned(root: Path) -> list[Path]:
    """Return the files in `arriving` that have neither a writer nor a name in `received`."""
    files = _files(root / State.ARRIVING)
    received = _slots_received(root)
    found = []
    for path in files:
        if path.name not in received and is_slot(path.name):
            with _without_writer(path) as descriptor:
                if descriptor is not None and not _may_be_new(descriptor):
                    found.append(path)
    # A writer that was there when `received` was read may have given it its name since.
    received = _slots_received(root) if found else set()
    return [path for path in found if path.name not in received]


def _slots_received(root: Path) -> set[str]:
    with os.scandir(root / State.RECEIVED) as found:
        return {slot_of(item.name) for item in found}


def _files(folder: Path) -> list[Path]:
    with os.scandir(folder) as found:
        return [Path(item.path) for item in found if item.is_file(follow_symlinks=False)]


@contextlib.contextmanager
def _without_writer(path: Path) -> Iterator[int | None]:
    """Open and lock a file while the context lasts; None where it has a writer, or is gone."""
    with contextlib.ExitStack() as stack:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        yield descriptor if os.fstat(descriptor).st_nlink else None


def _may_be_new(descriptor: int) -> bool:
    return os.fstat(descriptor).st_size == 0 and _is_young(descriptor)


def _is_young(descriptor: int) -> bool:
    return abs(time.time() - os.fstat(descriptor).st_mtime) < _SECONDS_TO_LOCK
