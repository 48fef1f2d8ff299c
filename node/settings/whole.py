"""`Settings`: all sections together, checked as a whole, with the questions others ask of them.

A `Settings` in hand is valid and free of contradictions, whether it was loaded or made in Python;
making one that is not raises pydantic's `ValidationError`, a `ValueError`.
"""

from __future__ import annotations

import json
from collections.abc import Set
from typing import Any

from pydantic import ConfigDict, model_validator

from node.settings.conflicts import conflicts, same_names
from node.settings.schema import (
    AuditSettings,
    CompressionSettings,
    Destination,
    DiskDestination,
    IdentitySettings,
    LimitSettings,
    LogSettings,
    NetworkDestination,
    NodeSettings,
    Peer,
    Section,
    SpoolSettings,
    StatusSettings,
    TLSSettings,
    setting,
)
from node.settings.values import check_path, is_loopback


def _received() -> tuple[Destination, ...]:
    return (DiskDestination(name="received", directory=check_path("received")),)


class Settings(Section):
    """All settings. In the file, `peers` are [[peer]] and `destinations` [[destination]]."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    node: NodeSettings = setting(None, "", default_factory=NodeSettings)
    peers: tuple[Peer, ...] = setting((), "", validation_alias="peer")
    tls: TLSSettings = setting(None, "", default_factory=TLSSettings)
    identity: IdentitySettings = setting(None, "", default_factory=IdentitySettings)
    limits: LimitSettings = setting(None, "", default_factory=LimitSettings)
    compression: CompressionSettings = setting(None, "", default_factory=CompressionSettings)
    spool: SpoolSettings = setting(None, "", default_factory=SpoolSettings)
    destinations: tuple[Destination, ...] = setting(
        None, "", default_factory=_received, validation_alias="destination"
    )
    status: StatusSettings = setting(None, "", default_factory=StatusSettings)
    log: LogSettings = setting(None, "", default_factory=LogSettings)
    audit: AuditSettings = setting(None, "", default_factory=AuditSettings)

    @model_validator(mode="after")
    def _without_conflicts(self) -> Settings:
        found = conflicts(
            self.node, self.peers, self.destinations, self.status, self.tls, self.identity
        )
        names = same_names([destination.name for destination in self.destinations])
        if sentences := [conflict.sentence for conflict in (*found, *names)]:
            raise ValueError("; ".join(sentences))
        return self

    def encode(self) -> str:
        """Return the settings as one line of JSON, for another process of this node."""
        return self.model_dump_json()

    @classmethod
    def decode(cls, line: str | bytes) -> Settings:
        """Return the settings that `encode` made a line of."""
        fields = json.loads(line)
        for name in ("peers", "destinations"):
            fields[name] = tuple(fields[name])
        return cls.model_validate(fields)

    @property
    def relay(self) -> NetworkDestination | None:
        """The destination whose status answers the modality, if there is one."""
        for destination in self.destinations:
            if isinstance(destination, NetworkDestination) and destination.mode == "relay":
                return destination
        return None

    def tables(self) -> dict[str, dict[str, Any] | list[dict[str, Any]]]:
        """Return all settings as the file has them: sections and lists of tables by name."""
        sections = {name: dict(getattr(self, name)) for name in SECTIONS}
        lists = {"peer": self.peers, "destination": self.destinations}
        return {**sections, **{name: [dict(e) for e in found] for name, found in lists.items()}}

    def admits(
        self, calling_ae_title: str, address: str, certificate_names: Set[str] = frozenset()
    ) -> bool:
        """Tell whether a requestor with that title, address and certificate may send."""
        if self.node.any_peer:
            return True
        if not self.peers:
            # `conflicts` sees to it that we listen on loopback only; a socket unit does not know.
            return is_loopback(address)
        return any(peer.admits(calling_ae_title, address, certificate_names) for peer in self.peers)

    def places_of(self, calling_ae_title: str) -> list[str]:
        """Return from where, or with what, a requestor with that title may send; in words."""
        return [peer.whence for peer in self.peers if peer.ae_title == calling_ae_title]

    def needs_certificate(self, calling_ae_title: str) -> bool:
        """Tell whether a requestor with that title may only send with a certificate."""
        known = [peer for peer in self.peers if peer.ae_title == calling_ae_title]
        return bool(known) and all(peer.certificate is not None for peer in known)

    def peer_name(self, calling_ae_title: str) -> str | None:
        """Return that title where it is in the list of peers."""
        known = any(peer.ae_title == calling_ae_title for peer in self.peers)
        return calling_ae_title if known else None

    def calling_ae_title(self, destination: NetworkDestination) -> str:
        """Return the AE title by which we call that destination."""
        return destination.calling_ae_title or self.node.ae_title


#: The sections of the file by name, and the lists of tables with what an element can be.
SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
LISTS: dict[str, tuple[type[Section], ...]] = {
    "peer": (Peer,),
    "destination": (DiskDestination, NetworkDestination),
}
