"""Settings from four layers: defaults, then the file, the environment, the command line.

A later layer replaces what an earlier one said, setting by setting; the lists of peers and of
destinations are replaced whole. `load` returns valid settings and where each was written, or
raises `BadConfiguration` with every error there is, or `InputMissing`. Nothing is logged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from node.errors import BadConfiguration
from node.settings.command_line import read_command_line
from node.settings.environment import read_environment
from node.settings.files import read_file
from node.settings.locate import KeyPath
from node.settings.problems import Aspect, Place, Problem, show
from node.settings.schema import is_of_service, state_directory
from node.settings.sources import Source
from node.settings.validate import validate
from node.settings.whole import LISTS, Settings

DEFAULT = "default"

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Loaded:
    """Valid settings, and by `section.key` or `list[index].key` where each was written.

    An origin is `node.toml:4:8`, the name of a variable or an option, or `default`.
    """

    settings: Settings
    origins: Mapping[str, str]


def load(
    path: Path | None,
    overrides: Mapping[str, Any] = _NOTHING,
    environ: Mapping[str, str] = _NOTHING,
) -> Loaded:
    """Read the settings of a node.

    `overrides` are the command line's, by `section.key`, None for what was not given;
    `environ` is the environment to look into, as a rule `os.environ`.
    """
    values: dict[str, Any] = {}
    sources: list[Source] = []
    problems: list[Problem] = []
    if path is not None:
        file, values = read_file(path)
        sources.append(file)
    for source, given in (read_environment(environ), read_command_line(overrides)):
        sources.append(source)
        for at, value in given.items():
            problems += _put(values, at, value)
    _put_folders(values, state_directory(environ, path), is_of_service(path))
    settings, found = validate(values)
    if problems or settings is None:
        raise BadConfiguration(_report(problems + found, sources))
    return Loaded(settings, MappingProxyType(dict(_origins(settings, sources))))


def dotted(path: KeyPath) -> str:
    """Write a path as people do: `node.port`, `destination[0].host`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _put(values: dict[str, Any], path: KeyPath, value: Any) -> list[Problem]:
    """Set one setting in the tables; a path that leads to no setting is a problem."""
    if len(path) == 1 and path[0] in LISTS:
        values[str(path[0])] = value
        return []
    if len(path) != 2 or path[0] in LISTS:
        return [Problem((path,), *_no_setting(path), aspect=Aspect.KEY)]
    section = values.setdefault(str(path[0]), {})
    if isinstance(section, dict):  # where it is not, `validate` says so
        section[path[1]] = value
    return []


def _no_setting(path: KeyPath) -> tuple[str, str]:
    if path[0] in LISTS:
        return f"{path[0]} is a list, and given whole", f"set {path[0]} to [{{…}}, {{…}}]"
    return (
        f"{dotted(path)} is no setting",
        "write a section and a setting, as in DCMPRESS__NODE__PORT",
    )


def _put_folders(values: dict[str, Any], state: Path, of_service: bool) -> None:
    """Take defaults from what `load` was given, not from this process and where it runs.

    The service works in its state directory, and commands that ask about it work anywhere.
    """
    node = values.setdefault("node", {})
    if isinstance(node, dict):
        node.setdefault("state_directory", state)
    if of_service:
        received = {"name": "received", "directory": str(state / "received")}
        values.setdefault("destination", [received])


def _report(problems: Sequence[Problem], sources: Sequence[Source]) -> str:
    """Return all problems as text: by source, and in the order in which they were written."""
    placed = [(*_place(problem, sources), problem) for problem in problems]
    placed.sort(key=lambda item: (item[0], item[1].order))
    return "\n".join(show(place, problem.sentence, problem.hint) for _, place, problem in placed)


def _place(problem: Problem, sources: Sequence[Source]) -> tuple[int, Place]:
    """Return where to point, and the rank of its source: of two layers the later one counts."""
    for path in problem.paths:
        for rank in reversed(range(len(sources))):
            if sources[rank].covers(path):
                return rank, sources[rank].place(path, problem.aspect)
    return 0, Place("settings")


def _origins(settings: Settings, sources: Sequence[Source]) -> Iterator[tuple[str, str]]:
    for path in _setting_paths(settings):
        origin = next((s for s in reversed(sources) if s.covers(path)), None)
        yield dotted(path), origin.place(path, Aspect.KEY).name if origin else DEFAULT


def _setting_paths(settings: Settings) -> Iterator[KeyPath]:
    for name, content in settings.tables().items():
        if isinstance(content, list):
            yield from ((name, index, key) for index, e in enumerate(content) for key in e)
        else:
            yield from ((name, key) for key in content)
