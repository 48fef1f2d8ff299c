"""The transcoder: the bytes of an instance in, the same instance with encoded pixel data out.

It scans and splices: `plan` (see `planning`) says what goes before and after Pixel Data, and frames
are encoded one by one from where they lie into the output. Every frame is decoded again and
compared with the native one before it counts. `encoded_data_set` gives a small data set as chunks,
and so does `encoded_ahead`, which leaves the proof for later; `write_data_set` writes one of any
size, so that memory does not grow with the instance. `restorer.restore` is the exact inverse.

Raises `NotEncoded` with the reason where an instance has to stay as it is; what `write_data_set`
wrote until then is for the caller to throw away.
"""

from __future__ import annotations

import io
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from node.dicom import uids
from node.dicom.layout import Buffer
from node.dicom.walk import Release, keep
from node.errors import DecodingFailed, EncodingFailed
from node.pixels.codecs import Codec, codec_for
from node.pixels.encapsulation import (
    LARGEST_BASIC_OFFSET,
    SEQUENCE_DELIMITER,
    OffsetTable,
    item_header,
)
from node.pixels.planning import NotEncoded, Plan, turned
from node.pixels.policy import Options, PixelLayout
from node.reasons import KeepReason

if TYPE_CHECKING:
    from concurrent.futures import Future

#: An empty file, or memory that stands for one.
Sink: TypeAlias = io.FileIO | io.BytesIO

#: Frames looked at before the work is begun: the first, one in the middle and the last.
_LOOK_FROM_FRAMES = 8
#: So much of a mapped input is read before it is released.
_HELD_BYTES = 1 << 20
#: What the kernel maps around a page that is read, in bytes (fault_around_bytes of Linux).
_READ_AROUND = 1 << 16
#: More than one write can be given (IOV_MAX of Linux).
_MOST_CHUNKS = 1024


def encoded_data_set(plan: Plan, options: Options, release: Release = keep) -> list[Buffer]:
    """Return the encoded data set as chunks, all of them in memory; see the module for what raises.

    For data sets of which that can be said; for the others there is `write_data_set`.
    """
    codec, frames = codec_for(plan.layout, options), _Frames(plan)
    _look_before(codec, frames, plan.layout)
    return _spliced(plan, _encoded_frames(codec, frames, plan, options, release))


def encoded_ahead(plan: Plan, options: Options) -> tuple[list[Buffer], Callable[[], None]]:
    """As `encoded_data_set`, of frames that are not proven yet, and what proves them.

    For one who can take back what was given out already: the proof raises `NotEncoded` where a
    frame does not decode to what it was.
    """
    codec, frames = codec_for(plan.layout, options), _Frames(plan)
    _look_before(codec, frames, plan.layout)
    unproven = options._replace(verify=False)
    encoded = [*_encoded_frames(codec, frames, plan, unproven, keep)]

    def prove() -> None:
        if options.verify:
            for number, frame in enumerate(encoded):
                _require_same(codec, frame, frames[number], number)

    return _spliced(plan, encoded), prove


def _spliced(plan: Plan, frames: Iterable[bytes]) -> list[Buffer]:
    table, items = _table_of(plan), list[Buffer]()
    for encoded in frames:
        table.add(len(encoded))
        items += item_header(len(encoded)), encoded
    chunks = [*plan.head, table.encoded(), *items, SEQUENCE_DELIMITER, *plan.tail]
    if sum(map(len, chunks)) >= plan.native_data_set_bytes:
        raise NotEncoded(KeepReason.NOT_SMALLER)
    return chunks


def write_data_set(plan: Plan, sink: Sink, options: Options, release: Release = keep) -> int:
    """Write the encoded data set at the position of `sink`, and return its length in bytes.

    `sink` is a seekable binary file; the offset table is filled in as frames are written. Raises
    `NotEncoded` where a frame cannot be encoded, does not decode to what it was, or where the
    result would not be smaller than what was received.
    """
    codec, frames = codec_for(plan.layout, options), _Frames(plan)
    _look_before(codec, frames, plan.layout)
    start, table = sink.tell(), _table_of(plan)
    write_all(sink, plan.head)
    table_at = sink.tell()
    _put(sink, table_at, table.skeleton())
    sink.seek(table_at + table.byte_count)
    length = table_at + table.byte_count - start
    for encoded in _encoded_frames(codec, frames, plan, options, release):
        write_all(sink, [item_header(len(encoded)), encoded])
        table.add(len(encoded))
        if table.is_full:
            _put(sink, table_at, table.take())
        length += 8 + len(encoded)
        if length >= plan.native_data_set_bytes:
            raise NotEncoded(KeepReason.NOT_SMALLER)
    _put(sink, table_at, table.take())
    write_all(sink, [SEQUENCE_DELIMITER, *plan.tail])
    length = sink.tell() - start
    if length >= plan.native_data_set_bytes:
        raise NotEncoded(KeepReason.NOT_SMALLER)
    return length


def _table_of(plan: Plan) -> OffsetTable:
    # Below 4 GiB of native pixels no encoded frame that counts starts beyond 32 bits.
    is_large = plan.layout.value_bytes > LARGEST_BASIC_OFFSET
    return OffsetTable(plan.layout.number_of_frames, extended=is_large)


def _put(sink: Sink, base: int, pieces: Iterable[tuple[int, bytes]]) -> None:
    """Write pieces at their places behind `base`, and come back to where the sink was."""
    position = sink.tell()
    for at, piece in pieces:
        sink.seek(base + at)
        write_all(sink, [piece])
    sink.seek(position)


def write_all(sink: Sink, chunks: Iterable[Buffer]) -> None:
    """Write every byte of `chunks`, to a file with as few calls as can be."""
    if isinstance(sink, io.BytesIO):
        sink.writelines(chunks)
        return
    rest = deque(memoryview(chunk) for chunk in chunks if len(chunk))
    while rest:
        # One call may take fewer than it is given.
        written = os.writev(sink.fileno(), [*itertools.islice(rest, _MOST_CHUNKS)])
        while rest and written >= rest[0].nbytes:
            written -= rest.popleft().nbytes
        if written:
            rest[0] = rest[0][written:]


class _Frames:
    """Native frames, little endian, each a slice of where they lie, made when it is asked for."""

    def __init__(self, plan: Plan) -> None:
        native = plan.native
        if plan.source.transfer_syntax_uid == uids.EXPLICIT_VR_BE:
            native = turned(native, plan.pixel_vr, plan.layout.bits_allocated)
        self._view = memoryview(native)
        self._size = plan.layout.frame_bytes
        self._count = plan.layout.number_of_frames

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Buffer:
        return self._view[number * self._size : (number + 1) * self._size]


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
        if options.verify:
            _require_same(codec, encoded, native, number)
        return encoded if len(encoded) % 2 == 0 else encoded + b"\x00"

    count = len(frames)
    threads = min(options.threads, count)
    results = map(one, range(count)) if threads < 2 else _in_threads(one, count, threads)
    held = plan.native_offset
    for end, encoded in enumerate(results, 1):
        yield encoded
        done = plan.native_offset + end * size
        if done - held >= _HELD_BYTES or end == count:
            # A page that is read brings its neighbours, those that were released too.
            release(max(plan.native_offset, held - _READ_AROUND), done)
            held = done


def _in_threads(one: Callable[[int], bytes], count: int, threads: int) -> Iterator[bytes]:
    """Yield `one(0)`, `one(1)`…, at most two per thread ahead of the one that is asked for."""
    from concurrent.futures import ThreadPoolExecutor  # few have the use of it

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


def _require_same(codec: Codec, encoded: bytes, native: Buffer, number: int) -> None:
    try:
        is_same = codec.is_same(encoded, native)
    except DecodingFailed:
        is_same = False
    if not is_same:
        raise NotEncoded(KeepReason.VERIFY_FAILED, f"frame {number + 1}")
