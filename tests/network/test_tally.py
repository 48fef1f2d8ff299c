"""What is counted and remembered of associations: sums, bounds, and the way through JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from node.dicom.uids import EXPLICIT_VR_LE, RLE_LOSSLESS
from node.model import Compressed, Kept, Origin, Received
from node.network.tally import (
    MOST_REMEMBERED,
    MOST_SOURCES,
    OTHER,
    AssociationRecord,
    Source,
    Tally,
    Timing,
    latest,
    merge,
)
from node.reasons import KeepReason


def received(modality: str = "CT", syntax: str = EXPLICIT_VR_LE) -> Received:
    return Received(
        sop_class_uid="1.2",
        sop_instance_uid="1.2.3",
        transfer_syntax_uid=syntax,
        byte_count=100,
        origin=Origin(calling_ae_title="CT1", called_ae_title="DCMPRESS", address="127.0.0.1"),
        modality=modality,
    )


def compressed(**more: str) -> Compressed:
    return Compressed(received=received(**more), transfer_syntax_uid=RLE_LOSSLESS, byte_count=40)


def rejection(at: float, title: str = "CT1") -> AssociationRecord:
    return AssociationRecord(
        at=at,
        calling_ae_title=title,
        called_ae_title="X",
        address="127.0.0.1",
        result="rejected",
        reason="called AE title is not ours",
        mend="change it",
    )


def test_what_two_processes_counted_adds_up_and_goes_through_json() -> None:
    one, other = Tally(), Tally()
    one.count(compressed(), "CT1", Timing(encode=0.004, store=0.3))
    other.count(compressed(), "CT1", Timing(encode=0.004, store=99.0))
    other.count(Kept(received=received(), reason=KeepReason.NOT_SMALLER), "CT1")
    other.count(None)
    one.remember(rejection(2.0))
    other.remember(rejection(1.0))
    total = merge(Tally.decode(json.loads(json.dumps(asdict(each)))) for each in (one, other))
    assert (total.instances, total.refused, total.compressed) == (3, 1, 2)
    assert (total.bytes_in, total.bytes_out) == (300, 180)
    volume = total.sources[str(Source("CT1", "CT", EXPLICIT_VR_LE, RLE_LOSSLESS))]
    assert (volume.instances, volume.ratio) == (2, 2.5)
    assert total.encode.quantile(0.95) == 0.005
    assert total.store.quantile(0.5) == 0.5
    assert total.store.quantile(0.95) == float("inf")
    assert total.rejections == {"called AE title is not ours": 2}
    [record] = total.rejected
    assert (record.at, record.times) == (2.0, 2)


def test_nothing_that_a_peer_writes_becomes_a_name() -> None:
    tally = Tally()
    tally.count(compressed(modality="<script>", syntax="1.2.3.4"), OTHER)
    assert list(tally.sources) == [f"{OTHER}|{OTHER}|{OTHER}|{RLE_LOSSLESS}"]


def test_sources_and_associations_are_bounded() -> None:
    tally = Tally()
    for number in range(MOST_SOURCES + 10):
        tally.count(compressed(), f"peer{number}")
    assert len(tally.sources) == MOST_SOURCES + 1
    assert tally.sources[str(Source(OTHER, OTHER, OTHER, OTHER))].instances == 10
    for number in range(100):
        tally.remember(rejection(number, f"CT{number}"))
    assert [each.at for each in tally.rejected] == list(range(100 - MOST_REMEMBERED, 100))


def test_a_rejection_that_comes_again_moves_to_the_end_and_is_counted() -> None:
    records = latest([rejection(1), rejection(2, "MR1"), rejection(3), rejection(4)])
    assert [(each.calling_ae_title, each.times) for each in records] == [("MR1", 1), ("CT1", 3)]


def test_a_sender_with_an_association_for_each_instance_is_one_line() -> None:
    def served(at: float, title: str = "CT1", result: str = "released") -> AssociationRecord:
        return AssociationRecord(
            at=at,
            calling_ae_title=title,
            called_ae_title="DCMPRESS",
            address="127.0.0.1",
            seconds=0.5,
            instances=1,
            bytes_in=100,
            bytes_out=50,
            result=result,
        )

    times = (0, 10, 20, 100)
    records = latest([*map(served, times), served(15, "MR1"), served(101, result="aborted")])
    assert [(each.at, each.times, each.result) for each in records] == [
        (15, 1, "released"),
        (20, 3, "released"),
        (100, 1, "released"),
        (101, 1, "aborted"),
    ]
    assert (records[1].instances, records[1].bytes_in, records[1].seconds) == (3, 300, 1.5)


def test_a_peer_may_have_any_character_in_its_name() -> None:
    tally = Tally()
    tally.count(compressed(), "CT|1")
    [source] = merge([tally]).sources
    assert Source.parse(source) == Source("CT|1", "CT", EXPLICIT_VR_LE, RLE_LOSSLESS)
