"""The way back: a stored data set with the encoding in which it was received, byte for byte.

The exact inverse of `transcoder.write_data_set`, frame by frame, in bounded memory. What comes out
is compared with the checksum that was taken at receipt.

Raises `DecodingFailed` where a frame cannot be decoded or the result is not what was received.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator

from node.dicom import convert, uids
from node.dicom.convert import Chunk
from node.dicom.encoded import Element, EncodedDataSet
from node.dicom.part10 import AsReceived
from node.dicom.walk import Release, keep
from node.errors import DecodingFailed
from node.pixels.codecs import codec_for
from node.pixels.planning import facts_of, turned, with_planar_configuration
from node.pixels.policy import Options, PixelLayout, Run, describe, here


def restore(
    data_set: EncodedDataSet,
    as_received: AsReceived,
    release: Release = keep,
    run: Run = here,
) -> Iterator[Chunk]:
    """Yield the data set as it was received: the exact inverse of `write_data_set`.

    `data_set` is the stored one, encapsulated. Raises `DecodingFailed` where what comes out is not
    what came in, at the latest in place of the last chunk.
    """
    crc, length, last = 0, 0, b""
    for chunk in _restored(data_set, as_received, release, run):
        crc = zlib.crc32(chunk, crc)
        length += len(chunk)
        if last:
            yield last
        last = bytes(chunk)
    if (crc, length) != (as_received.crc32, as_received.byte_count):
        raise DecodingFailed("the decompressed data set is not the one that was received")
    yield last


def _restored(
    data_set: EncodedDataSet, as_received: AsReceived, release: Release, run: Run
) -> Iterator[Chunk]:
    pixel_data, layout = data_set.pixel_data, describe(facts_of(data_set))
    if pixel_data is None or not pixel_data.is_undefined_length or layout is None:
        raise DecodingFailed("the stored data set has no encapsulated pixel data")
    if layout.samples_per_pixel > 1 and as_received.planar_configuration is not None:
        layout = layout._replace(planar_configuration=as_received.planar_configuration)
    yield from _restored_head(data_set, pixel_data, as_received)
    yield _native_header(as_received, layout)
    options = Options(transfer_syntax_uid=data_set.transfer_syntax_uid, run=run)
    decode = codec_for(layout, options).decode
    yield from _restored_frames(data_set, pixel_data, as_received, layout, decode, release)
    yield bytes(layout.value_bytes % 2)
    tail = memoryview(data_set.data)[pixel_data.end :]
    yield from _from_explicit_le(tail, as_received)


def _restored_head(
    data_set: EncodedDataSet, pixel_data: Element, as_received: AsReceived
) -> Iterable[Chunk]:
    first = data_set.extended_offset_table or pixel_data
    head: Chunk = memoryview(data_set.data)[: first.offset]
    planar = as_received.planar_configuration
    if planar is not None and planar != data_set.planar_configuration:
        head = with_planar_configuration(data_set, head, planar)
    return _from_explicit_le(head, as_received)


def _native_header(as_received: AsReceived, layout: PixelLayout) -> bytes:
    """Return the header of native Pixel Data as it was received (PS3.5 7.1)."""
    length = layout.value_bytes + layout.value_bytes % 2
    vr = as_received.pixel_vr.encode()
    if as_received.transfer_syntax_uid == uids.IMPLICIT_VR_LE:
        return struct.pack("<HHL", 0x7FE0, 0x0010, length)
    order = ">" if as_received.transfer_syntax_uid == uids.EXPLICIT_VR_BE else "<"
    return struct.pack(f"{order}HH2s2xL", 0x7FE0, 0x0010, vr, length)


def _restored_frames(
    data_set: EncodedDataSet,
    pixel_data: Element,
    as_received: AsReceived,
    layout: PixelLayout,
    decode: Callable[[Chunk], bytes],
    release: Release,
) -> Iterator[Chunk]:
    # What we encode has one fragment for each frame, behind the Basic Offset Table (PS3.5 A.4).
    view = memoryview(data_set.data)
    fragments = itertools.islice(data_set.fragments(pixel_data), 1, None)
    is_turned = as_received.transfer_syntax_uid == uids.EXPLICIT_VR_BE
    frames = 0
    for at, length in fragments:
        frames += 1
        native = decode(view[at : at + length])
        release(at, at + length)
        yield turned(native, as_received.pixel_vr, layout.bits_allocated) if is_turned else native
    if frames != layout.number_of_frames:
        raise DecodingFailed(f"{frames} frames are stored, {layout.number_of_frames} are expected")


def _from_explicit_le(part: Chunk, as_received: AsReceived) -> list[Chunk]:
    target = as_received.transfer_syntax_uid
    if target == uids.EXPLICIT_VR_LE or not len(part):
        return [part]
    try:
        return list(convert.from_explicit_le(part, target))
    except convert.CannotConvert as failure:
        raise DecodingFailed(str(failure)) from failure
