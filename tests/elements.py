"""Encoded elements, made by hand and apart from the program: what its tests of data sets read."""

from __future__ import annotations

import struct

from node.dicom.uids import EXPLICIT_VR_BE, EXPLICIT_VR_LE, IMPLICIT_VR_LE

NATIVE = (IMPLICIT_VR_LE, EXPLICIT_VR_LE, EXPLICIT_VR_BE)
SHORT_FORM = [
    *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO"),
    *("LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
]
LONG_FORM = ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]
NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}
NUMBERS |= {"OW": "H", "OL": "I", "OF": "f", "OD": "d", "OV": "Q"}
UNDEFINED = 0xFFFFFFFF


def order(syntax: str) -> str:
    """The byte order of a native transfer syntax, as struct writes it."""
    return ">" if syntax == EXPLICIT_VR_BE else "<"


def header(syntax: str, tag: int, vr: str, length: int) -> bytes:
    """The header of an element, with a length of any truth."""
    mark = order(syntax)
    start = struct.pack(f"{mark}HH", tag >> 16, tag & 0xFFFF)
    if syntax == IMPLICIT_VR_LE:
        return start + struct.pack("<I", length)
    if vr in LONG_FORM:
        return start + vr.encode() + b"\0\0" + struct.pack(f"{mark}I", length)
    return start + vr.encode() + struct.pack(f"{mark}H", length)


def element(syntax: str, tag: int, vr: str, value: bytes | str | tuple[float, ...]) -> bytes:
    """A whole element; numbers and tags are written in the byte order of the syntax."""
    mark = order(syntax)
    if isinstance(value, str):
        value = value.encode("latin-1")
    elif isinstance(value, tuple) and vr == "AT":
        value = b"".join(struct.pack(f"{mark}HH", int(v) >> 16, int(v) & 0xFFFF) for v in value)
    elif isinstance(value, tuple):
        value = struct.pack(f"{mark}{len(value)}{NUMBERS[vr]}", *value)
    return header(syntax, tag, vr, len(value)) + value


def mark(syntax: str, tag: int, length: int = 0) -> bytes:
    """An item tag or a delimiter."""
    return struct.pack(f"{order(syntax)}HHI", tag >> 16, tag & 0xFFFF, length)


def item(syntax: str, *elements: bytes, defined: bool = True) -> bytes:
    """An item of a sequence."""
    value = b"".join(elements)
    if defined:
        return mark(syntax, 0xFFFEE000, len(value)) + value
    return mark(syntax, 0xFFFEE000, UNDEFINED) + value + mark(syntax, 0xFFFEE00D)


def sequence(syntax: str, tag: int, *items: bytes, defined: bool = True, vr: str = "SQ") -> bytes:
    """A sequence of items, or encapsulated fragments where the VR says so."""
    value = b"".join(items)
    if defined:
        return header(syntax, tag, vr, len(value)) + value
    return header(syntax, tag, vr, UNDEFINED) + value + mark(syntax, 0xFFFEE0DD)


def nested(syntax: str, depth: int, defined: bool) -> bytes:
    """Sequences inside each other, with one element in the innermost item."""
    data = element(syntax, 0x00080100, "SH", "CODE")
    for _ in range(depth):
        data = sequence(syntax, 0x0040A730, item(syntax, data, defined=defined), defined=defined)
    return data
