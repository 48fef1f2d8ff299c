"""What a node is doing, as one frozen value; page, metrics and API are views of it.

Names and meaning are those of `/api/v1/status` and stand: fields may be added, none changes. Byte
counts are of data sets, durations in seconds, times (`at`) Unix time. No patient data.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from node.network.tally import AssociationRecord, Histogram, Volume
from node.service.echoes import Echo
from node.service.verdict import Level, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationStatus:
    """One destination: where it is, what waits for it, what it was last heard saying.

    `kind` is folder, forward or relay; `state` up, down or paused. A relay may have no queue.
    """

    name: str
    kind: str
    where: str
    state: str
    has_queue: bool
    queued: int
    queued_bytes: int
    oldest_seconds: float
    failed: int
    corrupt: int
    #: Of the queued, those that failed before, and why one of them did.
    waiting_again: int
    waiting_cause: str
    delivered: int
    delivered_bytes: int
    attempts: dict[str, int]
    #: With it: those that stand now, and how the others ended.
    associations: int
    associations_ended: dict[str, int]
    spooled: int
    last_error: str
    failures_in_a_row: int
    retry_in_seconds: float
    echo: Echo | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalityStatus:
    """What came of one Modality (0008,0060), and how many times smaller it became."""

    modality: str
    instances: int
    compressed: int
    bytes_in: int
    bytes_out: int
    ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskStatus:
    """The spool's disk. `full_in_seconds` is None where it is not filling up."""

    total_bytes: int
    free_bytes: int
    reserve_bytes: int
    full_in_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One moment of a node. Totals are since the start; `sources` are those of `network.tally`.

    `notices` are what a security office would object to; `certificates` are by name the times at
    which ours expire.
    """

    version: str
    ae_title: str
    address: str
    uptime_seconds: float
    transfer_syntax: str
    open_to_everyone: bool
    verdict: str
    level: Level
    problems: tuple[Problem, ...]
    is_ready: bool
    associations: int
    at_work: int
    associations_total: int
    results_total: dict[str, int]
    rejected_total: int
    rejections_total: dict[str, int]
    turned_away_total: dict[str, int]
    instances_total: int
    refused_total: int
    compressed_total: int
    bytes_in_total: int
    bytes_out_total: int
    kept_total: dict[str, int]
    sources: dict[str, Volume]
    modalities: tuple[ModalityStatus, ...]
    encode: Histogram
    store: Histogram
    bytes_in_per_second: float
    bytes_out_per_second: float
    instances_per_second: float
    last_associations: tuple[AssociationRecord, ...]
    last_rejected: tuple[AssociationRecord, ...]
    waiting: int
    free_bytes: int
    disk: DiskStatus
    destinations: tuple[DestinationStatus, ...]
    notices: tuple[str, ...]
    certificates: dict[str, float]

    @property
    def queued(self) -> int:
        """How many instances wait for a destination."""
        return self.waiting + sum(each.queued for each in self.destinations)

    @property
    def queued_bytes(self) -> int:
        """How many bytes of files wait for a destination."""
        return sum(each.queued_bytes for each in self.destinations)

    @property
    def oldest_seconds(self) -> float:
        """The age of what waits longest."""
        return max((each.oldest_seconds for each in self.destinations), default=0.0)

    @property
    def failed(self) -> int:
        """How many instances wait for a decision."""
        return sum(each.failed for each in self.destinations)

    @property
    def saved_bytes(self) -> int:
        """How many bytes compression has saved."""
        return self.bytes_in_total - self.bytes_out_total

    @property
    def ratio(self) -> float | None:
        """How many times smaller all that was received became."""
        return Volume(0, self.bytes_in_total, self.bytes_out_total).ratio

    def as_fields(self) -> dict[str, Any]:
        """Return what `/api/v1/status` answers with."""
        fields = asdict(self)
        derived = ("queued", "queued_bytes", "oldest_seconds", "failed", "saved_bytes", "ratio")
        return fields | {name: getattr(self, name) for name in derived}
