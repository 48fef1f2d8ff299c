"""The command `dcmpress`: one file a command, found by its name and imported when it is called.

`main` is what the installed script runs. It gives the exit code: a `NodeError` is shown in one
sentence on standard error and ends with its own code, an interruption with 130, an unusable
command line with 2. Anything else is a bug and shows its traceback.

To know what commands there are, none is imported: their modules bring pydicom and pynetdicom,
and `dcmpress --help` should not wait for them.
"""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from node import __version__
from node.errors import NodeError

INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it

#: Each command is the function, or for several in one the typer `app`, of `node.cli.<name>`.
SUMMARIES = {
    "serve": "Run a node: receive, compress, keep, forward.",
    "check": "Find every error in a settings file.",
    "config": "Show the settings: those that hold, or all there are.",
    "queue": "Look at what waits or failed; try it again, drop it, pause a destination.",
    "echo": "Ask a peer whether it is there (C-ECHO).",
    "send": "Send files and folders to a peer (C-STORE).",
    "compress": "Compress files and folders on this machine.",
    "demo": "Start a node, send sample images to it, and show what came of them.",
}


class Commands(TyperGroup):
    """A group whose commands are loaded when one of them is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Put the real command in the place of the one that is listed."""
        name, _, rest = super().resolve_command(ctx, args)
        assert name is not None
        return name, load(name), rest


app = typer.Typer(
    cls=Commands,
    name="dcmpress",
    help="A DICOM node that compresses on receipt, keeps what it accepted, and forwards it.",
    no_args_is_help=True,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"dcmpress {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version."),
    ] = False,
) -> None:
    pass


def _listed() -> None:
    """Stand for a command in the list of them."""


for _name, _summary in SUMMARIES.items():
    app.command(_name, help=_summary)(_listed)


def load(name: str) -> Any:
    """Import one command, ready to run."""
    module = importlib.import_module(f"node.cli.{name}")
    group = getattr(module, "app", None)
    if group is None:
        group = typer.Typer(add_completion=False)
        group.command(name)(getattr(module, name))
    command = get_command(group)
    command.name = name
    return command


def main(args: list[str] | None = None) -> int:
    """Run one command line, that of the program where none is given; return the exit code."""
    try:
        get_command(app).main(args=args, prog_name="dcmpress")
    except NodeError as failure:
        print(_told(str(failure)), file=sys.stderr)
        return failure.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0


def _told(message: str) -> str:
    """Name the program before a sentence; a report of many lines begins with a file's name."""
    return message if "\n" in message else f"dcmpress: {message}"
