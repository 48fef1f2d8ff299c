"""The ledger of a storage SCP: what its associations did, counted, remembered, and logged.

One line is logged for each association, none for each instance. Safe to share between the
threads of the associations. Nothing is raised.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from node.events import (
    AssociationOpened,
    AssociationRefused,
    AuthenticationFailed,
    InstancesReceived,
    Studies,
    Witness,
    nobody,
)
from node.model import Compressed, Origin, Stored
from node.network.tally import AssociationRecord, Tally, Timing, Volume, volume_of
from node.network.told import Repeats, StudyCount
from node.words import many, size

log = logging.getLogger(__name__)

#: The attribute of a log record that holds what it says, by name, for logs that programs read.
FACTS = "facts"


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
    echoes: int = 0
    compressed: int = 0
    sop_classes: set[str] = field(default_factory=set)
    studies: StudyCount = field(default_factory=StudyCount)

    def count(self, taken: Stored | None) -> Studies:
        """Add one instance that was answered; None stands for one that was not taken.

        Returns studies that are to be told now.
        """
        if taken is None:
            self.refused += 1
            return {}
        self.volume.add(volume_of(taken))
        self.compressed += isinstance(taken, Compressed)
        self.sop_classes.add(taken.received.sop_class_uid)
        return self.studies.add(taken.received.study_instance_uid, taken.received.sop_class_uid)


class Ledger:
    """Everything since the start, and what each running association has sent."""

    def __init__(self, peer_name: Callable[[str], str], witness: Witness = nobody) -> None:
        """`peer_name` tells as whom a calling AE title is counted: one of a few names."""
        self._peer_name = peer_name
        self._witness = witness
        self._repeats = Repeats()
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
        self._witness(AssociationOpened(**_who(assoc)))

    def count(self, assoc: Any, taken: Stored | None, timing: Timing | None = None) -> None:
        """Add one instance that was answered; None stands for one that was not taken."""
        peer = self._peer_name(assoc.calling_ae_title)
        with self._lock:
            self._total.count(taken, peer, timing)
            running = self._running.get(assoc)
            studies = running.count(taken) if running is not None else {}
        if studies:
            self._witness(InstancesReceived(**_who(assoc), studies=studies, refused=0))

    def echo(self, assoc: Any) -> None:
        """A C-ECHO was answered."""
        with self._lock:
            if (running := self._running.get(assoc)) is not None:
                running.echoes += 1

    def reject(self, assoc: Any, refusal: Refusal) -> None:
        """An association was rejected."""
        who, cause = _who(assoc), f"{refusal.reason}; {refusal.mend}"
        with self._lock:
            key = (who["ae_title"], who["address"], refusal.code)
            times = self._repeats.times(key, time.monotonic())
        if times:
            log.warning("%s rejected: %s%s", name_of(assoc), cause, _again(times))
            self._witness(AssociationRefused(**who, code=refusal.code, cause=cause, times=times))
        self._remember(assoc, result="rejected", reason=refusal.reason, mend=refusal.mend)

    def not_authenticated(self, assoc: Any) -> None:
        """A TLS handshake failed: who called is not known, but from where."""
        address, cause = assoc.peer_address, assoc.tls_failure
        with self._lock:
            times = self._repeats.times(("TLS", address), time.monotonic())
        if times:
            log.warning("TLS handshake with %s failed: %s%s", address, cause, _again(times))
            self._witness(
                AuthenticationFailed(
                    user="", ae_title="", address=address, cause=f"TLS: {cause}", times=times
                )
            )

    def end(self, assoc: Any) -> None:
        """A connection was closed: log and remember its association, if there was one."""
        with self._lock:
            running = self._running.pop(assoc, None)
        if running is None:
            return
        if (studies := running.studies.take()) or running.refused:
            self._witness(
                InstancesReceived(**_who(assoc), studies=studies, refused=running.refused)
            )
        seconds = max(time.monotonic() - running.since, 1e-6)
        volume = running.volume
        _log_association(assoc, running, seconds)
        self._remember(
            assoc,
            result="released" if assoc.is_released else "aborted",
            seconds=seconds,
            instances=volume.instances,
            refused=running.refused,
            echoes=running.echoes,
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
            self._total.remember(record, self._peer_name(record.calling_ae_title))


def _again(times: int) -> str:
    return f" ({times} times in a minute)" if times > 1 else ""


def _log_association(assoc: Any, running: _Running, seconds: float) -> None:
    volume = running.volume
    ratio = volume.bytes_in / volume.bytes_out if volume.bytes_out else 1.0
    speed = volume.bytes_in / 1e6 / seconds
    facts = {
        "calling_ae_title": assoc.calling_ae_title,
        "address": assoc.peer_address,
        "instances": volume.instances,
        "refused": running.refused,
        "echoes": running.echoes,
        "compressed": running.compressed,
        "bytes_in": volume.bytes_in,
        "bytes_out": volume.bytes_out,
        "ratio": round(ratio, 3),
        "seconds": round(seconds, 3),
        "megabytes_per_second": round(speed, 1),
        "end": "released" if assoc.is_released else "aborted",
    }
    if volume.instances or running.refused:
        what = (
            f"{many(volume.instances, 'instance')}, {running.refused:,} refused, "
            f"{running.compressed:,} compressed, {size(volume.bytes_in)} -> "
            f"{size(volume.bytes_out)}, ratio {ratio:.2f}, {seconds:.1f} s, {speed:.1f} MB/s"
        )
    else:
        what = f"{_nothing_to_keep(assoc, running)}, {seconds:.1f} s"
    end = "" if assoc.is_released else ", aborted"
    log.info("%s sent %s%s", name_of(assoc), what, end, extra={FACTS: facts})


def _nothing_to_keep(assoc: Any, running: _Running) -> str:
    """Return what an association was that brought no instance."""
    if running.echoes:
        return "a C-ECHO" if running.echoes == 1 else f"{running.echoes:,} C-ECHOs"
    if not assoc.accepted_contexts:
        return "nothing: it proposed no presentation context that is taken here"
    return "nothing"


def _who(assoc: Any) -> dict[str, str]:
    """Return which association it is, and whose, as events have it."""
    return {
        "association": assoc.code,
        "ae_title": assoc.calling_ae_title,
        "address": assoc.peer_address,
    }


def name_of(assoc: Any) -> str:
    """Return who is at the other end, as every log line of an association begins."""
    return f"{assoc.calling_ae_title}@{assoc.peer_address}"


def origin_of(assoc: Any) -> Origin:
    """Return whose association this is."""
    return Origin(
        calling_ae_title=assoc.calling_ae_title,
        called_ae_title=assoc.called_ae_title,
        address=assoc.peer_address,
    )
