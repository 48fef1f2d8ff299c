"""RLE Lossless by pylibjpeg-rle: where there is no kernel, and for the second opinion.

Segments are pylibjpeg-rle's; header and byte planes are put together here (PS3.5 Annex G), since
its own functions for frames know fewer layouts. It holds the GIL. Raises as `node.pixels.rle`,
whose functions of the same names call these.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING

import numpy as np
from rle.rle import decode_segment, encode_segment

from node.errors import DecodingFailed
from node.pixels.rle import HEADER_BYTES, MAX_ITEM_BYTES, MAX_RUN, FrameLayout

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Buffer


def decode(encoded: Buffer, layout: FrameLayout) -> bytes:
    """The native frame of an RLE one; `DecodingFailed` where it is none."""
    frame = bytes(encoded)
    bounds = _segment_bounds(frame, layout)
    native = np.empty(layout.frame_bytes, np.uint8)
    for index, plane in enumerate(byte_planes(native, layout)):
        start, end = bounds[index]
        plane[:] = _decode_plane(frame[start:end], index + 1, layout)
    return native.tobytes()


def matches(encoded: Buffer, native: Buffer, layout: FrameLayout) -> bool:
    """Whether `encoded` decodes to exactly `native`; one that cannot be decoded does not."""
    wanted = _native_array(native, layout)
    try:
        return decode(encoded, layout) == wanted.tobytes()
    except DecodingFailed:
        return False


def encode(native: Buffer, layout: FrameLayout) -> bytes:
    """The RLE frame of a native one; OverflowError where it does not fit an item."""
    planes = byte_planes(_native_array(native, layout), layout)
    segments = [encode_segment(plane.tobytes(), layout.columns) for plane in planes]
    starts = itertools.accumulate(map(len, segments[:-1]), initial=HEADER_BYTES)
    words = [len(segments), *starts]
    if words[-1] + len(segments[-1]) > MAX_ITEM_BYTES:
        raise OverflowError("the encoded frame does not fit 2^32 - 2 bytes")
    header = struct.pack(f"<{len(words)}L", *words).ljust(HEADER_BYTES, b"\0")
    return b"".join([header, *segments])


def _native_array(native: Buffer, layout: FrameLayout) -> NDArray[np.uint8]:
    array = np.frombuffer(memoryview(native), np.uint8)
    if array.size != layout.frame_bytes:
        raise ValueError(
            f"the native frame has {array.size} bytes, its layout says {layout.frame_bytes}"
        )
    return array


def byte_planes(native: NDArray[np.uint8], layout: FrameLayout) -> list[NDArray[np.uint8]]:
    """Views of the frame, one for each segment: most significant byte first (PS3.5 G.2)."""
    if layout.planar_configuration:
        samples = list(native.reshape(layout.samples, layout.plane_bytes, layout.sample_bytes))
    else:
        pixels = native.reshape(layout.plane_bytes, layout.samples, layout.sample_bytes)
        samples = [pixels[:, sample] for sample in range(layout.samples)]
    order = range(layout.sample_bytes)
    significant_first = order if layout.big_endian else reversed(order)
    return [sample[:, byte] for sample, byte in itertools.product(samples, significant_first)]


def _segment_bounds(frame: bytes, layout: FrameLayout) -> list[tuple[int, int]]:
    """Where each segment begins and ends, by the header (PS3.5 G.5); lies are refused."""
    if len(frame) < HEADER_BYTES:
        raise DecodingFailed(f"RLE frame of {len(frame)} bytes, its header alone has 64")
    count, *offsets = struct.unpack_from("<16L", frame)
    if count != layout.segments:
        raise DecodingFailed(f"RLE frame of {count} segments, expected {layout.segments}")
    bounds = list(itertools.pairwise([*offsets[:count], len(frame)]))
    for number, (start, end) in enumerate(bounds, 1):
        if not HEADER_BYTES <= start <= end:
            raise DecodingFailed(f"the offset of RLE segment {number} is not within the frame")
        # Two bytes give 128 at most: a claim too large is refused before anything is allocated.
        if end == start or (end - start) * MAX_RUN // 2 < layout.plane_bytes:
            raise _too_short(number, layout)
    return bounds


def _decode_plane(segment: bytes, number: int, layout: FrameLayout) -> NDArray[np.uint8]:
    try:
        plane = np.frombuffer(decode_segment(segment), np.uint8)
    except ValueError as error:
        raise DecodingFailed(f"RLE segment {number}: {error}") from error
    if plane.size < layout.plane_bytes:
        raise _too_short(number, layout)
    return plane[: layout.plane_bytes]  # a longer one is padded, as pydicom takes it too


def _too_short(number: int, layout: FrameLayout) -> DecodingFailed:
    return DecodingFailed(
        f"RLE segment {number} ends before its {layout.plane_bytes} bytes are decoded"
    )
