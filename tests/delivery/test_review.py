"""Delivery when something else goes wrong at the same time: other writers, stops, poison."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import instances
import pytest
from delivery.giving import give
from peers import wait_until
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from node.delivery.archive import Archive
from node.delivery.attempt import Destination
from node.delivery.forward import Forward, Manner
from node.delivery.loop import Loop
from node.delivery.schedule import Backoff
from node.dicom.part10 import FileMeta, encode
from node.dicom.scan import scan
from node.errors import NodeError, PeerUnreachable
from node.model import Blame, Deferred, Delivered, Outcome
from node.network.sending import AssociationEnded, PeerTooSlow, StoreResponse
from node.network.store_scu import Peer
from node.pixels.files import write_file
from node.pixels.policy import Options
from node.pixels.stored import StoredInstance, opened
from node.spool import Disk, Durability, Entry, Spool, State

RLE = Options()


class ApartDisk(Disk):
    """A disk whose archive cannot be reached by a link from the spool."""

    def link(self, source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool", Disk(Durability.NONE))
    for name in ("disk", "other"):
        spool.add_destination(name)
    return spool


def put(spool: Spool, uid: str = "1.1", seed: int = 1, options: Options = RLE) -> Entry:
    """Commit an instance and queue it for both destinations; return the entry of the first."""
    ds = instances.image(
        seed=seed, SOPInstanceUID=uid, StudyInstanceUID="1.2", SeriesInstanceUID="1.3"
    )
    meta = FileMeta(
        sop_class_uid=str(ds.SOPClassUID),
        sop_instance_uid=uid,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    scanned = scan(instances.encoded(ds), ExplicitVRLittleEndian)
    with spool.begin() as incoming:
        write_file(scanned, meta, incoming.file, options)
        entry = incoming.commit()
    spool.fan_out([entry], ["disk", "other"])
    # Not looked for in the queue: a loop may have delivered it already.
    path = spool.root / State.QUEUED / "disk" / entry.name
    return Entry(entry.name, State.QUEUED, path, "disk")


def test_two_destinations_on_one_folder_do_not_share_a_draft(tmp_path: Path, spool: Spool) -> None:
    entry = put(spool)
    [twin] = spool.queued("other")
    second = Archive("other", tmp_path / "archive", ApartDisk(Durability.FSYNC))

    class Interrupted(ApartDisk):
        def sync_file(self, descriptor: int) -> None:
            super().sync_file(descriptor)
            if twin.path.exists():
                # The other destination comes in while this draft is not yet published.
                assert isinstance(give(second, twin), Delivered)
                assert len(list((tmp_path / "archive").rglob(".*.part"))) == 1
                spool.delivered(twin)

    first = Archive("disk", tmp_path / "archive", Interrupted(Durability.NONE))
    assert isinstance(give(first, entry), Delivered)
    [placed] = [path for path in (tmp_path / "archive").rglob("*") if path.is_file()]
    assert placed.read_bytes() == entry.path.read_bytes()


def test_a_draft_of_an_earlier_run_with_our_number_is_left_alone(
    tmp_path: Path, spool: Spool
) -> None:
    entry = put(spool)
    folder = tmp_path / "archive" / "1.2" / "1.3"
    folder.mkdir(parents=True)
    left = folder / f".{entry.name}.{os.getpid()}-disk-0.part"
    left.write_bytes(b"half")
    to = Archive("disk", tmp_path / "archive", ApartDisk(Durability.NONE))
    assert give(to, entry) == Delivered(destination="disk", status=0)
    assert left.read_bytes() == b"half"
    assert (folder / "1.1.dcm").read_bytes() == entry.path.read_bytes()


class CountingDisk(Disk):
    """Records what is synced; the sync of the folder named `broken` fails."""

    def __init__(self, broken: str = "none") -> None:
        super().__init__(Durability.FSYNC)
        self.synced: list[str] = []
        self.broken = broken

    def sync_file(self, descriptor: int) -> None:
        self.synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        super().sync_file(descriptor)

    def sync_folder(self, folder: Path) -> None:
        if folder.name == self.broken:
            raise OSError(errno.EIO, "injected")
        self.synced.append(folder.name)
        super().sync_folder(folder)


def test_what_is_there_already_is_synced_before_it_counts(tmp_path: Path, spool: Spool) -> None:
    entry, disk = put(spool), CountingDisk(broken="1.3")
    place = tmp_path / "archive" / "1.2" / "1.3" / "1.1.dcm"
    to = Archive("disk", tmp_path / "archive", disk)
    assert isinstance(give(to, entry), Deferred)
    # Of a run that ended here.
    os.link(entry.path, place)
    assert isinstance(give(to, entry), Deferred)
    disk.broken = "none"
    disk.synced.clear()
    outcome = give(to, entry)
    assert outcome == Delivered(destination="disk", status=0, detail="there already")
    assert disk.synced == ["1.1.dcm", "1.3"]


def test_a_name_that_could_not_be_synced_is_made_again(tmp_path: Path, spool: Spool) -> None:
    """To sync it again could succeed though it is not on the disk."""
    entry, disk = put(spool), CountingDisk(broken="1.3")
    to = Archive("disk", tmp_path / "archive", disk)
    assert isinstance(give(to, entry), Deferred)
    assert not list((tmp_path / "archive").rglob("*.dcm"))
    disk.broken = "none"
    assert give(to, entry) == Delivered(destination="disk", status=0)


def test_a_folder_whose_name_could_not_be_synced_is_gone_again(tmp_path: Path) -> None:
    disk = CountingDisk(broken="1.2")
    with pytest.raises(OSError, match="injected"):
        disk.make_folder(tmp_path / "1.2" / "1.3")
    assert not (tmp_path / "1.2" / "1.3").exists()


def test_the_names_of_folders_that_were_there_are_synced_once(tmp_path: Path) -> None:
    folder = tmp_path / "1.2" / "1.3"
    folder.mkdir(parents=True)
    disk = CountingDisk()
    disk.make_folder(folder)
    assert disk.synced[-2:] == [tmp_path.name, "1.2"]
    disk.synced.clear()
    disk.make_folder(folder)
    assert disk.synced == []
    disk.make_folder(folder.parent / "1.4")
    assert disk.synced == ["1.2"]


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    disk = CountingDisk()
    disk.make_folder(tmp_path / "1.2")
    (tmp_path / "1.2").rmdir()
    disk.synced.clear()
    disk.make_folder(tmp_path / "1.2")
    assert disk.synced == [tmp_path.name]
    assert (tmp_path / "1.2").is_dir()


def test_what_is_remembered_of_folders_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.spool.durable._DURABLE_KEPT", 5)
    disk = Disk(Durability.FSYNC)
    for number in range(10):
        disk.make_folder(tmp_path / str(number))
    assert len(disk._durable) == 5
    assert disk._folders == {}


def test_the_same_received_content_is_there_already_however_it_was_encoded(
    tmp_path: Path, spool: Spool
) -> None:
    to = Archive("disk", tmp_path / "archive", Disk(Durability.NONE))
    give(to, put(spool, options=Options(transfer_syntax_uid="")))
    outcome = give(to, put(spool))
    assert outcome == Delivered(destination="disk", status=0, detail="there already")


def test_that_both_are_kept_is_logged_when_the_second_was_taken(
    tmp_path: Path, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    to = Archive("disk", tmp_path / "archive", Disk(Durability.NONE))
    for seed in (1, 2, 2):
        assert isinstance(give(to, put(spool, seed=seed)), Delivered)
    assert caplog.text.count("kept both") == 1


PEER = Peer(ae_title="PACS", host="127.0.0.1", port=1, calling_ae_title="DCMPRESS")


@pytest.mark.parametrize("came_compressed", [False, True])
def test_native_only_is_for_what_was_compressed_here(
    came_compressed: bool, tmp_path: Path, spool: Spool
) -> None:
    entry = put(spool)
    if came_compressed:
        with opened(entry.path) as instance:
            meta, data_set = instance.meta, bytes(instance.data_set)
        assert meta.record is not None
        kept = meta._replace(record=meta.record._replace(as_received=None))
        entry.path.write_bytes(encode(kept) + data_set)
    to = Forward("pacs", PEER, manner=Manner(native_only=True))
    with opened(entry.path) as instance:
        syntaxes = to._wanted(instance).transfer_syntax_uids
    assert syntaxes[0] == (RLELossless if came_compressed else ExplicitVRLittleEndian)
    assert (RLELossless in syntaxes) == came_compressed


class Poisoned:
    """A destination that raises, or is in doubt, for some instances and takes the others."""

    name = "disk"
    at_once = 1

    def __init__(self, bad: set[str], failure: Exception | None = None) -> None:
        self.bad = bad
        self.failure = failure
        self.asked: list[str] = []

    def settle(self) -> None:
        pass

    def begin(self, entries: Iterable[Entry]) -> None:
        raise UnicodeError("label empty or too long")

    def deliver(self, entry: Entry, instance: StoredInstance) -> Outcome:
        self.asked.append(entry.name)
        if entry.name not in self.bad:
            return Delivered(destination="disk", status=0)
        if self.failure:
            raise self.failure
        return Deferred(destination="disk", cause="ended", blame=Blame.UNCLEAR)

    def close(self) -> None:
        raise OSError(errno.EIO, "injected")


@contextlib.contextmanager
def running(spool: Spool, destination: Destination) -> Iterator[Loop]:
    stop = threading.Event()
    loop = Loop([destination], spool, Backoff(0.001, 0.002), stop)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    try:
        yield loop
        assert thread.is_alive()
    finally:
        stop.set()
        loop.ring()
        thread.join(10)


def _has_delivered(loop: Loop, count: int) -> bool:
    return loop.progress.delivered >= count


def causes(spool: Spool) -> list[str]:
    return [failed.cause for failed in spool.failed("disk")]


@pytest.mark.parametrize("poison", [1, 2, 4])
@pytest.mark.parametrize("failure", [None, RuntimeError("boom"), OSError(errno.EIO, "boom")])
def test_poison_does_not_block_the_others_and_is_set_aside(
    failure: Exception | None, poison: int, spool: Spool
) -> None:
    entries = [put(spool, f"1.{number}") for number in range(1, poison + 3)]
    destination = Poisoned({entry.name for entry in entries[:poison]}, failure)
    with running(spool, destination) as loop:
        wait_until(lambda: loop.progress.delivered == 2, "the others got through", 10)
        deadline = time.monotonic() + 30
        while any(entry.name in destination.bad for entry in spool.queued("disk")):
            wanted = loop.progress.delivered + 1
            put(spool, "1.100")
            loop.ring()
            wait_until(partial(_has_delivered, loop, wanted), "others get through", 10)
            assert time.monotonic() < deadline
    assert len(causes(spool)) == poison


def test_poison_without_others_is_not_set_aside(spool: Spool) -> None:
    entry = put(spool)
    destination = Poisoned({entry.name})
    with running(spool, destination):
        wait_until(lambda: len(destination.asked) > 20, "it is tried again and again", 10)
    assert causes(spool) == []
    assert list(spool.queued("disk")) == [entry]


def test_a_destination_that_fails_for_all_sets_none_aside(spool: Spool) -> None:
    entries = [put(spool, f"1.{number}") for number in range(1, 7)]
    destination = Poisoned({entry.name for entry in entries})
    with running(spool, destination):
        wait_until(lambda: len(destination.asked) > 60, "they are tried again", 10)
        assert causes(spool) == []
        destination.bad = set()
        wait_until(lambda: not list(spool.queued("disk")), "all are delivered", 10)
    assert causes(spool) == []


def test_what_was_delivered_and_not_removed_is_not_sent_again(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, real, times = put(spool), spool.delivered, iter(range(3))

    def broken(one: Entry) -> None:
        if next(times, None) is not None:
            raise OSError(errno.EIO, "injected")
        real(one)

    monkeypatch.setattr(spool, "delivered", broken)
    destination = Poisoned(set())
    with running(spool, destination):
        wait_until(lambda: not list(spool.queued("disk")), "it is removed", 10)
    assert destination.asked == [entry.name]


def test_an_entry_without_its_record_is_damaged(spool: Spool) -> None:
    entry = put(spool)
    with opened(entry.path) as instance:
        meta, data_set = instance.meta, bytes(instance.data_set)
    entry.path.write_bytes(encode(meta._replace(record=None)) + data_set)
    destination = Poisoned(set())
    with running(spool, destination):
        wait_until(lambda: not list(spool.queued("disk")), "it is set aside", 10)
    assert destination.asked == []
    assert [path.name for path in (spool.root / "corrupt" / "disk").iterdir()] == [entry.name]


def deferred(cause: str, blame: Blame) -> Outcome:
    return Deferred(destination="pacs", cause=cause, blame=blame)


FAILURES: dict[str, tuple[StoreResponse | NodeError, Outcome]] = {
    "ended": (AssociationEnded("gone"), deferred("gone", Blame.UNCLEAR)),
    "slow": (PeerTooSlow("slow"), deferred("slow", Blame.UNCLEAR)),
    "full": (StoreResponse(0xA700), deferred("A700 (out of resources)", Blame.ROOM)),
    "down": (
        PeerUnreachable("no"),
        deferred("no", Blame.DESTINATION),
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_a_failure_while_sending_means(
    case: str, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, outcome = FAILURES[case]

    def send(_: StoredInstance) -> StoreResponse:
        if isinstance(answer, StoreResponse):
            return answer
        raise answer

    to = Forward("pacs", PEER)
    monkeypatch.setattr(to, "send", send)
    assert give(to, put(spool)) == outcome
