"""The audit trail: who sent what, who was refused, what a human decided. JSON lines, append-only.

    STATE/audit/00000001.jsonl, 00000002.jsonl, …    the last one is written to

Each line is an event of `node.events` with its time (UTC) and the process that saw it. Files are
for their owner alone; together they stay within the limit, the oldest goes first. Every process
of the node appends by itself, in one write under a lock that dies with its holder: what was
recorded survives the death of any process. It is not synced: a power cut may cost what the
kernel had not written yet.

`record` never raises and stops nobody: where the disk is full the line is logged and lost.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from node import events
from node.events import Event
from node.settings import Settings

log = logging.getLogger(__name__)

#: The trail is kept in so many files, so that a tenth goes when the oldest goes.
_FILES = 10
_FILE_MODE, _FOLDER_MODE = 0o600, 0o700
_SUFFIX = ".jsonl"


class Position(NamedTuple):
    """A place in the trail: the number of a file, and an offset in it."""

    file: int
    offset: int


@dataclass(frozen=True, slots=True)
class Line:
    """One recorded event, who saw it when, and where in the trail the next line begins."""

    time: str
    process: int
    event: Event
    end: Position


def open_trail(settings: Settings) -> Trail:
    """Return the trail that `settings` name."""
    return Trail(settings.node.state_directory / "audit", settings.audit.trail_bytes)


class Trail:
    """The trail below one folder, shared by the threads and the processes of one node.

    A process that is forked needs one of its own: with this it would share the lock.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self._file_bytes = max(1, most_bytes // _FILES)
        self._lock = threading.Lock()
        self._lock_path = folder / "lock"
        self._lock_file = -1
        self._descriptor = -1
        #: The file that is open, and the one that is next.
        self._paths = self._path(0), self._path(1)

    def record(self, event: Event) -> None:
        """Write an event down."""
        seconds = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        fields: dict[str, Any] = {
            "time": f"{stamp}.{int(seconds % 1 * 1000):03d}Z",
            "process": os.getpid(),
            **events.encode(event),
        }
        line = json.dumps(fields, ensure_ascii=True).encode() + b"\n"
        try:
            with self._lock, self._exclusive():
                self._append(line)
        except OSError as failure:
            log.error("the audit trail cannot be written: %s: %s", failure, line.decode().rstrip())

    def close(self) -> None:
        """Give the files back; a record that still comes opens them again."""
        with self._lock:
            for descriptor in (self._lock_file, self._descriptor):
                if descriptor >= 0:
                    os.close(descriptor)
            self._lock_file = self._descriptor = -1

    def read(self, start: Position) -> Iterator[Line]:
        """Yield what was recorded from `start` on, or from the oldest line where that is gone."""
        for number in self._numbers():
            if number < start.file:
                continue
            offset = start.offset if number == start.file else 0
            with contextlib.suppress(FileNotFoundError):
                yield from self._read_file(number, offset)

    def end(self) -> Position:
        """Return where the next line will begin."""
        numbers = self._numbers()
        if not numbers:
            return Position(1, 0)
        return Position(numbers[-1], os.stat(self._path(numbers[-1])).st_size)

    def _read_file(self, number: int, offset: int) -> Iterator[Line]:
        with open(self._path(number), "rb") as file:
            if offset > os.fstat(file.fileno()).st_size:
                offset = 0  # somebody began the trail anew
            file.seek(offset)
            for raw in file:
                if not raw.endswith(b"\n"):
                    return  # it is being written
                offset += len(raw)
                try:
                    fields = json.loads(raw)
                    stamp, process = fields.pop("time"), fields.pop("process")
                    yield Line(stamp, process, events.decode(fields), Position(number, offset))
                except (ValueError, KeyError, AttributeError):
                    log.warning("a line of the audit trail in file %d cannot be read", number)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        if not _is_at(self._lock_file, self._lock_path):
            if self._lock_file >= 0:
                os.close(self._lock_file)
                self._lock_file = -1
            self._make_folder()
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._lock_file = self._make(self._lock_path, flags)
        fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    def _append(self, line: bytes) -> None:
        """Write one line, whole or not at all; the lock is held."""
        self._open()
        before = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, line)
        except OSError:
            os.ftruncate(self._descriptor, before)
            raise
        if written < len(line):
            os.ftruncate(self._descriptor, before)
            raise OSError("no space left for a line")

    def _open(self) -> None:
        """Have the last file open, a new one where it is full."""
        if self._is_last():
            return
        numbers = self._numbers()
        number = max(numbers[-1] if numbers else 1, 1)
        if self._is_full(number):
            number += 1
            for old in numbers[: -(_FILES - 1)]:
                self._path(old).unlink(missing_ok=True)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._paths = self._path(number), self._path(number + 1)
        self._descriptor = self._make(self._paths[0], flags)

    def _is_last(self) -> bool:
        """Tell whether the file that is open is still the one that is written to."""
        path, following = self._paths
        if not _is_at(self._descriptor, path) or os.path.lexists(following):
            return False
        return os.fstat(self._descriptor).st_size < self._file_bytes

    def _make(self, path: Path, flags: int) -> int:
        """Open a file that may be new; what root makes belongs to the node that comes after."""
        descriptor = os.open(path, flags | os.O_NONBLOCK, _FILE_MODE)
        try:
            owner, mine = os.stat(self.folder), os.fstat(descriptor)
            if not stat.S_ISREG(mine.st_mode):
                raise OSError(errno.EINVAL, "not a file", str(path))
            if os.geteuid() == 0 and owner.st_uid != mine.st_uid:
                with contextlib.suppress(PermissionError):  # root without capabilities may not
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _make_folder(self) -> None:
        """Make the folder where it is missing; root makes it for whose the state is."""
        try:
            self.folder.mkdir(_FOLDER_MODE, parents=True)
        except FileExistsError:
            if not self.folder.is_dir():
                raise
            return
        owner = os.stat(self.folder.parent)
        if os.geteuid() == 0 and owner.st_uid != 0:
            with contextlib.suppress(PermissionError):
                os.chown(self.folder, owner.st_uid, owner.st_gid)

    def _is_full(self, number: int) -> bool:
        try:
            return os.stat(self._path(number)).st_size >= self._file_bytes
        except FileNotFoundError:
            return False

    def _numbers(self) -> list[int]:
        with contextlib.suppress(FileNotFoundError):
            with os.scandir(self.folder) as found:
                files = [item.name for item in found if item.is_file(follow_symlinks=False)]
            names = (name.removesuffix(_SUFFIX) for name in files)
            return sorted(int(name) for name in names if name.isdecimal())
        return []

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}{_SUFFIX}"


def _is_at(descriptor: int, path: Path) -> bool:
    """Tell whether the file that is open is the one at `path`."""
    try:
        return descriptor >= 0 and os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False
