"""How an instance is relayed: the destination's own status is the answer.

Success means that the destination said so. Nothing is kept, unless there are destinations beside
the relay: what it took is then committed to the spool for them, before the answer. Where the relay
cannot be reached the requestor is told A700 and keeps the instance; with `falls_back` it is made
safe in the queue of the relay and of the others instead, and Success means that. What the relay
takes in no transfer syntax is answered with A700 in any case.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from node.delivery.forward import NotAccepted
from node.delivery.relay import Relay
from node.dicom.status import Category
from node.errors import NodeError, OutOfResources, PeerRefused, PeerUnreachable
from node.service.bell import Bell
from node.service.pipeline import Reply
from node.spool import Draft, Incoming, Spool

log = logging.getLogger(__name__)

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

    def begin(self) -> Incoming:
        """Start a file that is thrown away unless it is kept."""
        return self._spool.begin()

    def finish(self, incoming: Incoming) -> Reply:
        """Send what was written; raises `OutOfResources` where it cannot be sent."""
        try:
            response = self._relay.send(incoming.path)
        except (PeerUnreachable, PeerRefused) as failure:
            if isinstance(failure, NotAccepted) or not self._falls_back:
                raise OutOfResources(f"not relayed: {failure}") from failure
            assert isinstance(incoming, Draft)  # `begin` makes no other
            incoming.queue([self._relay.name, *self._beside])
            self._relay.spooled()
            self._bell.ring()
            return Reply()
        except NodeError as failure:
            log.error("relay: %s", failure)
            raise OutOfResources(f"not relayed: {failure}") from failure
        if self._beside and response.meaning in _TAKEN:
            incoming.commit()
            self._bell.ring()
        return Reply(response.status, response.comment)
