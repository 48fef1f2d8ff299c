"""The settings shown to people: the README's table, and the commented file `config/node.toml`.

Both are made from `schema` alone, so they cannot say anything else than what holds. `python -m
node.settings` prints the table to paste into the README, `dcmpress config init` the file; tests
compare what is committed with what is printed.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from node.settings.schema import (
    DiskDestination,
    NetworkDestination,
    Peer,
    Section,
    choices_of,
    fact,
)
from node.settings.toml import in_toml
from node.settings.values import alternatives
from node.settings.whole import LISTS, SECTIONS

_WIDTH = 98

_OPENING = """\
# The settings of dcmpress, all of them, with their defaults: a file with nothing in it does the
# same as this one. A line that begins with # and no space after it is a setting to uncomment.
#
# Check a file with `dcmpress check node.toml`; see where each value comes from with
# `dcmpress config show node.toml --origin`. A variable of the environment, as
# DCMPRESS__NODE__PORT=104, counts more than this file, and an option of the command line more
# than both. A relative path begins in the working directory."""

_WITHOUT_DESTINATION = """\
# Where instances go. Each goes to every destination. Without any, they go to the folder
# ./received, as destination "received". A destination is a folder or a peer, by its settings."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting, in words."""

    key: str
    field: FieldInfo

    @property
    def help(self) -> str:
        """What it does and why."""
        return self.field.description or ""

    @property
    def default(self) -> str:
        """Its default as the file would have it, or in words."""
        if text := self.fact("default_text"):
            return str(text)
        return "required" if self.field.is_required() else in_toml(self.field.default)

    @property
    def range(self) -> str:
        """What it can be, with its unit."""
        if text := self.fact("values"):
            return str(text)
        if choices := choices_of(self.field):
            return alternatives(map(in_toml, choices))
        if self.field.annotation is bool:
            return "true or false"
        bounds = [getattr(m, name) for m in self.field.metadata for name in _bounds_of(m)]
        return f"{' to '.join(map(in_toml, bounds))} {self.fact('unit') or ''}".rstrip()

    @property
    def example(self) -> str:
        """A value to show: the default, or an example where there is none to write down."""
        example = self.fact("example")
        return in_toml(self.field.default if example is None else example)

    @property
    def has_plain_default(self) -> bool:
        """Tell whether the default can be written down, and is the same everywhere."""
        return self.fact("example") is None

    def fact(self, name: str) -> Any:
        """Return what the declaration says for readers under that name."""
        return fact(self.field, name)


def entries(model: type[Section]) -> list[Entry]:
    """Return the settings of a section, what is its own before what all destinations share."""
    fields = [Entry(key, field) for key, field in model.model_fields.items()]
    return sorted(fields, key=lambda entry: entry.key.startswith("retry_"))


def markdown() -> str:
    """Return all settings as a table in Markdown."""
    lines = ["| Setting | Default | Can be | What it does |", "|---|---|---|---|"]
    for name, entry in _every_entry():
        default = entry.default if entry.fact("default_text") else f"`{entry.default}`"
        default = "required" if entry.field.is_required() else default
        row = (f"`{name}.{entry.key}`", default, entry.range, entry.help)
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |")
    return "\n".join(lines) + "\n"


def commented_file() -> str:
    """Return the settings file with everything in it, explained."""
    blocks = [_OPENING, _section("node"), _element("peer", Peer)]
    blocks += [_section(name) for name in ("tls", "identity", "limits", "compression", "spool")]
    blocks += [_WITHOUT_DESTINATION]
    blocks += [
        _element("destination", DiskDestination, name="archive"),
        _element("destination", NetworkDestination, name="pacs"),
    ]
    blocks += [_section(name) for name in ("status", "log", "audit")]
    return "\n\n".join(blocks) + "\n"


def _every_entry() -> Iterator[tuple[str, Entry]]:
    for name, model in SECTIONS.items():
        yield from ((name, entry) for entry in entries(model))
    for name, models in LISTS.items():
        seen: dict[str, Entry] = {}
        for model in models:
            seen |= {entry.key: entry for entry in entries(model) if entry.key not in seen}
        yield from ((name, entry) for entry in seen.values())


def _section(name: str) -> str:
    """Return a section, its settings live unless the default differs from machine to machine."""
    blocks = [_heading(f"[{name}]", SECTIONS[name])]
    for entry in entries(SECTIONS[name]):
        mark = "" if entry.has_plain_default else "#"
        blocks.append(f"{_explained(entry)}\n{mark}{entry.key} = {entry.example}")
    return "\n\n".join(blocks)


def _element(list_name: str, model: type[Section], **examples: str) -> str:
    """Return an element of a list, all of it to uncomment."""
    blocks = [_heading(f"#[[{list_name}]]", model)]
    for entry in entries(model):
        example = in_toml(examples[entry.key]) if entry.key in examples else entry.example
        blocks.append(f"{_explained(entry)}\n#{entry.key} = {example}")
    return "\n\n".join(blocks)


def _heading(header: str, model: type[Section]) -> str:
    return f"{_comment(model.__doc__ or '')}\n{header}"


def _explained(entry: Entry) -> str:
    """Return what a setting does, its default, its range and its option, as comments."""
    default = "Required." if entry.field.is_required() else f"Default: {entry.default}."
    facts = f"{default} Can be: {entry.range}."
    if option := entry.fact("option"):
        facts += f" Option: {option}."
    return f"{_comment(entry.help)}\n{_comment(facts)}"


def _comment(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")


def _bounds_of(constraint: object) -> list[str]:
    return [name for name in ("ge", "le") if hasattr(constraint, name)]
