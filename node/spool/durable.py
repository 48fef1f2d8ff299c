"""The system calls that make a file safe: fsync, link, rename, unlink, and syncing a folder.

The only module that calls them. Every function raises OSError and hides none. A failed fsync is a
`SyncFailed`, and final: its file must be given up, never synced again, because the kernel may
already have dropped the data and report success the second time. So nothing here retries.

With `Durability.NONE` the calls that wait for the disk are left out and all else is the same.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import StrPath

#: What a file system says that has no hard links, or not between these two folders.
NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})

#: Files of the node are readable by its own user only.
FILE_MODE = 0o600
FOLDER_MODE = 0o700

#: So many folders are remembered as durable; one that was forgotten is synced once more.
_DURABLE_KEPT = 10_000
#: What syncing a folder of others says.
_NOT_OURS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class Durability(enum.StrEnum):
    """What Success means: `fsync` survives a power cut, `none` only a crash of the node."""

    FSYNC = "fsync"
    NONE = "none"


class SyncFailed(OSError):
    """An fsync failed: nobody knows what of the file or folder is on the disk."""


class Disk:
    """Durable file operations at one level of durability. Safe to share between threads."""

    def __init__(self, durability: Durability = Durability.FSYNC) -> None:
        self.durability = durability
        self._folders: dict[StrPath, _FolderSync] = {}
        #: Folders whose names are durable, with what was found there; the latest used at the end.
        self._durable: OrderedDict[Path, tuple[int, int]] = OrderedDict()
        self._lock = threading.Lock()

    def create(self, path: StrPath) -> int:
        """Make a new file and return its descriptor; FileExistsError where the name is taken."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(path, flags, FILE_MODE)

    def sync_file(self, descriptor: int) -> None:
        """Return when the file's bytes are on stable storage."""
        if self.durability is Durability.FSYNC:
            try:
                os.fsync(descriptor)
            except OSError as failure:
                raise SyncFailed(*failure.args) from failure

    def sync_folder(self, folder: StrPath) -> None:
        """Return when every name now in `folder` is on stable storage.

        Threads that ask at the same time share one fsync: one that starts after a name was made
        covers that name, whoever starts it.
        """
        if self.durability is Durability.FSYNC:
            with self._shared(folder) as shared:
                shared.sync()

    @contextlib.contextmanager
    def _shared(self, folder: StrPath) -> Iterator[_FolderSync]:
        """Give all who sync `folder` at the same time the same object; forget it after the last."""
        with self._lock:
            shared = self._folders.setdefault(folder, _FolderSync(folder))
            shared.users += 1
        try:
            yield shared
        finally:
            with self._lock:
                shared.users -= 1
                if not shared.users:
                    del self._folders[folder]

    def make_folder(self, folder: Path) -> None:
        """Make `folder` and its missing parents, and make their names durable.

        What was there already may have been made by a run that did not get to sync it. So every
        name is synced once in this process, from a mount point or a folder known to be durable on.
        """
        unproven = []
        while not self._is_durable(folder):
            unproven.append(folder)
            folder = folder.parent
        for new in reversed(unproven):
            self._make_durable(new)

    def _is_durable(self, folder: Path) -> bool:
        try:
            found = os.stat(folder)
        except (FileNotFoundError, NotADirectoryError):
            return False
        with self._lock:
            if self._durable.get(folder) == _identity(found):
                self._durable.move_to_end(folder)
                return True
        return folder.parent == folder or (stat.S_ISDIR(found.st_mode) and os.path.ismount(folder))

    def _make_durable(self, folder: Path) -> None:
        """Make `folder` where it is missing, sync its name, and remember that it was."""
        try:
            os.mkdir(folder, FOLDER_MODE)
        except OSError:
            # A parent on a read-only file system may say that instead of EEXIST.
            if not folder.is_dir():
                raise
            self._sync_name_of_found(folder)
        else:
            self._sync_name_of_made(folder)
        with self._lock:
            self._durable[folder] = _identity(os.stat(folder))
            while len(self._durable) > _DURABLE_KEPT:
                self._durable.popitem(last=False)

    def _sync_name_of_made(self, folder: Path) -> None:
        try:
            self.sync_folder(folder.parent)
        except OSError:
            # Syncing again could report a success that is none: it has to be made again.
            with contextlib.suppress(OSError):
                os.rmdir(folder)
            raise

    def _sync_name_of_found(self, folder: Path) -> None:
        try:
            self.sync_folder(folder.parent)
        except OSError as failure:
            # A parent that we may not even read was not made by us, nor was this name in it.
            if failure.errno not in _NOT_OURS:
                raise

    def move(self, source: Path, target: Path) -> None:
        """Give the file its next name, which must be one that only this file can have.

        One rename, so that at every instant the file has exactly one of the two names.
        """
        os.rename(source, target)
        self.sync_folder(target.parent)

    def link(self, source: Path, target: Path) -> None:
        """Give the file a second name; FileExistsError where that is taken."""
        os.link(source, target, follow_symlinks=False)

    def publish(self, draft: Path, place: Path) -> None:
        """Give a finished file its place; FileExistsError where that is taken.

        Where the file system has no hard links it is moved there, which cannot tell a file that
        appears at the very same moment; only one process writes to a destination.
        """
        try:
            os.link(draft, place, follow_symlinks=False)
        except OSError as failure:
            if failure.errno not in NO_LINKS:
                raise
            if os.path.lexists(place):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from failure
            os.rename(draft, place)

    def replace(self, source: StrPath, target: StrPath) -> None:
        """Put the file in the place of `target`, atomically (for tools that rewrite in place)."""
        os.replace(source, target)
        self.sync_folder(os.path.dirname(target))

    def remove(self, path: StrPath) -> None:
        """Remove a name; one that is gone already is no error, since a restart repeats steps.

        Not synced: after a power cut the name may be back, and its instance is delivered again.
        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _identity(found: os.stat_result) -> tuple[int, int]:
    """Tell a folder from another one that was later made under its name."""
    return found.st_dev, found.st_ino


#: More than the runs that can end before a thread that waited for one of them looks.
_FAILURES_KEPT = 1024


class _FolderSync:
    """Lets threads share the fsync of one folder."""

    def __init__(self, folder: StrPath) -> None:
        self.users = 0
        self._folder = folder
        self._condition = threading.Condition()
        self._started = 0
        self._finished = 0
        self._failures: dict[int, SyncFailed] = {}
        self._running = False

    def sync(self) -> None:
        with self._condition:
            # A run that is under way may have begun before our name was made: wait for the next.
            mine = self._started + 1
            while self._running and self._finished < mine:
                self._condition.wait()
            if self._finished >= mine:
                if mine in self._failures:
                    raise SyncFailed(*self._failures[mine].args)
                return
            self._started += 1
            self._running = True
        failure = self._run()
        with self._condition:
            self._running = False
            self._finished = self._started
            if failure:
                self._failures[self._started] = failure
                self._failures.pop(self._started - _FAILURES_KEPT, None)
            self._condition.notify_all()
        if failure:
            raise failure

    def _run(self) -> SyncFailed | None:
        try:
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as failure:
            return SyncFailed(*failure.args)
        return None
