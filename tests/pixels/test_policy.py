"""The decision whether to encode, as tables of facts."""

from __future__ import annotations

from typing import Any

import pytest

from node.dicom import uids
from node.pixels.policy import Options, PixelFacts, PixelLayout, decide, describe
from node.reasons import KeepReason

CT = PixelFacts(
    samples_per_pixel=1,
    photometric_interpretation="MONOCHROME2",
    planar_configuration=None,
    number_of_frames=1,
    rows=4,
    columns=6,
    bits_allocated=16,
    bits_stored=12,
    pixel_representation=0,
    value_length=48,
)
RGB: dict[str, Any] = {
    "samples_per_pixel": 3,
    "photometric_interpretation": "RGB",
    "planar_configuration": 0,
    "bits_allocated": 8,
    "bits_stored": 8,
    "value_length": 72,
}
EIGHT = {"bits_allocated": 8, "bits_stored": 8, "value_length": 24}
WIDE = {"bits_allocated": 32, "bits_stored": 32, "value_length": 96}

ENCODED: dict[str, dict[str, Any]] = {
    "12 of 16 bits": {},
    "16 bits signed": {"pixel_representation": 1, "bits_stored": 16},
    "8 bits": EIGHT,
    "MONOCHROME1": {"photometric_interpretation": "MONOCHROME1"},
    "PALETTE COLOR": {"photometric_interpretation": "PALETTE COLOR", **EIGHT},
    "RGB": RGB,
    "RGB by plane": {**RGB, "planar_configuration": 1},
    "RGB of 16 bits": {**RGB, "bits_allocated": 16, "bits_stored": 16, "value_length": 144},
    "YBR_FULL": {**RGB, "photometric_interpretation": "YBR_FULL"},
    "many frames": {"number_of_frames": 3, "value_length": 144},
    "odd length, padded": {**EIGHT, "rows": 5, "columns": 5, "value_length": 26},
    "odd length, not padded": {**EIGHT, "rows": 5, "columns": 5, "value_length": 25},
    "planar configuration of one sample": {"planar_configuration": 7},
}

KEPT: dict[str, tuple[dict[str, Any], KeepReason]] = {
    "no pixel data": ({"value_length": None}, KeepReason.NO_PIXEL_DATA),
    "empty": ({"value_length": 0}, KeepReason.EMPTY_PIXEL_DATA),
    "float": (
        {"value_length": None, "has_float_pixel_data": True},
        KeepReason.FLOAT_PIXEL_DATA,
    ),
    "signed": ({"is_signed": True}, KeepReason.SIGNED),
    "one bit": ({"bits_allocated": 1, "bits_stored": 1, "value_length": 4}, KeepReason.ONE_BIT),
    "12 bits allocated": (
        {"bits_allocated": 12, "value_length": 36},
        KeepReason.NOT_IN_TABLE,
    ),
    "32 bits": (WIDE, KeepReason.NOT_IN_TABLE),
    "RGB signed": ({**RGB, "pixel_representation": 1}, KeepReason.NOT_IN_TABLE),
    "two samples": (
        {**RGB, "samples_per_pixel": 2, "value_length": 48},
        KeepReason.NOT_IN_TABLE,
    ),
    "photometric of nobody": (
        {"photometric_interpretation": "GREENISH"},
        KeepReason.NOT_IN_TABLE,
    ),
    "4:2:2": (
        {**RGB, "photometric_interpretation": "YBR_FULL_422", "value_length": 48},
        KeepReason.SUBSAMPLED,
    ),
    "4:2:0": (
        {**RGB, "photometric_interpretation": "YBR_PARTIAL_420", "value_length": 36},
        KeepReason.SUBSAMPLED,
    ),
    "short by a byte": ({"value_length": 47}, KeepReason.SHORT_PIXEL_DATA),
    "two bytes too many": ({"value_length": 50}, KeepReason.TRAILING_PIXEL_DATA),
    "one byte too many": ({"value_length": 49}, KeepReason.TRAILING_PIXEL_DATA),
    "a frame is missing": ({"number_of_frames": 2}, KeepReason.SHORT_PIXEL_DATA),
    "larger than any memory": (
        {"rows": 65535, "columns": 65535, "number_of_frames": 2**31 - 1},
        KeepReason.SHORT_PIXEL_DATA,
    ),
    "no rows": ({"rows": None}, KeepReason.INCOMPLETE_DESCRIPTION),
    "zero rows": ({"rows": 0}, KeepReason.INCOMPLETE_DESCRIPTION),
    "no columns": ({"columns": None}, KeepReason.INCOMPLETE_DESCRIPTION),
    "no samples": ({"samples_per_pixel": None}, KeepReason.INCOMPLETE_DESCRIPTION),
    "no frames": ({"number_of_frames": 0}, KeepReason.INCOMPLETE_DESCRIPTION),
    "unreadable frames": ({"number_of_frames": None}, KeepReason.INCOMPLETE_DESCRIPTION),
    "no bits allocated": ({"bits_allocated": None}, KeepReason.INCOMPLETE_DESCRIPTION),
    "no bits stored": ({"bits_stored": None}, KeepReason.INCOMPLETE_DESCRIPTION),
    "more bits stored than allocated": ({"bits_stored": 17}, KeepReason.INCOMPLETE_DESCRIPTION),
    "zero bits stored": ({"bits_stored": 0}, KeepReason.INCOMPLETE_DESCRIPTION),
    "no representation": ({"pixel_representation": None}, KeepReason.INCOMPLETE_DESCRIPTION),
    "no photometric": ({"photometric_interpretation": None}, KeepReason.INCOMPLETE_DESCRIPTION),
    "empty photometric": ({"photometric_interpretation": ""}, KeepReason.INCOMPLETE_DESCRIPTION),
    "RGB without planar configuration": (
        {**RGB, "planar_configuration": None},
        KeepReason.INCOMPLETE_DESCRIPTION,
    ),
    "RGB of planar configuration 2": (
        {**RGB, "planar_configuration": 2},
        KeepReason.INCOMPLETE_DESCRIPTION,
    ),
}


@pytest.mark.parametrize("case", ENCODED)
def test_encoded(case: str) -> None:
    facts = CT._replace(**ENCODED[case])
    layout = decide(facts, Options())
    assert isinstance(layout, PixelLayout)
    assert layout == describe(facts)
    assert layout.planar_configuration == (
        facts.planar_configuration if layout.samples_per_pixel > 1 else 0
    )


@pytest.mark.parametrize("case", KEPT)
def test_kept(case: str) -> None:
    changes, reason = KEPT[case]
    assert decide(CT._replace(**changes), Options()) is reason


def test_switched_off_is_said_before_anything_else() -> None:
    off = Options(transfer_syntax_uid="")
    assert decide(CT._replace(value_length=None), off) is KeepReason.SWITCHED_OFF


BEYOND: dict[str, tuple[dict[str, Any], bool]] = {
    "32 bits": (WIDE, True),
    "64 bits": ({"bits_allocated": 64, "bits_stored": 64, "value_length": 192}, True),
    "RGB of 32 bits, 12 segments": (
        {**RGB, "bits_allocated": 32, "bits_stored": 32, "value_length": 288},
        True,
    ),
    "RGB of 64 bits, 24 segments": (
        {**RGB, "bits_allocated": 64, "bits_stored": 64, "value_length": 576},
        False,
    ),
    "24 bits": ({"bits_allocated": 24, "bits_stored": 24, "value_length": 72}, False),
    "two samples": ({**RGB, "samples_per_pixel": 2, "value_length": 48}, True),
}


@pytest.mark.parametrize("case", BEYOND)
def test_beyond_the_table_of_the_standard_only_when_asked(case: str) -> None:
    changes, is_possible = BEYOND[case]
    facts = CT._replace(**changes)
    assert decide(facts, Options()) is KeepReason.NOT_IN_TABLE
    answer = decide(facts, Options(beyond_table=True))
    assert isinstance(answer, PixelLayout) == is_possible
    of_others = Options(transfer_syntax_uid="1.2.840.10008.1.2.4.80", beyond_table=True)
    assert decide(facts, of_others) is KeepReason.NOT_IN_TABLE


def test_each_transfer_syntax_has_a_table_of_its_own() -> None:
    """JPEG-LS does not take signed pixels of more than 16 bits, or what pydicom has no row for."""
    unheard_of = Options(transfer_syntax_uid=uids.IMPLICIT_VR_LE)
    assert decide(CT, unheard_of) is KeepReason.NOT_IN_TABLE


def test_lengths() -> None:
    layout = decide(CT._replace(**ENCODED["many frames"]), Options())
    assert isinstance(layout, PixelLayout)
    assert (layout.frame_bytes, layout.value_bytes) == (48, 144)
