"""The observer of a node: puts together what the processes reported and what the spool holds.

`note` is called by the supervisor's loop and only adds to the history; everything that costs is
done by whoever asks for a `snapshot`, in a thread of its own.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping

import node
from node.delivery.circuit import Circuit
from node.delivery.progress import Progress
from node.dicom.uids import name_of
from node.network.tally import Source, Volume
from node.reasons import KeepReason
from node.service import exposure, queues
from node.service.destinations import driven_destinations
from node.service.echoes import Echoes
from node.service.history import History, Totals
from node.service.queue_counts import QueueCounts
from node.service.queues import Listed
from node.service.report import Report
from node.service.room import reserve_of
from node.service.status import DestinationStatus, DiskStatus, ModalityStatus, Snapshot
from node.service.verdict import Level, problems, verdict
from node.settings import DiskDestination, NetworkDestination, Settings
from node.spool import Spool, State

#: The history takes a point so often, in seconds.
_NOTE_EVERY = 1.0
#: The rates of a snapshot are means over so many seconds.
_RATE_SECONDS = 5
#: Free space is looked at every so often, in seconds, and compared with that of an hour ago;
_LOOK_AT_DISK_EVERY = 10.0
_LOOKS = 360
#: less than this is a burst, and no forecast.
_LEAST_SECONDS = 900.0
#: Who was turned away in the last ten minutes is still at it.
_LATELY_SECONDS = 600.0


class Observer:
    """Watches one spool and the processes that work on it."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._started = time.monotonic()
        self._noted = 0.0
        self._free: deque[tuple[float, int]] = deque(maxlen=_LOOKS)
        self.counts = QueueCounts(spool)
        self.echoes = Echoes()
        self.history = History()

    def note(self, now: float, report: Callable[[], Report]) -> None:
        """Take what `report` says into the history, once a second; called more often."""
        if now - self._noted >= _NOTE_EVERY:
            self._noted = now
            tally = report().tally
            self.history.note(now, Totals(tally.bytes_in, tally.bytes_out, tally.instances))

    def snapshot(
        self, settings: Settings, address: tuple[str, int], report: Report, *, is_ready: bool
    ) -> Snapshot:
        """Return what is known now."""
        tally, now = report.tally, time.time()
        destinations = tuple(
            self._destination(each, settings, report.destinations.get(each.name, Progress()), now)
            for each in settings.destinations
        )
        disk = self._disk(settings)
        room = report.has_room and self._spool.is_mounted()
        rate = self.history.mean(_RATE_SECONDS)
        expiries = exposure.expiries(settings)
        found = problems(
            destinations,
            is_ready=is_ready,
            has_room=room,
            disk_failure=report.disk_failure,
            verify_failures=tally.kept.get(KeepReason.VERIFY_FAILED.value, 0),
            encoder_failures=tally.kept.get(KeepReason.ENCODER_FAILED.value, 0),
            full_in_seconds=disk.full_in_seconds,
            rejected_lately=sum(now - each.at < _LATELY_SECONDS for each in tally.rejected),
        )
        uid = settings.compression.transfer_syntax_uid
        return Snapshot(
            version=node.__version__,
            ae_title=settings.node.ae_title,
            address=f"{address[0]}:{address[1]}",
            uptime_seconds=time.monotonic() - self._started,
            transfer_syntax=name_of(uid) if uid else "",
            open_to_everyone=settings.node.any_peer and not settings.node.loopback_only,
            verdict=verdict(found),
            level=found[0].level if found else Level.GOOD,
            problems=found,
            is_ready=is_ready and room and not report.disk_failure,
            associations=report.active_associations,
            at_work=report.at_work,
            associations_total=tally.associations,
            results_total=dict(tally.results),
            rejected_total=sum(tally.rejections.values()),
            rejections_total=dict(tally.rejections),
            turned_away_total=dict(report.turned_away),
            instances_total=tally.instances,
            refused_total=tally.refused,
            compressed_total=tally.compressed,
            bytes_in_total=tally.bytes_in,
            bytes_out_total=tally.bytes_out,
            kept_total=dict(tally.kept),
            sources=dict(tally.sources),
            modalities=by_modality(tally.sources),
            encode=tally.encode,
            store=tally.store,
            bytes_in_per_second=rate.bytes_in,
            bytes_out_per_second=rate.bytes_out,
            instances_per_second=rate.instances,
            last_associations=tuple(reversed(tally.finished)),
            last_rejected=tuple(reversed(tally.rejected)),
            waiting=self.counts.waiting(),
            free_bytes=disk.free_bytes,
            disk=disk,
            destinations=destinations,
            notices=exposure.notices(settings, expiries, exposure.now()),
            certificates={name: expiry.timestamp() for name, expiry in expiries.items()},
        )

    def unwanted(self, destination: str) -> Iterator[Listed]:
        """Yield what that destination refused for good, and what was damaged, oldest first."""
        return queues.listing(self._spool, destination, (State.FAILED, State.CORRUPT))

    def _destination(
        self,
        destination: DiskDestination | NetworkDestination,
        settings: Settings,
        progress: Progress,
        now: float,
    ) -> DestinationStatus:
        count = self.counts.of(destination.name)
        # Where nothing waits nobody tries it, and nobody misses it.
        is_tried = progress.circuit is Circuit.HALF_OPEN and count.queued > 0
        is_down = progress.circuit is Circuit.OPEN or is_tried
        state = "paused" if count.paused else "down" if is_down else "up"
        return DestinationStatus(
            name=destination.name,
            kind=_kind(destination),
            where=_where(destination),
            state=state,
            has_queue=destination in driven_destinations(settings),
            queued=count.queued,
            queued_bytes=count.queued_bytes,
            oldest_seconds=max(0.0, now - count.oldest_at) if count.oldest_at else 0.0,
            failed=count.failed,
            corrupt=count.corrupt,
            waiting_again=count.waiting_again,
            waiting_cause=count.waiting_cause,
            delivered=progress.delivered,
            delivered_bytes=progress.delivered_bytes,
            attempts=dict(progress.attempts),
            associations=progress.associations,
            associations_ended=dict(progress.associations_ended),
            spooled=progress.spooled,
            last_error=progress.last_error,
            failures_in_a_row=progress.failures_in_a_row,
            retry_in_seconds=progress.waiting_for_seconds,
            echo=self.echoes.last(destination.name),
        )

    def _disk(self, settings: Settings) -> DiskStatus:
        try:
            disk = os.statvfs(self._spool.root)
        except OSError:
            # The disk is gone: that is when the page is looked at.
            return DiskStatus(total_bytes=0, free_bytes=0, reserve_bytes=0, full_in_seconds=None)
        total, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
        now = time.monotonic()
        if not self._free or now - self._free[-1][0] >= _LOOK_AT_DISK_EVERY:
            self._free.append((now, free))
        reserve = round(reserve_of(disk, settings.spool))
        since, then = self._free[0]
        lost = then - free
        filling = lost > 0 and now - since >= _LEAST_SECONDS
        return DiskStatus(
            total_bytes=total,
            free_bytes=free,
            reserve_bytes=reserve,
            full_in_seconds=max(0, free - reserve) * (now - since) / lost if filling else None,
        )


def _kind(destination: DiskDestination | NetworkDestination) -> str:
    return "folder" if isinstance(destination, DiskDestination) else destination.mode


def _where(destination: DiskDestination | NetworkDestination) -> str:
    """Return an address, or that it is a folder: no path leaves this machine (see `Archive`)."""
    if isinstance(destination, DiskDestination):
        return "folder"
    return str(destination.address)


def by_modality(sources: Mapping[str, Volume]) -> tuple[ModalityStatus, ...]:
    """Return what became of each modality, the one with most bytes first."""
    whole: dict[str, Volume] = {}
    compressed: dict[str, int] = {}
    for text, volume in sources.items():
        source = Source.parse(text)
        whole.setdefault(source.modality, Volume()).add(volume)
        if source.stored_syntax != source.received_syntax:
            done = compressed.get(source.modality, 0)
            compressed[source.modality] = done + volume.instances
    found = [
        ModalityStatus(
            modality=modality,
            instances=volume.instances,
            compressed=compressed.get(modality, 0),
            bytes_in=volume.bytes_in,
            bytes_out=volume.bytes_out,
            ratio=volume.ratio,
        )
        for modality, volume in whole.items()
    ]
    return tuple(sorted(found, key=lambda each: -each.bytes_in))
