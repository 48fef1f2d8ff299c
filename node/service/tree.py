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
from typing import TYPE_CHECKING, NamedTuple

from node.errors import InputMissing, UsageError

if TYPE_CHECKING:
    from _typeshed import StrPath

#: The name of a file that is being written beside its final place.
DRAFT = re.compile(r"\.dcmpress-[0-9a-f]{16}\.part\Z")


class Source(NamedTuple):
    """One file, its place in a mirror of what was named, and its length in bytes."""

    path: str
    relative: str
    size: int


class Found(NamedTuple):
    """What paths name: files, each once and in order; links passed over; what is unreadable."""

    sources: list[Source]
    links: list[str]
    unreadable: list[OSError]

    @property
    def paths(self) -> list[str]:
        """The files alone."""
        return [source.path for source in self.sources]


def find(paths: Iterable[StrPath], leave_out: StrPath | None = None) -> Found:
    """Return the files that `paths` name, without those below `leave_out`.

    In a mirror a single folder stands for the mirror itself, as its files do; of several, each
    keeps its own name.
    """
    named = [_resolved(path) for path in paths]
    outside = os.path.realpath(leave_out) if leave_out is not None else None
    found, seen = Found([], [], []), set[str]()
    for path in named:
        is_folder = os.path.isdir(path)
        sources = _below(path, outside, found) if is_folder else [_named(path)]
        prefix = os.path.basename(path) if is_folder and len(named) > 1 else ""
        for source in sources:
            if source.path not in seen:
                seen.add(source.path)
                relative = os.path.join(prefix, source.relative)
                found.sources.append(source._replace(relative=relative))
    return found


def _resolved(path: StrPath) -> str:
    try:
        resolved = os.path.realpath(path, strict=True)
    except OSError:
        raise InputMissing(f"there is no file or folder {path}") from None
    if not (os.path.isdir(resolved) or os.path.isfile(resolved)):
        raise UsageError(f"{path} is neither a file nor a folder")
    return os.fspath(resolved)


def _named(path: str) -> Source:
    return Source(path, os.path.basename(path), os.stat(path).st_size)


def _below(root: str, leave_out: str | None, found: Found) -> Iterator[Source]:
    """Yield the files below a folder, those of each folder in the order of their names."""
    skipped = leave_out if leave_out != root else None
    above = os.path.join(root, "")
    for folder, subfolders, names in os.walk(root, onerror=found.unreadable.append):
        subfolders[:] = sorted(n for n in subfolders if os.path.join(folder, n) != skipped)
        # A link to a folder is among the subfolders; os.walk does not enter it.
        paths = (os.path.join(folder, name) for name in subfolders)
        found.links.extend(filter(os.path.islink, paths))
        for name in sorted(names):
            path = os.path.join(folder, name)
            try:
                status = os.lstat(path)
            except OSError as failure:  # it was there a moment ago
                found.unreadable.append(failure)
                continue
            if stat.S_ISLNK(status.st_mode):
                found.links.append(path)
            elif stat.S_ISREG(status.st_mode) and not DRAFT.match(name):
                yield Source(path, path.removeprefix(above), status.st_size)
