"""The layers that settings come from, each knowing where in it a setting was written.

A source answers for the settings it `covers` with their `place`. A `File` is a TOML text; `Words`
are settings given one by one, by variables of the environment or options of the command line.
Pure: they are made from what others read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from node.errors import BadConfiguration
from node.settings.locate import KeyPath, Mark, Span, locate
from node.settings.problems import Aspect, Place


class Source(Protocol):
    """One layer of settings."""

    def covers(self, path: KeyPath) -> bool:
        """Tell whether this layer says something about that setting."""

    def place(self, path: KeyPath, aspect: Aspect) -> Place:
        """Return where a setting that this layer covers was written."""


@dataclass(frozen=True)
class File:
    """A TOML file, already accepted by `tomllib`."""

    name: str
    lines: tuple[str, ...]
    marks: Mapping[KeyPath, Mark]

    @classmethod
    def of(cls, name: str, text: str) -> File:
        """Find the marks of a text."""
        return cls(name, tuple(text.split("\n")), locate(text))

    def covers(self, path: KeyPath) -> bool:
        """See `Source`."""
        return path in self.marks

    def place(self, path: KeyPath, aspect: Aspect) -> Place:
        """See `Source`."""
        mark = self.marks[path]
        return self.place_of(mark.key if aspect is Aspect.KEY else mark.value)

    def place_of(self, span: Span) -> Place:
        """Return the place of any stretch of this file."""
        line = self.lines[span.line - 1] if span.line <= len(self.lines) else ""
        name = f"{self.name}:{span.line}:{span.column}"
        return Place(name, (span.line, span.column), line, span.column, span.width)


@dataclass(frozen=True, slots=True)
class Word:
    """One setting as it was written outside a file: `NAME=value` or `--option value`."""

    name: str
    between: str
    text: str


@dataclass(frozen=True)
class Words:
    """Settings given one by one: the environment's variables, or the command line's options."""

    words: Mapping[KeyPath, Word]

    def covers(self, path: KeyPath) -> bool:
        """See `Source`. A list that was given whole covers all that is in it."""
        return self._given(path) is not None

    def place(self, path: KeyPath, aspect: Aspect) -> Place:
        """See `Source`."""
        given = self._given(path)
        assert given is not None, path
        word = self.words[given]
        before = f"{word.name}{word.between}"
        order = (list(self.words).index(given), 0)
        if aspect is Aspect.KEY:
            return Place(word.name, order, before + word.text, 1, len(word.name))
        width = max(len(word.text), 1)
        return Place(word.name, order, before + word.text, len(before) + 1, width)

    def _given(self, path: KeyPath) -> KeyPath | None:
        """Return the longest beginning of `path` that was given."""
        beginnings = (path[:length] for length in range(len(path), 0, -1))
        return next((beginning for beginning in beginnings if beginning in self.words), None)


def require_utf8(name: str, text: str) -> None:
    """Raise `BadConfiguration` for what came from outside Python and is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadConfiguration(f"{name}: error: this is not UTF-8 text") from None
