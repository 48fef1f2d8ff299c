"""What gives an association to a connection that asked for one, as pynetdicom's servers call it.

It was made before, as a rule: making it takes longer than reading the request and answering it.
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
    """Gives an association to a connection, without copying 170 presentation contexts."""

    server: Server
    assoc: NodeAssociation

    def handle(self) -> None:
        """Give an association the connection; whoever let it in runs it."""
        server = self.server
        self.assoc = assoc = server.next_association()
        assoc.note_timeouts()
        assoc.client_address = self.client_address
        assoc.tls = server.ssl_context
        assoc.set_socket(Connection(assoc, self.request, alertness=server.prototype.alertness))
        assoc.share(server.handlers, server.watched)


def new_association(server: Server) -> NodeAssociation:
    """Return an association that nobody has asked for yet."""
    assoc = NodeAssociation(server.ae, MODE_ACCEPTOR, server.limits, server.spill, server.prototype)
    assoc._server = server
    assoc.on_end = server.association_ended
    assoc.see_off = server.see_off
    # What its thread logs is known by it.
    assoc.name = f"{THREAD_NAME}{assoc.code}"
    return assoc
