"""`dcmpress compress PATH... (--output DIR | --in-place)`: make the files on this machine smaller.

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
from pathlib import Path
from typing import Annotated, Literal

import typer

from node.cli.compress_summary import Summary
from node.cli.terminal import Bar, progress
from node.errors import CannotWrite, UsageError
from node.pixels.codecs import check_installed
from node.pixels.policy import Options, Verify
from node.service import batch
from node.service.places import InPlace, Mirror, Nowhere, Place, Task, clear_away, settle
from node.service.rewriting import Rewriter
from node.service.tree import Found, find

#: As the settings have them; `node.settings` is not imported, as pydantic takes its time.
TRANSFER_SYNTAXES = {
    "RLELossless": "1.2.840.10008.1.2.5",
    "JPEGLSLossless": "1.2.840.10008.1.2.4.80",
    "JPEG2000Lossless": "1.2.840.10008.1.2.4.90",
    "HTJ2KLossless": "1.2.840.10008.1.2.4.201",
}
_VERIFY: dict[str, Verify] = {"true": True, "independent": "independent", "false": False}


def compress(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders.")],
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a mirror of the tree below DIR.")
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Replace each file by its smaller one.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Files at one time; default: the number of cores.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; show what would come of it.")
    ] = False,
    transcode: Annotated[
        bool, typer.Option("--transcode", help="Take files that are compressed already, too.")
    ] = False,
    encoder: Annotated[
        Literal["dcmpress", "pylibjpeg", "gdcm", "pydicom"],
        typer.Option(help="What encodes RLE Lossless."),
    ] = "dcmpress",
    transfer_syntax: Annotated[
        Literal["RLELossless", "JPEGLSLossless", "JPEG2000Lossless", "HTJ2KLossless"],
        typer.Option(help="What to encode in."),
    ] = "RLELossless",
    verify: Annotated[
        Literal["true", "independent", "false"],
        typer.Option(help="Decode each frame again: by our decoder, by another one, or not."),
    ] = "true",
) -> None:
    """Compress files and folders on this machine; no pixel changes."""
    place = _place(output, in_place, dry_run)
    options = Options(
        transfer_syntax_uid=TRANSFER_SYNTAXES[transfer_syntax],
        encoder=encoder,
        verify=_VERIFY[verify],
    )
    check_installed(options)
    found = find(paths, leave_out=output)
    tasks = list(_tasks(found, output))
    rewriter = Rewriter(options=options, place=place, transcode=transcode)
    folders = [] if dry_run else _prepared({task.target.parent for task in tasks}, output)
    summary = Summary(dry_run=dry_run)
    with progress("compressing", len(tasks)) as bar:
        _note(found, summary, bar)
        try:
            for task, result in batch.run(rewriter, tasks, jobs or len(os.sched_getaffinity(0))):
                summary.add(task.source, result, bar)
        finally:
            clear_away(folders)
            summary.end = time.perf_counter()
    if in_place:
        settle(folders)
    for line in summary.lines():
        print(line)
    if summary.failed:
        raise typer.Exit(1)


def _place(output: Path | None, in_place: bool, dry_run: bool) -> Place:
    if output is not None and in_place:
        raise UsageError("--output and --in-place do not go together: give one of them")
    if dry_run:
        return Nowhere()
    if output is None and not in_place:
        raise UsageError("say where the result goes: --output DIR, or --in-place")
    return InPlace() if in_place else Mirror()


def _tasks(found: Found, output: Path | None) -> Iterator[Task]:
    """Yield what is to be done; no two results may have one place, and none the original's."""
    taken: dict[Path, Path] = {}
    root = output.resolve() if output is not None else None
    for source in found.sources:
        target = source.path if root is None else root / source.relative
        if target in taken:
            raise UsageError(f"{taken[target]} and {source.path} would both become {target}")
        if root is not None and target == source.path:
            raise UsageError(f"{target} would replace the original: use --in-place for that")
        taken[target] = source.path
        yield Task(source.path, target)


def _prepared(folders: set[Path], output: Path | None) -> list[Path]:
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
