"""Every setting once, and how a node gets them: see `schema` for the settings, `load` for the way.

    values        what settings are made of: AE titles, hosts, networks, `AET@HOST:PORT`
    schema        the sections, every setting with its default, unit, range and help
    conflicts     what is fine alone and cannot stand together
    whole         `Settings`
    locate        where each key of a TOML file stands
    problems, sources, files, environment, command_line
                  the layers settings come from, and an error shown where it was written
    validate      tables -> `Settings`, or every problem there is
    load          the layers put together
    toml, reference
                  settings shown: for `config show`, for the README

What others use is here; the modules are for this room.
"""

from node.settings.command_line import destinations as command_line_destinations
from node.settings.load import Loaded, load
from node.settings.schema import (
    AuditSettings,
    CompressionSettings,
    Destination,
    DestinationSettings,
    DiskDestination,
    LimitSettings,
    LogSettings,
    NetworkDestination,
    NodeSettings,
    Peer,
    SpoolSettings,
    StatusSettings,
)
from node.settings.values import PeerAddress, parse_peer
from node.settings.whole import Settings

__all__ = [
    "AuditSettings",
    "CompressionSettings",
    "Destination",
    "DestinationSettings",
    "DiskDestination",
    "LimitSettings",
    "Loaded",
    "LogSettings",
    "NetworkDestination",
    "NodeSettings",
    "Peer",
    "PeerAddress",
    "Settings",
    "SpoolSettings",
    "StatusSettings",
    "command_line_destinations",
    "load",
    "parse_peer",
]
