"""Reading back what `files.write_file` wrote.

Raises `CannotUnderstand` where the file is not a DICOM file, all that an `Instance` raises, and
OSError where the disk fails.

A mapped file that somebody else cuts off, or whose disk fails, is a signal to whoever looks at it,
SIGBUS, which ends the process. So the header is read, and so is what a digest is computed of; where
`opened` is asked to, it reads files of a bounded size altogether.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from node.dicom import part10
from node.dicom.convert import Chunk
from node.dicom.identity import scan_any
from node.dicom.part10 import AsReceived, FileMeta
from node.dicom.scan import scan
from node.errors import CannotUnderstand, OutOfResources
from node.pixels.instance import decompressed
from node.pixels.mapped import release
from node.pixels.policy import Run
from node.pixels.restorer import restore

if TYPE_CHECKING:
    from _typeshed import StrPath

#: A data set is read in pieces of this size to be compared with its digest.
_PIECE = 1 << 20


class StoredInstance(NamedTuple):
    """An open file: its File Meta Information, and where its data set lies in its bytes."""

    path: StrPath
    meta: FileMeta
    data_set_offset: int
    buffer: memoryview
    #: None where all of it was read.
    mapped: mmap.mmap | None
    descriptor: int

    @property
    def data_set(self) -> memoryview:
        """The encoded data set, in the transfer syntax that `meta` names."""
        return self.buffer[self.data_set_offset :]

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID."""
        return self.meta.sop_class_uid

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID."""
        return self.meta.sop_instance_uid

    @property
    def study_instance_uid(self) -> str:
        """Study Instance UID, "" where it has none to be read."""
        try:
            scanned = scan_any(self.data_set, self.meta.transfer_syntax_uid, self.release)
        except (CannotUnderstand, OutOfResources):
            return ""
        return scanned.study_instance_uid or ""

    @property
    def transfer_syntax_uid(self) -> str:
        """The transfer syntax in which it is stored."""
        return self.meta.transfer_syntax_uid

    @property
    def received_syntax(self) -> str:
        """The transfer syntax in which it was received."""
        came = self._came
        return self.meta.transfer_syntax_uid if came is None else came.transfer_syntax_uid

    @property
    def received_bytes(self) -> int:
        """The length of its data set as it was received."""
        came = self._came
        return len(self.buffer) - self.data_set_offset if came is None else came.byte_count

    @property
    def is_encoded_here(self) -> bool:
        """Tell whether it was received native, and is encoded now."""
        return self._came is not None

    @property
    def _came(self) -> AsReceived | None:
        return None if self.meta.record is None else self.meta.record.as_received

    def chunks(self) -> Iterable[Chunk]:
        """Return its data set as it is stored."""
        return [self.data_set]

    def as_received(self, run: Run) -> Iterable[Chunk]:
        """Return its data set as it was received, byte for byte."""
        came = self._came
        if came is None:
            return self.chunks()
        scanned = scan(self.data_set, self.meta.transfer_syntax_uid, release=self.release)
        return restore(scanned, came, self.release, run)

    def decompressed(self, transfer_syntax_uid: str, run: Run) -> bytes:
        """Return the data set of an instance that came compressed, in a native transfer syntax."""
        size = len(self.buffer)
        return run(decompressed_file, self.path, transfer_syntax_uid, work_bytes=size)

    def is_whole(self) -> bool:
        """Tell whether the data set is the one that was written; True where none is known."""
        if self.meta.record is None:
            return True
        if self.mapped is None:
            return hashlib.sha256(self.data_set).hexdigest() == self.meta.record.sha256
        digest, at = hashlib.sha256(), self.data_set_offset
        while piece := os.pread(self.descriptor, _PIECE, at):
            digest.update(piece)
            at += len(piece)
        return digest.hexdigest() == self.meta.record.sha256

    def release(self, start: int, end: int) -> None:
        """Let the kernel have the memory of these bytes of the data set back."""
        if self.mapped is not None:
            release(self.mapped, self.data_set_offset + start, self.data_set_offset + end)


@contextlib.contextmanager
def opened(path: StrPath, in_memory: int = 0) -> Iterator[StoredInstance]:
    """Map the DICOM file at `path`; one of at most `in_memory` bytes is read instead.

    OSError as `os.open` raises it.
    """
    with contextlib.ExitStack() as stack:
        # Nothing but a file is waited for: a FIFO is empty.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags)
        stack.callback(os.close, descriptor)
        size = os.fstat(descriptor).st_size
        if size == 0:
            raise CannotUnderstand("the file is empty")
        if size <= in_memory:
            content = os.pread(descriptor, size, 0)
            meta, offset = part10.decode(content)
            yield StoredInstance(path, meta, offset, memoryview(content), None, descriptor)
            return
        meta, offset = part10.decode_start(lambda count: os.pread(descriptor, count, 0))
        mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        view = memoryview(mapped)
        # A slice that is still alive in a traceback must not hide the error that made it.
        stack.callback(_close, mapped, view)
        yield StoredInstance(path, meta, offset, view, mapped, descriptor)


def _close(mapped: mmap.mmap, view: memoryview) -> None:
    with contextlib.suppress(BufferError):
        view.release()
        mapped.close()


def decompressed_file(path: StrPath, transfer_syntax_uid: str) -> bytes:
    """As `decompressed`, for a process that opens the file by itself."""
    with opened(path) as instance:
        return decompressed(instance.buffer, transfer_syntax_uid)
