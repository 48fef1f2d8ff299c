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
import mmap
import os
import uuid
from io import BytesIO
from pathlib import Path
from typing import Final

from node.errors import InstanceRefused, OutOfResources
from node.network.limits import Limits

#: Fragments are written to the file this many bytes at a time: 16 KiB PDUs cost no call each.
_WRITE_BYTES: Final = 512 * 1024


class TooMuch(Exception):
    """A refused data set went on beyond `discard_bytes`; the association must be given up."""


class ReceivedData:
    """The encoded data set of one received instance, valid until `close`.

    `buffer` is the bytes themselves, or a map of the spill file at `path`. Whoever wants to keep
    the file renames or links it away before the handler returns.
    """

    def __init__(self, memory: bytearray, path: Path | None = None, descriptor: int = -1) -> None:
        self._memory = memory
        self._descriptor = descriptor
        self._map: mmap.mmap | None = None
        self._view: memoryview | None = None
        self.path = path
        self.nbytes = os.fstat(descriptor).st_size if path is not None else len(memory)

    @property
    def descriptor(self) -> int:
        """Return the open descriptor of the spill file, -1 where there is none."""
        return self._descriptor

    @property
    def buffer(self) -> memoryview:
        """Return the bytes, without a copy."""
        if self._view is None:
            if self.path is not None:
                self._map = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
            self._view = memoryview(self._memory if self._map is None else self._map)
        return self._view

    def as_stream(self) -> BytesIO:
        """Return a copy of the bytes as pynetdicom's events expect them."""
        return BytesIO(self.buffer)

    def close(self) -> None:
        """Give back the memory and remove the spill file; harmless when done twice."""
        # A handler that kept a slice keeps the memory too: BufferError, and no harm.
        with contextlib.suppress(BufferError):
            if self._view is not None:
                self._view.release()
            if self._map is not None:
                self._map.close()
        self._view = self._map = None
        self._memory = bytearray()
        if self.path is not None and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            # The handler may have renamed it away.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)


class Assembly:
    """One data set in the making."""

    def __init__(self, limits: Limits, spill: Path | None) -> None:
        self._limits = limits
        self._spill = spill
        self._memory = bytearray()
        self._in_memory = limits.memory_bytes if spill is not None else limits.instance_bytes
        self._path: Path | None = None
        self._descriptor = -1
        self._discarded = 0
        self.nbytes = 0
        self.failure: InstanceRefused | None = None

    def write(self, fragment: memoryview) -> None:
        """Take the next fragment."""
        self.nbytes += len(fragment)
        if self.nbytes <= self._in_memory and self.failure is None:
            self._memory += fragment
        else:
            self._write_elsewhere(fragment)

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
        data = ReceivedData(self._memory, self._path, self._descriptor)
        self._memory, self._path, self._descriptor = bytearray(), None, -1
        return data

    def abandon(self) -> None:
        """Leave nothing behind: the association ended, or the instance was refused."""
        self._memory = bytearray()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            self._path = None

    def _write_elsewhere(self, fragment: memoryview) -> None:
        if self.failure is None and self.nbytes > self._limits.instance_bytes:
            self.refuse(OutOfResources("instance is larger than this node accepts"))
        if self.failure is not None:
            self._discard(len(fragment))
            return
        if self._descriptor < 0:
            self._open()
        self._memory += fragment
        if len(self._memory) >= _WRITE_BYTES:
            self._flush()

    def _discard(self, byte_count: int) -> None:
        self._discarded += byte_count
        if self._discarded > self._limits.discard_bytes:
            raise TooMuch

    def _open(self) -> None:
        assert self._spill is not None
        path = self._spill / f"{uuid.uuid4().hex}.part"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            self._fail(error)
        else:
            self._path = path
            self._flush()

    def _flush(self) -> None:
        """Move what is in memory to the file. A full disk is an answer, not a broken line."""
        if self.failure is not None:
            return
        try:
            with memoryview(self._memory) as view:
                written = 0
                while written < len(view):
                    written += os.write(self._descriptor, view[written:])
            self._memory.clear()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.refuse(OutOfResources(f"cannot write: {error.strerror}"))
