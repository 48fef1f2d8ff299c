"""The spool: entries on disk, from receipt until every destination has them.

An entry is one DICOM file; its File Meta holds all that is needed to deliver it. Its folder is
its state (`states.py`), its name tells the order of receipt. This module alone knows the spool's
paths. Receivers commit entries, the deliverer takes them on; they trust nothing but these folders.

Raises `CannotWrite` for a spool that cannot be opened and OSError from every disk operation.
A crash at any point leaves each entry in one of the states, or, between fan-out and the removal
of the received name, in two of them, which `recover` and `fan_out` repeat without harm.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from node.errors import CannotWrite
from node.spool.durable import Disk
from node.spool.states import State, Step, after

_SUFFIX = ".dcm"
_MARKER = "spool.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One instance in the spool. `name` sorts by time of receipt; `destination` is "" if none."""

    name: str
    state: State
    path: Path
    destination: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEntry:
    """An entry that a destination refused for good, with the reason."""

    entry: Entry
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a restart found: incomplete entries removed, entries that go on."""

    removed: int
    received: int


class Incoming:
    """An entry while it is written; a context that leaves nothing behind unless committed."""

    def __init__(self, spool: Spool, path: Path, descriptor: int) -> None:
        self._spool = spool
        self.path = path
        self._committed = False
        self.file = open(descriptor, "w+b", buffering=0)  # noqa: SIM115 - closed by __exit__

    def commit(self) -> Entry:
        """Make the entry durable and give it its place; when this returns, Success may be said."""
        self._spool.disk.sync_file(self.file.fileno())
        incoming = Entry(self.path.name, State.INCOMING, self.path)
        try:
            entry = self._spool._step(incoming, Step.COMMIT)
        except OSError:
            # Its name may be there and not be durable: what is answered with a failure must go.
            self._spool.disk.remove(self._spool.root / State.RECEIVED / self.path.name)
            raise
        self._committed = True
        return entry

    def __enter__(self) -> Incoming:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What was synced is safe whatever close says.
        with contextlib.suppress(OSError):
            self.file.close()
        if not self._committed:
            self._spool._remove(Entry(self.path.name, State.INCOMING, self.path), Step.DISCARD)


class Spool:
    """The folders below one root. Safe to share between threads, and between the processes of
    one node; `lock` keeps other nodes away.

    `create` makes a spool that is not there yet. Only the process that starts a node may do so:
    any other would make an empty one below the mount point of a disk that is gone.
    """

    def __init__(self, root: Path, disk: Disk, *, create: bool = True) -> None:
        self.root = root
        self.disk = disk
        self._counter = itertools.count()
        if create and not (root / _MARKER).exists():
            self._make()
        self._identity = self._open()

    @property
    def incoming_folder(self) -> Path:
        """Where files that are still being received may be put; a restart empties it."""
        return self.root / State.INCOMING

    def begin(self) -> Incoming:
        """Start a new entry."""
        name = f"{time.time_ns():020d}-{os.getpid():07d}-{next(self._counter):09d}{_SUFFIX}"
        path = self.root / State.INCOMING / name
        return Incoming(self, path, self.disk.create(path))

    def received(self) -> Iterator[Entry]:
        """Yield the entries that were not yet handed to destinations, oldest first."""
        return self._list(State.RECEIVED)

    def queued(self, destination: str) -> Iterator[Entry]:
        """Yield the entries that wait for `destination`, oldest first."""
        return self._list(State.QUEUED, destination)

    def fan_out(self, entries: Sequence[Entry], destinations: Collection[str]) -> None:
        """Queue received entries for every destination, then let go of their received names.

        One sync of a queue covers all of them. Without a destination they stay where they are.
        """
        if not destinations:
            return
        for destination in destinations:
            for entry in entries:
                state = after(entry.state, Step.FAN_OUT)
                assert state is not None
                # The link is there already where a crash interrupted an earlier fan-out.
                with contextlib.suppress(FileExistsError):
                    self.disk.link(entry.path, self.root / state / destination / entry.name)
            self.disk.sync_folder(self.root / State.QUEUED / destination)
        for entry in entries:
            self.disk.remove(entry.path)

    def delivered(self, entry: Entry) -> None:
        """Let go of an entry that its destination has."""
        self._remove(entry, Step.DELIVERED)

    def refused(self, entry: Entry, cause: str) -> None:
        """Keep an entry that its destination will not take, with the reason beside it."""
        reason = self._cause_path(entry)
        with contextlib.suppress(FileExistsError):
            descriptor = self.disk.create(reason)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump({"cause": cause}, file)
                file.flush()
                self.disk.sync_file(descriptor)
        self._step(entry, Step.REFUSED)

    def damaged(self, entry: Entry) -> None:
        """Set aside an entry that is not what was written."""
        self._step(entry, Step.DAMAGED)

    def failed(self, destination: str) -> Iterator[FailedEntry]:
        """Yield the entries that `destination` refused for good, oldest first."""
        for entry in self._list(State.FAILED, destination):
            cause = "not recorded"
            with contextlib.suppress(OSError, ValueError, KeyError):
                cause = str(json.loads(self._cause_path(entry).read_text("utf-8"))["cause"])
            yield FailedEntry(entry=entry, cause=cause)

    def retry(self, entry: Entry) -> None:
        """Queue a failed entry again."""
        self._step(entry, Step.RETRY)
        self.disk.remove(self._cause_path(entry))

    def drop(self, entry: Entry) -> None:
        """Remove a failed entry for good: a human decided so."""
        self._remove(entry, Step.DROP)
        self.disk.remove(self._cause_path(entry))

    def add_destination(self, name: str) -> None:
        """Make the folders of a destination."""
        for state in (State.QUEUED, State.FAILED, State.CORRUPT):
            self.disk.make_folder(self.root / state / name)

    def destinations(self) -> list[str]:
        """Return the names of all destinations that have a queue here, configured or not."""
        return sorted(path.name for path in (self.root / State.QUEUED).iterdir() if path.is_dir())

    def recover(self) -> Recovered:
        """Put the spool in order after any kind of stop. Call it before anything is received."""
        removed = 0
        for path in (self.root / State.INCOMING).iterdir():
            self.disk.remove(path)
            removed += 1
        return Recovered(removed=removed, received=sum(1 for _ in self.received()))

    def lock(self) -> int:
        """Take the spool for this node and return the descriptor that holds it.

        It is released when the last process that inherited the descriptor is gone.
        Raises `CannotWrite` where another node has it.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.root / "lock", flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise CannotWrite(
                f"another node is running on the state directory {self.root.parent}: "
                "stop it, or give this one a state directory of its own (--state DIR)"
            ) from None
        return descriptor

    def is_mounted(self) -> bool:
        """Tell whether this spool is still there: an unmounted disk shows another folder."""
        try:
            return self._open() == self._identity
        except CannotWrite:
            return False

    def _make(self) -> None:
        try:
            self._create()
        except OSError as failure:
            raise self._unusable(failure) from failure

    def _open(self) -> str:
        """Return the identity of the spool at this root; raises `CannotWrite`."""
        try:
            marker = json.loads((self.root / _MARKER).read_text("utf-8"))
        except OSError as failure:
            raise self._unusable(failure) from failure
        except ValueError as failure:
            raise CannotWrite(f"{self.root / _MARKER} is damaged: restore it") from failure
        if marker.get("format") != _FORMAT:
            raise CannotWrite(
                f"the spool {self.root} was written by a later version of dcmpress: "
                "use that version, or another state directory"
            )
        return str(marker.get("uuid"))

    def _unusable(self, failure: OSError) -> CannotWrite:
        return CannotWrite(
            f"the spool {self.root} cannot be used: {failure.strerror or failure}; "
            "check that its disk is mounted and that the folder belongs to the user that "
            "runs dcmpress"
        )

    def _create(self) -> None:
        self.disk.make_folder(self.root)
        for state in State:
            self.disk.make_folder(self.root / state)
        draft = self.root / f"{_MARKER}.{os.getpid()}"
        with open(self.disk.create(draft), "w", encoding="utf-8") as file:
            json.dump({"format": _FORMAT, "uuid": str(uuid.uuid4())}, file)
            file.flush()
            self.disk.sync_file(file.fileno())
        self.disk.replace(draft, self.root / _MARKER)

    def _list(self, state: State, destination: str = "") -> Iterator[Entry]:
        folder = self.root / state / destination
        try:
            with os.scandir(folder) as found:
                names = sorted(
                    item.name
                    for item in found
                    if item.name.endswith(_SUFFIX) and item.is_file(follow_symlinks=False)
                )
        except FileNotFoundError:
            return
        for name in names:
            yield Entry(name, state, folder / name, destination)

    def _step(self, entry: Entry, step: Step) -> Entry:
        state = after(entry.state, step)
        assert state is not None
        path = self.root / state / entry.destination / entry.name
        self.disk.move(entry.path, path)
        return Entry(entry.name, state, path, entry.destination)

    def _remove(self, entry: Entry, step: Step) -> None:
        following = after(entry.state, step)
        assert following is None
        self.disk.remove(entry.path)

    def _cause_path(self, entry: Entry) -> Path:
        return self.root / State.FAILED / entry.destination / f"{entry.name}.json"
