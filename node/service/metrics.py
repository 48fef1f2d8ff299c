"""A snapshot as Prometheus metrics: base units, `_total` on counters, few labels."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import node
from node.service.status import Snapshot


def exposition(snapshot: Snapshot) -> tuple[bytes, str]:
    """Return the metrics as text, and its media type."""
    registry = CollectorRegistry()
    registry.register(_Collector(snapshot))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Collector(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        """Yield every metric."""
        yield from _build()
        yield from _received(self._snapshot)
        yield from _destinations(self._snapshot)
        yield from _certificates(self._snapshot)


def _build() -> Iterable[Metric]:
    info = GaugeMetricFamily("dcmpress_build_info", "The version that runs.", labels=["version"])
    info.add_metric([node.__version__], 1)
    yield info


def _received(s: Snapshot) -> Iterable[Metric]:
    for name, text, value in (
        ("associations", "Associations accepted.", s.associations_total),
        ("association_rejections", "Associations rejected.", s.rejected_total),
        ("instances_received", "Instances answered with Success.", s.instances_total),
        ("instances_refused", "Instances answered with a failure.", s.refused_total),
        ("instances_compressed", "Instances whose pixel data was encoded.", s.compressed_total),
        ("received_bytes", "Bytes of data sets received.", s.bytes_in_total),
        ("stored_bytes", "Bytes of data sets stored.", s.bytes_out_total),
    ):
        yield CounterMetricFamily(f"dcmpress_{name}", text, value=value)
    kept = CounterMetricFamily(
        "dcmpress_passthrough", "Instances kept as they came.", labels=["reason"]
    )
    for reason, count in s.kept_total.items():
        kept.add_metric([reason], count)
    yield kept
    for name, text, number in (
        ("associations_active", "Associations that run.", s.associations),
        ("spool_waiting_instances", "Instances not yet queued for destinations.", s.waiting),
        ("spool_free_bytes", "Free space on the spool's disk.", s.free_bytes),
    ):
        yield GaugeMetricFamily(f"dcmpress_{name}", text, value=number)


def _certificates(s: Snapshot) -> Iterable[Metric]:
    expiry = GaugeMetricFamily(
        "dcmpress_tls_certificate_expiry_timestamp_seconds",
        "When our certificate expires, since 1970.",
        labels=["certificate"],
    )
    for name, when in s.certificates.items():
        expiry.add_metric([name], when)
    yield expiry


def _destinations(s: Snapshot) -> Iterable[Metric]:
    labels = ["destination"]
    queue = GaugeMetricFamily(
        "dcmpress_queue_instances", "Instances queued.", labels=[*labels, "state"]
    )
    oldest = GaugeMetricFamily(
        "dcmpress_queue_oldest_seconds", "Age of the oldest queued instance.", labels=labels
    )
    delivered = CounterMetricFamily(
        "dcmpress_delivered_instances", "Instances delivered.", labels=labels
    )
    up = GaugeMetricFamily(
        "dcmpress_destination_up",
        "0 while a destination is left alone after a failure.",
        labels=labels,
    )
    for item in s.destinations:
        queue.add_metric([item.name, "queued"], item.queued)
        queue.add_metric([item.name, "failed"], item.failed)
        oldest.add_metric([item.name], item.oldest_seconds)
        delivered.add_metric([item.name], item.delivered)
        up.add_metric([item.name], 0 if item.retry_in_seconds else 1)
    yield from (queue, oldest, delivered, up)
