"""One file on disk -> the same instance, smaller, at its place.

`Rewriter.rewrite` does not raise for what is wrong with one file: what happened is told by the
type of its result. Native pixel data is encoded; with `transcode` also pixel data that came
compressed, decoded by pydicom first. In a mirror every DICOM file is present, those that stay as
they are byte for byte, and those that cannot be parsed too, so that nothing is lost with it.

Raises `CannotWrite` where the next file would fail as well: the disk is full or read-only.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from node.dicom import uids
from node.dicom.encoded import EncodedDataSet
from node.dicom.layout import Buffer
from node.dicom.part10 import FileMeta
from node.dicom.scan import scan
from node.dicom.walk import keep
from node.errors import CannotUnderstand, CannotWrite, DecodingFailed
from node.pixels.files import defects_not_encoded, write_planned
from node.pixels.instance import decompressed
from node.pixels.planning import NotEncoded, plan
from node.pixels.policy import Options
from node.pixels.stored import StoredInstance, opened
from node.pixels.transcoder import write_all
from node.reasons import KeepReason
from node.service.places import Place, Task

#: Every further file would fail in the same way.
_HOPELESS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
#: The memory of a larger file is given back piece by piece; below, that is not worth its calls.
_RELEASE_FROM = 64 << 20
#: What cannot be parsed is copied in pieces of this size: it may be larger than memory.
_PIECE = 1 << 20
_PREFIX = slice(128, 132)


class Smaller(NamedTuple):
    """The instance is encoded now; sizes are those of the files."""

    before: int
    after: int


class Same(NamedTuple):
    """The file stays byte for byte as it is."""

    reason: KeepReason
    size: int
    detail: str = ""


class NotDicom(NamedTuple):
    """No DICOM file: it is left alone."""

    cause: str


class Broken(NamedTuple):
    """A DICOM file that cannot be parsed, or a file that cannot be read or written."""

    cause: str


Result: TypeAlias = Smaller | Same | NotDicom | Broken


class Rewriter(NamedTuple):
    """How files are rewritten; the same for all of them, and fit to be sent to a process."""

    options: Options
    place: Place
    transcode: bool = False

    def rewrite(self, task: Task) -> Result:
        """Rewrite one file."""
        try:
            original = os.stat(task.source)
            try:
                with opened(task.source) as instance:
                    return self._instance(instance, task, original)
            except CannotUnderstand as failure:
                return self._not_understood(task, original, failure)
        except OSError as failure:
            if failure.errno in _HOPELESS:
                raise CannotWrite(f"{task.target}: {failure.strerror}") from failure
            return Broken(failure.strerror or str(failure))
        except Exception as failure:
            # One file must not end the work on all others, whatever a codec makes of it.
            return Broken(f"{type(failure).__name__}: {failure}")

    def keep(self, task: Task) -> Result:
        """Let one file be as it is, without a look at its pixels; in a mirror it is copied."""
        off = self.options._replace(transfer_syntax_uid="")
        return self._replace(options=off, transcode=False).rewrite(task)

    def _instance(
        self, instance: StoredInstance, task: Task, original: os.stat_result
    ) -> Smaller | Same:
        try:
            return self._encode(instance, task, original)
        except NotEncoded as kept:
            self._copy([instance.buffer], task, original)
            return Same(kept.reason, original.st_size, kept.detail)

    def _encode(self, instance: StoredInstance, task: Task, original: os.stat_result) -> Smaller:
        """Put the encoded instance at its place; raises `NotEncoded` where it stays as it is."""
        data_set = self._native(instance)
        meta = _meta_for(data_set, instance.meta)
        came_native = instance.meta.transfer_syntax_uid in uids.NATIVE
        is_large = came_native and original.st_size >= _RELEASE_FROM
        release = instance.release if is_large else keep
        with defects_not_encoded(meta.sop_instance_uid):
            planned = plan(data_set, self.options)
        with self.place.draft(task, original) as draft:
            with defects_not_encoded(meta.sop_instance_uid):
                write_planned(planned, meta, draft.sink, self.options, release)
            after = draft.sink.seek(0, io.SEEK_END)
            # With our record the header is longer: it is the file that must get smaller.
            if came_native and after >= original.st_size:
                raise NotEncoded(KeepReason.NOT_SMALLER)
            draft.put()
        return Smaller(original.st_size, after)

    def _native(self, instance: StoredInstance) -> EncodedDataSet:
        """Return the data set that is to be encoded; raises `NotEncoded` where there is none."""
        syntax = instance.meta.transfer_syntax_uid
        if not uids.is_uid(syntax):
            raise CannotUnderstand("its File Meta has no usable Transfer Syntax UID (0002,0010)")
        if syntax in uids.DEFLATED:
            raise NotEncoded(KeepReason.DEFLATED)
        data_set = scan(instance.data_set, syntax)
        return data_set if syntax in uids.NATIVE else self._decoded(instance, data_set)

    def _decoded(self, instance: StoredInstance, data_set: EncodedDataSet) -> EncodedDataSet:
        """Return an instance that came compressed as a native one, where that is wanted."""
        syntax = instance.meta.transfer_syntax_uid
        if not self.transcode or syntax == self.options.transfer_syntax_uid:
            raise NotEncoded(KeepReason.ALREADY_COMPRESSED)
        if data_set.pixel_data is None:
            raise NotEncoded(KeepReason.NO_PIXEL_DATA)
        from node.pixels.decoders import (
            missing_decoder,  # with pydicom, which native has no need of
        )

        if missing := missing_decoder(syntax):
            raise NotEncoded(KeepReason.DECODER_MISSING, missing)
        try:
            native = decompressed(instance.buffer, uids.EXPLICIT_VR_LE)
        except DecodingFailed as failure:
            raise NotEncoded(KeepReason.DECODER_FAILED, str(failure)) from failure
        return scan(native, uids.EXPLICIT_VR_LE)

    def _copy(self, content: Iterable[Buffer], task: Task, original: os.stat_result) -> None:
        """Put a file at its place as it is, where it is not there already."""
        if self.place.wants_copies:
            with self.place.draft(task, original) as draft:
                for part in content:
                    write_all(draft.sink, [part])
                draft.put()

    def _not_understood(
        self, task: Task, original: os.stat_result, failure: CannotUnderstand
    ) -> Result:
        """Tell a DICOM file that cannot be parsed from a file of another kind."""
        with open(task.source, "rb") as file:
            if file.read(132)[_PREFIX] != b"DICM":
                return NotDicom(str(failure))
            file.seek(0)
            self._copy(iter(lambda: file.read(_PIECE), b""), task, original)
        return Broken(str(failure))


def _meta_for(data_set: EncodedDataSet, meta: FileMeta) -> FileMeta:
    """Return the File Meta of the native data set; what it lacks, the data set knows."""
    return meta._replace(
        transfer_syntax_uid=data_set.transfer_syntax_uid,
        sop_class_uid=meta.sop_class_uid or data_set.sop_class_uid or "",
        sop_instance_uid=meta.sop_instance_uid or data_set.sop_instance_uid or "",
        record=None,
    )
