"""Reading the settings file: its values, and the `File` that knows where they stand.

Raises `InputMissing` where there is no such file, and `BadConfiguration` for what cannot be read,
is not UTF-8, or is not TOML; the last with the line and the column.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from node.errors import BadConfiguration, InputMissing
from node.settings.locate import Span
from node.settings.problems import show
from node.settings.sources import File

_SYNTAX_ERROR = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|.*)\)")

#: What people meant, as a rule, where tomllib says so.
_HINTS = {
    "Invalid value": 'text stands in quotes, as in ae_title = "DCMPRESS"',
    "Cannot overwrite a value": "a setting is given once in a section",
    "Cannot declare": "a section begins once; each one of a list has [[two brackets]]",
    "Expected '='": "a setting is written key = value",
    "Unescaped '\\'": "write a backslash twice, or put the text in 'single quotes'",
}


def read_file(path: Path) -> tuple[File, dict[str, Any]]:
    """Return a settings file and its values."""
    text = _text_of(path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfiguration(_syntax_error(str(path), text, str(error))) from None
    except RecursionError:
        raise BadConfiguration(f"{path}: error: brackets within brackets without end") from None
    return File.of(str(path), text), values


def _text_of(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputMissing(f"there is no settings file {path}") from None
    except OSError as error:
        raise BadConfiguration(f"cannot read {path}: {error.strerror}") from None
    try:
        # Windows editors put a byte order mark in front, which TOML does not know.
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadConfiguration(f"{path}:{line}: error: this line is not UTF-8 text") from None


def _syntax_error(name: str, text: str, message: str) -> str:
    lines = text.rstrip("\n").split("\n")
    found = _SYNTAX_ERROR.fullmatch(message)
    what = found["what"] if found else message
    end = (len(lines), len(lines[-1]) + 1)  # where tomllib says only "at end of document"
    line, column = (int(found["line"]), int(found["column"])) if found and found["line"] else end
    span = Span(line, column, 1)
    if what.startswith("Cannot"):  # said of a whole statement, after it was read
        statement = lines[line - 1].strip()
        span = Span(line, lines[line - 1].index(statement) + 1, len(statement))
    hint = next((hint for beginning, hint in _HINTS.items() if what.startswith(beginning)), "")
    place = File(name, tuple(lines), {}).place_of(span)
    return show(place, f"this is not TOML: {what[:1].lower()}{what[1:]}", hint)
