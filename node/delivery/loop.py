"""One destination, one loop: takes queued entries in order and does what the outcome says.

The loop owns the order, the back-off and the count of tries, on as many lanes as the destination
may have associations; a lane (`Archive`, `Forward`) owns how one entry gets there and answers with
an outcome (`attempt`). An entry leaves the queue only when it was delivered and its lane has
settled it, with others where the lane wants that, or refused for good
and then kept with the reason. An entry whose bytes are not what was written, or that does not say
what was written, is set aside and never sent. With one lane entries go in the order of receipt;
several lanes only begin them in that order.

A destination that people have paused rests until they let it go on; an entry that they took out of
the queue is passed over.

A destination that fails as a whole is left alone for a back-off (`circuit`). An entry that fails
alone is tried again after the others when its own back-off is over, and set aside after
`ATTEMPTS_FOR_ONE_INSTANCE` tries (`worklist`), those before a restart among them (`memory`).
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from node.delivery.attempt import Attempt, Damaged, Destination, attempt, close
from node.delivery.calls import Calls
from node.delivery.circuit import Breaker, Circuit
from node.delivery.memory import Memory, NoMemory, Remembered
from node.delivery.progress import Account, Progress
from node.delivery.schedule import Backoff
from node.delivery.worklist import Fate, Worklist
from node.dicom import status
from node.model import Blame, Deferred, Delivered, Failed
from node.spool import Entry, Spool

log = logging.getLogger(__name__)

#: Entries that were delivered, each with what came of its try.
Done: TypeAlias = list[tuple[Entry, Attempt]]

#: Entries that are looked at as one batch: as many as one negotiation can speak for.
BATCH = 64
#: A lane with nothing to do releases its association after so many seconds: peers count them.
IDLE_SECONDS = 1.0


@dataclass(slots=True)
class Loop:
    """Delivers the queue of one destination until told to stop. `ring` may come from anywhere."""

    lanes: Sequence[Destination]
    spool: Spool
    backoff: Backoff
    stop: threading.Event
    memory: Memory = field(default_factory=NoMemory)
    #: The associations that the lanes request.
    calls: Calls = field(default_factory=Calls)

    #: How long an idle loop waits for `ring` before it looks by itself.
    look_every_seconds: float = 1.0
    idle_seconds: float = IDLE_SECONDS

    #: Guards everything below, and tells that some of it changed.
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _breaker: Breaker = field(init=False)
    _memory: Remembered = field(init=False)
    _work: Worklist = field(default_factory=Worklist)
    _rings: int = 0
    #: When people last wanted the destination tried.
    _called: int = 0
    _account: Account = field(default_factory=Account)
    #: Entries that were delivered and could not be removed.
    _taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._breaker = Breaker(self.backoff)
        self._called = self.spool.called_again(self.name)
        self._memory = Remembered(self.name, self.memory)

    @property
    def name(self) -> str:
        """The destination's name."""
        return self.lanes[0].name

    @property
    def progress(self) -> Progress:
        """What was done since the start."""
        with self._changed:
            now = time.monotonic()
            return self._account.progress(self._work.delivered, self._breaker, self.calls, now)

    def ring(self) -> None:
        """Say that something was queued, or that `stop` was set."""
        with self._changed:
            self._rings += 1
            self._changed.notify_all()

    def run(self) -> None:
        """Work until `stop` is set; what is under way is finished. No failure ends it."""
        with self._changed:
            self._memory.restore(self._work, self.spool, self.backoff.longest)
        others = [
            threading.Thread(target=self._run, args=(lane,), name=f"deliver-{self.name}-{number}")
            for number, lane in enumerate(self.lanes[1:], 2)
        ]
        for thread in others:
            thread.daemon = True
            thread.start()
        self._run(self.lanes[0])
        for thread in others:
            thread.join()

    # -- one lane ------------------------------------------------------------------------------

    def _run(self, lane: Destination) -> None:
        quiet_since: float | None = None
        try:
            while not self.stop.is_set():
                rings = self._rings
                if batch := self._borrow():
                    self._guarded(lane, batch)
                    quiet_since = time.monotonic()
                elif quiet_since is None:
                    self._rest(rings, self.look_every_seconds)
                elif (left := self._until_release(quiet_since)) > 0:
                    self._rest(rings, left)
                else:
                    close(lane)
                    quiet_since = None
        finally:
            close(lane)

    def _until_release(self, quiet_since: float) -> float:
        """Return how long an association is still kept; not at all while it is left alone."""
        if self._breaker.circuit is Circuit.OPEN:
            return 0.0
        return quiet_since + self.idle_seconds - time.monotonic()

    def _borrow(self) -> list[Entry]:
        """Return what to do next; nothing where there is nothing, or where it must wait."""
        try:
            with self._changed:
                now = time.monotonic()
                self._heed(now)
                if self._is_paused or not self._breaker.admits(now, is_busy=self._work.is_busy):
                    return []
                most = max(1, BATCH // len(self.lanes))
                return self._work.borrow(
                    now,
                    most,
                    lambda: self.spool.queued(self.name),
                    may_be_back=self._breaker.circuit is Circuit.HALF_OPEN,
                )
        except OSError as failure:
            self._back_off(f"the spool cannot be read: {failure.strerror or failure}")
        return []

    def _heed(self, now: float) -> None:
        """Leave the destination alone no longer where people want it tried."""
        called = self.spool.called_again(self.name)
        if called != self._called:
            self._called = called
            self._breaker.hurry(now)

    @property
    def _is_paused(self) -> bool:
        return self.spool.paused(self.name)

    def _rest(self, rings: int, seconds: float) -> None:
        """Wait for a ring, but not longer than until there is something to do."""
        with self._changed:
            now = time.monotonic()
            until = now + seconds if self._may_not_call else self._next_call(now + seconds)
            if self._rings == rings and not self.stop.is_set():
                self._changed.wait(max(0.0, until - now))

    @property
    def _may_not_call(self) -> bool:
        """Tell whether somebody, not the clock, decides when the destination is called again."""
        is_tried = self._breaker.circuit is Circuit.HALF_OPEN and self._work.is_busy
        return is_tried or self._is_paused

    def _next_call(self, at_most: float) -> float:
        if self._breaker.circuit is Circuit.OPEN:
            return self._breaker.due
        due = self._work.next_due()
        return at_most if due is None else min(at_most, due)

    def _guarded(self, lane: Destination, batch: list[Entry]) -> None:
        try:
            self._deliver(lane, batch)
        except Exception as failure:
            log.exception("%s: unexpected failure", self.name)
            self._back_off(f"unexpected failure: {type(failure).__name__}")
        finally:
            with self._changed:
                self._work.give_back(batch)

    def _deliver(self, lane: Destination, batch: list[Entry]) -> None:
        try:
            lane.begin(batch)
        except Exception:
            log.exception("%s: cannot look ahead", self.name)
        delivered: Done = []
        for entry in batch:
            if self.stop.is_set() or self._is_paused or not self._one(lane, entry, delivered):
                break
            if len(delivered) >= lane.at_once and not self._let_go(lane, delivered):
                return
        self._let_go(lane, delivered)

    # -- one entry -----------------------------------------------------------------------------

    def _one(self, lane: Destination, entry: Entry, delivered: Done) -> bool:
        """Deliver one entry; False where it and those behind it have to wait.

        One that was delivered is added to `delivered` and stays in the queue.
        """
        if self._breaker.circuit is Circuit.OPEN:
            return False
        try:
            made = self._attempt(lane, entry)
            if isinstance(made.outcome, Delivered):
                delivered.append((entry, made))
                return True
            # What got through before comes first: afterwards the destination may be left alone.
            return self._let_go(lane, delivered) and self._settle(entry, made)
        except OSError as failure:
            self._let_go(lane, delivered)
            if self._is_gone(entry):
                self._leave(entry, delivered=False)
                return True
            # The entry stays queued.
            self._back_off(f"the spool cannot be used: {failure.strerror or failure}")
            return False

    def _attempt(self, lane: Destination, entry: Entry) -> Attempt:
        if entry.name in self._taken:
            return Attempt(Delivered(destination=self.name, status=status.SUCCESS))
        return attempt(lane, entry)

    def _is_gone(self, entry: Entry) -> bool:
        """Tell whether a human removed the entry from the queue meanwhile."""
        return self.spool.is_mounted() and not os.path.lexists(entry.path)

    def _settle(self, entry: Entry, made: Attempt) -> bool:
        """Do what an outcome says that is no delivery; False where the others have to wait."""
        with self._changed:
            self._account.count(made)
        match made.outcome:
            case Damaged():
                self.spool.damaged(entry)
                self._note_failure("its bytes are not what was written: set aside", entry)
            case Failed(cause=cause):
                self.spool.refused(entry, cause)
                self._note_failure(cause, entry)
                self._memory.failed(entry, made.sop_instance_uid, 1, cause)
                self._note_answer()
            case Deferred() if self._is_gone(entry):
                self._leave(entry, delivered=False)
            case Deferred(cause=cause, blame=Blame.DESTINATION | Blame.SETTINGS as blame):
                self._back_off(cause, lasting=blame is Blame.SETTINGS)
                return False
            case Deferred(cause=cause, blame=blame):
                return self._put_off(entry, made.sop_instance_uid, cause, blame)
        return True

    def _leave(self, entry: Entry, *, delivered: bool) -> None:
        """Forget an entry that has left the queue."""
        with self._changed:
            had_failed = self._work.settle(entry, delivered=delivered)
        if had_failed:
            self._memory.left(entry)

    def _let_go(self, lane: Destination, delivered: Done) -> bool:
        """Remove what was delivered, once that is safe; False where it has to be tried again."""
        if not delivered:
            return True
        done = delivered.copy()
        delivered.clear()
        unsafe = lane.settle()
        if unsafe is not None:
            self._back_off(unsafe.cause)
            return False
        try:
            for entry, made in done:
                self._remove(entry, made)
        except OSError as failure:
            self._back_off(f"the spool cannot be used: {failure.strerror or failure}")
            return False
        with self._changed:
            self._account.last_error = ""
        self._note_answer()
        return True

    def _remove(self, entry: Entry, made: Attempt) -> None:
        """Remove what was delivered; where that fails it is what is tried again."""
        if entry.name not in self._taken:
            self._taken.add(entry.name)
            with self._changed:
                self._account.count(made)
            if isinstance(made.outcome, Delivered) and made.outcome.detail:
                log.warning(
                    "%s: entry %s: delivered: %s", self.name, entry.name, made.outcome.detail
                )
        self.spool.delivered(entry)
        self._taken.discard(entry.name)
        self._leave(entry, delivered=True)

    def _note_answer(self) -> None:
        """The destination works: where it was left alone, the other lanes may go on."""
        with self._changed:
            was = self._breaker.circuit
            self._breaker.answered()
            self._account.failures_in_a_row = 0
            if was is not Circuit.CLOSED:
                log.info("%s: answers again", self.name)
                self._changed.notify_all()

    def _put_off(self, entry: Entry, uid: str, cause: str, blame: Blame) -> bool:
        """Put off an entry that failed alone; False where the destination seems to fail."""
        with self._changed:
            fate = self._work.judge(entry, blame)
            tries = self._work.tries(entry)
        if fate is Fate.SET_ASIDE:
            self.spool.refused(entry, f"{cause} (after {tries} tries)", tries)
            self._note_failure(f"{cause}: set aside after {tries} tries", entry)
            self._memory.failed(entry, uid, tries, cause)
            return True
        with self._changed:
            delay = self.backoff.delay(max(1, tries), random.random())
            self._work.put_off(entry, time.monotonic() + delay)
            self._account.put_off(cause)
        self._memory.put_off(entry, uid, tries, delay, cause)
        if fate is Fate.DESTINATION_FAILS:
            self._back_off(cause)
            return False
        log.warning(
            "%s: entry %s: %s; trying it again in %.1f s", self.name, entry.name, cause, delay
        )
        return True

    def _back_off(self, cause: str, *, lasting: bool = False) -> None:
        """Leave the whole destination alone for a while."""
        with self._changed:
            delay = self._breaker.failed(time.monotonic(), random.random(), lasting=lasting)
            self._account.put_off(cause)
        level = logging.ERROR if lasting else logging.WARNING
        log.log(level, "%s: %s; trying again in %.1f s", self.name, cause, delay)

    def _note_failure(self, cause: str, entry: Entry) -> None:
        self._leave(entry, delivered=False)
        with self._changed:
            self._account.set_aside(cause)
        log.error("%s: entry %s: %s", self.name, entry.name, cause)
