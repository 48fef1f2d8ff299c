"""The ledger of a storage SCP: what its associations did, counted, remembered, and logged.

One line is logged for each association, none for each instance. Safe to share between the
threads of the associations. Nothing is raised.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from node.model import Compressed, Origin, Stored
from node.network.tally import AssociationRecord, Tally, Timing, Volume, volume_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an association is rejected: the A-ASSOCIATE-RJ, a few words, and what to do about it."""

    code: tuple[int, int, int]
    reason: str
    mend: str


@dataclass(slots=True)
class _Running:
    """An association that runs, and what it has sent."""

    since: float
    volume: Volume = field(default_factory=Volume)
    refused: int = 0
    compressed: int = 0
    sop_classes: set[str] = field(default_factory=set)

    def count(self, taken: Stored | None) -> None:
        """Add one instance that was answered; None stands for one that was not taken."""
        if taken is None:
            self.refused += 1
            return
        self.volume.add(volume_of(taken))
        self.compressed += isinstance(taken, Compressed)
        self.sop_classes.add(taken.received.sop_class_uid)


class Ledger:
    """Everything since the start, and what each running association has sent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = Tally()
        self._running: dict[Any, _Running] = {}
        self._at_work = 0

    @property
    def tally(self) -> Tally:
        """What was received since the start; a copy."""
        with self._lock:
            return self._total.copy()

    @property
    def at_work(self) -> int:
        """How many instances are being received, encoded or stored now."""
        return self._at_work

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """One more instance is at work in this context."""
        with self._lock:
            self._at_work += 1
        try:
            yield
        finally:
            with self._lock:
                self._at_work -= 1

    def begin(self, assoc: Any) -> None:
        """An association was established."""
        with self._lock:
            self._total.associations += 1
            self._running[assoc] = _Running(time.monotonic())

    def count(
        self, assoc: Any, taken: Stored | None, peer: str, timing: Timing | None = None
    ) -> None:
        """Add one instance that was answered; None stands for one that was not taken."""
        with self._lock:
            self._total.count(taken, peer, timing)
            if assoc in self._running:
                self._running[assoc].count(taken)

    def reject(self, assoc: Any, refusal: Refusal) -> None:
        """An association was rejected."""
        log.warning("%s rejected: %s; %s", name_of(assoc), refusal.reason, refusal.mend)
        self._remember(assoc, result="rejected", reason=refusal.reason, mend=refusal.mend)

    def end(self, assoc: Any) -> None:
        """A connection was closed: log and remember its association, if there was one."""
        with self._lock:
            running = self._running.pop(assoc, None)
        if running is None:
            return
        seconds = max(time.monotonic() - running.since, 1e-6)
        volume = running.volume
        log.info(
            "%s sent %d instances, %d refused, %d compressed, %.1f MB -> %.1f MB, %.1f MB/s",
            name_of(assoc),
            volume.instances,
            running.refused,
            running.compressed,
            volume.bytes_in / 1e6,
            volume.bytes_out / 1e6,
            volume.bytes_in / 1e6 / seconds,
        )
        self._remember(
            assoc,
            result="released" if assoc.is_released else "aborted",
            seconds=seconds,
            instances=volume.instances,
            refused=running.refused,
            sop_classes=len(running.sop_classes),
            bytes_in=volume.bytes_in,
            bytes_out=volume.bytes_out,
        )

    def _remember(self, assoc: Any, **facts: Any) -> None:
        origin = origin_of(assoc)
        record = AssociationRecord(
            at=time.time(),
            calling_ae_title=origin.calling_ae_title,
            called_ae_title=origin.called_ae_title,
            address=origin.address,
            implementation=assoc.requestor.implementation_version_name or "",
            **facts,
        )
        with self._lock:
            self._total.remember(record)


def name_of(assoc: Any) -> str:
    """Return who is at the other end, as every log line of an association begins."""
    origin = origin_of(assoc)
    return f"{origin.calling_ae_title}@{origin.address}"


def origin_of(assoc: Any) -> Origin:
    """Return whose association this is."""
    return Origin(
        calling_ae_title=assoc.requestor.primitive.calling_ae_title.strip(),
        called_ae_title=assoc.requestor.primitive.called_ae_title.strip(),
        address=assoc.requestor.address,
    )
