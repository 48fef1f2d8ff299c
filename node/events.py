"""What happens in a node that an audit wants to know (PS3.15 A.5.3), as frozen values.

Every room that has something to tell calls a `Witness` with one of these; `service.audit` writes
them down. Values are those of JSON, so that an event can be read back. Studies are known by their
UID; no event carries a patient's name or ID, or an instance's UID.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

#: Instances by Study Instance UID ("" where they have none), then by SOP Class UID.
Studies: TypeAlias = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted:
    """The node begins its work."""

    version: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStopped:
    """The node has ended its associations, or will not come back by itself."""

    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessDied:
    """A process of the node ended by itself; associations it had ended with it."""

    role: str
    pid: int
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsReloaded:
    """New settings are in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsRefused:
    """New settings were not taken; the old ones stay."""

    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationOpened:
    """A peer was let in."""

    association: str
    ae_title: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationRefused:
    """A peer was rejected: it is not known, or calls us by another name, or there is no room.

    `code` is result, source and reason of the A-ASSOCIATE-RJ (PS3.8 9.3.4). One who tries again
    and again is told of once a minute, with how often it was.
    """

    association: str
    ae_title: str
    address: str
    code: tuple[int, int, int]
    cause: str
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticationFailed:
    """A user or a certificate was not who it should be. `user` is "" where none was named.

    Where it is TLS that failed, one who tries again and again is told of once a minute, with how
    often it was.
    """

    user: str
    ae_title: str
    address: str
    cause: str
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancesReceived:
    """What one association brought; a long one tells it in several parts."""

    association: str
    ae_title: str
    address: str
    studies: Studies
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancesSent:
    """What one association with a destination took there; a long one tells it in several parts."""

    destination: str
    ae_title: str
    address: str
    studies: Studies


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueAction:
    """A human decided: `action` is "retry", "drop", "pause", "resume" or "echo".

    `by` says who, as far as that is known: the user of the command line, "status page".
    """

    action: str
    destination: str
    instances: int
    by: str


Event: TypeAlias = (
    NodeStarted
    | NodeStopped
    | ProcessDied
    | SettingsReloaded
    | SettingsRefused
    | AssociationOpened
    | AssociationRefused
    | AuthenticationFailed
    | InstancesReceived
    | InstancesSent
    | QueueAction
)

#: Whoever is told. It returns soon and never raises.
Witness: TypeAlias = Callable[[Event], None]

_KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        NodeStarted,
        NodeStopped,
        ProcessDied,
        SettingsReloaded,
        SettingsRefused,
        AssociationOpened,
        AssociationRefused,
        AuthenticationFailed,
        InstancesReceived,
        InstancesSent,
        QueueAction,
    )
}


def nobody(_: Event) -> None:
    """Witness nothing."""


def encode(event: Event) -> dict[str, Any]:
    """Return an event as JSON has it, `event` naming its kind."""
    return {"event": type(event).__name__, **asdict(event)}


def decode(fields: Mapping[str, Any]) -> Event:
    """Return what `encode` was given; raises ValueError for anything else."""
    given = dict(fields)
    try:
        kind = _KINDS[given.pop("event")]
        return kind(**given)
    except (KeyError, TypeError) as failure:
        raise ValueError(f"not an event: {failure!r}") from failure
