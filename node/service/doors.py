"""The ports of a node: the supervisor opens them, every receiver shares them.

A node has a plain port, one for TLS, or both. Which is which is decided here, once, from the
settings; a port is one or the other from the first byte on, and nothing changes that.

Raises `CannotWrite` for a port that is taken.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace

from node.errors import BadConfiguration
from node.network.ports import listening_socket
from node.network.tls import TLS, faults
from node.network.users import Users
from node.settings import NetworkDestination, Settings
from node.settings.schema import IdentitySettings, TLSSettings

#: The FileDescriptorName= of a socket unit for `tls.port`; any other is for `node.port`.
TLS_NAME = "tls"


@dataclass(frozen=True, slots=True)
class Doors:
    """What a node listens on; at least one of the two is there.

    `places` is the file by which receivers share the limits on associations.
    """

    plain: socket.socket | None = None
    secured: socket.socket | None = None
    places: int = -1

    @classmethod
    def open(cls, settings: Settings, inherited: Mapping[str, socket.socket]) -> Doors:
        """Take the ports that `settings` name, or sockets that systemd opened in their place."""
        places = os.memfd_create("associations", os.MFD_CLOEXEC)
        try:
            return replace(cls._open(settings, inherited), places=places)
        except BaseException:
            os.close(places)
            raise

    @classmethod
    def _open(cls, settings: Settings, inherited: Mapping[str, socket.socket]) -> Doors:
        given = dict(inherited)
        for_tls = given.pop(TLS_NAME, None)
        main = next(iter(given.values()), None)
        host, port, tls = settings.node.host, settings.node.port, settings.tls
        if tls.certificate is not None and tls.port is None:
            return cls(secured=for_tls or main or listening_socket(host, port))
        plain = main or listening_socket(host, port)
        if tls.certificate is None or tls.port is None:
            return cls(plain=plain)
        try:
            return cls(plain=plain, secured=for_tls or listening_socket(host, tls.port))
        except BaseException:
            plain.close()
            raise

    @classmethod
    def inherited(cls, plain: int, secured: int, places: int) -> Doors:
        """Return the doors that another process opened, by descriptor; -1 where there is none."""
        opened = [
            socket.socket(fileno=number) if number >= 0 else None for number in (plain, secured)
        ]
        return cls(opened[0], opened[1], places)

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """The descriptors of both, -1 where there is none, and of the places."""
        plain, secured = (-1 if d is None else d.fileno() for d in (self.plain, self.secured))
        return plain, secured, self.places

    @property
    def addresses(self) -> list[tuple[str, int, bool]]:
        """Where the node listens: host, port, and whether with TLS."""
        return [
            (str(host), int(port), door is self.secured)
            for door in (self.plain, self.secured)
            if door is not None
            for host, port, *_ in [door.getsockname()]
        ]

    def close(self) -> None:
        """Listen no more."""
        for door in (self.plain, self.secured):
            if door is not None:
                door.close()
        if self.places >= 0:
            os.close(self.places)


def tls_of(settings: TLSSettings) -> TLS:
    """Return the settings as the network room takes them."""
    return TLS(
        certificate=settings.certificate,
        key=settings.key,
        ca=settings.ca,
        crl=settings.crl,
        verify_peer=settings.verify_peer,
        profile=settings.profile,
    )


def users_of(settings: IdentitySettings) -> Users | None:
    """Return the users that may send, or None where nobody asks who they are."""
    if settings.users is None:
        return None
    return Users(settings.users, required=settings.required)


def require_usable(settings: Settings) -> None:
    """Raise `BadConfiguration` with every file that TLS or the users need and cannot be used."""
    found = []
    if (users := users_of(settings.identity)) is not None:
        try:
            users.require_usable()
        except BadConfiguration as failure:
            found.append(str(failure))
    if settings.tls.certificate is not None:
        found += faults(tls_of(settings.tls))
    for destination in settings.destinations:
        if isinstance(destination, NetworkDestination) and destination.tls:
            found += faults(tls_to(settings.tls, destination))
    if found:
        # Destinations may share files with each other and with us.
        raise BadConfiguration("\n".join(dict.fromkeys(found)))


def tls_to(own: TLSSettings, destination: NetworkDestination) -> TLS:
    """Return how a destination is reached over TLS: by our own files where it names no others."""
    certificate = destination.tls_certificate
    return TLS(
        certificate=certificate or own.certificate,
        key=destination.tls_key or (own.key if certificate is None else None),
        ca=destination.tls_ca or own.ca,
        crl=own.crl if destination.tls_ca is None else None,
        profile=own.profile,
        name=destination.tls_name or destination.host,
    )
