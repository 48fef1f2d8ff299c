"""The spool: where an instance is safe between its receipt and its delivery.

`Spool` keeps entries in folders that are their states; `Disk` is the only caller of fsync, link
and rename. See `states.py` for the table of states.
"""

from node.spool.durable import NO_LINKS, Disk, Durability
from node.spool.entries import Entry, FailedEntry, Recovered
from node.spool.spool import Incoming, Spool
from node.spool.states import State

__all__ = [
    "NO_LINKS",
    "Disk",
    "Durability",
    "Entry",
    "FailedEntry",
    "Incoming",
    "Recovered",
    "Spool",
    "State",
]
