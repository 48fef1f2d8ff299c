"""Why an entry failed: a small JSON file beside it, `NAME.dcm.json`, for people to read too."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from node.spool.durable import Disk
from node.spool.entries import Entry, FailedEntry
from node.spool.reading import read_small

#: The cause where nothing can be read.
NOT_RECORDED = "not recorded"


def path_of(failed: Path) -> Path:
    """Return where the reason stands of the failed entry at this path."""
    return failed.with_name(f"{failed.name}.json")


def write(failed: Path, cause: str, tries: int, disk: Disk) -> None:
    """Write the reason; one that an earlier failure left is replaced."""
    path = path_of(failed)
    disk.remove(path)
    with open(disk.create(path), "w", encoding="utf-8") as file:
        json.dump({"cause": cause, "tries": tries}, file)
        file.flush()
        disk.sync_file(file.fileno())


def read(entry: Entry) -> FailedEntry:
    """Return the failed entry with its reason, as far as that can be read."""
    cause, tries = NOT_RECORDED, 1
    with contextlib.suppress(
        OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError
    ):
        fields = json.loads(read_small(path_of(entry.path)))
        cause, tries = str(fields["cause"]), int(fields.get("tries", 1))
    return FailedEntry(entry=entry, cause=cause, tries=tries)
