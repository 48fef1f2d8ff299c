"""`dcmpress config`: the settings, shown. Reads files and the environment, changes nothing.

    show        what holds, and with --origin where each value was written
    init        a file with every setting explained, to begin with
    schema      the JSON Schema, for editors
    reference   the table of settings, in Markdown

What `show` prints is a settings file again. Raises what `node.settings.load` raises.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from node.settings import Settings, load
from node.settings.reference import commented_file, markdown
from node.settings.toml import as_file

app = typer.Typer(help="Show the settings.", no_args_is_help=True)


@app.command()
def show(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="The settings file, TOML.")
    ] = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="Say where each value was written.")
    ] = False,
) -> None:
    """Print the settings that hold: defaults, then the file, then the environment."""
    loaded = load(config, environ=os.environ)
    print(as_file(loaded.settings.tables(), loaded.origins if origin else {}), end="")


@app.command()
def init() -> None:
    """Print a settings file with everything in it, explained."""
    print(commented_file(), end="")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the settings file."""
    print(json.dumps(Settings.model_json_schema(), indent=2))


@app.command()
def reference() -> None:
    """Print the table of settings, in Markdown."""
    print(markdown(), end="")
