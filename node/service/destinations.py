"""Settings of destinations -> the destinations that the deliverer drives."""

from __future__ import annotations

import os

from node.delivery.archive import Archive
from node.delivery.attempt import Destination
from node.delivery.calls import Calls
from node.delivery.forward import Forward, Manner
from node.delivery.refusals import Refusals
from node.delivery.relay import Relay
from node.delivery.schedule import Backoff
from node.errors import CannotWrite
from node.events import Witness, nobody
from node.network.store_scu import Peer
from node.pixels.policy import Run
from node.pixels.workers import CodecWorkers, WorkerLimits
from node.service.doors import tls_to
from node.service.encoding import codec_of
from node.settings import DestinationSettings, DiskDestination, NetworkDestination, Settings
from node.spool import Disk, Spool


def peer_of(settings: Settings, destination: NetworkDestination) -> Peer:
    """Return whom to call for a network destination."""
    return Peer(
        ae_title=destination.ae_title,
        host=destination.host,
        port=destination.port,
        calling_ae_title=settings.calling_ae_title(destination),
        connect_seconds=destination.connect_seconds,
        response_seconds=destination.response_seconds,
        tls=tls_to(settings.tls, destination) if destination.tls else None,
    )


def queued_destinations(settings: Settings) -> list[DiskDestination | NetworkDestination]:
    """Return the destinations that everything received is queued for: all but a relay."""
    return [destination for destination in settings.destinations if destination != settings.relay]


def driven_destinations(settings: Settings) -> list[DiskDestination | NetworkDestination]:
    """Return the destinations that have a queue: a relay has one to fall back on."""
    return [
        destination
        for destination in settings.destinations
        if destination != settings.relay or falls_back(settings)
    ]


def falls_back(settings: Settings) -> bool:
    """Tell whether what the relay cannot pass on is spooled."""
    return settings.relay is not None and settings.relay.fallback == "spool"


def require_writable(settings: Settings, disk: Disk) -> None:
    """Make the folders of disk destinations; raises `CannotWrite` where one cannot be used."""
    for destination in settings.destinations:
        if isinstance(destination, DiskDestination):
            folder = destination.directory
            try:
                disk.make_folder(folder)
            except OSError as failure:
                raise CannotWrite(_advice(destination, failure.strerror or "")) from failure
            if not os.access(folder, os.W_OK | os.X_OK):
                raise CannotWrite(_advice(destination, "not writable"))


def _advice(destination: DiskDestination, why: str) -> str:
    return (
        f"destination {destination.name}: cannot write to {destination.directory}: {why}; "
        "choose another folder, or let it belong to the user that runs dcmpress"
    )


def codec_workers(settings: Settings) -> CodecWorkers:
    """Return the processes in which codecs of others run; none is started before it is needed."""
    limits = settings.limits
    return CodecWorkers(
        WorkerLimits(
            memory_bytes=limits.codec_memory_bytes,
            seconds=limits.codec_seconds,
        )
    )


def lanes(
    settings: Settings,
    destination: DiskDestination | NetworkDestination,
    spool: Spool,
    run: Run,
    calls: Calls,
    witness: Witness = nobody,
) -> list[Destination]:
    """Return what brings instances to `destination`: as many as may do so at the same time.

    `run` says where codecs of others run; `calls` counts the associations.
    """
    if isinstance(destination, DiskDestination):
        folder = destination.directory
        return [Archive(destination.name, folder, spool.disk, run, spool.is_shared)]
    peer = peer_of(settings, destination)
    manner, refusals = manner_of(settings, destination, run), Refusals()
    return [
        Forward(
            destination.name,
            peer,
            manner=manner,
            refusals=refusals,
            run=run,
            witness=witness,
            calls=calls,
        )
        for _ in range(destination.associations)
    ]


def relay_of(
    settings: Settings, destination: NetworkDestination, run: Run, witness: Witness = nobody
) -> Relay:
    """Return what calls the relay while modalities wait."""
    manner = manner_of(settings, destination, run)
    encoded_in = [settings.compression.transfer_syntax_uid, destination.transfer_syntax_uid]
    return Relay(
        destination.name,
        peer_of(settings, destination),
        backoff_of(destination),
        manner=manner,
        encoded_in=[] if manner.native_only else [uid for uid in encoded_in if uid],
        is_patient=falls_back(settings),
        run=run,
        witness=witness,
    )


def backoff_of(destination: DestinationSettings) -> Backoff:
    """Return when a destination that failed is tried again."""
    return Backoff(destination.retry_seconds, destination.retry_max_seconds)


def manner_of(settings: Settings, destination: NetworkDestination, run: Run) -> Manner:
    """Return in which transfer syntax a destination is sent what."""
    codec = codec_of(settings, destination)
    return Manner(
        native_only=destination.transfer_syntax == "native",
        codec=codec._replace(run=run) if codec is not None else None,
    )
