"""Which presentation contexts are accepted and proposed, as tables."""

from __future__ import annotations

import itertools

import pytest
from pynetdicom import AllStoragePresentationContexts

from node.dicom.contexts import (
    MOST_CONTEXTS,
    VERIFICATION,
    Proposal,
    Wanted,
    accepts,
    in_preferred_order,
    propose,
)
from node.dicom.uids import EXPLICIT_VR_BE, EXPLICIT_VR_LE, IMPLICIT_VR_LE, RLE_LOSSLESS

STORAGE = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
JPEG, J2K = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"

ACCEPTED = {
    "CT": CT,
    "Verification": VERIFICATION,
    "Ultrasound, retired, still sent by old modalities": "1.2.840.10008.5.1.4.1.1.6",
    "Ultrasound multi-frame, retired": "1.2.840.10008.5.1.4.1.1.3",
    "Nuclear Medicine, retired": "1.2.840.10008.5.1.4.1.1.5",
    "Standalone Overlay, retired": "1.2.840.10008.5.1.4.1.1.8",
    "X-Ray biplane, retired": "1.2.840.10008.5.1.4.1.1.12.3",
    "retired and without a name": "1.2.840.10008.5.1.4.1.1.12.77",
    "DICOS CT": "1.2.840.10008.5.1.4.1.1.501.1",
    "Color Palette": "1.2.840.10008.5.1.4.39.1",
    "Hanging Protocol": "1.2.840.10008.5.1.4.38.1",
    "Generic Implant Template": "1.2.840.10008.5.1.4.43.1",
    "of a later edition": "1.2.840.10008.5.1.4.1.1.999.9",
    "private": "1.2.826.0.1.3680043.9.7433.99.1",
    "private, by UUID": "2.25.329800735698586629295641978511506172918",
}
NOT_ACCEPTED = {
    "Patient Root query": "1.2.840.10008.5.1.4.1.2.1.1",
    "Study Root retrieve": "1.2.840.10008.5.1.4.1.2.2.2",
    "Worklist": "1.2.840.10008.5.1.4.31",
    "Storage Commitment": "1.2.840.10008.1.20.1",
    "Modality Performed Procedure Step": "1.2.840.10008.3.1.2.3.3",
    "Basic Film Session": "1.2.840.10008.5.1.1.1",
    "a directory of media": "1.2.840.10008.1.3.10",
    "a query beside a storage class": "1.2.840.10008.5.1.4.1.1.201.2",
    "Hanging Protocol query": "1.2.840.10008.5.1.4.38.2",
    "a transfer syntax": IMPLICIT_VR_LE,
    "a well-known instance": "1.2.840.10008.5.1.4.1.1.201.1.1",
    "no UID": "CT Image Storage",
    "a path": "../../etc/passwd",
    "nothing": "",
    "too long": "1." + "2" * 63,
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(case: str) -> None:
    assert accepts(ACCEPTED[case], STORAGE)


@pytest.mark.parametrize("case", NOT_ACCEPTED)
def test_not_accepted(case: str) -> None:
    assert not accepts(NOT_ACCEPTED[case], STORAGE)


def test_every_storage_class_that_pynetdicom_knows_is_accepted() -> None:
    assert all(accepts(uid, STORAGE) for uid in STORAGE)


@pytest.mark.parametrize(
    "offered",
    list(itertools.permutations([JPEG, IMPLICIT_VR_LE, EXPLICIT_VR_LE, EXPLICIT_VR_BE])),
)
def test_native_comes_first_whatever_the_order(offered: tuple[str, ...]) -> None:
    assert in_preferred_order(offered) == [EXPLICIT_VR_LE, IMPLICIT_VR_LE, EXPLICIT_VR_BE, JPEG]


def test_compressed_ones_stay_in_the_order_of_the_requestor() -> None:
    assert in_preferred_order([J2K, "1.2.3.4", JPEG]) == [J2K, "1.2.3.4", JPEG]


PROPOSED: dict[str, tuple[list[Wanted], list[Proposal]]] = {
    "nothing": ([], []),
    "one transfer syntax a context": (
        [Wanted(CT, (RLE_LOSSLESS, IMPLICIT_VR_LE))],
        [Proposal(CT, RLE_LOSSLESS), Proposal(CT, IMPLICIT_VR_LE)],
    ),
    "no doubles": (
        [Wanted(CT, (RLE_LOSSLESS, IMPLICIT_VR_LE)), Wanted(CT, (IMPLICIT_VR_LE, JPEG))],
        [Proposal(CT, RLE_LOSSLESS), Proposal(CT, IMPLICIT_VR_LE), Proposal(CT, JPEG)],
    ),
    "the first wanted first": (
        [Wanted(MR, (JPEG,)), Wanted(CT, (JPEG,))],
        [Proposal(MR, JPEG), Proposal(CT, JPEG)],
    ),
}


@pytest.mark.parametrize("case", PROPOSED)
def test_proposed(case: str) -> None:
    wanted, proposals = PROPOSED[case]
    assert propose(wanted) == proposals


def test_an_association_proposes_no_more_than_it_can() -> None:
    many = [Wanted(f"1.2.{n}", (RLE_LOSSLESS, EXPLICIT_VR_LE, IMPLICIT_VR_LE)) for n in range(50)]
    proposals = propose(many)
    # Whole instances only: 42 of three contexts each, two contexts stay free.
    assert len(proposals) == 126 <= MOST_CONTEXTS
    assert proposals[-1] == Proposal("1.2.41", IMPLICIT_VR_LE)
    assert propose(many[:42]) == proposals
