"""What settings amount to, in a few lines for people: `check` and `serve` print them."""

from __future__ import annotations

from collections.abc import Iterator

from node.settings.schema import AuditSettings, Destination, DiskDestination, Peer
from node.settings.values import alternatives, in_short, join_host_port
from node.settings.whole import Settings


def summary(settings: Settings) -> list[str]:
    """Return who we are, who may send, what is done and where it goes, a line each."""
    node, status, audit = settings.node, settings.status, settings.audit
    page = f"http://{join_host_port(status.host, status.port)}/" if status.port else "none"
    lines = [
        *(("listens", text) for text in _listeners(settings)),
        ("from", _senders(settings)),
        ("encodes", _encoding(settings)),
        *(("sends to", _target(destination)) for destination in settings.destinations),
        ("spool", str(node.state_directory)),
        ("status", page),
        *_audit(audit),
    ]
    return [f"{label:<9} {text}" for label, text in _without_repeats(lines)]


def _listeners(settings: Settings) -> Iterator[str]:
    node, tls = settings.node, settings.tls
    here = join_host_port(node.host, node.port)
    if tls.certificate is None or tls.port is not None:
        yield f"as {node.ae_title} on {here}"
    if tls.certificate is not None:
        where = here if tls.port is None else join_host_port(node.host, tls.port)
        yield f"as {node.ae_title} on {where} with TLS, client certificates: {tls.verify_peer}"


def _audit(audit: AuditSettings) -> list[tuple[str, str]]:
    return [("audit", f"messages to {audit.syslog} by {audit.protocol}")] if audit.syslog else []


def _senders(settings: Settings) -> str:
    if settings.node.any_peer:
        return "anyone who can reach the port"
    if not settings.peers:
        return "anyone on this machine"
    return alternatives(map(_sender, settings.peers))


def _sender(peer: Peer) -> str:
    at = f" at {in_short(peer.address)}" if peer.address is not None else ""
    return f"{peer.ae_title}{at}{f' as {peer.certificate}' if peer.certificate else ''}"


def _encoding(settings: Settings) -> str:
    compression = settings.compression
    if compression.transfer_syntax_uid is None:
        return "nothing, all is kept as it comes"
    checks = {True: "checked", False: "NOT checked", "independent": "checked independently"}
    return f"native pixel data in {compression.transfer_syntax}, {checks[compression.verify]}"


def _target(destination: Destination) -> str:
    if isinstance(destination, DiskDestination):
        return f"{destination.name}: folder {destination.directory}"
    secured = " with TLS" if destination.tls else ""
    return f"{destination.name}: {destination.mode} to {destination.address}{secured}"


def _without_repeats(lines: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    last = ""
    for label, text in lines:
        yield ("" if label == last else label), text
        last = label
