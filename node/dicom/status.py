"""DIMSE status codes of the storage service, by name (PS3.4 B.2.3, PS3.7 Annex C).

No other module writes a status as a bare number.
"""

from __future__ import annotations

import enum

SUCCESS = 0x0000
CANCEL = 0xFE00

DUPLICATE_SOP_INSTANCE = 0x0111
PROCESSING_FAILURE = 0x0110
INVALID_SOP_INSTANCE = 0x0117
SOP_CLASS_NOT_SUPPORTED = 0x0122
NOT_AUTHORISED = 0x0124
UNRECOGNISED_OPERATION = 0x0211
MISTYPED_ARGUMENT = 0x0212

OUT_OF_RESOURCES = 0xA700
DATA_SET_DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000


class Category(enum.Enum):
    """What a status means to the one who sent the instance."""

    SUCCESS = "success"
    WARNING = "warning"
    OUT_OF_RESOURCES = "out of resources"
    MISMATCH = "data set does not match SOP class"
    CANNOT_UNDERSTAND = "cannot understand"
    DUPLICATE = "duplicate SOP instance"
    NOT_AUTHORISED = "not authorised"
    REFUSED = "refused for good"
    UNKNOWN = "unknown"


_EXACT = {
    SUCCESS: Category.SUCCESS,
    0x0001: Category.WARNING,
    0x0107: Category.WARNING,
    0x0116: Category.WARNING,
    DUPLICATE_SOP_INSTANCE: Category.DUPLICATE,
    INVALID_SOP_INSTANCE: Category.REFUSED,
    SOP_CLASS_NOT_SUPPORTED: Category.REFUSED,
    NOT_AUTHORISED: Category.NOT_AUTHORISED,
    MISTYPED_ARGUMENT: Category.REFUSED,
    UNRECOGNISED_OPERATION: Category.REFUSED,
    PROCESSING_FAILURE: Category.CANNOT_UNDERSTAND,
}

_BY_HIGH_BYTE = {
    0xA7: Category.OUT_OF_RESOURCES,
    0xA9: Category.MISMATCH,
}


def category(code: int) -> Category:
    """Return what `code` means (PS3.4 Table B.2-1; PS3.7 C.1 to C.5 for the general codes)."""
    if code in _EXACT:
        return _EXACT[code]
    if code >> 8 in _BY_HIGH_BYTE:
        return _BY_HIGH_BYTE[code >> 8]
    if code >> 12 == 0xB:
        return Category.WARNING
    if code >> 12 == 0xC:
        return Category.CANNOT_UNDERSTAND
    return Category.UNKNOWN


def describe(code: int) -> str:
    """Return `code` as people write it, with its meaning: `A700 (out of resources)`."""
    return f"{code:04X} ({category(code).value})"
