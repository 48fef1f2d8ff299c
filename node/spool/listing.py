"""Reading a folder of entries, however many there are: in order, in bounded memory, and counted.

`oldest_first` reads a folder as often as needed to give its names in order while it holds no more
than some of them. `Counts` counts, and does so again only where the folder has changed and the
last time is long enough ago for what it costs: a page that is looked at every second must not keep
a core busy with a million entries.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from node.spool.entries import may_be_name
from node.spool.states import State

#: Names that are held at a time, about 27 MB. A million are read in four times, each time what is
#: left of them: 2 microseconds an entry.
WINDOW = 250_000
_CHUNK = 10_000
#: Sorts behind every name.
_BEHIND_ALL = "\U0010ffff"

#: Counting takes at most one part in so many of the time.
_SHARE = 20
#: Two changes of a folder may have the same time of modification when they are so close.
_TICK_NANOSECONDS = 50_000_000


@dataclass(frozen=True, slots=True)
class Count:
    """How many entries a folder has, and the name of the oldest, "" where there is none."""

    entries: int = 0
    oldest: str = ""


def oldest_first(folder: Path, window: int = WINDOW) -> Iterator[str]:
    """Yield the names of the entries in `folder` in order; nothing where it does not exist.

    Entries that come while it runs are seen where their turn has not passed. Whoever links names in
    order finds that none is yielded before one that was linked earlier.
    """
    after = ""
    while True:
        names = _first_whole(folder, after, window)
        yield from names
        if len(names) < window:
            return
        after = names[-1]


def _first_whole(folder: Path, after: str, most: int) -> list[str]:
    """Return the first names after `after`, about `most`, without a gap.

    A folder that is read while names are linked may show a later one and not an earlier one. All
    that are earlier than what was seen were there when that reading ended: another one has them.
    """
    begun = time.time_ns()
    names = _first(folder, after, most)
    if names and os.stat(folder).st_mtime_ns > begun - _TICK_NANOSECONDS:
        again = _first(folder, after, most)
        names = sorted({*names, *(name for name in again if name < names[-1])})
    return names


def _first(folder: Path, after: str, most: int) -> list[str]:
    """Return the `most` first names that come after `after`."""
    kept: list[str] = []
    below = _BEHIND_ALL
    with _scanned(folder) as found:
        while chunk := list(itertools.islice(found, _CHUNK)):
            # What costs more is asked last: of a million most are not among the first.
            kept += [item.name for item in chunk if after < item.name < below and _is_entry(item)]
            if len(kept) > most + most // 4:
                kept.sort()
                del kept[most:]
                below = kept[-1]
    kept.sort()
    del kept[most:]
    return kept


def _is_entry(item: os.DirEntry[str]) -> bool:
    return may_be_name(item.name) and item.is_file(follow_symlinks=False)


def is_set_aside(root: Path, destination: str, name: str) -> bool:
    """Tell whether an entry has been refused or found damaged already.

    Then an interrupted fan-out that is repeated must not queue it again: to set it aside once more
    would do nothing, since a rename to another name of the same file does not (rename(2)).
    """
    states = (State.FAILED, State.CORRUPT)
    return any(os.path.lexists(f"{root}/{state}/{destination}/{name}") for state in states)


@contextlib.contextmanager
def _scanned(folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
    """List a folder as it comes; one that is not there is empty."""
    try:
        found = os.scandir(folder)
    except FileNotFoundError:
        yield iter(())
        return
    with found:
        yield found


@dataclass(frozen=True, slots=True)
class _Known:
    count: Count
    modified: int
    again: float


class Counts:
    """Counts of folders, as fresh as they can be had cheaply. Safe to share between threads."""

    def __init__(self) -> None:
        self._known: dict[Path, _Known] = {}
        self._lock = threading.Lock()

    def of(self, folder: Path) -> Count:
        """Return how many entries `folder` has, now or a little ago."""
        with self._lock:
            began = time.monotonic()
            try:
                modified = os.stat(folder).st_mtime_ns
            except FileNotFoundError:
                return Count()
            known = self._known.get(folder)
            if known and (known.modified == modified or began < known.again):
                return known.count
            is_certain = abs(time.time_ns() - modified) > _TICK_NANOSECONDS
            count = _count(folder)
            ended = time.monotonic()
            again = ended + _SHARE * (ended - began)
            self._known[folder] = _Known(count, modified if is_certain else -1, again)
            return count


def _count(folder: Path) -> Count:
    number, oldest = 0, _BEHIND_ALL
    with _scanned(folder) as found:
        for item in found:
            if _is_entry(item):
                number += 1
                if item.name < oldest:
                    oldest = item.name
    return Count(number, oldest if number else "")
