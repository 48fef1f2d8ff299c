"""What the spool holds, as values: entries, why one failed, what a restart found.

An entry's name is `TIME-PROCESS-COUNTER.dcm`: TIME is that of its receipt in nanoseconds since
1970, 20 digits, so that names sort in the order of receipt; the rest makes it unique.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.spool.states import State

#: Files in the spool's folders without this ending are no entries.
SUFFIX = ".dcm"
_TIME_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One instance in the spool. `name` sorts by time of receipt; `destination` is "" if none."""

    name: str
    state: State
    path: Path
    destination: str = ""

    @property
    def received_at(self) -> float:
        """When it was received, in seconds since 1970; 0 where the name does not tell."""
        digits = self.name[:_TIME_DIGITS]
        return int(digits) / 1e9 if digits.isdecimal() else 0.0


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


def time_part(nanoseconds: int) -> str:
    """Return the part of a name that tells the time."""
    return f"{nanoseconds:0{_TIME_DIGITS}d}"
