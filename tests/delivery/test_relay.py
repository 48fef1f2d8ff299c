"""A relay: what it accepts, what it answers, and what becomes of an instance it cannot pass on."""

from __future__ import annotations

import threading
from contextlib import closing
from itertools import chain
from pathlib import Path

import instances
import peers
import pytest
from conftest import StartNode, disk, pacs
from delivery.scripted_scp import Part, ScriptedSCP
from peers import wait_until
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from node.delivery.capability import Capability, in_associations, narrowed, questions
from node.delivery.circuit import Circuit
from node.delivery.relay import Relay
from node.delivery.schedule import Backoff
from node.dicom.contexts import VERIFICATION, Proposal
from node.network.store_scu import Peer
from node.pixels import rle
from node.reasons import KeepReason
from node.service.node import Node

SR = "1.2.840.10008.5.1.4.1.1.88.11"
EXPLICIT, IMPLICIT, BIG = ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian
JPEG, J2K, RLE = JPEGBaseline8Bit, JPEG2000Lossless, RLELossless

#: What the destination takes, what the modality proposes, what is accepted from it.
NARROWED: dict[str, tuple[list[str], list[str], list[str]]] = {
    "everything": ([EXPLICIT, IMPLICIT, RLE], [EXPLICIT, IMPLICIT, BIG], [EXPLICIT, IMPLICIT, BIG]),
    "encoded only": ([RLE], [EXPLICIT, IMPLICIT, JPEG], [EXPLICIT, IMPLICIT]),
    "one native only": ([IMPLICIT], [EXPLICIT, BIG], [EXPLICIT, BIG]),
    "decoded where it can be": ([EXPLICIT], [JPEG, J2K], [JPEG]),
    "as it comes": ([J2K], [J2K, EXPLICIT], [J2K]),
    "nothing": ([], [EXPLICIT, JPEG], []),
    "only what nobody has": ([BIG], [EXPLICIT], []),
    "big endian as it comes": ([BIG], [BIG, EXPLICIT], [BIG]),
}


@pytest.mark.parametrize("case", NARROWED)
def test_what_is_accepted_is_what_the_destination_can_take(case: str) -> None:
    taken, proposed, accepted = NARROWED[case]
    known = {"1.2": Capability(frozenset(), frozenset(taken), 0)}
    result = narrowed({"1.2": proposed}, known, [RLE], lambda uid: uid == JPEG)
    assert result == ({"1.2": accepted} if accepted else {})


def test_a_class_of_which_nothing_is_known_and_verification_are_accepted_as_usual() -> None:
    proposed = {"1.2": [EXPLICIT], VERIFICATION: [IMPLICIT]}
    nothing = Capability(frozenset(), frozenset(), 0)
    assert narrowed(proposed, {VERIFICATION: nothing}, [], lambda _: False) == proposed


def test_questions_that_do_not_fit_one_association_are_divided_by_class() -> None:
    asked = [questions(f"1.2.{n}", [EXPLICIT, JPEG], [RLE]) for n in range(70)]
    assert asked[0] == [Proposal("1.2.0", uid) for uid in (RLE, EXPLICIT, JPEG, IMPLICIT)]
    parts = in_associations(asked)
    assert [len(part) for part in parts] == [128, 128, 24]
    assert [*chain.from_iterable(parts)] == [*chain.from_iterable(asked)]


# -- with a node and a scripted archive ------------------------------------------------------------


def port_of(node: Node) -> int:
    return node.address[1]


def send(node: Node, ds: Dataset, syntax: str = EXPLICIT) -> tuple[int, str]:
    with closing(peers.connected(port_of(node), (str(ds.SOPClassUID), syntax))) as scu:
        response = scu.send(
            str(ds.SOPClassUID), str(ds.SOPInstanceUID), syntax, [instances.encoded(ds, syntax)]
        )
    return response.status, response.comment


def relay(port: int, **more: object) -> object:
    return pacs(port, mode="relay", connect_seconds=1.0, response_seconds=1.0, **more)


def kept(node: Node) -> list[str]:
    return sorted(
        path.parent.name for path in node.spool.root.rglob("*.dcm") if path.stat().st_size
    )


def test_a_modality_hears_what_the_archive_takes_before_it_sends(start_node: StartNode) -> None:
    part = Part(takes=lambda abstract, transfer: abstract == CTImageStorage and transfer == RLE)
    with ScriptedSCP([part]).listening() as archive:
        node = start_node(relay(archive.port))
        wanted = [(CTImageStorage, EXPLICIT), (CTImageStorage, J2K), (SR, EXPLICIT)]
        with closing(peers.connected(port_of(node), *wanted)) as scu:
            assert scu.accepted == {Proposal(CTImageStorage, EXPLICIT)}
        assert archive.associations == 1
        assert send(node, instances.image()) == (0, "")
        # What was asked once is remembered, and the association that asked serves the instance.
        assert archive.associations == 1


def test_where_the_archive_cannot_be_asked_each_instance_is_answered(
    start_node: StartNode,
) -> None:
    node = start_node(relay(peers.free_port()))
    code, comment = send(node, instances.image())
    assert code == 0xA700
    assert "not relayed" in comment
    assert node.progress["pacs"].circuit is Circuit.OPEN
    assert node.progress["pacs"].failures_in_a_row == 1
    assert kept(node) == []


@pytest.mark.parametrize("code", [0, 0xB007, 0xA700, 0xA900, 0xC001, 0x0122])
@pytest.mark.parametrize("fallback", ["none", "spool"])
def test_status_and_comment_are_those_of_the_archive(
    fallback: str, code: int, start_node: StartNode
) -> None:
    with ScriptedSCP([Part(deed=lambda *_: code)]).listening() as archive:
        node = start_node(relay(archive.port, fallback=fallback))
        assert send(node, instances.image()) == (code, "told to say so" if code else "")
        assert kept(node) == []
        taken = code in (0, 0xB007)
        progress = node.progress["pacs"]
        assert (progress.delivered, progress.failed) == (taken, not taken)


def test_what_the_archive_cannot_read_compressed_it_gets_as_it_came(start_node: StartNode) -> None:
    part = Part(deed=lambda _, transfer: 0xC000 if transfer == RLE else 0)
    with ScriptedSCP([part]).listening() as archive:
        node = start_node(relay(archive.port))
        ds = instances.image()
        assert send(node, ds) == (0, "")
        [(_, syntax, data)] = archive.taken
    assert (syntax, data) == (EXPLICIT, instances.encoded(ds))


@pytest.mark.parametrize(
    ("rows", "asked"), [(40, [EXPLICIT]), (2048, [RLE, EXPLICIT])], ids=["small", "half sent"]
)
def test_what_is_not_proven_while_it_is_sent_goes_as_it_came(
    rows: int, asked: list[str], start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedSCP([Part()]).listening() as archive:

        def differ(*_: object) -> bool:
            wait_until(lambda: len(archive.asked) == len(asked) - 1, "what goes out has arrived")
            return False

        monkeypatch.setattr(rle, "matches", differ)
        node = start_node(relay(archive.port))
        ds = instances.image(rows=rows, columns=512)
        assert send(node, ds) == (0, "")
        # What was begun in RLE ended with its association, and is no instance.
        assert archive.taken == [(str(ds.SOPInstanceUID), EXPLICIT, instances.encoded(ds))]
        assert [syntax for _, syntax in archive.asked] == asked
        assert node.tally.kept == {KeepReason.VERIFY_FAILED.value: 1}


UNREACHABLE = {
    "nobody listens": None,
    "rejected": Part((2, 3, 1)),
    "rejected for good": Part((1, 1, 7)),
    "aborted": Part("abort"),
    "cut in the data": Part(deed=lambda *_: "cut in data"),
    "closed after the data": Part(deed=lambda *_: "close after"),
    "no answer": Part(deed=lambda *_: "silent"),
}


@pytest.mark.parametrize("case", UNREACHABLE)
def test_with_a_fallback_what_cannot_be_relayed_is_spooled_and_sent_later(
    case: str, tmp_path: Path, start_node: StartNode
) -> None:
    part, port = UNREACHABLE[case], peers.free_port()
    first, second = instances.image(), instances.image()
    # Long enough for the second instance to find it left alone.
    late = {"retry_seconds": 2.0, "retry_max_seconds": 3.0, "fallback": "spool"}
    node = start_node(relay(port, **late), disk(tmp_path / "disk"))
    if part is None:
        assert send(node, first) == (0, "")
    else:
        with ScriptedSCP([part], port=port).listening():
            assert send(node, first) == (0, "")
    assert send(node, second) == (0, "")
    assert node.progress["pacs"].spooled == 2
    with ScriptedSCP([Part()], port=port).listening() as archive:
        wait_until(lambda: len(archive.taken) == 2, "both are delivered")
        uids = [str(ds.SOPInstanceUID) for ds in (first, second)]
        assert sorted(uid for uid, _, _ in archive.taken) == sorted(uids)
        wait_until(lambda: kept(node) == [], "nothing is left in the spool")
        wait_until(lambda: node.progress["pacs"].delivered == 2, "they are counted")
    assert sorted(instances.data_sets_in(tmp_path / "disk")) == sorted(uids)


def test_with_a_fallback_success_means_that_it_is_on_disk(start_node: StartNode) -> None:
    node = start_node(relay(peers.free_port(), fallback="spool"))
    assert send(node, instances.image()) == (0, "")
    assert kept(node) == ["pacs"]
    assert sum(1 for _ in node.spool.queued("pacs")) == 1


def test_a_fallback_is_not_for_what_the_archive_takes_in_no_way(start_node: StartNode) -> None:
    """It was asked when it could not answer, so the context was accepted."""
    parts = [Part("abort"), Part(takes=lambda *_: False)]
    with ScriptedSCP(parts).listening() as archive:
        node = start_node(relay(archive.port, fallback="spool"))
        code, comment = send(node, instances.image())
        assert (code, "in none of" in comment or "not relayed" in comment) == (0xA700, True)
        assert kept(node) == []
        # The archive works: what it does not take is no reason to leave it alone.
        progress = node.progress["pacs"]
        assert (progress.circuit, progress.failed) == (Circuit.CLOSED, 1)


def test_an_archive_that_does_not_answer_a_release_holds_up_nobody() -> None:
    with ScriptedSCP([Part(lets_go=False)]).listening() as archive:
        peer = Peer(
            ae_title=peers.DOWNSTREAM,
            host="127.0.0.1",
            port=archive.port,
            calling_ae_title="DCMPRESS",
        )
        one = Relay("pacs", peer, Backoff(0.1, 0.2))
        assert one.narrowed({CTImageStorage: [EXPLICIT]}) == {CTImageStorage: [EXPLICIT]}
        one.close_idle(0)
        wait_until(lambda: archive.released == 1, "it was asked to release")
        [closing_thread] = [t for t in threading.enumerate() if t.name == "close-pacs"]
    closing_thread.join(30)
    assert not closing_thread.is_alive()
