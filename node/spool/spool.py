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
import itertools
import os
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from node.errors import CannotWrite
from node.spool import marker, reasons
from node.spool.arriving import Slots, hold
from node.spool.durable import Disk, Durability
from node.spool.entries import (
    Entry,
    FailedEntry,
    Recovered,
    TakenOver,
    may_be_name,
    received_name,
    slot_of,
)
from node.spool.incoming import Arrival, Draft, Incoming
from node.spool.listing import Count, Counts, is_set_aside, oldest_first
from node.spool.states import State, Step, after
from node.spool.takeover import take_over
from node.spool.trust import Trust

_PAUSED = "paused"
_CALLED = "called"


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
        self._slots = Slots(root / State.ARRIVING, disk)
        self._counts = Counts()
        #: Whether the disk can be relied on.
        self.trust = Trust(self.incoming_folder, disk)
        if create:
            marker.make(root, disk)
        # Joining names to a path costs more than most of what is done with it.
        self._received = root / State.RECEIVED
        self._arriving = root / State.ARRIVING
        self._pauses = f"{root / _PAUSED}{os.sep}"
        self._marker = root / marker.NAME
        self._identity = marker.identity(root)
        self._marked = marker.inode(self._marker)

    @property
    def incoming_folder(self) -> Path:
        """Where files that are still being received may be put; a restart empties it."""
        return self.root / State.INCOMING

    def doubt(self, failure: OSError) -> None:
        """Take a failed call for what it says of the disk, and then use nothing made before."""
        if self.trust.doubt(failure):
            self._slots.close()

    def begin(self) -> Draft:
        """Start a new entry, which may still be discarded when it is whole."""
        slot = f"{os.getpid():07d}-{next(self._counter):09d}"
        name = received_name(time.time_ns(), slot)
        path = self.root / State.INCOMING / name
        descriptor = self.disk.create(path)
        hold(descriptor)
        return Draft(path, descriptor, self._received / name, self.disk)

    def arrive(self) -> Incoming:
        """Start a new entry that is committed as soon as it is whole: with one fsync."""
        if self.disk.durability is Durability.NONE:
            return self.begin()
        path, descriptor = self._slots.take()
        name = received_name(time.time_ns(), path.name)
        return Arrival(path, descriptor, self._received / name, self.disk)

    def close(self) -> None:
        """Give back what was made in advance."""
        self._slots.close()

    def received(self) -> Iterator[Entry]:
        """Yield the entries that were not yet handed to destinations, oldest first."""
        return self.entries(State.RECEIVED)

    def queued(self, destination: str) -> Iterator[Entry]:
        """Yield the entries that wait for `destination`, oldest first."""
        return self.entries(State.QUEUED, destination)

    def fan_out(self, entries: Sequence[Entry], destinations: Collection[str]) -> None:
        """Queue received entries for every destination, then let go of their received names.

        One sync of a queue covers all of them. Without a destination they stay where they are.
        """
        if not destinations:
            return
        for destination in destinations:
            due = [each for each in entries if not is_set_aside(self.root, destination, each.name)]
            self._link(due, Step.FAN_OUT, destination)
        for entry in entries:
            # In this order, so that a crash leaves the name that this function looks for.
            if slot := slot_of(entry.name):
                self.disk.remove(self._arriving / slot)
            self.disk.remove(entry.path)

    def is_shared(self, entry: Entry) -> bool:
        """Tell whether another destination has a queued entry too, or may yet get it: they have
        one file.
        """
        if os.stat(entry.path).st_nlink == 1:
            return False
        others = [name for name in self.destinations() if name != entry.destination]
        # Asked first: fan-out lets go of that name when all others are there.
        is_on_its_way = os.path.lexists(self.root / State.RECEIVED / entry.name)
        return bool(others) and (
            is_on_its_way
            or any(
                os.path.lexists(self.root / state / other / entry.name)
                for other in others
                for state in (State.QUEUED, State.FAILED, State.CORRUPT)
            )
        )

    def delivered(self, entry: Entry) -> None:
        """Let go of an entry that its destination has."""
        self._remove(entry, Step.DELIVERED)

    def refused(self, entry: Entry, cause: str, tries: int = 1) -> None:
        """Keep an entry that its destination will not take, with the reason beside it."""
        failed = self._path(State.FAILED, entry)
        reasons.write(failed, cause, tries, self.disk)
        try:
            self._step(entry, Step.REFUSED)
        except OSError:
            self.disk.remove(reasons.path_of(failed))
            raise

    def damaged(self, entry: Entry) -> None:
        """Set aside an entry that is not what was written."""
        self._step(entry, Step.DAMAGED)

    def failed(self, destination: str) -> Iterator[FailedEntry]:
        """Yield the entries that `destination` refused for good, oldest first."""
        return map(reasons.read, self.entries(State.FAILED, destination))

    def reason(self, entry: Entry) -> FailedEntry:
        """Return why an entry failed."""
        return reasons.read(entry)

    def retry(self, *entries: Entry) -> None:
        """Queue failed entries of one destination again."""
        if entries:
            self._link(entries, Step.RETRY, entries[0].destination)
        for entry in entries:
            self.disk.remove(entry.path)
            self.disk.remove(reasons.path_of(entry.path))

    def drop(self, *entries: Entry) -> None:
        """Remove entries for good: a human decided so. When this returns they stay away."""
        for entry in entries:
            self._remove(entry, Step.DROP)
            if entry.state is State.FAILED:
                self.disk.remove(reasons.path_of(entry.path))
        for folder in {entry.path.parent for entry in entries}:
            self.disk.sync_folder(folder)

    def pause(self, destination: str) -> None:
        """Let a destination rest until `resume`, over restarts too; it goes on being queued for."""
        self.disk.make_folder(self.root / _PAUSED)
        with contextlib.suppress(FileExistsError):
            os.close(self.disk.create(self.root / _PAUSED / destination))
        self.disk.sync_folder(self.root / _PAUSED)

    def resume(self, destination: str) -> None:
        """End a pause; harmless where there is none."""
        if self.paused(destination):
            self.disk.remove(self.root / _PAUSED / destination)
            self.disk.sync_folder(self.root / _PAUSED)

    def paused(self, destination: str) -> bool:
        """Tell whether a destination rests because a human decided so."""
        return os.path.lexists(self._pauses + destination)

    def call_again(self, destination: str) -> None:
        """Let a destination that is left alone be tried now: a human wants it."""
        self.disk.make_folder(self.root / _CALLED)
        path = self.root / _CALLED / destination
        with contextlib.suppress(FileExistsError):
            os.close(self.disk.create(path))
        os.utime(path)

    def called_again(self, destination: str) -> int:
        """Return when a human last wanted a destination tried, as the file system has it; 0: never.

        It is a wish for the moment: nothing waits for it to be durable.
        """
        try:
            return os.lstat(self.root / _CALLED / destination).st_mtime_ns
        except OSError:
            return 0

    def add_destination(self, name: str) -> None:
        """Make the folders of a destination."""
        for state in (State.QUEUED, State.FAILED, State.CORRUPT):
            self.disk.make_folder(self.root / state / name)

    def destinations(self) -> list[str]:
        """Return the names of all destinations that have a queue here, configured or not."""
        with os.scandir(self.root / State.QUEUED) as found:
            return sorted(each.name for each in found if each.is_dir(follow_symlinks=False))

    def recover(self) -> Recovered:
        """Put the spool in order after any kind of stop. Call it before anything is received."""
        for folder in (State.INCOMING, State.ARRIVING):
            self.disk.make_folder(self.root / folder)
        marker.require_one_disk(self.root)
        removed = 0
        for path in (self.root / State.INCOMING).iterdir():
            if path.is_symlink() or not path.is_dir():
                self.disk.remove(path)
                removed += 1
        return Recovered(removed=removed, received=self.count(State.RECEIVED).entries)

    def take_over(self, most: int = 100) -> TakenOver:
        """Look after what processes that are gone were writing; see `takeover`.

        To be called now and then by the thread that fans out, after it did.
        """
        return take_over(self.root, self.disk, most)

    def lock(self) -> int:
        """Take the spool for this node; see `marker.lock`."""
        return marker.lock(self.root)

    def is_mounted(self) -> bool:
        """Tell whether this spool is still there: an unmounted disk shows another folder."""
        try:
            # The same file says the same; it is asked about for each instance.
            is_same = marker.inode(self._marker) == self._marked
            return is_same or marker.identity(self.root) == self._identity
        except CannotWrite:
            return False

    def entries(self, state: State, destination: str = "") -> Iterator[Entry]:
        """Yield the entries in one state, oldest first."""
        folder = self.root / state / destination
        for name in oldest_first(folder):
            yield Entry(name, state, folder / name, destination)

    def count(self, state: State, destination: str = "") -> Count:
        """Count the entries in one state; where there are many it may be a little out of date."""
        return self._counts.of(self.root / state / destination)

    def find(self, state: State, destination: str, name: str) -> Entry | None:
        """Return the entry of that name, or None where there is none in that state."""
        if not may_be_name(name):
            return None
        entry = Entry(name, state, self.root / state / destination / name, destination)
        with contextlib.suppress(OSError, ValueError):
            if stat.S_ISREG(os.lstat(entry.path).st_mode):
                return entry
        return None

    def _link(self, entries: Sequence[Entry], step: Step, destination: str) -> None:
        """Give entries the name of their next state too, and make those names durable.

        Where the sync fails they are taken back: to sync them again could report a success that is
        none, so they have to be made again.
        """
        made: dict[Path, list[Path]] = {}
        for state, alike in itertools.groupby(entries, lambda entry: after(entry.state, step)):
            assert state is not None
            folder = self.root / state / destination
            names = made.setdefault(folder, [])
            for entry in alike:
                name = folder / entry.name
                try:
                    self.disk.link(entry.path, name)
                    names.append(name)
                except FileExistsError:
                    # The link is there already where a crash interrupted an earlier run.
                    if not os.path.samestat(os.lstat(entry.path), os.lstat(name)):
                        raise
        for folder, names in made.items():
            try:
                self.disk.sync_folder(folder)
            except OSError:
                for name in names:
                    with contextlib.suppress(OSError):
                        self.disk.remove(name)
                raise

    def _step(self, entry: Entry, step: Step) -> Entry:
        state = after(entry.state, step)
        assert state is not None
        path = self._path(state, entry)
        self.disk.move(entry.path, path)
        return Entry(entry.name, state, path, entry.destination)

    def _remove(self, entry: Entry, step: Step) -> None:
        assert after(entry.state, step) is None
        self.disk.remove(entry.path)

    def _path(self, state: State, entry: Entry) -> Path:
        return self.root / state / entry.destination / entry.name
