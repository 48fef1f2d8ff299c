"""What PS3.5 says of VRs and PS3.6 of tags, in the form the scanner and the converter look it up.

A `raw` tag is a tag as it lies in the bytes, read as one integer: in little endian its two halves
are swapped, so `raw_tag` turns a tag into what `struct` gives for it. Tables are keyed by raw tags
where the loop that reads them is hot. All tables are built from `vr_table` once, on first use, and
are only read afterwards. Nothing here raises.
"""

from __future__ import annotations

import array
import functools
import struct
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from node.dicom import vr_table

ByteOrder: TypeAlias = Literal["<", ">"]
#: Looks a raw tag up in a table; None where it is not there.
VROf: TypeAlias = Callable[[int], bytes | None]

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
    vr = _vrs().get(tag)
    if vr is not None:
        return vr
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
    repeating = (raw_tag(tag, order) for tag in _repeating_sequences())
    return frozenset((*_raw_tags("SQ", order), *repeating))


@functools.cache
def plain_vrs() -> tuple[VROf, VROf]:
    """Return what gives the VR of a raw tag of Implicit VR LE, of short form and of long form.

    Only what can be written without a look at anything else: no sequence or item, no VR that
    depends on another element, and not Pixel Representation (0028,0103), on which they depend.
    """
    short_form: dict[int, bytes] = {}
    long_form: dict[int, bytes] = {}
    groups: set[int] = set()
    for written in vr_table.TAGS:
        vr = b"OW" if written in _OTHER_WORD_IN_IMPLICIT else written.encode()
        if vr != b"SQ" and (vr in SHORT_FORM or vr in LONG_FORM):
            table = short_form if vr in SHORT_FORM else long_form
            table.update(dict.fromkeys(_raw_tags(written, "<"), vr))
        groups.update(_groups(written))
    # Group Length (gggg,0000) is UL in every group (PS3.5 7.2); its raw tag is the group.
    short_form.update(dict.fromkeys(groups, b"UL"))
    del short_form[raw_tag(_PIXEL_REPRESENTATION, "<")]
    return short_form.get, long_form.get


# The tables have thousands of tags and are made at every start: no loop of Python goes over them.


def _raw_tags(vr: str, order: ByteOrder) -> tuple[int, ...]:
    """Return all tags that have a VR, raw."""
    halves = array.array("H", bytes.fromhex(vr_table.TAGS[vr]))
    if order == "<":
        halves.byteswap()
    return struct.unpack(f"{order}{len(halves) // 2}L", halves.tobytes())


def _groups(vr: str) -> tuple[int, ...]:
    """Return the group of every tag that has a VR."""
    digits = bytes.fromhex(vr_table.TAGS[vr])
    return struct.unpack(f">{len(digits) // 2}H", digits)[::2]


@functools.cache
def _vrs() -> Mapping[int, str]:
    """Return the VR of each tag."""
    vrs: dict[int, str] = {}
    for vr in vr_table.TAGS:
        vrs.update(dict.fromkeys(_raw_tags(vr, ">"), vr))
    return MappingProxyType(vrs)


@functools.cache
def _repeating_groups() -> tuple[tuple[int, Mapping[int, str]], ...]:
    """Return a table for each mask of the repeating elements, such as (60xx,3000) (PS3.5 7.6)."""
    tables: dict[int, dict[int, str]] = {}
    for pattern, vr in _repeating_tags():
        mask = int("".join("0" if digit == "x" else "F" for digit in pattern), 16)
        tables.setdefault(mask, {})[int(pattern.replace("x", "0"), 16)] = vr
    return tuple((mask, MappingProxyType(table)) for mask, table in tables.items())


def _repeating_sequences() -> Iterator[int]:
    """Yield the sequences of the even groups 50xx, 60xx and 7Fxx one by one."""
    for pattern in vr_table.REPEATING_TAGS["SQ"].split():
        if pattern[2:4] == "xx" and "x" not in pattern[4:]:
            yield from (int(f"{pattern[:2]}{low:02X}{pattern[4:]}", 16) for low in range(0, 256, 2))


def _repeating_tags() -> Iterator[tuple[str, str]]:
    """Yield the patterns of repeating tags, and their VRs."""
    for vr, patterns in vr_table.REPEATING_TAGS.items():
        for pattern in patterns.split():
            yield pattern, vr
