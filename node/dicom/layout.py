"""How elements lie in the bytes: their headers, in each form and byte order (PS3.5 7.1, 7.3).

One definition for the scanner and the converter, so that both see the same elements. Reading past
the end of the bytes raises `struct.error`, which the callers turn into `CannotUnderstand`.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Mapping
from mmap import mmap
from typing import Any, NamedTuple, TypeAlias

from node.dicom import dictionary
from node.dicom.dictionary import ByteOrder, raw_tag, raw_vr
from node.dicom.uids import DEFLATED, EXPLICIT_VR_BE, EXPLICIT_VR_LE, IMPLICIT_VR_LE

#: The bytes of a data set. A slice of it may copy, so that only small ones are taken.
Buffer: TypeAlias = bytes | bytearray | memoryview | mmap

#: The VR that some old senders write for one they do not know; as in DCMTK, the form is short.
_QUESTION_MARKS = b"??"


class Header(NamedTuple):
    """One element's header. `vr` is None where it has none; `tag` is raw."""

    tag: int
    vr: bytes | None
    value_offset: int
    length: int


class Layout(NamedTuple):
    """How elements lie in the bytes: with a VR or without, and in which byte order.

    Tags and VRs are kept as the integers that reading them gives, so that none has to be turned
    round in a loop.
    """

    explicit: bool
    order: ByteOrder
    #: Reads tag, VR and 16-bit length; Explicit VR only.
    short_header: Callable[[Buffer, int], tuple[Any, ...]]
    #: Reads tag and 32-bit length: Implicit VR, items and delimiters.
    plain_header: Callable[[Buffer, int], tuple[Any, ...]]
    #: Reads the 32-bit length of a long form.
    long_length: Callable[[Buffer, int], tuple[Any, ...]]
    #: VRs of short form with their names, and those of long form but SQ.
    short_form: Mapping[int, str]
    long_form: frozenset[int]
    sequence_vr: int
    item: int
    item_delimitation: int
    sequence_delimitation: int
    #: The three tags that are no elements (PS3.5 7.5).
    marks: frozenset[int]
    #: What has more to it than a value: sequences, and items out of place. Implicit VR only.
    structural: frozenset[int]


@functools.cache
def layout(explicit: bool, order: ByteOrder) -> Layout:
    """Return the layout of that form and byte order (PS3.5 7.1.2, 7.1.3, 7.3)."""
    item, item_end, sequence_end = (
        raw_tag(dictionary.ITEM, order),
        raw_tag(dictionary.ITEM_DELIMITATION, order),
        raw_tag(dictionary.SEQUENCE_DELIMITATION, order),
    )
    marks = frozenset({item, item_end, sequence_end})
    return Layout(
        explicit=explicit,
        order=order,
        short_header=struct.Struct(f"{order}IHH").unpack_from,
        plain_header=struct.Struct(f"{order}II").unpack_from,
        long_length=struct.Struct(f"{order}I").unpack_from,
        short_form={raw_vr(vr, order): vr.decode() for vr in dictionary.SHORT_FORM},
        long_form=frozenset(raw_vr(vr, order) for vr in dictionary.LONG_FORM - {b"SQ"}),
        sequence_vr=raw_vr(b"SQ", order),
        item=item,
        item_delimitation=item_end,
        sequence_delimitation=sequence_end,
        marks=marks,
        structural=dictionary.sequences(order) | marks,
    )


def layout_of(transfer_syntax_uid: str) -> Layout:
    """Return the layout of a transfer syntax; every encapsulated one is Explicit VR LE (A.4)."""
    if transfer_syntax_uid in DEFLATED:
        raise ValueError(f"a data set of {transfer_syntax_uid} is deflated: it has no elements")
    if transfer_syntax_uid == IMPLICIT_VR_LE:
        return layout(False, "<")
    return layout(True, ">" if transfer_syntax_uid == EXPLICIT_VR_BE else "<")


def transfer_syntax_of(form: Layout) -> str:
    """Return the native transfer syntax of a layout."""
    if not form.explicit:
        return IMPLICIT_VR_LE
    return EXPLICIT_VR_LE if form.order == "<" else EXPLICIT_VR_BE


def read_header(data: Buffer, offset: int, form: Layout) -> Header:
    """Read the header at `offset`, whatever it is; `struct.error` where the bytes end before.

    In Explicit VR a VR that PS3.5 does not have is met with the long form that PS3.5 7.1.2 keeps
    for VRs to come, as DCMTK does, where the two bytes that must then be zero are; else with the
    short form, as pydicom does. Two bytes that are no letters belong to the length of an element
    in implicit form: some senders write those inside Explicit VR, and pydicom reads them so.
    """
    tag, length = form.plain_header(data, offset)
    if not form.explicit or tag in form.marks:
        return Header(tag, None, offset + 8, length)
    vr = bytes(data[offset + 4 : offset + 6])
    if vr in dictionary.SHORT_FORM or vr == _QUESTION_MARKS:
        return Header(tag, vr, offset + 8, form.short_header(data, offset)[2])
    if vr not in dictionary.LONG_FORM:
        if not looks_like_vr(vr):
            return Header(tag, None, offset + 8, length)
        reserved = form.short_header(data, offset)[2]
        if reserved:
            return Header(tag, vr, offset + 8, reserved)
    return Header(tag, vr, offset + 12, form.long_length(data, offset + 8)[0])


def content_layout(data: Buffer, offset: int) -> Layout:
    """Return the layout inside a sequence at `offset` whose VR is UN or unknown.

    It is Implicit VR LE (PS3.5 6.2.2 Note 4, CP-246). Senders that write it otherwise are
    betrayed by the byte order of the item tag and by a VR in the first element.
    """
    mark = bytes(data[offset : offset + 4])
    order: ByteOrder = ">" if mark == b"\xff\xfe\xe0\x00" else "<"
    first = bytes(data[offset + 12 : offset + 14])
    return layout(first in dictionary.SHORT_FORM or first in dictionary.LONG_FORM, order)


def is_sequence_value(header: Header, form: Layout) -> bool:
    """Tell whether the value of undefined length is a sequence, and not encapsulated fragments."""
    if header.vr is None:
        return not dictionary.holds_fragments(raw_tag(header.tag, form.order))
    return header.vr not in dictionary.LONG_FORM or header.vr in (b"SQ", b"UN")


def looks_like_vr(vr: bytes) -> bool:
    """Tell whether two bytes could be a VR, known or not (PS3.5 6.2)."""
    return vr == _QUESTION_MARKS or (len(vr) == 2 and vr.isalpha() and vr.isupper())
