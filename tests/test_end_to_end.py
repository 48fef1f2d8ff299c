"""Real peers send to a running node, which writes to disk and forwards to real peers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import instances
import peers
import pydicom
import pytest
from conftest import StartNode, disk, pacs, settings_of
from peers import (
    connected,
    dcmsend,
    downstream,
    gdcmscu,
    send,
    storescp,
    storescu,
    wait_until,
)
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE
from pynetdicom.presentation import build_context

from node.service.node import Node

#: Sends files to a port and raises where one was not taken.
Sender = Callable[[int, list[Path]], None]


# -- modalities ----------------------------------------------------------------------------------


def dcmtk(*options: str) -> Sender:
    def with_storescu(port: int, files: list[Path]) -> None:
        sent = storescu(port, *files, options=options, called="ANY")
        assert sent.returncode == 0, sent.stdout + sent.stderr
        assert sent.stderr.count("Received Store Response (Success)") + sent.stdout.count(
            "Received Store Response (Success)"
        ) == len(files)

    return with_storescu


def with_dcmsend(port: int, files: list[Path]) -> None:
    sent = dcmsend(port, *files, called="ANY")
    assert sent.returncode == 0, sent.stdout + sent.stderr


def with_gdcmscu(port: int, files: list[Path]) -> None:
    # One association proposes the SOP class of its first file only.
    for file in files:
        assert gdcmscu(port, file, called="ANY")


def with_pynetdicom(port: int, files: list[Path]) -> None:
    ae = AE(ae_title=peers.MODALITY)
    for sop_class in (CTImageStorage, SecondaryCaptureImageStorage):
        for syntax in instances.NATIVE:
            ae.add_requested_context(sop_class, syntax)
    assoc = ae.associate("127.0.0.1", port, ae_title="ANY")
    assert assoc.is_established
    for file in files:
        assert assoc.send_c_store(pydicom.dcmread(file)).Status == 0
    assoc.release()


SENDERS: dict[str, tuple[Sender, str]] = {
    "storescu explicit": (dcmtk("-xe"), ExplicitVRLittleEndian),
    "storescu implicit": (dcmtk("-xi"), ImplicitVRLittleEndian),
    "storescu big endian": (dcmtk("-xb"), ExplicitVRBigEndian),
    "dcmsend explicit": (with_dcmsend, ExplicitVRLittleEndian),
    "dcmsend implicit": (with_dcmsend, ImplicitVRLittleEndian),
    "gdcmscu implicit": (with_gdcmscu, ImplicitVRLittleEndian),
    "gdcmscu explicit": (with_gdcmscu, ExplicitVRLittleEndian),
    "pynetdicom explicit": (with_pynetdicom, ExplicitVRLittleEndian),
    "pynetdicom implicit": (with_pynetdicom, ImplicitVRLittleEndian),
    "pynetdicom big endian": (with_pynetdicom, ExplicitVRBigEndian),
}


def some_images() -> list[Dataset]:
    """What modalities send: grey, colour both ways, many frames, odd lengths, everything else."""
    return [
        instances.with_everything(instances.image()),
        instances.with_everything(instances.image(signed=True, stored=16)),
        instances.image(frames=5, rows=15, columns=17, bits=8),
        instances.image(samples=3, bits=8, rows=7, columns=9),
        instances.image(samples=3, bits=8, planar=1),
        instances.image(samples=3, bits=8, photometric="YBR_FULL", frames=2),
    ]


def files_of(folder: Path, images: Iterable[Dataset], syntax: str) -> list[Path]:
    return [
        instances.as_file(folder / f"{number}.dcm", ds, syntax) for number, ds in enumerate(images)
    ]


def port_of(node: Node) -> int:
    return node.address[1]


def wait_for(node: Node, destination: str, count: int) -> None:
    def delivered() -> bool:
        progress = node.progress[destination]
        assert not progress.failed, progress.last_error
        return progress.delivered == count

    wait_until(delivered, f"{count} instances at {destination}")


def assert_same_pixels(sent: Dataset, file: Path) -> None:
    """Every pixel, as a decoder of others sees it, and the SOP Instance UID."""
    stored = pydicom.dcmread(file)
    assert stored.file_meta.TransferSyntaxUID == RLELossless
    stored.decompress(as_rgb=False, generate_instance_uid=False, decoding_plugin="pylibjpeg")
    assert instances.by_pixel(stored) == instances.by_pixel(sent)
    assert stored.SOPInstanceUID == sent.SOPInstanceUID


@pytest.mark.peer
@pytest.mark.parametrize("name", SENDERS)
def test_from_every_modality_to_disk_and_to_both_kinds_of_archive(
    name: str, tmp_path: Path, start_node: StartNode
) -> None:
    sender, syntax = SENDERS[name]
    images = some_images()
    files = files_of(tmp_path / "files", images, syntax)
    with storescp(tmp_path / "direct") as direct:
        sender(direct, files)
    sent = instances.data_sets_in(tmp_path / "direct")
    assert len(sent) == len(files)
    rle, native = tmp_path / "rle", tmp_path / "native"
    with storescp(rle, "+xr") as rle_port, storescp(native) as native_port:
        node = start_node(
            disk(tmp_path / "disk"),
            pacs(rle_port, "rle"),
            pacs(native_port, "native"),
            node={"ae_title": "ANY"},
        )
        sender(port_of(node), files)
        for destination in ("disk", "rle", "native"):
            wait_for(node, destination, len(files))
    assert node.tally.compressed == len(files)
    # What the archive without RLE got is what the modality sent, byte for byte.
    assert instances.data_sets_in(native) == sent
    # What the archive with RLE got is what is on disk, byte for byte, and smaller.
    stored = instances.data_sets_in(tmp_path / "disk")
    assert instances.data_sets_in(rle) == stored
    assert {syntax for syntax, _ in stored.values()} == {RLELossless}
    for ds in images:
        uid = str(ds.SOPInstanceUID)
        assert len(stored[uid][1]) < len(sent[uid][1])
        place = tmp_path / "disk" / ds.StudyInstanceUID / ds.SeriesInstanceUID / f"{uid}.dcm"
        assert_same_pixels(ds, place)


@pytest.mark.peer
def test_eight_modalities_at_once(tmp_path: Path, start_node: StartNode) -> None:
    node = start_node(disk(tmp_path / "disk"))
    groups = [
        files_of(
            tmp_path / "files" / str(group),
            [instances.image(seed=10 * group + n) for n in range(10)],
            ExplicitVRLittleEndian,
        )
        for group in range(8)
    ]
    command = [peers.need("dcmsend"), "-aet", peers.MODALITY, "-aec", peers.NODE]
    running = [
        subprocess.Popen(
            [*command, "127.0.0.1", str(port_of(node)), *map(str, group)],
            env=peers.ENVIRONMENT,
        )
        for group in groups
    ]
    assert [process.wait(peers.PATIENCE) for process in running] == [0] * 8
    wait_for(node, "disk", 80)
    assert node.tally.associations == 8
    stored = instances.data_sets_in(tmp_path / "disk")
    assert stored.keys() == {
        str(pydicom.dcmread(file).SOPInstanceUID) for group in groups for file in group
    }


@pytest.mark.peer
def test_echo(start_node: StartNode, tmp_path: Path) -> None:
    node = start_node(disk(tmp_path / "disk"))
    assert peers.echoscu(port_of(node)).returncode == 0
    assert gdcmscu(port_of(node))
    ae = AE(ae_title=peers.MODALITY)
    ae.add_requested_context("1.2.840.10008.1.1")
    assoc = ae.associate("127.0.0.1", port_of(node), ae_title=peers.NODE)
    assert assoc.send_c_echo().Status == 0
    assoc.release()
    scu = connected(port_of(node))
    assert scu.echo() == 0
    scu.close()


# -- what is not compressed ----------------------------------------------------------------------


COMPRESSED = (
    "JPEG2000.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_RLE.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "JPEG-lossy.dcm",
    "image_dfl.dcm",
)


#: By no decoder that the project requires: 12 bits in JPEG.
NOT_DECODABLE = {"JPEG-lossy.dcm"}


def bundled(name: str) -> tuple[Dataset, Dataset, bytes]:
    """File Meta, data set and encoded data set of a file that comes with pydicom."""
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom was installed without {name}")
    meta, data_set = instances.parts_of(Path(path))
    return meta, pydicom.dcmread(path), data_set


@pytest.mark.parametrize("name", COMPRESSED)
def test_what_is_compressed_already_passes_byte_for_byte(
    name: str, tmp_path: Path, start_node: StartNode
) -> None:
    meta, ds, data_set = bundled(name)
    uids, syntax = (str(ds.SOPClassUID), str(ds.SOPInstanceUID)), str(meta.TransferSyntaxUID)
    taken = [syntax, ExplicitVRLittleEndian]
    with downstream(sop_classes=[uids[0]], transfer_syntaxes=taken) as archive:
        node = start_node(disk(tmp_path / "disk"), pacs(archive.port))
        scu = connected(port_of(node), (uids[0], syntax))
        assert scu.send(*uids, syntax, [data_set]).status == 0
        scu.close()
        wait_for(node, "disk", 1)
        wait_for(node, "pacs", 1)
        assert archive.received == [(uids[1], syntax, data_set)]
    [stored] = instances.data_sets_in(tmp_path / "disk").values()
    assert stored == (syntax, data_set)


@pytest.mark.parametrize("name", COMPRESSED)
def test_what_came_compressed_is_decompressed_for_an_archive_that_takes_nothing_else(
    name: str, tmp_path: Path, start_node: StartNode
) -> None:
    meta, ds, data_set = bundled(name)
    uids, syntax = (str(ds.SOPClassUID), str(ds.SOPInstanceUID)), str(meta.TransferSyntaxUID)
    explicit = [ExplicitVRLittleEndian]
    with downstream(sop_classes=[uids[0]], transfer_syntaxes=explicit) as archive:
        node = start_node(pacs(archive.port))
        scu = connected(port_of(node), (uids[0], syntax))
        assert scu.send(*uids, syntax, [data_set]).status == 0
        scu.close()
        if name in NOT_DECODABLE:
            wait_until(lambda: node.progress["pacs"].failed == 1, "set aside")
            [kept] = node.spool.failed("pacs")
            assert "cannot be decoded" in kept.cause
            assert kept.entry.path.is_file()
            return
        wait_for(node, "pacs", 1)
        [(uid, got_in, got)] = archive.received
    assert (uid, got_in) == (uids[1], ExplicitVRLittleEndian)
    arrived = pydicom.dcmread(instances.as_file_of(tmp_path / "got.dcm", ds, got, got_in))
    if syntax != DeflatedExplicitVRLittleEndian:
        ds.decompress(as_rgb=False, generate_instance_uid=False)
    assert arrived == ds


@pytest.mark.peer
@pytest.mark.parametrize(
    ("kind", "sop_class"),
    [
        ("private", "1.2.826.0.1.3680043.9.7433.99.1"),
        ("of a later edition", "1.2.840.10008.5.1.4.1.1.999.9"),
    ],
)
def test_unknown_sop_classes_are_taken(
    kind: str, sop_class: str, tmp_path: Path, start_node: StartNode
) -> None:
    ds = instances.image(sop_class=sop_class)
    with storescp(tmp_path / "archive", "+xr", "--promiscuous") as port:
        node = start_node(disk(tmp_path / "disk"), pacs(port))
        ae = AE(ae_title=peers.MODALITY)
        ae.requested_contexts = [build_context(sop_class, ExplicitVRLittleEndian)]
        assoc = ae.associate("127.0.0.1", port_of(node), ae_title=peers.NODE)
        file = instances.as_file(tmp_path / "in.dcm", ds)
        assert assoc.send_c_store(pydicom.dcmread(file)).Status == 0
        assoc.release()
        wait_for(node, "disk", 1)
        wait_for(node, "pacs", 1)
    stored = instances.data_sets_in(tmp_path / "disk")
    assert stored[str(ds.SOPInstanceUID)][0] == RLELossless
    assert instances.data_sets_in(tmp_path / "archive") == stored


def test_objects_without_pixels_pass_byte_for_byte(tmp_path: Path, start_node: StartNode) -> None:
    report = instances.instance("1.2.840.10008.5.1.4.1.1.88.11", Modality="SR")
    with storescp(tmp_path / "archive", "+xr") as port:
        node = start_node(pacs(port))
        assert send(port_of(node), report, ImplicitVRLittleEndian) == 0
        wait_for(node, "pacs", 1)
    assert dict(node.tally.kept) == {"no pixel data": 1}
    assert instances.data_sets_in(tmp_path / "archive") == {
        str(report.SOPInstanceUID): (
            ImplicitVRLittleEndian,
            instances.encoded(report, ImplicitVRLittleEndian),
        )
    }


# -- duplicates ----------------------------------------------------------------------------------


def test_the_same_again_is_stored_once_and_other_content_beside(
    tmp_path: Path, start_node: StartNode
) -> None:
    node = start_node(disk(tmp_path / "disk"))
    ds = instances.image()
    other = instances.image(seed=2)
    other.SOPInstanceUID = ds.SOPInstanceUID
    for again in (ds, ds, other, other, ds):
        assert send(port_of(node), again) == 0
    wait_for(node, "disk", 5)
    folder = tmp_path / "disk" / ds.StudyInstanceUID / ds.SeriesInstanceUID
    first, second = sorted(folder.iterdir(), key=lambda path: len(path.name))
    assert first.name == f"{ds.SOPInstanceUID}.dcm"
    assert second.name.startswith(f"{ds.SOPInstanceUID}~")
    assert_same_pixels(ds, first)
    assert_same_pixels(other, second)


# -- downstream troubles -------------------------------------------------------------------------


def test_what_is_not_delivered_is_delivered_after_a_restart(
    tmp_path: Path, start_node: StartNode
) -> None:
    port = peers.free_port()
    images = [instances.image(seed=n) for n in range(3)]
    with Node(settings_of(tmp_path / "state", pacs(port))) as node:
        for ds in images:
            assert send(port_of(node), ds) == 0
        wait_until(lambda: node.progress["pacs"].failures_in_a_row > 1, "tried again")
        assert node.progress["pacs"].delivered == 0
    archive = tmp_path / "archive"
    with storescp(archive, "+xr", port=port):
        again = start_node(pacs(port))
        wait_for(again, "pacs", 3)
    assert instances.data_sets_in(archive).keys() == {str(ds.SOPInstanceUID) for ds in images}
    assert list(again.spool.queued("pacs")) == []


ANSWERS = {
    "success": ([0x0000], True),
    "coercion": ([0xB000], True),
    "elements discarded": ([0xB006], True),
    "mismatch warning": ([0xB007], True),
    "duplicate": ([0x0111], True),
    "out of resources, then success": ([0xA700, 0xA702, 0x0000], True),
    "cannot understand, then success": ([0xC000, 0x0000], True),
    "processing failure, then success": ([0x0110, 0x0000], True),
    "not authorised, then success": ([0x0124, 0x0000], True),
    "SOP class not supported": ([0x0122], False),
    "invalid instance": ([0x0117], False),
    "mistyped argument": ([0x0212], False),
    "cannot understand, always": ([0xC123], False),
    "mismatch, always": ([0xA900], False),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_the_archive_answers_decides(
    answer: str, tmp_path: Path, start_node: StartNode
) -> None:
    statuses, is_delivered = ANSWERS[answer]
    with downstream(
        *statuses, sop_classes=[CTImageStorage], transfer_syntaxes=[RLELossless]
    ) as archive:
        node = start_node(pacs(archive.port))
        assert send(port_of(node), instances.image()) == 0
        if is_delivered:
            wait_for(node, "pacs", 1)
            assert archive.answered == statuses
            assert list(node.spool.failed("pacs")) == []
        else:
            wait_until(lambda: node.progress["pacs"].failed == 1, "set aside")
            [kept] = node.spool.failed("pacs")
            assert f"{statuses[-1]:04X}" in kept.cause
            assert f"told to say {statuses[-1]:04X}" in kept.cause
            assert kept.entry.path.is_file()
        wait_until(lambda: not list(node.spool.queued("pacs")), "nothing queued")


def test_an_instance_that_the_archive_never_takes_does_not_hold_up_the_others(
    tmp_path: Path, start_node: StartNode
) -> None:
    with downstream(
        sop_classes=[CTImageStorage], transfer_syntaxes=[ExplicitVRLittleEndian]
    ) as archive:
        node = start_node(pacs(archive.port))
        refused = instances.instance("1.2.840.10008.5.1.4.1.1.88.11")
        assert send(port_of(node), refused) == 0
        assert send(port_of(node), instances.image()) == 0
        wait_until(lambda: node.progress["pacs"].delivered == 1, "the other one arrived")
    [kept] = node.spool.failed("pacs")
    assert "in none of" in kept.cause


def test_an_archive_that_is_down_does_not_hold_up_the_disk(
    tmp_path: Path, start_node: StartNode
) -> None:
    node = start_node(pacs(peers.free_port()), disk(tmp_path / "disk"))
    assert send(port_of(node), instances.image()) == 0
    wait_for(node, "disk", 1)
    assert len(list(node.spool.queued("pacs"))) == 1


@pytest.mark.peer
@pytest.mark.parametrize("trouble", ["--abort-after", "--abort-during"])
def test_an_archive_that_aborts_gets_it_again(
    trouble: str, tmp_path: Path, start_node: StartNode
) -> None:
    port = peers.free_port()
    with storescp(tmp_path / "first", trouble, "+xr", port=port):
        node = start_node(pacs(port))
        assert send(port_of(node), instances.image()) == 0
        wait_until(lambda: node.progress["pacs"].failures_in_a_row, "aborted")
    with storescp(tmp_path / "second", "+xr", port=port):
        wait_for(node, "pacs", 1)
    assert len(instances.data_sets_in(tmp_path / "second")) == 1


# -- relay ---------------------------------------------------------------------------------------


def spooled(node: Node) -> list[Path]:
    return [path for path in node.spool.root.rglob("*.dcm") if path.is_file()]


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xA700, 0xA900, 0xC001, 0x0122])
def test_a_relay_answers_with_the_status_of_the_archive(
    status: int, tmp_path: Path, start_node: StartNode
) -> None:
    with downstream(
        status, sop_classes=[CTImageStorage], transfer_syntaxes=[RLELossless]
    ) as archive:
        node = start_node(pacs(archive.port, mode="relay"))
        ds = instances.image()
        assert send(port_of(node), ds) == status
        [(uid, syntax, _)] = archive.received
    assert (uid, syntax) == (str(ds.SOPInstanceUID), RLELossless)
    assert spooled(node) == []


@pytest.mark.peer
def test_a_relay_is_transparent_to_modality_and_archive(
    tmp_path: Path, start_node: StartNode
) -> None:
    images = some_images()
    files = files_of(tmp_path / "files", images, ImplicitVRLittleEndian)
    with storescp(tmp_path / "direct") as direct:
        with_dcmsend(direct, files)
    with storescp(tmp_path / "archive") as port:
        node = start_node(pacs(port, mode="relay"), node={"ae_title": "ANY"})
        with_dcmsend(port_of(node), files)
    sent = instances.data_sets_in(tmp_path / "direct")
    assert instances.data_sets_in(tmp_path / "archive") == sent


def test_a_relay_without_its_archive_says_so(tmp_path: Path, start_node: StartNode) -> None:
    node = start_node(pacs(peers.free_port(), mode="relay"))
    assert send(port_of(node), instances.image()) == 0xA700
    assert spooled(node) == []


def test_a_relay_goes_on_when_the_archive_is_back(tmp_path: Path, start_node: StartNode) -> None:
    """Associations that were kept open and are dead must not cost an instance."""
    given = {"sop_classes": [CTImageStorage], "transfer_syntaxes": [RLELossless]}
    port = peers.free_port()
    node = start_node(pacs(port, mode="relay"))
    for _ in range(2):
        with downstream(port=port, **given) as archive:
            assert send(port_of(node), instances.image()) == 0
            assert len(archive.received) == 1
    assert send(port_of(node), instances.image()) == 0xA700


@pytest.mark.parametrize("answer", [0x0000, 0xB000, 0xA700, 0xC000])
def test_what_a_relay_took_goes_to_the_other_destinations_too(
    answer: int, tmp_path: Path, start_node: StartNode
) -> None:
    """And what it did not take stays with the modality alone."""
    given = {"sop_classes": [CTImageStorage], "transfer_syntaxes": [RLELossless]}
    with downstream(answer, **given) as archive:
        node = start_node(pacs(archive.port, mode="relay"), disk(tmp_path / "disk"))
        assert send(port_of(node), instances.image()) == answer
        if answer in (0x0000, 0xB000):
            wait_until(lambda: len(list((tmp_path / "disk").rglob("*.dcm"))) == 1, "it is stored")
    wait_until(lambda: spooled(node) == [], "nothing is left in the spool")
    assert len(list((tmp_path / "disk").rglob("*.dcm"))) == (answer in (0x0000, 0xB000))
