"""Reading back what `files.write_file` wrote: the instance, and its data set in a wanted form.

Raises `CannotUnderstand` where the file is not a DICOM file or its data set cannot be parsed,
`DecodingFailed` where frames cannot be decoded or a decompressed data set is not what was
received, OSError where the disk fails.

A mapped file that somebody else cuts off, or whose disk fails, is a signal to whoever looks at it,
SIGBUS, which ends the process. So the header is read, and so is what a digest is computed of; where
`opened` is asked to, it reads files of a bounded size altogether.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from node.dicom import convert, part10, uids
from node.dicom.convert import Chunk
from node.dicom.part10 import FileMeta
from node.dicom.scan import scan
from node.errors import CannotUnderstand, CodecFailed, DecodingFailed
from node.pixels.mapped import release
from node.pixels.policy import Run, here
from node.pixels.restorer import restore

#: A data set is read in pieces of this size to be compared with its digest.
_PIECE = 1 << 20


class StoredInstance(NamedTuple):
    """An open file: its File Meta Information, and where its data set lies in its bytes."""

    path: Path
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
    def received_syntax(self) -> str:
        """The transfer syntax in which it was received."""
        record = self.meta.record
        if record is not None and record.as_received is not None:
            return record.as_received.transfer_syntax_uid
        return self.meta.transfer_syntax_uid

    @property
    def received_bytes(self) -> int:
        """The length of its data set as it was received."""
        record = self.meta.record
        if record is not None and record.as_received is not None:
            return record.as_received.byte_count
        return len(self.buffer) - self.data_set_offset

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
def opened(path: Path, in_memory: int = 0) -> Iterator[StoredInstance]:
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


def native_syntaxes(instance: StoredInstance) -> list[str]:
    """Return the native transfer syntaxes its data set can be given in, best first.

    That it was received in comes first: it gives the bytes that were received.
    """
    received = instance.received_syntax
    others = [uids.EXPLICIT_VR_LE, uids.IMPLICIT_VR_LE]
    if received in uids.NATIVE:
        return list(dict.fromkeys([received, *others]))
    # Inflated or decoded by pydicom, where it can.
    return others


def data_set_in(
    instance: StoredInstance, transfer_syntax_uid: str, run: Run = here
) -> Iterable[Chunk]:
    """Return the data set of `instance` in its own or one of its `native_syntaxes`.

    `run` says where the codecs of others do their part.
    """
    stored, received = instance.meta.transfer_syntax_uid, instance.received_syntax
    if transfer_syntax_uid == stored:
        return [instance.data_set]
    if received not in uids.NATIVE:
        return [_decompressed(instance, transfer_syntax_uid, run)]
    restored = as_received(instance, run)
    if transfer_syntax_uid == received:
        return restored
    return _converted(b"".join(restored), received, transfer_syntax_uid)


def received_digest(instance: StoredInstance, run: Run = here) -> tuple[str, bytes]:
    """Return the transfer syntax in which `instance` was received, and the SHA-256 of that."""
    received = instance.received_syntax
    digest = hashlib.sha256()
    for chunk in data_set_in(instance, received, run):
        digest.update(chunk)
    return received, digest.digest()


def as_received(instance: StoredInstance, run: Run) -> Iterable[Chunk]:
    """Return the data set of `instance` as it was received, byte for byte."""
    record = instance.meta.record
    if record is None or record.as_received is None:
        return [instance.data_set]
    scanned = scan(instance.data_set, instance.meta.transfer_syntax_uid, release=instance.release)
    return restore(scanned, record.as_received, instance.release, run)


def _converted(data_set: bytes, source: str, target: str) -> Iterable[Chunk]:
    """Bring a native data set into another native transfer syntax; all of it is in memory.

    This is for a peer that accepted neither what is stored nor what was received.
    """
    try:
        if target == uids.EXPLICIT_VR_LE:
            return convert.to_explicit_le(data_set, source)
        if source != uids.EXPLICIT_VR_LE:
            data_set = b"".join(convert.to_explicit_le(data_set, source))
        return convert.from_explicit_le(data_set, target)
    except convert.CannotConvert as failure:
        raise DecodingFailed(
            f"cannot be converted to {uids.name_of(target)}: {failure}"
        ) from failure


def _decompressed(instance: StoredInstance, transfer_syntax_uid: str, run: Run) -> bytes:
    try:
        return run(
            decompressed_file,
            instance.path,
            transfer_syntax_uid,
            work_bytes=len(instance.buffer),
        )
    except CodecFailed as failure:
        raise DecodingFailed(str(failure)) from failure


def decompressed_file(path: Path, transfer_syntax_uid: str) -> bytes:
    """As `decompressed`, for a process that opens the file by itself."""
    with opened(path) as instance:
        return decompressed(instance, transfer_syntax_uid)


def decompressed(instance: StoredInstance, transfer_syntax_uid: str) -> bytes:
    """Return the data set of an instance that came compressed, decoded by pydicom.

    The whole instance is in memory: this is the path for what we did not encode ourselves.
    """
    name = uids.name_of(instance.meta.transfer_syntax_uid)
    import pydicom  # here: what is native never needs it
    from pydicom.filewriter import write_dataset

    try:
        ds = pydicom.dcmread(io.BytesIO(instance.buffer))
        # A deflated data set has native pixels and was inflated by reading it.
        if ds.file_meta.TransferSyntaxUID.is_encapsulated:
            # as_rgb would change the pixels of what is stored as YBR; the correction of unused bits
            # would clear an overlay in them, which RLE brings along. Others need it for the sign.
            is_rle = instance.meta.transfer_syntax_uid == uids.RLE_LOSSLESS
            options: dict[str, Any] = {"correct_unused_bits": False} if is_rle else {}
            ds.decompress(as_rgb=False, generate_instance_uid=False, **options)
        encoded = pydicom.filebase.DicomBytesIO()
        encoded.is_little_endian = True
        encoded.is_implicit_VR = transfer_syntax_uid == uids.IMPLICIT_VR_LE
        write_dataset(encoded, ds)
        return encoded.getvalue()
    except Exception as failure:
        # pydicom and its plugins raise whatever they like.
        why = " ".join(str(failure).split())
        raise DecodingFailed(f"{name} cannot be decoded: {why}") from failure
