"""What a hostile or odd peer sends back, and what is counted and logged of what was refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from node.network.sending import _comment_of


@pytest.mark.parametrize(
    ("comment", "kept"),
    [
        (None, ""),
        ("disk full", "disk full"),
        ("\x1b[2J" + "\n" * 60_000, "[2J"),
        ("x" * 60_000, "x" * 64),
    ],
)
def test_comment_of_a_peer_is_short_and_printable(comment: str | None, kept: str) -> None:
    assert _comment_of(SimpleNamespace(ErrorComment=comment)) == kept
