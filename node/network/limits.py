"""What this room refuses to exceed: every limit once, with its default, unit and reason.

A frozen value. Whoever listens or associates passes one along; nothing in this room holds a bound
of its own, and none of these can be switched off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def _limit(default: float, unit: str, reason: str) -> Any:
    """Declare a limit; its unit and reason are metadata of the field."""
    return field(default=default, metadata={"unit": unit, "reason": reason})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds on one listening address or one outgoing association."""

    associations: int = _limit(
        100, "associations", "one thread and one receive buffer are spent on each"
    )
    associations_per_peer: int = _limit(
        20, "associations", "one peer, broken or hostile, must leave room for the others"
    )
    waiting: int = _limit(
        2000,
        "connections",
        "those that have not asked for an association yet cost a descriptor each, no thread; over "
        "the limit the one that has waited longest is closed",
    )
    leaving: int = _limit(
        500,
        "connections",
        "those whose association is over, or was refused, cost a descriptor each until their peers "
        "close them; over the limit the one that has waited longest is closed",
    )
    backlog: int = _limit(
        512, "connections", "a burst of modalities must not meet a full queue in the kernel"
    )
    artim_seconds: float = _limit(
        10, "seconds", "PS3.8 9.1.5: from connection to the whole A-ASSOCIATE-RQ, TLS included"
    )
    idle_seconds: float = _limit(60, "seconds", "an open association on which nothing arrives")
    pdu_seconds: float = _limit(
        30, "seconds", "grace for one PDU, first byte to last, whatever its length"
    )
    pdu_bytes_per_second: float = _limit(
        1000, "bytes per second", "slowest line worth waiting for, after the grace"
    )
    send_seconds: float = _limit(
        30, "seconds", "a peer that takes not one byte for so long has stopped reading"
    )
    close_seconds: float = _limit(
        5, "seconds", "after the last PDU, for the peer to close the connection (Sta13)"
    )
    refuse_seconds: float = _limit(
        1, "seconds", "the same for one that never had an association: it is no DICOM peer"
    )
    closing_bytes: int = _limit(
        64 * KIB, "bytes", "read and discarded while waiting for the peer to close"
    )
    associate_bytes: int = _limit(
        1 * MIB, "bytes", "A-ASSOCIATE PDU; 128 contexts of 40 transfer syntaxes are 360 kB"
    )
    max_pdu: int = _limit(
        128 * KIB, "bytes", "PS3.8 D.1 maximum length on offer; DCMTK offers no more either"
    )
    command_bytes: int = _limit(64 * KIB, "bytes", "one command set; a real one has some hundred")
    message_bytes: int = _limit(
        16 * MIB, "bytes", "data set of any message but C-STORE-RQ, held in memory"
    )
    memory_bytes: int = _limit(
        16 * MIB, "bytes", "an instance up to this size stays in memory, a larger one is spilled"
    )
    instance_bytes: int = _limit(4 * GIB, "bytes", "one instance; a larger one is answered A700")
    discard_bytes: int = _limit(
        1 * GIB, "bytes", "read past a refused instance before giving up the association"
    )

    def pdu_deadline(self, now: float, length: int) -> float:
        """Return when a PDU of `length` bytes whose first came `now` has to be complete."""
        return now + self.pdu_seconds + length / self.pdu_bytes_per_second

    @property
    def receive_buffer_bytes(self) -> int:
        """Return the size of an association's receive buffer: two PDUs, so that one is whole.

        Not less than what is read ahead at one go; of that only what is used is memory.
        """
        return max(2 * (self.max_pdu + 12), 256 * KIB)
