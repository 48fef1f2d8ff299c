"""`dcmpress status [CONFIG]`: what the node is doing, as its status page tells it.

The running node is asked at /api/v1/status. Where it has no page or does not run, what the spool
holds is told instead, and that it is so. Ends with 0 where the node takes instances, else with 69.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from node.errors import CannotWrite, PeerUnreachable
from node.service.doctor import is_running
from node.service.node import open_spool
from node.service.queue_counts import QueueCounts
from node.settings import Settings, load
from node.settings.values import join_host_port
from node.spool import State
from node.words import many, size

_SECONDS = 5.0
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def status(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="The node's settings file.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="The node's state directory.")
    ] = None,
    status_port: Annotated[
        int | None, typer.Option("--status-port", help="The port of the node's status page.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell what the node is doing."""
    overrides = {"node.state_directory": state, "status.port": status_port}
    settings = load(config, overrides, os.environ).settings
    found = _from_node(settings) or _from_spool(settings)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        for line in _lines(found):
            print(line)
    if not found["is_ready"]:
        raise typer.Exit(PeerUnreachable.exit_code)


def _from_node(settings: Settings) -> dict[str, Any] | None:
    """Return what the running node says; None where it cannot be asked."""
    if not settings.status.port:
        return None
    host = _ANY_ADDRESS.get(settings.status.host, settings.status.host)
    url = f"http://{join_host_port(host, settings.status.port)}/api/v1/status"
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            return {"source": url, **json.load(answer)}
    except (OSError, ValueError):
        return None


def _from_spool(settings: Settings) -> dict[str, Any]:
    """Return what the spool holds."""
    runs = is_running(settings)
    found: dict[str, Any] = {
        "source": str(settings.node.state_directory / "spool"),
        "verdict": "the node runs; its status page cannot be asked" if runs else "no node runs",
        "ae_title": settings.node.ae_title,
        "is_ready": runs,
        "waiting": 0,
        "destinations": [],
    }
    try:
        spool = open_spool(settings)
    except CannotWrite as failure:
        empty = isinstance(failure.__cause__, FileNotFoundError)
        return found | {"notices": ["nothing was kept there yet" if empty else str(failure)]}
    disk = os.statvfs(spool.root)
    known = QueueCounts(spool)
    counts = {name: known.of(name) for name in spool.destinations()}
    return found | {
        "waiting": spool.count(State.RECEIVED).entries,
        "free_bytes": disk.f_bavail * disk.f_frsize,
        "destinations": [
            {
                "name": name,
                "queued": count.queued,
                "failed": count.failed,
                "waiting_again": count.waiting_again,
                "waiting_cause": count.waiting_cause,
            }
            for name, count in counts.items()
        ],
    }


def _lines(found: dict[str, Any]) -> Iterator[str]:
    where = f" on {found['address']}" if "address" in found else ""
    yield f"{found['ae_title']}{where}: {found['verdict']}"
    yield f"  from        {found['source']}"
    if "instances_total" in found:
        received, stored = found["bytes_in_total"], found["bytes_out_total"]
        yield (
            f"  received    {many(found['instances_total'], 'instance')} since the start, "
            f"{size(received)} stored in {size(stored)}; "
            f"{many(found['associations'], 'association')} now"
        )
    yield f"  waiting     {many(found['waiting'], 'instance')} not queued yet"
    for item in found["destinations"]:
        last = f"; last error: {item['last_error']}" if item.get("last_error") else ""
        yield f"  {item['name']:<11} {item['queued']} queued, {item['failed']} failed{last}"
        if number := item.get("waiting_again"):
            yield f"              {number} of the queued tried before: {item['waiting_cause']}"
    if "free_bytes" in found:
        yield f"  disk        {size(found['free_bytes'])} free"
    for notice in found.get("notices", ()):
        yield f"  note        {notice}"
