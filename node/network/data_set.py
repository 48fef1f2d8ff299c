"""Where a data set goes while it arrives: memory, a spill file, or nowhere.

An `Assembly` takes the fragments of one data set in order. Up to `memory_bytes` they are gathered
in memory; beyond that they go on in a spill file, so that an instance of any size is received in
bounded memory. Once an instance cannot be kept, the rest of it is counted and dropped, because
the requestor is owed an answer and will not read it before it has sent everything (PS3.7 9.1.1).

This module alone creates and removes spill files (O_EXCL, mode 0600, a name of our own making).
What goes wrong while writing is not raised but kept in `failure` and answered A700; `TooMuch` is
raised when a refused data set does not end.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import uuid
from io import BytesIO
from pathlib import Path
from typing import Final

from node.errors import InstanceRefused, OutOfResources
from node.network.arena import BLOCK_BYTES, Pool
from node.network.limits import KIB, Limits
from node.pixels import rle
from node.pixels.mapped import release

#: Smaller fragments are gathered before they are written: 16 KiB PDUs cost no call each.
_WRITE_BYTES: Final = 64 * KIB
#: So much is gathered, a block: a quarter of it costs a third more, for it takes four turns through
#: Python and four writes.
_GATHER_BYTES: Final = BLOCK_BYTES
#: Of a spill file so much is read at a time.
_READ_BYTES: Final = 1024 * KIB


class TooMuch(Exception):
    """A refused data set went on beyond `discard_bytes`; the association must be given up."""


def in_memory_bytes(limits: Limits, spill: Path | None) -> int:
    """Return how long a data set may be that stays in memory."""
    most = limits.instance_bytes
    return min(limits.memory_bytes, most) if spill is not None else most


class ReceivedData:
    """The encoded data set of one received instance, valid until `close`.

    `buffer` is the bytes themselves, in a block of a pool or of their own, or a map of the spill
    file at `path`. Whoever wants to keep the file renames or links it away before the handler
    returns.
    """

    def __init__(
        self,
        pool: Pool | None,
        block: bytearray | bytes,
        nbytes: int,
        path: Path | None = None,
        descriptor: int = -1,
        crc32: int = 0,
    ) -> None:
        self._pool = pool
        self._block: bytearray | bytes | None = block
        self._map: mmap.mmap | None = None
        self._view: memoryview | None = None
        self.nbytes = nbytes
        self.path = path
        self.descriptor = descriptor
        self._crc32 = crc32

    @property
    def buffer(self) -> memoryview:
        """Return the bytes, without a copy."""
        if self._view is None:
            if self.path is not None:
                self._map = mmap.mmap(self.descriptor, 0, access=mmap.ACCESS_READ)
                self._view = memoryview(self._map)
            else:
                assert self._block is not None, "closed"
                self._view = memoryview(self._block)[: self.nbytes]
        return self._view

    def release(self, start: int, end: int) -> None:
        """Say that these bytes will not be needed again: those of a spill file leave memory."""
        if self._map is not None:
            release(self._map, start, end)

    def is_as_it_arrived(self, crc32: int | None = None) -> bool:
        """Tell whether a spill file holds what was written to it: a disk may give back other bytes.

        `crc32` is that of the bytes as the caller has read them; without it they are read again.
        """
        if self.path is None:
            return True
        if crc32 is None:
            crc32, at = 0, 0
            # Read, not mapped: a disk that fails is an OSError then, and not a signal.
            while piece := os.pread(self.descriptor, _READ_BYTES, at):
                crc32, at = rle.crc32(piece, crc32), at + len(piece)
        return crc32 == self._crc32

    def as_stream(self) -> BytesIO:
        """Return a copy of the bytes as pynetdicom's events expect them."""
        return BytesIO(self.buffer)

    def close(self) -> None:
        """Give back the memory and remove the spill file; harmless when done twice."""
        # A handler that kept a slice keeps the memory alive: BufferError, and no harm.
        try:
            if self._view is not None:
                self._view.release()
            if self._map is not None:
                self._map.close()
        except BufferError:
            pass
        self._view = self._map = None
        if isinstance(self._block, bytearray) and self._pool is not None:
            self._pool.give_back(self._block)
        self._block = None
        if self.path is not None and self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
            # The handler may have renamed it away.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)


class Assembly:
    """One data set in the making."""

    def __init__(self, limits: Limits, spill: Path | None, pool: Pool) -> None:
        self._limits = limits
        self._spill = spill
        self._pool = pool
        self._in_memory = in_memory_bytes(limits, spill)
        self._take_block(0)
        self._path: Path | None = None
        self._descriptor = -1
        self._discarded = 0
        self._crc32 = 0
        self.nbytes = 0
        self.failure: InstanceRefused | None = None

    def _take_block(self, byte_count: int) -> None:
        self._block = self._pool.take(byte_count)
        self._view = memoryview(self._block)
        self._filled = 0

    def free(self) -> tuple[memoryview, int, int]:
        """Return memory for fragments, how much of it is filled, and how much of it may be.

        Full before a limit is passed or the file has to be written: `write` does what is due then.
        """
        if self._descriptor < 0:
            return self._view, self._filled, min(len(self._view), self._in_memory)
        left = self._limits.instance_bytes - self.nbytes
        return self._view, self._filled, min(_GATHER_BYTES, self._filled + left)

    def fill_to(self, filled: int) -> None:
        """Count what was put into the memory that `free` returned."""
        self.nbytes += filled - self._filled
        self._filled = filled

    def make_room(self) -> bool:
        """Write what was gathered for the file; False where there is nothing, or no file."""
        if self._descriptor < 0 or not self._filled:
            return False
        self._flush()
        return self.failure is None

    def write(self, fragment: memoryview) -> None:
        """Take the next fragment."""
        length = len(fragment)
        self.nbytes += length
        filled = self._filled + length
        if filled > len(self._view) or self.nbytes > self._in_memory or self.failure is not None:
            self._write_elsewhere(fragment)
            return
        self._view[self._filled : filled] = fragment
        self._filled = filled

    def refuse(self, failure: InstanceRefused) -> None:
        """Keep nothing of this data set and answer `failure` at its end."""
        self.failure = failure
        self.abandon()

    def finish(self) -> ReceivedData | None:
        """Return the whole data set, or None where there is a `failure`."""
        if self._descriptor >= 0:
            self._flush()
        if self.failure is not None:
            return None
        self._view.release()
        data = ReceivedData(
            self._pool, self._block, self.nbytes, self._path, self._descriptor, self._crc32
        )
        self._path, self._descriptor = None, -1
        return data

    def abandon(self) -> None:
        """Leave nothing behind: the association ended, or the instance was refused."""
        self._give_block_back()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            self._path = None

    def _give_block_back(self) -> None:
        self._view.release()
        self._view = memoryview(b"")
        self._filled = 0
        self._pool.give_back(self._block)
        self._block = bytearray()

    def _write_elsewhere(self, fragment: memoryview) -> None:
        if self.failure is None and self.nbytes > self._limits.instance_bytes:
            most = self._limits.instance_bytes
            self.refuse(
                OutOfResources(f"instance is larger than limits.instance_bytes, {most} bytes")
            )
        if self.failure is not None:
            self._discard(len(fragment))
        elif self.nbytes <= self._in_memory:
            self._grow(len(fragment))
            self._append(fragment)
        else:
            self._write_to_file(fragment)

    def _discard(self, byte_count: int) -> None:
        self._discarded += byte_count
        if self._discarded > self._limits.discard_bytes:
            raise TooMuch

    def _append(self, fragment: memoryview) -> None:
        self._view[self._filled : self._filled + len(fragment)] = fragment
        self._filled += len(fragment)

    def _grow(self, byte_count: int) -> None:
        """Go on in a block of twice the size."""
        old, view, filled = self._block, self._view, self._filled
        self._take_block(max(2 * len(view), filled + byte_count))
        self._append(view[:filled])
        view.release()
        self._pool.give_back(old)

    def _write_to_file(self, fragment: memoryview) -> None:
        if self._descriptor < 0:
            self._open()
        elif self._filled + len(fragment) > _GATHER_BYTES or len(fragment) >= _WRITE_BYTES:
            self._flush()
        if self.failure is not None:
            self._discard(len(fragment))
        elif len(fragment) >= _WRITE_BYTES:
            self._write_all(fragment)
        else:
            self._append(fragment)

    def _open(self) -> None:
        """Move what is in memory to a file; a block is enough to gather fragments in after."""
        assert self._spill is not None
        path = self._spill / f"{uuid.uuid4().hex}.part"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o600)
            self._path = path
            # For as long as it is open, so that nobody takes it for one that was left behind.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except OSError as error:
            self._fail(error)
            return
        self._flush()
        if self.failure is None:
            self._give_block_back()
            self._take_block(BLOCK_BYTES)

    def _flush(self) -> None:
        self._write_all(self._view[: self._filled])
        self._filled = 0

    def _write_all(self, data: memoryview) -> None:
        """Write to the file. A full disk is an answer, not a broken line."""
        self._crc32 = rle.crc32(data, self._crc32)
        try:
            while len(data):
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.refuse(OutOfResources(f"cannot write: {error.strerror}"))
