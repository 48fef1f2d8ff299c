"""The files that paths on a command line name: files as they are, folders with all below them.

A link that was named is followed, since whoever named it meant what it leads to. Links that are
met in a folder are not: a link out of the tree could lead anywhere, and what a link within the
tree leads to is found by its own name. Devices, pipes and sockets are passed over, for opening
one may wait for ever.

Raises `InputMissing` for a path that is not there and `UsageError` for one that is neither file
nor folder. A folder or file that cannot be read is named in `Found.unreadable`; the rest goes on.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from node.errors import InputMissing, UsageError

#: The name of a file that is being written beside its final place.
DRAFT = re.compile(r"\.dcmpress-[0-9a-f]{16}\.part\Z")


class Source(NamedTuple):
    """One file, its place in a mirror of what was named, and its length in bytes."""

    path: Path
    relative: Path
    size: int


class Found(NamedTuple):
    """What paths name: files, each once and in order; links passed over; what is unreadable."""

    sources: list[Source]
    links: list[Path]
    unreadable: list[OSError]

    @property
    def paths(self) -> list[Path]:
        """The files alone."""
        return [source.path for source in self.sources]


def find(paths: Iterable[Path], leave_out: Path | None = None) -> Found:
    """Return the files that `paths` name, without those below `leave_out`.

    In a mirror a single folder stands for the mirror itself, as its files do; of several, each
    keeps its own name.
    """
    named = [_resolved(path) for path in paths]
    outside = leave_out.resolve() if leave_out is not None else None
    found, seen = Found([], [], []), set[Path]()
    for path in named:
        sources = _below(path, outside, found) if path.is_dir() else [_named(path)]
        prefix = Path(path.name) if path.is_dir() and len(named) > 1 else Path()
        for source in sources:
            if source.path not in seen:
                seen.add(source.path)
                found.sources.append(source._replace(relative=prefix / source.relative))
    return found


def _resolved(path: Path) -> Path:
    try:
        resolved = path.resolve(strict=True)
    except (OSError, RuntimeError):  # a loop of links is a RuntimeError
        raise InputMissing(f"there is no file or folder {path}") from None
    if not (resolved.is_dir() or resolved.is_file()):
        raise UsageError(f"{path} is neither a file nor a folder")
    return resolved


def _named(path: Path) -> Source:
    return Source(path, Path(path.name), path.stat().st_size)


def _below(root: Path, leave_out: Path | None, found: Found) -> Iterator[Source]:
    """Yield the files below a folder, those of each folder in the order of their names."""
    skipped = str(leave_out) if leave_out is not None and leave_out != root else None
    for folder, subfolders, names in os.walk(root, onerror=found.unreadable.append):
        subfolders[:] = sorted(n for n in subfolders if os.path.join(folder, n) != skipped)
        # A link to a folder is among the subfolders; os.walk does not enter it.
        found.links.extend(p for p in (Path(folder, n) for n in subfolders) if p.is_symlink())
        for name in sorted(names):
            path = Path(folder, name)
            try:
                status = os.lstat(path)
            except OSError as failure:  # it was there a moment ago
                found.unreadable.append(failure)
                continue
            if stat.S_ISLNK(status.st_mode):
                found.links.append(path)
            elif stat.S_ISREG(status.st_mode) and not DRAFT.match(name):
                yield Source(path, path.relative_to(root), status.st_size)
