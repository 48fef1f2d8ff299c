"""What makes an association of a connection that asked for one, as pynetdicom's servers call it.

The association gets a thread of the server's; where none can be started it does not count, and the
error goes on to whoever keeps the door.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.transport import RequestHandler

from node.network.association import NodeAssociation
from node.network.connection import Connection
from node.network.prototype import numeric

if TYPE_CHECKING:
    from node.network.server import Server

#: An association's thread is called this and its code.
THREAD_NAME = "association "


class AssociationHandler(RequestHandler):
    """Makes an association of a connection, without copying 170 presentation contexts."""

    server: Server

    def handle(self) -> None:
        """Start an association; where its thread cannot start, it does not count."""
        assoc = self._create_association()
        evt.trigger(assoc, evt.EVT_CONN_OPEN, {"address": self.client_address})
        self.server.association_begins(assoc)
        try:
            self.server.workers.run(assoc.run_reactor)
        except BaseException:
            self.server.association_failed(assoc)
            raise

    def _create_association(self) -> NodeAssociation:
        server = self.server
        assoc = NodeAssociation(
            self.ae, MODE_ACCEPTOR, server.limits, server.spill, server.prototype
        )
        assoc._server = server
        assoc.on_end = server.association_ended
        assoc.peer_address = self.client_address[0]
        # What its thread logs is known by it.
        assoc.name = f"{THREAD_NAME}{assoc.code}"
        assoc.tls = server.ssl_context
        assoc.set_socket(Connection(assoc, self.request))
        assoc.requestor.address_info = numeric(*self.client_address[:2])
        assoc.share(server.handlers, server.watched)
        return assoc
