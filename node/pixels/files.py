"""Writing an instance as a DICOM file: encoded where that pays, else exactly as it was received.

`write_file` is what the spool and the `compress` command both use: header, data set, and last the
SHA-256 of the data set, patched into the header. `check_digest` tells whether a file is still what
was written; `stored` reads it back.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from node.dicom import part10, uids
from node.dicom.encoded import EncodedDataSet
from node.dicom.layout import Buffer
from node.dicom.part10 import FileMeta
from node.dicom.walk import Release, keep
from node.model import KeepReason
from node.pixels.policy import Options
from node.pixels.transcoder import (
    NotEncoded,
    Plan,
    Sink,
    plan,
    write_all,
    write_data_set,
)

_PIECE = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What `write_file` made. `reason` is None where the pixel data was encoded."""

    transfer_syntax_uid: str
    byte_count: int
    reason: KeepReason | None
    detail: str = ""


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
        return _planned_and_encoded(data_set, meta, sink, options, release)
    except NotEncoded as kept:
        sink.seek(0)
        sink.truncate()
        return _write_as_received(data_set.data, meta, sink, release, kept)


def _planned_and_encoded(
    data_set: EncodedDataSet, meta: FileMeta, sink: Sink, options: Options, release: Release
) -> Written:
    """Write the encoded instance; raises `NotEncoded`, and OSError from the sink."""
    try:
        planned = plan(data_set, options, release)
        return _write_encoded(planned, meta, sink, options, release)
    except (NotEncoded, OSError):
        raise
    except Exception as failure:
        # A defect costs compression, never the instance.
        import logging  # never, as a rule; it takes longer than an image

        logging.getLogger(__name__).exception("%s: encoding failed", meta.sop_instance_uid)
        detail = f"{type(failure).__name__}: {failure}"
        raise NotEncoded(KeepReason.ENCODER_FAILED, detail) from failure


def write_unread(data: Buffer, meta: FileMeta, sink: Sink, release: Release = keep) -> Written:
    """As `write_file`, for a data set that is not looked into: a deflated one."""
    return _write_as_received(data, meta, sink, release, NotEncoded(KeepReason.DEFLATED))


def _write_encoded(
    planned: Plan, meta: FileMeta, sink: Sink, options: Options, release: Release
) -> Written:
    header = part10.encode(
        replace(
            meta,
            transfer_syntax_uid=planned.transfer_syntax_uid,
            record=part10.unsealed(planned.as_received),
        )
    )
    write_all(sink, [header])
    length = write_data_set(planned, sink, options, release)
    _seal(sink, header)
    return Written(transfer_syntax_uid=planned.transfer_syntax_uid, byte_count=length, reason=None)


def _write_as_received(
    data: Buffer, meta: FileMeta, sink: Sink, release: Release, kept: NotEncoded
) -> Written:
    header = part10.encode(replace(meta, record=part10.unsealed(None)))
    write_all(sink, [header])
    view = memoryview(data)
    for start in range(0, len(view), _PIECE):
        end = min(start + _PIECE, len(view))
        write_all(sink, [view[start:end]])
        release(start, end)
    _seal(sink, header)
    return Written(
        transfer_syntax_uid=meta.transfer_syntax_uid,
        byte_count=len(view),
        reason=kept.reason,
        detail=kept.detail,
    )


def _seal(sink: Sink, header: bytes) -> None:
    """Patch the digest of the data set into the header.

    It is read back for that, from the page cache: an offset table is only complete at the end.
    """
    sink.seek(len(header))
    digest = hashlib.file_digest(sink, "sha256").hexdigest()
    at, patch = part10.patch_digest(header, digest)
    sink.seek(at)
    write_all(sink, [patch])


def check_digest(file: Sink, meta: FileMeta, data_set_offset: int) -> bool:
    """Tell whether the data set in `file` is the one that was written; True where none is known."""
    if meta.record is None:
        return True
    file.seek(data_set_offset)
    return hashlib.file_digest(file, "sha256").hexdigest() == meta.record.sha256
