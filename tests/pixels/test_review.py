"""Instances that have to stay as they are, whatever is wrong with them or with an encoder."""

from __future__ import annotations

import io

import instances
import pytest
from instances import image
from pydicom.uid import ExplicitVRBigEndian

from node.dicom.part10 import FileMeta
from node.dicom.scan import scan
from node.model import KeepReason
from node.pixels.files import Written, write_file
from node.pixels.policy import Options
from node.pixels.transcoder import turned


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
