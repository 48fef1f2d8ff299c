"""One destination, one loop: takes queued entries in order and does what the outcome says.

The loop owns the order, the back-off and the count of tries; the destination (`Archive`,
`Forward`) owns how one entry gets there and answers with an outcome, never with an exception. An
entry leaves the queue only when it was delivered, or refused for good and then kept with the
reason. An entry whose bytes are not what was written is set aside and never sent.

A destination that fails as a whole is left alone for a back-off; an entry that fails alone is
tried again after the others, and set aside after `ATTEMPTS_FOR_ONE_INSTANCE` tries.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from node.delivery.schedule import ATTEMPTS_FOR_ONE_INSTANCE, Backoff
from node.errors import CannotUnderstand
from node.model import Deferred, Delivered, Failed, Outcome
from node.pixels.files import check_digest
from node.pixels.stored import opened
from node.spool import Entry, Spool

log = logging.getLogger(__name__)


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
class Loop:
    """Delivers the queue of one destination until told to stop."""

    destination: Destination
    spool: Spool
    backoff: Backoff
    wake: threading.Event
    stop: threading.Event
    progress: Progress = field(default_factory=Progress)
    _tries: Counter[str] = field(default_factory=Counter)

    #: How long an idle loop waits for a bell before it looks by itself.
    look_every_seconds: float = 1.0

    def run(self) -> None:
        """Work until `stop` is set; what is under way is finished."""
        try:
            while not self.stop.is_set():
                self.wake.clear()
                if not self._pass():
                    self.destination.close()
                    self.wake.wait(self.look_every_seconds)
        finally:
            self.destination.close()

    def _pass(self) -> bool:
        """Go through the queue once; return whether anything was there to do."""
        entries = list(self.spool.queued(self.destination.name))
        for at in range(0, len(entries), BATCH):
            batch = entries[at : at + BATCH]
            self.destination.begin(batch)
            for entry in batch:
                if self.stop.is_set() or not self._one(entry):
                    return True
        return bool(entries)

    def _one(self, entry: Entry) -> bool:
        """Deliver one entry; False where the pass has to begin again, after the back-off."""
        try:
            return self._settle(entry, self._outcome(entry))
        except OSError as failure:
            # The entry stays queued. If it was delivered it is so again, which is harmless.
            cause = f"the spool cannot be written: {failure.strerror or failure}"
            return self._defer(entry, cause, whole=True)

    def _settle(self, entry: Entry, outcome: Outcome | None) -> bool:
        match outcome:
            case None:
                self.spool.damaged(entry)
                self._note_failure("its bytes are not what was written: set aside", entry)
            case Delivered():
                self.spool.delivered(entry)
                self.progress.delivered += 1
                self.progress.last_error = ""
                self._forget(entry)
            case Failed(cause=cause):
                self.spool.refused(entry, cause)
                self._note_failure(cause, entry)
                self._forget(entry)
            case Deferred(cause=cause, whole_destination=whole):
                return self._defer(entry, cause, whole)
        return True

    def _outcome(self, entry: Entry) -> Outcome | None:
        """Deliver, or return None where the entry is damaged."""
        try:
            with opened(entry.path) as instance, open(entry.path, "rb", buffering=0) as file:
                if not check_digest(file, instance.meta, instance.data_set_offset):
                    return None
        except CannotUnderstand:
            return None
        except OSError as failure:
            cause = f"the spool cannot be read: {failure.strerror or failure}"
            return Deferred(destination=self.destination.name, cause=cause, whole_destination=True)
        return self.destination.deliver(entry)

    def _defer(self, entry: Entry, cause: str, whole: bool) -> bool:
        self.progress.last_error = cause
        # Only what the destination said of this instance counts against it.
        self._tries[entry.name] += not whole
        tries = self._tries[entry.name]
        if tries >= ATTEMPTS_FOR_ONE_INSTANCE:
            self.spool.refused(entry, f"{cause} (after {tries} tries)")
            self._note_failure(f"{cause}: set aside after {tries} tries", entry)
            self._forget(entry)
            return True
        self.progress.failures_in_a_row += 1
        delay = self.backoff.delay(self.progress.failures_in_a_row, random.random())
        log.warning("%s: %s; trying again in %.1f s", self.destination.name, cause, delay)
        self.destination.close()
        self.progress.waiting_for_seconds = delay
        self.stop.wait(delay)
        self.progress.waiting_for_seconds = 0.0
        return not whole

    def _note_failure(self, cause: str, entry: Entry) -> None:
        self.progress.failed += 1
        self.progress.last_error = cause
        log.error("%s: entry %s: %s", self.destination.name, entry.name, cause)

    def _forget(self, entry: Entry) -> None:
        self._tries.pop(entry.name, None)
        self.progress.failures_in_a_row = 0
