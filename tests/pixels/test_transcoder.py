"""Instances through the transcoder and back: every pixel, every element, every byte.

pydicom is the reader throughout: it reads what went in and what came out, and knows nothing of us.
"""

from __future__ import annotations

import io
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import corpus
import instances
import numpy as np
import peers
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from instances import image, instance
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames, parse_basic_offsets
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from node.dicom import part10
from node.dicom.identity import scan_any
from node.dicom.part10 import FileMeta
from node.dicom.scan import scan
from node.errors import BadConfiguration, CannotUnderstand, DecodingFailed, EncodingFailed
from node.pixels import encapsulation, files, rle, transcoder
from node.pixels.codecs import check_installed
from node.pixels.files import Written, write_file, write_unread
from node.pixels.instance import data_set_in, native_syntaxes
from node.pixels.policy import Options
from node.pixels.stored import opened
from node.reasons import KeepReason

SMALL: dict[str, Callable[[], Dataset]] = {
    "12 of 16 bits": image,
    "16 bits signed": lambda: image(signed=True, stored=16),
    "12 of 16 bits signed": lambda: image(signed=True),
    "8 bits": lambda: image(bits=8),
    "8 bits signed": lambda: image(bits=8, signed=True),
    "8 bits, odd length": lambda: image(bits=8, rows=15, columns=17),
    "8 bits, odd frames": lambda: image(bits=8, rows=15, columns=17, frames=3),
    "16 bits, frames": lambda: image(frames=4),
    "more frames than are looked at": lambda: image(frames=12, rows=20, columns=22),
    "MONOCHROME1": lambda: image(photometric="MONOCHROME1"),
    "PALETTE COLOR": lambda: image(bits=8, photometric="PALETTE COLOR"),
    "RGB by pixel": lambda: image(samples=3, bits=8),
    "RGB by plane": lambda: image(samples=3, bits=8, planar=1),
    "RGB by pixel, odd length": lambda: image(samples=3, bits=8, rows=15, columns=17),
    "RGB by plane, odd length": lambda: image(samples=3, bits=8, rows=15, columns=17, planar=1),
    "RGB by pixel, frames": lambda: image(samples=3, bits=8, frames=3),
    "RGB by plane, frames": lambda: image(samples=3, bits=8, planar=1, frames=3),
    "RGB by pixel, 16 bits": lambda: image(samples=3, bits=16, stored=16),
    "RGB by plane, 16 bits": lambda: image(samples=3, bits=16, stored=16, planar=1),
    "YBR_FULL": lambda: image(samples=3, bits=8, photometric="YBR_FULL"),
    "one row": lambda: image(rows=1, columns=300),
    "overlay in the high bits": lambda: with_overlay_in_high_bits(image()),
    "everything around it": lambda: instances.with_everything(image()),
    "everything, signed": lambda: instances.with_everything(image(signed=True)),
    "everything, RGB": lambda: instances.with_everything(image(samples=3, bits=8)),
    "8 bits in OW": lambda: in_words(image(bits=8)),
}


def with_overlay_in_high_bits(ds: Dataset) -> Dataset:
    """An overlay in bit 15 of the pixels (PS3.5 8.1.2, retired): bits that are not stored count."""
    pixels = np.frombuffer(ds.PixelData, "<u2").copy()
    pixels[100:700] |= 0x8000
    ds.PixelData = pixels.tobytes()
    ds.add_new(0x60000010, "US", ds.Rows)
    ds.add_new(0x60000011, "US", ds.Columns)
    ds.add_new(0x60000100, "US", 16)
    ds.add_new(0x60000102, "US", 15)
    return ds


def in_words(ds: Dataset) -> Dataset:
    ds["PixelData"].VR = "OW"
    return ds


def meta_of(ds: Dataset, syntax: str) -> FileMeta:
    return FileMeta(
        sop_class_uid=str(ds.SOPClassUID),
        sop_instance_uid=str(ds.SOPInstanceUID),
        transfer_syntax_uid=syntax,
    )


class Stored:
    """One data set written to a file by the transcoder."""

    def __init__(
        self, path: Path, data: bytes, syntax: str, options: Options | None = None
    ) -> None:
        self.path, self.data, self.syntax = path, data, syntax
        identity = scan_any(data, syntax)
        meta = FileMeta(
            sop_class_uid=identity.sop_class_uid or "1.2.3",
            sop_instance_uid=identity.sop_instance_uid or "1.2.3",
            transfer_syntax_uid=syntax,
        )
        with open(path, "w+b", buffering=0) as file:
            self.written: Written = write_file(scan(data, syntax), meta, file, options or Options())

    @property
    def reason(self) -> KeepReason | None:
        return self.written.reason

    def read(self) -> Dataset:
        return pydicom.dcmread(self.path)

    def native(self) -> Dataset:
        """What went in, as pydicom reads it."""
        ds = pydicom.dcmread(
            instances.as_file_of(
                self.path.with_suffix(".native"),
                instance(SOPInstanceUID="1.2.3"),
                self.data,
                self.syntax,
            )
        )
        ds.file_meta.TransferSyntaxUID = self.syntax
        return ds

    def given_in(self, syntax: str) -> bytes:
        with opened(self.path) as there:
            return b"".join(bytes(chunk) for chunk in data_set_in(there, syntax))

    def assert_whole(self) -> None:
        """It was encoded, no pixel and no other element differs, and it comes back as it was."""
        assert self.reason is None, self.written.detail
        stored, native = self.read(), self.native()
        assert instances.differences(native, stored) == []
        decompress(stored)
        assert instances.by_pixel(stored) == instances.by_pixel(native)
        assert self.given_in(self.syntax) == self.data
        with opened(self.path) as there:
            assert there.is_whole()
            assert there.data_set.nbytes == self.written.byte_count < len(self.data)


def decompress(ds: Dataset) -> None:
    """Decode as pydicom does, but without a change to colours or to bits that are not stored."""
    if ds.file_meta.TransferSyntaxUID == RLELossless:
        ds.decompress(as_rgb=False, generate_instance_uid=False, correct_unused_bits=False)
    else:
        ds.decompress(as_rgb=False, generate_instance_uid=False)


# -- the round trip ------------------------------------------------------------------------------


@pytest.fixture(params=["held", "streamed"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small data sets are put together in memory, large ones written as they are encoded."""
    if request.param == "streamed":
        monkeypatch.setattr(files, "LARGEST_IN_MEMORY", 0)
        monkeypatch.setattr(encapsulation, "_MOST_HELD", 2)
    return str(request.param)


@pytest.mark.parametrize("syntax", instances.NATIVE, ids=lambda uid: uid.name)
@pytest.mark.parametrize("case", SMALL)
def test_every_pixel_and_every_element_goes_there_and_back(
    case: str, syntax: str, way: str, tmp_path: Path
) -> None:
    stored = Stored(tmp_path / "stored.dcm", instances.encoded(SMALL[case](), syntax), syntax)
    stored.assert_whole()
    ds = stored.read()
    if ds.SamplesPerPixel > 1:
        assert ds.PlanarConfiguration == 1
    assert ds.file_meta.TransferSyntaxUID == RLELossless
    assert ds["PixelData"].VR == "OB"


@pytest.mark.parametrize("case", ["12 of 16 bits", "RGB by plane", "everything, signed"])
@pytest.mark.parametrize("received", instances.NATIVE, ids=lambda uid: uid.name)
def test_every_native_transfer_syntax_can_be_had(case: str, received: str, tmp_path: Path) -> None:
    ds = SMALL[case]()
    stored = Stored(tmp_path / "stored.dcm", instances.encoded(ds, received), received)
    with opened(stored.path) as there:
        offered = native_syntaxes(there)
    assert offered[0] == received
    assert {ImplicitVRLittleEndian, ExplicitVRLittleEndian} <= set(offered)
    for syntax in offered:
        given = stored.given_in(syntax)
        path = instances.as_file_of(tmp_path / "given.dcm", ds, given, syntax)
        native, as_read = stored.native(), pydicom.dcmread(path)
        if ImplicitVRLittleEndian in (received, syntax) and received != syntax:
            # Implicit VR does not tell the VR of private elements.
            native.remove_private_tags()
            as_read.remove_private_tags()
        assert instances.differences(native, as_read) == []
        assert instances.by_pixel(as_read) == instances.by_pixel(native)


@pytest.mark.parametrize("case", ["overlay in the high bits", "RGB by plane", "YBR_FULL"])
def test_what_came_compressed_is_decoded_without_a_change_to_any_bit(
    case: str, tmp_path: Path
) -> None:
    ds = SMALL[case]()
    before = instances.by_pixel(ds)
    ds = compressed(ds)
    stored = Stored(tmp_path / "stored.dcm", instances.encoded(ds, RLELossless), RLELossless)
    assert stored.reason is KeepReason.ALREADY_COMPRESSED
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        given = stored.given_in(syntax)
        path = instances.as_file_of(tmp_path / "given.dcm", ds, given, syntax)
        assert instances.by_pixel(pydicom.dcmread(path)) == before


@pytest.mark.parametrize("frames", [1, 2, 12])
def test_the_offset_table_tells_where_frames_are(frames: int, way: str, tmp_path: Path) -> None:
    ds = image(frames=frames, bits=8)
    stored = Stored(tmp_path / "stored.dcm", instances.encoded(ds), ExplicitVRLittleEndian).read()
    encapsulated = stored.PixelData
    offsets = parse_basic_offsets(encapsulated)
    items = 12 + 4 * frames - 4
    assert [encapsulated[items + at : items + at + 4] for at in offsets] == (
        [b"\xfe\xff\x00\xe0"] * frames
    )
    assert len(list(generate_frames(encapsulated, number_of_frames=frames))) == frames


def test_the_extended_offset_table_comes_where_32_bits_do_not_suffice(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcoder, "LARGEST_BASIC_OFFSET", 100)
    ds = instances.with_everything(image(frames=5, samples=3, bits=8))
    for syntax in instances.NATIVE:
        stored = Stored(tmp_path / "stored.dcm", instances.encoded(ds, syntax), syntax)
        stored.assert_whole()
        read = stored.read()
        assert parse_basic_offsets(read.PixelData) == []
        offsets = np.frombuffer(read.ExtendedOffsetTable, "<u8")
        lengths = np.frombuffer(read.ExtendedOffsetTableLengths, "<u8")
        table = (read.ExtendedOffsetTable, read.ExtendedOffsetTableLengths)
        with_table = list(
            generate_frames(read.PixelData, number_of_frames=5, extended_offsets=table)
        )
        without = list(generate_frames(read.PixelData, number_of_frames=5))
        assert with_table == without
        assert offsets[0] == 0
        assert list(np.diff(offsets)) == [length + 8 for length in lengths[:-1]]


@pytest.mark.parametrize("case", ["16 bits, frames", "more frames than are looked at"])
def test_threads_change_nothing(case: str, way: str, tmp_path: Path) -> None:
    data = instances.encoded(SMALL[case]())
    one, many = (
        Stored(tmp_path / f"{n}.dcm", data, ExplicitVRLittleEndian, Options(threads=n))
        for n in (1, 4)
    )
    many.assert_whole()
    assert one.path.read_bytes() == many.path.read_bytes()


@st.composite
def any_image(draw: st.DrawFn) -> tuple[Dataset, str]:
    samples = draw(st.sampled_from([1, 3]))
    bits = draw(st.sampled_from([8, 16]))
    ds = image(
        rows=draw(st.integers(1, 20)),
        columns=draw(st.integers(1, 20)),
        frames=draw(st.integers(1, 10)),
        samples=samples,
        bits=bits,
        stored=bits,
        planar=draw(st.sampled_from([0, 1])),
    )
    count = len(ds.PixelData)
    runs = draw(st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.integers(1, 300))))
    native = b"".join(value * times for value, times in runs)[:count].ljust(count, b"\x07")
    size = ds.Rows * ds.Columns * samples * bits // 8 * int(ds.get("NumberOfFrames") or 1)
    ds.PixelData = native[:size] + bytes(count - size)
    return ds, draw(st.sampled_from(instances.NATIVE))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_image=any_image())
def test_any_image_goes_there_and_back_or_stays_as_it_is(
    given_image: tuple[Dataset, str], tmp_path: Path
) -> None:
    ds, syntax = given_image
    stored = Stored(tmp_path / "stored.dcm", instances.encoded(ds, syntax), syntax)
    if stored.reason is None:
        stored.assert_whole()
    else:
        turned_odd = syntax == ExplicitVRBigEndian and ds.BitsAllocated == 8
        assert stored.reason is KeepReason.NOT_SMALLER or turned_odd
        assert stored.given_in(syntax) == stored.data


# -- other codecs --------------------------------------------------------------------------------


CODECS = {
    "RLE by dcmpress, checked by others": Options(verify="independent"),
    "RLE by pylibjpeg": Options(encoder="pylibjpeg"),
    "RLE by gdcm": Options(encoder="gdcm"),
    "RLE by pydicom": Options(encoder="pydicom"),
    "JPEG-LS": Options(transfer_syntax_uid=JPEGLSLossless),
    "JPEG 2000": Options(transfer_syntax_uid=JPEG2000Lossless),
    "HTJ2K": Options(transfer_syntax_uid=HTJ2KLossless),
}
WITH_CODECS = (
    "12 of 16 bits",
    "16 bits signed",
    "8 bits",
    "8 bits, odd frames",
    "RGB by pixel",
    "RGB by plane",
    "RGB by plane, odd length",
    "YBR_FULL",
    "everything, RGB",
    "overlay in the high bits",
)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("case", WITH_CODECS)
def test_every_codec_is_lossless_or_keeps(case: str, codec: str, tmp_path: Path) -> None:
    options = CODECS[codec]
    try:
        check_installed(options)
    except BadConfiguration as absent:
        peers.missing(str(absent))
    for syntax in instances.NATIVE:
        data = instances.encoded(SMALL[case](), syntax)
        stored = Stored(tmp_path / "stored.dcm", data, syntax, options)
        if (codec, case) in KEPT_BY_CODEC:
            assert stored.reason is KEPT_BY_CODEC[codec, case], stored.written.detail
            assert stored.given_in(syntax) == data
            continue
        stored.assert_whole()
        ds = stored.read()
        assert ds.file_meta.TransferSyntaxUID == options.transfer_syntax_uid
        if ds.SamplesPerPixel > 1:
            assert ds.PlanarConfiguration == (1 if codec.startswith("RLE") else 0)


#: What an encoder of others cannot do, and how that ends: never with a pixel that differs.
KEPT_BY_CODEC = {
    # GDCM 3.2.6 would end the process.
    ("RLE by gdcm", "8 bits, odd frames"): KeepReason.ENCODER_FAILED,
    ("RLE by gdcm", "RGB by plane, odd length"): KeepReason.ENCODER_FAILED,
    # OpenJPEG, as pylibjpeg calls it, takes no image of less than 32 rows or columns.
    ("JPEG 2000", "8 bits, odd frames"): KeepReason.ENCODER_FAILED,
    ("JPEG 2000", "RGB by plane, odd length"): KeepReason.ENCODER_FAILED,
    # A code stream of 12 bits has no room for a thirteenth.
    ("JPEG-LS", "overlay in the high bits"): KeepReason.VERIFY_FAILED,
    ("JPEG 2000", "overlay in the high bits"): KeepReason.VERIFY_FAILED,
    # Its code stream has more around it than there is in frames of 255 bytes.
    ("HTJ2K", "8 bits, odd frames"): KeepReason.NOT_SMALLER,
}


# -- beyond Table 8.2.2-1, where that is asked for ------------------------------------------------


def segmentation(rows: int, columns: int, frames: int) -> Dataset:
    """A segmentation: blocks of ones, its frames one after the other without a gap."""
    ds = image(rows=rows, columns=columns, frames=frames, bits=8)
    number = np.arange(rows * columns * frames)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 1, 1, 0
    native = np.packbits(number // 300 % 3 == 1, bitorder="little").tobytes()
    ds.PixelData = native + bytes(len(native) % 2)
    return ds


BEYOND: dict[str, Callable[[], Dataset]] = {
    "32 bits": lambda: image(bits=32, stored=32),
    "32 bits signed": lambda: image(bits=32, stored=32, signed=True),
    "32 bits, frames": lambda: image(bits=32, stored=20, frames=3),
    "64 bits": lambda: image(bits=64, stored=60),
    "64 bits signed": lambda: image(bits=64, stored=62, signed=True),
    "RGB, 32 bits by plane": lambda: image(samples=3, bits=32, stored=32, planar=1),
}


@pytest.mark.parametrize("verify", [True, "independent"])
@pytest.mark.parametrize("syntax", instances.NATIVE, ids=lambda uid: uid.name)
@pytest.mark.parametrize("case", BEYOND)
def test_what_is_beyond_the_table(case: str, syntax: str, verify: bool, tmp_path: Path) -> None:
    data = instances.encoded(BEYOND[case](), syntax)
    options = Options(beyond_table=True, verify=verify)
    Stored(tmp_path / "stored.dcm", data, syntax, options).assert_whole()
    kept = Stored(tmp_path / "kept.dcm", data, syntax)
    assert kept.reason is KeepReason.NOT_IN_TABLE
    assert kept.given_in(syntax) == data


@pytest.mark.parametrize("verify", [True, "independent"])
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("syntax", instances.NATIVE, ids=lambda uid: uid.name)
def test_one_bit_is_encoded_by_whole_bytes(
    frames: int, syntax: str, verify: bool, tmp_path: Path
) -> None:
    """PS3.5 G.2: a Composite Pixel Code is padded to bytes. pydicom 3.0 does not decode it yet."""
    ds = segmentation(64, 52, frames)
    data = instances.encoded(ds, syntax)
    options = Options(beyond_table=True, verify=verify)
    stored = Stored(tmp_path / "stored.dcm", data, syntax, options)
    assert stored.reason is None, stored.written.detail
    assert stored.given_in(syntax) == data
    read = stored.read()
    assert instances.differences(stored.native(), read) == []
    pixels = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
    layout = rle.FrameLayout(rows=64, columns=52, samples=1, bits_allocated=8)
    for number, frame in enumerate(generate_frames(read.PixelData, number_of_frames=frames)):
        expected = pixels[number * 64 * 52 :][: 64 * 52].tobytes()
        assert rle.decode_independent(frame, layout) == expected


def test_frames_of_one_bit_that_begin_within_a_byte_stay(tmp_path: Path) -> None:
    data = instances.encoded(segmentation(63, 51, 3))
    options = Options(beyond_table=True)
    stored = Stored(tmp_path / "stored.dcm", data, ExplicitVRLittleEndian, options)
    assert stored.reason is KeepReason.ONE_BIT


ABSENT = {
    "of another syntax": (Options(encoder="pyjpegls"), "choose one of"),
    "unheard of": (Options(encoder="nobody"), "choose one of"),
    "a syntax that nobody encodes": (
        Options(transfer_syntax_uid="1.2.840.10008.1.2.4.70"),
        "no encoder for JPEG Lossless",
    ),
}


@pytest.mark.parametrize("case", ABSENT)
def test_an_encoder_that_is_not_there_is_said_at_start(case: str) -> None:
    options, sentence = ABSENT[case]
    with pytest.raises(BadConfiguration, match=sentence):
        check_installed(options)


# -- what stays as it is -------------------------------------------------------------------------


def without(ds: Dataset, *keywords: str) -> Dataset:
    for keyword in keywords:
        del ds[keyword]
    return ds


def noise(ds: Dataset) -> Dataset:
    ds.PixelData = np.random.default_rng(3).bytes(len(ds.PixelData))
    return ds


def signed_digitally(ds: Dataset) -> Dataset:
    signature = Dataset()
    signature.MACIDNumber = 1
    ds.DigitalSignaturesSequence = Items([signature])
    return ds


def floating() -> Dataset:
    ds = without(image(), "PixelData")
    ds.add_new("FloatPixelData", "OF", np.zeros(24 * 32, "<f4").tobytes())
    return ds


def one_bit() -> Dataset:
    ds = image(bits=8, BitsAllocated=1, BitsStored=1, HighBit=0)
    ds.PixelData = bytes(24 * 32 // 8)
    return ds


def subsampled() -> Dataset:
    ds = image(samples=3, bits=8, PhotometricInterpretation="YBR_FULL_422")
    ds.PixelData = bytes(24 * 32 * 2)
    return ds


def changed(ds: Dataset, pixel_data: Callable[[bytes], bytes]) -> Dataset:
    ds.PixelData = pixel_data(ds.PixelData)
    return ds


def compressed(ds: Dataset) -> Dataset:
    """As pydicom compresses it; given by pixel, as it gets planes wrong."""
    if ds.SamplesPerPixel > 1:
        ds.PixelData, ds.PlanarConfiguration = instances.by_pixel(ds), 0
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.compress(RLELossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    return ds


KEPT: dict[str, tuple[Callable[[], Dataset], str, KeepReason]] = {
    "a report": (instance, ExplicitVRLittleEndian, KeepReason.NO_PIXEL_DATA),
    "RLE already": (lambda: compressed(image()), RLELossless, KeepReason.ALREADY_COMPRESSED),
    "a signature": (
        lambda: signed_digitally(image()),
        ExplicitVRLittleEndian,
        KeepReason.SIGNED,
    ),
    "float": (floating, ExplicitVRLittleEndian, KeepReason.FLOAT_PIXEL_DATA),
    "one bit": (one_bit, ExplicitVRLittleEndian, KeepReason.ONE_BIT),
    "32 bits": (
        lambda: image(bits=32, stored=32),
        ExplicitVRLittleEndian,
        KeepReason.NOT_IN_TABLE,
    ),
    "4:2:2": (subsampled, ExplicitVRLittleEndian, KeepReason.SUBSAMPLED),
    "empty": (
        lambda: changed(image(), lambda _: b""),
        ExplicitVRLittleEndian,
        KeepReason.EMPTY_PIXEL_DATA,
    ),
    "short": (
        lambda: changed(image(), lambda native: native[:-2]),
        ExplicitVRLittleEndian,
        KeepReason.SHORT_PIXEL_DATA,
    ),
    "long": (
        lambda: changed(image(), lambda native: native + bytes(2)),
        ImplicitVRLittleEndian,
        KeepReason.TRAILING_PIXEL_DATA,
    ),
    "no rows": (
        lambda: without(image(), "Rows"),
        ExplicitVRLittleEndian,
        KeepReason.INCOMPLETE_DESCRIPTION,
    ),
    "a padding byte that is not zero": (
        lambda: changed(image(bits=8, rows=3, columns=3), lambda native: native[:-1] + b"\x01"),
        ExplicitVRLittleEndian,
        KeepReason.UNUSUAL_ENCODING,
    ),
    "one column: no run crosses a row": (
        lambda: image(rows=300, columns=1),
        ExplicitVRLittleEndian,
        KeepReason.NOT_SMALLER,
    ),
    "noise": (lambda: noise(image()), ExplicitVRLittleEndian, KeepReason.NOT_SMALLER),
    "noise in many frames": (
        lambda: noise(image(frames=10)),
        ExplicitVRLittleEndian,
        KeepReason.NOT_SMALLER,
    ),
    "noise in most frames": (
        lambda: changed(
            image(frames=60), lambda n: bytes(len(n) // 60) + noise(image(frames=59)).PixelData
        ),
        ExplicitVRLittleEndian,
        KeepReason.NOT_SMALLER,
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_cannot_be_encoded_stays_byte_for_byte(case: str, tmp_path: Path) -> None:
    make, syntax, reason = KEPT[case]
    data = instances.encoded(make(), syntax)
    stored = Stored(tmp_path / "stored.dcm", data, syntax)
    assert stored.reason is reason
    assert stored.written.transfer_syntax_uid == syntax
    assert instances.parts_of(stored.path)[1] == data
    assert stored.given_in(syntax) == data


#: Met elsewhere: by the command that takes compressed input, by `write_unread`, and below.
NOT_HERE = {
    KeepReason.DECODER_FAILED,
    KeepReason.DECODER_MISSING,
    KeepReason.DEFLATED,
    KeepReason.ENCODER_FAILED,
    KeepReason.VERIFY_FAILED,
    KeepReason.SWITCHED_OFF,
}


def test_every_reason_is_met_by_a_real_input() -> None:
    assert {reason for _, _, reason in KEPT.values()} | NOT_HERE == set(KeepReason)


def test_switched_off(tmp_path: Path) -> None:
    data = instances.encoded(image())
    off = Options(transfer_syntax_uid="")
    stored = Stored(tmp_path / "stored.dcm", data, ExplicitVRLittleEndian, off)
    assert stored.reason is KeepReason.SWITCHED_OFF
    assert instances.parts_of(stored.path)[1] == data


def test_a_deflated_data_set_is_not_looked_into() -> None:
    sink = io.BytesIO()
    meta = meta_of(image(), DeflatedExplicitVRLittleEndian)
    written = write_unread(b"\x03\x00", meta, sink)
    assert written.reason is KeepReason.DEFLATED
    assert sink.getvalue().endswith(b"\x03\x00")


# -- encoders that fail and lie ------------------------------------------------------------------


def _lies(src: bytes, runner: object) -> bytes:
    """A valid frame of other pixels."""
    return bytes(
        RLELosslessEncoder.encode(
            src[:-1] + bytes([src[-1] ^ 1]), encoding_plugin="pydicom", **_description(runner)
        )
    )


def _description(runner: object) -> dict[str, object]:
    wanted = (
        "rows",
        "columns",
        "samples_per_pixel",
        "bits_allocated",
        "bits_stored",
        "pixel_representation",
        "photometric_interpretation",
        "number_of_frames",
    )
    return {name: getattr(runner, name) for name in wanted}


def _fails(src: bytes, runner: object) -> bytes:
    raise ZeroDivisionError("injected")


BROKEN: dict[str, tuple[Callable[[bytes, object], bytes], KeepReason]] = {
    "raises": (_fails, KeepReason.ENCODER_FAILED),
    "gives other pixels": (_lies, KeepReason.VERIFY_FAILED),
    "gives nothing": (lambda src, runner: b"", KeepReason.VERIFY_FAILED),
    "gives garbage": (lambda src, runner: b"\xff" * 100, KeepReason.VERIFY_FAILED),
    "gives half": (lambda src, runner: _lies(src, runner)[:70], KeepReason.VERIFY_FAILED),
}


@pytest.fixture
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an encoding plugin of pydicom that is broken as the parameter says."""
    module = types.ModuleType("broken_encoder")
    module.__dict__.update(
        ENCODER_DEPENDENCIES={RLELossless: ()},
        is_available=lambda uid: True,
        encode=BROKEN[request.param][0],
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    RLELosslessEncoder.add_plugin("broken", (module.__name__, "encode"))
    yield "broken"
    RLELosslessEncoder.remove_plugin("broken")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [(name, reason) for name, (_, reason) in BROKEN.items()],
    indirect=["broken"],
    ids=list(BROKEN),
)
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_broken_encoder_costs_compression_never_the_instance(
    broken: str, reason: KeepReason, frames: int, threads: int, tmp_path: Path
) -> None:
    data = instances.encoded(image(frames=frames))
    options = Options(encoder=broken, threads=threads)
    stored = Stored(tmp_path / "stored.dcm", data, ExplicitVRLittleEndian, options)
    assert stored.reason is reason
    assert "frame" in stored.written.detail
    assert instances.parts_of(stored.path)[1] == data


@pytest.mark.parametrize("broken", ["gives other pixels"], indirect=True)
def test_a_lie_that_nobody_checked_is_never_given_back_as_what_was_received(
    broken: str, tmp_path: Path
) -> None:
    data = instances.encoded(image())
    trusting = Options(encoder=broken, verify=False)
    stored = Stored(tmp_path / "stored.dcm", data, ExplicitVRLittleEndian, trusting)
    assert stored.reason is None
    with pytest.raises(DecodingFailed, match="not the one that was received"):
        stored.given_in(ExplicitVRLittleEndian)


def test_an_encoder_that_fails_late_leaves_nothing_of_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = rle.encode, []

    def fails_at_the_third(native: bytes, layout: rle.FrameLayout) -> bytes:
        calls.append(layout)
        if len(calls) == 3:
            raise EncodingFailed("injected")
        return real(native, layout)

    monkeypatch.setattr(rle, "encode", fails_at_the_third)
    data = instances.encoded(image(frames=5))
    stored = Stored(tmp_path / "stored.dcm", data, ExplicitVRLittleEndian)
    assert (stored.reason, len(calls)) == (KeepReason.ENCODER_FAILED, 3)
    assert instances.parts_of(stored.path)[1] == data


@pytest.mark.parametrize("verify", [True, "independent"])
def test_our_own_encoder_is_not_trusted_either(
    verify: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = rle.encode
    monkeypatch.setattr(rle, "encode", lambda native, layout: real(bytes(len(native)), layout))
    data = instances.encoded(image())
    options = Options(verify=verify)
    stored = Stored(tmp_path / "stored.dcm", data, ExplicitVRLittleEndian, options)
    assert stored.reason is KeepReason.VERIFY_FAILED


# -- the stored file is not what it was ----------------------------------------------------------


def test_a_file_that_was_changed_is_noticed(tmp_path: Path) -> None:
    stored = Stored(tmp_path / "stored.dcm", instances.encoded(image()), ExplicitVRLittleEndian)
    content = bytearray(stored.path.read_bytes())
    content[-30] ^= 1
    stored.path.write_bytes(content)
    with opened(stored.path) as there:
        assert not there.is_whole()
    with pytest.raises(DecodingFailed):
        stored.given_in(ExplicitVRLittleEndian)


def test_a_record_of_something_else_is_noticed(tmp_path: Path) -> None:
    stored = Stored(tmp_path / "stored.dcm", instances.encoded(image()), ExplicitVRLittleEndian)
    content = stored.path.read_bytes()
    meta, at = part10.decode(content)
    assert meta.record is not None
    assert meta.record.as_received is not None
    came = meta.record.as_received._replace(crc32=meta.record.as_received.crc32 ^ 1)
    header = part10.encode(meta._replace(record=meta.record._replace(as_received=came)))
    stored.path.write_bytes(header + content[at:])
    with pytest.raises(DecodingFailed, match="not the one that was received"):
        stored.given_in(ExplicitVRLittleEndian)


# -- the corpus ----------------------------------------------------------------------------------


@pytest.mark.corpus
@pytest.mark.skipif(corpus.corpus_root() is None, reason=corpus.ABSENT)
def test_every_native_file_of_the_corpus_goes_there_and_back(
    tmp_path: Path, counted: list[str]
) -> None:
    """Also what the Standard's table leaves out, and with a decoder that others wrote."""
    options = Options(beyond_table=True, verify="independent")
    encoded = 0
    for row in corpus.native_rows():
        meta, data = instances.parts_of(corpus.CORPUS / row["path"])
        syntax = str(meta.get("TransferSyntaxUID", ""))
        if syntax not in instances.NATIVE or row["sop_class_uid"] == "":
            continue
        try:
            stored = Stored(tmp_path / "stored.dcm", data, syntax, options)
        except CannotUnderstand:
            # Answered with C000: test_corpus counts them.
            continue
        assert stored.given_in(syntax) == data, row["path"]
        encoded += stored.reason is None
    assert encoded > 600
    counted.append(f"corpus: {encoded} native files there and back by the transcoder alone")
