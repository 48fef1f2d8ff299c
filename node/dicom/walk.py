"""The walk through an encoded data set: one loop for the scanner and the converter.

`Walker` knows how data sets, sequences and items hold each other (PS3.5 7.5) and where each of
them ends; a subclass says what is done with what the walk meets. It is a loop with a stack and
never a recursion, and it is bounded by `Limits` and by the bytes that are there.

Raises `CannotUnderstand` where the data set is cut off, something is longer than what holds it,
an undefined length is not closed, an item tag is not where it must be, or a limit is exceeded. No
message carries a value of the data set.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple, NoReturn, TypeAlias

from node.dicom.dictionary import UNDEFINED_LENGTH
from node.dicom.layout import (
    Buffer,
    Header,
    Layout,
    content_layout,
    is_sequence_value,
    read_header,
)
from node.errors import CannotUnderstand


class Limits(NamedTuple):
    """What a data set may ask of whoever reads it."""

    #: Sequences inside each other. The Standard sets no limit; real objects need fewer than ten,
    #: and readers downstream that recurse fall over at a few hundred.
    depth: int = 64
    #: Steps: elements, items, fragments, and the ends of items and sequences. A million are half
    #: a second of work as a rule and a few seconds for the costliest that can be made up; the
    #: largest real objects need a tenth of it.
    elements: int = 1_000_000


#: Told which bytes of the data set, from and to, are not needed for now.
Release: TypeAlias = Callable[[int, int], None]

#: Looking at the header of each fragment brings the pages around it into memory; no more of them
#: than this stay there.
_HELD_BYTES = 32 * 1024 * 1024


def keep(start: int, end: int) -> None:
    """Release nothing: the data set is ordinary memory."""


class Frame:
    """A data set (the whole, or an item), or a sequence of items, that the walk is inside of."""

    __slots__ = ("end", "form", "is_defined", "is_sequence")

    def __init__(self, end: int, is_defined: bool, is_sequence: bool, form: Layout) -> None:
        #: Nothing inside may go further; where it is not `is_defined`, it is closed before.
        self.end = end
        self.is_defined = is_defined
        self.is_sequence = is_sequence
        self.form = form


class Walker:
    """One walk through one data set. Subclasses pass the plain elements and hear of the others."""

    __slots__ = ("budget", "data", "limits", "release", "stack")

    def __init__(self, data: Buffer, limits: Limits, release: Release = keep) -> None:
        self.data = data
        #: Told of frames that were passed, so that those of a mapped file can leave memory.
        self.release = release
        self.limits = limits
        #: One for every step, shared by all loops.
        self.budget = iter(range(limits.elements))
        #: What holds the frame that the walk is in, outermost first.
        self.stack: list[Frame] = []

    def pass_regular(self, offset: int, frame: Frame) -> tuple[int, Frame]:
        """Pass what a walk can pass faster than all walks do, sequences and items too.

        Return where that ends and in which frame; what holds it is on the stack.
        """
        return offset, frame

    def pass_plain(self, offset: int, frame: Frame) -> int:
        """Pass elements until `frame` ends or one needs a closer look; return where that is.

        None are plain to this walk, which only checks that all of it can be walked.
        """
        self.take_step(offset)
        return offset

    def entered(self, offset: int, header: Header, outer: Frame, inner: Frame) -> None:
        """Hear of a sequence or an item, before what is inside it."""

    def left(self, frame: Frame) -> None:
        """Hear of the end of a sequence, an item or, last of all, the whole data set."""

    def delimited(self, offset: int, length: int, frame: Frame) -> None:
        """Hear of the delimiter that closes a sequence or an item."""

    def padded(self, offset: int, end: int) -> None:
        """Hear of zeros behind the data set."""

    def other(self, offset: int, header: Header, frame: Frame) -> int:
        """Hear of an element that was not plain and is no sequence; return where it ends."""
        if header.length != UNDEFINED_LENGTH:
            return header.value_offset + header.length
        return self.end_of_fragments(header.value_offset, frame)

    def walk(self, offset: int, end: int, form: Layout) -> None:
        """Walk the data set that lies between `offset` and `end`."""
        self._walk(offset, Frame(end, True, False, form))

    def end_of_sequence(self, offset: int, end: int, form: Layout) -> int:
        """Walk the sequence of undefined length whose value is at `offset`; return its end."""
        return self._walk(offset, Frame(end, False, True, form))

    def _walk(self, offset: int, frame: Frame) -> int:
        stack = self.stack
        # For every level the stack holds a data set and a sequence.
        deepest = 2 * self.limits.depth
        try:
            while True:
                offset, frame = self.pass_regular(offset, frame)
                step = self._next_item if frame.is_sequence else self._next_sequence
                offset, inner = step(offset, frame)
                if inner is not None:
                    stack.append(frame)
                    frame = inner
                    if len(stack) > deepest:
                        refuse(f"sequences are nested deeper than {self.limits.depth}", offset)
                    continue
                if frame.is_defined and offset != frame.end:
                    self._check_padding(offset, frame)
                self.left(frame)
                if not stack:
                    return offset
                frame = stack.pop()
        except struct.error:
            refuse("it is cut off", len(self.data))

    def _next_item(self, offset: int, frame: Frame) -> tuple[int, Frame | None]:
        """Step into the item at `offset`, or out of the sequence that ends there."""
        self.take_step(offset)
        if offset >= frame.end:
            if frame.is_defined:
                return offset, None
            refuse("a sequence of undefined length is not closed", offset)
        form = frame.form
        tag, length = form.plain_header(self.data, offset)
        if tag == form.item:
            header = Header(tag, None, offset + 8, length)
            inner = self._inner(header, frame, form, False)
            self.entered(offset, header, frame, inner)
            return offset + 8, inner
        if tag != form.sequence_delimitation:
            refuse("a sequence holds something other than items", offset)
        self.delimited(offset, length, frame)
        return offset + 8, None

    def _next_sequence(self, offset: int, frame: Frame) -> tuple[int, Frame | None]:
        """Pass elements until one is a sequence, to step into, or the data set ends."""
        form = frame.form
        while True:
            offset = self.pass_plain(offset, frame)
            if offset > frame.end - 8:
                if frame.is_defined:
                    return offset, None
                refuse("an item of undefined length is not closed", offset)
            header = read_header(self.data, offset, form)
            if header.tag in form.marks:
                if header.tag != form.item_delimitation or not self.stack:
                    refuse("an item or a delimiter stands among elements", offset)
                self.delimited(offset, header.length, frame)
                return header.value_offset, None
            content = self.sequence_layout(header, form)
            if content is not None:
                inner = self._inner(header, frame, content, True)
                self.entered(offset, header, frame, inner)
                return header.value_offset, inner
            offset = self.other(offset, header, frame)

    def sequence_layout(self, header: Header, form: Layout) -> Layout | None:
        """Return the layout inside the sequence that this element is, or None if it is none."""
        if header.length != UNDEFINED_LENGTH:
            is_sequence = header.vr == b"SQ" or (
                not form.explicit and header.tag in form.structural
            )
            return form if is_sequence else None
        if not is_sequence_value(header, form):
            return None
        if form.explicit and header.vr != b"SQ":
            return content_layout(self.data, header.value_offset)
        return form

    def _inner(self, header: Header, outer: Frame, form: Layout, is_sequence: bool) -> Frame:
        """Return the frame of a sequence or item."""
        if header.length == UNDEFINED_LENGTH:
            return Frame(outer.end, False, is_sequence, form)
        end = header.value_offset + header.length
        if end > outer.end:
            refuse("a sequence or item is longer than what holds it", header.value_offset)
        return Frame(end, True, is_sequence, form)

    def end_of_fragments(self, offset: int, frame: Frame) -> int:
        """Return the end of the encapsulated value that begins at `offset` (PS3.5 A.4)."""
        data, form = self.data, frame.form
        read, item, last = form.plain_header, form.item, frame.end - 8
        held = offset
        for _ in self.budget:
            if offset > last:
                refuse("encapsulated fragments are not closed", offset)
            if offset - held > _HELD_BYTES:
                self.release(held, offset)
                held = offset
            tag, length = read(data, offset)
            offset += 8
            if tag != item:
                break
            offset += length
        else:
            self.refuse_more(offset)
        if tag != form.sequence_delimitation:
            refuse("encapsulated data holds something other than fragments", offset - 8)
        return offset

    def take_step(self, offset: int) -> None:
        """Count one step that no loop over the budget counts."""
        if next(self.budget, None) is None:
            self.refuse_more(offset)

    def refuse_more(self, offset: int) -> NoReturn:
        """Refuse a data set that has used up its steps."""
        refuse(f"it has more than {self.limits.elements} elements", offset)

    def _check_padding(self, offset: int, frame: Frame) -> None:
        """Let fewer zeros than make a header end the data set; nothing else may be left over."""
        if offset > frame.end:
            refuse("an element is longer than what holds it", offset)
        if self.stack or frame.end - offset >= 8 or any(self.data[offset : frame.end]):
            refuse("something is left over behind the last element", offset)
        self.padded(offset, frame.end)


def refuse(what: str, offset: int) -> NoReturn:
    """Raise `CannotUnderstand`, saying where."""
    raise CannotUnderstand(f"The data set cannot be read: {what} (at byte {offset}).")
