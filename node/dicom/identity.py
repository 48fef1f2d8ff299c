"""Which instance an encoded data set is: the UIDs that say so, checked.

A deflated data set (PS3.5 A.5) is inflated here for its UIDs only, within a bound, and what comes
out is thrown away: it is always stored as the bytes that came.

Raises `CannotUnderstand`, `DataSetMismatch`, `InvalidSOPInstance` and, where a data set inflates
beyond the bound, `OutOfResources`, each with the status that the requestor gets.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from node.dicom.encoded import EncodedDataSet
from node.dicom.layout import Buffer
from node.dicom.scan import scan
from node.dicom.uids import DEFLATED, EXPLICIT_VR_LE, is_uid
from node.dicom.walk import Release, keep
from node.errors import CannotUnderstand, DataSetMismatch, InvalidSOPInstance, OutOfResources

#: A structured report or segmentation is far smaller inflated; a bomb is far larger.
LARGEST_INFLATED = 64 << 20


class Identity(NamedTuple):
    """The UIDs of one instance. "" where the data set has no such element or no value in it."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str


def identity_of(data_set: EncodedDataSet) -> Identity:
    """Return the UIDs of a scanned data set."""
    return Identity(
        sop_class_uid=data_set.sop_class_uid or "",
        sop_instance_uid=data_set.sop_instance_uid or "",
        study_instance_uid=data_set.study_instance_uid or "",
        series_instance_uid=data_set.series_instance_uid or "",
        modality=data_set.modality or "",
    )


def scan_any(data: Buffer, transfer_syntax_uid: str, release: Release = keep) -> EncodedDataSet:
    """Scan a data set in whatever transfer syntax; of a deflated one, what it inflates to."""
    if transfer_syntax_uid not in DEFLATED:
        return scan(data, transfer_syntax_uid, release=release)
    return scan(_inflated(data), EXPLICIT_VR_LE)


def _inflated(data: Buffer) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(data, LARGEST_INFLATED)
    except zlib.error as failure:
        raise CannotUnderstand("the deflated data set cannot be inflated") from failure
    # All input may have been taken while there is still more to come out.
    if inflater.unconsumed_tail or (len(inflated) == LARGEST_INFLATED and not inflater.eof):
        raise OutOfResources(f"the data set inflates to more than {LARGEST_INFLATED} bytes")
    return inflated


def check(identity: Identity, sop_class_uid: str, sop_instance_uid: str) -> None:
    """Compare what a C-STORE-RQ says of an instance with its data set (PS3.4 B.2.3, PS3.7 9.1.1).

    A Study or Series Instance UID may be missing, since a router must not lose what an archive
    would mend; what is there must be a UID, because it becomes the name of a folder.
    """
    if not identity.sop_class_uid or not identity.sop_instance_uid:
        raise CannotUnderstand("the data set has no SOP Class UID or no SOP Instance UID")
    _require_uids(identity, sop_class_uid, sop_instance_uid)
    if identity.sop_class_uid != sop_class_uid:
        raise DataSetMismatch("SOP Class UID differs between command and data set")
    if identity.sop_instance_uid != sop_instance_uid:
        raise DataSetMismatch("SOP Instance UID differs between command and data set")


def _require_uids(identity: Identity, sop_class_uid: str, sop_instance_uid: str) -> None:
    """Raise `InvalidSOPInstance` with the name of what is no UID, in at most 64 characters."""
    named = {
        "Affected SOP Class UID (0000,0002)": sop_class_uid,
        "Affected SOP Instance UID (0000,1000)": sop_instance_uid,
        "SOP Class UID (0008,0016)": identity.sop_class_uid,
        "SOP Instance UID (0008,0018)": identity.sop_instance_uid,
        "Study Instance UID (0020,000D)": identity.study_instance_uid,
        "Series Instance UID (0020,000E)": identity.series_instance_uid,
    }
    for name, value in named.items():
        if value and not is_uid(value):
            raise InvalidSOPInstance(f"{name} is no UID")
