"""Instances that have to stay as they are, whatever is wrong with them or with an encoder."""

from __future__ import annotations

import io
import tracemalloc
import zlib

import instances
import pytest
from instances import image
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from node.dicom import uids
from node.dicom.identity import check, identity_of, scan_any
from node.dicom.part10 import FileMeta
from node.dicom.scan import scan
from node.errors import CannotUnderstand, InvalidSOPInstance
from node.pixels import files
from node.pixels.files import Written, write_file
from node.pixels.planning import NotEncoded, plan, turned
from node.pixels.policy import Options
from node.reasons import KeepReason


def written(data: bytes, syntax: str, options: Options | None = None) -> tuple[Written, bytes]:
    """What became of a data set, and the file."""
    meta = FileMeta(sop_class_uid="1.2.3", sop_instance_uid="1.2.4", transfer_syntax_uid=syntax)
    sink = io.BytesIO()
    return write_file(scan(data, syntax), meta, sink, options or Options()), sink.getvalue()


@pytest.mark.parametrize(("frames", "rows"), [(1, 201), (2, 201), (3, 201)])
def test_big_endian_words_across_frames_stay(frames: int, rows: int) -> None:
    ds = image(bits=8, rows=rows, columns=201, frames=frames)
    ds["PixelData"].VR = "OW"
    data = instances.encoded(ds, ExplicitVRBigEndian)
    result, file = written(data, ExplicitVRBigEndian)
    assert result.reason is KeepReason.UNUSUAL_ENCODING
    assert file.endswith(data)


def test_turning_takes_any_length() -> None:
    for length in range(9):
        native = bytes(range(length))
        for vr, bits in (("OW", 8), ("OB", 8), ("OW", 16), ("OW", 32)):
            assert turned(turned(native, vr, bits), vr, bits) == native


def test_planar_configuration_after_pixel_data_stays() -> None:
    ds = image(samples=3, bits=8)
    data = instances.encoded(ds)
    at = data.index(b"\x28\x00\x06\x00US")
    moved = data[:at] + data[at + 10 :] + data[at : at + 10]
    result, file = written(moved, ExplicitVRLittleEndian)
    assert result.reason is KeepReason.UNUSUAL_ENCODING
    assert file.endswith(moved)


@pytest.mark.parametrize("where", ["plan", "encoded_data_set"])
def test_defect_costs_compression_only(where, monkeypatch, caplog) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("somewhere")

    monkeypatch.setattr(files, where, fails)
    data = instances.encoded(image())
    result, file = written(data, ExplicitVRLittleEndian)
    assert result.reason is KeepReason.ENCODER_FAILED
    assert result.detail == "ZeroDivisionError: somewhere"
    assert file.endswith(data)
    assert "ZeroDivisionError" in caplog.text


def test_full_disk_is_no_defect(monkeypatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "encoded_data_set", fails)
    with pytest.raises(OSError, match="No space"):
        written(instances.encoded(image()), ExplicitVRLittleEndian)


@pytest.mark.parametrize("syntax", sorted(uids.DEFLATED))
def test_every_deflated_syntax_is_inflated_for_its_uids(syntax: str) -> None:
    ds = image()
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(instances.encoded(ds)) + packer.flush()
    scanned = scan_any(packed, syntax)
    assert scanned.sop_instance_uid == ds.SOPInstanceUID
    with pytest.raises(CannotUnderstand):
        scan_any(b"\xff\xff\xff\xff", syntax)
    meta = FileMeta(sop_class_uid="1.2.3", sop_instance_uid="1.2.4", transfer_syntax_uid=syntax)
    with pytest.raises(ValueError, match="write_unread"):
        write_file(scanned, meta, io.BytesIO(), Options())


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_what_is_no_uid_is_named(keyword: str) -> None:
    ds = image()
    found = identity_of(scan(instances.encoded(ds), ExplicitVRLittleEndian))
    number = {"StudyInstanceUID": "D", "SeriesInstanceUID": "E"}[keyword]
    name = f"{keyword.removesuffix('InstanceUID').lower()}_instance_uid"
    with pytest.raises(InvalidSOPInstance) as failure:
        check(found._replace(**{name: "../x"}), ds.SOPClassUID, ds.SOPInstanceUID)
    series = keyword.removesuffix("InstanceUID")
    assert str(failure.value) == f"{series} Instance UID (0020,000{number}) is no UID"
    with pytest.raises(InvalidSOPInstance) as failure:
        check(found, ds.SOPClassUID, "../x")
    assert len(str(failure.value)) <= 64


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 16)])
def test_a_million_tiny_frames_cost_no_memory(rows: int, columns: int) -> None:
    frames = (1 << 20) // (rows * columns)
    ds = image(bits=8, rows=rows, columns=columns, frames=frames)
    scanned = scan(instances.encoded(ds), ExplicitVRLittleEndian)
    tracemalloc.start()
    try:
        with pytest.raises(NotEncoded) as kept:
            plan(scanned, Options())
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert kept.value.reason is KeepReason.NOT_SMALLER
