"""What the spool holds, as values: entries, why one failed, what a restart found.

An entry's name is `TIME-PROCESS-COUNTER.dcm`: TIME is that of its receipt in nanoseconds since
1970, 20 digits, so that names sort in the order of receipt; the rest makes it unique. What was
written under a durable name (`arriving.py`) had the rest alone as its name there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from node.spool.states import State

#: Files in the spool's folders without this ending are no entries.
SUFFIX = ".dcm"
_TIME_DIGITS = 20
_OURS = re.compile(rf"[0-9]{{{_TIME_DIGITS}}}-([0-9A-Za-z-]+){re.escape(SUFFIX)}")
#: Wider than what is made here, so that a file that somebody put there is seen and set aside.
_NAME = re.compile(rf"[0-9A-Za-z][0-9A-Za-z._-]*{re.escape(SUFFIX)}")


class Entry(NamedTuple):
    """One instance in the spool. `name` sorts by time of receipt; `destination` is "" if none."""

    name: str
    state: State
    path: Path
    destination: str = ""

    @property
    def received_at(self) -> float:
        """When it was received, in seconds since 1970; 0 where the name does not tell."""
        return received_at(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEntry:
    """An entry that a destination refused for good, with the reason and how often it was tried."""

    entry: Entry
    cause: str
    tries: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a restart found: incomplete entries removed, entries that go on."""

    removed: int
    received: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """What became of files whose writer is gone. `is_all` is False where more are to be read."""

    adopted: int
    removed: int
    is_all: bool


def received_at(name: str) -> float:
    """Return when the entry of this name was received; see `Entry.received_at`."""
    digits = name[:_TIME_DIGITS]
    return int(digits) / 1e9 if digits.isdecimal() else 0.0


def received_name(nanoseconds: int, slot: str) -> str:
    """Return the name of an entry that was received then and is written in the file `slot`."""
    return f"{nanoseconds:0{_TIME_DIGITS}d}-{slot}{SUFFIX}"


def slot_of(name: str) -> str:
    """Return the file in `arriving` that the entry of this name was written to, "" for none."""
    ours = _OURS.fullmatch(name)
    return ours[1] if ours is not None else ""


def is_slot(name: str) -> bool:
    """Tell whether a file in `arriving` can be one of ours."""
    return slot_of(received_name(0, name)) == name


def may_be_name(name: str) -> bool:
    """Tell whether an entry can have this name: what else lies there is not shown or touched."""
    return _NAME.fullmatch(name) is not None
