"""Memory for data sets in the making, used again and again.

Fresh memory is dear: the kernel clears every page and takes a fault for each, which for a 512 kB
instance costs as much as receiving it. So blocks are lent by a pool and come back warm. A block
that somebody still looks into does not come back; it is left to the garbage collector, and a
view that was kept too long never shows another instance.

A listening address has one pool for all its associations, an outgoing association one of its own.
It may be used from any thread, and keeps at most `kept_bytes`.
"""

from __future__ import annotations

import threading
from typing import Final

from node.network.kernel import memory
from node.network.limits import MIB

#: A block is at least this large, so that any of them suits nearly every instance.
BLOCK_BYTES: Final = 1 * MIB
#: Kept for reuse in all: two dozen associations receiving at a time, or a few with large images.
KEPT_BYTES: Final = 32 * MIB


class Pool:
    """Blocks that wait for the next instance, the one used last on top."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._blocks: list[bytearray] = []
        self.nbytes = 0

    def take(self, byte_count: int) -> bytearray:
        """Return a block of at least `byte_count` bytes, with anything in it."""
        with self._lock:
            blocks = self._blocks
            for index in range(len(blocks) - 1, -1, -1):
                size = len(blocks[index])
                if size >= byte_count:
                    self.nbytes -= size
                    return blocks.pop(index)
        return memory(max(byte_count, BLOCK_BYTES))

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
