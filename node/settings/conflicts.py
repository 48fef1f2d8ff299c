"""Settings that are each fine alone and cannot stand together.

One pure function, `conflicts`, used twice: by `Settings`, so that no contradictory one can exist,
and by the loader, which also knows where in the file each value was written. A part that is
itself broken is passed as None and skipped, so that one run finds every error there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from node.settings.problems import Aspect, Problem
from node.settings.schema import (
    Destination,
    DiskDestination,
    IdentitySettings,
    NetworkDestination,
    NodeSettings,
    Peer,
    StatusSettings,
    TLSSettings,
)
from node.settings.values import is_loopback, quoted

_WILDCARDS = frozenset({"0.0.0.0", "::"})
_THIS_MACHINE = frozenset({"127.0.0.1", "::1", "localhost"})


def conflicts(
    node: NodeSettings | None,
    peers: Sequence[Peer | None],
    destinations: Sequence[Destination | None],
    status: StatusSettings | None,
    tls: TLSSettings | None,
    identity: IdentitySettings | None,
) -> Iterator[Problem]:
    """Yield every contradiction between the parts; None stands for a part that is broken."""
    if node is not None:
        yield from _open_to_everyone(node, peers)
        if status is not None:
            yield from _same_port(node, status)
        yield from _to_itself(node, destinations)
        if tls is not None:
            yield from _same_tls_port(node, status, tls)
    if tls is not None:
        yield from _tls_by_halves(tls)
        if identity is not None and identity.users is not None and tls.certificate is None:
            yield Problem(
                (("identity", "users"),),
                "identity.users is given without tls.certificate",
                "passcodes are taken over TLS only; give [tls] a certificate",
            )
        yield from _tls_to(destinations, tls)
    yield from _known_by_nothing(peers, tls)
    yield from _same_directory(destinations)
    yield from _second_relay(destinations)
    yield from _fallback_of_a_forward(destinations)
    yield from _shrinking_retry(destinations)


def _open_to_everyone(node: NodeSettings, peers: Sequence[Peer | None]) -> Iterator[Problem]:
    if not (node.loopback_only or node.any_peer or peers):
        yield Problem(
            (("node", "host"),),
            f"host {quoted(node.host)} can be reached from other machines, and nothing says "
            "who may send",
            "add a [[peer]] with ae_title and address for each sender, "
            "or any_peer = true to let everyone in",
        )


def _same_port(node: NodeSettings, status: StatusSettings) -> Iterator[Problem]:
    together = _listens_at(node.host, status.host) or _listens_at(status.host, node.host)
    if together and node.port == status.port != 0:
        yield Problem(
            (("status", "port"), ("node", "port")),
            f"node.port and status.port are both {node.port}",
            "give the status page another port, or 0 for none",
        )


def _same_tls_port(
    node: NodeSettings, status: StatusSettings | None, tls: TLSSettings
) -> Iterator[Problem]:
    taken = {"node": node.port} | ({"status": status.port} if status is not None else {})
    for section, port in taken.items():
        if tls.port == port != 0:
            yield Problem(
                (("tls", "port"), (section, "port")),
                f"{section}.port and tls.port are both {port}",
                "give TLS another port, or none to have it on node.port",
            )


def _tls_by_halves(tls: TLSSettings) -> Iterator[Problem]:
    """Whoever asked for TLS must not get something less without a word."""
    if tls.certificate is None:
        for name in ("key", "port"):
            if getattr(tls, name) is not None:
                yield Problem(
                    (("tls", name),),
                    f"tls.{name} is given without tls.certificate",
                    "name the certificate too, or take this out",
                )
    elif tls.verify_peer != "off" and tls.ca is None:
        yield Problem(
            (("tls", "verify_peer"), ("tls", "certificate")),
            f"verify_peer is {quoted(tls.verify_peer)}, and no CA says whose certificates are good",
            'add ca, or verify_peer = "off" to let in who has none',
        )
    if tls.crl is not None and tls.ca is None:
        yield Problem((("tls", "crl"),), "tls.crl is given without tls.ca", "name the CA too")


def _tls_to(destinations: Sequence[Destination | None], tls: TLSSettings) -> Iterator[Problem]:
    for index, destination in enumerate(destinations):
        if not isinstance(destination, NetworkDestination):
            continue
        at = ("destination", index)
        if not destination.tls:
            for name in ("tls_name", "tls_certificate", "tls_key", "tls_ca"):
                if getattr(destination, name) is not None:
                    yield Problem(((*at, name),), f"{name} is given without TLS", "add tls = true")
        elif destination.tls_ca is None and tls.ca is None:
            yield Problem(
                ((*at, "tls"),),
                f"destination {quoted(destination.name)} has no CA to know its certificate by",
                "add tls_ca here, or ca in [tls]",
            )


def _known_by_nothing(peers: Sequence[Peer | None], tls: TLSSettings | None) -> Iterator[Problem]:
    for index, peer in enumerate(peers):
        if peer is None:
            continue
        if peer.address is None and peer.certificate is None:
            yield Problem(
                (("peer", index),),
                "this [[peer]] has neither an address nor a certificate",
                'anyone can claim an AE title; add one, as in address = "10.0.0.0/24"',
                Aspect.KEY,
            )
        elif (
            peer.certificate is not None
            and tls is not None
            and (tls.certificate is None or tls.verify_peer == "off")
        ):
            yield Problem(
                (("peer", index, "certificate"),),
                "certificate is given, and no certificate of a sender is verified",
                'set certificate, key and ca in [tls], with verify_peer = "require"',
            )


def same_names(names: Sequence[object]) -> Iterator[Problem]:
    """Yield every name of a destination that one before it has; what is no text is passed over.

    Apart from `conflicts`, as a destination that is broken otherwise may still have a name.
    """
    seen: set[str] = set()
    for index, name in enumerate(names):
        if not isinstance(name, str):
            continue
        if name in seen:
            yield Problem(
                (("destination", index, "name"),),
                f"a destination before this one has the name {quoted(name)} too",
            )
        seen.add(name)


def _same_directory(destinations: Sequence[Destination | None]) -> Iterator[Problem]:
    """Two destinations would write the same files, each beside the other."""
    seen: set[Path] = set()
    for index, destination in enumerate(destinations):
        if not isinstance(destination, DiskDestination):
            continue
        if destination.directory in seen:
            yield Problem(
                (("destination", index, "directory"),),
                f"a destination before this one writes to {quoted(str(destination.directory))} too",
            )
        seen.add(destination.directory)


def _second_relay(destinations: Sequence[Destination | None]) -> Iterator[Problem]:
    first = None
    for index, destination in enumerate(destinations):
        if not isinstance(destination, NetworkDestination) or destination.mode != "relay":
            continue
        if first is not None:
            yield Problem(
                (("destination", index, "mode"),),
                f"destination {quoted(destination.name)} is a second relay, beside "
                f"{quoted(first)}: the modality gets only one answer",
                'make one of them mode = "forward"',
            )
        first = first or destination.name


def _fallback_of_a_forward(destinations: Sequence[Destination | None]) -> Iterator[Problem]:
    for index, destination in enumerate(destinations):
        if not isinstance(destination, NetworkDestination) or destination.mode == "relay":
            continue
        if destination.fallback != "none":
            yield Problem(
                (("destination", index, "fallback"), ("destination", index, "mode")),
                f"fallback is for a relay, and destination {quoted(destination.name)} is none",
                'what is forwarded is spooled always: leave it out, or set mode = "relay"',
            )


def _shrinking_retry(destinations: Sequence[Destination | None]) -> Iterator[Problem]:
    for index, destination in enumerate(destinations):
        if destination is not None and destination.retry_max_seconds < destination.retry_seconds:
            yield Problem(
                (
                    ("destination", index, "retry_max_seconds"),
                    ("destination", index, "retry_seconds"),
                ),
                f"retry_max_seconds ({destination.retry_max_seconds:g}) is less than "
                f"retry_seconds ({destination.retry_seconds:g})",
            )


def _to_itself(node: NodeSettings, destinations: Sequence[Destination | None]) -> Iterator[Problem]:
    for index, destination in enumerate(destinations):
        if not isinstance(destination, NetworkDestination):
            continue
        if destination.port == node.port and _listens_at(node.host, destination.host):
            yield Problem(
                (("destination", index, "port"), ("node", "port")),
                f"destination {quoted(destination.name)} is this node itself",
                "an instance would go round for ever; name another host or port",
            )


def _listens_at(listening: str, host: str) -> bool:
    """Tell whether one who listens on `listening` is surely met at `host`."""
    if listening in _WILDCARDS:
        return is_loopback(host) or host in _WILDCARDS
    return listening == host or {listening, host} <= _THIS_MACHINE
