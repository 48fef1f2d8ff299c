"""How many associations run, in all and for each peer's address: shared by everyone who listens.

A place is a byte of a file on which this process holds a lock, one of as many bytes as there may be
associations; each association takes one in all and one of its peer's. The kernel keeps the locks,
so the limits hold for all processes that were given the file, and a process that is killed gives
its places back in the same moment. Without a file the limits hold for this process.

What the file contains is how many associations each process has, and connections that wait for one,
so that processes share the work: each writes its number into a field of its own, whose place it
holds for as long as it lives.

Every method may be called from any thread.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import threading
from array import array
from functools import lru_cache
from typing import Final

from node.network.limits import Limits

#: The places of a peer begin at this byte, times a number that stands for its address.
_PEER_BYTES: Final = 1 << 16
#: Addresses are told apart by so many bytes of their digest; two that are not share a limit.
_DIGEST_BYTES: Final = 5
#: Places beyond those of any number of associations, before those of peers: one for each field.
_FIRST_FIELD: Final = _PEER_BYTES // 2
#: As many as there may be receivers. A process that finds none takes no part in sharing.
_FIELDS: Final = 256
#: Associations and visitors of a process, and one: 0 where the field is nobody's.
_FIELD: Final = struct.Struct("H")
#: As many modalities; what a scan leaves does not stay.
_REMEMBERED_ADDRESSES: Final = 256


class Census:
    """The associations of one process, among those of all that share `places`."""

    def __init__(self, limits: Limits, places: int | None = None) -> None:
        self._limits = limits
        self._places = places
        self._lock = threading.Lock()
        # Processes begin to look at different places, so that they seldom meet.
        self._first_look = os.getpid() * 37
        self._taken: set[int] = set()
        #: By address, the places of each association: one in all, one of the peer's.
        self._associations: dict[str, list[tuple[int, int]]] = {}
        self._count = 0
        self._field = self._take_one(_FIRST_FIELD, _FIELDS) if places is not None else None
        self._tell()

    def take(self, address: str) -> bool:
        """Take the places of an association with a peer at `address`; False where none is free."""
        with self._lock:
            of_all = self._take_one(0, self._limits.associations)
            if of_all is None:
                return False
            of_peer = self._take_one(_first_of(address), self._limits.associations_per_peer)
            if of_peer is None:
                self._give_back(of_all)
                return False
            self._associations.setdefault(address, []).append((of_all, of_peer))
            self._count += 1
            self._tell()
            return True

    def ended(self, address: str) -> None:
        """Give the places of one association back."""
        with self._lock:
            associations = self._associations[address]
            for place in associations.pop():
                self._give_back(place)
            if not associations:
                del self._associations[address]
            self._count -= 1
            self._tell()

    def visitor_came(self) -> None:
        """Count a connection that has not asked for an association yet."""
        with self._lock:
            self._count += 1
            self._tell()

    def visitor_went(self) -> None:
        """Count one less."""
        with self._lock:
            self._count -= 1
            self._tell()

    def others_have_fewer(self, over: int) -> bool:
        """Tell whether another process has less to do; `over` associations of ours have ended."""
        with self._lock:
            mine = self._count - over
            if self._places is None or self._field is None or mine <= 0:
                return False
            told = array(_FIELD.format, os.pread(self._places, _FIELDS * _FIELD.size, 0))
            return any(
                0 < number <= mine and field != self._field and not self._is_orphan(field)
                for field, number in enumerate(told, _FIRST_FIELD)
            )

    def leave(self) -> None:
        """Take no part in sharing any more: this process lets nobody in from now on."""
        with self._lock:
            if self._field is not None:
                self._write(0)
                self._give_back(self._field)
                self._field = None

    def close(self) -> None:
        """Use the file no more, which may be closed now; what still ends here counts for nobody."""
        self.leave()
        with self._lock:
            self._places = None

    def _tell(self) -> None:
        self._write(self._count + 1)

    def _write(self, number: int) -> None:
        if self._places is not None and self._field is not None:
            at = (self._field - _FIRST_FIELD) * _FIELD.size
            os.pwrite(self._places, _FIELD.pack(number), at)

    def _is_orphan(self, field: int) -> bool:
        """Tell whether the process of a field has died."""
        is_orphan = self._is_free(field)
        if is_orphan:
            self._give_back(field)
        return is_orphan

    def _take_one(self, first: int, count: int) -> int | None:
        begin = (self._first_look + len(self._taken)) % count
        for number in range(count):
            place = first + (begin + number) % count
            if place not in self._taken and self._is_free(place):
                self._taken.add(place)
                return place
        return None

    def _is_free(self, place: int) -> bool:
        """Lock a place; False where another process has it."""
        if self._places is None:
            return True
        try:
            fcntl.lockf(self._places, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _give_back(self, place: int) -> None:
        self._taken.discard(place)
        if self._places is not None:
            fcntl.lockf(self._places, fcntl.LOCK_UN, 1, place)


@lru_cache(_REMEMBERED_ADDRESSES)
def _first_of(address: str) -> int:
    digest = hashlib.sha256(address.encode()).digest()[:_DIGEST_BYTES]
    return (int.from_bytes(digest, "big") + 1) * _PEER_BYTES
