"""A receiver: listens, and answers each instance when it is safe, or when the relay has it.

`Receiver` is what a receiver process runs, and what `Node` runs in the program's own process.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable

from node.delivery.progress import Progress
from node.delivery.relay import Relay
from node.events import Witness, nobody
from node.model import Received, Stored
from node.network.census import Census
from node.network.data_set import ReceivedData
from node.network.limits import Limits
from node.network.server import Server
from node.network.store_scp import Answer, Receive, StoreSCP
from node.network.tally import OTHER, Tally
from node.network.tls import server_context
from node.service.bell import Bell
from node.service.destinations import (
    codec_workers,
    driven_destinations,
    falls_back,
    queued_destinations,
    relay_of,
)
from node.service.doors import Doors, tls_of, users_of
from node.service.encoding import options_of
from node.service.pipeline import Ending, Pipeline, Spooling
from node.service.relaying import Relaying
from node.service.room import Hindrance, Room
from node.settings import LimitSettings, Settings
from node.spool import Spool


class Receiver:
    """The receiving half of a node."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        bell: Bell,
        witness: Witness = nobody,
        stored: Callable[[Stored], object] | None = None,
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._relay: Relay | None = None
        self._workers = codec_workers(settings)
        options = options_of(settings.compression)._replace(run=self._workers)
        self._room = Room(spool, settings.spool)
        ending: Ending = Spooling(spool, bell)
        if settings.relay is not None:
            self._relay = relay_of(settings, settings.relay, self._workers, witness)
            beside = [destination.name for destination in queued_destinations(settings)]
            for destination in driven_destinations(settings):
                spool.add_destination(destination.name)
            ending = Relaying(spool, bell, self._relay, beside, falls_back=falls_back(settings))
        pipeline = Pipeline(spool, self._room, options, settings.node.ae_title, ending)
        narrow = self._relay.narrowed if self._relay is not None else None
        receive: Receive = pipeline.receive
        if stored is not None:
            receive = _telling(stored, receive)
        users = users_of(settings.identity)
        self._scp = StoreSCP(settings.node.ae_title, receive, self, witness, users, narrow)
        self._census = Census(limits_of(settings.limits))
        self._servers: list[Server] = []

    def admits(
        self, calling_ae_title: str, address: str, certificate_names: frozenset[str]
    ) -> bool:
        """Tell whether this peer may send."""
        return self._settings.admits(calling_ae_title, address, certificate_names)

    def places_of(self, calling_ae_title: str) -> list[str]:
        """Return from where one who calls itself so may send."""
        return self._settings.places_of(calling_ae_title)

    def needs_certificate(self, calling_ae_title: str) -> bool:
        """Tell whether one who calls itself so is known by a certificate."""
        return self._settings.needs_certificate(calling_ae_title)

    def peer_name(self, calling_ae_title: str) -> str:
        """Return the AE title where it is in the list of peers."""
        return self._settings.peer_name(calling_ae_title) or OTHER

    def hindrance(self) -> Hindrance | None:
        """Return why nothing can be stored now, or None."""
        return self._room.hindrance()

    def has_room(self) -> bool:
        """Tell whether there is disk space for more."""
        return self._room.is_enough()

    @property
    def disk_failure(self) -> str:
        """What is wrong with the spool's disk, if anything."""
        return self._spool.trust.failure()

    def start(self, doors: Doors) -> None:
        """Listen; raises `BadConfiguration` where a file that TLS needs cannot be used."""
        places = doors.places if doors.places >= 0 else None
        self._census = Census(limits_of(self._settings.limits), places)
        if doors.secured is not None:
            self._listen(doors.secured, server_context(tls_of(self._settings.tls)))
        if doors.plain is not None:
            self._listen(doors.plain, None)

    def _listen(self, listening: socket.socket, context: ssl.SSLContext | None) -> None:
        self._servers.append(
            self._scp.listen(
                listening,
                limits=limits_of(self._settings.limits),
                spill=self._spool.incoming_folder,
                ssl_context=context,
                census=self._census,
            )
        )

    @property
    def tally(self) -> Tally:
        """What was received since the start."""
        return self._scp.ledger.tally

    @property
    def progress(self) -> dict[str, Progress]:
        """What was relayed since the start, if there is a relay."""
        return {self._relay.name: self._relay.progress} if self._relay is not None else {}

    @property
    def associations(self) -> int:
        """How many associations run."""
        return sum(server.active for server in self._servers)

    @property
    def at_work(self) -> int:
        """How many instances are being received, encoded or stored now."""
        return self._scp.ledger.at_work

    @property
    def turned_away(self) -> dict[str, int]:
        """How many connections never became an association, by reason."""
        return dict(sum((server.turned_away for server in self._servers), Counter()))

    def tick(self) -> None:
        """Do what has to be done about once a second; raises where nobody can get in any more."""
        if not all(server.is_serving for server in self._servers):
            raise RuntimeError("a door has fallen shut")
        if self._relay is not None:
            self._relay.close_idle()

    def leave(self) -> None:
        """Leave new connections to other processes on the same sockets.

        Those that were accepted before may still ask for an association.
        """
        self._census.leave()
        for server in self._servers:
            server.close()

    @property
    def is_idle(self) -> bool:
        """Tell whether nobody has an association here, or is at a door."""
        # Whoever comes or goes in between is seen before or after.
        return not any(
            server.waiting or server.active or server.waiting for server in self._servers
        )

    def stop(self, seconds: float) -> None:
        """Reject new associations, let those that run end within `seconds`, then abort them."""
        end = time.monotonic() + seconds
        self._census.leave()
        for server in self._servers:
            server.reject()
        for server in self._servers:
            server.drain(max(0.0, end - time.monotonic()))
            server.shutdown()
            server.server_close()
        self._census.close()
        if self._relay is not None:
            self._relay.close()
        self._spool.close()
        self._workers.close()


def _telling(stored: Callable[[Stored], object], receive: Receive) -> Receive:
    def received(instance: Received, data: ReceivedData) -> Answer:
        answer = receive(instance, data)
        if answer.taken is not None:
            stored(answer.taken)
        return answer

    return received


def limits_of(settings: LimitSettings) -> Limits:
    """Return the settings as the network room takes them."""
    return Limits(
        associations=settings.associations,
        associations_per_peer=settings.associations_per_peer,
        idle_seconds=settings.idle_seconds,
        artim_seconds=settings.artim_seconds,
        pdu_seconds=settings.pdu_seconds,
        instance_bytes=settings.instance_bytes,
        max_pdu=settings.max_pdu_bytes,
        memory_bytes=settings.memory_bytes,
    )
