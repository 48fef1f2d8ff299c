"""An encoded data set, and the values in it that decide what may be done with it.

`EncodedDataSet` is what `node.dicom.scan.scan` returns: the bytes, untouched, and where the
watched elements lie in them. A value is read when its property is asked for and not before.
Nothing here raises on a data set that was scanned.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from typing import Final, NamedTuple

from node.dicom.dictionary import UNDEFINED_LENGTH, raw_tag
from node.dicom.layout import Buffer, Layout, read_header

SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018
MODALITY: Final = 0x00080060
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E
SAMPLES_PER_PIXEL: Final = 0x00280002
PHOTOMETRIC_INTERPRETATION: Final = 0x00280004
PLANAR_CONFIGURATION: Final = 0x00280006
NUMBER_OF_FRAMES: Final = 0x00280008
ROWS: Final = 0x00280010
COLUMNS: Final = 0x00280011
BITS_ALLOCATED: Final = 0x00280100
BITS_STORED: Final = 0x00280101
PIXEL_REPRESENTATION: Final = 0x00280103
MAC_PARAMETERS_SEQUENCE: Final = 0x4FFE0001
EXTENDED_OFFSET_TABLE: Final = 0x7FE00001
EXTENDED_OFFSET_TABLE_LENGTHS: Final = 0x7FE00002
FLOAT_PIXEL_DATA: Final = 0x7FE00008
DOUBLE_FLOAT_PIXEL_DATA: Final = 0x7FE00009
PIXEL_DATA: Final = 0x7FE00010
DIGITAL_SIGNATURES_SEQUENCE: Final = 0xFFFAFFFA

#: Every tag an `EncodedDataSet` can be asked for.
WATCHED: Final = frozenset(
    {
        SOP_CLASS_UID,
        SOP_INSTANCE_UID,
        MODALITY,
        STUDY_INSTANCE_UID,
        SERIES_INSTANCE_UID,
        SAMPLES_PER_PIXEL,
        PHOTOMETRIC_INTERPRETATION,
        PLANAR_CONFIGURATION,
        NUMBER_OF_FRAMES,
        ROWS,
        COLUMNS,
        BITS_ALLOCATED,
        BITS_STORED,
        PIXEL_REPRESENTATION,
        MAC_PARAMETERS_SEQUENCE,
        EXTENDED_OFFSET_TABLE,
        EXTENDED_OFFSET_TABLE_LENGTHS,
        FLOAT_PIXEL_DATA,
        DOUBLE_FLOAT_PIXEL_DATA,
        PIXEL_DATA,
        DIGITAL_SIGNATURES_SEQUENCE,
    }
)

#: A UID has 64 characters (PS3.5 9.1); twice that is enough to see that one is too long.
_UID_BYTES = 128
#: A CS has 16 characters (PS3.5 Table 6.2-1).
_CODE_STRING_BYTES = 16
#: An IS has 12 characters; a frame count has a plus sign at most (PS3.5 Table 6.2-1).
_COUNT = re.compile(rb" *\+?([0-9]{1,12})[ \0]*\Z")


class Element(NamedTuple):
    """Where one element of the top level lies: header, value, and the first byte after it.

    `length` is the length field as it stands, so 0xFFFFFFFF for undefined length, and then `end`
    is after the delimiter. `vr` is None where the element came without one.
    """

    tag: int
    vr: str | None
    offset: int
    value_offset: int
    length: int
    end: int

    @property
    def is_undefined_length(self) -> bool:
        """Tell whether the value is closed by a delimiter."""
        return self.length == UNDEFINED_LENGTH


class EncodedDataSet:
    """An encoded data set, and where in it the elements of the top level lie.

    A property that is None says that the element is absent, repeated with another value, or not of
    the VR and VM that the data dictionary gives it, so that nobody builds on a value two readers
    would read differently: of two elements DCMTK takes the first, pydicom the last.
    """

    __slots__ = (
        "_closed",
        "_conflicting",
        "_form",
        "_found",
        "_known",
        "data",
        "has_file_meta",
        "has_repeated",
        "is_as_said",
        "is_signed",
        "start",
        "transfer_syntax_uid",
    )

    def __init__(
        self,
        data: Buffer,
        transfer_syntax_uid: str,
        form: Layout,
        *,
        start: int,
        has_file_meta: bool,
        is_as_said: bool,
        is_signed: bool,
        has_repeated: bool,
        found: Mapping[int, int],
        closed: Mapping[int, int],
        conflicting: Container[int],
    ) -> None:
        self.data: Final = data
        #: What the bytes are in: Implicit VR LE or Explicit VR BE, else as was said.
        self.transfer_syntax_uid: Final = transfer_syntax_uid
        #: Where the data set begins: after the file meta information, where there is some.
        self.start: Final = start
        #: True where a preamble or elements of group 0002 lie before the data set.
        self.has_file_meta: Final = has_file_meta
        #: True where the bytes are in the transfer syntax that was said.
        self.is_as_said: Final = is_as_said
        #: True where a Digital Signatures Sequence is in it, at whatever level (PS3.3 C.12.1.1.3).
        self.is_signed: Final = is_signed
        #: True where a watched element is more than once at the top level.
        self.has_repeated: Final = has_repeated
        self._form: Final = form
        self._found: Final = found
        self._closed: Final = closed
        self._conflicting: Final = conflicting
        #: Elements that were asked for: most are asked for several times.
        self._known: Final[dict[int, Element | None]] = {}

    @property
    def is_regular(self) -> bool:
        """Tell whether it is what it should be: only then may anything but copying be done."""
        return self.is_as_said and not self.has_file_meta and not self.has_repeated

    def element(self, tag: int) -> Element | None:
        """Return where the first element of this tag lies at the top level, or None.

        Only the tags in `WATCHED` are found.
        """
        if tag not in self._known:
            offset = self._found.get(raw_tag(tag, self._form.order))
            self._known[tag] = None if offset is None else self._element_at(tag, offset)
        return self._known[tag]

    def _element_at(self, tag: int, offset: int) -> Element:
        form = self._form
        if form.explicit:
            # Nearly all of them; `read_header` would say the same.
            _, vr_read, length = form.short_header(self.data, offset)
            if vr_read in form.short_form:
                start = offset + 8
                return Element(tag, form.short_form[vr_read], offset, start, length, start + length)
        header = read_header(self.data, offset, form)
        length = header.length
        end = header.value_offset + length if length != UNDEFINED_LENGTH else self._closed[offset]
        vr = None if header.vr is None else header.vr.decode("latin-1")
        return Element(tag, vr, offset, header.value_offset, length, end)

    @property
    def sop_class_uid(self) -> str | None:
        """SOP Class UID (0008,0016)."""
        return self._uid(SOP_CLASS_UID)

    @property
    def sop_instance_uid(self) -> str | None:
        """SOP Instance UID (0008,0018)."""
        return self._uid(SOP_INSTANCE_UID)

    @property
    def study_instance_uid(self) -> str | None:
        """Study Instance UID (0020,000D)."""
        return self._uid(STUDY_INSTANCE_UID)

    @property
    def series_instance_uid(self) -> str | None:
        """Series Instance UID (0020,000E)."""
        return self._uid(SERIES_INSTANCE_UID)

    @property
    def modality(self) -> str | None:
        """Modality (0008,0060)."""
        return self._code_string(MODALITY)

    @property
    def samples_per_pixel(self) -> int | None:
        """Samples per Pixel (0028,0002)."""
        return self._unsigned(SAMPLES_PER_PIXEL)

    @property
    def photometric_interpretation(self) -> str | None:
        """Photometric Interpretation (0028,0004)."""
        return self._code_string(PHOTOMETRIC_INTERPRETATION)

    @property
    def planar_configuration(self) -> int | None:
        """Planar Configuration (0028,0006)."""
        return self._unsigned(PLANAR_CONFIGURATION)

    @property
    def number_of_frames(self) -> int | None:
        """Number of Frames (0028,0008): 1 where it is absent or empty, None where it is no IS."""
        tag = NUMBER_OF_FRAMES
        if self.element(tag) is None:
            return 1
        value = self._text(tag, "IS", _CODE_STRING_BYTES)
        if value is None:
            return None
        if not value.strip(b" \0"):
            return 1
        count = _COUNT.match(value)
        return None if count is None else int(count[1])

    @property
    def rows(self) -> int | None:
        """Rows (0028,0010)."""
        return self._unsigned(ROWS)

    @property
    def columns(self) -> int | None:
        """Columns (0028,0011)."""
        return self._unsigned(COLUMNS)

    @property
    def bits_allocated(self) -> int | None:
        """Bits Allocated (0028,0100)."""
        return self._unsigned(BITS_ALLOCATED)

    @property
    def bits_stored(self) -> int | None:
        """Bits Stored (0028,0101)."""
        return self._unsigned(BITS_STORED)

    @property
    def pixel_representation(self) -> int | None:
        """Pixel Representation (0028,0103)."""
        return self._unsigned(PIXEL_REPRESENTATION)

    @property
    def pixel_data(self) -> Element | None:
        """Pixel Data (7FE0,0010), native or encapsulated, at the top level."""
        return self.element(PIXEL_DATA)

    @property
    def float_pixel_data(self) -> Element | None:
        """Float Pixel Data (7FE0,0008)."""
        return self.element(FLOAT_PIXEL_DATA)

    @property
    def double_float_pixel_data(self) -> Element | None:
        """Double Float Pixel Data (7FE0,0009)."""
        return self.element(DOUBLE_FLOAT_PIXEL_DATA)

    @property
    def extended_offset_table(self) -> Element | None:
        """Extended Offset Table (7FE0,0001)."""
        return self.element(EXTENDED_OFFSET_TABLE)

    @property
    def extended_offset_table_lengths(self) -> Element | None:
        """Extended Offset Table Lengths (7FE0,0002)."""
        return self.element(EXTENDED_OFFSET_TABLE_LENGTHS)

    def fragments(self, encapsulated: Element) -> Iterator[tuple[int, int]]:
        """Yield value offset and length of each item; the first is the Basic Offset Table (A.4)."""
        read, offset, end = self._form.plain_header, encapsulated.value_offset, encapsulated.end - 8
        while offset < end:
            length = read(self.data, offset)[1]
            yield offset + 8, length
            offset += 8 + length

    def _unsigned(self, tag: int) -> int | None:
        """Return the value of a US with one value, nothing else (PS3.5 6.2)."""
        element = self._once(tag)
        if element is None or element.vr not in (None, "US") or element.length != 2:
            return None
        value = bytes(self.data[element.value_offset : element.end])
        return int.from_bytes(value, "little" if self._form.order == "<" else "big")

    def _uid(self, tag: int) -> str | None:
        value = self._text(tag, "UI", _UID_BYTES, cut=True)
        return None if value is None else value.rstrip(b" \0").decode("latin-1")

    def _code_string(self, tag: int) -> str | None:
        value = self._text(tag, "CS", _CODE_STRING_BYTES)
        return None if value is None else value.strip(b" \0").decode("latin-1")

    def _text(self, tag: int, vr: str, at_most: int, cut: bool = False) -> bytes | None:
        """Return a value of characters; one longer than `at_most` is None, or cut off there."""
        element = self._once(tag)
        if element is None or element.vr not in (None, vr, "UN") or element.is_undefined_length:
            return None
        if element.length > at_most and not cut:
            return None
        end = min(element.end, element.value_offset + at_most)
        return bytes(self.data[element.value_offset : end])

    def _once(self, tag: int) -> Element | None:
        return None if raw_tag(tag, self._form.order) in self._conflicting else self.element(tag)
