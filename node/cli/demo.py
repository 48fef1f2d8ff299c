"""`dcmpress demo`: see the node work, with nothing to install, configure or clean up.

A node is started in this program, in folders that are gone afterwards. pydicom's own sample files
are sent to it over a real association, and what it wrote is read back. Pixels are compared by code
that is not ours: pydicom's, with the RLE decoder of pylibjpeg-rle. Ends with 1 where one differs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom import examples
from pydicom.pixels.utils import pixel_array
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from node.dicom import status
from node.dicom.contexts import Wanted, propose
from node.dicom.identity import Identity, identity_of, scan_any
from node.dicom.uids import RLE_LOSSLESS, name_of
from node.errors import NodeError
from node.network.store_scu import Peer, connect
from node.pixels.stored import opened
from node.service.node import Node
from node.settings import (
    DiskDestination,
    NodeSettings,
    Settings,
    SpoolSettings,
    StatusSettings,
)
from node.words import size

#: What is sent, and the name in `pydicom.examples` of the file, which is in pydicom's wheel.
_SAMPLES = {
    "16 bits": "ct",
    "16 bits, small": "mr",
    "with an overlay": "overlay",
    "RGB": "rgb_color",
    "palette": "palette_color",
    "15 frames": "rt_dose",
    "30 frames, JPEG": "ybr_color",
    "JPEG 2000": "jpeg2k",
    "waveform": "waveform",
    "plan": "rt_plan",
}
#: Two frames in colour: in RLE in the wheel, sent native.
_MULTI_FRAME = ("RGB, 2 frames", "SC_rgb_rle_2frame.dcm")
#: More than a node needs for ten small files on any machine.
_PATIENCE = 30.0

_ADVICE = """\
Try it with your own files:
  dcmpress serve                            listens as DCMPRESS on 127.0.0.1:11112
  storescu -aec DCMPRESS 127.0.0.1 11112 image.dcm
  dcmpress serve --to PACS@10.0.0.5:104     sends on to an archive what it receives"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One file to be sent: who it is, and its data set as it lies in the file."""

    title: str
    path: Path
    identity: Identity
    transfer_syntax_uid: str
    data_set: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a sample; `same_pixels` is None where there are none."""

    sample: Sample
    stored_syntax: str
    byte_count: int
    same_pixels: bool | None


def demo() -> None:
    """Start a node, send sample images to it, and show what came of them."""
    with tempfile.TemporaryDirectory(prefix="dcmpress-demo-") as folder:
        samples = list(_samples(Path(folder)))
        settings = _settings(Path(folder))
        with Node(settings) as node:
            host, port = node.address
            print(f"a node listens as {settings.node.ae_title} on {host}:{port}")
            _send(samples, Peer(ae_title="DCMPRESS", host=host, port=port, calling_ae_title="DEMO"))
            _wait_until_delivered(node, len(samples))
        outcomes = [_outcome(sample, Path(folder, "received")) for sample in samples]
    Console().print(_table(outcomes))
    if any(outcome.same_pixels is False for outcome in outcomes):
        raise NodeError("pixels differ: this is a bug, please report it with this table")
    print(_ADVICE)


def _samples(folder: Path) -> Iterator[Sample]:
    """Read pydicom's sample files."""
    for title, name in _SAMPLES.items():
        yield _sample(title, Path(examples.get_path(name)))
    title, name = _MULTI_FRAME
    native = folder / name
    dataset = pydicom.dcmread(Path(examples.get_path("ct")).with_name(name))
    dataset.decompress(as_rgb=False, decoding_plugin="pylibjpeg", generate_instance_uid=False)
    dataset.save_as(native)
    yield _sample(title, native)


def _sample(title: str, path: Path) -> Sample:
    with opened(path) as file:
        syntax, data_set = file.meta.transfer_syntax_uid, bytes(file.data_set)
    return Sample(title, path, identity_of(scan_any(data_set, syntax)), syntax, data_set)


def _settings(folder: Path) -> Settings:
    return Settings(
        node=NodeSettings(port=0, receivers=1, state_directory=folder / "state"),
        spool=SpoolSettings(durability="none", reserve_bytes=0, reserve_percent=0),
        destinations=(DiskDestination(name="demo", directory=folder / "received"),),
        status=StatusSettings(port=0),
    )


def _send(samples: list[Sample], peer: Peer) -> None:
    wanted = [Wanted(s.identity.sop_class_uid, (s.transfer_syntax_uid,)) for s in samples]
    association = connect(peer, propose(wanted))
    try:
        for sample in samples:
            answer = association.send(
                sample.identity.sop_class_uid,
                sample.identity.sop_instance_uid,
                sample.transfer_syntax_uid,
                [sample.data_set],
            )
            if answer.status != status.SUCCESS:
                raise NodeError(
                    f"{sample.path.name} was answered with {status.describe(answer.status)}: "
                    f"{answer.comment}"
                )
    finally:
        association.close()


def _wait_until_delivered(node: Node, count: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while node.progress["demo"].delivered < count:
        if time.monotonic() > deadline:
            raise NodeError(f"not everything was written: {node.progress['demo'].last_error}")
        time.sleep(0.005)


def _outcome(sample: Sample, received: Path) -> Outcome:
    identity = sample.identity
    [path] = received.rglob(f"{identity.sop_instance_uid}.dcm")
    with opened(path) as file:
        return Outcome(
            sample,
            file.meta.transfer_syntax_uid,
            len(file.data_set),
            same_pixels(sample.path, path),
        )


def same_pixels(sent: Path, stored: Path) -> bool | None:
    """Compare the pixels of two files; None where the first has none.

    Of what passed through in another's compression the bytes are compared: for its decoder an
    extra may be missing.
    """
    before, after = pydicom.dcmread(sent), pydicom.dcmread(stored)
    if "PixelData" not in before:
        return None
    if before.file_meta.TransferSyntaxUID.is_compressed:
        return bool(before.PixelData == after.PixelData)
    is_rle = after.file_meta.TransferSyntaxUID == RLE_LOSSLESS
    decoded = pixel_array(after, raw=True, decoding_plugin="pylibjpeg" if is_rle else "")
    return bool(np.array_equal(pixel_array(before, raw=True), decoded))


def _table(outcomes: list[Outcome]) -> Table:
    table = Table("Modality", "Sample", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("In", "Out", "Ratio"):
        table.add_column(heading, justify="right")
    table.add_column("Stored")
    table.add_column("Pixels")
    for outcome in outcomes:
        sample, before = outcome.sample, len(outcome.sample.data_set)
        table.add_row(
            sample.identity.modality or "-",
            sample.title,
            size(before),
            size(outcome.byte_count),
            f"{before / outcome.byte_count:.2f}",
            _as_stored(outcome),
            {True: "identical", False: "DIFFER", None: "none"}[outcome.same_pixels],
        )
    return table


def _as_stored(outcome: Outcome) -> str:
    changed = outcome.stored_syntax != outcome.sample.transfer_syntax_uid
    return name_of(outcome.stored_syntax) if changed else "as it came"
