"""`dcmpress check CONFIG`: tell whether a node could be started with this file.

The file is read as `serve` reads it, with the variables `DCMPRESS__…` of the environment; the
encoders it names must be installed, and the files of TLS and audit be there and good. Ports, disks
and peers are for `doctor` to look at. Raises `BadConfiguration` with every error at once,
`InputMissing` where there is no such file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from node.service.startable import require_startable
from node.settings import load
from node.settings.summary import summary


def check(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The settings file, TOML.")],
) -> None:
    """Find every error in a settings file, and tell what the node would do with it."""
    settings = load(config, environ=os.environ).settings
    require_startable(settings)
    print(f"{config} is fine")
    for line in summary(settings):
        print(f"  {line}")
