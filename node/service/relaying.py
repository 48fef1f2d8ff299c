"""The pipeline of a relay: encoded on the way, answered with the destination's own status.

Success here means that the destination said so. Nothing is kept, unless there are destinations
beside the relay: what it took is then committed to the spool for them, before the answer. Where the
relay cannot be reached, or takes the instance in no transfer syntax, the requestor is told A700
and keeps it.
"""

from __future__ import annotations

import logging

from node.delivery.relay import Relay
from node.dicom import status
from node.dicom.status import Category
from node.errors import InstanceRefused, NodeError, OutOfResources
from node.model import Received
from node.network.data_set import ReceivedData
from node.network.store_scp import Answer
from node.service.pipeline import Pipeline, checked
from node.spool import Spool

log = logging.getLogger(__name__)


_TAKEN = frozenset({Category.SUCCESS, Category.WARNING, Category.DUPLICATE})


class RelayPipeline:
    """Received -> Compressed | Kept -> the destination, while the requestor waits."""

    def __init__(
        self, pipeline: Pipeline, spool: Spool, relay: Relay, *, keep: bool = False
    ) -> None:
        self._pipeline = pipeline
        self._spool = spool
        self._relay = relay
        self._keep = keep

    def receive(self, received: Received, data: ReceivedData) -> Answer:
        """Relay one instance and return what the destination answered."""
        scanned = checked(received, data)
        try:
            self._pipeline.require_room()
            # A file that is not committed is gone when the block ends.
            with self._spool.begin() as incoming:
                stored = self._pipeline.write(received, scanned, data, incoming)
                response = self._relay.send(incoming.path)
                if self._keep and status.category(response.status) in _TAKEN:
                    incoming.commit()
                    self._pipeline.ring()
        except InstanceRefused:
            raise
        except OSError as failure:
            raise OutOfResources(f"cannot store: {failure.strerror or failure}") from failure
        except NodeError as failure:
            log.error("relay: %s", failure)
            raise OutOfResources(f"not relayed: {failure}") from failure
        return Answer(response.status, response.comment, stored)
