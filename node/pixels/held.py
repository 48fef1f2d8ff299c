"""An instance in memory, on its way to somebody who is called while its sender waits.

It is encoded as `files.write_file` does it, where that pays, else it stays as it was received; with
no header and no digests, which are for who reads it back. Its frames are proven while it is being
sent: `chunks` raises `NotEncoded` in place of its end where one of them does not decode to what it
was. Whoever gets them must not take what came until then for an instance.

All of it is in memory, the encoded form beside what was received.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from node.dicom import part10
from node.dicom.encoded import EncodedDataSet
from node.dicom.layout import Buffer
from node.dicom.part10 import FileMeta
from node.pixels.files import Written, defects_not_encoded
from node.pixels.instance import decompressed
from node.pixels.planning import NotEncoded, plan
from node.pixels.policy import Options, Run
from node.pixels.transcoder import encoded_ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldInstance:
    """`received` are the bytes that came, as `meta` says, and `form` is what became of them."""

    meta: FileMeta
    scanned: EncodedDataSet
    received: memoryview
    form: Written
    _chunks: Iterable[Buffer]
    _prove: Callable[[], None]

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
        return self.scanned.study_instance_uid or ""

    @property
    def transfer_syntax_uid(self) -> str:
        """The transfer syntax of `chunks`."""
        return self.form.transfer_syntax_uid

    @property
    def received_syntax(self) -> str:
        """The transfer syntax in which it was received."""
        return self.meta.transfer_syntax_uid

    @property
    def received_bytes(self) -> int:
        """The length of its data set as it was received."""
        return len(self.received)

    @property
    def is_encoded_here(self) -> bool:
        """Tell whether it is encoded now."""
        return self.form.reason is None

    def chunks(self) -> Iterator[memoryview]:
        """Yield its data set; raises `NotEncoded` before the end where a frame is not proven."""
        yield from (memoryview(chunk) for chunk in self._chunks)
        with defects_not_encoded(self.sop_instance_uid):
            self._prove()

    def as_received(self, run: Run) -> list[memoryview]:
        """Return its data set as it was received, byte for byte."""
        return [self.received]

    def decompressed(self, transfer_syntax_uid: str, run: Run) -> bytes:
        """Return the data set of an instance that came compressed, in a native transfer syntax."""
        file = part10.encode(self.meta) + self.received
        return run(decompressed, file, transfer_syntax_uid, work_bytes=len(file))


def hold(
    scanned: EncodedDataSet, received: memoryview, meta: FileMeta, options: Options
) -> HeldInstance:
    """Encode what was received as `meta` says, where that pays; `scanned` is what it says."""
    try:
        with defects_not_encoded(meta.sop_instance_uid):
            chunks, prove = encoded_ahead(plan(scanned, options), options)
    except NotEncoded as kept:
        return hold_as_received(scanned, received, meta, kept)
    form = Written(
        transfer_syntax_uid=options.transfer_syntax_uid,
        byte_count=sum(map(len, chunks)),
        reason=None,
    )
    return HeldInstance(
        meta=meta, scanned=scanned, received=received, form=form, _chunks=chunks, _prove=prove
    )


def hold_as_received(
    scanned: EncodedDataSet, received: memoryview, meta: FileMeta, kept: NotEncoded
) -> HeldInstance:
    """Leave it as it is, for the reason in `kept`."""
    form = Written(
        transfer_syntax_uid=meta.transfer_syntax_uid,
        byte_count=len(received),
        reason=kept.reason,
        detail=kept.detail,
    )
    return HeldInstance(
        meta=meta,
        scanned=scanned,
        received=received,
        form=form,
        _chunks=[received],
        _prove=_nothing_to_prove,
    )


def _nothing_to_prove() -> None:
    pass
