"""Settings as TOML shows them: one value for messages and documentation, or all as a file."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from node.settings.values import in_short, quoted


def in_toml(value: Any) -> str:
    """Write one value as it would stand in the file."""
    match value:
        case bool():
            return "true" if value else "false"
        case str() | Path():
            return quoted(str(value))
        case ipaddress.IPv4Network() | ipaddress.IPv6Network():
            return quoted(in_short(value))
        case float():
            return f"{value:.15g}"
        case list() | tuple():
            return f"[{', '.join(map(in_toml, value))}]"
        case dict():
            pairs = ", ".join(f"{key} = {in_toml(item)}" for key, item in value.items())
            return f"{{{pairs}}}"
        case _:
            return str(value)


def as_file(tables: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    """Write tables and lists of tables as a file, with the origin of each value that has one."""
    blocks = []
    for name, content in tables.items():
        if isinstance(content, list):
            for index, table in enumerate(content):
                blocks.append(_block(f"[[{name}]]", f"{name}[{index}]", table, origins))
        else:
            blocks.append(_block(f"[{name}]", name, content, origins))
    return "\n\n".join(blocks) + "\n"


def _block(header: str, path: str, table: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    # TOML has no null: a setting without a value is one that is not written.
    pairs = {key: f"{key} = {in_toml(value)}" for key, value in table.items() if value is not None}
    width = max(map(len, pairs.values()), default=0)
    return "\n".join([header, *_lines(pairs, path, width, origins)])


def _lines(
    pairs: Mapping[str, str], path: str, width: int, origins: Mapping[str, str]
) -> Iterator[str]:
    for key, pair in pairs.items():
        origin = origins.get(f"{path}.{key}")
        yield f"{pair:<{width}}  # {origin}" if origin else pair
