"""GDCM's RLE encoder and decoder, one frame at a time: a witness for tests and benchmarks.

Its Python objects do not keep each other alive, so the owner of an image (an ImageWriter) stays
in a local variable for as long as the image is used; and all images are of that kind.
"""

from __future__ import annotations

import itertools
import struct
import time

import gdcm

from node.pixels.rle import FrameLayout

PIXEL_DATA = gdcm.Tag(0x7FE0, 0x0010)
LITTLE_ENDIAN = gdcm.TransferSyntax.ImplicitVRLittleEndian
RLE = gdcm.TransferSyntax.RLELossless


def encode(native: bytes, layout: FrameLayout, photometric: str) -> tuple[bytes, float]:
    """The encoded frame, and the seconds of the conversion alone.

    Not for colour frames of odd length: GDCM 3.2.6 ends the process on them.
    """
    element = gdcm.DataElement(PIXEL_DATA)
    element.SetByteStringValue(native)
    owner = gdcm.ImageWriter()
    _describe(owner.GetImage(), element, layout, photometric, LITTLE_ENDIAN)
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(RLE))
    change.SetInput(owner.GetImage())
    start = time.perf_counter()
    changed = change.Change()
    seconds = time.perf_counter() - start
    if not changed:
        raise ValueError("GDCM could not encode the frame")
    fragments = change.GetOutput().GetDataElement().GetSequenceOfFragments()
    assert fragments.GetNumberOfFragments() == 1
    return _as_bytes(fragments.GetFragment(0).GetByteValue().GetBuffer()), seconds


def decode(encoded: bytes, layout: FrameLayout, photometric: str) -> bytes:
    """The native frame, little endian. Right for one sample, and for colour of 8 bits, which comes
    in planar configuration 0 whatever the layout says.
    """
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(encoded)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(PIXEL_DATA)
    element.SetValue(fragments.__ref__())
    owner = gdcm.ImageWriter()
    _describe(owner.GetImage(), element, layout, photometric, RLE)
    native = owner.GetImage().GetBuffer()
    if native is None:
        raise ValueError("GDCM could not decode the frame")
    return _as_bytes(native)


def padded_size(encoded: bytes) -> int:
    """The size of a frame if each segment were of even length.

    GDCM pads the last segment only; PS3.5 G.3 wants all of them padded.
    """
    count, *offsets = struct.unpack_from("<16L", encoded)
    bounds = [*offsets[:count], len(encoded)]
    lengths = [end - start for start, end in itertools.pairwise(bounds)]
    return offsets[0] + sum(length + length % 2 for length in lengths)


def _describe(
    image: gdcm.Image,
    element: gdcm.DataElement,
    layout: FrameLayout,
    photometric: str,
    transfer_syntax: int,
) -> None:
    bits = layout.bits_allocated
    interpretation = gdcm.PhotometricInterpretation.GetPIType(photometric)
    image.SetNumberOfDimensions(2)
    image.SetDimensions((layout.columns, layout.rows, 1))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(interpretation))
    image.SetTransferSyntax(gdcm.TransferSyntax(transfer_syntax))
    image.SetPixelFormat(gdcm.PixelFormat(layout.samples, bits, bits, bits - 1, 0))
    if layout.samples > 1:
        image.SetPlanarConfiguration(layout.planar_configuration)
    image.SetDataElement(element)


def _as_bytes(text: str) -> bytes:
    """The bytes that GDCM's wrapper gives as a str."""
    return text.encode("utf-8", "surrogateescape")
