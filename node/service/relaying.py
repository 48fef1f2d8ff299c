"""How an instance is relayed: the destination's own status is the answer.

Success means that the destination said so. Nothing is kept, unless there are destinations beside
the relay: what it took is then committed to the spool for them, before the answer. Where the relay
cannot be reached the requestor is told A700 and keeps the instance; with `falls_back` it is made
safe in the queue of the relay and of the others instead, and Success means that. What the relay
takes in no transfer syntax is answered with A700 in any case.

What need not be in a file is not: an instance that was received in memory, and that only the relay
is to have, is sent from there, its last fragment when its frames are proven. Where they are not,
the association is aborted and the instance sent as it came.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from node.delivery.forward import NotAccepted
from node.delivery.relay import Relay
from node.dicom.status import Category
from node.errors import (
    CannotUnderstand,
    NodeError,
    OutOfResources,
    PeerRefused,
    PeerUnreachable,
)
from node.network.sending import StoreResponse
from node.network.tally import Timing
from node.pixels.instance import Instance
from node.pixels.planning import NotEncoded
from node.pixels.stored import opened
from node.service.bell import Bell
from node.service.pipeline import Arrived, Ended
from node.spool import Draft, Incoming, Spool

log = logging.getLogger(__name__)

#: What a destination fails with that does not work, or does not want it.
_OUT_OF_REACH = (PeerUnreachable, PeerRefused)

_TAKEN = frozenset({Category.SUCCESS, Category.WARNING, Category.DUPLICATE})


class Relaying:
    """The ending of a relay's pipeline."""

    def __init__(
        self, spool: Spool, bell: Bell, relay: Relay, beside: Sequence[str], *, falls_back: bool
    ) -> None:
        self._spool = spool
        self._bell = bell
        self._relay = relay
        self._beside = beside
        self._falls_back = falls_back

    def end(self, arrived: Arrived) -> Ended:
        """Send it; raises `OutOfResources` where it cannot be sent, and is not spooled instead."""
        if self._beside or arrived.data.path is not None:
            return self._end_in_file(arrived)
        return self._end_in_memory(arrived)

    def _end_in_memory(self, arrived: Arrived) -> Ended:
        began = time.perf_counter()
        held = arrived.hold()
        encoded = time.perf_counter()
        try:
            try:
                response = self._sent(held)
            except NotEncoded as kept:
                held = arrived.hold_as_received(kept)
                response = self._sent(held)
        except _OUT_OF_REACH as failure:
            self._require_fallback(failure)
            with self._spool.begin() as incoming:
                stored = arrived.write(incoming)
                self._queue(incoming)
            return Ended(stored, _timing(began, encoded))
        stored = arrived.stored(held.form)
        return Ended(stored, _timing(began, encoded), response.status, response.comment)

    def _end_in_file(self, arrived: Arrived) -> Ended:
        began = time.perf_counter()
        # A file that is not kept is gone when the block ends.
        with self._spool.begin() as incoming:
            stored = arrived.write(incoming)
            encoded = time.perf_counter()
            try:
                response = self._sent_from(incoming)
            except _OUT_OF_REACH as failure:
                self._require_fallback(failure)
                self._queue(incoming)
                return Ended(stored, _timing(began, encoded))
            if self._beside and response.meaning in _TAKEN:
                incoming.commit()
                self._bell.ring()
        return Ended(stored, _timing(began, encoded), response.status, response.comment)

    def _sent_from(self, incoming: Incoming) -> StoreResponse:
        try:
            with opened(incoming.path) as instance:
                return self._sent(instance)
        except CannotUnderstand as failure:
            log.error("relay: %s", failure)
            raise OutOfResources(f"not relayed: {failure}") from failure

    def _sent(self, instance: Instance) -> StoreResponse:
        """Send it; of the errors that may come those of the destination are left as they are."""
        try:
            return self._relay.send(instance)
        except _OUT_OF_REACH:
            raise
        except NodeError as failure:
            log.error("relay: %s", failure)
            raise OutOfResources(f"not relayed: {failure}") from failure

    def _require_fallback(self, failure: NodeError) -> None:
        if isinstance(failure, NotAccepted) or not self._falls_back:
            raise OutOfResources(f"not relayed: {failure}") from failure

    def _queue(self, incoming: Draft) -> None:
        """Make it safe here, for the relay and for those beside it."""
        incoming.queue([self._relay.name, *self._beside])
        self._relay.spooled()
        self._bell.ring()


def _timing(began: float, encoded: float) -> Timing:
    return Timing(encode=encoded - began, store=time.perf_counter() - encoded)
