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

#: The distribution that brings a decoder.
_PACKAGE = {
    RLELossless: "",
    JPEGBaseline8Bit: "python-gdcm",
    JPEGExtended12Bit: "python-gdcm",
    JPEGLossless: "python-gdcm",
    JPEGLosslessSV1: "python-gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg-openjpeg",
    JPEG2000: "pylibjpeg-openjpeg",
    HTJ2KLossless: "pylibjpeg-openjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg-openjpeg",
    HTJ2K: "pylibjpeg-openjpeg",
}


def missing_decoder(transfer_syntax_uid: str) -> str:
    """Return why `transfer_syntax_uid` cannot be decoded and what to do; "" where it can."""
    uid = UID(transfer_syntax_uid)
    try:
        if get_decoder(uid).is_available:
            return ""
    except NotImplementedError:
        return f"no decoder for {name_of(uid)} is known"
    advice = f": pip install {package}" if (package := _PACKAGE.get(uid)) else ""
    return f"no decoder for {name_of(uid)} is installed{advice}"
