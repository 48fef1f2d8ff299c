"""The walk from one byte order to the other, and numbers the other way round (PS3.5 7.3)."""

from __future__ import annotations

import array
import struct

from node.dicom import dictionary
from node.dicom.dictionary import UNDEFINED_LENGTH, ByteOrder
from node.dicom.layout import Buffer, Header, Layout
from node.dicom.rewrite import CannotConvert, Rewriter, pack_length
from node.dicom.walk import Frame, Limits

_ARRAY_TYPES = {array.array(code).itemsize: code for code in "HILQ"}


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
        self._pack_long = pack_length[target_order]

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
