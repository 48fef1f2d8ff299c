"""What all walks that write a data set in another transfer syntax share; see `convert`.

Each walk passes the plain elements in one tight loop and hears of the others from `Walker`. What
is written is a list of small pieces, of which those that say a length or a VR not yet known are
replaced when it is. Raises as `node.dicom.convert` says.
"""

from __future__ import annotations

import abc
import struct
from typing import Final, TypeAlias

from node.dicom import dictionary
from node.dicom.dictionary import UNDEFINED_LENGTH, ByteOrder
from node.dicom.layout import Buffer, Header, content_layout
from node.dicom.walk import Frame, Limits, Walker
from node.errors import NodeError

Chunk: TypeAlias = bytes | memoryview

#: From here on a value is passed on as a view; below, copying it is cheaper than keeping it apart.
LARGE_VALUE: Final = 0x10000
#: The longest value of a VR with a 16-bit length: even, and not 0xFFFF (PS3.5 6.2.2).
LONGEST_SHORT_FORM: Final = 0xFFFE

#: Packs a length, by byte order.
pack_length = {"<": struct.Struct("<I").pack, ">": struct.Struct(">I").pack}


class CannotConvert(NodeError):
    """The data set is sound, but has no counterpart in the other transfer syntax."""


class Level:
    """The data set, sequence or item being written, and what is not yet known of it."""

    __slots__ = ("growth", "length", "lut_entries", "pixel_representation", "place", "prefix", "us")

    def __init__(self, place: int, prefix: bytes, length: int, growth: int) -> None:
        #: Which piece its header is, what that begins with, and the length that came in.
        self.place = place
        self.prefix = prefix
        self.length = length
        #: How much longer the output was than the input where its value began.
        self.growth = growth
        #: Pieces that are US unless Pixel Representation says SS; only it is not yet known.
        self.us: list[int] = []
        self.pixel_representation: int | None = None
        #: The first value of LUT Descriptor (0028,3002) (PS3.3 C.11.1.1.1).
        self.lut_entries: int | None = None


class Rewriter(Walker, abc.ABC):
    """A walk that writes what it passes; what it wrote is had by `chunks`."""

    __slots__ = ("_has_views", "_target_order", "_view", "growth", "levels", "pieces")

    def __init__(self, data: Buffer, limits: Limits, target_order: ByteOrder = "<") -> None:
        super().__init__(data, limits)
        self._view = memoryview(data)
        self._target_order = target_order
        self._has_views = False
        self.pieces: list[Chunk] = []
        #: How much longer the output is than the input.
        self.growth = 0
        self.levels = [Level(0, b"", 0, 0)]

    def chunks(self) -> list[Chunk]:
        """Return what was written, small pieces joined."""
        if not self._has_views:
            return [b"".join(self.pieces)]
        chunks: list[Chunk] = []
        begin = 0
        for index, piece in enumerate(self.pieces):
            if isinstance(piece, memoryview):
                chunks += b"".join(self.pieces[begin:index]), piece
                begin = index + 1
        return [*chunks, b"".join(self.pieces[begin:])]

    @abc.abstractmethod
    def sequence_prefix(self, offset: int, header: Header) -> bytes:
        """Return all of a sequence's header but its length, and count what it grows by."""

    def entered(self, offset: int, header: Header, outer: Frame, inner: Frame) -> None:
        """Write the header, with the length that it has so far."""
        order = self._target_order
        if inner.is_sequence:
            prefix = self.sequence_prefix(offset, header)
        else:
            prefix = dictionary.ITEM_BYTES[order]
        self.levels.append(Level(len(self.pieces), prefix, header.length, self.growth))
        self.pieces.append(prefix + pack_length[order](header.length))

    def left(self, frame: Frame) -> None:
        """Write the length again where what is inside has grown."""
        level = self.levels.pop()
        growth = self.growth - level.growth
        if growth and frame.is_defined and self.levels:
            length = level.length + growth
            if length >= UNDEFINED_LENGTH:
                raise CannotConvert("A sequence would be longer than a length field can say.")
            self.pieces[level.place] = level.prefix + pack_length[self._target_order](length)

    def delimited(self, offset: int, length: int, frame: Frame) -> None:
        """Write the delimiter."""
        self.pieces.append(bytes(self.data[offset : offset + 8]))

    def padded(self, offset: int, end: int) -> None:
        """Write the padding."""
        self.pieces.append(bytes(self.data[offset:end]))

    def put(self, header: bytes, begin: int, end: int) -> None:
        """Write a header, and the value between `begin` and `end` as it is."""
        if end - begin < LARGE_VALUE:
            self.pieces.append(header + self.data[begin:end])
        else:
            self._has_views = True
            self.pieces += header, self._view[begin:end]

    def end_of_unknown(self, header: Header, frame: Frame) -> int:
        """Return the end of a sequence of undefined length that is copied as it is.

        That is right where it is Implicit VR LE inside (PS3.5 6.2.2 Note 4), which reads the same
        in every transfer syntax.
        """
        form = content_layout(self.data, header.value_offset)
        if form.explicit or form.order != "<":
            raise CannotConvert("A sequence without VR is not Implicit VR Little Endian inside.")
        inside = Walker(self.data, self.limits)
        inside.budget = self.budget
        return inside.end_of_sequence(header.value_offset, frame.end, form)
