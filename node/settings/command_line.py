"""Settings from the command line: `{"node.port": 104}` and the destinations given as options.

A command passes its options as they are, those not given as None. Errors name the option, which
each setting declares beside its type.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from node.settings.locate import KeyPath
from node.settings.schema import fact
from node.settings.sources import Word, Words, require_utf8
from node.settings.values import PeerAddress, parse_peer
from node.settings.whole import SECTIONS

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]")


def read_command_line(overrides: Mapping[str, Any]) -> tuple[Words, dict[KeyPath, Any]]:
    """Return the options that were given, and their values."""
    words: dict[KeyPath, Word] = {}
    values: dict[KeyPath, Any] = {}
    for dotted, value in overrides.items():
        if value is None:
            continue
        path = tuple(dotted.split("."))
        require_utf8(option_of(path) or dotted, str(value))
        values[path] = value
        if path == ("destination",):
            words |= {(*path, index): _destination_word(d) for index, d in enumerate(value)}
        words[path] = Word(option_of(path) or dotted, " ", str(value))
    return Words(words), values


def option_of(path: KeyPath) -> str:
    """Return the option that stands for a setting, or nothing."""
    model = SECTIONS.get(str(path[0]))
    field = model.model_fields.get(str(path[-1])) if model else None
    return str(fact(field, "option") or "") if field else ""


def destinations(
    store: Path | str | None = None, to: Sequence[str] = (), relay: str | None = None
) -> list[dict[str, Any]] | None:
    """Return the override `destination` that `--store`, `--to` and `--relay` ask for.

    None when none of them was given. Raises `UsageError` for what is no `AET@HOST:PORT`.
    """
    found: list[dict[str, Any]] = []
    if store is not None:
        require_utf8("--store", str(store))
        found.append({"name": "store", "directory": store})
    found += [_network(parse_peer(text), "forward") for text in to]
    if relay is not None:
        found.append(_network(parse_peer(relay), "relay"))
    return found or None


def _network(peer: PeerAddress, mode: str) -> dict[str, Any]:
    return {
        "name": _name_of(peer),
        "ae_title": peer.ae_title,
        "host": peer.host,
        "port": peer.port,
        "mode": mode,
    }


def _name_of(peer: PeerAddress) -> str:
    """Return the same name for the same peer, run after run: its queue in the spool has it."""
    name = _NOT_IN_A_NAME.sub("-", f"{peer.ae_title}_{peer.host}_{peer.port}")
    if len(name) > 64:
        name = f"{name[:55]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name if not name.startswith(".") else f"-{name[1:]}"


def _destination_word(destination: Mapping[str, Any]) -> Word:
    if "directory" in destination:
        return Word("--store", " ", str(destination["directory"]))
    peer = PeerAddress(destination["ae_title"], destination["host"], destination["port"])
    return Word("--relay" if destination.get("mode") == "relay" else "--to", " ", str(peer))
