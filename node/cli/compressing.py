"""What `dcmpress compress PATH... (--output DIR | --in-place)` does: makes files smaller.

With `--output` a mirror is made: the same tree, every DICOM file in it, those that stay as they
are too. With `--in-place` a file is replaced when the new one is whole and on stable storage.
What is no DICOM file or cannot be parsed is named, the rest goes on, and the command ends with 1.

Raises `UsageError`, `InputMissing`, `CannotWrite` and, for an encoder that is not installed,
`BadConfiguration`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from node.cli.compress_summary import Summary
from node.cli.plain import VERIFY, Wanted
from node.cli.terminal import Bar, progress
from node.dicom.uids import ENCODED_IN
from node.errors import CannotWrite, UsageError
from node.pixels.codecs import check_installed
from node.pixels.policy import Options
from node.service import batch
from node.service.places import InPlace, Mirror, Nowhere, Place, Task, clear_away, settle
from node.service.rewriting import Rewriter
from node.service.tree import Found, find


def run(wanted: Wanted) -> int:
    """Do it, show how it goes and what came of it; return the exit code."""
    place = _place(wanted)
    options = Options(
        transfer_syntax_uid=ENCODED_IN[wanted.transfer_syntax],
        encoder=wanted.encoder,
        verify=VERIFY[wanted.verify],
    )
    check_installed(options)
    found = find(wanted.paths, leave_out=wanted.output)
    tasks = list(_tasks(found, wanted.output))
    rewriter = Rewriter(options=options, place=place, transcode=wanted.transcode)
    targets = {os.path.dirname(task.target) for task in tasks}
    folders = [] if wanted.dry_run else _prepared(targets, wanted.output)
    summary = Summary(dry_run=wanted.dry_run)
    jobs = wanted.jobs or len(os.sched_getaffinity(0))
    # Workers are forked: before there is a bar, which has a thread.
    with (
        batch.started(rewriter, tasks, jobs) as results,
        progress("compressing", len(tasks)) as bar,
    ):
        _note(found, summary, bar)
        try:
            for task, result in results:
                summary.add(task.source, result, bar)
        finally:
            clear_away(folders)
            summary.end = time.perf_counter()
    if wanted.in_place:
        settle(folders)
    for line in summary.lines():
        print(line)
    return 1 if summary.failed else 0


def _place(wanted: Wanted) -> Place:
    if wanted.output is not None and wanted.in_place:
        raise UsageError("--output and --in-place do not go together: give one of them")
    if wanted.dry_run:
        return Nowhere()
    if wanted.output is None and not wanted.in_place:
        raise UsageError("say where the result goes: --output DIR, or --in-place")
    return InPlace() if wanted.in_place else Mirror()


def _tasks(found: Found, output: str | None) -> Iterator[Task]:
    """Yield what is to be done; no two results may have one place, and none the original's.

    Large files come first, so that no worker is left with one when the others are done.
    """
    taken: dict[str, str] = {}
    root = os.path.realpath(output) if output is not None else None
    for source in sorted(found.sources, key=lambda source: source.size, reverse=True):
        target = source.path if root is None else os.path.join(root, source.relative)
        if target in taken:
            raise UsageError(f"{taken[target]} and {source.path} would both become {target}")
        if root is not None and target == source.path:
            raise UsageError(f"{target} would replace the original: use --in-place for that")
        taken[target] = source.path
        yield Task(source.path, target)


def _prepared(folders: set[str], output: str | None) -> list[str]:
    """Make the folders that results go to, and find out now whether that works."""
    try:
        for folder in sorted(folders):
            if output is not None:
                os.makedirs(folder, exist_ok=True)
        clear_away(folders)
    except OSError as failure:
        raise CannotWrite(f"{failure.filename}: {failure.strerror}") from failure
    if output is not None:
        for folder in folders:
            if not os.access(folder, os.W_OK | os.X_OK):
                raise CannotWrite(f"{folder}: no permission to write there")
    return sorted(folders)


def _note(found: Found, summary: Summary, bar: Bar) -> None:
    for failure in found.unreadable:
        summary.unreadable(failure, bar)
    for link in found.links:
        bar.note(f"{link}: passed over, a link within a folder is not followed")
