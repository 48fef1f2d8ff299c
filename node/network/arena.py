"""Memory for data sets in the making, used again and again.

Fresh memory is dear: the kernel clears every page and takes a fault for each, which for a 512 kB
instance costs as much as receiving it. So blocks are lent by a pool and come back warm. A block
that somebody still looks into does not come back; it is left to the garbage collector, and a
view that was kept too long never shows another instance.

`POOL` is one per process, may be used from any thread, and keeps at most `KEPT_BYTES`.
"""

from __future__ import annotations

import threading
from typing import Final

from node.network.limits import MIB

#: A block is at least this large, so that any of them suits nearly every instance.
BLOCK_BYTES: Final = 1 * MIB
#: Kept for reuse in all: two dozen associations receiving at a time, or a few with large images.
KEPT_BYTES: Final = 32 * MIB


class Pool:
    """Blocks that wait for the next instance, the one used last on top."""

    def __init__(self, kept_bytes: int) -> None:
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._blocks: list[bytearray] = []
        self.nbytes = 0

    def take(self, byte_count: int) -> bytearray:
        """Return a block of at least `byte_count` bytes, with anything in it."""
        with self._lock:
            for index in range(len(self._blocks) - 1, -1, -1):
                if len(self._blocks[index]) >= byte_count:
                    block = self._blocks.pop(index)
                    self.nbytes -= len(block)
                    return block
        return bytearray(max(byte_count, BLOCK_BYTES))

    def give_back(self, block: bytearray) -> None:
        """Take `block` back, unless somebody holds a view of it or there are enough."""
        try:
            # Refused by Python while a view exists; never moves the block.
            block.append(block.pop())
        except (BufferError, IndexError):
            return
        with self._lock:
            if self.nbytes + len(block) <= self._kept_bytes:
                self._blocks.append(block)
                self.nbytes += len(block)


POOL: Final = Pool(KEPT_BYTES)
