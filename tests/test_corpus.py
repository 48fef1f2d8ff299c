"""Every file of the corpus that a sender can send goes through a running node.

The sender does not look into what it sends: the data set goes as the bytes that are in the file.
What the node has on disk afterwards is then read by pydicom, GDCM and DCMTK. Zero lost, zero
different; how many were compressed, kept and refused, and why, is shown at the end of the run.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import corpus
import instances
import peers
import pydicom
import pytest
from conftest import disk, settings_of
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.dicom.contexts import MOST_CONTEXTS, Proposal
from node.dicom.status import CANNOT_UNDERSTAND, INVALID_SOP_INSTANCE, SUCCESS, describe
from node.dicom.uids import RLE_LOSSLESS, is_uid
from node.errors import PeerUnreachable
from node.pixels.instance import data_set_in
from node.pixels.stored import opened
from node.service.node import Node

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(corpus.corpus_root() is None, reason=corpus.ABSENT),
    pytest.mark.filterwarnings("ignore"),
]


class NotSent(Exception):
    """No sender could send this file; the text tells why."""


@dataclass
class Instance:
    """One file of the corpus as it is sent, and what came of it."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes
    status: int = -1
    stored: Path | None = None

    @property
    def proposal(self) -> Proposal:
        return Proposal(self.sop_class_uid, self.transfer_syntax_uid)

    def native(self, folder: Path) -> Dataset:
        """What was sent, as pydicom reads it."""
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = self.sop_class_uid, self.sop_instance_uid
        file = folder / ".sent"
        instances.as_file_of(file, ds, self.data_set, self.transfer_syntax_uid)
        return pydicom.dcmread(file)


@dataclass
class Run:
    """What was sent and what was not, and where the node keeps what it took."""

    directory: Path
    sent: list[Instance] = field(default_factory=list)
    not_sent: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    compressed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    #: Found as an equal one that was received in another form.
    elsewhere: int = 0

    @property
    def stored(self) -> list[Instance]:
        return [instance for instance in self.sent if instance.status == SUCCESS]


def as_sender_reads(path: Path) -> Instance:
    """Find out what a sender has to know of a file; raises `NotSent`."""
    try:
        meta, data_set = instances.parts_of(path)
        ds = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        sop_class = str(ds.get("SOPClassUID") or "")
        uid = str(ds.get("SOPInstanceUID") or "")
        syntax = str(meta.get("TransferSyntaxUID") or "")
    except Exception as failure:
        raise NotSent("pydicom cannot read it") from failure
    if not syntax:
        # As senders do: a data set without File Meta is in what its first element looks like.
        explicit = data_set[4:6].isalpha()
        syntax = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian
    if not is_uid(sop_class) or not uid:
        # DCMTK and pynetdicom take them from the data set, and send nothing where they are not.
        raise NotSent("it has no SOP Class UID or no SOP Instance UID")
    if not is_uid(syntax):
        raise NotSent("its transfer syntax is no UID")
    return Instance(path, sop_class, uid, syntax, data_set)


def send_all(port: int, run: Run) -> None:
    """Send every instance in its own transfer syntax."""
    proposals = list(dict.fromkeys(instance.proposal for instance in run.sent))
    for start in range(0, len(proposals), MOST_CONTEXTS):
        some = proposals[start : start + MOST_CONTEXTS]
        scu = peers.connected(port, *some)
        for instance in [one for one in run.sent if one.proposal in some]:
            if not scu.accepts(*instance.proposal):
                continue
            if not scu.is_open:
                scu = peers.connected(port, *some)
            try:
                instance.status = scu.send(
                    instance.sop_class_uid,
                    instance.sop_instance_uid,
                    instance.transfer_syntax_uid,
                    [instance.data_set],
                ).status
            except PeerUnreachable as failure:
                raise AssertionError(f"{instance.path}: {failure}") from failure
        scu.close()


def find_stored(run: Run) -> None:
    """Find the file of each instance: the one that is, as it was received, what was sent.

    Some files of the corpus are one image in several native transfer syntaxes, or by pixel and by
    plane. Encoded they are the same bytes, so that the node rightly has them once, as they were
    first received.
    """
    by_uid: dict[str, list[Path]] = {}
    for path in sorted(run.directory.rglob("*.dcm")):
        by_uid.setdefault(path.stem.split("~")[0], []).append(path)
    for instance in run.stored:
        for path in by_uid.get(instance.sop_instance_uid, []):
            with opened(path) as there:
                record = there.meta.record
                assert record is not None
                came = record.as_received
                syntax = came.transfer_syntax_uid if came else there.meta.transfer_syntax_uid
                given = b"".join(bytes(part) for part in data_set_in(there, syntax))
            if (syntax, given) == (instance.transfer_syntax_uid, instance.data_set):
                instance.stored = path
                break
            if came and is_same(instance, path):
                instance.stored = path
                run.elsewhere += 1
                break


def is_same(instance: Instance, path: Path) -> bool:
    """Whether the elements and pixels are those that were sent, as pydicom reads them."""
    native, stored = instance.native(path.parent), pydicom.dcmread(path)
    if instance.transfer_syntax_uid not in instances.NATIVE:
        return False
    if instances.differences(native, stored):
        return False
    decompress(stored)
    if len(stored.PixelData) != len(native.PixelData):
        return False
    return instances.by_pixel(stored) == instances.by_pixel(native)


def decompress(stored: Dataset) -> None:
    """Decode with a decoder of others, without a change to bits that are not stored."""
    stored.decompress(
        as_rgb=False,
        generate_instance_uid=False,
        decoding_plugin="pylibjpeg",
        correct_unused_bits=False,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The whole corpus, sent to a node and delivered to disk."""
    root = tmp_path_factory.mktemp("corpus")
    run = Run(root / "disk")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row in corpus.rows():
            try:
                run.sent.append(as_sender_reads(corpus.CORPUS / row["path"]))
            except NotSent as why:
                run.not_sent[str(why)] += 1
    with Node(settings_of(root / "state", disk(run.directory))) as node:
        send_all(node.address[1], run)
        wanted = len(run.stored)

        def is_settled() -> bool:
            progress = node.progress["disk"]
            return progress.delivered + progress.failed >= wanted

        peers.wait_until(is_settled, f"{wanted} files on disk")
        progress = node.progress["disk"]
        assert progress.failed == 0, progress.last_error
        tally = node.tally
    run.kept, run.compressed = Counter(tally.kept), tally.compressed
    run.bytes_in, run.bytes_out = tally.bytes_in, tally.bytes_out
    find_stored(run)
    yield run
    shutil.rmtree(root)


def show(counted: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counted.most_common())


def test_nothing_is_lost(run: Run, counted: list[str]) -> None:
    """Each instance that was answered with Success is on disk and comes back byte for byte."""
    refused: Counter[str] = Counter()
    for instance in run.sent:
        if instance.status == -1:
            run.not_sent["the node does not take its SOP class"] += 1
        elif instance.status != SUCCESS:
            refused[describe(instance.status)] += 1
    files = sum(1 for _ in run.directory.rglob("*.dcm"))
    counted += [
        f"corpus: {len(corpus.rows())} files; not sent: {show(run.not_sent)}",
        f"corpus: {len(run.stored)} stored as {files} different ones, refused: {show(refused)}",
        f"corpus: {run.compressed} compressed, kept: {show(run.kept)}",
        f"corpus: {run.bytes_in:,} bytes in, {run.bytes_out:,} bytes out",
    ]
    if run.elsewhere:
        counted.append(f"corpus: {run.elsewhere} are the same as one that came in another form")
    lost = [str(instance.path) for instance in run.stored if instance.stored is None]
    assert lost == []
    assert run.compressed + run.kept.total() == len(run.stored)
    assert run.compressed > 600
    assert len(run.stored) > 880
    assert len(run.stored) + refused.total() + run.not_sent.total() == len(corpus.rows())


#: Cut off or not closed; a UID with letters in it. All others that are
#: refused are fuzzed.
REFUSED = {
    "MR_truncated.dcm": CANNOT_UNDERSTAND,
    "rtplan_truncated.dcm": CANNOT_UNDERSTAND,
    "emri_small_jpeg_2k_lossless_too_short.dcm": CANNOT_UNDERSTAND,
    "bad_sequence.dcm": INVALID_SOP_INSTANCE,
}


def test_nothing_is_refused_but_what_is_broken(run: Run) -> None:
    refused = {
        instance.path.name: instance.status
        for instance in run.sent
        if instance.status not in (SUCCESS, -1) and "fuzz" not in str(instance.path)
    }
    assert refused == REFUSED
    of_fuzzed = {instance.status for instance in run.sent if "fuzz" in str(instance.path)}
    assert of_fuzzed <= {SUCCESS, CANNOT_UNDERSTAND, INVALID_SOP_INSTANCE}


def compressed_ones(run: Run) -> list[tuple[Instance, Path]]:
    found = []
    for instance in run.stored:
        if instance.stored is not None:
            with opened(instance.stored) as there:
                if there.meta.record and there.meta.record.as_received:
                    found.append((instance, instance.stored))
    return found


def test_pydicom_finds_every_pixel_and_every_element_as_it_was_sent(
    run: Run, tmp_path: Path
) -> None:
    different = []
    for instance, path in compressed_ones(run):
        native, stored = instance.native(tmp_path), pydicom.dcmread(path)
        assert stored.file_meta.TransferSyntaxUID == RLE_LOSSLESS
        different += [f"{instance.path}: {why}" for why in instances.differences(native, stored)]
        if stored.SamplesPerPixel > 1:
            assert stored.PlanarConfiguration == 1
        decompress(stored)
        if instances.by_pixel(stored) != instances.by_pixel(native):
            different.append(f"{instance.path}: pixels")
    assert different == []


def by_gdcm(path: Path) -> bytes | None:
    """The pixels as GDCM decodes them, by pixel; None where it cannot."""
    if importlib.util.find_spec("gdcm") is None:
        peers.missing("python-gdcm is not installed")
    gdcm = importlib.import_module("gdcm")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    if not reader.Read():
        return None
    return bytes(reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape"))


def by_dcmtk(path: Path, folder: Path) -> bytes | None:
    """The pixels as DCMTK decodes them, by pixel; None where it cannot, or is not there."""
    dcmdrle = shutil.which("dcmdrle")
    if dcmdrle is None:
        return None
    folder.mkdir()
    target = folder / path.name
    done = subprocess.run([dcmdrle, str(path), str(target)], capture_output=True, check=False)
    return instances.by_pixel(pydicom.dcmread(target)) if done.returncode == 0 else None


def gdcm_changes(ds: Dataset) -> bool:
    """GDCM clears bits that are not stored, and gets colours of 16 bits wrong."""
    wide_colour = ds.SamplesPerPixel > 1 and ds.BitsAllocated > 8
    return wide_colour or ds.BitsStored < ds.BitsAllocated


@pytest.mark.peer
def test_others_find_every_pixel_as_it_was_sent(
    run: Run, tmp_path: Path, counted: list[str]
) -> None:
    peers.need("dcmdrle")
    ones = compressed_ones(run)
    paths = sorted({path for _, path in ones})
    folders = [tmp_path / str(number) for number in range(len(paths))]
    with ThreadPoolExecutor(2) as pool:
        decoded = dict(zip(paths, pool.map(by_dcmtk, paths, folders), strict=True))
    agrees: Counter[str] = Counter()
    different = []
    for instance, path in ones:
        dcmtk, native = decoded[path], instance.native(tmp_path)
        pixels, gdcm = instances.by_pixel(native), by_gdcm(path)
        agrees["DCMTK"] += dcmtk == pixels
        agrees["GDCM"] += gdcm == pixels
        if dcmtk != pixels:
            different.append(f"{instance.path}: DCMTK")
        if gdcm != pixels and not gdcm_changes(native):
            different.append(f"{instance.path}: GDCM")
    counted.append(f"corpus: of {len(ones)} compressed, pixels are the same to {show(agrees)}")
    assert different == []
