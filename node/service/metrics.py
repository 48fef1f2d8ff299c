"""A snapshot as Prometheus metrics: base units, `_total` on counters, labels of few values.

`peer` is the AE title of a configured [[peer]], `modality` one of the Standard's, a transfer
syntax its registered UID; all others are "other". Sums over all processes of the node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from node.network.tally import BUCKETS, Histogram, Source
from node.reasons import KeepReason
from node.service.status import DestinationStatus, Snapshot

_FAILURES = (KeepReason.ENCODER_FAILED, KeepReason.VERIFY_FAILED)


def exposition(snapshot: Snapshot) -> tuple[bytes, str]:
    """Return the metrics as text, and its media type."""
    registry = CollectorRegistry()
    registry.register(_Collector(snapshot))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Collector(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        for part in (_node, _associations, _instances, _sources, _encoding, _queues, _links, _tls):
            yield from part(self._snapshot)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"dcmpress_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"dcmpress_{name}", text, value=value)


def _by(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"dcmpress_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _node(s: Snapshot) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "dcmpress_build_info",
        "1; the labels tell the version that runs and what it encodes in.",
        labels=["version", "transfer_syntax"],
    )
    info.add_metric([s.version, s.transfer_syntax], 1)
    yield info
    yield _gauge("uptime_seconds", "Since the supervisor started.", s.uptime_seconds)
    yield _gauge("ready", "1 while the node takes instances.", s.is_ready)
    yield _gauge("workers_busy", "Instances being received, encoded or stored now.", s.at_work)
    yield _gauge("spool_waiting_instances", "Instances not yet queued for anyone.", s.waiting)
    yield _gauge("spool_total_bytes", "Size of the spool's disk.", s.disk.total_bytes)
    yield _gauge("spool_free_bytes", "Free space on the spool's disk.", s.disk.free_bytes)
    yield _gauge("spool_reserve_bytes", "Below this nothing is taken.", s.disk.reserve_bytes)


def _associations(s: Snapshot) -> Iterator[Metric]:
    active = GaugeMetricFamily(
        "dcmpress_associations_active", "Associations that run.", labels=["role"]
    )
    active.add_metric(["acceptor"], s.associations)
    active.add_metric(["requestor"], sum(each.associations for each in s.destinations))
    yield active
    total = CounterMetricFamily(
        "dcmpress_associations",
        "Associations that ended, by how.",
        labels=["role", "peer", "result"],
    )
    for name, number in s.results_total.items():
        peer, _, result = name.rpartition("|")
        total.add_metric(["acceptor", peer, result], number)
    for each in s.destinations:
        for result, number in each.associations_ended.items():
            total.add_metric(["requestor", each.name, result], number)
    yield total
    yield _by(
        "association_rejections",
        "Associations rejected, by reason.",
        "reason",
        s.rejections_total,
    )
    yield _by(
        "connections_turned_away",
        "Connections that never became an association, by reason.",
        "reason",
        s.turned_away_total,
    )


def _instances(s: Snapshot) -> Iterator[Metric]:
    yield _counter("instances_refused", "Instances answered with a failure.", s.refused_total)
    yield _counter("instances_compressed", "Instances that were encoded.", s.compressed_total)
    yield _counter("received_bytes", "Bytes of data sets received.", s.bytes_in_total)
    yield _counter("stored_bytes", "Bytes of data sets stored.", s.bytes_out_total)
    yield _by("passthrough", "Instances kept as they came, by reason.", "reason", s.kept_total)


def _sources(s: Snapshot) -> Iterator[Metric]:
    received = CounterMetricFamily(
        "dcmpress_instances_received",
        "Instances answered with Success.",
        labels=["peer", "modality", "transfer_syntax"],
    )
    pixels = CounterMetricFamily(
        "dcmpress_pixel_bytes",
        "Bytes of the data sets whose pixel data was encoded, as received and as stored.",
        labels=["codec", "modality", "stage"],
    )
    instances: Counter[tuple[str, str, str]] = Counter()
    encoded: Counter[tuple[str, str, str]] = Counter()
    for text, volume in s.sources.items():
        source = Source.parse(text)
        instances[source.peer, source.modality, source.received_syntax] += volume.instances
        if source.stored_syntax != source.received_syntax:
            encoded[source.stored_syntax, source.modality, "in"] += volume.bytes_in
            encoded[source.stored_syntax, source.modality, "out"] += volume.bytes_out
    for family, counts in ((received, instances), (pixels, encoded)):
        for labels, value in counts.items():
            family.add_metric(list(labels), value)
        yield family


def _encoding(s: Snapshot) -> Iterator[Metric]:
    codec = s.transfer_syntax or "none"
    yield _histogram(
        "encode_duration_seconds",
        "To encode one instance, check it and write it, until it is synced.",
        {"codec": codec},
        s.encode,
    )
    yield _histogram("store_duration_seconds", "To make one instance durable.", {}, s.store)
    failures = CounterMetricFamily(
        "dcmpress_encode_failures",
        "Instances kept as they came because encoding failed.",
        labels=["codec", "reason"],
    )
    for reason in _FAILURES:
        failures.add_metric([codec, reason.value], s.kept_total.get(reason.value, 0))
    yield failures
    differed = s.kept_total.get(KeepReason.VERIFY_FAILED.value, 0)
    yield _counter("verify_failures", "Instances whose decoded pixels differed.", differed)


def _histogram(name: str, text: str, labels: Mapping[str, str], times: Histogram) -> Metric:
    family = HistogramMetricFamily(f"dcmpress_{name}", text, labels=list(labels))
    below, buckets = 0, []
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), times.counts, strict=True):
        below += count
        buckets.append((bound, float(below)))
    family.add_metric(list(labels.values()), buckets, times.seconds)
    return family


def _queues(s: Snapshot) -> Iterator[Metric]:
    queue = GaugeMetricFamily(
        "dcmpress_queue_instances",
        "Instances of a destination, by state.",
        labels=["destination", "state"],
    )
    for each in s.destinations:
        for state in ("queued", "failed", "corrupt"):
            queue.add_metric([each.name, state], getattr(each, state))
    yield queue


_ABOUT_DESTINATIONS: dict[tuple[str, str], Callable[[DestinationStatus], float]] = {
    ("queue_bytes", "Bytes of files queued."): lambda d: d.queued_bytes,
    ("queue_oldest_seconds", "Age of the oldest queued instance."): lambda d: d.oldest_seconds,
    ("destination_up", "0 while it does not answer."): lambda d: d.state != "down",
    ("destination_paused", "1 while a person lets it rest."): lambda d: d.state == "paused",
}


def _links(s: Snapshot) -> Iterator[Metric]:
    for (name, text), value in _ABOUT_DESTINATIONS.items():
        family = GaugeMetricFamily(f"dcmpress_{name}", text, labels=["destination"])
        for each in s.destinations:
            family.add_metric([each.name], float(value(each)))
        yield family
    delivered = CounterMetricFamily(
        "dcmpress_delivered_instances", "Instances delivered.", labels=["destination"]
    )
    for each in s.destinations:
        delivered.add_metric([each.name], each.delivered)
    yield delivered
    size = CounterMetricFamily(
        "dcmpress_forward_bytes", "Bytes of the files delivered.", labels=["destination"]
    )
    attempts = CounterMetricFamily(
        "dcmpress_forward_attempts",
        "Tries to deliver an instance, by what came of them.",
        labels=["destination", "status"],
    )
    for each in s.destinations:
        size.add_metric([each.name], each.delivered_bytes)
        for result, count in each.attempts.items():
            attempts.add_metric([each.name, result], count)
    yield from (size, attempts)
    yield from _echoes(s.destinations)


def _echoes(destinations: Iterable[DestinationStatus]) -> Iterator[Metric]:
    seconds = GaugeMetricFamily(
        "dcmpress_last_echo_seconds", "What the last echo took.", labels=["destination"]
    )
    at = GaugeMetricFamily(
        "dcmpress_last_echo_timestamp_seconds",
        "When it was last answered as it should be.",
        labels=["destination"],
    )
    for each in destinations:
        if each.echo is not None and not each.echo.error:
            seconds.add_metric([each.name], each.echo.seconds)
            at.add_metric([each.name], each.echo.at)
    yield seconds
    yield at


def _tls(s: Snapshot) -> Iterator[Metric]:
    expiry = GaugeMetricFamily(
        "dcmpress_tls_certificate_expiry_timestamp_seconds",
        "When our certificate expires, since 1970.",
        labels=["certificate"],
    )
    for name, when in s.certificates.items():
        expiry.add_metric([name], when)
    yield expiry
