"""How open the node is, in sentences: for the log at start, the page, the metrics.

`expiries` reads the certificates that are in use; `notices` is pure. A notice says what a security
office would object to, and what to do. None of them stops the node.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from node.errors import BadConfiguration
from node.network.certificate import days_left, expiry_of
from node.network.tls import TLS
from node.service.doors import tls_of, tls_to
from node.settings import NetworkDestination, Settings

log = logging.getLogger(__name__)

#: A certificate that expires within so many days is spoken of.
_DAYS_BEFORE = 30


def expiries(settings: Settings) -> dict[str, datetime]:
    """Return when our certificates expire: of `node`, and of destinations that have their own."""
    found = {}
    for name, path, _ in certificates(settings):
        try:
            found[name] = expiry_of(path)
        except BadConfiguration as failure:
            log.warning("%s", failure)
    return found


def certificates(settings: Settings) -> Iterator[tuple[str, Path, TLS]]:
    """Yield name and file of each certificate that we show, and how it is used."""
    if settings.tls.certificate is not None:
        yield "node", settings.tls.certificate, tls_of(settings.tls)
    for destination in settings.destinations:
        if isinstance(destination, NetworkDestination) and destination.tls_certificate:
            yield destination.name, destination.tls_certificate, tls_to(settings.tls, destination)


def notices(settings: Settings, expiring: Mapping[str, datetime], now: datetime) -> tuple[str, ...]:
    """Return what is said loudly, the gravest first."""
    return (*_of_certificates(expiring, now), *_of_access(settings))


def _of_certificates(expiring: Mapping[str, datetime], now: datetime) -> Iterator[str]:
    for name, expiry in sorted(expiring.items(), key=lambda item: item[1]):
        left = days_left(expiry, now)
        if left < 0:
            yield (
                f"the certificate of {name} expired on {expiry:%Y-%m-%d}: peers that check it "
                "refuse us; put a new one in its place and reload"
            )
        elif left < _DAYS_BEFORE:
            yield (
                f"the certificate of {name} expires in {left} days, on {expiry:%Y-%m-%d}; "
                "put a new one in its place and reload"
            )


def _of_access(settings: Settings) -> Iterator[str]:
    node, tls = settings.node, settings.tls
    if node.loopback_only:
        return
    if node.any_peer:
        yield (
            "OPEN TO EVERYONE: any_peer lets anyone who can reach the port send; "
            "list the senders as [[peer]] instead"
        )
    if tls.certificate is None or tls.port is not None:
        yield (
            f"port {node.port} is without TLS: patient data crosses the network readable, and an "
            "AE title proves nothing; give [tls] a certificate where senders can use it"
        )
    elif tls.verify_peer == "off":
        yield (
            "TLS without client certificates: what a sender calls itself is not proven; "
            'give tls.ca and say verify_peer = "require" where senders have certificates'
        )


def now() -> datetime:
    """Return the time by which certificates are judged."""
    return datetime.now(UTC)
