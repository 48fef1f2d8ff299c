"""What each status means, as a table."""

from __future__ import annotations

import pytest

from node.dicom.status import Category, category, describe

MEANINGS = {
    0x0000: Category.SUCCESS,
    0xB000: Category.WARNING,
    0xB006: Category.WARNING,
    0xB007: Category.WARNING,
    0xBFFF: Category.WARNING,
    0x0001: Category.WARNING,
    0x0107: Category.WARNING,
    0x0116: Category.WARNING,
    0xA700: Category.OUT_OF_RESOURCES,
    0xA7FF: Category.OUT_OF_RESOURCES,
    0xA900: Category.MISMATCH,
    0xA9FF: Category.MISMATCH,
    0xC000: Category.CANNOT_UNDERSTAND,
    0xCFFF: Category.CANNOT_UNDERSTAND,
    0x0110: Category.CANNOT_UNDERSTAND,
    0x0111: Category.DUPLICATE,
    0x0117: Category.REFUSED,
    0x0122: Category.REFUSED,
    0x0124: Category.NOT_AUTHORISED,
    0x0211: Category.REFUSED,
    0x0212: Category.REFUSED,
    0x0210: Category.UNKNOWN,
    0xFE00: Category.UNKNOWN,
    0xFF00: Category.UNKNOWN,
    0xA800: Category.UNKNOWN,
    0xD000: Category.UNKNOWN,
    0x1234: Category.UNKNOWN,
}


@pytest.mark.parametrize("code", MEANINGS, ids=lambda code: f"{code:04X}")
def test_meaning(code: int) -> None:
    assert category(code) is MEANINGS[code]


def test_every_meaning_is_met() -> None:
    assert set(MEANINGS.values()) == set(Category)


@pytest.mark.parametrize(
    ("code", "text"),
    [(0xA700, "A700 (out of resources)"), (0, "0000 (success)"), (0x12, "0012 (unknown)")],
)
def test_words(code: int, text: str) -> None:
    assert describe(code) == text
