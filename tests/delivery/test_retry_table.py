"""What becomes of instances when the archive fails: every way it can, at a scripted peer.

The queue holds three instances, a, b and c. The table of causes is that of PS3.4 B.2.3, PS3.7
Annex C and PS3.8 9.3.4: what is tried again, when, what is set aside, and that the others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import instances
import pytest
from delivery.scripted_scp import Deed, Part, ScriptedSCP
from peers import free_port, wait_until
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from node.delivery.circuit import Circuit
from node.delivery.forward import Forward
from node.delivery.loop import Loop
from node.delivery.schedule import ATTEMPTS_FOR_ONE_INSTANCE, Backoff
from node.dicom.part10 import FileMeta
from node.dicom.scan import scan
from node.network.store_scu import Peer
from node.pixels.files import write_file
from node.pixels.policy import Options
from node.spool import Disk, Durability, Spool

A, B, C = "1.1", "1.2", "1.3"
CT, SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.11"
#: Short enough for a test, long enough to tell the two apart.
FIRST, LONGEST = 0.02, 0.4
RLE = Options()


class Sending:
    """A spool with a loop that sends to a peer."""

    def __init__(self, root: Path, port: int, host: str = "127.0.0.1") -> None:
        self.spool = Spool(root / "spool", Disk(Durability.NONE))
        self.spool.add_destination("pacs")
        peer = Peer(
            ae_title="PACS",
            host=host,
            port=port,
            calling_ae_title="DCMPRESS",
            connect_seconds=1,
            response_seconds=1,
        )
        self.stop = threading.Event()
        self.loop = Loop([Forward("pacs", peer)], self.spool, Backoff(FIRST, LONGEST), self.stop)
        self.thread = threading.Thread(target=self.loop.run, daemon=True)

    def put(self, uid: str, sop_class: str = CT, options: Options = RLE, **elements: int) -> None:
        image = instances.image(sop_class=sop_class, SOPInstanceUID=uid, **elements)
        data_set = instances.encoded(image)
        meta = FileMeta(
            sop_class_uid=sop_class,
            sop_instance_uid=uid,
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
        with self.spool.begin() as incoming:
            write_file(scan(data_set, ExplicitVRLittleEndian), meta, incoming.file, options)
            entry = incoming.commit()
        self.spool.fan_out([entry], ["pacs"])
        self.loop.ring()

    def queued(self) -> int:
        return sum(1 for _ in self.spool.queued("pacs"))

    def failures(self) -> dict[str, str]:
        found = {}
        for failed in self.spool.failed("pacs"):
            meta, _ = instances.parts_of(failed.entry.path)
            found[str(meta.MediaStorageSOPInstanceUID)] = failed.cause
        return found

    def wait_until_empty(self) -> None:
        wait_until(lambda: not self.queued(), "nothing is queued")

    def close(self) -> None:
        self.stop.set()
        self.loop.ring()
        if self.thread.ident is not None:
            self.thread.join(10)
            assert not self.thread.is_alive()


Start = Callable[..., tuple[Sending, ScriptedSCP]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start sending a, b and c to a peer that plays these parts."""
    with ExitStack() as running:

        def begin(*parts: Part, port: int = 0) -> tuple[Sending, ScriptedSCP]:
            peer = ScriptedSCP(list(parts), port=port)
            running.enter_context(peer.listening())
            sending = Sending(tmp_path, peer.port)
            running.callback(sending.close)
            for uid in (A, B, C):
                sending.put(uid)
            sending.thread.start()
            return sending, peer

        yield begin


def asked(peer: ScriptedSCP) -> list[str]:
    return [uid for uid, _ in peer.asked]


def taken(peer: ScriptedSCP) -> list[str]:
    return [uid for uid, _, _ in peer.taken]


def once(deed: Deed, at: str = A) -> Callable[[str, str], Deed]:
    """Do this about one instance the first time it comes."""
    done: list[str] = []

    def what(uid: str, _: str) -> Deed:
        if uid != at or done:
            return 0
        done.append(uid)
        return deed

    return what


def always(deed: Deed, at: str = B) -> Callable[[str, str], Deed]:
    return lambda uid, _: deed if uid == at else 0


# -- the destination as a whole --------------------------------------------------------------------

OPENINGS: dict[str, str | tuple[int, int, int]] = {
    "rejected for now, by the user": (2, 1, 1),
    "rejected for now, congestion": (2, 3, 1),
    "rejected for now, limit": (2, 3, 2),
    "aborted": "abort",
    "closed": "close at once",
    "not DICOM": "garbage",
    "no answer": "silent",
}


@pytest.mark.parametrize("case", OPENINGS)
def test_no_association_for_now_and_then_everything_in_order(case: str, start: Start) -> None:
    sending, peer = start(Part(OPENINGS[case]), Part(OPENINGS[case]), Part())
    sending.wait_until_empty()
    assert taken(peer) == [A, B, C]
    assert peer.associations == 3
    assert sending.failures() == {}


@pytest.mark.parametrize(
    "rejection", [(1, 1, 1), (1, 1, 2), (1, 1, 3), (1, 1, 7), (1, 2, 1), (1, 2, 2)]
)
def test_a_permanent_rejection_is_asked_after_at_the_slow_rate(
    rejection: tuple[int, int, int], start: Start
) -> None:
    sending, peer = start(Part(rejection), Part())
    wait_until(lambda: sending.loop.progress.circuit is Circuit.OPEN, "it is left alone")
    # The first back-off of another failure is over long before half the longest one.
    assert sending.loop.progress.waiting_for_seconds > FIRST
    assert f"({rejection[0]},{rejection[1]},{rejection[2]})" in sending.loop.progress.last_error
    sending.wait_until_empty()
    assert taken(peer) == [A, B, C]
    assert sending.failures() == {}


def test_a_port_where_nobody_listens_is_tried_until_somebody_does(tmp_path: Path) -> None:
    port = free_port()
    sending = Sending(tmp_path, port)
    for uid in (A, B, C):
        sending.put(uid)
    sending.thread.start()
    try:
        wait_until(lambda: sending.loop.progress.failures_in_a_row >= 3, "it was refused")
        assert "refused" in sending.loop.progress.last_error
        with ScriptedSCP([Part()], port=port).listening() as peer:
            sending.wait_until_empty()
        assert taken(peer) == [A, B, C]
    finally:
        sending.close()


def test_not_authorised_holds_the_destination_and_loses_nothing(start: Start) -> None:
    sending, peer = start(Part(deed=once(0x0124)))
    wait_until(lambda: sending.loop.progress.circuit is Circuit.OPEN, "it is left alone")
    assert sending.loop.progress.waiting_for_seconds > FIRST
    sending.wait_until_empty()
    assert asked(peer) == [A, A, B, C]
    assert sending.failures() == {}


def test_a_destination_that_is_down_for_long_has_nothing_set_aside(start: Start) -> None:
    sending, peer = start(*[Part("abort")] * 12, Part())
    sending.wait_until_empty()
    assert taken(peer) == [A, B, C]
    assert sending.failures() == {}


# -- one instance, once ----------------------------------------------------------------------------

PASSING = [
    *("abort before data", "abort in data", "cut in data"),
    *("abort after", "close after", "reset after", "silent", "garbage", "endless"),
    *("wrong message id", "wrong message ids", "no status"),
    *(0xA700, 0xA7FF, 0xC000, 0xC123, 0xCFFF, 0x0110, 0x4711, 0xFE00),
]


@pytest.mark.parametrize(
    "deed", PASSING, ids=lambda deed: f"{deed:04X}" if type(deed) is int else deed
)
def test_what_fails_once_is_sent_again_after_the_others(deed: Deed, start: Start) -> None:
    sending, peer = start(Part(deed=once(deed)))
    sending.wait_until_empty()
    assert sending.failures() == {}
    # Cxxx and 0110 are tried once more at once, decompressed.
    again = isinstance(deed, int) and (deed >> 12 == 0xC or deed == 0x0110)
    assert taken(peer) == ([A, B, C] if again else [B, C, A])
    wait_until(lambda: sending.loop.progress.delivered == 3, "all are counted")


@pytest.mark.parametrize("deed", ["twice", "release after"])
def test_what_was_taken_oddly_is_taken_once(deed: Deed, start: Start) -> None:
    sending, peer = start(Part(deed=once(deed)))
    sending.wait_until_empty()
    # The next one may be under way when the release comes, and is then sent again.
    assert sorted(taken(peer)) == [A, B, C]
    assert sending.failures() == {}


@pytest.mark.parametrize("code", [0xB000, 0xB006, 0xB007, 0x0001, 0x0107, 0x0111, 0x0116])
def test_a_warning_counts_as_delivered_and_is_logged(
    code: int, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    sending, peer = start(Part(deed=always(code)))
    sending.wait_until_empty()
    assert asked(peer) == [A, B, C]
    assert sending.failures() == {}
    assert f"delivered: {code:04X}" in caplog.text


# -- one instance, always --------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0x0117, 0x0122, 0x0211, 0x0212])
def test_what_is_refused_for_good_is_kept_with_its_reason_at_once(code: int, start: Start) -> None:
    sending, peer = start(Part(deed=always(code)))
    sending.wait_until_empty()
    assert asked(peer) == [A, B, C]
    assert sending.failures() == {B: f"{code:04X} (refused for good): told to say so"}


@pytest.mark.parametrize("code", [0xA900, 0xA9FF])
def test_a_mismatch_is_sent_once_more_decompressed_and_then_kept(code: int, start: Start) -> None:
    sending, peer = start(Part(deed=always(code)))
    sending.wait_until_empty()
    assert asked(peer) == [A, B, B, C]
    assert [syntax for uid, syntax in peer.asked if uid == B] == [
        RLELossless,
        ExplicitVRLittleEndian,
    ]
    assert list(sending.failures()) == [B]
    assert f"{code:04X}" in sending.failures()[B]


@pytest.mark.parametrize("code", [0xC000, 0xC123, 0x0110, 0x4711])
def test_what_the_archive_never_understands_is_set_aside_after_some_tries(
    code: int, start: Start
) -> None:
    sending, peer = start(Part(deed=always(code)))
    sending.wait_until_empty()
    tries = ATTEMPTS_FOR_ONE_INSTANCE * (2 if code != 0x4711 else 1)
    assert asked(peer).count(B) == tries
    assert taken(peer) == [A, C]
    assert f"{code:04X}" in sending.failures()[B]
    assert f"after {ATTEMPTS_FOR_ONE_INSTANCE} tries" in sending.failures()[B]


@pytest.mark.parametrize("deed", ["abort in data", "close after"])
def test_an_instance_at_which_the_archive_ends_each_time_is_set_aside(
    deed: Deed, start: Start
) -> None:
    sending, peer = start(Part(deed=always(deed)))
    more = iter(range(1, 1000))

    def is_set_aside() -> bool:
        # Others get through, which tells that it is not the archive.
        if sending.queued() <= 1:
            sending.put(f"1.9.{next(more)}")
        return B in sending.failures()

    wait_until(is_set_aside, "it is set aside")
    sending.wait_until_empty()
    assert list(sending.failures()) == [B]
    assert asked(peer).count(B) == ATTEMPTS_FOR_ONE_INSTANCE


def test_no_room_is_tried_again_without_limit(start: Start) -> None:
    sending, peer = start(Part(deed=always(0xA700)))
    wait_until(lambda: asked(peer).count(B) > ATTEMPTS_FOR_ONE_INSTANCE + 1, "it is tried again")
    assert taken(peer) == [A, C]
    assert sending.failures() == {}
    assert sending.queued() == 1


def test_an_archive_that_is_full_is_left_alone(start: Start) -> None:
    full = threading.Event()
    full.set()
    sending, peer = start(Part(deed=lambda uid, _: 0xA700 if full.is_set() else 0))
    wait_until(lambda: sending.loop.progress.circuit is Circuit.OPEN, "it is left alone")
    full.clear()
    sending.wait_until_empty()
    assert sorted(taken(peer)) == [A, B, C]
    assert sending.failures() == {}


# -- presentation contexts -------------------------------------------------------------------------


def test_a_refused_compressed_context_costs_no_second_association(start: Start) -> None:
    sending, peer = start(Part(takes=lambda _, transfer: transfer != RLELossless))
    sending.wait_until_empty()
    assert [(uid, syntax) for uid, syntax, _ in peer.taken] == [
        (uid, ExplicitVRLittleEndian) for uid in (A, B, C)
    ]
    assert peer.associations == 1


def test_a_refused_syntax_is_not_proposed_again_for_a_while(start: Start) -> None:
    sending, peer = start(Part(takes=lambda _, transfer: transfer != RLELossless))
    sending.wait_until_empty()
    wait_until(lambda: not sending.loop.lanes[0]._association, "it was released")
    sending.put("1.4")
    sending.wait_until_empty()
    assert [RLELossless in {uid for _, uid in each} for each in peer.proposed] == [True, False]


def test_only_implicit_vr_is_enough(start: Start) -> None:
    sending, peer = start(Part(takes=lambda _, transfer: transfer == ImplicitVRLittleEndian))
    sending.wait_until_empty()
    assert {syntax for _, syntax, _ in peer.taken} == {ImplicitVRLittleEndian}
    wait_until(lambda: sending.loop.progress.delivered == 3, "all are counted")


def test_a_class_that_is_not_taken_is_kept_and_the_others_go_on(start: Start) -> None:
    sending, peer = start(Part(takes=lambda abstract, _: abstract != SR))
    sending.put("1.4", SR)
    sending.put("1.5")
    sending.wait_until_empty()
    assert sorted(taken(peer)) == [A, B, C, "1.5"]
    assert "in none of" in sending.failures()["1.4"]


def test_an_archive_that_takes_nothing_is_not_down(start: Start) -> None:
    sending, peer = start(Part(takes=lambda abstract, _: abstract == SR))
    sending.wait_until_empty()
    assert list(sending.failures()) == [A, B, C]
    assert all("in none of" in cause for cause in sending.failures().values())
    sending.put("1.4", SR)
    sending.wait_until_empty()
    assert taken(peer) == ["1.4"]


def test_a_syntax_that_is_accepted_and_not_understood_is_given_up(start: Start) -> None:
    """An archive that says it takes RLE and then cannot read it gets it decompressed."""
    sending, peer = start(Part(deed=lambda _, transfer: 0xC000 if transfer == RLELossless else 0))
    sending.wait_until_empty()
    assert [syntax for _, syntax in peer.asked] == [
        RLELossless,
        *[ExplicitVRLittleEndian] * 3,
    ]
    assert sending.failures() == {}


# -- the line ----------------------------------------------------------------------------------


def test_one_that_stops_reading_is_given_up_and_gets_it_again(tmp_path: Path, start: Start) -> None:
    """More than the buffers of both ends hold, so that a full one is noticed."""
    sending, peer = start(Part(deed=once("stop reading", "1.4")))
    sending.wait_until_empty()
    sending.put("1.4", options=Options(transfer_syntax_uid=""), rows=3072, columns=3072)
    sending.wait_until_empty()
    assert asked(peer) == [A, B, C, "1.4", "1.4"]
    assert sending.failures() == {}


def test_one_that_reads_slowly_gets_it_however_long_that_takes(start: Start) -> None:
    """Longer than the time for an answer, which begins with the last byte."""
    sending, peer = start(Part(deed=once("read slowly", "1.4")))
    sending.wait_until_empty()
    begun = time.monotonic()
    sending.put("1.4", options=Options(transfer_syntax_uid=""), rows=3072, columns=3072)
    sending.wait_until_empty()
    assert time.monotonic() - begun > 1
    assert asked(peer) == [A, B, C, "1.4"]


def test_a_name_that_does_not_resolve_is_tried_again(tmp_path: Path) -> None:
    sending = Sending(tmp_path, 104, host="archive.invalid")
    sending.put(A)
    sending.thread.start()
    try:
        wait_until(lambda: sending.loop.progress.failures_in_a_row >= 2, "it was tried again")
        assert "archive.invalid" in sending.loop.progress.last_error
        assert sending.loop.progress.circuit is not Circuit.CLOSED
        assert sending.queued() == 1
    finally:
        sending.close()
