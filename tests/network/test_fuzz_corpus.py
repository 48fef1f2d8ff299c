"""A short run of the PDU fuzzer with the same random numbers every time."""

from __future__ import annotations

import random

import pytest
from fuzz.fuzz_pdu import CAUGHT, listening_for_errors, mutated, one


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_whatever_arrives_is_answered_or_closed() -> None:
    rng = random.Random(7)
    with listening_for_errors():
        for _ in range(1500):
            one(mutated(rng))
    assert not CAUGHT
