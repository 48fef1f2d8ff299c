"""What is wrong with a node, most urgent first, each with what to do; and the verdict in one line.

Pure: facts in, sentences out.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from node.spool import DISK_MEND


class Level(enum.StrEnum):
    """How urgent something is."""

    GOOD = "good"
    WATCH = "watch"
    ACT = "act"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something an administrator should know; `mend` says what to do."""

    level: Level
    text: str
    mend: str


class DestinationFacts(Protocol):
    """What is asked of a destination."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def queued(self) -> int: ...  # noqa: D102
    @property
    def failed(self) -> int: ...  # noqa: D102
    @property
    def corrupt(self) -> int: ...  # noqa: D102
    @property
    def last_error(self) -> str: ...  # noqa: D102


ALL_GOOD = "all good"


def verdict(problems: Sequence[Problem]) -> str:
    """Return the one line that an administrator reads first."""
    if not problems:
        return ALL_GOOD
    more = len(problems) - 1
    return problems[0].text + (f" (and {more} more)" if more else "")


def problems(
    destinations: Sequence[DestinationFacts],
    *,
    is_ready: bool,
    has_room: bool,
    disk_failure: str,
    verify_failures: int,
    encoder_failures: int,
    full_in_seconds: float | None,
    rejected_lately: int,
) -> tuple[Problem, ...]:
    """Return everything that is not as it should be, what hurts most first."""
    found = []
    if disk_failure:
        found.append(
            _act(f"refusing instances: the spool's disk failed: {disk_failure}", DISK_MEND)
        )
    if not has_room:
        found.append(_act("refusing instances: free disk space is below the reserve", _MAKE_ROOM))
    found += [_down(each) for each in destinations if each.state == "down"]
    found += [_corrupt(each) for each in destinations if each.corrupt]
    if verify_failures:
        found.append(
            _act(
                f"{_instances(verify_failures)} did not decode to the same pixels and "
                "were kept as they came",
                "nothing is lost; the log names them: report it, and choose another encoder",
            )
        )
    if encoder_failures:
        found.append(
            _watch(
                f"{_instances(encoder_failures)} could not be encoded and were kept as they came",
                "nothing is lost; the log says why, and `dcmpress doctor` tries the encoder",
            )
        )
    if not is_ready:
        found.append(_watch("starting: not every process is at work", "if it lasts, read the log"))
    found += [_failed(each) for each in destinations if each.failed]
    found += [_paused(each) for each in destinations if each.state == "paused"]
    if full_in_seconds is not None and full_in_seconds < 86400:
        hours = max(1, round(full_in_seconds / 3600))
        found.append(_watch(f"the disk is full in about {hours} h at this rate", _MAKE_ROOM))
    if rejected_lately:
        senders = "1 sender was" if rejected_lately == 1 else f"{rejected_lately} senders were"
        found.append(
            _watch(
                f"{senders} turned away in the last ten minutes",
                "see below who it was, why, and how to let it in",
            )
        )
    return tuple(sorted(found, key=lambda each: each.level is not Level.ACT))


_MAKE_ROOM = "make room on the spool's disk, or move the state directory to a larger one"


def _act(text: str, mend: str) -> Problem:
    return Problem(level=Level.ACT, text=text, mend=mend)


def _watch(text: str, mend: str) -> Problem:
    return Problem(level=Level.WATCH, text=text, mend=mend)


def _down(each: DestinationFacts) -> Problem:
    waits = "is safe and waits" if each.queued == 1 else "are safe and wait"
    queue = f"; {_instances(each.queued)} {waits}" if each.queued else ""
    return _act(
        f"destination {each.name} is not answering{queue}",
        (f"{each.last_error}; " if each.last_error else "")
        + f"it is tried again by itself, `dcmpress doctor {each.name}` finds out more",
    )


def _corrupt(each: DestinationFacts) -> Problem:
    return _act(
        f"{_instances(each.corrupt)} for {each.name} changed on this disk and will not be sent",
        "check the disk; send them again from the modality",
    )


def _failed(each: DestinationFacts) -> Problem:
    waits = "waits" if each.failed == 1 else "wait"
    return _watch(
        f"destination {each.name} refused {_instances(each.failed)}, which {waits} for a decision",
        "read the reason below; try again once it is mended, or drop",
    )


def _paused(each: DestinationFacts) -> Problem:
    return _watch(
        f"destination {each.name} is paused; {_instances(each.queued)} queued",
        "resume it when it is ready",
    )


def _instances(count: int) -> str:
    return "1 instance" if count == 1 else f"{count:,} instances"
