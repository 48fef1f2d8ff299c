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
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

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
    content_layout,
    is_sequence_value,
    layout,
    layout_of,
    looks_like_vr,
    read_header,
    transfer_syntax_of,
)
from node.errors import CannotUnderstand

_PREAMBLE_BYTES = 128
_FILE_META_GROUP = b"\x02\x00"
#: PS3.10 Table 7.1-1 has 17 elements; what exceeds this is passed with the data set.
_FILE_META_ELEMENTS = 100


@dataclass(frozen=True, slots=True)
class Limits:
    """What a data set may ask of whoever reads it."""

    #: Sequences inside each other. The Standard sets no limit; real objects need fewer than ten,
    #: and readers downstream that recurse fall over at a few hundred.
    depth: int = 64
    #: Elements, items, delimiters and fragments in all: about half a second of work.
    elements: int = 1_000_000


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


class _Frame(NamedTuple):
    """A data set (the whole, or an item), or a sequence of items; `end` binds what is inside."""

    end: int
    is_defined: bool
    is_sequence: bool
    form: Layout


class Walker:
    """One walk through a data set; what it found is in its attributes."""

    __slots__ = ("_budget", "_data", "_limits", "_stack", "closed", "found", "nested", "repeated")

    def __init__(self, data: Buffer, limits: Limits) -> None:
        self._data = data
        self._limits = limits
        #: One for every step, shared by all loops.
        self._budget = iter(range(limits.elements))
        self._stack: list[_Frame] = []
        #: Raw tag to offset of the elements looked for at the top level, and inside sequences.
        self.found: dict[int, int] = {}
        self.nested: dict[int, int] = {}
        #: Raw tags that are more than once at the top level.
        self.repeated: set[int] = set()
        #: Offset to end, of what is encapsulated at the top level.
        self.closed: dict[int, int] = {}

    def walk(self, offset: int, end: int, form: Layout) -> None:
        """Walk the data set that lies between `offset` and `end`."""
        stack = self._stack
        frame = _Frame(end, True, False, form)
        while True:
            if frame.is_sequence:
                offset, inner = self._next_item(offset, frame)
            else:
                offset, inner = self._next_sequence(offset, frame)
            if inner is not None:
                stack.append(frame)
                frame = inner
                # The stack holds a data set and a sequence for every level.
                if len(stack) > 2 * self._limits.depth:
                    _refuse(f"sequences are nested deeper than {self._limits.depth}", offset)
                continue
            if frame.is_defined and offset != frame.end:
                self._check_padding(offset, frame)
            if not stack:
                return
            frame = stack.pop()

    def _next_item(self, offset: int, frame: _Frame) -> tuple[int, _Frame | None]:
        """Step into the item at `offset`, or out of the sequence that ends there (PS3.5 7.5)."""
        if offset >= frame.end:
            if frame.is_defined:
                return offset, None
            _refuse("a sequence of undefined length is not closed", offset)
        if next(self._budget, None) is None:
            self._refuse_count(offset)
        tag, length = frame.form.plain_header(self._data, offset)
        if tag == frame.form.item:
            return offset + 8, _inner(offset + 8, length, frame, frame.form, False)
        if tag == frame.form.sequence_delimitation:
            return offset + 8, None
        _refuse("a sequence holds something other than items", offset)

    def _next_sequence(self, offset: int, frame: _Frame) -> tuple[int, _Frame | None]:
        """Pass elements until one is a sequence, to step into, or the data set ends."""
        form = frame.form
        watched = _watched(form.order, not self._stack)
        found = self.nested if self._stack else self.found
        pass_plain = self._pass_explicit if form.explicit else self._pass_implicit
        while True:
            offset = pass_plain(offset, frame.end, form, watched, found)
            if offset > frame.end - 8:
                if frame.is_defined:
                    return offset, None
                _refuse("an item of undefined length is not closed", offset)
            header = read_header(self._data, offset, form)
            if header.tag in (form.item, form.item_delimitation, form.sequence_delimitation):
                if header.tag != form.item_delimitation or not self._stack:
                    _refuse("an item or a delimiter stands among elements", offset)
                return header.value_offset, None
            if header.tag in watched:
                self._note(header.tag, offset, found)
            inner = self._inner_sequence(header, frame)
            if inner is not None:
                return header.value_offset, inner
            offset = self._end_of_value(offset, header, frame)

    def _inner_sequence(self, header: Header, frame: _Frame) -> _Frame | None:
        """Return the frame of the sequence that this element is, or None where it is none."""
        form = frame.form
        if header.length == UNDEFINED_LENGTH:
            if not is_sequence_value(header, form):
                return None
            if form.explicit and header.vr != b"SQ":
                form = content_layout(self._data, header.value_offset, form)
        elif header.vr != b"SQ" and (form.explicit or header.tag not in form.structural):
            return None
        return _inner(header.value_offset, header.length, frame, form, True)

    def _end_of_value(self, offset: int, header: Header, frame: _Frame) -> int:
        """Return where the element after this one begins."""
        if header.length != UNDEFINED_LENGTH:
            return header.value_offset + header.length
        end = self._end_of_fragments(header.value_offset, frame)
        if not self._stack:
            self.closed[offset] = end
        return end

    def _end_of_fragments(self, offset: int, frame: _Frame) -> int:
        """Return the end of the encapsulated value that begins at `offset` (PS3.5 A.4)."""
        form, data = frame.form, self._data
        read, item, last = form.plain_header, form.item, frame.end - 8
        for _ in self._budget:
            if offset > last:
                _refuse("encapsulated fragments are not closed", offset)
            tag, length = read(data, offset)
            offset += 8
            if tag != item:
                break
            offset += length
        else:
            self._refuse_count(offset)
        if tag != form.sequence_delimitation:
            _refuse("encapsulated data holds something other than fragments", offset - 8)
        return offset

    def _pass_explicit(
        self, offset: int, end: int, form: Layout, watched: frozenset[int], found: dict[int, int]
    ) -> int:
        """Pass elements with a VR until the data set ends or one needs a closer look."""
        data, read, read_long = self._data, form.short_header, form.long_length
        short_form, long_form, last = form.short_form, form.long_form, end - 8
        for _ in self._budget:
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
                self._note(tag, offset, found)
            offset = following
        else:
            self._refuse_count(offset)
        return offset

    def _pass_implicit(
        self, offset: int, end: int, form: Layout, watched: frozenset[int], found: dict[int, int]
    ) -> int:
        """Pass elements without a VR until the data set ends or one needs a closer look."""
        data, read, structural, last = self._data, form.plain_header, form.structural, end - 8
        for _ in self._budget:
            if offset > last:
                break
            tag, length = read(data, offset)
            if length == UNDEFINED_LENGTH or tag in structural:
                break
            if tag in watched:
                self._note(tag, offset, found)
            offset += 8 + length
        else:
            self._refuse_count(offset)
        return offset

    def _note(self, tag: int, offset: int, found: dict[int, int]) -> None:
        """Remember where a tag was first; PS3.5 7.1 allows each only once in a data set."""
        if found.setdefault(tag, offset) != offset and not self._stack:
            self.repeated.add(tag)

    def _check_padding(self, offset: int, frame: _Frame) -> None:
        """Let fewer zeros than make a header end the data set; nothing else may be left over."""
        if offset > frame.end:
            _refuse("an element is longer than what holds it", offset)
        if self._stack or frame.end - offset >= 8 or any(self._data[offset : frame.end]):
            _refuse("something is left over behind the last element", offset)

    def _refuse_count(self, offset: int) -> NoReturn:
        _refuse(f"more than {self._limits.elements} elements", offset)


def _inner(offset: int, length: int, outer: _Frame, form: Layout, is_sequence: bool) -> _Frame:
    """Return the frame of a sequence or item whose value begins at `offset`."""
    if length == UNDEFINED_LENGTH:
        return _Frame(outer.end, False, is_sequence, form)
    end = offset + length
    if end > outer.end:
        _refuse("a sequence or item is longer than what holds it", offset)
    return _Frame(end, True, is_sequence, form)


def _refuse(what: str, offset: int) -> NoReturn:
    raise CannotUnderstand(f"The data set cannot be read: {what} (at byte {offset}).")


def scan(data: Buffer, transfer_syntax_uid: str, limits: Limits | None = None) -> EncodedDataSet:
    """Walk the data set once and return where its elements lie; see the module for what raises."""
    said = layout_of(transfer_syntax_uid)
    walker = Walker(data, limits or Limits())
    try:
        start = _end_of_file_meta(data)
        form = _layout_in_fact(data, start, said)
        walker.walk(start, len(data), form)
    except struct.error:
        _refuse("it is cut off", len(data))
    signs = _signs(form.order)
    return EncodedDataSet(
        data=data,
        transfer_syntax_uid=transfer_syntax_uid if form is said else transfer_syntax_of(form),
        start=start,
        has_file_meta=data[:2] == _FILE_META_GROUP or start > 0,
        is_as_said=form is said,
        is_signed=not walker.nested.keys().isdisjoint(signs)
        or not walker.found.keys().isdisjoint(signs),
        _form=form,
        _found=walker.found,
        _closed=walker.closed,
        _repeated=frozenset(walker.repeated),
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
        header = read_header(data, offset, form)
        if header.vr is None or header.length == UNDEFINED_LENGTH:
            break
        offset = header.value_offset + header.length
    return min(offset, len(data))


def _layout_in_fact(data: Buffer, start: int, said: Layout) -> Layout:
    """Return the layout that the first element is in, as pydicom finds it out.

    No first element has the 16 kB that would make its length look like a VR, and its group is
    never so high that its two bytes could be the wrong way round.
    """
    head = bytes(data[start : start + 6])
    if len(head) < 6:
        return said
    vr = head[4:]
    if vr in dictionary.SHORT_FORM or vr in dictionary.LONG_FORM:
        if head[0] and not head[1]:
            return layout(True, "<")
        if head[1] and not head[0]:
            return layout(True, ">")
        return layout(True, said.order)
    if said.explicit and not looks_like_vr(vr):
        return layout(False, "<")
    return said
