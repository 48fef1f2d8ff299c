"""The pipeline of a relay: encoded on the way, answered with the destination's own status.

Nothing is kept: Success here means that the destination said so. Where the destination cannot be
reached, or takes the instance in no transfer syntax, the requestor is told A700 and keeps it.
"""

from __future__ import annotations

import logging

from node.delivery.relay import Relay
from node.errors import NodeError, OutOfResources
from node.model import Received
from node.network.data_set import ReceivedData
from node.network.store_scp import Answer
from node.service.pipeline import Pipeline, checked
from node.spool import Spool

log = logging.getLogger(__name__)


class RelayPipeline:
    """Received -> Compressed | Kept -> the destination, while the requestor waits."""

    def __init__(self, pipeline: Pipeline, spool: Spool, relay: Relay) -> None:
        self._pipeline = pipeline
        self._spool = spool
        self._relay = relay

    def receive(self, received: Received, data: ReceivedData) -> Answer:
        """Relay one instance and return what the destination answered."""
        scanned = checked(received, data)
        try:
            # A file that is never committed: it is gone when the block ends.
            with self._spool.begin() as incoming:
                stored = self._pipeline.write(received, scanned, data, incoming)
                response = self._relay.send(incoming.path)
        except OSError as failure:
            raise OutOfResources(f"cannot store: {failure.strerror or failure}") from failure
        except NodeError as failure:
            log.error("relay: %s", failure)
            raise OutOfResources(f"not relayed: {failure}") from failure
        return Answer(response.status, response.comment, stored)
