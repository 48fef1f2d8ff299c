"""What the tests of this room share."""

from __future__ import annotations

import pytest

from node.network import command_set, dimse, line, pdu_reader, repetition


@pytest.fixture
def without_kernel(monkeypatch) -> None:
    """Do in Python what the C extension does, as over TLS or where there is no compiler."""
    monkeypatch.setattr(pdu_reader, "KERNEL", None)
    monkeypatch.setattr(line, "KERNEL", None)
    monkeypatch.setattr(command_set, "_decode", command_set.decode_in_python)
    monkeypatch.setattr(command_set, "response", command_set.response_in_python)
    monkeypatch.setattr(dimse, "repeated", repetition.repeated_in_python)
