"""The spool: where an instance is safe between its receipt and its delivery.

`Spool` keeps entries in folders that are their states; `Disk` is the only caller of fsync, link
and rename; `Indexer` remembers what failed, in a file that can be thrown away. See `states.py` for
the table of states. What is imported is only what is asked for: `compress` uses the disk and has no
spool.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from node.spool.durable import NO_LINKS, Disk, Durability
    from node.spool.entries import Entry, FailedEntry, Recovered, TakenOver, received_at
    from node.spool.incoming import Draft, Incoming
    from node.spool.index import Tried
    from node.spool.indexer import Indexer
    from node.spool.spool import Spool
    from node.spool.states import State
    from node.spool.trust import DISK_MEND

__all__ = [
    "DISK_MEND",
    "NO_LINKS",
    "Disk",
    "Draft",
    "Durability",
    "Entry",
    "FailedEntry",
    "Incoming",
    "Indexer",
    "Recovered",
    "Spool",
    "State",
    "TakenOver",
    "Tried",
    "received_at",
]

_MODULES = {
    "node.spool.durable": ("NO_LINKS", "Disk", "Durability"),
    "node.spool.entries": ("Entry", "FailedEntry", "Recovered", "TakenOver", "received_at"),
    "node.spool.incoming": ("Draft", "Incoming"),
    "node.spool.index": ("Tried",),
    "node.spool.indexer": ("Indexer",),
    "node.spool.spool": ("Spool",),
    "node.spool.states": ("State",),
    "node.spool.trust": ("DISK_MEND",),
}


def __getattr__(name: str) -> Any:
    """Import one of the names above when it is asked for (PEP 562)."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
