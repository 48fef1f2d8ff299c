"""What an answer to a C-STORE-RQ means for the entry, as a table."""

from __future__ import annotations

import pytest

from node.delivery.judging import judge
from node.model import Blame, Deferred, Delivered, Failed, Outcome
from node.network.sending import StoreResponse


def delivered(code: int, detail: str = "") -> Outcome:
    return Delivered(destination="pacs", status=code, detail=detail)


def deferred(cause: str, blame: Blame) -> Outcome:
    return Deferred(destination="pacs", cause=cause, blame=blame)


def failed(cause: str) -> Outcome:
    return Failed(destination="pacs", cause=cause)


ANSWERS: dict[int, Outcome] = {
    0x0000: delivered(0),
    0xB000: delivered(0xB000, "B000 (warning)"),
    0xB006: delivered(0xB006, "B006 (warning)"),
    0xB007: delivered(0xB007, "B007 (warning)"),
    0x0001: delivered(0x0001, "0001 (warning)"),
    0x0111: delivered(0x0111, "0111 (duplicate SOP instance)"),
    0xA700: deferred("A700 (out of resources)", Blame.ROOM),
    0xA701: deferred("A701 (out of resources)", Blame.ROOM),
    0x0124: deferred("0124 (not authorised)", Blame.SETTINGS),
    0xA900: failed("A900 (data set does not match SOP class)"),
    0xC000: deferred("C000 (cannot understand)", Blame.INSTANCE),
    0xC123: deferred("C123 (cannot understand)", Blame.INSTANCE),
    0x0110: deferred("0110 (cannot understand)", Blame.INSTANCE),
    0x4711: deferred("4711 (unknown)", Blame.INSTANCE),
    0xFE00: deferred("FE00 (unknown)", Blame.INSTANCE),
    0x0122: failed("0122 (refused for good)"),
    0x0117: failed("0117 (refused for good)"),
    0x0211: failed("0211 (refused for good)"),
    0x0212: failed("0212 (refused for good)"),
}


@pytest.mark.parametrize("code", ANSWERS, ids=lambda code: f"{code:04X}")
def test_answer(code: int) -> None:
    assert judge("pacs", StoreResponse(code)) == ANSWERS[code]


def test_the_comment_of_the_archive_is_passed_on() -> None:
    assert judge("pacs", StoreResponse(0x0122, "no MR here")) == failed(
        "0122 (refused for good): no MR here"
    )
