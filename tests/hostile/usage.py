"""What a process and its children hold: memory, descriptors, threads (proc(5))."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """Resident memory in bytes, open descriptors, threads."""

    memory: int = 0
    descriptors: int = 0
    threads: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.memory + other.memory,
            self.descriptors + other.descriptors,
            self.threads + other.threads,
        )


def _of_one(process: Path) -> Usage:
    return Usage(
        memory=int((process / "statm").read_text().split()[1]) * _PAGE,
        descriptors=len(os.listdir(process / "fd")),
        threads=len(os.listdir(process / "task")),
    )


def _family(pid: int) -> Iterator[int]:
    yield pid
    for child in _children(pid):
        yield from _family(child)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread has ended
            found += map(int, children.read_text().split())
    return found


def usage(pid: int | None = None, *, family: bool = False) -> Usage:
    """Return what a process holds, this one where none is named, and with `family` its children."""
    total = Usage()
    for member in _family(pid or os.getpid()) if family else [pid or os.getpid()]:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += _of_one(Path(f"/proc/{member}"))
    return total
