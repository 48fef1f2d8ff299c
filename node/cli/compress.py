"""`dcmpress compress` as typer reads it: the options, their help, and what is wrong with them.

The work is in `compressing`; a command line that is right is read by `plain`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from node.cli import compressing
from node.cli.plain import Wanted


def compress(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files and folders.")],
    output: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write a mirror of the tree below DIR.")
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
    wanted = Wanted(
        paths=tuple(paths),
        output=output,
        in_place=in_place,
        jobs=jobs,
        dry_run=dry_run,
        transcode=transcode,
        encoder=encoder,
        transfer_syntax=transfer_syntax,
        verify=verify,
    )
    raise typer.Exit(compressing.run(wanted))
