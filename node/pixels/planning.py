"""How one data set is encoded: what goes before and after its frames, and the frames.

The elements around Pixel Data are copied (for Implicit VR and big endian input converted,
reversibly) and never parsed into objects. The SOP Instance UID and every other element stay as they
are; only Planar Configuration changes, as PS3.5 8.2.2 asks. Nothing is encoded or written here.

`plan` raises `NotEncoded` with the reason where an instance has to stay as it is.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from node.dicom import convert, uids
from node.dicom.byte_order import swapped
from node.dicom.encoded import PLANAR_CONFIGURATION, Element, EncodedDataSet
from node.dicom.layout import Buffer
from node.dicom.part10 import AsReceived
from node.dicom.walk import Release, keep
from node.pixels import rle
from node.pixels.policy import Options, PixelFacts, PixelLayout, decide, is_too_small
from node.reasons import KeepReason

#: Big endian pixel data is turned in memory; more than this stays as it is.
_LARGEST_TURNED = 256 << 20
#: Input is read and released in pieces of this size.
_PIECE = 16 << 20


class NotEncoded(Exception):
    """The instance has to stay as it is; `detail` is for the log."""

    def __init__(self, reason: KeepReason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail


class Plan(NamedTuple):
    """How one data set is encoded: what goes before and after the frames, and the frames."""

    transfer_syntax_uid: str
    layout: PixelLayout
    source: EncodedDataSet
    pixel_vr: str
    head: tuple[Buffer, ...]
    tail: tuple[Buffer, ...]
    native: Buffer
    native_offset: int
    native_data_set_bytes: int

    def as_received(self, release: Release = keep) -> AsReceived:
        """Return what has to be known to give it back; reads all of it."""
        return AsReceived(
            transfer_syntax_uid=self.source.transfer_syntax_uid,
            byte_count=self.native_data_set_bytes,
            crc32=_crc32(memoryview(self.source.data), release),
            pixel_vr=self.pixel_vr,
            planar_configuration=self.source.planar_configuration,
        )


def plan(data_set: EncodedDataSet, options: Options) -> Plan:
    """Say how `data_set` is encoded; raises `NotEncoded` with the reason where it is not."""
    if data_set.transfer_syntax_uid in uids.DEFLATED:
        raise NotEncoded(KeepReason.DEFLATED)
    if data_set.transfer_syntax_uid not in uids.NATIVE:
        raise NotEncoded(KeepReason.ALREADY_COMPRESSED)
    layout = decide(facts_of(data_set), options)
    if isinstance(layout, KeepReason):
        raise NotEncoded(layout)
    pixel_data = data_set.pixel_data
    assert pixel_data is not None
    _require_plain(data_set, pixel_data, layout)
    if is_too_small(layout, options):
        raise NotEncoded(KeepReason.NOT_SMALLER, "tiny frames")
    head, tail = _surroundings(data_set, pixel_data, layout, options)
    view = memoryview(data_set.data)
    return Plan(
        transfer_syntax_uid=options.transfer_syntax_uid,
        layout=layout,
        source=data_set,
        pixel_vr=pixel_data.vr or "OW",
        head=head,
        tail=tail,
        native=view[pixel_data.value_offset : pixel_data.value_offset + layout.value_bytes],
        native_offset=pixel_data.value_offset,
        native_data_set_bytes=len(view),
    )


def facts_of(data_set: EncodedDataSet) -> PixelFacts:
    """Return what `data_set` says of its pixel data."""
    pixel_data = data_set.pixel_data
    is_float = data_set.float_pixel_data or data_set.double_float_pixel_data
    return PixelFacts(
        samples_per_pixel=data_set.samples_per_pixel,
        photometric_interpretation=data_set.photometric_interpretation,
        planar_configuration=data_set.planar_configuration,
        number_of_frames=data_set.number_of_frames,
        rows=data_set.rows,
        columns=data_set.columns,
        bits_allocated=data_set.bits_allocated,
        bits_stored=data_set.bits_stored,
        pixel_representation=data_set.pixel_representation,
        value_length=pixel_data.length if pixel_data else None,
        has_float_pixel_data=is_float is not None,
        is_signed=data_set.is_signed,
    )


def _require_plain(data_set: EncodedDataSet, pixel_data: Element, layout: PixelLayout) -> None:
    """Refuse what could not be given back byte for byte."""
    unusual = (
        not data_set.is_regular
        or pixel_data.is_undefined_length
        or pixel_data.vr not in (None, "OB", "OW")
        or data_set.extended_offset_table is not None
        or data_set.extended_offset_table_lengths is not None
    )
    padding = bytes(data_set.data[pixel_data.value_offset + layout.value_bytes : pixel_data.end])
    if unusual or any(padding):
        raise NotEncoded(KeepReason.UNUSUAL_ENCODING)
    # The pad byte is given back where the length is odd, as PS3.5 8.1.1 asks; so it must be there.
    if len(padding) != layout.value_bytes % 2:
        raise NotEncoded(KeepReason.SHORT_PIXEL_DATA, "the padding byte is missing")
    is_turned = data_set.transfer_syntax_uid == uids.EXPLICIT_VR_BE
    if is_turned and layout.value_bytes > _LARGEST_TURNED:
        raise NotEncoded(KeepReason.UNUSUAL_ENCODING, "big endian and very large")
    # It comes back frame by frame, so that no word may lie in two frames.
    if is_turned and layout.frame_bytes % _turning_width(pixel_data.vr, layout.bits_allocated):
        raise NotEncoded(KeepReason.UNUSUAL_ENCODING, "big endian and frames of odd length")
    planar = data_set.element(PLANAR_CONFIGURATION)
    if layout.samples_per_pixel > 1 and (planar is None or planar.end > pixel_data.offset):
        detail = "Planar Configuration stands after Pixel Data"
        raise NotEncoded(KeepReason.UNUSUAL_ENCODING, detail)


def _surroundings(
    data_set: EncodedDataSet, pixel_data: Element, layout: PixelLayout, options: Options
) -> tuple[tuple[Buffer, ...], tuple[Buffer, ...]]:
    """Return what goes before and after Pixel Data, in Explicit VR LE."""
    view = memoryview(data_set.data)
    head: Buffer = view[: pixel_data.offset]
    if layout.samples_per_pixel > 1:
        wanted = 1 if options.transfer_syntax_uid == uids.RLE_LOSSLESS else 0
        head = with_planar_configuration(data_set, head, wanted)
    tail = view[pixel_data.end :]
    return _explicit(head, data_set), _explicit(tail, data_set)


def _explicit(part: Buffer, data_set: EncodedDataSet) -> tuple[Buffer, ...]:
    """Return whole elements of `data_set` in Explicit VR LE, proven to come back the same."""
    source = data_set.transfer_syntax_uid
    if source == uids.EXPLICIT_VR_LE or not len(part):
        return (part,)
    representation = data_set.pixel_representation
    try:
        chunks = convert.to_explicit_le(part, source, pixel_representation=representation)
    except convert.CannotConvert as failure:
        raise NotEncoded(KeepReason.UNUSUAL_ENCODING, str(failure)) from failure
    if not convert.restores(chunks, part, source):
        raise NotEncoded(KeepReason.UNUSUAL_ENCODING, "its elements would not come back the same")
    return tuple(chunks)


def with_planar_configuration(data_set: EncodedDataSet, head: Buffer, value: int) -> bytes:
    """Return `head`, the beginning of `data_set`, with (0028,0006) set to `value`."""
    element = data_set.element(PLANAR_CONFIGURATION)
    assert element is not None
    order = ">H" if data_set.transfer_syntax_uid == uids.EXPLICIT_VR_BE else "<H"
    changed = bytearray(head)
    struct.pack_into(order, changed, element.value_offset, value)
    return bytes(changed)


def _crc32(view: memoryview, release: Release) -> int:
    crc = 0
    for start in range(0, len(view), _PIECE):
        end = min(start + _PIECE, len(view))
        crc = rle.crc32(view[start:end], crc)
        release(start, end)
    return crc


def turned(native: Buffer, vr: str, bits_allocated: int) -> bytes:
    """Return big endian pixel data as little endian, and the other way round (PS3.5 7.3).

    OW turns in words of 16 bits, even where a pixel has 8; wider pixels turn whole. Bytes after the
    last whole word stay where they are; what `plan` lets pass has none.
    """
    width = _turning_width(vr, bits_allocated)
    if width == 1:
        return bytes(native)
    return swapped(bytes(native), width)


def _turning_width(vr: str | None, bits_allocated: int) -> int:
    """Return the length of the words that turn with the byte order, in bytes."""
    return max(bits_allocated // 8, 2 if vr == "OW" else 1)
