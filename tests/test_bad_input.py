"""Bad input gets a clear answer, nothing of it is visible on disk, and the next is served."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import instances
import numpy as np
import peers
import pytest
from conftest import StartNode, disk, pacs
from hostile.data_sets import DEFLATED, LONG, REFUSED, TAKEN, UID, bad_one
from network.raw_peer import (
    RawPeer,
    associate_rq,
    context,
    message,
    reject,
    status,
    store_rq,
)
from peers import connected, send, storescu, wait_until
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
)

from node.network.data_set import Assembly
from node.service.node import Node
from node.settings import Peer

# -- who may not send ----------------------------------------------------------------------------

ACCEPTED = "A-ASSOCIATE-AC"
ONLY_CT1 = {"peers": (Peer(ae_title="CT1", address="127.0.0.0/8"),)}
ASSOCIATIONS: dict[str, tuple[dict[str, Any], bytes, bytes, str]] = {
    "our AE title": ({}, b"DCMPRESS", b"CT1", ACCEPTED),
    "another AE title": ({}, b"ANOTHER", b"CT1", reject(1, 1, 7)),
    "our AE title in small letters": ({}, b"dcmpress", b"CT1", reject(1, 1, 7)),
    "more than our AE title": ({}, b"DCMPRESS2", b"CT1", reject(1, 1, 7)),
    "no AE title": ({}, b"", b"CT1", reject(1, 1, 7)),
    "on the list of peers": (ONLY_CT1, b"DCMPRESS", b"CT1", ACCEPTED),
    "not on the list of peers": (ONLY_CT1, b"DCMPRESS", b"CT2", reject(1, 1, 3)),
    "on the list, from elsewhere": (
        {"peers": (Peer(ae_title="CT1", address="10.0.0.0/24"),)},
        b"DCMPRESS",
        b"CT1",
        reject(1, 1, 3),
    ),
    "any peer": ({**ONLY_CT1, "node": {"any_peer": True}}, b"DCMPRESS", b"CT2", ACCEPTED),
    "too little disk space is left": (
        {"spool": {"reserve_bytes": 1 << 50}},
        b"DCMPRESS",
        b"CT1",
        reject(2, 3, 1),
    ),
}


@pytest.mark.parametrize("case", ASSOCIATIONS)
def test_who_may_have_an_association(case: str, tmp_path: Path, start_node: StartNode) -> None:
    sections, called, calling, answer = ASSOCIATIONS[case]
    node = start_node(disk(tmp_path / "disk"), **sections)
    with RawPeer(node.address) as peer:
        peer.send([associate_rq(called=called, calling=calling)])
        assert peer.receive() == answer


def test_one_association_more_than_a_peer_may_have(tmp_path: Path, start_node: StartNode) -> None:
    node = start_node(disk(tmp_path / "disk"), limits={"associations_per_peer": 1})
    request = associate_rq(called=b"DCMPRESS")
    with RawPeer(node.address) as first, RawPeer(node.address) as second:
        first.send([request])
        assert first.receive() == ACCEPTED
        second.send([request])
        assert second.receive() == reject(2, 3, 2)


@pytest.mark.peer
def test_a_modality_is_told_that_it_called_a_wrong_title(
    tmp_path: Path, start_node: StartNode
) -> None:
    node = start_node(disk(tmp_path / "disk"))
    file = instances.as_file(tmp_path / "in.dcm", instances.image())
    sent = storescu(node.address[1], file, called="WRONG")
    assert sent.returncode != 0
    assert "Called AE Title Not Recognized" in sent.stdout + sent.stderr


# -- instances that are not taken ----------------------------------------------------------------


def visible(node: Node, *folders: Path) -> list[Path]:
    """Every file of an instance or a part of one, in the spool and elsewhere."""
    found = []
    for folder in (node.spool.root, *folders):
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix in (".dcm", ".part"):
                found.append(path)
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_taken_leaves_nothing_and_the_next_is_taken(
    case: str, tmp_path: Path, start_node: StartNode
) -> None:
    command_uid, data_set, code = bad_one(case)
    node = start_node(disk(tmp_path / "disk"))
    scu = connected(node.address[1], (CTImageStorage, ExplicitVRLittleEndian))
    response = scu.send(CTImageStorage, command_uid, ExplicitVRLittleEndian, [data_set])
    assert response.status == code
    assert response.comment
    # No value of a peer comes back as text of ours.
    assert not any(value in response.comment for value in REFUSED[case][0].values() if value)
    assert visible(node, tmp_path / "disk") == []
    good = instances.image()
    uids = CTImageStorage, str(good.SOPInstanceUID)
    answered = scu.send(*uids, ExplicitVRLittleEndian, [instances.encoded(good)])
    scu.close()
    assert answered.status == 0
    wait_until(lambda: node.progress["disk"].delivered == 1, "the good one is on disk")
    assert list(instances.data_sets_in(tmp_path / "disk")) == [uids[1]]


@pytest.mark.filterwarnings("ignore")
def test_a_relay_takes_none_of_them_either(start_node: StartNode) -> None:
    given = {"sop_classes": [CTImageStorage], "transfer_syntaxes": [ExplicitVRLittleEndian]}
    with peers.downstream(**given) as archive:
        node = start_node(pacs(archive.port, mode="relay"))
        scu = connected(node.address[1], (CTImageStorage, ExplicitVRLittleEndian))
        for case in REFUSED:
            command_uid, data_set, code = bad_one(case)
            sent = CTImageStorage, command_uid, ExplicitVRLittleEndian, [data_set]
            assert scu.send(*sent).status == code, case
        assert visible(node) == []
        scu.close()
        good = instances.image()
        assert send(node.address[1], good) == 0
    assert [uid for uid, _, _ in archive.received] == [str(good.SOPInstanceUID)]


def test_a_uid_of_65_characters_in_the_command(tmp_path: Path, start_node: StartNode) -> None:
    """Sent by a requestor that cuts nothing off."""
    node = start_node(disk(tmp_path / "disk"))
    explicit = ExplicitVRLittleEndian.encode()
    data_set = instances.encoded(instances.image(SOPInstanceUID=UID))
    with RawPeer(node.address) as peer:
        peer.send([associate_rq(context(1, transfer=[explicit]), called=b"DCMPRESS")])
        assert peer.receive() == ACCEPTED
        peer.send([message(1, store_rq(sop_instance=LONG.encode()), data_set)])
        assert peer.receive() == status(0x0117)
    assert visible(node, tmp_path / "disk") == []


@pytest.mark.parametrize("memory_bytes", [0, 16 << 20], ids=["spilled", "in memory"])
def test_an_instance_that_is_larger_than_this_node_takes(
    memory_bytes: int, tmp_path: Path, start_node: StartNode
) -> None:
    limits = {"instance_bytes": 100_000, "memory_bytes": memory_bytes}
    node = start_node(disk(tmp_path / "disk"), limits=limits)
    scu = connected(node.address[1], (CTImageStorage, ExplicitVRLittleEndian))
    answers = []
    for ds in (noisy(), instances.image()):
        uids = CTImageStorage, str(ds.SOPInstanceUID)
        data_set = instances.encoded(ds)
        answers.append(scu.send(*uids, ExplicitVRLittleEndian, [data_set]).status)
    scu.close()
    assert answers == [0xA700, 0]


@pytest.mark.parametrize("case", DEFLATED)
def test_deflated_data_sets_that_are_not_taken(
    case: str, tmp_path: Path, start_node: StartNode
) -> None:
    spoil, code = DEFLATED[case]
    node = start_node(disk(tmp_path / "disk"))
    scu = connected(node.address[1], (CTImageStorage, DeflatedExplicitVRLittleEndian))
    data_set = spoil(instances.encoded(instances.image(SOPInstanceUID=UID)))
    response = scu.send(CTImageStorage, UID, DeflatedExplicitVRLittleEndian, [data_set])
    assert response.status == code
    scu.close()
    assert visible(node, tmp_path / "disk") == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", TAKEN)
def test_what_is_odd_but_whole_is_not_lost(
    case: str, tmp_path: Path, start_node: StartNode
) -> None:
    ds, data_set = TAKEN[case]()
    node = start_node(disk(tmp_path / "disk"))
    scu = connected(node.address[1], (CTImageStorage, ExplicitVRLittleEndian))
    uid = str(ds.SOPInstanceUID)
    assert scu.send(CTImageStorage, uid, ExplicitVRLittleEndian, [data_set]).status == 0
    scu.close()
    wait_until(lambda: node.progress["disk"].delivered == 1, "on disk")
    [path] = (tmp_path / "disk").rglob("*.dcm")
    assert path.name == f"{uid}.dcm"
    if "Study" in case:
        assert path.is_relative_to(tmp_path / "disk" / "unknown")
    if "pixel data" in case or "rows" in case:
        assert instances.data_sets_in(tmp_path / "disk")[uid][1] == data_set


def test_a_modality_that_dies_in_mid_object_leaves_nothing(
    tmp_path: Path, start_node: StartNode
) -> None:
    node = start_node(disk(tmp_path / "disk"), limits={"memory_bytes": 0})
    ds = instances.image(rows=400, columns=400)
    whole = instances.encoded(ds)
    for sent in (1, 100, 16 * 1024, len(whole) - 1):
        scu = connected(node.address[1], (CTImageStorage, ExplicitVRLittleEndian))

        def dies(end: int = sent) -> Iterator[bytes]:
            yield whole[:end]
            raise ConnectionAbortedError

        with pytest.raises(ConnectionAbortedError):
            scu.send(CTImageStorage, str(ds.SOPInstanceUID), ExplicitVRLittleEndian, dies())
    wait_until(lambda: not visible(node, tmp_path / "disk"), "nothing is left")
    assert node.tally.instances == 0
    assert send(node.address[1], ds) == 0


# -- disks that fail -----------------------------------------------------------------------------


def noisy() -> Dataset:
    """300 kB that cannot be made smaller."""
    ds = instances.image(rows=400, columns=400)
    ds.PixelData = np.random.default_rng(5).bytes(len(ds.PixelData))
    return ds


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes, where we may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    if not _mount(folder, "size=2m"):
        pytest.skip("no permission to mount a small file system")
    yield folder
    ctypes.CDLL(None).umount2(str(folder).encode(), 2)


def free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _mount(folder: Path, options: str, flags: int = 0) -> bool:
    mount = ctypes.CDLL(None, use_errno=True).mount
    return mount(b"tmpfs", str(folder).encode(), b"tmpfs", flags, options.encode()) == 0


@pytest.mark.parametrize("memory_bytes", [0, 16 << 20], ids=["spilled", "in memory"])
def test_a_full_disk_is_said_and_loses_nothing_that_was_acknowledged(
    memory_bytes: int, small_disk: Path, start_node: StartNode
) -> None:
    """Also where the data set is spilled to the disk that is full while it arrives."""
    node = start_node(
        pacs(peers.free_port()),
        node={"state_directory": small_disk},
        limits={"memory_bytes": memory_bytes},
    )
    scu = connected(node.address[1], (CTImageStorage, ExplicitVRLittleEndian))
    taken, refused = [], []
    while len(refused) < 3:
        ds = noisy()
        uids = CTImageStorage, str(ds.SOPInstanceUID)
        answer = scu.send(*uids, ExplicitVRLittleEndian, [instances.encoded(ds)])
        assert answer.status in (0, 0xA700)
        if answer.status:
            refused.append(answer.comment)
        else:
            taken.append(uids[1])
        assert len(taken) < 10
    assert all("No space left" in comment for comment in refused)
    assert taken
    wait_until(lambda: not list(node.spool.received()), "queued")
    kept = list(node.spool.queued("pacs"))
    assert [instances.parts_of(entry.path)[0].MediaStorageSOPInstanceUID for entry in kept] == taken
    assert sorted(visible(node)) == sorted(entry.path for entry in kept)
    # Room is made, for the arriving and the stored one, and the same association goes on.
    room = free_bytes(small_disk) + sum(entry.path.stat().st_size for entry in kept[:2])
    for entry in kept[:2]:
        node.spool.delivered(entry)
    # One that is just being tried is open, and has its room until that is over.
    wait_until(lambda: free_bytes(small_disk) >= room, "room is made")
    ds = noisy()
    uids = CTImageStorage, str(ds.SOPInstanceUID)
    assert scu.send(*uids, ExplicitVRLittleEndian, [instances.encoded(ds)]).status == 0
    scu.close()


def test_a_write_that_fails_is_said(tmp_path: Path, start_node: StartNode) -> None:
    """The largest file that may be written is smaller than the instance."""
    node = start_node(disk(tmp_path / "disk"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ds = noisy()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        assert send(node.address[1], ds) == 0xA700
        assert visible(node, tmp_path / "disk") == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert send(node.address[1], ds) == 0


@pytest.mark.parametrize(
    "ds", [noisy(), instances.image(rows=400, columns=400)], ids=["kept", "encoded"]
)
def test_a_disk_that_gives_back_other_bytes_of_a_large_instance(
    ds: Dataset, tmp_path: Path, start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is spilled while it arrives is compared with what arrived."""
    node = start_node(disk(tmp_path / "disk"), limits={"memory_bytes": 0})
    real = Assembly._write_all

    def lying(self: Assembly, data: memoryview) -> None:
        at = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        real(self, data)
        if at <= 100_000 < at + len(data):
            os.pwrite(self._descriptor, bytes([data[100_000 - at] ^ 1]), 100_000)

    monkeypatch.setattr(Assembly, "_write_all", lying)
    assert send(node.address[1], ds) == 0xA700
    assert visible(node, tmp_path / "disk") == []
    monkeypatch.undo()
    assert send(node.address[1], ds) == 0


def take_away(folder: Path) -> Callable[[], object]:
    folder.rename(folder.with_name("away"))
    return lambda: folder.with_name("away").rename(folder)


def forbid(folder: Path) -> Callable[[], object]:
    if os.geteuid() == 0:
        pytest.skip("to root nothing is forbidden")
    folder.chmod(0o500)
    return lambda: folder.chmod(0o700)


@pytest.mark.parametrize("spoil", [take_away, forbid])
def test_a_spool_that_cannot_be_written_is_said(
    spoil: Callable[[Path], Callable[[], object]], tmp_path: Path, start_node: StartNode
) -> None:
    node = start_node(disk(tmp_path / "disk"))
    mend = spoil(node.spool.root / "arriving")
    assert send(node.address[1], instances.image()) == 0xA700
    mend()
    assert send(node.address[1], instances.image()) == 0


def test_a_spool_whose_disk_is_gone_is_said(tmp_path: Path, start_node: StartNode) -> None:
    """An association that was there before sees A700, a new one is rejected."""
    node = start_node(disk(tmp_path / "disk"))
    scu = connected(node.address[1], (CTImageStorage, ExplicitVRLittleEndian))
    ds = instances.image()
    sent = CTImageStorage, str(ds.SOPInstanceUID), ExplicitVRLittleEndian, [instances.encoded(ds)]
    gone = tmp_path / "gone"
    node.spool.root.rename(gone)
    assert scu.send(*sent).status == 0xA700
    with RawPeer(node.address) as peer:
        peer.send([associate_rq(called=b"DCMPRESS")])
        assert peer.receive() == reject(2, 3, 1)
    gone.rename(node.spool.root)
    assert scu.send(*sent).status == 0
    scu.close()


def test_the_reserve_is_kept_on_a_running_association_too(
    small_disk: Path, start_node: StartNode
) -> None:
    """As the help of spool.reserve_bytes says: instances are refused with A700."""
    node = start_node(
        pacs(peers.free_port()),
        node={"state_directory": small_disk},
        spool={"reserve_bytes": 1 << 20},
    )
    scu = connected(node.address[1], (CTImageStorage, ExplicitVRLittleEndian))
    statuses = []
    for _ in range(5):
        ds = noisy()
        uids = CTImageStorage, str(ds.SOPInstanceUID)
        data_set = instances.encoded(ds)
        statuses.append(scu.send(*uids, ExplicitVRLittleEndian, [data_set]).status)
    scu.close()
    assert statuses[0] == 0
    assert statuses[-1] == 0xA700
    free = os.statvfs(small_disk)
    assert free.f_bavail * free.f_frsize > 600_000
