"""Encapsulated Pixel Data around the frames: header, offset tables, items, delimiter (PS3.5 A.4).

Bytes only. Every frame is one item; the Basic Offset Table is always filled, unless 32 bits do not
suffice: then it is empty and the Extended Offset Table elements stand before (PS3.3 C.7.6.3.1.8).
"""

from __future__ import annotations

import itertools
import struct

SEQUENCE_DELIMITER = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
#: The largest offset that a Basic Offset Table can hold.
LARGEST_BASIC_OFFSET = 0xFFFF_FFFF

_ITEM = b"\xfe\xff\x00\xe0"
_ENCAPSULATED_PIXEL_DATA = b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff"
_EXTENDED_OFFSET_TABLE = b"\xe0\x7f\x01\x00OV\x00\x00"
_EXTENDED_OFFSET_TABLE_LENGTHS = b"\xe0\x7f\x02\x00OV\x00\x00"
#: The two of them, and Pixel Data itself, have headers of this length (PS3.5 Table 7.1-1).
_HEADER_BYTES = 12
#: Numbers held before they are asked for: there may be millions of tiny frames.
_MOST_HELD = 1 << 16


def item_header(length: int) -> bytes:
    """Return what stands before a frame of `length` bytes, an even number."""
    return _ITEM + struct.pack("<L", length)


class OffsetTable:
    """Where the frames start, and with it the header of the Pixel Data element (PS3.5 A.4).

    Its length is known from the beginning. Its bytes are had whole, or piece by piece as position
    and bytes: the `skeleton`, and what `take` gives of the frames that were added.
    """

    def __init__(self, frames: int, *, extended: bool) -> None:
        self._frames = frames
        self._extended = extended
        #: Of the frames that were added and not taken yet.
        self._lengths: list[int] = []
        self._taken = 0
        #: Where the first of them starts.
        self._offset = 0

    @property
    def byte_count(self) -> int:
        """The length of all that stands before the first frame."""
        if self._extended:
            return 2 * (_HEADER_BYTES + 8 * self._frames) + _HEADER_BYTES + 8
        return _HEADER_BYTES + 8 + 4 * self._frames

    def skeleton(self) -> list[tuple[int, bytes]]:
        """Return everything but the numbers."""
        if not self._extended:
            size = struct.pack("<L", 4 * self._frames)
            return [(0, _ENCAPSULATED_PIXEL_DATA + _ITEM + size)]
        size = struct.pack("<L", 8 * self._frames)
        second = _HEADER_BYTES + 8 * self._frames
        return [
            (0, _EXTENDED_OFFSET_TABLE + size),
            (second, _EXTENDED_OFFSET_TABLE_LENGTHS + size),
            (2 * second, _ENCAPSULATED_PIXEL_DATA + _ITEM + bytes(4)),
        ]

    def add(self, length: int) -> None:
        """Note the length of the next frame's item value."""
        self._lengths.append(length)

    @property
    def is_full(self) -> bool:
        """Tell that it is time to `take`."""
        return len(self._lengths) >= _MOST_HELD

    def take(self) -> list[tuple[int, bytes]]:
        """Return the numbers of the frames that were added since the last time."""
        lengths, self._lengths = self._lengths, []
        *offsets, self._offset = itertools.accumulate(
            (8 + length for length in lengths), initial=self._offset
        )
        first, count = self._taken, len(lengths)
        self._taken += count
        if not self._extended:
            return [(_HEADER_BYTES + 8 + 4 * first, struct.pack(f"<{count}L", *offsets))]
        at, second = _HEADER_BYTES + 8 * first, _HEADER_BYTES + 8 * self._frames
        return [
            (at, struct.pack(f"<{count}Q", *offsets)),
            (second + at, struct.pack(f"<{count}Q", *lengths)),
        ]

    def encoded(self) -> bytes:
        """Return all that stands before the first frame, once every frame was added."""
        table = bytearray(self.byte_count)
        for at, piece in (*self.skeleton(), *self.take()):
            table[at : at + len(piece)] = piece
        return bytes(table)
