"""Settings from the environment: `DCMPRESS__SECTION__KEY`, in any case.

A setting that takes text gets the variable as it is; any other is read as TOML would read it, so
`DCMPRESS__NODE__PORT=104` is a number and `DCMPRESS__NODE__ANY_PEER=true` is true. A list is
given whole: `DCMPRESS__PEER='[{ae_title = "CT1", address = "10.0.0.5"}]'`. An empty variable
counts as not set, for that is what `${NAME:-}` in a compose file makes of one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from node.settings.locate import KeyPath
from node.settings.schema import choices_of
from node.settings.sources import Word, Words, require_utf8
from node.settings.whole import SECTIONS

PREFIX = "DCMPRESS__"


def read_environment(environ: Mapping[str, str]) -> tuple[Words, dict[KeyPath, Any]]:
    """Return the variables that are meant for us, and the values they give."""
    words: dict[KeyPath, Word] = {}
    values: dict[KeyPath, Any] = {}
    for name in sorted(environ):
        text = environ[name]
        if name.upper().startswith(PREFIX) and text:
            require_utf8(name, text)
            path = tuple(name[len(PREFIX) :].lower().split("__"))
            words[path] = Word(name, "=", text)
            values[path] = text if _takes_text(path) else _as_toml(text)
    return Words(words), values


def _takes_text(path: KeyPath) -> bool:
    model = SECTIONS.get(str(path[0]))
    field = model.model_fields.get(str(path[-1])) if model else None
    if field is None:
        return False
    choices = choices_of(field)
    return field.annotation in (str, Path) or (
        bool(choices) and all(isinstance(choice, str) for choice in choices)
    )


def _as_toml(text: str) -> Any:
    """Read a value as TOML, or as bare text where it is none; the schema judges either."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
