"""What people do with queues: look, try again, throw away, pause.

Plain functions over a spool, for the command line and the status page. They are safe while the
node runs and work while it does not: an entry is changed by a rename, a link or an unlink alone,
and whoever else wanted it finds it gone. A running node sees every change within a second or two;
nothing has to be rung. No patient data is shown.

Raises `UsageError` for a destination that has no queue here, OSError where the spool cannot be
read or written.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from node.errors import CannotUnderstand, UsageError
from node.pixels.stored import opened
from node.spool import Entry, Spool, State, Tried
from node.spool.index import Unusable, read
from node.spool.reasons import NOT_RECORDED

#: The states that an entry of a destination can be in, as they are listed.
STATES = (State.QUEUED, State.FAILED, State.CORRUPT)

#: So many entries are changed with one sync of their folders.
_AT_ONCE = 1000

_DAMAGED = "its bytes are not what was written; it is never sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One entry for people. UIDs are empty where its file cannot be read; `retry_in_seconds` is 0
    for a queued entry that failed and is due, None for one that did not.
    """

    name: str
    state: State
    destination: str
    sop_instance_uid: str = ""
    sop_class_uid: str = ""
    transfer_syntax_uid: str = ""
    byte_count: int = 0
    age_seconds: float = 0.0
    tries: int | None = None
    cause: str = ""
    retry_in_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many entries one destination has, by state, and whether it rests."""

    destination: str
    queued: int
    failed: int
    corrupt: int
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of a request: how many were changed, and which were not, by name, and why."""

    changed: int
    refused: dict[str, str]


def require(spool: Spool, destination: str) -> None:
    """Raise `UsageError` where `destination` has no queue here."""
    there = spool.destinations()
    if destination not in there:
        known = ", ".join(there) or "none yet"
        raise UsageError(f"there is no queue of {destination}; destinations here: {known}")


def count(spool: Spool, destination: str) -> Count:
    """Count the entries of one destination."""
    require(spool, destination)
    queued, failed, corrupt = (spool.count(state, destination).entries for state in STATES)
    return Count(
        destination=destination,
        queued=queued,
        failed=failed,
        corrupt=corrupt,
        paused=spool.paused(destination),
    )


def listing(spool: Spool, destination: str, states: Collection[State] = STATES) -> Iterator[Listed]:
    """Yield the entries of one destination, by state, the oldest first."""
    require(spool, destination)
    now = time.time()
    tried = _tried(spool, destination)
    for state in (state for state in STATES if state in states):
        for entry in spool.entries(state, destination):
            # One that has left meanwhile is no longer in the list.
            with contextlib.suppress(FileNotFoundError):
                yield _listed(spool, entry, now, tried.get(entry.name))


def waiting_again(spool: Spool, destination: str) -> list[Tried]:
    """Return what is known of the entries that failed and wait to be tried again."""
    return [
        each
        for each in _tried(spool, destination).values()
        if each.state is State.QUEUED and spool.find(each.state, destination, each.name)
    ]


def retry(spool: Spool, destination: str, names: Sequence[str] | None = None) -> Done:
    """Queue failed entries again, those named or all, and let the destination be tried now."""
    chosen, refused = _choose(spool, destination, names, (State.FAILED,))
    changed = _each(spool.retry, chosen)
    spool.call_again(destination)
    for name in refused:
        if spool.find(State.CORRUPT, destination, name):
            refused[name] = _DAMAGED
        elif spool.find(State.QUEUED, destination, name):
            refused[name] = "it is queued already"
    return Done(changed=changed, refused=refused)


def wake(spool: Spool, destination: str) -> None:
    """Let a destination that is left alone be tried now."""
    require(spool, destination)
    spool.call_again(destination)


def drop(
    spool: Spool, destination: str, names: Sequence[str] | None = None, *, queued: bool = False
) -> Done:
    """Remove failed and corrupt entries for good: those named, or all.

    With `queued` those too that still wait to be delivered. What is being sent at this moment is
    sent.
    """
    states = (State.FAILED, State.CORRUPT, *((State.QUEUED,) if queued else ()))
    chosen, refused = _choose(spool, destination, names, states)
    changed = _each(spool.drop, chosen)
    for name in refused:
        if spool.find(State.QUEUED, destination, name):
            refused[name] = "it waits to be delivered; say that queued entries are meant too"
    return Done(changed=changed, refused=refused)


def pause(spool: Spool, destination: str) -> None:
    """Let a destination rest; what is being sent is finished. It holds until `resume`."""
    require(spool, destination)
    spool.pause(destination)


def resume(spool: Spool, destination: str) -> None:
    """Let a destination go on."""
    require(spool, destination)
    spool.resume(destination)


def _choose(
    spool: Spool, destination: str, names: Sequence[str] | None, states: Sequence[State]
) -> tuple[Iterator[Entry], dict[str, str]]:
    """Return the entries that are meant, and the names that mean none."""
    require(spool, destination)
    if names is None:
        # One state after the other, read as it goes: there may be a million.
        every = (spool.entries(state, destination) for state in states)
        return itertools.chain.from_iterable(every), {}
    chosen, missing = [], {}
    for name in dict.fromkeys(names):
        found = [spool.find(state, destination, name) for state in states]
        entries = [entry for entry in found if entry]
        chosen += entries
        if not entries:
            missing[name] = f"{destination} has no such entry"
    return iter(chosen), missing


def _each(act: Callable[..., None], entries: Iterator[Entry]) -> int:
    """Call `act` with entries of one state, some at a time; return how many there were."""
    count = 0
    for _, alike in itertools.groupby(entries, lambda entry: entry.state):
        while some := list(itertools.islice(alike, _AT_ONCE)):
            act(*some)
            count += len(some)
    return count


def _tried(spool: Spool, destination: str) -> dict[str, Tried]:
    """Return by name what the index has; nothing where it cannot be read."""
    try:
        known = read(spool.root, destination)
    except Unusable:
        return {}
    return {each.name: each for each in known}


def _listed(spool: Spool, entry: Entry, now: float, known: Tried | None) -> Listed:
    size = os.stat(entry.path, follow_symlinks=False).st_size
    tries, cause, again = None, "", None
    if known and known.state is entry.state:
        tries, cause = known.tries, known.cause
        again = max(0.0, known.due - now) if entry.state is State.QUEUED else None
    if entry.state is State.FAILED:
        failed = spool.reason(entry)
        if failed.cause != NOT_RECORDED or tries is None:
            tries, cause = failed.tries, failed.cause
    elif entry.state is State.CORRUPT:
        cause = _DAMAGED
    uids = _uids(entry)
    return Listed(
        name=entry.name,
        state=entry.state,
        destination=entry.destination,
        sop_instance_uid=uids[0],
        sop_class_uid=uids[1],
        transfer_syntax_uid=uids[2],
        byte_count=size,
        age_seconds=max(0.0, now - entry.received_at),
        tries=tries,
        cause=cause,
        retry_in_seconds=again,
    )


def _uids(entry: Entry) -> tuple[str, str, str]:
    try:
        with opened(entry.path) as instance:
            meta = instance.meta
    except (CannotUnderstand, OSError):
        return "", "", ""
    return meta.sop_instance_uid, meta.sop_class_uid, meta.transfer_syntax_uid
