"""Instances made for a test, and what is in a file: written and read by pydicom alone."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset, read_preamble
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
#: The root of UIDs that are made here: of a UUID that was drawn once.
ROOT = "2.25.128914612817394629134986271340912734"
_numbers = itertools.count(1)


def new_uid() -> str:
    """A UID that no other instance of this run has."""
    return f"{ROOT}.{next(_numbers)}"


def pixels(
    shape: Sequence[int], bits: int = 16, stored: int = 12, signed: bool = False, seed: int = 1
) -> np.ndarray:
    """An image of large even areas and a noisy one, with the extreme values in its corners."""
    rng = np.random.default_rng(seed)
    low, high = (-(1 << stored - 1), (1 << stored - 1) - 1) if signed else (0, (1 << stored) - 1)
    array = np.full(shape, low, np.int64)
    flat = array.reshape(-1)
    middle = len(flat) // 2
    flat[middle : middle + len(flat) // 8] = rng.integers(low, high + 1, len(flat) // 8)
    flat[0], flat[-1] = high, high
    return array.astype(f"{'i' if signed else 'u'}{bits // 8}")


def instance(sop_class: str = CTImageStorage, **elements: Any) -> Dataset:
    """A data set with an identity, and such elements as travel with real ones."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = new_uid()
    ds.StudyDate = "20240229"
    ds.Modality = "CT"
    ds.PatientName = "Müller^Jürgen"
    ds.PatientID = "4711"
    ds.StudyInstanceUID = f"{ROOT}.0.1"
    ds.SeriesInstanceUID = f"{ROOT}.0.2"
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def image(
    *,
    rows: int = 40,
    columns: int = 48,
    frames: int = 1,
    samples: int = 1,
    bits: int = 16,
    stored: int | None = None,
    signed: bool = False,
    photometric: str | None = None,
    planar: int = 0,
    seed: int = 1,
    sop_class: str | None = None,
    **elements: Any,
) -> Dataset:
    """An image whose Pixel Data is as described. Little endian; see `encoded`."""
    stored = stored or (12 if bits == 16 else bits)
    default_class = CTImageStorage if samples == 1 else SecondaryCaptureImageStorage
    ds = instance(sop_class or default_class)
    ds.SamplesPerPixel = samples
    ds.PhotometricInterpretation = photometric or ("MONOCHROME2" if samples == 1 else "RGB")
    if samples > 1:
        ds.PlanarConfiguration = planar
    if frames > 1:
        ds.NumberOfFrames = frames
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, stored, stored - 1
    ds.PixelRepresentation = int(signed)
    of_sample = (samples,) if samples > 1 else ()
    shape = (rows, columns, *of_sample)
    if samples > 1 and planar:
        shape = (samples, rows, columns)
    native = pixels((frames, *shape), bits, stored, signed, seed).tobytes()
    ds.add_new("PixelData", "OB" if bits == 8 else "OW", native + bytes(len(native) % 2))
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def with_everything(ds: Dataset) -> Dataset:
    """Add what a careless rewriting would lose: private, nested, empty and late elements."""
    block = ds.private_block(0x0009, "DCMPRESS TEST", create=True)
    block.add_new(0x01, "LO", "private")
    block.add_new(0x02, "UN", b"\x01\x02\x03\x04")
    block.add_new(0x03, "FD", [1.5, -2.25])
    inner = Dataset()
    inner.CodeValue, inner.CodeMeaning = "T-A0100", "Gehirn"
    middle = Dataset()
    middle.ConceptNameCodeSequence = Items([inner])
    middle.ConceptNameCodeSequence.is_undefined_length = True
    ds.ViewCodeSequence = Items([middle, Dataset()])
    ds.ReferencedImageSequence = Items([])
    ds.AccessionNumber = ""
    icon = Dataset()
    icon.SamplesPerPixel, icon.PhotometricInterpretation = 1, "MONOCHROME2"
    icon.Rows, icon.Columns, icon.PixelRepresentation = 4, 4, 0
    icon.BitsAllocated, icon.BitsStored, icon.HighBit = 8, 8, 7
    icon.add_new("PixelData", "OB", bytes(range(16)))
    ds.IconImageSequence = Items([icon])
    ds.SmallestImagePixelValue = 0
    ds["SmallestImagePixelValue"].VR = "SS" if ds.PixelRepresentation else "US"
    ds.add_new(0x60000010, "US", 8)
    ds.add_new(0x60000011, "US", 8)
    ds.add_new(0x60000040, "CS", "G")
    ds.add_new(0x60000050, "SS", [1, 1])
    ds.add_new(0x60000100, "US", 1)
    ds.add_new(0x60000102, "US", 0)
    ds.add_new(0x60003000, "OW", bytes(range(8)))
    ds.add_new(0xFFFCFFFC, "OB", bytes(10))
    return ds


def encoded(ds: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The encoded data set. Pixel Data is taken as little endian and turned where need be."""
    file = DicomBytesIO()
    file.is_little_endian = transfer_syntax != ExplicitVRBigEndian
    file.is_implicit_VR = transfer_syntax == ImplicitVRLittleEndian
    written = Dataset()
    written.update(ds)
    written.file_meta = FileMetaDataset()
    if not file.is_little_endian and "PixelData" in ds:
        element = ds["PixelData"]
        width = 2 if element.VR == "OW" else 1
        width = max(width, ds.BitsAllocated // 8)
        value = np.frombuffer(element.value, f"u{width}").byteswap().tobytes()
        written.add_new("PixelData", element.VR, value)
    write_dataset(file, written)
    return file.getvalue()


def as_file(path: Path, ds: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write `ds` as a DICOM file and return its path."""
    return as_file_of(path, ds, encoded(ds, transfer_syntax), transfer_syntax)


def as_file_of(path: Path, ds: Dataset, data_set: bytes, transfer_syntax: str) -> Path:
    """Write an encoded data set as a DICOM file, with the UIDs of `ds`."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = transfer_syntax
    meta.ImplementationClassUID = ROOT
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, False
    write_dataset(file, meta)
    body = file.getvalue()
    group_length = b"\x02\x00\x00\x00UL\x04\x00" + len(body).to_bytes(4, "little")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(128) + b"DICM" + group_length + body + data_set)
    return path


def by_pixel(ds: Dataset) -> bytes:
    """Native Pixel Data in planar configuration 0 and little endian, without padding."""
    frames, samples = int(ds.get("NumberOfFrames") or 1), ds.SamplesPerPixel
    count = frames * samples * ds.Rows * ds.Columns
    order = ">" if _is_big_endian(ds) else "<"
    native = ds.PixelData
    if order == ">" and ds.BitsAllocated == 8 and ds["PixelData"].VR == "OW":
        native = np.frombuffer(native, "u2").byteswap().tobytes()
    array = np.frombuffer(native, f"{order}u{ds.BitsAllocated // 8}", count)
    if samples > 1 and ds.PlanarConfiguration:
        array = array.reshape(frames, samples, ds.Rows, ds.Columns).transpose(0, 2, 3, 1)
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def _is_big_endian(ds: Dataset) -> bool:
    """Whether pydicom read it so; a data set that was made is little endian."""
    return getattr(ds, "original_encoding", (None, None))[1] is False


def parts_of(path: Path) -> tuple[Dataset, bytes]:
    """The File Meta Information of a file, and its data set as the bytes that are there."""
    with io.BytesIO(path.read_bytes()) as file:
        read_preamble(file, force=True)
        meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
        return meta, file.read()


def data_sets_in(folder: Path) -> dict[str, tuple[str, bytes]]:
    """By SOP Instance UID, the transfer syntax and the encoded data set of every file below."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            meta, data = parts_of(path)
            found[str(meta.MediaStorageSOPInstanceUID)] = (str(meta.TransferSyntaxUID), data)
    return found


#: What encoding changes on purpose (PS3.5 8.2.2, A.4).
CHANGED_BY_ENCODING = frozenset({0x00280006, 0x7FE00001, 0x7FE00002, 0x7FE00010})
_WORDS = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}


def differences(
    before: Dataset, after: Dataset, but: frozenset[int] = CHANGED_BY_ENCODING
) -> list[str]:
    """What differs between two data sets, in sequences too, but for the elements in `but`.

    OB and OW count as one VR where one of them is in Implicit VR, which has only OW (PS3.5 A.1).
    """
    found = []
    for tag in sorted({*before.keys(), *after.keys()} - but):
        if tag not in before or tag not in after:
            found.append(f"{tag} is in one of them only")
        elif not _same_element(before, after, tag):
            found.append(f"{tag} differs")
    return found


def _same_element(before: Dataset, after: Dataset, tag: Any) -> bool:
    one, other = before.get_item(tag), after.get_item(tag)
    same_vr = one.VR == other.VR
    if one.VR in _WORDS and _is_big_endian(before) != _is_big_endian(after):
        # pydicom leaves these as the bytes that they are.
        turned = np.frombuffer(one.value, f"u{_WORDS[one.VR]}").byteswap().tobytes()
        return same_vr and turned == other.value
    if same_vr and not isinstance(one.value, Items) and one.value == other.value:
        return True
    try:
        one, other = before[tag], after[tag]
    except (ValueError, TypeError, NotImplementedError, AttributeError, OverflowError):
        # pydicom has no reading of it: then its bytes must be the same.
        return same_vr and one.value == other.value
    if one.VR == other.VR == "SQ":
        return len(one.value) == len(other.value) and not any(
            differences(*items, but=frozenset())
            for items in zip(one.value, other.value, strict=True)
        )
    if {one.VR, other.VR} == {"OB", "OW"} and (_is_implicit(before) or _is_implicit(after)):
        return bool(one.value == other.value)
    return bool(one == other)


def _is_implicit(ds: Dataset) -> bool:
    return getattr(ds, "original_encoding", (None, None))[0] is True
