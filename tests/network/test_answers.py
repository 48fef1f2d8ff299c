"""What is remembered of requests, and what of a request may be used."""

from __future__ import annotations

import time

import pytest
from network.raw_peer import associate_rq, context
from pynetdicom.presentation import build_context

from node.dicom.uids import EXPLICIT_VR_LE, IMPLICIT_VR_LE
from node.network import association_request, request_primitive
from node.network.answers import LONGEST_REQUEST, Offer, is_repeatable, judged_pdu
from node.network.association_request import JudgedRequest
from node.network.store_scp import _supported

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
VERIFICATION = "1.2.840.10008.1.1"


def judged(*contexts: tuple[str, list[str]]) -> JudgedRequest:
    items = [
        context(1 + 2 * number, [abstract.encode()], [uid.encode() for uid in transfer])
        for number, (abstract, transfer) in enumerate(contexts)
    ]
    return judged_pdu(associate_rq(*items)[6:], False).judged


def as_text(offer: Offer) -> list[tuple[str, list[str]]]:
    return [(str(c.abstract_syntax), list(map(str, c.transfer_syntax))) for c in offer]


def test_what_may_be_used_is_what_was_proposed_in_our_order() -> None:
    request = judged(
        (CT, [IMPLICIT_VR_LE, EXPLICIT_VR_LE]),
        (VERIFICATION, [IMPLICIT_VR_LE]),
        ("1.2.840.10008.5.1.4.1.2.2.1", [IMPLICIT_VR_LE]),  # a query
        (CT, ["1.2.840.10008.1.2.4.70", IMPLICIT_VR_LE]),
    )
    assert as_text(_supported(request, None)) == [
        (CT, [EXPLICIT_VR_LE, IMPLICIT_VR_LE, "1.2.840.10008.1.2.4.70"]),
        (VERIFICATION, [IMPLICIT_VR_LE]),
    ]


def test_the_same_request_may_use_the_same_contexts_and_another_others() -> None:
    first, again = (judged((CT, [IMPLICIT_VR_LE]), (MR, [IMPLICIT_VR_LE])) for _ in range(2))
    assert _supported(first, None) is _supported(again, None)
    assert _supported(judged((CT, [IMPLICIT_VR_LE])), None) is not _supported(first, None)
    narrowed = _supported(first, lambda proposed: {MR: [IMPLICIT_VR_LE]})
    assert as_text(narrowed) == [(MR, [IMPLICIT_VR_LE])]


def test_what_a_long_request_may_use_is_not_remembered() -> None:
    many = [f"1.2.3.4.5.6.7.8.{number}" for number in range(200)]
    request = judged(*((CT, many) for _ in range(10)))
    assert len(request.body) > LONGEST_REQUEST
    assert not is_repeatable(request)
    assert _supported(request, None) is not _supported(request, None)


def test_names_are_read_without_what_pads_them() -> None:
    padded = judged((CT + "\0", [IMPLICIT_VR_LE + " "]))
    assert padded.proposed == ((CT, (IMPLICIT_VR_LE,)),)


def test_of_thousands_of_transfer_syntaxes_some_are_looked_at_and_in_no_time() -> None:
    many = [f"1.2.3.{number}" for number in range(16_000)]
    request = judged(*((CT, many[start : start + 2000]) for start in range(0, 16_000, 2000)))
    begun = time.monotonic()
    [offered] = as_text(_supported(request, None))
    assert time.monotonic() - begun < 1
    assert offered == (CT, many[:256])


@pytest.mark.parametrize("pad", [b"\0", b" "])
def test_padding_is_not_remembered(pad: bytes) -> None:
    """A peer that nobody knows yet could have us keep 65 kB for each name."""
    name = b"1.2.3.%d" % ord(pad)
    before = (
        association_request._is_uid.cache_info(),
        request_primitive._remembered_uid.cache_info(),
    )
    for count in range(50):
        assert association_request._names_uid(name + pad * count)
        assert request_primitive._uid(name + pad * count) == name.decode()
    assert not association_request._names_uid(b"1" * 65_000)
    after = association_request._is_uid.cache_info(), request_primitive._remembered_uid.cache_info()
    assert [b.misses - a.misses for a, b in zip(before, after, strict=True)] == [1, 1]


def test_an_offer_is_itself_and_no_other() -> None:
    offers = [Offer([build_context(CT)]) for _ in range(2)]
    assert offers[0].identity != offers[1].identity
