"""Reading the small files of the spool, whatever lies under their names.

Somebody may have put a link there, a pipe that nobody writes to, or a file that fills memory: none
is followed, waited for or read.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

#: What the spool keeps beside its entries is far smaller.
_MOST_BYTES = 64 * 1024


def read_small(path: Path) -> bytes:
    """Return what a file holds; OSError where it is none, or too large."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a file", str(path))
        if found.st_size > _MOST_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return os.read(descriptor, _MOST_BYTES)
    finally:
        os.close(descriptor)
