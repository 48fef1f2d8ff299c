"""What is wrong with the settings, and how it is shown to the person who wrote them.

A `Problem` says what is wrong with which setting; a `Place` is where somebody wrote that setting:
in a file, an environment variable or an option. `show` puts both together:

    node.toml:4:8: error: port must be at most 65535, not 70000
        port = 70000
               ^^^^^
        hint: …
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from node.settings.locate import KeyPath


class Aspect(enum.Enum):
    """Which part of a setting is at fault."""

    KEY = "key"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Problem:
    """One error. Of several `paths` the first that somebody wrote is the one to show."""

    paths: tuple[KeyPath, ...]
    sentence: str
    hint: str = ""
    aspect: Aspect = Aspect.VALUE


@dataclass(frozen=True, slots=True)
class Place:
    """Where a setting was written: its name, and the stretch of its line to underline.

    `name` is `node.toml:4:8`, `DCMPRESS__NODE__PORT` or `--port`; `order` is for the places of one
    source. Without a `line` there is nothing to underline.
    """

    name: str
    order: tuple[int, int] = (0, 0)
    line: str = ""
    column: int = 1
    width: int = 1


def show(place: Place, sentence: str, hint: str = "") -> str:
    """Return an error as the lines to print."""
    lines = [f"{place.name}: error: {sentence}"]
    if place.line:
        # A tab before the stretch stays a tab, so that the caret stands under it anywhere.
        before = "".join("\t" if c == "\t" else " " for c in place.line[: place.column - 1])
        lines += [f"    {place.line.rstrip()}", f"    {before}{'^' * place.width}"]
    if hint:
        lines.append(f"    hint: {hint}")
    return "\n".join(lines)
