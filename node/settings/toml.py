"""Values as TOML shows them: for messages, for `config show`, for the documentation."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

from node.settings.values import quoted


def in_toml(value: Any) -> str:
    """Write one value as it would stand in the file."""
    match value:
        case bool():
            return "true" if value else "false"
        case str() | Path() | ipaddress.IPv4Network() | ipaddress.IPv6Network():
            return quoted(str(value))
        case float():
            return f"{value:.15g}"
        case list() | tuple():
            return f"[{', '.join(map(in_toml, value))}]"
        case dict():
            pairs = ", ".join(f"{key} = {in_toml(item)}" for key, item in value.items())
            return f"{{{pairs}}}"
        case _:
            return str(value)
