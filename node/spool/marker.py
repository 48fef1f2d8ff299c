"""What makes a folder a spool: its marker, which is its identity, and the lock of its one owner.

The marker tells an unmounted disk from the spool that was there, and a later format from ours.
Raises `CannotWrite` with what to do.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from pathlib import Path

from node.errors import CannotWrite
from node.spool.durable import Disk
from node.spool.reading import read_small
from node.spool.states import State

NAME = "spool.json"
_FORMAT = 1


def make(root: Path, disk: Disk) -> None:
    """Make a spool at `root` unless one is there."""
    if (root / NAME).exists():
        return
    try:
        disk.make_folder(root)
        for state in State:
            disk.make_folder(root / state)
        draft = root / f"{NAME}.{os.getpid()}"
        with open(disk.create(draft), "w", encoding="utf-8") as file:
            json.dump({"format": _FORMAT, "uuid": str(uuid.uuid4())}, file)
            file.flush()
            disk.sync_file(file.fileno())
        disk.replace(draft, root / NAME)
    except OSError as failure:
        raise _unusable(root, failure) from failure


def identity(root: Path) -> str:
    """Return the identity of the spool at `root`."""
    try:
        marker = json.loads(read_small(root / NAME))
    except OSError as failure:
        raise _unusable(root, failure) from failure
    except (ValueError, RecursionError) as failure:
        raise CannotWrite(f"{root / NAME} is damaged: restore it") from failure
    if not isinstance(marker, dict):
        raise CannotWrite(f"{root / NAME} is damaged: restore it")
    if marker.get("format") != _FORMAT:
        raise CannotWrite(
            f"the spool {root} was written by a later version of dcmpress: "
            "use that version, or another state directory"
        )
    return str(marker.get("uuid"))


def inode(path: Path) -> tuple[int, int, int]:
    """Return which file on which disk the marker at `path` is, and when it was written."""
    try:
        found = os.stat(path)
    except OSError as failure:
        raise _unusable(path.parent, failure) from failure
    return found.st_dev, found.st_ino, found.st_mtime_ns


def require_one_disk(root: Path) -> None:
    """Raise where a folder of the spool is on another file system: no rename or link gets there."""
    for state in State:
        if os.stat(root / state).st_dev != os.stat(root).st_dev:
            raise CannotWrite(
                f"{root / state} is on another file system than {root}: "
                "mount the disk at the state directory instead"
            )


def lock(root: Path) -> int:
    """Take the spool for one node and return the descriptor that holds it.

    It is released when the last process that inherited the descriptor is gone.
    Raises `CannotWrite` where another node has it.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(root / "lock", flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise CannotWrite(
            f"another node is running on the state directory {root.parent}: "
            "stop it, or give this one a state directory of its own (--state DIR)"
        ) from None
    return descriptor


def _unusable(root: Path, failure: OSError) -> CannotWrite:
    return CannotWrite(
        f"the spool {root} cannot be used: {failure.strerror or failure}; "
        "check that its disk is mounted and that the folder belongs to the user that "
        "runs dcmpress"
    )
