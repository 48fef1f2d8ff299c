"""`from node.pixels import …`: bytes, data sets and arrays in, the same pixels out by pydicom."""

from __future__ import annotations

import copy
import doctest
import io
import subprocess
import sys
from pathlib import Path

import instances
import numpy as np
import pydicom
import pytest
from pydicom import examples
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from node import pixels
from node.errors import BadConfiguration, CannotUnderstand, DecodingFailed
from node.pixels import Options, library
from node.reasons import KeepReason

CT = Path(examples.get_path("ct"))


def sample(name: str) -> Dataset:
    return pydicom.dcmread(CT.with_name(name))


def saved(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def raw(dataset: Dataset) -> np.ndarray:
    """The pixels of a data set as somebody who only has its file decodes them."""
    return pixel_array(pydicom.dcmread(io.BytesIO(saved(dataset))), raw=True)


def test_the_examples_of_the_docstrings():
    results = doctest.testmod(library)
    assert results.attempted >= 10
    assert not results.failed


def test_what_is_exported_is_there():
    for name in pixels.__all__:
        assert getattr(pixels, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pixels.nothing


def test_importing_the_room_imports_nothing_heavy():
    code = "import sys, node.pixels; print([n for n in ('numpy', 'pydicom') if n in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small_implicit.dcm",
        "MR_small_bigendian.dcm",
        "examples_rgb_color.dcm",
        "examples_palette.dcm",
        "examples_overlay.dcm",
    ],
)
@pytest.mark.parametrize("verify", [True, False, "independent"])
def test_files_in_memory(name, verify):
    file = CT.with_name(name).read_bytes()
    smaller = pixels.compress(file, Options(verify=verify))
    assert len(smaller) < len(file)
    before, after = (pydicom.dcmread(io.BytesIO(data)) for data in (file, smaller))
    assert after.file_meta.TransferSyntaxUID == RLELossless
    assert after.SOPInstanceUID == before.SOPInstanceUID
    assert np.array_equal(pixel_array(after, raw=True), pixel_array(before, raw=True))


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "rtplan.dcm", "image_dfl.dcm", "rtdose.dcm"])
def test_files_that_stay_as_they_are(name):
    file = CT.with_name(name).read_bytes()
    assert pixels.compress(file) is file


@pytest.mark.parametrize("file", [b"", b"no DICOM file", bytes(200)])
def test_bytes_that_are_no_file(file):
    with pytest.raises(CannotUnderstand):
        pixels.compress(file)


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small_implicit.dcm",
        "examples_rgb_color.dcm",
        "examples_overlay.dcm",
    ],
)
def test_data_sets(name):
    before, dataset = sample(name), sample(name)
    assert pixels.compress_dataset(dataset) is None
    assert dataset.file_meta.TransferSyntaxUID == RLELossless
    assert dataset["PixelData"].VR == "OB"
    assert dataset["PixelData"].is_undefined_length
    assert dataset.SOPInstanceUID == before.SOPInstanceUID
    assert dataset.get("PlanarConfiguration") == (1 if before.SamplesPerPixel > 1 else None)
    assert np.array_equal(raw(dataset), pixel_array(before, raw=True))
    pixels.decompress_dataset(dataset)
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert dataset.SOPInstanceUID == before.SOPInstanceUID
    assert np.array_equal(raw(dataset), pixel_array(before, raw=True))


@pytest.mark.parametrize("uid", [JPEGLSLossless, JPEG2000Lossless])
def test_other_transfer_syntaxes(uid):
    dataset = sample("examples_rgb_color.dcm")
    array = pixel_array(dataset, raw=True)
    assert pixels.compress_dataset(dataset, Options(transfer_syntax_uid=uid)) is None
    assert dataset.PlanarConfiguration == 0
    assert np.array_equal(pixel_array(dataset, raw=True), array)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rtplan.dcm", KeepReason.NO_PIXEL_DATA),
        ("rtdose.dcm", KeepReason.NOT_IN_TABLE),
        ("liver_1frame.dcm", KeepReason.ONE_BIT),
        ("SC_rgb_small_odd.dcm", KeepReason.NOT_SMALLER),
        ("MR_truncated.dcm", KeepReason.SHORT_PIXEL_DATA),
    ],
)
def test_data_sets_that_stay_as_they_are(name, reason):
    dataset = sample(name)
    before = copy.deepcopy(dataset)
    assert pixels.compress_dataset(dataset) is reason
    assert dataset == before
    assert dataset.file_meta == before.file_meta


def test_data_sets_that_cannot_be_asked_for():
    with pytest.raises(ValueError, match=r"RLE Lossless already: decompress it first"):
        pixels.compress_dataset(sample("MR_small_RLE.dcm"))
    with pytest.raises(ValueError, match=r"no file_meta\.TransferSyntaxUID"):
        pixels.compress_dataset(Dataset())
    with pytest.raises(BadConfiguration, match="is not installed"):
        pixels.compress_dataset(sample("CT_small.dcm"), Options(encoder="nobody"))


def test_planar_configuration_1_comes_out_right():
    dataset = sample("examples_rgb_color.dcm")
    array = pixel_array(dataset, raw=True)
    dataset.PixelData = array.transpose(2, 0, 1).tobytes()
    dataset.PlanarConfiguration = 1
    assert pixels.compress_dataset(dataset) is None
    assert np.array_equal(raw(dataset), array)


ARRAYS = [
    {"rows": 32, "columns": 24},
    {"rows": 32, "columns": 24, "signed": True},
    {"rows": 33, "columns": 23, "bits": 8},
    {"rows": 32, "columns": 24, "frames": 3},
    {"rows": 32, "columns": 24, "bits": 8, "samples": 3},
    {"rows": 31, "columns": 23, "bits": 8, "samples": 3, "frames": 5},
]


def described(**shape: object) -> tuple[Dataset, np.ndarray]:
    """A data set, and other pixels than it has, that fit it."""
    dataset = instances.image(**shape, seed=1)
    dataset.ensure_file_meta()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset, pixel_array(dataset, raw=True)[..., ::-1].copy()


@pytest.mark.parametrize("shape", ARRAYS)
def test_arrays(shape):
    dataset, array = described(**shape)
    assert pixels.compress_array(array, dataset) is None
    assert dataset.file_meta.TransferSyntaxUID == RLELossless
    assert np.array_equal(raw(dataset), array)


def test_a_big_endian_array():
    dataset, array = described(rows=32, columns=24)
    assert pixels.compress_array(array.astype(">u2"), dataset) is None
    assert np.array_equal(raw(dataset), array)


def test_an_array_for_a_data_set_without_file_meta():
    dataset = instances.image(rows=32, columns=24)
    array = np.arange(768, dtype="<u2").reshape(32, 24) // 50
    assert pixels.compress_array(array, dataset) is None
    assert np.array_equal(pixel_array(dataset, raw=True), array)


@pytest.mark.parametrize(
    ("array", "given"),
    [
        (np.zeros((24, 32), "u2"), r"shape \(24, 32\) and dtype uint16"),
        (np.zeros((32, 24, 1), "u2"), r"shape \(32, 24, 1\) and dtype uint16"),
        (np.zeros((1, 32, 24), "u2"), r"shape \(1, 32, 24\) and dtype uint16"),
        (np.zeros((32, 24), "u1"), r"shape \(32, 24\) and dtype uint8"),
        (np.zeros((32, 24), "i2"), r"shape \(32, 24\) and dtype int16"),
        (np.zeros((32, 24), "f4"), r"shape \(32, 24\) and dtype float32"),
    ],
)
def test_arrays_that_do_not_match(array, given):
    dataset, _ = described(rows=32, columns=24)
    before = copy.deepcopy(dataset)
    with pytest.raises(ValueError, match=f"{given}.* describes .32, 24. and uint16"):
        pixels.compress_array(array, dataset)
    assert dataset == before


def test_an_array_that_nothing_describes():
    with pytest.raises(ValueError, match="does not describe its pixels"):
        pixels.compress_array(np.zeros((2, 2), "u1"), Dataset())


@pytest.mark.parametrize("extended", [False, True, None])
def test_frames_of_somebody_else(extended):
    """GDCM, or whoever: here the frames of pydicom's own RLE sample."""
    source = sample("SC_rgb_rle_2frame.dcm")
    frames = list(generate_frames(source.PixelData, number_of_frames=2))
    dataset = copy.deepcopy(source)
    pixels.decompress_dataset(dataset)
    pixels.encapsulate_frames(dataset, frames, RLELossless, extended=extended)
    assert ("ExtendedOffsetTable" in dataset) is bool(extended)
    assert ("ExtendedOffsetTableLengths" in dataset) is bool(extended)
    assert np.array_equal(raw(dataset), pixel_array(source, raw=True))
    pixels.encapsulate_frames(dataset, frames, RLELossless)
    assert "ExtendedOffsetTable" not in dataset  # none is left from before


def test_frames_of_another_number():
    with pytest.raises(ValueError, match="2 frames are given, the data set describes 1"):
        pixels.encapsulate_frames(sample("CT_small.dcm"), [b"1", b"2"], RLELossless)


def test_decoding_that_is_not_possible(monkeypatch):
    monkeypatch.setattr(library, "missing_decoder", lambda uid: "pip install this")
    with pytest.raises(DecodingFailed, match="pip install this"):
        pixels.decompress_dataset(sample("MR_small_RLE.dcm"))


def test_decoding_that_fails():
    dataset = sample("MR_small_RLE.dcm")
    dataset.PixelData = dataset.PixelData[:200]
    with pytest.raises(DecodingFailed, match="RLE Lossless cannot be decoded"):
        pixels.decompress_dataset(dataset)


def big_endian() -> Dataset:
    """A real one, with words in another element too."""
    dataset = sample("MR_small_bigendian.dcm")
    dataset.add_new(0x00281201, "OW", b"\1\2\3\4")  # Red Palette Color Lookup Table Data
    return dataset


def test_big_endian_data_sets():
    """Everything in them is turned: pydicom leaves the words of OW as they are."""
    dataset, pixels_before = big_endian(), pixel_array(big_endian(), raw=True)
    assert pixels.compress_dataset(dataset) is None
    after = pydicom.dcmread(io.BytesIO(saved(dataset)))
    assert np.array_equal(pixel_array(after, raw=True), pixels_before)
    assert after[0x00281201].value == b"\2\1\4\3"
    before = big_endian()
    for one in (before, after):
        del one.PixelData, one[0x00281201]
    assert before == after


def test_an_array_for_a_big_endian_data_set():
    dataset = big_endian()
    array = dataset.pixel_array[::-1]
    assert pixels.compress_array(array, dataset) is None
    assert np.array_equal(raw(dataset), array)


def test_wide_pixels_in_big_endian_are_refused():
    dataset = big_endian()
    dataset.BitsAllocated = 32
    with pytest.raises(ValueError, match="big endian with pixels of more than 16 bits"):
        pixels.compress_dataset(dataset)
