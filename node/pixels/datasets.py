"""What a pydicom `Dataset` says of its pixels, and how they are set; for `library`.

Raises ValueError where the data set does not say what is asked of it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from pydicom.uid import UID

from node.dicom import convert, uids
from node.pixels.policy import PixelFacts

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def transfer_syntax_of(dataset: Dataset) -> UID:
    """Return how Pixel Data is encoded; ValueError where that is not said."""
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    if not syntax:
        raise ValueError("the data set has no file_meta.TransferSyntaxUID: set it first")
    return UID(syntax)


def make_little_endian(dataset: Dataset) -> None:
    """Turn a data set that was read from big endian, in place.

    pydicom turns numbers when it writes, and leaves the words of OW, look-up tables among them, as
    they are; so the bytes of the whole data set are converted.
    """
    if dataset.original_encoding[1] is not False:
        return
    if int(dataset.get("BitsAllocated") or 0) > 16:
        # OW turns in words of 16 bits (PS3.5 7.3); what senders do with wider pixels differs.
        raise ValueError("the data set is big endian with pixels of more than 16 bits")
    from pydicom.filebase import DicomBytesIO
    from pydicom.filereader import read_dataset
    from pydicom.filewriter import write_dataset

    encoded = DicomBytesIO()
    encoded.is_little_endian, encoded.is_implicit_VR = False, False
    write_dataset(encoded, dataset)
    try:
        chunks = convert.to_explicit_le(encoded.getvalue(), uids.EXPLICIT_VR_BE)
    except convert.CannotConvert as failure:
        raise ValueError(f"the data set has no little endian form: {failure}") from failure
    turned = read_dataset(io.BytesIO(b"".join(chunks)), False, True)
    charset = dataset.original_character_set
    dataset.clear()
    dataset.update(turned)
    dataset.set_original_encoding(False, True, charset)
    if hasattr(dataset, "file_meta"):
        dataset.file_meta.TransferSyntaxUID = UID(uids.EXPLICIT_VR_LE)


def facts_of(dataset: Dataset) -> PixelFacts:
    """Return what a data set says of its pixels."""

    def number(keyword: str) -> int | None:
        value = dataset.get(keyword)
        return None if value is None else int(value)

    value = dataset.get("PixelData")
    return PixelFacts(
        samples_per_pixel=number("SamplesPerPixel"),
        photometric_interpretation=dataset.get("PhotometricInterpretation"),
        planar_configuration=number("PlanarConfiguration"),
        number_of_frames=int(dataset.get("NumberOfFrames") or 1),
        rows=number("Rows"),
        columns=number("Columns"),
        bits_allocated=number("BitsAllocated"),
        bits_stored=number("BitsStored"),
        pixel_representation=number("PixelRepresentation"),
        value_length=None if value is None else len(value),
        has_float_pixel_data="FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset,
        is_signed="DigitalSignaturesSequence" in dataset or "MACParametersSequence" in dataset,
    )


def array_of(dataset: Dataset) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Return the shape and dtype of the array that `dataset` describes."""
    try:
        frames, samples = int(dataset.get("NumberOfFrames") or 1), dataset.SamplesPerPixel
        kind = "i" if dataset.PixelRepresentation else "u"
        dtype = np.dtype(f"{kind}{dataset.BitsAllocated // 8}")
        shape = (dataset.Rows, dataset.Columns)
    except (AttributeError, TypeError) as failure:
        raise ValueError(f"the data set does not describe its pixels: {failure}") from None
    front = (frames,) if frames > 1 else ()
    return (*front, *shape, *((samples,) if samples > 1 else ())), dtype


def set_pixel_data(dataset: Dataset, value: bytes, transfer_syntax_uid: str) -> None:
    """Set Pixel Data and the transfer syntax that it is in."""
    dataset.PixelData = value
    if not hasattr(dataset, "file_meta"):
        from pydicom.dataset import FileMetaDataset

        dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)


def remove_offset_tables(dataset: Dataset) -> None:
    """Remove the Extended Offset Table and its lengths."""
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            delattr(dataset, keyword)
