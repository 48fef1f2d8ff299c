"""One destination, one loop: takes queued entries in order and does what the outcome says.

The loop owns the order, the back-off and the count of tries; the destination (`Archive`,
`Forward`) owns how one entry gets there and answers with an outcome. An exception of it is logged
and counts as a failure of that entry. An entry leaves the queue only when it was delivered, or
refused for good and then kept with the reason. An entry whose bytes are not what was written, or
that does not say what was written, is set aside and never sent.

A destination that people have paused rests until they let it go on; an entry that they took out of
the queue is passed over.

A destination that fails as a whole is left alone for a back-off. An entry that fails alone is
tried again after the others when its own back-off is over, and set aside after
`ATTEMPTS_FOR_ONE_INSTANCE` tries; where it may be the destination that failed (`InDoubt`), only if
others got through since the first of them. Where several entries fail one after the other and
none gets through there is a back-off of the destination too.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from node.delivery.schedule import (
    ATTEMPTS_FOR_ONE_INSTANCE,
    FAILURES_OF_A_DESTINATION,
    Backoff,
)
from node.dicom import status
from node.errors import CannotUnderstand
from node.model import Deferred, Delivered, Failed, Outcome
from node.pixels.files import check_digest
from node.pixels.stored import opened
from node.spool import Entry, Spool

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class InDoubt(Deferred):
    """Not delivered this time, and only the others tell whether it is because of this instance."""

    whole_destination: bool = False


class Destination(Protocol):
    """What a loop drives."""

    name: str

    def begin(self, entries: Iterable[Entry]) -> None:
        """Hear which entries come next, for instance to negotiate for all of them at once."""

    def deliver(self, entry: Entry) -> Outcome:
        """Bring one entry there."""

    def close(self) -> None:
        """Let go of what is held between deliveries; called when there is nothing to do."""


@dataclass(slots=True)
class Progress:
    """What a loop has done since it started; read by others, written by its loop only."""

    delivered: int = 0
    failed: int = 0
    waiting_for_seconds: float = 0.0
    last_error: str = ""
    failures_in_a_row: int = 0


#: Entries that are looked at as one batch: as many as one negotiation can speak for.
BATCH = 64


@dataclass(slots=True)
class _Waiting:
    """An entry that failed alone: how often, when it is due, what was delivered before it."""

    delivered_before: int
    tries: int = 0
    due: float = 0.0


@dataclass(slots=True)
class Loop:
    """Delivers the queue of one destination until told to stop."""

    destination: Destination
    spool: Spool
    backoff: Backoff
    wake: threading.Event
    stop: threading.Event
    progress: Progress = field(default_factory=Progress)

    #: How long an idle loop waits for a bell before it looks by itself.
    look_every_seconds: float = 1.0

    #: By name of entry; entries that have left the queue are dropped with every pass.
    _waiting: dict[str, _Waiting] = field(default_factory=dict)
    #: Entries that were delivered and could not be removed.
    _taken: set[str] = field(default_factory=set)
    #: Entries that failed alone since the last one got through.
    _failing: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Work until `stop` is set; what is under way is finished. No failure ends it."""
        try:
            while not self.stop.is_set():
                self.wake.clear()
                if not self._guarded_pass():
                    self._close()
                    self._rest()
        finally:
            self._close()

    def _guarded_pass(self) -> bool:
        try:
            return self._pass()
        except OSError as failure:
            self._back_off(f"the spool cannot be read: {failure.strerror or failure}")
        except Exception as failure:
            log.exception("%s: unexpected failure", self.destination.name)
            self._back_off(f"unexpected failure: {type(failure).__name__}")
        return True

    def _pass(self) -> bool:
        """Go through the queue once; return whether anything was there to do."""
        entries = [] if self._is_paused() else self._ready()
        for at in range(0, len(entries), BATCH):
            batch = entries[at : at + BATCH]
            self._begin(batch)
            for entry in batch:
                if self.stop.is_set() or self._is_paused() or not self._one(entry):
                    return True
        return bool(entries)

    def _is_paused(self) -> bool:
        return self.spool.paused(self.destination.name)

    def _ready(self) -> list[Entry]:
        """Return what can be tried now: first what has not failed, then what is due again."""
        entries = list(self.spool.queued(self.destination.name))
        names = {entry.name for entry in entries}
        self._waiting = {name: one for name, one in self._waiting.items() if name in names}
        self._taken &= names
        self._failing &= names
        now = time.monotonic()
        due = [
            entry
            for entry in entries
            if entry.name in self._waiting and self._waiting[entry.name].due <= now
        ]
        due.sort(key=lambda entry: self._waiting[entry.name].due)
        return [entry for entry in entries if entry.name not in self._waiting] + due

    def _rest(self) -> None:
        """Wait for the bell, but not longer than until an entry is due again."""
        seconds = self.look_every_seconds
        if self._waiting and not self._is_paused():
            first = min(one.due for one in self._waiting.values()) - time.monotonic()
            self.progress.waiting_for_seconds = max(0.0, first)
            seconds = min(seconds, self.progress.waiting_for_seconds)
        self.wake.wait(seconds)
        self.progress.waiting_for_seconds = 0.0

    def _begin(self, batch: list[Entry]) -> None:
        try:
            self.destination.begin(batch)
        except Exception:
            log.exception("%s: cannot look ahead", self.destination.name)

    def _close(self) -> None:
        try:
            self.destination.close()
        except Exception:
            log.exception("%s: cannot let go of its association", self.destination.name)

    def _one(self, entry: Entry) -> bool:
        """Deliver one entry; False where the pass has to begin again, after the back-off."""
        try:
            return self._settle(entry, self._outcome(entry))
        except OSError as failure:
            if self._is_gone(entry):
                return True
            # The entry stays queued.
            self._back_off(f"the spool cannot be written: {failure.strerror or failure}")
            return False

    def _is_gone(self, entry: Entry) -> bool:
        """Tell whether a human removed the entry from the queue meanwhile."""
        return self.spool.is_mounted() and not os.path.lexists(entry.path)

    def _settle(self, entry: Entry, outcome: Outcome | None) -> bool:
        match outcome:
            case None:
                self.spool.damaged(entry)
                self._note_failure("its bytes are not what was written: set aside", entry)
            case Delivered():
                self._settle_delivered(entry)
            case Failed(cause=cause):
                self.spool.refused(entry, cause)
                self._note_failure(cause, entry)
                self.progress.failures_in_a_row = 0
            case Deferred() if self._is_gone(entry):
                pass
            case Deferred(cause=cause, whole_destination=True):
                self._back_off(cause)
                return False
            case Deferred(cause=cause):
                return self._defer(entry, cause, in_doubt=isinstance(outcome, InDoubt))
        return True

    def _settle_delivered(self, entry: Entry) -> None:
        # Where the removal fails it is what is tried again, not the delivery.
        self._taken.add(entry.name)
        self.spool.delivered(entry)
        self._taken.discard(entry.name)
        self._failing.clear()
        self.progress.delivered += 1
        self.progress.last_error = ""
        self.progress.failures_in_a_row = 0

    def _outcome(self, entry: Entry) -> Outcome | None:
        """Deliver, or return None where the entry is damaged."""
        name = self.destination.name
        if entry.name in self._taken:
            return Delivered(destination=name, status=status.SUCCESS)
        try:
            if not _is_what_was_written(entry):
                return None
        except CannotUnderstand:
            return None
        except FileNotFoundError:
            raise
        except OSError as failure:
            cause = f"the spool cannot be read: {failure.strerror or failure}"
            return Deferred(destination=name, cause=cause, whole_destination=True)
        try:
            return self.destination.deliver(entry)
        except Exception as failure:
            log.exception("%s: entry %s: unexpected failure", name, entry.name)
            self._close()
            cause = f"unexpected failure: {type(failure).__name__}"
            return InDoubt(destination=name, cause=cause)

    def _defer(self, entry: Entry, cause: str, *, in_doubt: bool) -> bool:
        """Put off an entry that failed alone; False where the destination seems to fail."""
        self._failing.add(entry.name)
        is_destination = len(self._failing) >= FAILURES_OF_A_DESTINATION
        waiting = self._waiting.setdefault(entry.name, _Waiting(self.progress.delivered))
        others_got_through = self.progress.delivered > waiting.delivered_before
        is_certain = not in_doubt or (others_got_through and not is_destination)
        waiting.tries += not (in_doubt and is_destination)
        if is_certain and waiting.tries >= ATTEMPTS_FOR_ONE_INSTANCE:
            self.spool.refused(entry, f"{cause} (after {waiting.tries} tries)", waiting.tries)
            self._note_failure(f"{cause}: set aside after {waiting.tries} tries", entry)
            return True
        delay = self.backoff.delay(max(1, waiting.tries), random.random())
        waiting.due = time.monotonic() + delay
        if is_destination:
            self._back_off(cause)
            return False
        self.progress.last_error = cause
        self.progress.failures_in_a_row += 1
        log.warning(
            "%s: entry %s: %s; trying it again in %.1f s",
            self.destination.name,
            entry.name,
            cause,
            delay,
        )
        return True

    def _back_off(self, cause: str) -> None:
        """Leave the whole destination alone for a while."""
        self.progress.last_error = cause
        self.progress.failures_in_a_row += 1
        delay = self.backoff.delay(self.progress.failures_in_a_row, random.random())
        log.warning("%s: %s; trying again in %.1f s", self.destination.name, cause, delay)
        self._close()
        self.progress.waiting_for_seconds = delay
        self.stop.wait(delay)
        self.progress.waiting_for_seconds = 0.0

    def _note_failure(self, cause: str, entry: Entry) -> None:
        self.progress.failed += 1
        self.progress.last_error = cause
        log.error("%s: entry %s: %s", self.destination.name, entry.name, cause)


def _is_what_was_written(entry: Entry) -> bool:
    with opened(entry.path) as instance, open(entry.path, "rb", buffering=0) as file:
        # Every entry was written with a record: one without it is damaged.
        return instance.meta.record is not None and check_digest(
            file, instance.meta, instance.data_set_offset
        )
