"""Where each key of a TOML file stands: key path -> line, column, width, of key and of value.

`tomllib` gives values without positions. `locate` walks the same text once more and reads only
its structure: headers, arrays of tables, dotted and quoted keys, inline tables, arrays. It takes
text that `tomllib` has accepted, so it decides nothing about validity and never raises on such
text. Lines and columns count from 1, columns in characters.

A path names the elements of an array by their index: `("destination", 1, "port")`. A table made
only by a dotted key (`[a.b]`, `a.b = 1`) has the position of the header or key that made it.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]

_BLANK = re.compile(r"[ \t]*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY_PART = re.compile(r""" "(?:[^"\\]|\\.)*" | '[^']*' | [A-Za-z0-9_-]+ """, re.VERBOSE)
_STRING = re.compile(
    r'''
      """ (?: [^\\] | \\. )*? "{3,5}     # up to two more quotes belong to the text
    | \'\'\' .*? \'{3,5}
    | " (?: [^"\\] | \\. )* "
    | ' [^']* '
    ''',
    re.VERBOSE | re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]*")  # a date with a space in it is one scalar


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one line."""

    line: int
    column: int
    width: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a setting's key and its value stand. A table from a header is its own value."""

    key: Span
    value: Span


def locate(text: str) -> dict[KeyPath, Mark]:
    """Return the marks of all keys and array elements in `text`, in the order they stand."""
    return _Scanner(text.replace("\r\n", "\n")).scan()


class _Scanner:
    """One pass over one text. `_at` is the offset of what is read next."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._marks: dict[KeyPath, Mark] = {}
        self._lengths: dict[KeyPath, int] = {}  # of arrays of tables

    def scan(self) -> dict[KeyPath, Mark]:
        table: KeyPath = ()
        while self._skip(_BLANK_LINES) < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._key_and_value(table)
        return self._marks

    def _header(self) -> KeyPath:
        start = self._at
        is_array = self._text.startswith("[[", start)
        self._at += 2 if is_array else 1
        parts = self._key()
        self._at += 2 if is_array else 1
        span = self._span(start, self._at)
        *parents, last = (part for part, _ in parts)
        path: KeyPath = ()
        for parent in parents:
            path = self._enter(path, parent, span)
        path = (*path, last)
        if is_array:
            self._mark(path, Mark(span, span))
            index = self._lengths.get(path, 0)
            self._lengths[path] = index + 1
            path = (*path, index)
        self._marks[path] = Mark(span, span)
        return path

    def _enter(self, path: KeyPath, part: str, span: Span) -> KeyPath:
        """Step into a table on the way of a header; of an array of tables, into its last one."""
        path = (*path, part)
        self._mark(path, Mark(span, span))
        return (*path, self._lengths[path] - 1) if path in self._lengths else path

    def _key_and_value(self, table: KeyPath) -> None:
        parts = self._key()
        self._at += 1  # the equals sign
        self._skip(_BLANK)
        start = self._at
        path = table
        for part, span in parts[:-1]:
            path = (*path, part)
            self._mark(path, Mark(span, span))
        last, key = parts[-1]
        path = (*path, last)
        self._value(path)
        self._mark(path, Mark(key, self._span(start, self._at)))

    def _key(self) -> list[tuple[str, Span]]:
        """Read a key and the blanks around it, up to its `=`, `]` or `]]`."""
        parts = []
        while True:
            self._skip(_BLANK)
            start = self._at
            token = self._take(_KEY_PART)
            parts.append((_unquoted(token), self._span(start, self._at)))
            self._skip(_BLANK)
            if self._text[self._at] != ".":
                return parts
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        match self._text[self._at]:
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case '"' | "'":
                self._take(_STRING)
            case _:
                self._at += len(self._take(_SCALAR, advance=False).rstrip())

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._text[self._skip(_BLANK_LINES)] != "]":
            start = self._at
            element = (*path, index)
            self._value(element)
            span = self._span(start, self._at)
            self._mark(element, Mark(span, span))
            index += 1
            self._skip_comma()
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while self._text[self._skip(_BLANK_LINES)] != "}":
            self._key_and_value(path)
            self._skip_comma()
        self._at += 1

    def _skip_comma(self) -> None:
        if self._text[self._skip(_BLANK_LINES)] == ",":
            self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> int:
        self._take(pattern)
        return self._at

    def _take(self, pattern: re.Pattern[str], *, advance: bool = True) -> str:
        found = pattern.match(self._text, self._at)
        token = found.group() if found else ""
        if advance:
            self._at += len(token)
        return token

    def _mark(self, path: KeyPath, mark: Mark) -> None:
        self._marks.setdefault(path, mark)

    def _span(self, start: int, end: int) -> Span:
        """Return the stretch from `start` to `end`, or to the end of the line where it begins."""
        before = self._text.rfind("\n", 0, start) + 1
        after = self._text.find("\n", start)
        end = min(end, after) if after >= 0 else end
        return Span(self._text.count("\n", 0, start) + 1, start - before + 1, max(end - start, 1))


def _unquoted(token: str) -> str:
    """Return the key that a bare or quoted token stands for, as `tomllib` reads it."""
    if token[:1] not in ('"', "'"):
        return token
    return next(iter(tomllib.loads(f"{token} = 0")))
