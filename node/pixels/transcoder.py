"""The transcoder: the bytes of an instance in, the same instance with encoded pixel data out.

It scans and splices. The elements before and after Pixel Data are copied (for Implicit VR and
big endian input converted, reversibly) and never parsed into objects; frames are encoded one by
one from where they lie into the output, so memory does not grow with the instance. Every frame is
decoded again and compared with the native one before it counts. The SOP Instance UID and every
other element stay as they are; Planar Configuration and Pixel Data change as PS3.5 8.2.2 and A.4.2
ask, and Extended Offset Table elements come where 32 bits do not suffice.

`plan` says whether and how, `write_data_set` does it; `restorer.restore` is the exact inverse.
`write_data_set` raises `NotEncoded` with the reason where an instance has to stay as it is; what
it wrote until then is for the caller to throw away.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from node.dicom import convert, uids
from node.dicom.encoded import PLANAR_CONFIGURATION, Element, EncodedDataSet
from node.dicom.layout import Buffer
from node.dicom.part10 import AsReceived
from node.dicom.rewrite import swapped
from node.dicom.walk import Release, keep
from node.errors import DecodingFailed, EncodingFailed
from node.model import KeepReason
from node.pixels.codecs import Codec, codec_for
from node.pixels.encapsulation import (
    LARGEST_BASIC_OFFSET,
    SEQUENCE_DELIMITER,
    OffsetTable,
    item_header,
)
from node.pixels.policy import Options, PixelFacts, PixelLayout, decide, is_too_small

#: An empty file, or memory that stands for one.
Sink: TypeAlias = io.FileIO | io.BytesIO

#: Frames looked at before the work is begun: the first, one in the middle and the last.
_LOOK_FROM_FRAMES = 8
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one data set is encoded: what goes before and after the frames, and the frames."""

    transfer_syntax_uid: str
    layout: PixelLayout
    as_received: AsReceived
    head: tuple[Buffer, ...]
    tail: tuple[Buffer, ...]
    native: Buffer
    native_offset: int
    native_data_set_bytes: int


def plan(data_set: EncodedDataSet, options: Options, release: Release = keep) -> Plan:
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
        as_received=AsReceived(
            transfer_syntax_uid=data_set.transfer_syntax_uid,
            byte_count=len(view),
            crc32=_crc32(view, release),
            pixel_vr=pixel_data.vr or "OW",
            planar_configuration=data_set.planar_configuration,
        ),
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
        crc = zlib.crc32(view[start:end], crc)
        release(start, end)
    return crc


def write_data_set(plan: Plan, sink: Sink, options: Options, release: Release = keep) -> int:
    """Write the encoded data set at the position of `sink`, and return its length in bytes.

    `sink` is a seekable binary file; the offset table is filled in after the frames. Raises
    `NotEncoded` where a frame cannot be encoded, does not decode to what it was, or where the
    result would not be smaller than what was received.
    """
    codec = codec_for(plan.layout, options)
    frames = _Frames(plan)
    _look_before(codec, frames, plan.layout)
    start = sink.tell()
    # Below 4 GiB of native pixels no encoded frame that counts starts beyond 32 bits.
    table = OffsetTable(len(frames), extended=plan.layout.value_bytes > LARGEST_BASIC_OFFSET)
    write_all(sink, plan.head)
    table_at = sink.tell()
    write_all(sink, [table.encoded()])
    for encoded in _encoded_frames(codec, frames, plan, options, release):
        table.add(len(encoded))
        write_all(sink, [item_header(len(encoded)), encoded])
        if sink.tell() - start >= plan.native_data_set_bytes:
            raise NotEncoded(KeepReason.NOT_SMALLER)
    write_all(sink, [SEQUENCE_DELIMITER, *plan.tail])
    end = sink.tell()
    if end - start >= plan.native_data_set_bytes:
        raise NotEncoded(KeepReason.NOT_SMALLER)
    if len(frames) > 1:
        sink.seek(table_at)
        write_all(sink, [table.encoded()])
        sink.seek(end)
    return end - start


def write_all(sink: Sink, chunks: Iterable[Buffer]) -> None:
    """Write every byte of `chunks`: one write may take fewer than it is given."""
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest.nbytes:
            rest = rest[sink.write(rest) :]


class _Frames:
    """Native frames, little endian, each a slice of where they lie, made when it is asked for."""

    def __init__(self, plan: Plan) -> None:
        native = plan.native
        if plan.as_received.transfer_syntax_uid == uids.EXPLICIT_VR_BE:
            native = turned(native, plan.as_received.pixel_vr, plan.layout.bits_allocated)
        self._view = memoryview(native)
        self._size = plan.layout.frame_bytes
        self._count = plan.layout.number_of_frames

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Buffer:
        return self._view[number * self._size : (number + 1) * self._size]


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


def _look_before(codec: Codec, frames: _Frames, layout: PixelLayout) -> None:
    """Avoid the work where it cannot pay: look at three frames of many before encoding all."""
    if len(frames) < _LOOK_FROM_FRAMES:
        return
    looked_at = (frames[0], frames[len(frames) // 2], frames[len(frames) - 1])
    if all(len(_encode(codec, frame, 0)) >= layout.frame_bytes for frame in looked_at):
        raise NotEncoded(KeepReason.NOT_SMALLER, "seen in the first, middle and last frame")


def _encoded_frames(
    codec: Codec, frames: _Frames, plan: Plan, options: Options, release: Release
) -> Iterator[bytes]:
    """Yield every frame encoded, proven and padded to even length (PS3.5 A.4)."""
    size = plan.layout.frame_bytes

    def one(number: int) -> bytes:
        native = frames[number]
        encoded = _encode(codec, native, number)
        if options.verify and not _is_same(codec, encoded, native):
            raise NotEncoded(KeepReason.VERIFY_FAILED, f"frame {number + 1}")
        at = plan.native_offset + number * size
        release(at, at + size)
        return encoded if len(encoded) % 2 == 0 else encoded + b"\x00"

    threads = min(options.threads, len(frames))
    if threads < 2:
        yield from map(one, range(len(frames)))
    else:
        yield from _in_threads(one, len(frames), threads)


def _in_threads(one: Callable[[int], bytes], count: int, threads: int) -> Iterator[bytes]:
    """Yield `one(0)`, `one(1)`…, at most two per thread ahead of the one that is asked for."""
    from concurrent.futures import Future, ThreadPoolExecutor  # few have the use of it

    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[bytes]] = deque()
        try:
            for number in range(count):
                ahead.append(pool.submit(one, number))
                if len(ahead) >= 2 * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _encode(codec: Codec, native: Buffer, number: int) -> bytes:
    try:
        return codec.encode(native)
    except EncodingFailed as failure:
        detail = f"frame {number + 1}: {failure}"
        raise NotEncoded(KeepReason.ENCODER_FAILED, detail) from failure


def _is_same(codec: Codec, encoded: bytes, native: Buffer) -> bool:
    try:
        return codec.is_same(encoded, native)
    except DecodingFailed:
        return False
