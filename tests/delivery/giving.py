"""Giving one entry to a lane, as a loop does."""

from __future__ import annotations

from node.delivery.attempt import Destination
from node.model import Outcome
from node.pixels.stored import opened
from node.spool import Entry


def give(to: Destination, entry: Entry) -> Outcome:
    """Deliver one entry and settle it."""
    with opened(entry.path) as instance:
        outcome = to.deliver(entry, instance)
    return to.settle() or outcome
