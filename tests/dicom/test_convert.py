"""The converter: tables of exact bytes, made-up and real data sets there and back, and pydicom."""

from __future__ import annotations

import copy
import io
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

import corpus
import pytest
from elements import (
    LONG_FORM,
    NATIVE,
    NUMBERS,
    SHORT_FORM,
    UNDEFINED,
    element,
    header,
    item,
    mark,
    nested,
    sequence,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import correct_ambiguous_vr, write_dataset
from pydicom.tag import BaseTag

from node.dicom.convert import CannotConvert, Chunk, from_explicit_le, restores, to_explicit_le
from node.dicom.dictionary import vr_in_dictionary
from node.dicom.rewrite import LARGE_VALUE
from node.dicom.scan import scan
from node.dicom.uids import EXPLICIT_VR_BE, EXPLICIT_VR_LE, IMPLICIT_VR_LE, RLE_LOSSLESS
from node.dicom.walk import Limits
from node.errors import CannotUnderstand

#: pydicom warns of what is odd in the corpus.
pytestmark = pytest.mark.filterwarnings("ignore")

OTHERS = (IMPLICIT_VR_LE, EXPLICIT_VR_BE)


def there(data: bytes, source: str, **keywords: Any) -> bytes:
    """`data` in Explicit VR LE, having come back byte for byte."""
    chunks = to_explicit_le(data, source, **keywords)
    assert restores(chunks, data, source)
    converted = b"".join(chunks)
    assert b"".join(from_explicit_le(converted, source)) == data
    return converted


# --- one element -------------------------------------------------------------------------------

ELEMENTS = [
    (0x00080005, "CS", "ISO_IR 192"),
    (0x00080016, "UI", "1.2\0"),
    (0x00080000, "UL", (120,)),  # group length, kept as it is
    (0x00091234, "UN", b"private "),
    (0x00090010, "LO", "CREATOR "),
    (0x000900FF, "LO", "CREATOR "),
    (0x00090001, "UN", b"no creator"),
    (0x00090000, "UN", b"\1\0\0\0"),  # pydicom gives UN to a private group length too
    (0x00100010, "PN", "\xc4\xd6\xdc^\\"),
    (0x00100030, "DA", ""),
    (0x00101010, "AS", "030Y"),
    (0x00181310, "US", (1, 2, 3, 4)),
    (0x00280009, "AT", (0x00181063,)),
    (0x00280010, "US", (512,)),
    (0x00280103, "US", (1,)),
    (0x00281201, "OW", (1, 2, 3)),
    (0x00660129, "OL", (1, 2)),
    (0x00189810, "US", (1,)),
    (0x00660016, "OF", (1.5, 2.5)),
    (0x7FE00009, "OD", (1.5,)),
    (0x7FE00001, "OV", (1, 2)),
    (0x00080FFF, "UN", b"no such tag "),
    (0x00189073, "FD", (0.5,)),
    (0x00186020, "SL", (-5,)),
    (0x60000050, "SS", (1, -1)),
    (0x60FE0050, "SS", (1, -1)),
    (0x60003000, "OW", (0x0102, 0x0304)),
    (0x50003000, "OW", (1,)),
    (0x00209100, "UN", b""),
    (0x30060050, "DS", "1\\2\\3 "),
    (0x00420011, "OB", b"%PDF"),
    (0x00080120, "UR", "http://a"),
    (0x00082112, "SQ", b""),
    (0x00287FE0, "UR", "x "),
    (0x00081190, "UR", ""),
    (0x54001010, "OW", (1, 2)),
    (0x7FE00010, "OW", (1, 2)),
    (0xFFFCFFFC, "OB", b"\0\0"),
    (0x7FDD0010, "LO", "CREATOR "),  # not (7Fxx,0010), which is of even groups
    (0x60013000, "UN", b"12"),
    (0x50022600, "SQ", b""),
]


@pytest.mark.parametrize("source", OTHERS)
@pytest.mark.parametrize(("tag", "vr", "value"), ELEMENTS)
def test_one_element(source: str, tag: int, vr: str, value: Any) -> None:
    converted = there(element(source, tag, vr, value), source)
    assert converted == element(EXPLICIT_VR_LE, tag, vr, value)


@pytest.mark.parametrize("vr", [vr for vr in SHORT_FORM + LONG_FORM if vr != "SQ"])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 8, 9, 16, 17, 30])
def test_every_vr_is_swapped_by_its_width_and_odd_rests_stay(vr: str, length: int) -> None:
    value = bytes(range(length))
    width = struct.calcsize("=" + NUMBERS.get(vr, "B")) if vr != "AT" else 2
    whole = length - length % width
    expected = b"".join(value[at : at + width][::-1] for at in range(0, whole, width))
    source = element(EXPLICIT_VR_BE, 0x00091001, vr, value)
    converted = there(source, EXPLICIT_VR_BE)
    assert converted == element(EXPLICIT_VR_LE, 0x00091001, vr, expected + value[whole:])


@pytest.mark.parametrize("vr", [vr for vr in SHORT_FORM + LONG_FORM if vr != "SQ"])
@pytest.mark.parametrize("length", [0, 1, 8, 65534])
def test_explicit_to_implicit_leaves_only_the_vr_out(vr: str, length: int) -> None:
    data = element(EXPLICIT_VR_LE, 0x00091001, vr, bytes(length))
    chunks = from_explicit_le(data, IMPLICIT_VR_LE)
    assert b"".join(chunks) == element(IMPLICIT_VR_LE, 0x00091001, vr, bytes(length))


@pytest.mark.parametrize(("length", "vr"), [(65534, "ST"), (65535, "UN"), (65536, "UN")])
def test_a_value_too_long_for_its_vr_becomes_un(length: int, vr: str) -> None:
    data = element(IMPLICIT_VR_LE, 0x00204000, vr, bytes(length))
    expected = header(EXPLICIT_VR_LE, 0x00204000, vr if vr == "UN" else "LT", length)
    assert there(data, IMPLICIT_VR_LE) == expected + bytes(length)


def test_a_vr_that_depends_on_another_becomes_un_when_it_is_too_long() -> None:
    data = element(IMPLICIT_VR_LE, 0x00280103, "US", (1,))
    data += element(IMPLICIT_VR_LE, 0x00280120, "US", bytes(65536))
    assert there(data, IMPLICIT_VR_LE)[10:].startswith(b"\x28\0\x20\1UN\0\0\0\0\1\0")


def test_an_unknown_vr_keeps_its_form_and_value() -> None:
    for form in (b"ZZ\0\0", b"ZZ", b"??"):
        big = b"\0\x09\x10\x01" + form + (b"\0\0\0\4" if len(form) == 4 else b"\0\4") + b"abcd"
        little = b"\x09\0\x01\x10" + form + (b"\4\0\0\0" if len(form) == 4 else b"\4\0") + b"abcd"
        assert there(big, EXPLICIT_VR_BE) == little
        implicit = b"".join(from_explicit_le(little, IMPLICIT_VR_LE))
        assert implicit == b"\x09\0\x01\x10\4\0\0\0abcd"


@pytest.mark.parametrize("source", OTHERS)
def test_reserved_bytes_and_padding_and_no_elements_at_all(source: str) -> None:
    assert there(b"", source) == b""
    assert there(bytes(7), source) == bytes(7)
    odd = b"\0\x09\x10\x01OB\1\2\0\0\0\1a"
    assert there(odd, EXPLICIT_VR_BE) == b"\x09\0\x01\x10OB\2\1\1\0\0\0a"


# --- sequences ---------------------------------------------------------------------------------

FORMS = [(True, True), (True, False), (False, True), (False, False)]


def tree(syntax: str, defined: bool, item_defined: bool) -> bytes:
    """Sequences in sequences, empty ones, and elements whose header changes its length."""
    code = element(syntax, 0x00080100, "SH", "CODE"), element(syntax, 0x00080119, "UC", "long")
    inner = sequence(syntax, 0x0040A168, item(syntax, *code, defined=item_defined), defined=defined)
    empty = sequence(syntax, 0x00081115, defined=defined)
    items = (
        item(syntax, inner, element(syntax, 0x00420011, "OB", b"12"), defined=item_defined),
        item(syntax, defined=item_defined),
        item(syntax, empty, inner, defined=item_defined),
    )
    start = element(syntax, 0x00080060, "CS", "SR")
    return start + sequence(syntax, 0x0040A730, *items, defined=defined) + empty


@pytest.mark.parametrize("source", OTHERS)
@pytest.mark.parametrize(("defined", "item_defined"), FORMS)
def test_sequences_keep_their_form(source: str, defined: bool, item_defined: bool) -> None:
    data = tree(source, defined, item_defined)
    assert there(data, source) == tree(EXPLICIT_VR_LE, defined, item_defined)


@pytest.mark.parametrize("source", OTHERS)
@pytest.mark.parametrize("defined", [True, False])
def test_the_deepest_nesting(source: str, defined: bool) -> None:
    data = nested(source, 64, defined)
    assert there(data, source) == nested(EXPLICIT_VR_LE, 64, defined)
    with pytest.raises(CannotUnderstand):
        to_explicit_le(nested(source, 65, defined), source)


@pytest.mark.parametrize("source", OTHERS)
def test_delimiters_are_kept_with_their_lengths(source: str) -> None:
    strange = mark(source, 0xFFFEE00D, 7)
    value = item(source, element(source, 0x00080100, "SH", "AB"), defined=False)[:-8] + strange
    data = sequence(source, 0x00081140, value, defined=False)
    assert mark(EXPLICIT_VR_LE, 0xFFFEE00D, 7) in there(data, source)
    value = item(source, element(source, 0x00080100, "SH", "AB"), mark(source, 0xFFFEE00D))
    there(sequence(source, 0x00081140, value, mark(source, 0xFFFEE0DD)), source)


def test_a_private_sequence_of_undefined_length_becomes_sq() -> None:
    def data(syntax: str) -> bytes:
        value = element(syntax, 0x00080100, "SH", "A "), element(syntax, 0x00091002, "UN", b"x")
        return sequence(syntax, 0x00091001, item(syntax, *value), defined=False)

    assert there(data(IMPLICIT_VR_LE), IMPLICIT_VR_LE) == data(EXPLICIT_VR_LE)


def test_a_private_sequence_of_defined_length_becomes_un_with_its_bytes() -> None:
    value = item(IMPLICIT_VR_LE, element(IMPLICIT_VR_LE, 0x00080100, "SH", "A "))
    data = element(IMPLICIT_VR_LE, 0x00091001, "UN", value)
    expected = element(EXPLICIT_VR_LE, 0x00091001, "UN", value)
    assert there(data, IMPLICIT_VR_LE) == expected


@pytest.mark.parametrize("target", OTHERS)
@pytest.mark.parametrize("defined", [True, False])
def test_un_of_undefined_length_stays_as_it_is_inside(target: str, defined: bool) -> None:
    inside = sequence(IMPLICIT_VR_LE, 0x00081140, item(IMPLICIT_VR_LE), defined=defined)
    value = item(IMPLICIT_VR_LE, inside, defined=defined) + mark(IMPLICIT_VR_LE, 0xFFFEE0DD)

    def data(syntax: str) -> bytes:
        start = header(syntax, 0x00091001, "UN", UNDEFINED)
        return start + value + element(syntax, 0x00280010, "US", (5,))

    explicit = data(EXPLICIT_VR_LE)
    assert b"".join(from_explicit_le(explicit, target)) == data(target)
    if target == EXPLICIT_VR_BE:
        assert there(data(target), target) == explicit


def test_an_element_in_implicit_form_inside_explicit_is_copied() -> None:
    odd = element(IMPLICIT_VR_LE, 0x00091001, "UN", b"abcd")
    inside = item(IMPLICIT_VR_LE, element(IMPLICIT_VR_LE, 0x00080100, "SH", "A "))
    odd += sequence(IMPLICIT_VR_LE, 0x00081140, inside, defined=False)
    first = element(EXPLICIT_VR_LE, 0x00080060, "CS", "MR")
    implicit = b"".join(from_explicit_le(first + odd, IMPLICIT_VR_LE))
    assert implicit == element(IMPLICIT_VR_LE, 0x00080060, "CS", "MR") + odd


def test_an_encapsulated_icon_is_ob() -> None:
    def data(syntax: str) -> bytes:
        fragments = mark(syntax, 0xFFFEE000), mark(syntax, 0xFFFEE000, 3) + b"abc"
        icon = sequence(syntax, 0x7FE00010, *fragments, vr="OB", defined=False)
        return sequence(syntax, 0x00880200, item(syntax, icon))

    assert there(data(IMPLICIT_VR_LE), IMPLICIT_VR_LE) == data(EXPLICIT_VR_LE)


# --- what cannot be converted --------------------------------------------------------------------


def private(vr: str, syntax: str, inside: str) -> bytes:
    value = item(inside, element(inside, 0x00080100, "SH", "CODE"))
    closed = value + mark(inside, 0xFFFEE0DD)
    return header(syntax, 0x00091001, vr, UNDEFINED) + closed


@pytest.mark.parametrize(
    ("target", "data"),
    [
        (IMPLICIT_VR_LE, private("UN", EXPLICIT_VR_LE, EXPLICIT_VR_LE)),
        (EXPLICIT_VR_BE, private("UN", EXPLICIT_VR_LE, EXPLICIT_VR_LE)),
        (IMPLICIT_VR_LE, private("UN", EXPLICIT_VR_LE, EXPLICIT_VR_BE)),
        (EXPLICIT_VR_BE, private("OB", EXPLICIT_VR_LE, EXPLICIT_VR_LE)),
        (IMPLICIT_VR_LE, private("OB", EXPLICIT_VR_LE, EXPLICIT_VR_LE)),
        (EXPLICIT_VR_BE, element(IMPLICIT_VR_LE, 0x00091001, "UN", b"abcd")),
    ],
)
def test_what_has_no_counterpart(target: str, data: bytes) -> None:
    with pytest.raises(CannotConvert):
        from_explicit_le(data, target)
    assert not restores([data], b"", target)


def test_big_endian_that_has_no_counterpart() -> None:
    for inside in (EXPLICIT_VR_BE, EXPLICIT_VR_LE):
        with pytest.raises(CannotConvert):
            to_explicit_le(private("UN", EXPLICIT_VR_BE, inside), EXPLICIT_VR_BE)
    with pytest.raises(CannotConvert):
        to_explicit_le(private("OB", EXPLICIT_VR_BE, EXPLICIT_VR_BE), EXPLICIT_VR_BE)


def test_a_sequence_that_outgrows_its_length_field() -> None:
    # Nearly four gibibytes of zeros, none of which is ever in memory.
    mmap = pytest.importorskip("mmap")
    length = 0xFFFFFFFE - 16
    inside = header(IMPLICIT_VR_LE, 0x00420011, "OB", length)
    start = header(IMPLICIT_VR_LE, 0x00081140, "SQ", 0xFFFFFFFE)
    start += mark(IMPLICIT_VR_LE, 0xFFFEE000, 0xFFFFFFFE - 8) + inside
    with mmap.mmap(-1, len(start) + length) as data:
        data[: len(start)] = start
        with pytest.raises(CannotConvert):
            to_explicit_le(data, IMPLICIT_VR_LE)


@pytest.mark.parametrize("source", OTHERS)
def test_what_is_broken_cannot_be_understood(source: str) -> None:
    data = tree(source, True, True)
    with pytest.raises(CannotUnderstand):
        to_explicit_le(data[:-1], source)
    with pytest.raises(CannotUnderstand):
        to_explicit_le(data, source, limits=Limits(elements=5))
    explicit = b"".join(to_explicit_le(data, source))
    with pytest.raises(CannotUnderstand):
        from_explicit_le(explicit[:-1], source)
    with pytest.raises(CannotUnderstand):
        from_explicit_le(explicit, source, limits=Limits(elements=5))


def test_only_native_transfer_syntaxes() -> None:
    for convert in (to_explicit_le, from_explicit_le):
        with pytest.raises(ValueError, match="not a native"):
            convert(b"", RLE_LOSSLESS)


def test_restores_sees_a_difference_and_gives_up_on_the_huge() -> None:
    data = element(IMPLICIT_VR_LE, 0x00080060, "CS", "MR")
    other = to_explicit_le(element(IMPLICIT_VR_LE, 0x00080060, "CS", "CT"), IMPLICIT_VR_LE)
    assert restores(to_explicit_le(data, IMPLICIT_VR_LE), data, IMPLICIT_VR_LE)
    assert not restores(other, data, IMPLICIT_VR_LE)
    assert not restores([b"broken"], data, IMPLICIT_VR_LE)
    huge = to_explicit_le(element(IMPLICIT_VR_LE, 0x00420011, "OB", bytes(1 << 26)), IMPLICIT_VR_LE)
    assert not restores(huge, data, IMPLICIT_VR_LE)


# --- extents, views, kinds of buffer -------------------------------------------------------------


def test_explicit_little_endian_is_itself() -> None:
    data = element(EXPLICIT_VR_LE, 0x00080060, "CS", "MR")
    for convert in (to_explicit_le, from_explicit_le):
        (chunk,) = convert(data, EXPLICIT_VR_LE)
        assert chunk == data
        assert chunk.obj is data


@pytest.mark.parametrize("source", OTHERS)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_head_and_tail_around_pixel_data(source: str, kind: type) -> None:
    def parts(syntax: str) -> tuple[bytes, bytes, bytes]:
        head = element(syntax, 0x00080060, "CS", "MR") + tree(syntax, True, False)
        head += element(syntax, 0x00280103, "US", (1,))
        pixel_data = element(syntax, 0x7FE00010, "OW", (1, 2, 3))
        return head, pixel_data, element(syntax, 0xFFFCFFFC, "OB", b"\0\0")

    data = kind(b"".join(parts(source)))
    place = scan(data, source).pixel_data
    assert place is not None
    head = to_explicit_le(data, source, 0, place.offset)
    tail = to_explicit_le(data, source, place.end, None)
    expected = parts(EXPLICIT_VR_LE)
    assert b"".join(head) == expected[0]
    assert b"".join(tail) == expected[2]
    assert b"".join(to_explicit_le(data, source)) == b"".join(expected)
    explicit = kind(b"".join(expected))
    size = len(expected[0])
    assert b"".join(from_explicit_le(explicit, source, 0, size)) == parts(source)[0]
    behind = from_explicit_le(explicit, source, len(explicit) - len(expected[2]))
    assert b"".join(behind) == parts(source)[2]


def test_large_values_are_views_of_the_input() -> None:
    value = bytes(LARGE_VALUE)
    small = element(IMPLICIT_VR_LE, 0x00080060, "CS", "MR")
    large = element(IMPLICIT_VR_LE, 0x00420011, "OB", value)
    data = small + large + large + small
    chunks = to_explicit_le(data, IMPLICIT_VR_LE)
    views = [chunk for chunk in chunks if isinstance(chunk, memoryview)]
    assert [len(view) for view in views] == [LARGE_VALUE] * 2
    assert all(view.obj is data for view in views)
    explicit = b"".join(chunks)
    back: list[Chunk] = from_explicit_le(explicit, IMPLICIT_VR_LE)
    assert sum(isinstance(chunk, memoryview) for chunk in back) == 2
    assert b"".join(back) == data


# --- VRs that depend on something ---------------------------------------------------------------


def vrs(explicit: bytes) -> dict[int, str]:
    """The VRs of the top level, and of everything in its sequences under the same tags."""
    found: dict[int, str] = {}

    def look(data_set: Dataset) -> None:
        for tag in list(data_set.keys()):
            raw = data_set.get_item(tag)
            found[int(tag)] = str(raw.VR)
            if raw.VR == "SQ":
                for inner in data_set[tag].value:
                    look(inner)

    look(read_dataset(io.BytesIO(explicit), False, True))
    return found


LE = IMPLICIT_VR_LE
SIGNED = element(LE, 0x00280103, "US", (1,))
UNSIGNED = element(LE, 0x00280103, "US", (0,))
PADDING = element(LE, 0x00280120, "US", (1,))
EARLY = element(LE, 0x00189810, "US", (1,))
DESCRIPTOR = element(LE, 0x00283002, "US", (256, 0, 16))
ONE_ENTRY = element(LE, 0x00283002, "US", (1, 0, 16))
LUT_DATA = element(LE, 0x00283006, "OW", (1,))


@pytest.mark.parametrize(
    ("data", "tag", "vr"),
    [
        (PADDING, 0x00280120, "US"),
        (UNSIGNED + PADDING, 0x00280120, "US"),
        (SIGNED + PADDING, 0x00280120, "SS"),
        (EARLY + SIGNED, 0x00189810, "SS"),  # decided by what comes after it
        (sequence(LE, 0x00081140, item(LE, PADDING)) + SIGNED, 0x00280120, "SS"),
        (sequence(LE, 0x00081140, item(LE, UNSIGNED + PADDING)) + SIGNED, 0x00280120, "US"),
        (sequence(LE, 0x00081140, item(LE, EARLY + SIGNED)) + UNSIGNED, 0x00189810, "SS"),
        (SIGNED + sequence(LE, 0x00283010, item(LE, DESCRIPTOR + LUT_DATA)), 0x00283002, "SS"),
        (SIGNED + sequence(LE, 0x00283010, item(LE, DESCRIPTOR + LUT_DATA)), 0x00283006, "OW"),
        (SIGNED + sequence(LE, 0x00283010, item(LE, ONE_ENTRY + LUT_DATA)), 0x00283006, "US"),
        (sequence(LE, 0x00283010, item(LE, LUT_DATA)), 0x00283006, "OW"),
        (ONE_ENTRY + sequence(LE, 0x00283010, item(LE, LUT_DATA)), 0x00283006, "OW"),
        (SIGNED + element(LE, 0x00281101, "US", (1, 2, 3)), 0x00281101, "SS"),
        (SIGNED + element(LE, 0x00281200, "OW", (1, 2, 3)), 0x00281200, "OW"),
        (element(LE, 0x00280103, "US", b"\1\0\0\0") + PADDING, 0x00280120, "US"),
        (element(LE, 0x00280103, "US", b"\1") + PADDING, 0x00280120, "US"),
        (element(LE, 0x00283002, "US", b"\1") + LUT_DATA, 0x00283006, "OW"),
    ],
)
def test_vrs_that_depend_on_others(data: bytes, tag: int, vr: str) -> None:
    assert vrs(there(data, LE))[tag] == vr


def test_pixel_representation_of_the_whole_where_the_extent_is_without_it() -> None:
    assert vrs(there(PADDING, LE, pixel_representation=1))[0x00280120] == "SS"
    assert vrs(there(PADDING, LE, pixel_representation=0))[0x00280120] == "US"
    assert vrs(there(UNSIGNED + PADDING, LE, pixel_representation=1))[0x00280120] == "US"


# --- made-up data sets, there and back -----------------------------------------------------------

TAGS = st.sampled_from([tag for tag, vr, _ in ELEMENTS if vr != "SQ"]) | st.integers(
    0x00090000, 0x7FFFFFFF
)
MADE_VRS = st.sampled_from([vr for vr in SHORT_FORM + LONG_FORM if vr not in ("SQ", "UN")])


@st.composite
def made_elements(draw: st.DrawFn, syntax: str) -> bytes:
    vr, tag, value = draw(MADE_VRS), draw(TAGS), draw(st.binary(max_size=20))
    if vr_in_dictionary(tag) == "SQ":
        tag = 0x00091001
    return element(syntax, tag, vr, value)


def made_data_sets(syntax: str) -> st.SearchStrategy[bytes]:
    def wrap(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
        return st.builds(
            lambda tag, items, defined: sequence(
                syntax,
                tag,
                *(item(syntax, *parts, defined=d) for parts, d in items),
                defined=defined,
            ),
            st.sampled_from([0x00081140, 0x0040A730, 0x00283010]),
            st.lists(st.tuples(st.lists(inner, max_size=4), st.booleans()), max_size=3),
            st.booleans(),
        )

    elements = st.recursive(made_elements(syntax), wrap, max_leaves=20)
    return st.lists(elements, max_size=10).map(b"".join)


@settings(deadline=None, max_examples=300)
@given(made_data_sets(IMPLICIT_VR_LE))
def test_any_implicit_data_set_comes_back(data: bytes) -> None:
    scan(there(data, IMPLICIT_VR_LE), EXPLICIT_VR_LE)


@settings(deadline=None, max_examples=300)
@given(made_data_sets(EXPLICIT_VR_BE))
def test_any_big_endian_data_set_comes_back(data: bytes) -> None:
    scan(there(data, EXPLICIT_VR_BE), EXPLICIT_VR_LE)


@settings(deadline=None, max_examples=300)
@given(made_data_sets(EXPLICIT_VR_LE))
def test_any_explicit_data_set_goes_to_big_endian_and_back(data: bytes) -> None:
    big = b"".join(from_explicit_le(data, EXPLICIT_VR_BE))
    assert there(big, EXPLICIT_VR_BE) == data


@settings(deadline=None, max_examples=500)
@given(st.binary(max_size=60), st.sampled_from(NATIVE))
def test_any_bytes_come_back_or_are_refused(data: bytes, syntax: str) -> None:
    try:
        chunks = to_explicit_le(data, syntax)
    except (CannotUnderstand, CannotConvert):
        return
    assert restores(chunks, data, syntax)


# --- time ----------------------------------------------------------------------------------------


untraced = pytest.mark.skipif(sys.gettrace() is not None, reason="tracing takes the time")


@untraced
@pytest.mark.parametrize("source", OTHERS)
def test_hundred_thousand_private_elements_take_linear_time(source: str) -> None:
    data = element(source, 0x00091001, "UN", b"12") * 100_000
    begin = time.process_time()
    explicit = b"".join(to_explicit_le(data, source))
    assert b"".join(from_explicit_le(explicit, source)) == data
    assert time.process_time() - begin < 3


@untraced
def test_what_is_decided_late_is_decided_in_linear_time() -> None:
    data = PADDING * 5000
    for _ in range(60):
        data = sequence(LE, 0x0040A730, item(LE, data, PADDING * 100))
    begin = time.process_time()
    to_explicit_le(data + SIGNED, LE)
    assert time.process_time() - begin < 2


# --- the corpus, with pydicom as the reference ---------------------------------------------------


def sound_data_sets(*syntaxes: str) -> Iterator[tuple[str, bytes, str]]:
    """Path, encoded data set and transfer syntax of every native file that is sound."""
    for row in corpus.rows():
        if row["transfer_syntax_uid"] not in syntaxes:
            continue
        content = (corpus.CORPUS / row["path"]).read_bytes()
        if content[128:132] != b"DICM":
            continue
        start = 132
        while content[start : start + 2] == b"\2\0":
            long = content[start + 4 : start + 6].decode() in LONG_FORM
            form, at = ("<I", start + 8) if long else ("<H", start + 6)
            start = at + struct.calcsize(form) + struct.unpack_from(form, content, at)[0]
        data, syntax = content[start:], row["transfer_syntax_uid"]
        try:
            if scan(data, syntax).is_regular:
                yield row["path"], data, syntax
        except CannotUnderstand:
            continue


def read_with_pydicom(data: bytes, syntax: str) -> Dataset:
    return read_dataset(io.BytesIO(data), syntax == IMPLICIT_VR_LE, syntax != EXPLICIT_VR_BE)


def raw_value(data_set: Dataset, tag: BaseTag) -> bytes | None:
    """The value bytes of an element as they are encoded, None for a sequence."""
    found = data_set.get_item(tag)
    if isinstance(found, RawDataElement):
        return found.value or b""
    # pydicom makes elements of empty values at once.
    return b"" if found.VR != "SQ" and found.is_empty else None


def expected_vr(theirs: Dataset, tag: BaseTag, length: int) -> str:
    """What pydicom makes of an element without VR; private ones stay what we take them for."""
    vr = str(theirs[tag].VR)
    if tag.is_private and not tag.is_private_creator:
        vr = "SQ" if vr == "SQ" else "UN"
    return "UN" if vr in SHORT_FORM and length > 65534 else vr


def compare(ours: Dataset, theirs: Dataset) -> None:
    """Element by element: `ours` read from the converted bytes, `theirs` from what came in."""
    assert list(ours.keys()) == list(theirs.keys())
    for tag in list(ours.keys()):
        mine, value = ours.get_item(tag), raw_value(theirs, tag)
        if mine.VR == "SQ":
            items = theirs[tag].value
            assert len(ours[tag].value) == len(items)
            for ours_inside, theirs_inside in zip(ours[tag].value, items, strict=True):
                compare(ours_inside, theirs_inside)
            continue
        if value is None:
            # pydicom reads Pixel Representation when it meets a sequence.
            assert ours[tag].value == theirs[tag].value, tag
        else:
            assert raw_value(ours, tag) == value, tag


def compare_vrs(ours: Dataset, theirs: Dataset) -> None:
    for tag in list(ours.keys()):
        mine = ours.get_item(tag)
        if tag.is_private and not isinstance(mine, RawDataElement) and mine.is_empty:
            continue  # pydicom has looked it up in its private dictionary already
        vr = str(mine.VR)
        length = len(raw_value(ours, tag) or b"")
        expected = expected_vr(theirs, tag, length)
        if len(expected) > 2:
            # pydicom leaves some retired ones open.
            assert vr in expected.split(" or "), tag
        elif not (vr == "UN" and expected == "SQ" and tag.is_private):
            assert vr == expected, tag
        if vr == "SQ":
            for inner, reference in zip(ours[tag].value, theirs[tag].value, strict=True):
                compare_vrs(inner, reference)


@pytest.mark.corpus
@pytest.mark.skipif(not corpus.rows(), reason=corpus.ABSENT)
def test_implicit_files_become_what_pydicom_makes_of_them() -> None:
    compared = 0
    for path, data, syntax in sound_data_sets(IMPLICIT_VR_LE):
        converted = there(data, syntax)
        compare(read_with_pydicom(converted, EXPLICIT_VR_LE), read_with_pydicom(data, syntax))
        theirs = read_with_pydicom(data, syntax)
        for tag in [tag for tag in list(theirs.keys()) if raw_value(theirs, tag) is None]:
            theirs[tag]
        try:
            corrected = correct_ambiguous_vr(copy.deepcopy(theirs), True)
        except AttributeError:
            continue  # pydicom cannot write this one in Explicit VR at all
        compare_vrs(read_with_pydicom(converted, EXPLICIT_VR_LE), corrected)
        compared += 1
        assert path
    assert compared > 100


@pytest.mark.corpus
@pytest.mark.skipif(not corpus.rows(), reason=corpus.ABSENT)
def test_big_endian_files_have_the_same_values_for_pydicom() -> None:
    compared = 0
    for _, data, syntax in sound_data_sets(EXPLICIT_VR_BE):
        ours = read_with_pydicom(there(data, syntax), EXPLICIT_VR_LE)
        theirs = read_with_pydicom(data, syntax)
        assert list(ours.keys()) == list(theirs.keys())
        for tag in list(ours.keys()):
            assert ours.get_item(tag).VR == theirs.get_item(tag).VR
            if ours[tag].VR not in ("OW", "SQ"):
                assert ours[tag].value == theirs[tag].value
            elif ours[tag].VR == "OW":
                words = len(ours[tag].value) // 2
                assert struct.unpack_from(f"<{words}H", ours[tag].value) == struct.unpack_from(
                    f">{words}H", theirs[tag].value
                )
        compared += 1
    assert compared > 20


@pytest.mark.corpus
@pytest.mark.skipif(not corpus.rows(), reason=corpus.ABSENT)
@pytest.mark.parametrize("target", OTHERS)
def test_explicit_files_there_and_back(target: str) -> None:
    compared = 0
    for _, data, syntax in sound_data_sets(EXPLICIT_VR_LE):
        other = b"".join(from_explicit_le(data, target))
        explicit = there(other, target)
        if target == EXPLICIT_VR_BE:
            assert explicit == data
        else:
            compare(read_with_pydicom(explicit, syntax), read_with_pydicom(other, target))
        compared += 1
    assert compared > 600


@pytest.mark.corpus
@pytest.mark.skipif(not corpus.rows(), reason=corpus.ABSENT)
@pytest.mark.parametrize("target", OTHERS)
def test_what_pydicom_writes_comes_back(target: str) -> None:
    """pydicom's own sequences and orders, not those of our inverse."""
    compared = 0
    for _, data, syntax in sound_data_sets(EXPLICIT_VR_LE, IMPLICIT_VR_LE):
        if len(data) > 200_000:
            continue
        data_set = read_with_pydicom(data, syntax)
        written = DicomBytesIO()
        written.is_implicit_VR = target == IMPLICIT_VR_LE
        written.is_little_endian = target != EXPLICIT_VR_BE
        try:
            write_dataset(written, data_set)
        except Exception:
            continue  # pydicom cannot write it
        other = written.getvalue()
        there(other, target)
        compared += 1
    assert compared > 300
