"""`dcmpress doctor [DESTINATION] [CONFIG]`: find out what is wrong, and say what to do next.

Without a destination this machine is looked at and every network destination of the settings;
with one, which is a name from the settings or AET@HOST:PORT, that alone. Ends with 0 where nothing
fails, else with the code of the gravest failure: 78 settings or encoder, 73 disk or port, 77 a
destination refuses, 69 it cannot be reached.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from node.errors import UsageError
from node.network.store_scu import Peer
from node.service.destinations import peer_of
from node.service.doctor import examine
from node.service.doctor_peer import examine_peer
from node.service.encoding import codec_of
from node.service.findings import Finding, Verdict, exit_code
from node.settings import NetworkDestination, Settings, load, parse_peer
from node.settings.values import alternatives

_COLOURS = {
    Verdict.OK: typer.colors.GREEN,
    Verdict.WARN: typer.colors.YELLOW,
    Verdict.FAIL: typer.colors.RED,
}


def doctor(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DESTINATION] [CONFIG]",
            help="A destination's name or AET@HOST:PORT; the settings file.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Look at this machine and at destinations, and say what to do where something is wrong."""
    destination, config = _told_apart(words or [])
    settings = load(config, environ=os.environ).settings
    findings = []
    for finding in _examine(settings, destination):
        findings.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    raise typer.Exit(exit_code(findings))


def _told_apart(words: list[str]) -> tuple[str | None, Path | None]:
    """Tell a destination from a settings file: by its suffix, or because it is there."""
    files = [word for word in words if word.endswith(".toml") or Path(word).is_file()]
    others = [word for word in words if word not in files]
    if len(files) > 1 or len(others) > 1:
        raise UsageError("give one destination and one settings file at most")
    return (others[0] if others else None), (Path(files[0]) if files else None)


def _examine(settings: Settings, destination: str | None) -> Iterator[Finding]:
    if destination is None:
        yield from examine(settings)
    for name, peer in _peers(settings, destination).items():
        yield from examine_peer(name, peer, _encoded_in(settings, name))


def _encoded_in(settings: Settings, name: str) -> str:
    """Return the transfer syntax in which a destination gets what we encode, "" for none."""
    for destination in settings.destinations:
        if isinstance(destination, NetworkDestination) and destination.name == name:
            if destination.transfer_syntax == "native":
                return ""
            if (codec := codec_of(settings, destination)) is not None:
                return codec.transfer_syntax_uid
    return settings.compression.transfer_syntax_uid or ""


def _peers(settings: Settings, wanted: str | None) -> dict[str, Peer]:
    """Return whom to look at, by name."""
    known = {
        destination.name: peer_of(settings, destination)
        for destination in settings.destinations
        if isinstance(destination, NetworkDestination)
    }
    if wanted is None:
        return known
    for name, peer in known.items():
        if wanted in (name, str(peer)):
            return {name: peer}
    if "@" not in wanted:
        names = f"; in the settings are {alternatives(known)}" if known else ""
        raise UsageError(f"there is no network destination {wanted}{names}; or write AET@HOST:PORT")
    address = parse_peer(wanted)
    peer = Peer(
        ae_title=address.ae_title,
        host=address.host,
        port=address.port,
        calling_ae_title=settings.node.ae_title,
    )
    return {wanted: peer}


def _show(finding: Finding) -> None:
    verdict = typer.style(f"{finding.verdict:<4}", fg=_COLOURS[finding.verdict])
    typer.echo(f"{verdict}  {finding.subject}: {finding.text}")
    if finding.mend:
        typer.echo(f"      -> {finding.mend}")
