"""Log lines: what a peer sent cannot begin one, fill one, or come so often that nothing else is
read.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from node.service.logs import Flood, JSONFormatter, TextFormatter


def record(message: str, *args: object, level: int = logging.WARNING, line: int = 1) -> Any:
    return logging.LogRecord("node", level, "place.py", line, message, args, None)


def test_warnings_of_one_place_are_bounded_and_counted() -> None:
    now = [1000.0]
    flood = Flood(lambda: now[0])
    told = [each for _ in range(1000) if flood.filter(each := record("%s%%: bad", "x"))]
    assert len(told) == 600
    assert told[0].getMessage() == "x%: bad"
    assert told[-1].getMessage() == "x%: bad (more lines like this are left out for now)"
    # Of another place, and what is no warning, there may be as many.
    assert flood.filter(record("another", line=2))
    assert all(flood.filter(record("sent", level=logging.INFO)) for _ in range(1000))
    now[0] += 60
    assert flood.filter(again := record("%s%%: bad", "y"))
    assert again.getMessage() == "y%: bad (400 lines like this were left out before it)"
    assert flood.filter(more := record("z"))
    assert more.getMessage() == "z"


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[31mb", "a\u202eb", "a\rb", "\udcff"])
def test_a_line_is_one_line_and_can_be_printed(text: str) -> None:
    shown = TextFormatter().format(record("%s", text))
    assert all(line.isprintable() for line in shown.split("\n"))
    assert all(line.startswith("    ") for line in shown.split("\n")[1:])
    shown.encode("ascii")
    assert "\n" not in JSONFormatter().format(record("%s", text))


def test_a_long_line_is_cut() -> None:
    assert len(TextFormatter().format(record("%s", "x" * 100_000))) < 4200
    assert len(json.loads(JSONFormatter().format(record("%s", "x" * 100_000)))["message"]) == 4000
