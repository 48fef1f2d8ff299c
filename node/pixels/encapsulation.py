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


def item_header(length: int) -> bytes:
    """Return what stands before a frame of `length` bytes, an even number."""
    return _ITEM + struct.pack("<L", length)


class OffsetTable:
    """Where the frames start, and with it the header of the Pixel Data element (PS3.5 A.4)."""

    def __init__(self, frames: int, *, extended: bool) -> None:
        self._extended = extended
        self._frames = frames
        self._lengths: list[int] = []

    def add(self, length: int) -> None:
        """Note the length of the next frame's item value."""
        self._lengths.append(length)

    def encoded(self) -> bytes:
        """Return all that stands before the first frame; its length never depends on offsets."""
        lengths = self._lengths + [0] * (self._frames - len(self._lengths))
        offsets = [0, *itertools.accumulate(8 + length for length in lengths[:-1])]
        if self._extended:
            size = struct.pack("<L", 8 * self._frames)
            return b"".join(
                [
                    _EXTENDED_OFFSET_TABLE + size + struct.pack(f"<{self._frames}Q", *offsets),
                    _EXTENDED_OFFSET_TABLE_LENGTHS + size,
                    struct.pack(f"<{self._frames}Q", *lengths),
                    _ENCAPSULATED_PIXEL_DATA + _ITEM + bytes(4),
                ]
            )
        table = struct.pack(f"<{self._frames}L", *offsets)
        return _ENCAPSULATED_PIXEL_DATA + _ITEM + struct.pack("<L", len(table)) + table
