"""What PS3.5 says of VRs and PS3.6 of tags, in the form the scanner and the converter look it up.

A `raw` tag is a tag as it lies in the bytes, read as one integer: in little endian its two halves
are swapped, so `raw_tag` turns a tag into what `struct` gives for it. Tables are keyed by raw tags
where the loop that reads them is hot. All tables are built from pydicom's data dictionary once, on
first use, and are only read afterwards. Nothing here raises.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary

ByteOrder: TypeAlias = Literal["<", ">"]

#: The length that says: look for the delimiter (PS3.5 7.1.1).
UNDEFINED_LENGTH: Final = 0xFFFFFFFF

ITEM: Final = 0xFFFEE000
ITEM_DELIMITATION: Final = 0xFFFEE00D
SEQUENCE_DELIMITATION: Final = 0xFFFEE0DD
#: The item tag as it lies in the bytes.
ITEM_BYTES: Final[Mapping[str, bytes]] = MappingProxyType(
    {"<": b"\xfe\xff\x00\xe0", ">": b"\xff\xfe\xe0\x00"}
)

#: A 16-bit length follows the VR at once (PS3.5 Table 7.1-2).
SHORT_FORM: Final = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
)
#: Two reserved bytes and a 32-bit length follow the VR (PS3.5 Table 7.1-1).
LONG_FORM: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())

#: Bytes in one number, for the VRs that have a byte order (PS3.5 7.3); all others have none.
WIDTHS: Final[Mapping[bytes, int]] = MappingProxyType(
    dict.fromkeys(b"AT OW SS US".split(), 2)
    | dict.fromkeys(b"FL OF OL SL UL".split(), 4)
    | dict.fromkeys(b"FD OD OV SV UV".split(), 8)
)

#: How a VR that depends on something else is written in the data dictionary.
US_OR_SS: Final = "US or SS"
US_OR_OW: Final = "US or OW"
_PIXEL_REPRESENTATION = 0x00280103
#: Where the dictionary leaves a choice that Implicit VR does not: OW (PS3.5 A.1).
_OTHER_WORD_IN_IMPLICIT = frozenset({"OB or OW", "US or SS or OW"})
#: Values that can be encapsulated, so that undefined length means fragments and not items.
_CAN_BE_FRAGMENTS = frozenset({"OB", "OW", "OB or OW"})


def raw_tag(tag: int, order: ByteOrder) -> int:
    """Return `tag` as the integer that its four bytes are in that byte order."""
    return tag if order == ">" else (tag & 0xFFFF) << 16 | tag >> 16


def raw_vr(vr: bytes, order: ByteOrder) -> int:
    """Return `vr` as the integer that its two bytes are in that byte order."""
    return int.from_bytes(vr, "little" if order == "<" else "big")


def vr_in_dictionary(tag: int) -> str | None:
    """Return the VR that PS3.6 gives for a tag, which may be ambiguous, or None.

    Private tags have none: repeating groups, (7Fxx,0010) for one, are even only (PS3.5 7.6).
    """
    if tag & 0x10000:
        return None
    entry = DicomDictionary.get(tag)
    if entry is not None:
        return str(entry[0])
    for mask, table in _repeating_groups():
        vr = table.get(tag & mask)
        if vr is not None:
            return vr
    return None


@functools.lru_cache(maxsize=4096)
def vr_for_implicit(tag: int) -> str:
    """Return the VR of a public element that came without one.

    `US or SS` and `US or OW` stay open. Unknown ones are UN, which is what an encoder writes for a
    VR it does not know (PS3.5 6.2.2), but for the group length, which is UL in every group (7.2).
    """
    vr = vr_in_dictionary(tag)
    if vr is None:
        return "UN" if tag & 0xFFFF else "UL"
    if vr in _OTHER_WORD_IN_IMPLICIT:
        return "OW"
    return vr


def holds_fragments(tag: int) -> bool:
    """Tell whether undefined length of this tag, the VR being unsaid, means encapsulation."""
    return vr_in_dictionary(tag) in _CAN_BE_FRAGMENTS


@functools.cache
def sequences(order: ByteOrder) -> frozenset[int]:
    """Return the raw tags of all sequences."""
    return frozenset(
        raw_tag(tag, order)
        for tag, entry in (*DicomDictionary.items(), *_expanded_repeats().items())
        if (entry if isinstance(entry, str) else entry[0]) == "SQ"
    )


@functools.cache
def plain_vrs() -> tuple[Mapping[int, bytes], Mapping[int, bytes]]:
    """Return raw tags of Implicit VR LE to VRs, those of short form and those of long form.

    Only what can be written without a look at anything else: no sequence or item, no VR that
    depends on another element, and not Pixel Representation (0028,0103), on which they depend.
    """
    short_form, long_form = {}, {}
    marks = {ITEM, ITEM_DELIMITATION, SEQUENCE_DELIMITATION}
    group_lengths = {tag & ~0xFFFF for tag in DicomDictionary}
    for tag in (DicomDictionary.keys() | group_lengths) - marks - {_PIXEL_REPRESENTATION}:
        vr = vr_for_implicit(tag).encode()
        if vr in SHORT_FORM:
            short_form[raw_tag(tag, "<")] = vr
        elif vr in LONG_FORM and vr != b"SQ":
            long_form[raw_tag(tag, "<")] = vr
    return MappingProxyType(short_form), MappingProxyType(long_form)


@functools.cache
def _repeating_groups() -> tuple[tuple[int, Mapping[int, str]], ...]:
    """Return a table for each mask of the repeating elements, such as (60xx,3000) (PS3.5 7.6)."""
    tables: dict[int, dict[int, str]] = {}
    for pattern, entry in RepeatersDictionary.items():
        mask = int("".join("0" if digit == "x" else "F" for digit in pattern), 16)
        tables.setdefault(mask, {})[int(pattern.replace("x", "0"), 16)] = str(entry[0])
    return tuple((mask, MappingProxyType(table)) for mask, table in tables.items())


def _expanded_repeats() -> Mapping[int, str]:
    """Return the repeating elements of the even groups 50xx, 60xx and 7Fxx one by one."""
    return {
        int(pattern.replace("xx", f"{low:02X}", 1), 16): str(entry[0])
        for pattern, entry in RepeatersDictionary.items()
        if pattern[2:4] == "xx" and "x" not in pattern[4:]
        for low in range(0, 0x100, 2)
    }
