"""One try of one entry on one lane, and what is known afterwards.

The entry is opened once, looked at, and given to the lane. An exception of the lane is logged and
counts as a failure of that entry, whose association is not used again. A bad place on the disk
counts as a failure of that entry too, lest it hold up all others. Raises OSError where the spool
cannot be read.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from node.dicom import status
from node.errors import CannotUnderstand
from node.model import Blame, Deferred, Delivered, Failed, Outcome
from node.pixels.stored import StoredInstance, opened
from node.spool import Entry

log = logging.getLogger(__name__)

#: What came of a try that will be made again.
DEFERRED = "deferred"

#: An entry of at most this size is read once: what was checked is what is sent, whatever becomes of
#: its file meanwhile. A larger one is mapped.
_IN_MEMORY = 4 << 20
#: What a disk says of one place that it cannot read; it need not fail for the other entries.
_BAD_PLACE = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG})


class Destination(Protocol):
    """One lane of a loop, used from one thread."""

    name: str
    #: So many deliveries are settled together at most.
    at_once: int

    def begin(self, entries: Iterable[Entry]) -> None:
        """Hear which entries come next, for instance to negotiate for all of them at once."""

    def deliver(self, entry: Entry, instance: StoredInstance) -> Outcome:
        """Bring one entry there, which is open as `instance` and is what was written."""

    def settle(self) -> Deferred | None:
        """Make what was delivered since the last call safe there, or say why that cannot be.

        Before, nothing of it may leave the queue.
        """

    def close(self) -> None:
        """Let go of what is held between deliveries; called when there is nothing to do."""


class Damaged:
    """The entry is not what was written."""


class Attempt(NamedTuple):
    """What came of a try. `byte_count` is that of a file which the lane gave an answer for."""

    outcome: Outcome | Damaged
    sop_instance_uid: str = ""
    byte_count: int | None = None


def attempt(lane: Destination, entry: Entry) -> Attempt:
    """Try one entry."""
    try:
        with opened(entry.path, _IN_MEMORY) as instance:
            # Every entry was written with a record: one without it is damaged.
            if instance.meta.record is None or not instance.is_whole():
                return Attempt(Damaged())
            return _deliver(lane, entry, instance)
    except CannotUnderstand:
        return Attempt(Damaged())
    except OSError as failure:
        if failure.errno not in _BAD_PLACE:
            raise
        cause = f"its file cannot be read: {failure.strerror}"
        return Attempt(Deferred(destination=lane.name, cause=cause, blame=Blame.UNCLEAR))


def _deliver(lane: Destination, entry: Entry, instance: StoredInstance) -> Attempt:
    uid = instance.meta.sop_instance_uid
    try:
        return Attempt(lane.deliver(entry, instance), uid, len(instance.buffer))
    except Exception as failure:
        log.exception("%s: entry %s: unexpected failure", lane.name, entry.name)
        close(lane)
        cause = f"unexpected failure: {type(failure).__name__}"
        return Attempt(Deferred(destination=lane.name, cause=cause, blame=Blame.UNCLEAR), uid)


def close(lane: Destination) -> None:
    """Have a lane let go of what it holds."""
    try:
        lane.close()
    except Exception:
        log.exception("%s: cannot let go of its association", lane.name)


def result_of(outcome: Outcome) -> str:
    """Return what came of a try in one word of a few: those of `status.Category`, or deferred."""
    match outcome:
        case Delivered(status=code):
            return status.category(code).value
        case Failed():
            return status.Category.REFUSED.value
        case _:
            return DEFERRED
