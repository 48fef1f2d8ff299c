"""The known attacks on DICOM receivers, each played against a running node (CVEs in the names).

What they have in common: afterwards the node serves, nothing lies outside its folders, and what it
took is as it came.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import instances
import pytest
from conftest import StartNode, disk, pacs
from hostile.usage import usage
from network.raw_peer import ABORT, RawPeer, associate_rq, context, reject
from peers import connected, downstream, send, wait_until
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless

from node.service.node import Node
from node.settings import Peer

ACCEPTED = "A-ASSOCIATE-AC"


def serves(node: Node) -> None:
    assert send(node.address[1], instances.image()) == 0


def files_below(folder: Path) -> set[Path]:
    return {Path(at, name) for at, _, names in os.walk(folder) for name in names}


def outside(folder: Path, node: Node) -> set[Path]:
    """Files below `folder` that are neither in the node's state nor in the archive."""
    ours = (node.settings.node.state_directory, folder / "disk")
    found = files_below(folder)
    return {path for path in found if not any(path.is_relative_to(place) for place in ours)}


# -- paths -----------------------------------------------------------------------------------------

PATHS = ["../../../../tmp/x", "/etc/cron.d/x", "..", "a/b", "x\\y", "$(id)", "`id`", "%s%n", "a;b"]


@pytest.mark.parametrize("element", ["PatientID", "PatientName", "StudyID", "AccessionNumber"])
@pytest.mark.filterwarnings("ignore")
def test_no_element_becomes_a_path(element: str, tmp_path: Path, start_node: StartNode) -> None:
    """io-dicom 55, CVE-2022-2119, CVE-2022-2120, CVE-2026-50003, CVE-2026-56445."""
    node = start_node(disk(tmp_path / "disk"))
    for count, text in enumerate(PATHS, 1):
        ds = instances.image(**{element: text})
        assert send(node.address[1], ds) == 0
        wait_until(lambda count=count: node.progress["disk"].delivered == count, "on disk")
    assert outside(tmp_path, node) == set()
    assert all(path.suffix == ".dcm" for path in files_below(tmp_path / "disk"))


@pytest.mark.parametrize("text", ["../../x", "/etc/passwd", "..", "A%s%n", "$(id)"])
def test_no_ae_title_becomes_a_path(text: str, tmp_path: Path, start_node: StartNode) -> None:
    """CVE-2026-52868 (wlmscpfs)."""
    node = start_node(disk(tmp_path / "disk"))
    with RawPeer(node.address) as peer:
        peer.send([associate_rq(called=text.encode())])
        assert peer.receive() == reject(1, 1, 7)
    ds = instances.image()
    scu = connected(node.address[1], (CTImageStorage, ExplicitVRLittleEndian), calling=text)
    uids = CTImageStorage, str(ds.SOPInstanceUID)
    data_set = instances.encoded(ds)
    assert scu.send(*uids, ExplicitVRLittleEndian, [data_set]).status == 0
    scu.close()
    assert outside(tmp_path, node) == set()


def test_an_ae_title_of_somebody_else_is_not_enough(tmp_path: Path, start_node: StartNode) -> None:
    node = start_node(disk(tmp_path / "disk"), peers=(Peer(ae_title="CT1", address="10.0.0.0/24"),))
    with RawPeer(node.address) as peer:
        peer.send([associate_rq(called=b"DCMPRESS", calling=b"CT1")])
        assert peer.receive() == reject(1, 1, 3)


def test_what_is_written_is_no_program(tmp_path: Path, start_node: StartNode) -> None:
    """CVE-2019-11687: 128 bytes before DICM can be the head of a program; ours are zero."""
    node = start_node(disk(tmp_path / "disk"))
    serves(node)
    wait_until(lambda: node.progress["disk"].delivered == 1, "on disk")
    [path] = files_below(tmp_path / "disk")
    assert path.read_bytes()[:132] == bytes(128) + b"DICM"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


# -- numbers that lie ------------------------------------------------------------------------------


def replaced(tag: tuple[int, int], vr: bytes, value: bytes) -> Callable[[bytes], bytes]:
    """Put another value, with another VR, in the place of a short element of a data set."""

    def spoil(data_set: bytes) -> bytes:
        start = data_set.index(struct.pack("<HH", *tag))
        length = struct.unpack_from("<H", data_set, start + 6)[0]
        new = struct.pack("<HH2sH", *tag, vr, len(value)) + value
        return data_set[:start] + new + data_set[start + 8 + length :]

    return spoil


ROWS, COLUMNS, FRAMES = (0x28, 0x10), (0x28, 0x11), (0x28, 0x08)
ALLOCATED, SAMPLES = (0x28, 0x100), (0x28, 0x02)
US_MOST = b"\xff\xff"
LIES: dict[str, list[Callable[[bytes], bytes]]] = {
    "CVE-2026-5442: Rows x Columns overflows": [
        replaced(ROWS, b"US", US_MOST),
        replaced(COLUMNS, b"US", US_MOST),
    ],
    "CVE-2026-5443: Rows as UL": [replaced(ROWS, b"UL", b"\xff\xff\xff\xff")],
    "Rows as text": [replaced(ROWS, b"LO", b"many")],
    "Rows is empty": [replaced(ROWS, b"US", b"")],
    "Rows is 0": [replaced(ROWS, b"US", b"\0\0")],
    "Rows has three values": [replaced(ROWS, b"US", b"\1\0\2\0\3\0")],
    "Bits Allocated is 0": [replaced(ALLOCATED, b"US", b"\0\0")],
    "Bits Allocated is 65535": [replaced(ALLOCATED, b"US", US_MOST)],
    "Bits Allocated is 7": [replaced(ALLOCATED, b"US", b"\7\0")],
    "Samples per Pixel is 0": [replaced(SAMPLES, b"US", b"\0\0")],
    "Samples per Pixel is 65535": [replaced(SAMPLES, b"US", US_MOST)],
    "two billion frames": [replaced(FRAMES, b"IS", b"2147483647 ")],
    "minus one frame": [replaced(FRAMES, b"IS", b"-1")],
    "frames that are no number": [replaced(FRAMES, b"IS", b"1e9999")],
    "frames beyond any integer": [replaced(FRAMES, b"IS", b"9" * 12)],
    "everything at its most": [
        replaced(tag, b"US", US_MOST) for tag in (ROWS, COLUMNS, SAMPLES, ALLOCATED)
    ],
}


@pytest.mark.filterwarnings("ignore")
def test_numbers_that_lie_cost_nothing_and_lose_nothing(
    tmp_path: Path, start_node: StartNode
) -> None:
    """CVE-2026-5442 to 5445 (Orthanc): sizes are computed, never trusted, never allocated for."""
    node = start_node(disk(tmp_path / "disk"))
    serves(node)
    before = usage().memory
    for number, (name, changes) in enumerate(LIES.items()):
        uid = f"{instances.ROOT}.88.{number}"
        data_set = instances.encoded(instances.image(SOPInstanceUID=uid, NumberOfFrames=1))
        for spoil in changes:
            data_set = spoil(data_set)
        scu = connected(node.address[1], (CTImageStorage, ExplicitVRLittleEndian))
        response = scu.send(CTImageStorage, uid, ExplicitVRLittleEndian, [data_set])
        scu.close()
        assert response.status in (0, 0xC000), name
        if response.status == 0:
            wait_until(
                lambda uid=uid: any(p.stem == uid for p in files_below(tmp_path / "disk")), name
            )
            kept = instances.data_sets_in(tmp_path / "disk")[uid]
            assert kept[1] == data_set, name
    serves(node)
    assert usage().memory - before < 100 << 20


def bad_rle() -> dict[str, bytes]:
    """RLE frames whose headers lie (PS3.5 G.5); DCMTK 2024-11-13 and 2025-03-03."""
    header = struct.pack("<16I", 1, 64, *[0] * 14)
    return {
        "2^32 segments": struct.pack("<16I", 0xFFFFFFFF, *[64] * 15),
        "no segment": bytes(64),
        "a segment beyond the end": struct.pack("<16I", 1, 0xFFFFFFF0, *[0] * 14) + b"\0\0",
        "segments that go backwards": struct.pack("<16I", 2, 200, 64, *[0] * 13) + b"\0" * 200,
        "half a header": bytes(20),
        "nothing": b"",
        "a literal run that is not there": header + b"\x7f",
        "runs without end": header + b"\x81\xff" * 100_000,
    }


@pytest.mark.filterwarnings("ignore")
def test_frames_that_lie_are_passed_on_or_kept_and_nothing_dies(
    tmp_path: Path, start_node: StartNode
) -> None:
    """To an archive without RLE, to which what we encoded is decoded."""
    given: dict[str, Any] = {
        "sop_classes": [CTImageStorage],
        "transfer_syntaxes": [ExplicitVRLittleEndian],
    }
    with downstream(**given) as archive:
        node = start_node(pacs(archive.port), disk(tmp_path / "disk"))
        for number, (name, frame) in enumerate(bad_rle().items()):
            uid = f"{instances.ROOT}.99.{number}"
            ds = instances.image(SOPInstanceUID=uid)
            del ds.PixelData
            frame += b"\0" * (len(frame) % 2)
            data_set = instances.encoded(ds) + struct.pack(
                "<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 2**32 - 1
            )
            data_set += struct.pack("<HHI", 0xFFFE, 0xE000, 0)
            data_set += struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame
            data_set += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
            scu = connected(node.address[1], (CTImageStorage, RLELossless))
            response = scu.send(CTImageStorage, uid, RLELossless, [data_set])
            scu.close()
            assert response.status == 0, name
        good = instances.image()
        assert send(node.address[1], good) == 0
        wait_until(lambda: len(archive.received) == 1, "the good one is forwarded")
        assert archive.received[0][0] == str(good.SOPInstanceUID)
        wait_until(lambda: node.progress["disk"].delivered == 9, "all are on disk")


# -- leaks -----------------------------------------------------------------------------------------

VISITS: dict[str, list[bytes]] = {
    "connect and close": [],
    "request, then abort": [associate_rq(called=b"DCMPRESS"), ABORT],
    "request, then close": [associate_rq(called=b"DCMPRESS")],
    "request that is rejected": [associate_rq(called=b"ANOTHER")],
    "128 contexts that nobody has": [
        associate_rq(
            *[context(n, [b"1.2.3.%d" % n]) for n in range(1, 256, 2)], called=b"DCMPRESS"
        ),
        ABORT,
    ],
}


def test_repeated_requests_leave_nothing_behind(tmp_path: Path, start_node: StartNode) -> None:
    """CVE-2026-50254 and CVE-2026-35505 (DCMTK): memory that each request left."""
    node = start_node(disk(tmp_path / "disk"), limits={"associations_per_peer": 100})

    def visit(times: int) -> None:
        for _ in range(times):
            for pieces in VISITS.values():
                with RawPeer(node.address) as peer:
                    peer.send(pieces)

    def is_quiet() -> bool:
        return node._receiver.associations == 0

    visit(300)  # what the allocator keeps for threads is then there
    wait_until(is_quiet, "associations have ended")
    before = usage()
    visit(300)
    wait_until(is_quiet, "associations have ended")
    wait_until(lambda: usage().descriptors <= before.descriptors + 2, "descriptors are given back")
    wait_until(lambda: usage().threads <= before.threads, "threads have ended")
    assert usage().memory - before.memory < 8 << 20
    serves(node)


def test_foreign_things_in_the_spool_do_no_harm(tmp_path: Path, start_node: StartNode) -> None:
    """Links, pipes, folders and files that are not ours; none is followed, opened or sent."""
    node = start_node(disk(tmp_path / "disk"))
    secret = tmp_path / "secret"
    secret.write_text("not for the archive")
    for folder in [path for path in node.spool.root.rglob("*") if path.is_dir()]:
        (folder / "link.dcm").symlink_to(secret)
        os.mkfifo(folder / "pipe.dcm")
        (folder / "folder.dcm").mkdir()
        (folder / "foreign").write_text("x")
    serves(node)
    wait_until(lambda: node.progress["disk"].delivered >= 1, "on disk")
    serves(node)
    wait_until(lambda: node.progress["disk"].delivered >= 2, "on disk")
    assert secret.read_text() == "not for the archive"
    assert all("not for" not in path.read_text("latin1") for path in files_below(tmp_path / "disk"))


def test_a_reset_at_any_time_leaves_no_association(tmp_path: Path, start_node: StartNode) -> None:
    """What is known of an association is forgotten with it, though nobody heard its end."""
    node = start_node(disk(tmp_path / "disk"))
    for number in range(200):
        with RawPeer(node.address) as peer:
            peer.send([associate_rq(called=b"DCMPRESS")])
            if number % 2:
                assert peer.receive() in (ACCEPTED, reject(2, 3, 2))
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: node._receiver.associations == 0, "associations have ended")
    assert not node._receiver._scp.ledger._running
    serves(node)
