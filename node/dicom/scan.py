"""The scanner: where the elements that matter lie in an encoded data set.

`scan` walks the whole data set once, sequences included, and copies nothing: not one value is
read before an accessor of the `EncodedDataSet` it returns is asked for it. It is a loop, never a
recursion, and its cost and memory are bounded by the bytes that are there and by `Limits`, never
by what a length field claims.

It is as lenient as storing the bytes unchanged allows. Odd lengths, tags out of order, tags that
occur twice, file meta information before the data set, an element in implicit form inside Explicit
VR, a data set in another transfer syntax than was said: all pass, and `is_regular` is False where
the bytes should be stored but not be worked on.

Raises `CannotUnderstand` where the data set is cut off, an element is longer than what holds it,
an undefined length is not closed, an item tag is not where it must be, or a limit is exceeded;
`ValueError` for a deflated transfer syntax, which has no elements before it is inflated. No
message carries a value of the data set.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from node.dicom import dictionary
from node.dicom.dictionary import UNDEFINED_LENGTH, ByteOrder, raw_tag
from node.dicom.encoded import (
    DIGITAL_SIGNATURES_SEQUENCE,
    MAC_PARAMETERS_SEQUENCE,
    WATCHED,
    EncodedDataSet,
)
from node.dicom.layout import (
    Buffer,
    Header,
    Layout,
    layout,
    layout_of,
    looks_like_vr,
    read_header,
    transfer_syntax_of,
)
from node.dicom.walk import Frame, Limits, Release, Walker, keep, refuse

_PREAMBLE_BYTES = 128
_FILE_META_GROUP = b"\x02\x00"
_ORDER_OF_GROUP_0008: Final[Mapping[bytes, ByteOrder]] = MappingProxyType(
    {b"\x08\x00": "<", b"\x00\x08": ">"}
)
#: PS3.10 Table 7.1-1 has 17 elements; what exceeds this is passed with the data set.
_FILE_META_ELEMENTS = 100


#: The longest value that is compared where an element is repeated: all that are read are shorter.
_SHORT_VALUE = 128


@functools.cache
def _watched(order: ByteOrder, at_top_level: bool) -> frozenset[int]:
    """Return the raw tags to remember: inside sequences only those that tell of a signature."""
    tags = WATCHED if at_top_level else (DIGITAL_SIGNATURES_SEQUENCE,)
    return frozenset(raw_tag(tag, order) for tag in tags)


@functools.cache
def _signs(order: ByteOrder) -> frozenset[int]:
    """Return the raw tags that a signed data set has (PS3.3 C.12.1.1.3)."""
    tags = (DIGITAL_SIGNATURES_SEQUENCE, MAC_PARAMETERS_SEQUENCE)
    return frozenset(raw_tag(tag, order) for tag in tags)


class Scanner(Walker):
    """A walk that remembers where the watched elements are."""

    __slots__ = ("closed", "conflicting", "found", "nested", "repeated")

    def __init__(self, data: Buffer, limits: Limits, release: Release) -> None:
        super().__init__(data, limits, release)
        #: Raw tag to offset, at the top level and inside sequences.
        self.found: dict[int, int] = {}
        self.nested: dict[int, int] = {}
        #: Raw tags that are more than once at the top level.
        self.repeated: set[int] = set()
        #: Those of them that two readers would read differently.
        self.conflicting: set[int] = set()
        #: Offset to end, of what is encapsulated at the top level.
        self.closed: dict[int, int] = {}

    def pass_regular(self, offset: int, frame: Frame) -> tuple[int, Frame]:
        """Pass elements, sequences and items until something needs a closer look.

        A treatment plan has thousands of items. What is odd is left to the loop of all walks.
        """
        data, stack, form = self.data, self.stack, frame.form
        read, deepest = form.plain_header, 2 * self.limits.depth
        item, item_end, sequence_end = form.item, form.item_delimitation, form.sequence_delimitation
        pass_elements = self._pass_explicit if form.explicit else self._pass_implicit
        nested = _watched(form.order, False), self.nested
        outermost = _watched(form.order, True), self.found
        while frame.form is form:
            if frame.is_sequence:
                self.take_step(offset)
            else:
                offset = pass_elements(offset, frame, *(nested if stack else outermost))
            if offset == frame.end and frame.is_defined and stack:
                frame = stack.pop()
                continue
            if frame.end - offset < 8:
                break
            tag, length = read(data, offset)
            if tag == (sequence_end if frame.is_sequence else item_end):
                if frame.is_defined:
                    break
                frame, offset = stack.pop(), offset + 8
                continue
            value = offset + 8
            if not frame.is_sequence:
                value, length = self._sequence_header(offset, tag, length, form)
            elif tag != item:
                break
            is_defined = length != UNDEFINED_LENGTH
            end = value + length if is_defined else frame.end
            if not value or end > frame.end or len(stack) == deepest:
                break
            stack.append(frame)
            frame, offset = Frame(end, is_defined, not frame.is_sequence, form), value
        return offset, frame

    def _sequence_header(self, offset: int, tag: int, length: int, form: Layout) -> tuple[int, int]:
        """Return where the value of a sequence begins, 0 where it is none, and its length."""
        value = offset + 8
        if tag in form.marks:
            return 0, 0
        if form.explicit:
            if form.short_header(self.data, offset)[1] != form.sequence_vr:
                return 0, 0
            value += 4
            (length,) = form.long_length(self.data, offset + 8)
        elif tag not in form.structural:
            return 0, 0
        if tag in _signs(form.order):
            self._note(tag, offset, self.nested if self.stack else self.found, form)
        return value, length

    def pass_plain(self, offset: int, frame: Frame) -> int:
        """Pass elements, remembering the watched ones."""
        watched = _watched(frame.form.order, not self.stack)
        found = self.nested if self.stack else self.found
        if frame.form.explicit:
            return self._pass_explicit(offset, frame, watched, found)
        return self._pass_implicit(offset, frame, watched, found)

    def entered(self, offset: int, header: Header, outer: Frame, inner: Frame) -> None:
        """Remember sequences that tell of a signature."""
        if inner.is_sequence and header.tag in _signs(outer.form.order):
            self._note(header.tag, offset, self.nested if self.stack else self.found, outer.form)

    def other(self, offset: int, header: Header, frame: Frame) -> int:
        """Remember a watched element whose end takes a look to find."""
        end = super().other(offset, header, frame)
        if not self.stack:
            if header.tag in _watched(frame.form.order, True):
                self._note(header.tag, offset, self.found, frame.form)
            if header.length == UNDEFINED_LENGTH:
                self.closed[offset] = end
        return end

    def _pass_explicit(
        self, offset: int, frame: Frame, watched: frozenset[int], found: dict[int, int]
    ) -> int:
        data, form, last = self.data, frame.form, frame.end - 8
        read, read_long = form.short_header, form.long_length
        short_form, long_form = form.short_form, form.long_form
        for _ in self.budget:
            if offset > last:
                break
            tag, vr, length = read(data, offset)
            if vr in short_form:
                following = offset + 8 + length
            elif vr in long_form:
                (length,) = read_long(data, offset + 8)
                if length == UNDEFINED_LENGTH:
                    break
                following = offset + 12 + length
            else:
                break
            if tag in watched:
                self._note(tag, offset, found, form)
            offset = following
        else:
            self.refuse_more(offset)
        return offset

    def _pass_implicit(
        self, offset: int, frame: Frame, watched: frozenset[int], found: dict[int, int]
    ) -> int:
        data, form, last = self.data, frame.form, frame.end - 8
        read, structural = form.plain_header, form.structural
        for _ in self.budget:
            if offset > last:
                break
            tag, length = read(data, offset)
            if length == UNDEFINED_LENGTH or tag in structural:
                break
            if tag in watched:
                self._note(tag, offset, found, form)
            offset += 8 + length
        else:
            self.refuse_more(offset)
        return offset

    def _note(self, tag: int, offset: int, found: dict[int, int], form: Layout) -> None:
        """Remember where a tag was first; PS3.5 7.1 allows each only once in a data set."""
        first = found.setdefault(tag, offset)
        if first != offset and not self.stack:
            self.repeated.add(tag)
            if self._short_value(first, form) != self._short_value(offset, form):
                self.conflicting.add(tag)

    def _short_value(self, offset: int, form: Layout) -> bytes | int:
        """Return a value that is short, or something that equals no other one."""
        header = read_header(self.data, offset, form)
        if header.length > _SHORT_VALUE:
            return offset
        return bytes(self.data[header.value_offset : header.value_offset + header.length])


def scan(
    data: Buffer,
    transfer_syntax_uid: str,
    limits: Limits | None = None,
    release: Release = keep,
) -> EncodedDataSet:
    """Walk the data set once and return where its elements lie; see the module for what raises.

    `release` is told of encapsulated frames that were passed.
    """
    said = layout_of(transfer_syntax_uid)
    scanner = Scanner(data, limits or Limits(), release)
    start = _end_of_file_meta(data)
    form = _layout_in_fact(data, start, said)
    scanner.walk(start, len(data), form)
    signs = _signs(form.order)
    return EncodedDataSet(
        data,
        transfer_syntax_uid if form is said else transfer_syntax_of(form),
        form,
        start=start,
        has_file_meta=data[:2] == _FILE_META_GROUP or start > 0,
        is_as_said=form is said,
        is_signed=not scanner.nested.keys().isdisjoint(signs)
        or not scanner.found.keys().isdisjoint(signs),
        has_repeated=bool(scanner.repeated),
        found=scanner.found,
        closed=scanner.closed,
        conflicting=scanner.conflicting,
    )


def _end_of_file_meta(data: Buffer) -> int:
    """Return where the data set begins: 0, or after a preamble and group 0002 (PS3.10 7.1).

    Neither belongs into a data set, but some senders send whole files. Group 0002 is Explicit VR
    LE whatever follows it.
    """
    magic = _PREAMBLE_BYTES + 4
    offset = magic if data[_PREAMBLE_BYTES : magic + 2] == b"DICM" + _FILE_META_GROUP else 0
    form = layout(True, "<")
    for _ in range(_FILE_META_ELEMENTS):
        if data[offset : offset + 2] != _FILE_META_GROUP:
            break
        try:
            header = read_header(data, offset, form)
        except struct.error:
            refuse("it is cut off", len(data))
        if header.vr is None or header.length == UNDEFINED_LENGTH:
            break
        offset = header.value_offset + header.length
    if offset > len(data):
        refuse("an element is longer than what holds it", offset)
    return offset


def _layout_in_fact(data: Buffer, start: int, said: Layout) -> Layout:
    """Return the layout that the first element is in, as pydicom finds it out.

    No first element has the 16 kB that would make its length look like a VR. Nearly every data set
    begins with group 0008, which tells the byte order; there is no group 0800.
    """
    head = bytes(data[start : start + 6])
    if len(head) < 6:
        return said
    vr = head[4:]
    if vr in dictionary.SHORT_FORM or vr in dictionary.LONG_FORM:
        return layout(True, _ORDER_OF_GROUP_0008.get(head[:2], said.order))
    if said.explicit and not looks_like_vr(vr):
        return layout(False, "<")
    return said
