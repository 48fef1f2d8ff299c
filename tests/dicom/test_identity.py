"""Which instance a data set is, and whether it is the one that was announced."""

from __future__ import annotations

import zlib

import pytest
from elements import element, nested

from node.dicom import identity as room
from node.dicom.identity import Identity, check, identity_of, scan_any
from node.dicom.uids import DEFLATED_EXPLICIT_VR_LE, EXPLICIT_VR_LE, NATIVE
from node.errors import (
    CannotUnderstand,
    DataSetMismatch,
    InstanceRefused,
    InvalidSOPInstance,
    OutOfResources,
)

CT, UID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"
WHOLE = Identity(
    sop_class_uid=CT,
    sop_instance_uid=UID,
    study_instance_uid="1.2.3",
    series_instance_uid="1.2.3.1",
    modality="CT",
)


def padded(uid: str) -> str:
    return uid + "\0" * (len(uid) % 2)


def data_set(syntax: str, *, more: bytes = b"", **uids: str) -> bytes:
    values = {"sop": CT, "instance": UID, "study": "1.2.3", "series": "1.2.3.1"} | uids
    return b"".join(
        [
            element(syntax, 0x00080016, "UI", padded(values["sop"])),
            element(syntax, 0x00080018, "UI", padded(values["instance"])),
            element(syntax, 0x00080060, "CS", "CT"),
            element(syntax, 0x0020000D, "UI", padded(values["study"])),
            element(syntax, 0x0020000E, "UI", padded(values["series"])),
            more,
        ]
    )


@pytest.mark.parametrize("syntax", sorted(NATIVE))
def test_the_uids_are_read_in_every_native_transfer_syntax(syntax: str) -> None:
    assert identity_of(scan_any(data_set(syntax), syntax)) == WHOLE


def test_what_is_missing_is_empty() -> None:
    only = element(EXPLICIT_VR_LE, 0x00080018, "UI", "1.2\0")
    found = identity_of(scan_any(only, EXPLICIT_VR_LE))
    assert found == Identity(
        sop_class_uid="",
        sop_instance_uid="1.2",
        study_instance_uid="",
        series_instance_uid="",
        modality="",
    )


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def test_a_deflated_data_set_is_inflated_to_read_them() -> None:
    packed = deflated(data_set(EXPLICIT_VR_LE))
    assert identity_of(scan_any(packed, DEFLATED_EXPLICIT_VR_LE)) == WHOLE


DEFLATED_AND_BAD = {
    "garbage": b"\xff\xff\xff\xff",
    "cut off": deflated(data_set(EXPLICIT_VR_LE, more=nested(EXPLICIT_VR_LE, 9, True)))[:-20],
    "no stream": b"",
}


@pytest.mark.parametrize("case", DEFLATED_AND_BAD)
def test_a_deflated_data_set_that_cannot_be_inflated(case: str) -> None:
    def take() -> None:
        found = identity_of(scan_any(DEFLATED_AND_BAD[case], DEFLATED_EXPLICIT_VR_LE))
        check(found, CT, UID)

    with pytest.raises(CannotUnderstand):
        take()


def test_inflating_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the bound is at the end of an element, and all input was taken before it."""
    padding = element(EXPLICIT_VR_LE, 0xFFFCFFFC, "OB", bytes(600))
    whole = data_set(EXPLICIT_VR_LE, more=padding)
    monkeypatch.setattr(room, "LARGEST_INFLATED", len(whole))
    assert identity_of(scan_any(deflated(whole), DEFLATED_EXPLICIT_VR_LE)) == WHOLE
    for bound in range(1, len(whole)):
        monkeypatch.setattr(room, "LARGEST_INFLATED", bound)
        with pytest.raises(OutOfResources, match=f"inflates to more than {bound} bytes"):
            scan_any(deflated(whole), DEFLATED_EXPLICIT_VR_LE)


def changed(**fields: str) -> Identity:
    return WHOLE._replace(**fields)


REFUSED: dict[str, tuple[Identity, str, str, type[InstanceRefused], int]] = {
    "no SOP class": (changed(sop_class_uid=""), CT, UID, CannotUnderstand, 0xC000),
    "no SOP instance": (changed(sop_instance_uid=""), CT, UID, CannotUnderstand, 0xC000),
    "another class": (
        changed(sop_class_uid="1.2.840.10008.5.1.4.1.1.4"),
        CT,
        UID,
        DataSetMismatch,
        0xA900,
    ),
    "another instance": (changed(sop_instance_uid="1.2.3.5"), CT, UID, DataSetMismatch, 0xA900),
    "a path in the command": (WHOLE, CT, "../../x", InvalidSOPInstance, 0x0117),
    "a path as instance": (
        changed(sop_instance_uid="../../x"),
        CT,
        "../../x",
        InvalidSOPInstance,
        0x0117,
    ),
    "a path as study": (changed(study_instance_uid="../.."), CT, UID, InvalidSOPInstance, 0x0117),
    "a path as series": (changed(series_instance_uid="/etc"), CT, UID, InvalidSOPInstance, 0x0117),
    "65 characters": (
        changed(study_instance_uid="1." + "1" * 63),
        CT,
        UID,
        InvalidSOPInstance,
        0x0117,
    ),
    "a line feed": (
        changed(study_instance_uid="1.2\n"),
        CT,
        UID,
        InvalidSOPInstance,
        0x0117,
    ),
    "a NUL inside": (changed(study_instance_uid="1\x002"), CT, UID, InvalidSOPInstance, 0x0117),
    "two dots": (changed(study_instance_uid="1..2"), CT, UID, InvalidSOPInstance, 0x0117),
    "digits of another script": (
        changed(study_instance_uid="1.\u0662"),
        CT,
        UID,
        InvalidSOPInstance,
        0x0117,
    ),
}
TAKEN = {
    "as it should be": WHOLE,
    "no study": changed(study_instance_uid=""),
    "no series": changed(series_instance_uid=""),
    "no modality": changed(modality=""),
    "a leading zero, as seen in the field": changed(study_instance_uid="1.02.3"),
    "64 characters": changed(study_instance_uid="1." + "1" * 62),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    found, sop_class, sop_instance, failure, status = REFUSED[case]
    with pytest.raises(failure) as raised:
        check(found, sop_class, sop_instance)
    assert raised.value.dimse_status == status
    assert sop_instance not in str(raised.value)


@pytest.mark.parametrize("case", TAKEN)
def test_taken(case: str) -> None:
    check(TAKEN[case], CT, UID)
