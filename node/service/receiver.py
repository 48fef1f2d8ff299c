"""A receiver: listens, and answers each instance when it is safe, or when the relay has it.

`Receiver` is what a receiver process runs, and what `Node` runs in the program's own process.
"""

from __future__ import annotations

import socket
import time
from dataclasses import replace

from node.delivery.relay import Relay
from node.network.limits import Limits
from node.network.server import Server
from node.network.store_scp import Receive, StoreSCP
from node.network.tally import OTHER, Tally
from node.pixels.policy import Options
from node.service.bell import Bell
from node.service.destinations import codec_workers, peer_of, queued_destinations
from node.service.pipeline import Pipeline, has_room
from node.service.relaying import RelayPipeline
from node.settings import CompressionSettings, LimitSettings, Settings
from node.spool import Spool

#: How often a receiver that leaves looks whether somebody is at the door, in seconds.
_LOOK_EVERY = 0.02


class Receiver:
    """The receiving half of a node."""

    def __init__(self, settings: Settings, spool: Spool, bell: Bell) -> None:
        self._settings = settings
        self._spool = spool
        self._relay: Relay | None = None
        self._workers = codec_workers(settings)
        options = replace(options_of(settings.compression), run=self._workers)
        pipeline = Pipeline(spool, settings.spool, options, settings.node.ae_title, bell)
        receive: Receive = pipeline.receive
        if settings.relay is not None:
            peer = peer_of(settings, settings.relay)
            self._relay = Relay(settings.relay.name, peer, self._workers)
            keep = bool(queued_destinations(settings))
            receive = RelayPipeline(pipeline, spool, self._relay, keep=keep).receive
        self._scp = StoreSCP(settings.node.ae_title, receive, self)
        self._server: Server | None = None

    def admits(self, calling_ae_title: str, address: str) -> bool:
        """Tell whether this peer may send."""
        return self._settings.admits(calling_ae_title, address)

    def peer_name(self, calling_ae_title: str) -> str:
        """Return the AE title where it is in the list of peers."""
        return self._settings.peer_name(calling_ae_title) or OTHER

    def has_room(self) -> bool:
        """Tell whether there is disk space for more."""
        return has_room(self._spool, self._settings.spool)

    def start(self, listening: socket.socket | None = None) -> tuple[str, int]:
        """Listen, on an inherited socket where there is one; return the address."""
        self._server = self._scp.listen(
            listening or (self._settings.node.host, self._settings.node.port),
            limits=limits_of(self._settings.limits),
            spill=self._spool.incoming_folder,
        )
        return self._server.address

    @property
    def tally(self) -> Tally:
        """What was received since the start."""
        return self._scp.ledger.tally

    @property
    def associations(self) -> int:
        """How many associations run."""
        return self._server.active if self._server else 0

    @property
    def at_work(self) -> int:
        """How many instances are being received, encoded or stored now."""
        return self._scp.ledger.at_work

    @property
    def turned_away(self) -> dict[str, int]:
        """How many connections never became an association, by reason."""
        return dict(self._server.turned_away) if self._server else {}

    def tick(self) -> None:
        """Do what has to be done about once a second."""
        if self._relay is not None:
            self._relay.close_idle()

    def stop(self, seconds: float, *, quietly: bool = False) -> None:
        """Reject new associations, let those that run end within `seconds`, then abort them.

        `quietly` leaves new ones to other processes on the same socket instead. Connections that
        were accepted before may still ask for an association.
        """
        if self._server is not None:
            if quietly:
                seconds -= self._leave_the_door(self._server, seconds)
            self._server.drain(max(0.0, seconds))
            self._server.shutdown()
            self._server.server_close()
        if self._relay is not None:
            self._relay.close()
        self._workers.close()

    @staticmethod
    def _leave_the_door(server: Server, seconds: float) -> float:
        """Accept no more, wait until nobody is at the door; return the seconds it took."""
        start = time.monotonic()
        server.close()
        while server.waiting and time.monotonic() - start < seconds:
            time.sleep(_LOOK_EVERY)
        return time.monotonic() - start


def options_of(settings: CompressionSettings) -> Options:
    """Return the settings as the pixels room takes them."""
    return Options(
        transfer_syntax_uid=settings.transfer_syntax_uid or "",
        encoder=settings.encoder,
        verify=settings.verify,
        beyond_table=settings.beyond_table,
        threads=settings.threads,
    )


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
