"""A relay destination: called while the modality waits, its own status is the answer.

Every inbound association works with an outbound one at a time; those that are not needed for a
moment are kept for the next instance and released when nobody took them for a second.

Before an association is accepted from a modality the destination is asked what it takes
(`narrowed`), with an association that then serves its instances; what it said is remembered for a
while. A destination that fails is left alone for a back-off if what it does not get is spooled
(`is_patient`); if not, every instance is tried, for the modality then has nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from node.delivery.attempt import DEFERRED, result_of
from node.delivery.calls import Calls
from node.delivery.capability import Capability, in_associations, narrowed, questions
from node.delivery.circuit import Breaker
from node.delivery.forward import AS_STORED, Forward, Manner, NotAccepted
from node.delivery.judging import blame_of, judge
from node.delivery.progress import Progress
from node.delivery.refusals import Refusals
from node.delivery.schedule import Backoff
from node.dicom import status
from node.dicom.contexts import VERIFICATION, Proposal
from node.errors import PeerRefused, PeerUnreachable
from node.events import Witness, nobody
from node.model import Blame, Delivered
from node.network.sending import StoreResponse
from node.network.store_scu import Peer
from node.pixels.decoders import missing_decoder
from node.pixels.instance import Instance
from node.pixels.policy import Run, here

log = logging.getLogger(__name__)

#: An idle association is released after so many seconds: peers count them.
IDLE_SECONDS = 1.0
#: What the destination said it takes is asked again after so many seconds.
REMEMBER_SECONDS = 600.0
#: The modality waits for the answer to its own request meanwhile.
ASK_SECONDS = 3.0
#: After an attempt to ask that failed, so many seconds pass before the next one.
ASK_AGAIN_SECONDS = 10.0
#: A modality that proposes more than this many associations' worth is asked about in part.
MOST_ASKING = 4
#: SOP classes that are remembered.
MOST_CLASSES = 512
#: How long `close` waits until all associations have been released.
CLOSE_SECONDS = 5.0


class LeftAlone(PeerUnreachable):
    """The destination failed a moment ago and is not called before its back-off is over."""


class Relay:
    """Sends instances at once, from as many threads as there are inbound associations."""

    def __init__(
        self,
        name: str,
        peer: Peer,
        backoff: Backoff,
        *,
        manner: Manner = AS_STORED,
        encoded_in: Sequence[str] = (),
        is_patient: bool = False,
        run: Run = here,
        witness: Witness = nobody,
    ) -> None:
        self.name = name
        self._peer = peer
        self._manner = manner
        self._encoded_in = tuple(encoded_in)
        self._is_patient = is_patient
        self._run = run
        self._witness = witness
        self._refusals = Refusals()
        self._calls = Calls()
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Forward]] = []
        self._breaker = Breaker(backoff)
        self._calling = 0
        self._progress = Progress()
        self._known: dict[str, Capability] = {}
        self._ask_at = 0.0
        #: Of the one thread that calls `close_idle` and `close`.
        self._closing: list[threading.Thread] = []

    @property
    def progress(self) -> Progress:
        """What was relayed since the start."""
        with self._lock:
            return replace(
                self._progress,
                circuit=self._breaker.circuit,
                waiting_for_seconds=self._breaker.seconds_left(time.monotonic()),
                associations=self._calls.open,
                associations_ended=self._calls.ended,
            )

    # -- instances -----------------------------------------------------------------------------

    def send(self, instance: Instance) -> StoreResponse:
        """Send an instance; raises as `Forward.send`, and `LeftAlone`.

        Whatever its data set raises while it is sent is passed on, and the association aborted.
        """
        with self._call():
            forward = self._take()
            try:
                response = forward.send(instance)
            except BaseException:
                forward.close()
                raise
            self._put(forward)
        self._note(response)
        return response

    def spooled(self) -> None:
        """Note that an instance which could not be sent was spooled instead."""
        with self._lock:
            self._progress = replace(self._progress, spooled=self._progress.spooled + 1)

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        """Count the calls that are under way and what fails of them."""
        with self._lock:
            admitted = self._breaker.admits(time.monotonic(), is_busy=bool(self._calling))
            if self._is_patient and not admitted:
                raise LeftAlone(f"{self._peer} is left alone: {self._progress.last_error}")
            self._calling += 1
        try:
            yield
        except NotAccepted as refusal:
            self._note_attempt(status.Category.REFUSED.value)
            self._note_refusal(str(refusal))
            raise
        except (PeerUnreachable, PeerRefused) as failure:
            self._note_failure(failure)
            raise
        finally:
            with self._lock:
                self._calling -= 1

    def _note_failure(self, failure: PeerUnreachable | PeerRefused) -> None:
        self._note_attempt(DEFERRED)
        lasting = blame_of(failure) is Blame.SETTINGS
        with self._lock:
            delay = self._breaker.failed(time.monotonic(), random.random(), lasting=lasting)
            in_a_row = self._progress.failures_in_a_row + 1
            self._progress = replace(
                self._progress, last_error=str(failure), failures_in_a_row=in_a_row
            )
        if self._is_patient:
            log.warning("%s: %s; calling it again in %.1f s", self.name, failure, delay)
        else:
            log.error("%s: %s", self.name, failure)

    def _note(self, response: StoreResponse) -> None:
        """Count an answer."""
        outcome = judge(self.name, response)
        self._note_attempt(result_of(outcome))
        if not isinstance(outcome, Delivered):
            self._note_refusal(outcome.cause)
            return
        with self._lock:
            self._breaker.answered()
            now = self._progress
            self._progress = replace(
                now, delivered=now.delivered + 1, last_error="", failures_in_a_row=0
            )

    def _note_attempt(self, result: str) -> None:
        with self._lock:
            self._progress = self._progress.plus(Progress(attempts={result: 1}))

    def _note_refusal(self, cause: str) -> None:
        """Count an instance that was not taken, by a destination that works."""
        with self._lock:
            self._breaker.answered()
            now = self._progress
            self._progress = replace(
                now, failed=now.failed + 1, last_error=cause, failures_in_a_row=0
            )

    # -- associations --------------------------------------------------------------------------

    def _take(self) -> Forward:
        with self._lock:
            if self._idle:
                return self._idle.pop()[1]
        return self._new(self._peer)

    def _put(self, forward: Forward) -> None:
        with self._lock:
            self._idle.append((time.monotonic(), forward))

    def _new(self, peer: Peer) -> Forward:
        return Forward(
            self.name,
            peer,
            manner=self._manner,
            refusals=self._refusals,
            run=self._run,
            witness=self._witness,
            calls=self._calls,
        )

    def close_idle(self, older_than: float = IDLE_SECONDS) -> None:
        """Release the associations that nobody took for so many seconds; waits for no answer.

        The one who calls this has more to do than to wait for a destination that hangs.
        """
        now = time.monotonic()
        with self._lock:
            old = [forward for since, forward in self._idle if now - since >= older_than]
            self._idle = [item for item in self._idle if item[1] not in old]
        self._closing = [thread for thread in self._closing if thread.is_alive()]
        for forward in old:
            thread = threading.Thread(target=forward.close, name=f"close-{self.name}", daemon=True)
            thread.start()
            self._closing.append(thread)

    def close(self) -> None:
        """Release every association that is not in use, and give the destination a moment."""
        self.close_idle(0)
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in self._closing:
            thread.join(max(0.0, deadline - time.monotonic()))

    # -- what it takes -------------------------------------------------------------------------

    def narrowed(self, proposed: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Return what may be accepted of a modality's proposal, transfer syntaxes by SOP class.

        Takes the time to ask the destination where that is needed, at most about `ASK_SECONDS`
        for each association. Where it cannot be asked everything is accepted, and each instance
        is answered for itself.
        """
        now = time.monotonic()
        unknown = [
            questions(sop_class, syntaxes, self._encoded_in)
            for sop_class, syntaxes in proposed.items()
            if sop_class != VERIFICATION and not self._knows(sop_class, syntaxes, now)
        ]
        if unknown and now >= self._ask_at:
            try:
                for part in in_associations(unknown)[:MOST_ASKING]:
                    self._ask(part)
            except (PeerUnreachable, PeerRefused) as failure:
                log.warning("%s cannot be asked what it takes: %s", self.name, failure)
                self._ask_at = time.monotonic() + ASK_AGAIN_SECONDS
        with self._lock:
            fresh = {name: one for name, one in self._known.items() if self._is_fresh(one, now)}
        return narrowed(proposed, fresh, self._encoded_in, lambda uid: not missing_decoder(uid))

    def _knows(self, sop_class: str, syntaxes: Sequence[str], now: float) -> bool:
        with self._lock:
            known = self._known.get(sop_class)
        return known is not None and self._is_fresh(known, now) and known.answers(syntaxes)

    @staticmethod
    def _is_fresh(capability: Capability, now: float) -> bool:
        return now - capability.since < REMEMBER_SECONDS

    def _ask(self, proposals: Sequence[Proposal]) -> None:
        """Ask with an association, which is then kept for the instances that are about to come."""
        quick = replace(self._peer, connect_seconds=min(self._peer.connect_seconds, ASK_SECONDS))
        forward = self._new(quick)
        accepted = forward.ask(proposals)
        self._put(forward)
        now = time.monotonic()
        with self._lock:
            for sop_class in {one for one, _ in proposals}:
                self._known.pop(sop_class, None)
                self._known[sop_class] = Capability(
                    frozenset(uid for one, uid in proposals if one == sop_class),
                    frozenset(uid for one, uid in accepted if one == sop_class),
                    now,
                )
            while len(self._known) > MOST_CLASSES:
                del self._known[next(iter(self._known))]
