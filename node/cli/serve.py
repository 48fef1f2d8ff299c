"""`dcmpress serve`: run a node until it is told to stop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from node.service import logs
from node.service.supervisor import Supervisor
from node.settings import Settings, command_line_destinations, load


def serve(
    config: Annotated[
        Path | None, typer.Argument(help="Settings file; without one, the defaults.")
    ] = None,
    ae_title: Annotated[str | None, typer.Option(help="Our AE title.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    store: Annotated[
        Path | None, typer.Option(help="Write instances below this folder.", metavar="DIR")
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(help="Forward instances to this SCP.", metavar="AET@HOST:PORT"),
    ] = None,
    relay: Annotated[
        str | None,
        typer.Option(
            help="Send instances on while the sender waits, and answer with this SCP's status.",
            metavar="AET@HOST:PORT",
        ),
    ] = None,
    state: Annotated[Path | None, typer.Option(help="Folder of the spool.", metavar="DIR")] = None,
    receivers: Annotated[int | None, typer.Option(help="Processes that receive.")] = None,
    status_port: Annotated[
        int | None, typer.Option(help="Port of the status page; 0 means none.")
    ] = None,
    durability: Annotated[
        str | None,
        typer.Option(help="fsync: Success survives a power cut; none: for scratch nodes."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="What encodes RLE Lossless: dcmpress, pylibjpeg, gdcm, pydicom."),
    ] = None,
    any_peer: Annotated[
        bool, typer.Option("--any-peer", help="Let anyone send who can reach the port.")
    ] = False,
) -> None:
    """Run a node: receive, compress, keep, forward.

    SIGTERM lets running associations end, SIGHUP reads the settings file again.
    """
    overrides: dict[str, Any] = {
        "node.ae_title": ae_title,
        "node.host": host,
        "node.port": port,
        "node.state_directory": state,
        "node.receivers": receivers,
        "node.any_peer": any_peer or None,
        "status.port": status_port,
        "spool.durability": durability,
        "compression.encoder": encoder,
        "destination": command_line_destinations(store, to or (), relay),
    }

    def settings() -> Settings:
        return load(config, overrides, os.environ).settings

    first = settings()
    logs.configure(first.log)
    Supervisor(first, settings, config).run()
