"""The transport connection of an association, as the state table's actions call it.

Takes the place of pynetdicom's `AssociationSocket`: it opens the connection, sends PDUs, and says
by events what came of it. How it waits is `Line`'s.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Final

from pynetdicom import evt
from pynetdicom.transport import T_CONNECT, AddressInformation, AssociationSocket

from node.network.alertness import Alertness
from node.network.indications import ALREADY
from node.network.limits import KIB
from node.network.line import Line

if TYPE_CHECKING:
    from node.network.association import NodeAssociation

#: So much waits in the kernel to be sent, beyond what is on its way. A fast sender fills megabytes
#: otherwise, and a peer that reads them out of memory, not out of its caches, takes a fifth longer.
#: What is on its way, over whatever distance, is not limited by this.
_UNSENT_BYTES: Final = 64 * KIB


class Connection(Line, AssociationSocket):
    """A connected, or for a requestor not yet connected, socket.

    One that is connected blocks, and sends without delay (TCP_NODELAY).
    """

    # pynetdicom's initialiser creates and binds sockets of its own: not called.
    def __init__(
        self,
        assoc: NodeAssociation,
        connected: socket.socket | None = None,
        tls: tuple[ssl.SSLContext, str] | None = None,
        local_address: tuple[str, int] | None = None,
        alertness: Alertness | None = None,
    ) -> None:
        Line.__init__(self, connected, alertness)
        self._assoc: NodeAssociation = assoc
        self._is_connected = connected is not None
        self._tls_args = tls
        self._local_address = local_address

    def connect(self, primitive: T_CONNECT) -> None:
        """Open the transport connection (AE-1); what came of it is put before the provider."""
        address = primitive.address_info.as_tuple
        try:
            sock = socket.create_connection(
                address[:2],
                timeout=self.assoc.connection_timeout,
                source_address=self._local_address,
            )
            self._adopt(sock)
        except OSError as error:
            self.failure = error
            self._shutdown_socket()
            primitive.result = "Evt17"
        else:
            evt.trigger(self.assoc, evt.EVT_CONN_OPEN, {"address": address})
            primitive.result = "Evt2"
        self.provider_queue.put(primitive)

    #: `connect` has come to its end when it returns: nobody has to wait for that.
    _ready = ALREADY

    #: Why `connect` did not succeed.
    failure: OSError | None = None

    def _adopt(self, sock: socket.socket) -> None:
        self.socket = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):  # not every sandbox knows it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self.assoc.requestor.address_info = AddressInformation.from_tuple(sock.getsockname()[:2])
        if self._tls_args is not None:
            context, server_name = self._tls_args
            self.secure(context, self.assoc.connection_timeout, server_name)
        self.socket.settimeout(None)
        self._is_connected = True

    def send(self, bytestream: bytes) -> None:
        """Send a whole PDU (the state table's actions); a broken line becomes Evt17."""
        try:
            self.send_all(memoryview(bytestream), self._assoc._network_timeout)
        except OSError:
            self.event_queue.put("Evt17")
            return
        if self._assoc.watched.data_sent:
            evt.trigger(self.assoc, evt.EVT_DATA_SENT, {"data": bytestream})

    def _shutdown_socket(self) -> None:
        """Close, as the state table's actions call it."""
        self._is_connected = False
        self.close()
