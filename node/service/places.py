"""Where rewritten files go: into a mirror, into the place of the original, or nowhere.

At every instant a place holds a whole file, the old or the new one: a file is written under a
draft name in the same folder, and `Draft.put` renames it when it is complete. Permissions and
times are those of the original; in the original's place its owner too, where that is allowed.

What takes the place of the only copy is on stable storage before it does. The rename is not, as a
power cut then brings back the old file, which is whole: `settle` syncs the folders once, at the
end. In a mirror nothing is synced, for the originals are still there, as with `cp`.

A draft that a killed run left is told by its name and by its lock, and `clear_away` removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, NamedTuple, Protocol

from node.pixels.transcoder import Sink
from node.service.tree import DRAFT
from node.spool import Disk, Durability

_SYNCED = Disk(Durability.FSYNC)
_UNSYNCED = Disk(Durability.NONE)


class Changed(OSError):
    """The original is not what it was when it was read."""


class Task(NamedTuple):
    """A file, and where the result belongs."""

    source: str
    target: str


class Draft(NamedTuple):
    """A file that is being written. It is thrown away unless `put` is called."""

    sink: Sink
    put: Callable[[], None]


class Place(Protocol):
    """Where results go. `wants_copies`: those files too that stay as they are."""

    wants_copies: ClassVar[bool]

    def draft(
        self, task: Task, original: os.stat_result
    ) -> contextlib.AbstractContextManager[Draft]:
        """Begin to write; `original` is what the source was before it was read."""


class Mirror:
    """Another folder, which is to have every file."""

    wants_copies: ClassVar[bool] = True

    @contextlib.contextmanager
    def draft(self, task: Task, original: os.stat_result) -> Iterator[Draft]:
        """See `Place`."""
        with _file_beside(task.target) as (path, file):

            def put() -> None:
                _copy_attributes(task.source, original, file.fileno())
                _UNSYNCED.replace(path, task.target)

            yield Draft(file, put)


class InPlace:
    """The place of the original."""

    wants_copies: ClassVar[bool] = False

    @contextlib.contextmanager
    def draft(self, task: Task, original: os.stat_result) -> Iterator[Draft]:
        """See `Place`."""
        with _file_beside(task.source) as (path, file):

            def put() -> None:
                with contextlib.suppress(PermissionError):  # only root may give files away
                    os.fchown(file.fileno(), original.st_uid, original.st_gid)
                _copy_attributes(task.source, original, file.fileno())
                _SYNCED.sync_file(file.fileno())
                _require_unchanged(task.source, original)
                _UNSYNCED.replace(path, task.source)

            yield Draft(file, put)


class Nowhere:
    """Memory that is forgotten: a dry run."""

    wants_copies: ClassVar[bool] = False

    @contextlib.contextmanager
    def draft(self, task: Task, original: os.stat_result) -> Iterator[Draft]:
        """See `Place`."""
        yield Draft(io.BytesIO(), lambda: None)


@contextlib.contextmanager
def _file_beside(place: str) -> Iterator[tuple[str, io.FileIO]]:
    path = os.path.join(os.path.dirname(place), f".dcmpress-{os.urandom(8).hex()}.part")
    with open(_UNSYNCED.create(path), "w+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield path, file
        finally:
            _UNSYNCED.remove(path)


def _copy_attributes(source: str, original: os.stat_result, descriptor: int) -> None:
    """Give a file the times, the permissions and, where that is allowed, the attributes of one."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(source):
            os.setxattr(descriptor, name, os.getxattr(source, name))
    os.utime(descriptor, ns=(original.st_atime_ns, original.st_mtime_ns))
    os.fchmod(descriptor, stat.S_IMODE(original.st_mode))


def _require_unchanged(source: str, original: os.stat_result) -> None:
    now = os.stat(source, follow_symlinks=False)
    if (now.st_ino, now.st_size, now.st_mtime_ns) != (
        original.st_ino,
        original.st_size,
        original.st_mtime_ns,
    ):
        raise Changed("the file was changed while it was read; try again")


def clear_away(folders: Iterable[str]) -> None:
    """Remove the drafts in `folders` that nobody is writing any more."""
    for folder in folders:
        for name in filter(DRAFT.match, os.listdir(folder)):
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError), open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _UNSYNCED.remove(path)


def settle(folders: Iterable[str]) -> None:
    """Return when the names in `folders` are on stable storage."""
    for folder in folders:
        _SYNCED.sync_folder(folder)
