"""From the plain tables of TOML to `Settings`, or to the problems that are in the way.

`validate` looks at every section and at every element of a list by itself and then at what they
say together, so that one run finds every problem. pydantic does the checking; what it finds is
put into words here. Pure: no file, no environment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from node.settings.conflicts import conflicts, same_names
from node.settings.locate import KeyPath
from node.settings.problems import Aspect, Problem
from node.settings.schema import (
    Destination,
    DestinationSettings,
    DiskDestination,
    NetworkDestination,
    Peer,
    Section,
    choices_of,
    fact,
)
from node.settings.toml import in_toml
from node.settings.values import Unfit, alternatives, did_you_mean, quoted
from node.settings.whole import LISTS, SECTIONS, Settings

Problems = list[Problem]
S = TypeVar("S", bound=Section)
T = TypeVar("T")

_COMMON = frozenset(DestinationSettings.model_fields)
_OF_DISK = frozenset(DiskDestination.model_fields) - _COMMON
_OF_NETWORK = frozenset(NetworkDestination.model_fields) - _COMMON


def validate(values: Mapping[str, Any]) -> tuple[Settings | None, Problems]:
    """Return settings and no problems, or no settings and all problems."""
    unknown = values.keys() - SECTIONS.keys() - LISTS.keys()
    problems = [_unknown_section(name, values[name]) for name in unknown]
    parts: dict[str, Any] = {
        name: _section(model, values.get(name, {}), (name,), problems)
        for name, model in SECTIONS.items()
    }
    peers = _elements(values, "peer", _peer, problems)
    destinations = _elements(values, "destination", _destination, problems)
    problems += conflicts(
        parts["node"], peers, destinations, parts["status"], parts["tls"], parts["identity"]
    )
    problems += same_names(_names(values))
    if problems:
        return None, problems
    parts["peers"] = tuple(peers)
    if destinations:  # without any, the default one stands
        parts["destinations"] = tuple(destinations)
    return Settings.model_validate(parts), []


def _names(values: Mapping[str, Any]) -> list[object]:
    """Return the names of the destinations, as they are written, broken ones too."""
    tables = values.get("destination", [])
    if not isinstance(tables, list):
        return []
    return [table.get("name") if isinstance(table, dict) else None for table in tables]


def _elements(
    values: Mapping[str, Any],
    name: str,
    read: Callable[[dict[str, Any], KeyPath, Problems], T],
    problems: Problems,
) -> list[T | None]:
    """Read each table of a list. What is no list of tables counts as one broken table."""
    tables = values.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        hint = f"write [[{name}]], with two brackets, above the settings of each"
        problems.append(Problem(((name,),), f"{name} is a list of tables", hint))
        return [None]
    return [read(table, (name, index), problems) for index, table in enumerate(tables)]


def _peer(table: dict[str, Any], path: KeyPath, problems: Problems) -> Peer | None:
    return _section(Peer, table, path, problems)


def _destination(table: dict[str, Any], path: KeyPath, problems: Problems) -> Destination | None:
    """Tell by its keys whether it is a folder or a peer, and read it as that."""
    disk, network = _OF_DISK & table.keys(), [key for key in table if key in _OF_NETWORK]
    if disk and not network:
        return _section(DiskDestination, table, path, problems)
    if network and not disk:
        return _section(NetworkDestination, table, path, problems)
    unknown = [key for key in table if key not in _COMMON | _OF_DISK | _OF_NETWORK]
    problems += [_unknown_key(key, path, _COMMON | _OF_DISK | _OF_NETWORK) for key in unknown]
    common = {key: value for key, value in table.items() if key in _COMMON}
    _section(DestinationSettings, common, path, problems)
    if disk:
        problems.append(
            Problem(
                ((*path, network[0]),),
                f"{_called(path, table)} has both directory and {network[0]}",
                "a destination is a folder or a peer; make two of it",
                Aspect.KEY,
            )
        )
    elif not unknown:  # else the misspelt key is the cause
        problems.append(
            Problem(
                (path,),
                f"{_called(path, table)} says neither where to write nor whom to send to",
                "a folder takes directory; a peer takes ae_title, host and port",
                Aspect.KEY,
            )
        )
    return None


def _section(model: type[S], table: Any, path: KeyPath, problems: Problems) -> S | None:
    if not isinstance(table, dict):
        hint = f"write [{path[-1]}] on a line of its own, its settings below it"
        problems.append(Problem((path,), f"{path[-1]} is a section, not a setting", hint))
        return None
    try:
        return model.model_validate(table)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems += [_in_words(detail, model, table, path) for detail in details]
        return None


def _in_words(
    detail: ErrorDetails, model: type[Section], table: dict[str, Any], path: KeyPath
) -> Problem:
    key = str(detail["loc"][0])
    if detail["type"] == "extra_forbidden":
        return _unknown_key(key, path, model.model_fields)
    if detail["type"] == "missing":
        hint = f"add it, as in {key} = {in_toml(fact(model.model_fields[key], 'example'))}"
        return Problem((path,), f"{_called(path, table)} has no {key}", hint, Aspect.KEY)
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, Unfit):
        return Problem(((*path, key),), f"{key} {cause}", cause.hint)
    return Problem(((*path, key),), *_misfit(key, detail, choices_of(model.model_fields[key])))


_NEEDS_NO_QUOTES = re.compile(r"true|false|[+-]?[0-9][0-9_]*(\.[0-9]+)?")
_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
}


def _misfit(key: str, detail: ErrorDetails, choices: tuple[Any, ...]) -> tuple[str, str]:
    """Say what a value of the wrong type, or out of range, must be; and a hint if one helps."""
    context, given = detail.get("ctx", {}), detail["input"]
    hint = ""
    match detail["type"]:
        case "greater_than_equal":
            wanted = f"at least {in_toml(context['ge'])}"
        case "less_than_equal":
            wanted = f"at most {in_toml(context['le'])}"
        case "literal_error":
            wanted = alternatives(map(in_toml, choices))
            hint = did_you_mean(str(given), filter(lambda choice: isinstance(choice, str), choices))
        case kind:
            wanted = _KINDS.get(kind, detail["msg"])
            if kind == "string_type":
                hint = f"text stands in quotes: {key} = {quoted(in_toml(given))}"
            elif isinstance(given, str) and _NEEDS_NO_QUOTES.fullmatch(given):
                hint = f"write it without quotes: {key} = {given}"
    return f"{key} must be {wanted}, not {in_toml(given)}", hint


def _unknown_section(name: str, content: Any) -> Problem:
    # A variable of the environment writes a setting, not the section that it would be in.
    settings = content if isinstance(content, dict) else {}
    paths: tuple[KeyPath, ...] = ((name,), *((name, key) for key in settings))
    hint = _at_home(name) or did_you_mean(name, [*SECTIONS, *LISTS])
    return Problem(paths, f"unknown section or setting {quoted(name)}", hint, Aspect.KEY)


def _unknown_key(key: str, path: KeyPath, known: Iterable[str]) -> Problem:
    hint = did_you_mean(key, known) or _at_home(key)
    return Problem(((*path, key),), f"unknown setting {quoted(key)}", hint, Aspect.KEY)


def _at_home(key: str) -> str:
    """Say in which sections a setting of this name belongs, if in any."""
    homes = [f"[{name}]" for name, model in SECTIONS.items() if key in model.model_fields]
    homes += [
        f"[[{name}]]"
        for name, models in LISTS.items()
        if any(key in model.model_fields for model in models)
    ]
    return f"{key} belongs in {alternatives(homes)}" if homes else ""


def _called(path: KeyPath, table: dict[str, Any]) -> str:
    """Name the element of a list by its own name where it has one."""
    name = table.get("name")
    return f"{path[0]} {quoted(name)}" if isinstance(name, str) else f"this [[{path[0]}]]"
