"""Writing an instance as a DICOM file: encoded where that pays, else exactly as it was received.

`write_file` is what the spool and the `compress` command both use: a header with the SHA-256 of the
data set (for a large one it is patched in last), and the data set. `check_digest` tells whether a
file is still what was written; `stored` reads it back.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from node.dicom import part10, uids
from node.dicom.encoded import EncodedDataSet
from node.dicom.layout import Buffer
from node.dicom.part10 import FileMeta, Record
from node.dicom.walk import Release, keep
from node.pixels.planning import NotEncoded, Plan, plan
from node.pixels.policy import Options
from node.pixels.transcoder import Sink, encoded_data_set, write_all, write_data_set
from node.reasons import KeepReason

#: Native pixel data of which the encoded form is held in memory until it is written.
LARGEST_IN_MEMORY = 4 << 20
_PIECE = 16 << 20


class Written(NamedTuple):
    """What `write_file` made. `reason` is None where the pixel data was encoded.

    `crc32` is that of the received data set as it was read, None where it was not needed.
    """

    transfer_syntax_uid: str
    byte_count: int
    reason: KeepReason | None
    detail: str = ""
    crc32: int | None = None


def write_file(
    data_set: EncodedDataSet,
    meta: FileMeta,
    sink: Sink,
    options: Options,
    release: Release = keep,
) -> Written:
    """Write the instance to `sink`, an empty, seekable and readable binary file.

    `meta` carries the transfer syntax that was received; the one that is written follows from what
    is done. Raises OSError from the sink. Where encoding fails in a way that nobody foresaw, that
    is logged and the instance is written as it was received. Not for a deflated data set, which is
    scanned inflated: `write_unread` is.
    """
    if meta.transfer_syntax_uid in uids.DEFLATED:
        raise ValueError("a deflated data set is written as it came: use write_unread")
    try:
        with defects_not_encoded(meta.sop_instance_uid):
            return write_planned(plan(data_set, options), meta, sink, options, release)
    except NotEncoded as kept:
        sink.seek(0)
        sink.truncate()
        return _write_as_received(data_set.data, meta, sink, release, kept)


@contextlib.contextmanager
def defects_not_encoded(sop_instance_uid: str) -> Iterator[None]:
    """Raise `NotEncoded` for whatever nobody foresaw: it costs compression, never the instance."""
    try:
        yield
    except (NotEncoded, OSError):
        raise
    except Exception as failure:
        import logging  # never, as a rule; it takes longer than an image

        logging.getLogger(__name__).exception("%s: encoding failed", sop_instance_uid)
        detail = f"{type(failure).__name__}: {failure}"
        raise NotEncoded(KeepReason.ENCODER_FAILED, detail) from failure


def write_unread(data: Buffer, meta: FileMeta, sink: Sink, release: Release = keep) -> Written:
    """As `write_file`, for a data set that is not looked into: a deflated one."""
    return _write_as_received(data, meta, sink, release, NotEncoded(KeepReason.DEFLATED))


def write_planned(
    planned: Plan, meta: FileMeta, sink: Sink, options: Options, release: Release = keep
) -> Written:
    """As `write_file`, for what is planned already.

    Raises `NotEncoded` where it has to stay as it is: what was written is to be thrown away.
    """
    meta = meta._replace(transfer_syntax_uid=planned.transfer_syntax_uid)
    as_received = planned.as_received(release)
    if planned.layout.value_bytes > LARGEST_IN_MEMORY:
        header = part10.encode(meta._replace(record=part10.unsealed(as_received)))
        write_all(sink, [header])
        length = write_data_set(planned, sink, options, release)
        _seal(sink, header)
    else:
        chunks = encoded_data_set(planned, options, release)
        record = Record(sha256=_sha256(chunks), as_received=as_received)
        write_all(sink, [part10.encode(meta._replace(record=record)), *chunks])
        length = sum(map(len, chunks))
    return Written(
        transfer_syntax_uid=meta.transfer_syntax_uid,
        byte_count=length,
        reason=None,
        crc32=as_received.crc32,
    )


def _write_as_received(
    data: Buffer, meta: FileMeta, sink: Sink, release: Release, kept: NotEncoded
) -> Written:
    header = part10.encode(meta._replace(record=part10.unsealed(None)))
    write_all(sink, [header])
    view, digest = memoryview(data), hashlib.sha256()
    for start in range(0, len(view), _PIECE):
        end = min(start + _PIECE, len(view))
        digest.update(view[start:end])
        write_all(sink, [view[start:end]])
        release(start, end)
    _patch(sink, header, digest.hexdigest())
    return Written(
        transfer_syntax_uid=meta.transfer_syntax_uid,
        byte_count=len(view),
        reason=kept.reason,
        detail=kept.detail,
    )


def _sha256(chunks: Iterable[Buffer]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _seal(sink: Sink, header: bytes) -> None:
    """Patch the digest of the data set into the header.

    It is read back for that, from the page cache: an offset table is only complete at the end.
    """
    sink.seek(len(header))
    _patch(sink, header, hashlib.file_digest(sink, "sha256").hexdigest())


def _patch(sink: Sink, header: bytes, sha256: str) -> None:
    at, patch = part10.patch_digest(header, sha256)
    sink.seek(at)
    write_all(sink, [patch])
