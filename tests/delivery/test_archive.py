"""A disk destination: names, duplicates, other file systems, folders that cannot be written."""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path

import instances
import pytest
from delivery.giving import give
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.delivery.archive import Archive
from node.dicom.part10 import FileMeta
from node.dicom.scan import scan
from node.model import Blame, Deferred, Delivered, Failed
from node.pixels.files import write_file
from node.pixels.policy import Options
from node.pixels.stored import opened
from node.spool import Disk, Durability, Entry, Spool

NO_LINKS = {
    "another file system": errno.EXDEV,
    "no hard links": errno.EPERM,
    "not supported": errno.EOPNOTSUPP,
    "too many": errno.EMLINK,
}

RLE = Options()
AS_RECEIVED = Options(transfer_syntax_uid="")


class ApartDisk(Disk):
    """A disk whose archive cannot be reached by a link from the spool."""

    def __init__(self, error: int) -> None:
        super().__init__(Durability.FSYNC)
        self.error = error

    def link(self, source: Path, target: Path) -> None:
        raise OSError(self.error, os.strerror(self.error))


def put(
    spool: Spool,
    ds: Dataset,
    *,
    uid: str | None = None,
    syntax: str = "",
    options: Options = RLE,
) -> Entry:
    """Commit `ds` and queue it; `uid` is what its File Meta says where that is another."""
    syntax = syntax or ExplicitVRLittleEndian
    meta = FileMeta(
        sop_class_uid=str(ds.SOPClassUID),
        sop_instance_uid=uid or str(ds.SOPInstanceUID),
        transfer_syntax_uid=syntax,
    )
    with spool.begin() as incoming:
        write_file(scan(instances.encoded(ds, syntax), syntax), meta, incoming.file, options)
        entry = incoming.commit()
    spool.fan_out([entry], ["disk"])
    return list(spool.queued("disk"))[-1]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool", Disk(Durability.FSYNC))
    spool.add_destination("disk")
    return spool


def archive(root: Path, disk: Disk | None = None) -> Archive:
    return Archive("disk", root, disk or Disk(Durability.FSYNC))


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


PLACES: dict[str, tuple[dict[str, str], str]] = {
    "both": ({"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}, "1.2/1.3"),
    "no series": ({"StudyInstanceUID": "1.2", "SeriesInstanceUID": ""}, "1.2/unknown"),
    "neither": ({"StudyInstanceUID": "", "SeriesInstanceUID": ""}, "unknown/unknown"),
}


@pytest.mark.parametrize("case", PLACES)
def test_place(case: str, tmp_path: Path, spool: Spool) -> None:
    uids, folder = PLACES[case]
    ds = instances.image(**uids)
    outcome = give(archive(tmp_path / "disk"), put(spool, ds))
    assert outcome == Delivered(destination="disk", status=0)
    assert names(tmp_path / "disk") == [f"{folder}/{ds.SOPInstanceUID}.dcm"]


BAD = ("../../x", "..", ".", "/etc/passwd", "1.2\n3", "a", "1.2/3", "~", "1." + "1" * 63, "con")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("uid", BAD)
def test_what_is_no_uid_never_becomes_a_name(
    uid: str, keyword: str, tmp_path: Path, spool: Spool
) -> None:
    """Receipt has checked it already; the archive does not rely on that."""
    entry = put(spool, instances.image(**{keyword: uid}))
    before = names(tmp_path)
    outcome = give(archive(tmp_path / "disk"), entry)
    assert outcome == Failed(destination="disk", cause="a UID of the instance is no UID")
    assert names(tmp_path) == before


@pytest.mark.parametrize("uid", BAD)
def test_nor_does_it_from_file_meta(uid: str, tmp_path: Path, spool: Spool) -> None:
    entry = put(spool, instances.image(), uid=uid)
    assert isinstance(give(archive(tmp_path / "disk"), entry), Failed)
    assert not (tmp_path / "disk").exists()


@pytest.mark.parametrize("error", [None, *NO_LINKS])
def test_duplicates(error: str | None, tmp_path: Path, spool: Spool) -> None:
    disk = ApartDisk(NO_LINKS[error]) if error else None
    to = archive(tmp_path / "disk", disk)
    ds = instances.image(StudyInstanceUID="1.2", SeriesInstanceUID="1.3")
    other = instances.image(seed=2, StudyInstanceUID="1.2", SeriesInstanceUID="1.3")
    other.SOPInstanceUID = ds.SOPInstanceUID
    details = []
    for sent in (ds, ds, other, other, ds):
        outcome = give(to, put(spool, sent))
        assert isinstance(outcome, Delivered)
        details.append(outcome.detail)
    assert details == ["", "there already", "kept both", "kept both", "there already"]
    first, second = names(tmp_path / "disk")
    assert first == f"1.2/1.3/{ds.SOPInstanceUID}.dcm"
    assert second.startswith(f"1.2/1.3/{ds.SOPInstanceUID}~")


@pytest.mark.parametrize("order", [(RLE, AS_RECEIVED), (AS_RECEIVED, RLE)])
def test_the_same_instance_stored_in_two_ways_is_one(
    order: tuple[Options, Options], tmp_path: Path, spool: Spool
) -> None:
    to = archive(tmp_path / "disk")
    ds = instances.image(StudyInstanceUID="1.2", SeriesInstanceUID="1.3")
    first, second = (give(to, put(spool, ds, options=options)) for options in order)
    assert isinstance(first, Delivered)
    assert isinstance(second, Delivered)
    assert second.detail == "there already"


def test_files_of_one_folder_cost_one_sync(tmp_path: Path, spool: Spool) -> None:
    class Counting(Disk):
        def sync_folder(self, folder: Path) -> None:
            synced.append(folder.name)
            super().sync_folder(folder)

    synced: list[str] = []
    to = archive(tmp_path / "disk", Counting(Durability.FSYNC))
    give(to, put(spool, instances.image(StudyInstanceUID="1.2", SeriesInstanceUID="1.3")))
    synced.clear()
    for number in range(10):
        uids = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
        with opened(put(spool, instances.image(seed=number, **uids)).path) as instance:
            entry = list(spool.queued("disk"))[-1]
            assert isinstance(to.deliver(entry, instance), Delivered)
    assert synced == []
    assert to.settle() is None
    assert synced == ["1.3"]
    assert to.settle() is None
    assert synced == ["1.3"]


def test_a_checksum_that_agrees_is_no_proof(tmp_path: Path, spool: Spool) -> None:
    to = archive(tmp_path / "disk")
    ds = instances.image(StudyInstanceUID="1.2", SeriesInstanceUID="1.3")
    assert isinstance(give(to, put(spool, ds)), Delivered)
    before = zlib.crc32(instances.encoded(ds, ExplicitVRLittleEndian))
    # The polynomial of CRC-32, added anywhere, leaves the remainder as it was.
    polynomial = int(f"{0x104C11DB7:b}"[::-1], 2).to_bytes(5, "little")
    changed = bytearray(ds.PixelData)
    changed[100:105] = bytes(a ^ b for a, b in zip(changed[100:105], polynomial, strict=True))
    ds.PixelData = bytes(changed)
    assert zlib.crc32(instances.encoded(ds, ExplicitVRLittleEndian)) == before
    outcome = give(to, put(spool, ds))
    assert isinstance(outcome, Delivered)
    assert outcome.detail == "kept both"


@pytest.mark.parametrize("error", [None, *NO_LINKS])
def test_the_file_is_whole(error: str | None, tmp_path: Path, spool: Spool) -> None:
    disk = ApartDisk(NO_LINKS[error]) if error else None
    entry = put(spool, instances.image(), syntax=ImplicitVRLittleEndian)
    give(archive(tmp_path / "disk", disk), entry)
    [name] = names(tmp_path / "disk")
    placed = tmp_path / "disk" / name
    assert placed.read_bytes() == entry.path.read_bytes()
    assert placed.stat().st_mode & 0o777 == 0o600
    assert placed.samefile(entry.path) == (error is None)


def test_a_copy_that_is_interrupted_leaves_nothing_and_is_made_again(
    tmp_path: Path, spool: Spool
) -> None:
    class Full(ApartDisk):
        def sync_file(self, descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    entry = put(spool, instances.image())
    outcome = give(archive(tmp_path / "disk", Full(errno.EXDEV)), entry)
    assert isinstance(outcome, Deferred)
    assert outcome.blame is Blame.DESTINATION
    assert "No space left" in outcome.cause
    assert names(tmp_path / "disk") == []
    assert entry.path.is_file()
    again = give(archive(tmp_path / "disk", ApartDisk(errno.EXDEV)), entry)
    assert again == Delivered(destination="disk", status=0)


def test_what_a_crash_left_of_a_copy_is_no_hindrance(tmp_path: Path, spool: Spool) -> None:
    ds = instances.image(StudyInstanceUID="1.2", SeriesInstanceUID="1.3")
    entry = put(spool, ds)
    folder = tmp_path / "disk" / "1.2" / "1.3"
    folder.mkdir(parents=True)
    (folder / f".{entry.name}.part").write_bytes(b"half")
    outcome = give(archive(tmp_path / "disk", ApartDisk(errno.EXDEV)), entry)
    assert outcome == Delivered(destination="disk", status=0)
    assert names(tmp_path / "disk") == [f"1.2/1.3/{ds.SOPInstanceUID}.dcm"]


THERE = {
    "no DICOM file": b"something else",
    "an empty file": b"",
    "a file of others": bytes(128) + b"DICM" + b"\x02\x00\x10\x00UI\x02\x001\0",
}


@pytest.mark.parametrize("case", THERE)
def test_what_is_there_already_is_never_replaced(case: str, tmp_path: Path, spool: Spool) -> None:
    ds = instances.image(StudyInstanceUID="1.2", SeriesInstanceUID="1.3")
    place = tmp_path / "disk" / "1.2" / "1.3" / f"{ds.SOPInstanceUID}.dcm"
    place.parent.mkdir(parents=True)
    place.write_bytes(THERE[case])
    outcome = give(archive(tmp_path / "disk"), put(spool, ds))
    assert outcome == Delivered(destination="disk", status=0, detail="kept both")
    assert place.read_bytes() == THERE[case]
    assert len(names(tmp_path / "disk")) == 2


def test_a_link_that_is_there_is_neither_followed_nor_a_reason_to_stop(
    tmp_path: Path, spool: Spool
) -> None:
    ds = instances.image(StudyInstanceUID="1.2", SeriesInstanceUID="1.3")
    place = tmp_path / "disk" / "1.2" / "1.3" / f"{ds.SOPInstanceUID}.dcm"
    place.parent.mkdir(parents=True)
    target = tmp_path / "elsewhere"
    target.write_bytes(b"of somebody")
    place.symlink_to(target)
    outcome = give(archive(tmp_path / "disk"), put(spool, ds))
    assert outcome == Delivered(destination="disk", status=0, detail="kept both")
    assert target.read_bytes() == b"of somebody"
    assert place.is_symlink()


def test_a_file_that_went_bad_is_not_taken_for_the_same(tmp_path: Path, spool: Spool) -> None:
    """Its header still has the digest; its content has not."""
    ds = instances.image()
    to = archive(tmp_path / "disk", ApartDisk(errno.EXDEV))
    give(to, put(spool, ds))
    [name] = names(tmp_path / "disk")
    placed = tmp_path / "disk" / name
    content = bytearray(placed.read_bytes())
    content[-5] ^= 1
    placed.write_bytes(content)
    outcome = give(to, put(spool, ds))
    assert outcome == Delivered(destination="disk", status=0, detail="kept both")
    assert len(names(tmp_path / "disk")) == 2


def test_a_folder_that_cannot_be_made_puts_the_destination_off(
    tmp_path: Path, spool: Spool
) -> None:
    (tmp_path / "disk").write_bytes(b"a file where a folder should be")
    outcome = give(archive(tmp_path / "disk"), put(spool, instances.image()))
    assert isinstance(outcome, Deferred)
    assert outcome.blame is Blame.DESTINATION
    assert outcome.cause == "its folder cannot be written: File exists"


def shared_by_two(spool: Spool, path: Path) -> tuple[list[Entry], list[Archive]]:
    """One entry that waits for two folders, and these."""
    spool.add_destination("second")
    with spool.begin() as incoming:
        meta = FileMeta("1.2.3", "1.1", ExplicitVRLittleEndian)
        ds = instances.image(SOPInstanceUID="1.1", SOPClassUID="1.2.3")
        write_file(scan(instances.encoded(ds), ExplicitVRLittleEndian), meta, incoming.file, RLE)
        entry = incoming.commit()
    spool.fan_out([entry], ["disk", "second"])
    archives = [
        Archive(name, path / name, spool.disk, is_shared=spool.is_shared)
        for name in ("disk", "second")
    ]
    return [next(spool.queued(each.name)) for each in archives], archives


def test_who_edits_a_file_does_not_edit_what_waits_for_others(tmp_path: Path, spool: Spool) -> None:
    (first, second), (to_first, to_second) = shared_by_two(spool, tmp_path)
    assert give(to_first, first) == Delivered(destination="disk", status=0)
    spool.delivered(first)
    [place] = (tmp_path / "disk").rglob("*.dcm")
    content = place.read_bytes()
    with place.open("r+b") as edited:
        edited.write(bytes(400))
    assert give(to_second, second) == Delivered(destination="second", status=0)
    [other] = (tmp_path / "second").rglob("*.dcm")
    assert other.read_bytes() == content


def test_the_last_who_has_it_gets_the_file_itself(tmp_path: Path, spool: Spool) -> None:
    (first, second), (to_first, to_second) = shared_by_two(spool, tmp_path)
    inode = second.path.stat().st_ino
    assert spool.is_shared(first)
    give(to_first, first)
    spool.delivered(first)
    assert not spool.is_shared(second)
    give(to_second, second)
    spool.delivered(second)
    [place] = (tmp_path / "second").rglob("*.dcm")
    assert (place.stat().st_ino, place.stat().st_nlink) == (inode, 1)


def test_one_that_others_failed_or_may_yet_get_is_shared(tmp_path: Path, spool: Spool) -> None:
    (first, second), _ = shared_by_two(spool, tmp_path)
    spool.refused(second, "it will not take it")
    assert spool.is_shared(first)
    spool.drop(next(iter(spool.failed("second"))).entry)
    assert not spool.is_shared(first)
    # Fan-out is under way: the queue of the other is not written yet.
    os.link(first.path, spool.root / "received" / first.name)
    assert spool.is_shared(first)


def test_a_fifo_where_the_file_belongs_holds_nobody_up(tmp_path: Path, spool: Spool) -> None:
    entry = put(spool, instances.image(SOPInstanceUID="1.1"))
    give(archive(tmp_path / "archive"), entry)
    [place] = (tmp_path / "archive").rglob("*.dcm")
    place.unlink()
    os.mkfifo(place)
    outcome = give(archive(tmp_path / "archive"), entry)
    assert outcome == Delivered(destination="disk", status=0, detail="kept both")
