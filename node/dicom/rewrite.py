"""The three walks that write a data set in another transfer syntax; see `node.dicom.convert`.

Each walk passes the plain elements in one tight loop and hears of the others from `Walker`. What
is written is a list of small pieces, of which those that say a length or a VR not yet known are
replaced when it is. Raises as `node.dicom.convert` says.
"""

from __future__ import annotations

import abc
import array
import struct
from typing import Final, TypeAlias

from node.dicom import dictionary
from node.dicom.dictionary import UNDEFINED_LENGTH, US_OR_OW, US_OR_SS, ByteOrder, raw_tag
from node.dicom.encoded import PIXEL_REPRESENTATION
from node.dicom.layout import Buffer, Header, Layout, content_layout, layout
from node.dicom.walk import Frame, Limits, Walker
from node.errors import NodeError

Chunk: TypeAlias = bytes | memoryview

#: From here on a value is passed on as a view; below, copying it is cheaper than keeping it apart.
LARGE_VALUE: Final = 0x10000
#: The longest value of a VR with a 16-bit length: even, and not 0xFFFF (PS3.5 6.2.2).
LONGEST_SHORT_FORM: Final = 0xFFFE

_LUT_DESCRIPTOR = 0x00283002

_pack_plain = struct.Struct("<II").pack
_pack_short = struct.Struct("<I2sH").pack
_pack_long = struct.Struct("<I2s2xI").pack
_pack_length = {"<": struct.Struct("<I").pack, ">": struct.Struct(">I").pack}
_unpack_us = struct.Struct("<H").unpack_from

_ARRAY_TYPES = {array.array(code).itemsize: code for code in "HILQ"}


class CannotConvert(NodeError):
    """The data set is sound, but has no counterpart in the other transfer syntax."""


class _Level:
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
        self.levels = [_Level(0, b"", 0, 0)]

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
        self.levels.append(_Level(len(self.pieces), prefix, header.length, self.growth))
        self.pieces.append(prefix + _pack_length[order](header.length))

    def left(self, frame: Frame) -> None:
        """Write the length again where what is inside has grown."""
        level = self.levels.pop()
        growth = self.growth - level.growth
        if growth and frame.is_defined and self.levels:
            length = level.length + growth
            if length >= UNDEFINED_LENGTH:
                raise CannotConvert("A sequence would be longer than a length field can say.")
            self.pieces[level.place] = level.prefix + _pack_length[self._target_order](length)

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


class ImplicitToExplicit(Rewriter):
    """Implicit VR LE to Explicit VR LE."""

    __slots__ = ("_said_pixel_representation",)

    def __init__(self, data: Buffer, limits: Limits, pixel_representation: int | None) -> None:
        super().__init__(data, limits)
        self._said_pixel_representation = pixel_representation

    def pass_plain(self, offset: int, frame: Frame) -> int:
        """Give each element the VR of the dictionary."""
        data, append, last = self.data, self.pieces.append, frame.end - 8
        read, pack_short, pack_long = frame.form.plain_header, _pack_short, _pack_long
        short_vr, long_vr = (table.get for table in dictionary.plain_vrs())
        growth = 0
        for _ in self.budget:
            if offset > last:
                break
            tag, length = read(data, offset)
            following = offset + 8 + length
            vr = short_vr(tag)
            # Odd groups are private: UN but for their creators (PS3.5 6.2.2, 7.8.1). The element
            # number is the upper half.
            if vr is None and tag & 1 and 0x10 <= tag >> 16 <= 0xFF:
                vr = b"LO"
            if vr is not None and length <= LONGEST_SHORT_FORM:
                append(pack_short(tag, vr, length) + data[offset + 8 : following])
                offset = following
                continue
            vr = b"UN" if vr is not None or tag & 1 else long_vr(tag)
            if vr is None or length == UNDEFINED_LENGTH:
                break
            growth += 4
            if length < LARGE_VALUE:
                append(pack_long(tag, vr, length) + data[offset + 8 : following])
            else:
                self.put(pack_long(tag, vr, length), offset + 8, following)
            offset = following
        else:
            self.refuse_more(offset)
        self.growth += growth
        return offset

    def sequence_prefix(self, offset: int, header: Header) -> bytes:
        """SQ has the long form."""
        self.growth += 4
        return bytes(self.data[offset : offset + 4]) + b"SQ\0\0"

    def other(self, offset: int, header: Header, frame: Frame) -> int:
        """Write an element whose VR needs a closer look."""
        end = super().other(offset, header, frame)
        tag, length = header.tag, header.length
        # What is encapsulated is OB (PS3.5 A.4).
        vr = b"OB" if length == UNDEFINED_LENGTH else self._choose_vr(header).encode()
        if vr in dictionary.SHORT_FORM and length <= LONGEST_SHORT_FORM:
            self.put(_pack_short(tag, vr, length), offset + 8, end)
            return end
        self.growth += 4
        self.put(
            _pack_long(tag, vr if vr in dictionary.LONG_FORM else b"UN", length), offset + 8, end
        )
        return end

    def _choose_vr(self, header: Header) -> str:
        """Return the VR of an element that is not in the tables, noting what others depend on."""
        tag, level = raw_tag(header.tag, "<"), self.levels[-1]
        vr = dictionary.vr_for_implicit(tag)
        if tag == PIXEL_REPRESENTATION:
            if header.length == 2:
                level.pixel_representation = self._first_number(header)
        elif vr == US_OR_OW:
            # One entry needs no word VR (PS3.3 C.11.1.1.1); the descriptor comes before.
            return "US" if level.lut_entries == 1 else "OW"
        elif vr == US_OR_SS:
            if tag == _LUT_DESCRIPTOR and header.length >= 2:
                level.lut_entries = self._first_number(header)
            if header.length <= LONGEST_SHORT_FORM:
                level.us.append(len(self.pieces))
            return "US"
        return vr

    def _first_number(self, header: Header) -> int:
        return int(_unpack_us(self.data, header.value_offset)[0])

    def left(self, frame: Frame) -> None:
        """Decide between US and SS where Pixel Representation is known by now."""
        level = self.levels[-1]
        super().left(frame)
        if not level.us:
            return
        pixel_representation = level.pixel_representation
        if not self.levels and pixel_representation is None:
            pixel_representation = self._said_pixel_representation or 0
        if pixel_representation is None:
            # The nearest data set around that has it decides, as in pydicom.
            self.levels[-1].us += level.us
        elif pixel_representation:
            for place in level.us:
                piece = bytes(self.pieces[place])
                self.pieces[place] = piece[:4] + b"SS" + piece[6:]


class ExplicitToImplicit(Rewriter):
    """Explicit VR LE to Implicit VR LE."""

    __slots__ = ()

    def pass_plain(self, offset: int, frame: Frame) -> int:
        """Leave the VR out."""
        data, form, append, last = self.data, frame.form, self.pieces.append, frame.end - 8
        read, read_long, pack = form.short_header, form.long_length, _pack_plain
        short_form, long_form = form.short_form, form.long_form
        growth = 0
        for _ in self.budget:
            if offset > last:
                break
            tag, vr, length = read(data, offset)
            if vr in short_form:
                following = offset + 8 + length
                append(pack(tag, length) + data[offset + 8 : following])
            elif vr in long_form:
                (length,) = read_long(data, offset + 8)
                if length == UNDEFINED_LENGTH:
                    break
                following = offset + 12 + length
                growth -= 4
                if length < LARGE_VALUE:
                    append(pack(tag, length) + data[offset + 12 : following])
                else:
                    self.put(pack(tag, length), offset + 12, following)
            else:
                break
            offset = following
        else:
            self.refuse_more(offset)
        self.growth += growth
        return offset

    def sequence_prefix(self, offset: int, header: Header) -> bytes:
        """Only the tag is left."""
        self.growth -= 4
        return bytes(self.data[offset : offset + 4])

    def sequence_layout(self, header: Header, form: Layout) -> Layout | None:
        """Look into what is SQ and nothing else, as the way here did."""
        return form if header.vr == b"SQ" else None

    def other(self, offset: int, header: Header, frame: Frame) -> int:
        """Leave the VR out of an element that is not in a table."""
        if header.length == UNDEFINED_LENGTH and super().sequence_layout(header, frame.form):
            end = self.end_of_unknown(header, frame)
        else:
            end = super().other(offset, header, frame)
            if header.length == UNDEFINED_LENGTH and not dictionary.holds_fragments(
                raw_tag(header.tag, "<")
            ):
                raise CannotConvert("Without its VR an encapsulated value would be a sequence.")
        self.growth -= header.value_offset - offset - 8
        self.put(_pack_plain(header.tag, header.length), header.value_offset, end)
        return end


class ByteSwap(Rewriter):
    """Explicit VR from one byte order to the other (PS3.5 7.3)."""

    __slots__ = ("_pack_header", "_pack_long", "_pack_plain", "_read_header", "_read_plain")

    def __init__(self, data: Buffer, limits: Limits, source_order: ByteOrder) -> None:
        target_order: ByteOrder = "<" if source_order == ">" else ">"
        super().__init__(data, limits, target_order)
        self._read_header = struct.Struct(f"{source_order}HH2sH").unpack_from
        self._pack_header = struct.Struct(f"{target_order}HH2sH").pack
        self._read_plain = struct.Struct(f"{source_order}HHI").unpack_from
        self._pack_plain = struct.Struct(f"{target_order}HHI").pack
        self._pack_long = _pack_length[target_order]

    def pass_plain(self, offset: int, frame: Frame) -> int:
        """Swap headers, and the values of VRs that have a byte order."""
        data, append, last = self.data, self.pieces.append, frame.end - 8
        read, read_long = self._read_header, frame.form.long_length
        pack, pack_long = self._pack_header, self._pack_long
        short_form, long_form = dictionary.SHORT_FORM, dictionary.LONG_FORM
        width_of = dictionary.WIDTHS.get
        for _ in self.budget:
            if offset > last:
                break
            group, element, vr, length = read(data, offset)
            header, value = pack(group, element, vr, length), offset + 8
            if vr not in short_form:
                if vr not in long_form or vr == b"SQ":
                    break
                (length,) = read_long(data, value)
                if length == UNDEFINED_LENGTH:
                    break
                header += pack_long(length)
                value += 4
            offset = value + length
            width = width_of(vr)
            if width is None:
                self.put(header, value, offset)
            else:
                append(header + swapped(bytes(data[value:offset]), width))
        else:
            self.refuse_more(offset)
        return offset

    def sequence_prefix(self, offset: int, header: Header) -> bytes:
        """Nothing grows here."""
        return self._swapped_header(offset)

    def sequence_layout(self, header: Header, form: Layout) -> Layout | None:
        """Look into what is SQ and nothing else; UN has no byte order."""
        return form if header.vr == b"SQ" else None

    def delimited(self, offset: int, length: int, frame: Frame) -> None:
        """Write the delimiter in the other byte order."""
        self.pieces.append(self._pack_plain(*self._read_plain(self.data, offset)))

    def other(self, offset: int, header: Header, frame: Frame) -> int:
        """Swap the header of an element whose VR is unknown; its value has no byte order."""
        if header.vr is None:
            raise CannotConvert("An element without a VR has no byte order.")
        if header.length != UNDEFINED_LENGTH:
            end = header.value_offset + header.length
        elif super().sequence_layout(header, frame.form):
            end = self.end_of_unknown(header, frame)
        else:
            raise CannotConvert("Encapsulated values are little endian only (PS3.5 A.4).")
        head = self._swapped_header(offset)
        if header.value_offset - offset == 12:
            head += self._pack_long(header.length)
        self.put(head, header.value_offset, end)
        return end

    def _swapped_header(self, offset: int) -> bytes:
        """Return tag, VR and the two bytes after it, in the target's byte order."""
        return self._pack_header(*self._read_header(self.data, offset))


def swapped(value: bytes, width: int) -> bytes:
    """Return numbers of `width` bytes each the other way round; what is left over stays."""
    if len(value) == width:
        return value[::-1]
    whole = len(value) - len(value) % width
    numbers = array.array(_ARRAY_TYPES[width], value[:whole])
    numbers.byteswap()
    return numbers.tobytes() + value[whole:]


def converter(
    data: Buffer, source: Layout, target: Layout, limits: Limits, pixel_representation: int | None
) -> Rewriter:
    """Return the walk from one native layout to another; one of the two is Explicit VR LE."""
    if source.order != target.order:
        return ByteSwap(data, limits, source.order)
    if source is layout(False, "<"):
        return ImplicitToExplicit(data, limits, pixel_representation)
    return ExplicitToImplicit(data, limits)
