"""Letting go of a memory-mapped file piece by piece, so that a large one never fills memory."""

from __future__ import annotations

import mmap


def release(mapped: mmap.mmap, start: int, end: int) -> None:
    """Give the whole pages between `start` and `end` back to the kernel.

    They stay readable, from the page cache or the disk. The last page is kept: the next bytes
    share it.
    """
    first = start // mmap.PAGESIZE * mmap.PAGESIZE
    length = end // mmap.PAGESIZE * mmap.PAGESIZE - first
    if length > 0:
        mapped.madvise(mmap.MADV_DONTNEED, first, length)
