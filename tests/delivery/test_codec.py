"""A destination with a transfer syntax of its own: what arrives there, to the last element."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import instances
import pytest
from delivery.giving import give
from delivery.scripted_scp import Part, ScriptedSCP
from pydicom import Dataset, dcmread
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from node.delivery.forward import Forward, Manner
from node.dicom.part10 import FileMeta
from node.dicom.scan import scan
from node.model import Delivered
from node.network.store_scu import Peer
from node.pixels import recode
from node.pixels.files import write_file
from node.pixels.policy import Options
from node.spool import Disk, Durability, Entry, Spool

IMAGES = {
    "CT": instances.with_everything(instances.image()),
    "frames": instances.image(frames=3, bits=8),
    "RGB": instances.image(samples=3, bits=8),
    "planes": instances.image(samples=3, bits=8, planar=1),
}
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
CODECS = (JPEGLSLossless, JPEG2000Lossless, RLELossless)


def need(codec: str) -> None:
    if not get_encoder(UID(codec)).is_available:
        pytest.skip(f"no encoder for {UID(codec).name} is installed")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool", Disk(Durability.NONE))
    spool.add_destination("pacs")
    return spool


def put(spool: Spool, ds: Dataset, syntax: str, stored_as: str) -> Entry:
    meta = FileMeta(
        sop_class_uid=str(ds.SOPClassUID),
        sop_instance_uid=str(ds.SOPInstanceUID),
        transfer_syntax_uid=syntax,
    )
    scanned = scan(instances.encoded(ds, syntax), syntax)
    with spool.begin() as incoming:
        write_file(scanned, meta, incoming.file, Options(transfer_syntax_uid=stored_as))
        entry = incoming.commit()
    spool.fan_out([entry], ["pacs"])
    return next(one for one in spool.queued("pacs") if one.name == entry.name)


def forward(port: int, codec: str) -> Forward:
    peer = Peer(ae_title="PACS", host="127.0.0.1", port=port, calling_ae_title="DCMPRESS")
    return Forward("pacs", peer, manner=Manner(codec=Options(transfer_syntax_uid=codec)))


def received(tmp_path: Path, sent: Dataset, taken: tuple[str, str, bytes]) -> Dataset:
    """What arrived, read by pydicom."""
    _, syntax, data = taken
    return dcmread(instances.as_file_of(tmp_path / "received.dcm", sent, data, syntax))


@pytest.mark.parametrize(
    ("codec", "name", "syntax", "stored_as"),
    list(
        product(CODECS, IMAGES, (ExplicitVRLittleEndian, ImplicitVRLittleEndian), (RLELossless, ""))
    ),
)
def test_it_gets_equal_pixels_in_its_codec_and_every_other_element_untouched(
    codec: str, name: str, syntax: str, stored_as: str, spool: Spool, tmp_path: Path
) -> None:
    need(codec)
    ds = IMAGES[name]
    with ScriptedSCP([Part()]).listening() as archive:
        to = forward(archive.port, codec)
        outcome = give(to, put(spool, ds, syntax, stored_as))
        to.close()
        assert outcome == Delivered(destination="pacs", status=0)
        [taken] = archive.taken
    assert taken[1] == codec
    after = received(tmp_path, ds, taken)
    before = dcmread(instances.as_file(tmp_path / "sent.dcm", ds, syntax))
    assert instances.differences(before, after) == []
    options = {"correct_unused_bits": False} if codec == RLELossless else {}
    after.decompress(as_rgb=False, generate_instance_uid=False, **options)
    assert instances.by_pixel(after) == instances.by_pixel(ds)


@pytest.mark.parametrize(
    ("refused", "syntax"),
    [
        ({JPEGLSLossless}, RLELossless),
        ({JPEGLSLossless, RLELossless}, ExplicitVRLittleEndian),
        ({JPEGLSLossless, RLELossless, ExplicitVRLittleEndian}, ImplicitVRLittleEndian),
    ],
)
def test_it_falls_back_on_the_same_association_and_remembers(
    refused: set[str], syntax: str, spool: Spool
) -> None:
    need(JPEGLSLossless)
    entries = [put(spool, instances.image(), ExplicitVRLittleEndian, RLELossless) for _ in "abc"]
    part = Part(takes=lambda _, transfer: transfer not in refused)
    with ScriptedSCP([part]).listening() as archive:
        to = forward(archive.port, JPEGLSLossless)
        for entry in entries[:2]:
            assert isinstance(give(to, entry), Delivered)
        assert archive.associations == 1
        to.close()
        assert isinstance(give(to, entries[2]), Delivered)
        to.close()
    assert [transfer for _, transfer, _ in archive.taken] == [syntax] * 3
    assert not {transfer for _, transfer in archive.proposed[1]} & refused


def test_what_its_codec_cannot_make_smaller_goes_as_it_is_stored(spool: Spool) -> None:
    """Here an object without pixels, and one that came compressed."""
    need(JPEGLSLossless)
    entry = put(spool, instances.instance(), ExplicitVRLittleEndian, RLELossless)
    with ScriptedSCP([Part()]).listening() as archive:
        to = forward(archive.port, JPEGLSLossless)
        assert isinstance(give(to, entry), Delivered)
        to.close()
    assert [transfer for _, transfer, _ in archive.taken] == [ExplicitVRLittleEndian]


def test_what_is_too_large_to_be_recoded_goes_as_it_is_stored(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(JPEGLSLossless)
    monkeypatch.setattr(recode, "LARGEST_RECODED", 100)
    entry = put(spool, instances.image(), ExplicitVRLittleEndian, RLELossless)
    with ScriptedSCP([Part()]).listening() as archive:
        to = forward(archive.port, JPEGLSLossless)
        assert isinstance(give(to, entry), Delivered)
        to.close()
    assert [transfer for _, transfer, _ in archive.taken] == [RLELossless]
