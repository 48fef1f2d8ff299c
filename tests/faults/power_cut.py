"""What may be on a disk after a power cut, from the system calls that were made until then.

`recorded` reads an strace of a node into events; `Disk` holds what the calls did below some folders
and when it became durable; `states` yields every legal state at a point in time:

- the bytes of a file are safe when an fsync of that file that began after they were written has
  returned; until then each write may be there, missing, torn, or there as zeros;
- a name in a folder is safe when an fsync of that folder that began after it was made has returned;
  until then it may be there or not, each for itself, and so may the removal of one. Of a rename
  the old name may stay though the new one is there, but never are both gone;
- nothing else is promised: no order, nothing by the fsync of another file.

That is weaker than any journaling file system. Where there are more than `MOST` states at a point,
so many are drawn, always with the extremes.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: States of one point in time.
MOST = 256
#: Changes of names that are combined in all ways, and sets drawn of more.
_ALL_WAYS, _DRAWN = 8, 16
_PAGE = 4096
NEVER = 1 << 60

_LINE = re.compile(r"^(\d+) +(.*)$")
_CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+)(.*)$", re.DOTALL)
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$", re.DOTALL)
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"^(?:AT_FDCWD|-?\d+)<(.*)>$")
_IGNORED = {"symlink", "symlinkat", "sync_file_range", "sendfile", "copy_file_range", "fallocate"}


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that succeeded: when it began and ended, counted in lines of the trace."""

    thread: int
    name: str
    arguments: tuple[str, ...]
    result: int
    result_path: str
    began: int
    ended: int

    def path(self, at: int) -> str:
        """The path of a descriptor, or of a folder's descriptor and the name after it."""
        text = self.arguments[at]
        if found := _DESCRIPTOR.match(text):
            return _unescaped(found[1]).removesuffix(" (deleted)")
        return _unescaped(text.strip('"'))

    def path_at(self, at: int) -> str:
        """The path that a folder's descriptor and a name make."""
        return os.path.normpath(os.path.join(self.path(at), self.path(at + 1)))

    @property
    def data(self) -> bytes:
        """The bytes that were given."""
        return b"".join(_bytes(found) for found in _STRING.findall(", ".join(self.arguments)))


def _unescaped(text: str) -> str:
    return _bytes(text).decode() if "\\x" in text else text


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def recorded(log: Path) -> Iterator[Call]:
    """The calls in an `strace -f -y -xx` that succeeded, in the order in which they ended."""
    pending: dict[int, tuple[str, int]] = {}
    for at, line in enumerate(log.read_text("ascii", "replace").splitlines()):
        found = _LINE.match(line)
        if found is None:
            continue
        thread, text = int(found[1]), found[2]
        began = at
        if text.endswith("<unfinished ...>"):
            pending[thread] = text.removesuffix("<unfinished ...>"), at
            continue
        if resumed := _RESUMED.match(text):
            begin, began = pending.pop(thread, ("", at))
            text = begin + resumed[2]
        call = _CALL.match(text)
        if call and int(call[3]) >= 0:
            arguments = tuple(part.strip() for part in call[2].split(", "))
            path = re.search(r"<(.*)>", call[4])
            result_path = _unescaped(path[1]) if path else ""
            yield Call(thread, call[1], arguments, int(call[3]), result_path, began, at)


# -- what was done, and when it was safe ---------------------------------------------------------


@dataclass(eq=False, slots=True)
class Node:
    """A file or a folder."""

    is_folder: bool
    writes: list[Write] = field(default_factory=list)
    offset: int = 0
    is_appended_to: bool = False


@dataclass(eq=False, slots=True)
class Write:
    """Bytes put into a file; None as data cuts it to `offset`."""

    offset: int
    data: bytes | None
    at: int
    safe_from: int = NEVER


@dataclass(eq=False, slots=True)
class Change:
    """A name that is made, or removed where `node` is None. `after` is what must be there too."""

    folder: Node
    name: str
    node: Node | None
    at: int
    after: Change | None = None
    safe_from: int = NEVER


class Disk:
    """What a trace did below some folders, which are there from the beginning, and empty."""

    def __init__(self, roots: Mapping[Path, str]) -> None:
        self.top = Node(is_folder=True)
        self.changes: list[Change] = []
        self.files: list[Node] = []
        self._paths: dict[str, Node] = {}
        self._roots = {str(root): name for root, name in roots.items()}
        for root, name in self._roots.items():
            self._paths[root] = node = Node(is_folder=True)
            self.changes.append(Change(self.top, name, node, -1, safe_from=-1))

    def take(self, call: Call) -> None:
        """Take one call into account."""
        taken = getattr(self, f"_{call.name}", None)
        if taken is not None:
            taken(call)
        elif call.name in _IGNORED and self._is_ours(" ".join(call.arguments)):
            raise NotImplementedError(f"the model has no {call.name}")

    def forget_syncs(self, since: int) -> None:
        """Be a disk whose fsync does nothing from a moment on."""
        done: list[Write | Change] = [*self.changes]
        done += [write for file in self.files for write in file.writes]
        for one in done:
            if one.at >= since:
                one.safe_from = NEVER

    def _is_ours(self, path: str) -> bool:
        return any(root in path for root in self._roots)

    def _openat(self, call: Call) -> None:
        path = call.path_at(0)
        if not self._is_ours(path):
            return
        if path not in self._paths and "O_CREAT" in call.arguments[2]:
            self._make(path, Node(is_folder=False), call)
        if path in self._paths:
            self._paths[path].offset = 0
            self._paths[path].is_appended_to = "O_APPEND" in call.arguments[2]
            if "O_TRUNC" in call.arguments[2]:
                self._paths[path].writes.append(Write(0, None, call.ended))

    def _mkdir(self, call: Call, at: int = 0) -> None:
        path = call.path(at) if at == 0 else call.path_at(0)
        if self._is_ours(path):
            self._make(path, Node(is_folder=True), call)

    def _mkdirat(self, call: Call) -> None:
        self._mkdir(call, 1)

    def _make(self, path: str, node: Node, call: Call) -> Change:
        if path in self._roots:
            return Change(self.top, "", node, call.ended)
        if not node.is_folder and node not in self.files:
            self.files.append(node)
        folder = self._paths[os.path.dirname(path)]
        change = Change(folder, os.path.basename(path), node, call.ended)
        self.changes.append(change)
        self._paths[path] = node
        return change

    def _remove(self, path: str, call: Call, after: Change | None = None) -> None:
        if self._is_ours(path):
            folder = self._paths[os.path.dirname(path)]
            self.changes.append(Change(folder, os.path.basename(path), None, call.ended, after))
            # The path stays known: a descriptor may still have it.

    def _unlink(self, call: Call) -> None:
        self._remove(call.path(0), call)

    _rmdir = _unlink

    def _unlinkat(self, call: Call) -> None:
        self._remove(call.path_at(0), call)

    def _moved(self, source: str, target: str, call: Call) -> None:
        if self._is_ours(source):
            made = self._make(target, self._paths[source], call)
            self._remove(source, call, made)

    def _rename(self, call: Call) -> None:
        self._moved(call.path(0), call.path(1), call)

    def _renameat(self, call: Call) -> None:
        self._moved(call.path_at(0), call.path_at(2), call)

    _renameat2 = _renameat

    def _link(self, call: Call) -> None:
        if self._is_ours(call.path(0)):
            self._make(call.path(1), self._paths[call.path(0)], call)

    def _linkat(self, call: Call) -> None:
        if self._is_ours(call.path_at(0)):
            self._make(call.path_at(2), self._paths[call.path_at(0)], call)

    def _file(self, call: Call) -> Node | None:
        return self._paths.get(call.path(0)) if _DESCRIPTOR.match(call.arguments[0]) else None

    def _lseek(self, call: Call) -> None:
        if (file := self._file(call)) is not None:
            file.offset = call.result

    def _write(self, call: Call) -> None:
        if (file := self._file(call)) is not None:
            if file.is_appended_to:
                file.offset = len(_bytes_of(file.writes))
            file.writes.append(Write(file.offset, call.data[: call.result], call.ended))
            file.offset += call.result

    _writev = _write

    def _pwrite64(self, call: Call) -> None:
        if (file := self._file(call)) is not None:
            offset = int(call.arguments[-1])
            file.writes.append(Write(offset, call.data[: call.result], call.ended))

    def _pwritev(self, call: Call) -> None:
        self._pwrite64(call)

    def _ftruncate(self, call: Call) -> None:
        if (file := self._file(call)) is not None:
            file.writes.append(Write(int(call.arguments[1]), None, call.ended))

    def _fsync(self, call: Call) -> None:
        node = self._file(call)
        if node is None:
            return
        done: list[Write | Change] = [*node.writes]
        done += [change for change in self.changes if change.folder is node]
        for one in done:
            if one.at < call.began and one.safe_from == NEVER:
                one.safe_from = call.ended

    _fdatasync = _fsync


# -- the states ----------------------------------------------------------------------------------

#: A state: for each path the bytes of a file and what tells its node, or None for a folder.
State = Mapping[str, tuple[int, bytes] | None]


def states(disk: Disk, now: int, seed: int = 0) -> Iterator[State]:
    """The legal states after a power cut when line `now` of the trace was reached."""
    drawn = random.Random(seed)
    changes = [change for change in disk.changes if change.at <= now]
    loose = [change for change in changes if change.safe_from > now]
    names = list(_subsets(loose, drawn))
    contents = {file: list(_contents(file, now)) for file in disk.files}
    several = [file for file in disk.files if len(contents[file]) > 1]
    ways = itertools.product(*(contents[file] for file in several))
    possible = list(itertools.islice(ways, MOST))
    combined = list(itertools.product(names, possible))
    if len(combined) > MOST:
        combined = [combined[0], combined[-1], *drawn.sample(combined, MOST - 2)]
    for missing, chosen in combined:
        given = {file: contents[file][0] for file in disk.files}
        given |= dict(zip(several, chosen, strict=True))
        yield _tree(disk.top, [c for c in changes if c not in missing], given)


def _subsets(loose: Sequence[Change], drawn: random.Random) -> Iterator[frozenset[Change]]:
    """The changes that are missing: all sets, or the extremes and some that are drawn."""
    sets: Iterable[Iterable[Change]]
    if len(loose) <= _ALL_WAYS:
        ways = range(1 << len(loose))
        sets = [[c for i, c in enumerate(loose) if way >> i & 1] for way in ways]
    else:
        sets = [[], loose]
        sets += [loose[:at] for at in range(1, len(loose), 4)]
        sets += [loose[at:] for at in range(1, len(loose), 4)]
        sets += [[c for c in loose if drawn.random() < 0.5] for _ in range(_DRAWN)]
    for missing in map(frozenset, sets):
        # The old name of what was renamed goes only where the new one is there.
        if not any(c.after in missing and c not in missing for c in loose if c.after):
            yield missing


def _contents(file: Node, now: int) -> Iterator[bytes]:
    """What a file may hold: first all of it, last nothing that was not synced."""
    done = [write for write in file.writes if write.at <= now]
    safe = [write for write in done if write.safe_from <= now]
    loose = [write for write in done if write.safe_from > now]
    ways = [done, *([*safe, *loose[:at]] for at in range(len(loose) - 1, -1, -1))]
    ways += [[*safe, *loose[at:]] for at in range(1, len(loose))]
    ways += [[*safe, *loose[:at], _torn(loose[at])] for at in range(len(loose))]
    whole = _bytes_of(done)
    held = [_bytes_of(sorted(way, key=lambda write: write.at)) for way in ways]
    if loose:
        held.append(bytes(len(whole)))
        for page in range(0, len(whole), _PAGE):
            end = min(len(whole), page + _PAGE)
            held.append(whole[:page] + bytes(end - page) + whole[end:])
    yield from dict.fromkeys([*held, _bytes_of(safe)])


def _torn(write: Write) -> Write:
    data = write.data if write.data is None else write.data[: len(write.data) // 2]
    return Write(write.offset, data, write.at)


def _bytes_of(writes: Iterable[Write]) -> bytes:
    held = bytearray()
    for write in writes:
        if write.data is None:
            del held[write.offset :]
        held.extend(bytes(max(0, write.offset - len(held))))
        if write.data is not None:
            held[write.offset : write.offset + len(write.data)] = write.data
    return bytes(held)


def _tree(top: Node, changes: Iterable[Change], contents: Mapping[Node, bytes]) -> State:
    folders: dict[Node, dict[str, Node]] = {}
    for change in changes:
        names = folders.setdefault(change.folder, {})
        if change.node is None:
            names.pop(change.name, None)
        else:
            names[change.name] = change.node
    state: dict[str, tuple[int, bytes] | None] = {}
    todo = [("", top)]
    while todo:
        path, node = todo.pop()
        for name, child in sorted(folders.get(node, {}).items()):
            below = f"{path}{name}"
            state[below] = None if child.is_folder else (id(child), contents[child])
            if child.is_folder:
                todo.append((f"{below}/", child))
    return state


def digest(state: State) -> bytes:
    """The same for two states that look the same."""
    numbers: dict[int, int] = {}
    told = hashlib.sha256()
    for path, held in sorted(state.items()):
        told.update(path.encode() + b"\0")
        if held is not None:
            number = numbers.setdefault(held[0], len(numbers))
            told.update(b"%d %d " % (number, len(held[1])) + held[1])
    return told.digest()


def put(state: State, root: Path) -> None:
    """Make a state below `root`; names of one file are links."""
    first: dict[int, Path] = {}
    for path, held in sorted(state.items()):
        place = root / path
        if held is None:
            place.mkdir(mode=0o700, parents=True)
        elif held[0] in first:
            os.link(first[held[0]], place)
        else:
            first[held[0]] = place
            place.write_bytes(held[1])
            place.chmod(0o600)
