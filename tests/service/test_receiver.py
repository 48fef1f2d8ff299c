"""When a receiver has nobody left."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from node.service.receiver import Receiver


class Server:
    """Says what it is asked for, one answer after the other."""

    def __init__(self, *answers: int) -> None:
        self._answers = list(answers)

    @property
    def waiting(self) -> int:
        return self._answers.pop(0)

    active = waiting


@pytest.mark.parametrize(
    ("answers", "is_idle"),
    [
        ((0, 0, 0), True),
        ((1, 0, 0), False),  # at the door
        ((0, 1, 0), False),  # an association
        ((1, 0), False),  # who is let in while we look
        ((0, 0, 1), False),  # whose association ends while we look
    ],
)
def test_whoever_moves_while_it_is_looked_is_seen(answers: tuple[int, ...], is_idle: bool) -> None:
    receiver = SimpleNamespace(_servers=[Server(0, 0, 0), Server(*answers)])
    assert Receiver.is_idle.fget(receiver) is is_idle  # type: ignore[attr-defined]
