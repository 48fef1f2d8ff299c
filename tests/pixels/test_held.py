"""An instance that is held in memory is given as one that lies in a file."""

from __future__ import annotations

from pathlib import Path

import instances
import pydicom
import pytest
from instances import image
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from node.dicom.identity import scan_any
from node.dicom.part10 import FileMeta
from node.pixels import held, rle
from node.pixels.files import write_file
from node.pixels.held import HeldInstance, hold
from node.pixels.instance import data_set_in, native_syntaxes
from node.pixels.planning import NotEncoded
from node.pixels.policy import Options
from node.pixels.stored import opened
from node.reasons import KeepReason

IMAGES = {
    "one frame": lambda: image(),
    "many frames": lambda: image(frames=9),
    "RGB by pixel": lambda: image(samples=3, bits=8),
    "no pixels": lambda: instances.instance(),
}


def meta_of(syntax: str) -> FileMeta:
    return FileMeta(sop_class_uid="1.2.3", sop_instance_uid="1.2.4", transfer_syntax_uid=syntax)


def held_of(data: bytes, syntax: str, options: Options | None = None) -> HeldInstance:
    return hold(scan_any(data, syntax), memoryview(data), meta_of(syntax), options or Options())


@pytest.mark.parametrize("verify", [True, False, "independent"])
@pytest.mark.parametrize("syntax", instances.NATIVE, ids=lambda uid: uid.name)
@pytest.mark.parametrize("case", IMAGES)
def test_it_is_what_a_file_would_be(case: str, syntax: str, verify: bool, tmp_path: Path) -> None:
    data, options = instances.encoded(IMAGES[case](), syntax), Options(verify=verify)
    instance = held_of(data, syntax, options)
    with (tmp_path / "stored.dcm").open("w+b", buffering=0) as sink:
        assert write_file(scan_any(data, syntax), meta_of(syntax), sink, options).reason is (
            instance.form.reason
        )
    with opened(tmp_path / "stored.dcm") as stored:
        for name in ("transfer_syntax_uid", "received_syntax", "received_bytes", "is_encoded_here"):
            assert getattr(instance, name) == getattr(stored, name)
        assert instance.study_instance_uid == stored.study_instance_uid
        assert instance.form.byte_count == stored.data_set.nbytes
        for wanted in (instance.transfer_syntax_uid, *native_syntaxes(stored)):
            given = b"".join(data_set_in(instance, wanted))
            assert given == b"".join(data_set_in(stored, wanted))
    assert b"".join(instance.as_received(Options().run)) == data


def test_what_came_compressed_is_decompressed() -> None:
    path = pydicom.data.get_testdata_file("MR_small_RLE.dcm", download=False)
    with opened(Path(str(path))) as file:
        instance = held_of(bytes(file.data_set), RLELossless)
        assert instance.form.reason is KeepReason.ALREADY_COMPRESSED
        for wanted in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
            here = b"".join(data_set_in(instance, wanted))
            assert here == b"".join(data_set_in(file, wanted))


def wrong(*_: object) -> bool:
    return False


def broken(*_: object) -> bool:
    raise ZeroDivisionError("somewhere")


@pytest.mark.parametrize(
    ("proof", "reason"), [(wrong, KeepReason.VERIFY_FAILED), (broken, KeepReason.ENCODER_FAILED)]
)
def test_it_does_not_end_where_its_frames_are_not_proven(proof, reason, monkeypatch) -> None:
    instance = held_of(instances.encoded(image()), ExplicitVRLittleEndian)
    monkeypatch.setattr(rle, "matches", proof)
    chunks = instance.chunks()
    with pytest.raises(NotEncoded) as raised:
        list(chunks)
    assert raised.value.reason is reason


def test_defect_costs_compression_only(monkeypatch) -> None:
    monkeypatch.setattr(held, "encoded_ahead", broken)
    data = instances.encoded(image())
    instance = held_of(data, ExplicitVRLittleEndian)
    assert instance.form.reason is KeepReason.ENCODER_FAILED
    assert b"".join(instance.chunks()) == data
