"""UIDs: what is one (PS3.5 9.1), which are ours, which transfer syntaxes are native.

Pure tables and functions.
"""

from __future__ import annotations

import re
from functools import cache

#: Our own root is derived from a UUID (PS3.5 B.2), so that no registration is needed.
IMPLEMENTATION_CLASS_UID = "2.25.22757264781493586154741826019997866708"
#: Seen in every peer's log: 1 to 16 characters (PS3.7 D.3.3.2).
IMPLEMENTATION_VERSION_NAME = "DCMPRESS_0_1"
#: Owner of our record in (0002,0102) Private Information (PS3.10 7.1).
PRIVATE_INFORMATION_CREATOR_UID = "2.25.229233351007055361805628121718513240870"

IMPLICIT_VR_LE = "1.2.840.10008.1.2"
EXPLICIT_VR_LE = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LE = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BE = "1.2.840.10008.1.2.2"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"
JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"

#: Lossless encapsulated ones that this program encodes in, as settings name them (PS3.6 A-1).
ENCODED_IN = {
    "RLELossless": RLE_LOSSLESS,
    "JPEGLSLossless": JPEG_LS_LOSSLESS,
    "JPEG2000Lossless": JPEG_2000_LOSSLESS,
    "HTJ2KLossless": HTJ2K_LOSSLESS,
}

#: Deflated data sets; JPIP Referenced Deflate and JPIP HTJ2K Referenced Deflate are so too (PS3.5
#: A.5, A.7, A.12).
DEFLATED = frozenset({DEFLATED_EXPLICIT_VR_LE, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
#: Uncompressed pixel data in a data set that is not deflated (PS3.5 A.1 to A.3).
NATIVE = frozenset({IMPLICIT_VR_LE, EXPLICIT_VR_LE, EXPLICIT_VR_BE})

_CHARACTERS = re.compile(r"[0-9]+(\.[0-9]+)*\Z")


def is_uid(value: str) -> bool:
    """Tell whether `value` may stand as a UID and so as a file name: digits and dots, at most 64.

    Leading zeros in a component are against PS3.5 9.1 but harmless and seen in the field, so they
    pass; anything that could be a path, and anything empty, does not.
    """
    return 0 < len(value) <= 64 and _CHARACTERS.match(value) is not None


@cache
def _transfer_syntaxes() -> frozenset[str]:
    from pydicom._uid_dict import UID_dictionary

    return frozenset(uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax")


def is_registered_transfer_syntax(uid: str) -> bool:
    """Tell whether `uid` is a transfer syntax of the Standard (PS3.6 Table A-1)."""
    return uid in _transfer_syntaxes()


def name_of(uid: str) -> str:
    """Return the registered name of `uid`, or the UID itself where there is none."""
    from pydicom.uid import UID  # for messages only: it takes longer than the work itself

    return UID(uid).name
