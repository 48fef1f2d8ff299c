"""What a storage SCP has done, counted: totals since its start, and its last associations.

Plain sums, so that those of several processes add up (`merge`). Everything is bounded, whatever
peers send: `Source` keeps to known words, of the associations only the last are kept, and those
of a sender that comes again and again are one record with a count.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from node.dicom.modalities import MODALITIES
from node.dicom.uids import is_registered_transfer_syntax
from node.model import Compressed, Stored

#: What a peer, a modality or a transfer syntax that nobody listed is counted as.
OTHER = "other"
#: Combinations that are counted apart; configured peers times what each of them sends.
MOST_SOURCES = 512
#: Associations that are remembered, and as many that were turned away.
MOST_REMEMBERED = 12

#: Associations of one sender that follow each other so soon are one record, in seconds.
FOLDED_SECONDS = 60.0

#: Upper bounds in seconds, for the time one instance takes; the last one has none.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Source(NamedTuple):
    """Where instances came from and what became of them: a known peer, a Modality (0008,0060) of
    the Standard, and the transfer syntaxes received and stored, by UID; else `OTHER`.
    """

    peer: str
    modality: str
    received_syntax: str
    stored_syntax: str

    @classmethod
    def parse(cls, text: str) -> Source:
        """Return what `str` made a text of; raises ValueError."""
        # An AE title may have this character in it (PS3.5 6.2); the others have not.
        peer, modality, received, stored = text.rsplit("|", 3)
        return cls(peer, modality, received, stored)

    def __str__(self) -> str:
        return "|".join(self)


@dataclass(slots=True)
class Volume:
    """Instances, and the bytes of their data sets as received and as stored."""

    instances: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def add(self, other: Volume) -> None:
        """Add another volume to this one."""
        self.instances += other.instances
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out

    @property
    def ratio(self) -> float | None:
        """How many times smaller they became; None without bytes."""
        return self.bytes_in / self.bytes_out if self.bytes_out else None


@dataclass(slots=True)
class Histogram:
    """How long something took, in seconds: how often, by `BUCKETS`, and in sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds

    def add(self, other: Histogram) -> None:
        """Add another histogram to this one."""
        self.counts = [
            mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)
        ]
        self.seconds += other.seconds

    def quantile(self, share: float) -> float | None:
        """Return the upper bound in seconds of the bucket where `share` is reached, or None."""
        wanted = share * sum(self.counts)
        reached = 0
        for bound, count in zip((*BUCKETS, float("inf")), self.counts, strict=True):
            reached += count
            if count and reached >= wanted:
                return bound
        return None


class Timing(NamedTuple):
    """What one instance took, in seconds: to be encoded and checked, and to be made durable."""

    encode: float
    store: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationRecord:
    """One association that is over. `at` is Unix time. `result` is released, aborted or rejected;
    `reason` says why it was rejected and `mend` what to do about it. Where it stands for several
    of one sender, `times` says for how many, and all else is their sum; `at` is the last one's.
    """

    at: float
    calling_ae_title: str
    called_ae_title: str
    address: str
    implementation: str = ""
    seconds: float = 0.0
    instances: int = 0
    refused: int = 0
    echoes: int = 0
    sop_classes: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    result: str = "released"
    reason: str = ""
    mend: str = ""
    times: int = 1

    def follows(self, other: AssociationRecord) -> bool:
        """Tell whether this is more of the same: a rejection that comes again, or the next of a
        sender that opens an association for each instance.
        """
        soon = self.at - other.at < FOLDED_SECONDS or self.result == "rejected"
        return soon and self._what() == other._what()

    def _what(self) -> tuple[str, ...]:
        who = (self.calling_ae_title, self.called_ae_title, self.address, self.implementation)
        return (*who, self.result, self.reason, self.mend)

    def plus(self, other: AssociationRecord) -> AssociationRecord:
        """Return both as one, at the time of this one."""
        return replace(
            self,
            seconds=self.seconds + other.seconds,
            instances=self.instances + other.instances,
            refused=self.refused + other.refused,
            echoes=self.echoes + other.echoes,
            sop_classes=max(self.sop_classes, other.sop_classes),
            bytes_in=self.bytes_in + other.bytes_in,
            bytes_out=self.bytes_out + other.bytes_out,
            times=self.times + other.times,
        )


@dataclass(slots=True)
class Tally:
    """What was received; add to it under the lock of whoever shares it."""

    associations: int = 0
    instances: int = 0
    refused: int = 0
    compressed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    kept: dict[str, int] = field(default_factory=dict)
    rejections: dict[str, int] = field(default_factory=dict)
    results: dict[str, int] = field(default_factory=dict)
    sources: dict[str, Volume] = field(default_factory=dict)
    encode: Histogram = field(default_factory=Histogram)
    store: Histogram = field(default_factory=Histogram)
    finished: list[AssociationRecord] = field(default_factory=list)
    rejected: list[AssociationRecord] = field(default_factory=list)

    def count(self, taken: Stored | None, peer: str = OTHER, timing: Timing | None = None) -> None:
        """Add one instance that was answered; None stands for one that was not taken."""
        if taken is None:
            self.refused += 1
            return
        volume = volume_of(taken)
        self.instances += 1
        self.bytes_in += volume.bytes_in
        self.bytes_out += volume.bytes_out
        if isinstance(taken, Compressed):
            self.compressed += 1
        else:
            self.kept[taken.reason.value] = self.kept.get(taken.reason.value, 0) + 1
        self._add(source_of(taken, peer), volume)
        if timing is not None:
            self.encode.observe(timing.encode)
            self.store.observe(timing.store)

    def _add(self, source: Source, volume: Volume) -> None:
        name = str(source)
        if name not in self.sources and len(self.sources) >= MOST_SOURCES:
            name = str(Source(OTHER, OTHER, OTHER, OTHER))
        self.sources.setdefault(name, Volume()).add(volume)

    def remember(self, record: AssociationRecord, peer: str = OTHER) -> None:
        """Add an association that is over, of a known peer or of others."""
        result = f"{peer}|{record.result}"
        self.results[result] = self.results.get(result, 0) + 1
        if record.result == "rejected":
            self.rejections[record.reason] = self.rejections.get(record.reason, 0) + 1
            _add_latest(self.rejected, record)
        else:
            _add_latest(self.finished, record)

    def copy(self) -> Tally:
        """Return a tally that nobody else changes."""
        return merge([self])

    @classmethod
    def decode(cls, fields: Mapping[str, Any]) -> Tally:
        """Return the tally of which `dataclasses.asdict` made `fields`; raises TypeError."""
        return cls(
            **{
                **fields,
                "sources": {name: Volume(**each) for name, each in fields["sources"].items()},
                "encode": Histogram(**fields["encode"]),
                "store": Histogram(**fields["store"]),
                "finished": [AssociationRecord(**each) for each in fields["finished"]],
                "rejected": [AssociationRecord(**each) for each in fields["rejected"]],
            }
        )


def latest(records: Iterable[AssociationRecord]) -> list[AssociationRecord]:
    """Return the last records, newest last; those that are more of the same stand as one."""
    folded: list[AssociationRecord] = []
    for record in sorted(records, key=lambda each: each.at):
        _fold(folded, record)
    return folded[-MOST_REMEMBERED:]


def _add_latest(folded: list[AssociationRecord], record: AssociationRecord) -> None:
    """Add the record of now to the last ones."""
    _fold(folded, record)
    del folded[:-MOST_REMEMBERED]


def _fold(folded: list[AssociationRecord], record: AssociationRecord) -> None:
    # The one that it follows is mostly the last.
    for place in range(len(folded) - 1, -1, -1):
        if record.follows(folded[place]):
            record = record.plus(folded.pop(place))
            break
    folded.append(record)


def merge(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of what several counted."""
    result = Tally()
    for each in tallies:
        result.associations += each.associations
        result.instances += each.instances
        result.refused += each.refused
        result.compressed += each.compressed
        result.bytes_in += each.bytes_in
        result.bytes_out += each.bytes_out
        result.kept = _sum(result.kept, each.kept)
        result.rejections = _sum(result.rejections, each.rejections)
        result.results = _sum(result.results, each.results)
        for name, volume in each.sources.items():
            result._add(Source.parse(name), volume)
        result.encode.add(each.encode)
        result.store.add(each.store)
        result.finished = latest([*result.finished, *each.finished])
        result.rejected = latest([*result.rejected, *each.rejected])
    return result


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(one) + Counter(other))


def volume_of(stored: Stored) -> Volume:
    """Return one instance as a volume."""
    size = stored.received.byte_count
    return Volume(1, size, stored.byte_count if isinstance(stored, Compressed) else size)


def source_of(stored: Stored, peer: str) -> Source:
    """Return as what one instance is counted; `peer` is a known name, or `OTHER`."""
    received = stored.received
    modality = received.modality if received.modality in MODALITIES else OTHER
    syntax = received.transfer_syntax_uid
    known = syntax if is_registered_transfer_syntax(syntax) else OTHER
    became = stored.transfer_syntax_uid if isinstance(stored, Compressed) else known
    return Source(peer, modality, known, became)
