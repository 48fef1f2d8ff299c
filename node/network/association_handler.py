"""What makes an association of a connection that asked for one, as pynetdicom's servers call it.

What is raised goes on to whoever keeps the door.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.transport import RequestHandler

from node.network.association import NodeAssociation
from node.network.connection import Connection

if TYPE_CHECKING:
    from node.network.server import Server

#: An association's thread is called this and its code.
THREAD_NAME = "association "


class AssociationHandler(RequestHandler):
    """Makes an association of a connection, without copying 170 presentation contexts."""

    server: Server
    assoc: NodeAssociation

    def handle(self) -> None:
        """Make the association; whoever let it in runs it."""
        server = self.server
        self.assoc = assoc = NodeAssociation(
            self.ae,
            MODE_ACCEPTOR,
            server.limits,
            server.spill,
            server.prototype,
            self.client_address,
        )
        assoc._server = server
        assoc.on_end = server.association_ended
        assoc.see_off = server.see_off
        # What its thread logs is known by it.
        assoc.name = f"{THREAD_NAME}{assoc.code}"
        assoc.tls = server.ssl_context
        assoc.set_socket(Connection(assoc, self.request, alertness=server.prototype.alertness))
        assoc.share(server.handlers, server.watched)
