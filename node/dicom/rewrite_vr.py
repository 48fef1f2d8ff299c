"""The two walks between Implicit and Explicit VR, both Little Endian; see `node.dicom.convert`."""

from __future__ import annotations

import struct

from node.dicom import dictionary
from node.dicom.dictionary import UNDEFINED_LENGTH, US_OR_OW, US_OR_SS, raw_tag
from node.dicom.encoded import PIXEL_REPRESENTATION
from node.dicom.layout import Buffer, Header, Layout
from node.dicom.rewrite import LARGE_VALUE, LONGEST_SHORT_FORM, CannotConvert, Rewriter
from node.dicom.walk import Frame, Limits

_LUT_DESCRIPTOR = 0x00283002

_pack_plain = struct.Struct("<II").pack
_pack_short = struct.Struct("<I2sH").pack
_pack_long = struct.Struct("<I2s2xI").pack
_unpack_us = struct.Struct("<H").unpack_from


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
        short_vr, long_vr = dictionary.plain_vrs()
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
