"""What a node is doing, as one value: the status page, the metrics and the API are views of it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from node.delivery.progress import Progress
from node.service import exposure
from node.service.report import Report
from node.settings import DiskDestination, NetworkDestination, Settings
from node.spool import Spool, State, received_at


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationStatus:
    """One destination: where it is, what waits for it, what it was last heard saying."""

    name: str
    where: str
    queued: int
    oldest_seconds: float
    failed: int
    delivered: int
    last_error: str
    retry_in_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One moment of a node. Byte counts are of data sets; times are in seconds.

    `notices` are what a security office would object to; `certificates` are by name the times at
    which ours expire, in seconds since 1970.
    """

    ae_title: str
    address: str
    verdict: str
    is_ready: bool
    associations: int
    associations_total: int
    rejected_total: int
    instances_total: int
    refused_total: int
    compressed_total: int
    bytes_in_total: int
    bytes_out_total: int
    kept_total: dict[str, int]
    waiting: int
    free_bytes: int
    destinations: tuple[DestinationStatus, ...]
    notices: tuple[str, ...] = ()
    certificates: dict[str, float] = field(default_factory=dict)


def snapshot(
    settings: Settings, address: tuple[str, int], spool: Spool, report: Report, *, ready: bool
) -> Snapshot:
    """Return what is known now: what the processes reported, and what the spool holds."""
    destinations = tuple(
        _destination(destination, spool, report.destinations.get(destination.name, Progress()))
        for destination in settings.destinations
    )
    expiries = exposure.expiries(settings)
    room = report.has_room and spool.is_mounted()
    tally = report.tally
    disk = os.statvfs(spool.root)
    return Snapshot(
        ae_title=settings.node.ae_title,
        address=f"{address[0]}:{address[1]}",
        verdict=_verdict(destinations, room=room, ready=ready),
        is_ready=ready and room,
        associations=report.active_associations,
        associations_total=tally.associations,
        rejected_total=sum(tally.rejections.values()),
        instances_total=tally.instances,
        refused_total=tally.refused,
        compressed_total=tally.compressed,
        bytes_in_total=tally.bytes_in,
        bytes_out_total=tally.bytes_out,
        kept_total=dict(tally.kept),
        waiting=spool.count(State.RECEIVED).entries,
        free_bytes=disk.f_bavail * disk.f_frsize,
        destinations=destinations,
        notices=exposure.notices(settings, expiries, exposure.now()),
        certificates={name: expiry.timestamp() for name, expiry in expiries.items()},
    )


def _destination(
    destination: DiskDestination | NetworkDestination, spool: Spool, progress: Progress
) -> DestinationStatus:
    queued = spool.count(State.QUEUED, destination.name)
    return DestinationStatus(
        name=destination.name,
        where=str(
            destination.directory
            if isinstance(destination, DiskDestination)
            else destination.address
        ),
        queued=queued.entries,
        oldest_seconds=_age(queued.oldest),
        failed=spool.count(State.FAILED, destination.name).entries,
        delivered=progress.delivered,
        last_error=progress.last_error,
        retry_in_seconds=progress.waiting_for_seconds,
    )


def _age(name: str) -> float:
    return max(0.0, time.time() - received_at(name)) if name else 0.0


def _verdict(destinations: tuple[DestinationStatus, ...], *, room: bool, ready: bool) -> str:
    """Return the one line that an administrator reads first."""
    if not ready:
        return "starting"
    if not room:
        return "refusing instances: free disk space is below the reserve"
    down = [item.name for item in destinations if item.retry_in_seconds]
    if down:
        return f"destination {', '.join(down)} is not answering; instances are safe and wait"
    failed = sum(item.failed for item in destinations)
    if failed:
        return f"{failed} instances were refused by a destination and wait for a decision"
    return "all good"
