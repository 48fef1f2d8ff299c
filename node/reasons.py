"""Why an instance goes on exactly as it was received."""

from __future__ import annotations

import enum


class KeepReason(enum.StrEnum):
    """Why an instance went on exactly as it was received. The text is shown to people."""

    NO_PIXEL_DATA = "no pixel data"
    ALREADY_COMPRESSED = "already compressed"
    DEFLATED = "deflated data set"
    SIGNED = "digitally signed"
    FLOAT_PIXEL_DATA = "float pixel data"
    ONE_BIT = "one bit allocated"
    NOT_IN_TABLE = "not in PS3.5 Table 8.2.2-1"
    SUBSAMPLED = "chroma is subsampled"
    EMPTY_PIXEL_DATA = "pixel data of zero length"
    SHORT_PIXEL_DATA = "pixel data shorter than it should be"
    TRAILING_PIXEL_DATA = "pixel data longer than it should be"
    INCOMPLETE_DESCRIPTION = "pixel data not fully described"
    UNUSUAL_ENCODING = "could not be restored byte for byte"
    NOT_SMALLER = "would not get smaller"
    ENCODER_FAILED = "encoder failed"
    VERIFY_FAILED = "decoded pixels differed"
    DECODER_FAILED = "decoder failed"
    DECODER_MISSING = "no decoder installed"
    SWITCHED_OFF = "compression is off"
