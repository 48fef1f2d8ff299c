"""The commands of `dcmpress`: one file a command, found by its name, imported when it is called.

To know what commands there are, none is imported: their modules bring pydicom and pynetdicom,
and `dcmpress --help` should not wait for them.
"""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from node import __version__

#: Each command is the function, or for several in one the typer `app`, of `node.cli.<name>`.
SUMMARIES = {
    "serve": "Run a node: receive, compress, keep, forward.",
    "check": "Find every error in a settings file.",
    "config": "Show the settings: those that hold, or all there are.",
    "status": "Tell what the node is doing.",
    "doctor": "Look at this machine and at destinations; say what to do where something is wrong.",
    "queue": "Look at what waits or failed; try it again, drop it, pause a destination.",
    "echo": "Ask a peer whether it is there (C-ECHO).",
    "send": "Send files and folders to a peer (C-STORE).",
    "user": "Make the line of a user for the file of users.",
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


def run(args: list[str]) -> None:
    """Run one command line; raises what the command raises, and SystemExit at its end."""
    get_command(app).main(args=args, prog_name="dcmpress")
