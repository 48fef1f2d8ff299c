"""Delivery when something else goes wrong at the same time: other writers, stops, poison."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import instances
import pytest
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from node.delivery.archive import Archive
from node.delivery.forward import Forward
from node.dicom.part10 import FileMeta, encode
from node.dicom.scan import scan
from node.model import Deferred, Delivered
from node.network.store_scu import Peer
from node.pixels.files import write_file
from node.pixels.policy import Options
from node.pixels.stored import opened
from node.spool import Disk, Durability, Entry, Spool


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


def put(spool: Spool, uid: str = "1.1", seed: int = 1) -> Entry:
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
        write_file(scanned, meta, incoming.file, Options())
        entry = incoming.commit()
    spool.fan_out([entry], ["disk", "other"])
    return list(spool.queued("disk"))[-1]


def test_two_destinations_on_one_folder_do_not_share_a_draft(tmp_path: Path, spool: Spool) -> None:
    entry = put(spool)
    [twin] = spool.queued("other")
    second = Archive("other", tmp_path / "archive", ApartDisk(Durability.FSYNC))

    class Interrupted(ApartDisk):
        def sync_file(self, descriptor: int) -> None:
            super().sync_file(descriptor)
            if twin.path.exists():
                # The other destination comes in while this draft is not yet published.
                assert isinstance(second.deliver(twin), Delivered)
                assert len(list((tmp_path / "archive").rglob(".*.part"))) == 1
                spool.delivered(twin)

    first = Archive("disk", tmp_path / "archive", Interrupted(Durability.NONE))
    assert isinstance(first.deliver(entry), Delivered)
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
    assert to.deliver(entry) == Delivered(destination="disk", status=0)
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
    to = Archive("disk", tmp_path / "archive", disk)
    assert isinstance(to.deliver(entry), Deferred)
    assert isinstance(to.deliver(entry), Deferred)
    disk.broken = "none"
    disk.synced.clear()
    outcome = to.deliver(entry)
    assert outcome == Delivered(destination="disk", status=0, detail="there already")
    assert disk.synced == ["1.1.dcm", "1.3"]


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
    to.deliver(put(spool))
    [placed] = (tmp_path / "archive").rglob("*.dcm")
    _reseal(placed)
    outcome = to.deliver(put(spool))
    assert outcome == Delivered(destination="disk", status=0, detail="there already")


def _reseal(path: Path) -> None:
    """Append a padding element, as another encoder might, and seal the file again."""
    with opened(path) as instance:
        meta, data_set = instance.meta, bytes(instance.data_set)
    assert meta.record is not None
    assert meta.record.as_received is not None
    data_set += b"\xfc\xff\xfc\xffOB\0\0\2\0\0\0\0\0"
    record = replace(meta.record, sha256=hashlib.sha256(data_set).hexdigest())
    path.unlink()
    path.write_bytes(encode(replace(meta, record=record)) + data_set)


def test_that_both_are_kept_is_logged_when_the_second_was_taken(
    tmp_path: Path, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    to = Archive("disk", tmp_path / "archive", Disk(Durability.NONE))
    for seed in (1, 2, 2):
        assert isinstance(to.deliver(put(spool, seed=seed)), Delivered)
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
        kept = replace(meta, record=replace(meta.record, as_received=None))
        entry.path.write_bytes(encode(kept) + data_set)
    to = Forward("pacs", PEER, native_only=True)
    with opened(entry.path) as instance:
        syntaxes = to._wanted(instance).transfer_syntax_uids
    assert syntaxes[0] == (RLELossless if came_compressed else ExplicitVRLittleEndian)
    assert (RLELossless in syntaxes) == came_compressed
