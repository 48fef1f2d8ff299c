"""Which transfer syntaxes can be decoded here, and what to install for the others.

Decoding what others have encoded is pydicom's work and that of its plugins.
"""

from __future__ import annotations

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from node.dicom.uids import name_of

#: The extra of our distribution that brings a decoder.
_EXTRA = {
    RLELossless: "",
    JPEGBaseline8Bit: "gdcm",
    JPEGExtended12Bit: "gdcm",
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "jpegls",
    JPEGLSNearLossless: "jpegls",
    JPEG2000Lossless: "jpeg2000",
    JPEG2000: "jpeg2000",
    HTJ2KLossless: "jpeg2000",
    HTJ2KLosslessRPCL: "jpeg2000",
    HTJ2K: "jpeg2000",
}


def missing_decoder(transfer_syntax_uid: str) -> str:
    """Return why `transfer_syntax_uid` cannot be decoded and what to do; "" where it can."""
    uid = UID(transfer_syntax_uid)
    try:
        if get_decoder(uid).is_available:
            return ""
    except NotImplementedError:
        return f"no decoder for {name_of(uid)} is known"
    advice = f": pip install 'dcmpress[{extra}]'" if (extra := _EXTRA.get(uid)) else ""
    return f"no decoder for {name_of(uid)} is installed{advice}"
