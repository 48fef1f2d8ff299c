"""An instance as destinations need it: from a file or from memory, its data set in a wanted form.

`stored.StoredInstance` lies in a file, `held.HeldInstance` in memory.

Raises `CannotUnderstand` where its data set cannot be parsed, `DecodingFailed` where frames cannot
be decoded or a decompressed data set is not what was received.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from typing import Any, Protocol

from node.dicom import convert, part10, uids
from node.dicom.convert import Chunk
from node.dicom.layout import Buffer
from node.errors import CodecFailed, DecodingFailed
from node.pixels.policy import Run, here


class Instance(Protocol):
    """One instance, whose data set can be given more than once."""

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID."""

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID."""

    @property
    def study_instance_uid(self) -> str:
        """Study Instance UID, "" where it has none to be read."""

    @property
    def transfer_syntax_uid(self) -> str:
        """The transfer syntax of `chunks`."""

    @property
    def received_syntax(self) -> str:
        """The transfer syntax in which it was received."""

    @property
    def received_bytes(self) -> int:
        """The length of its data set as it was received."""

    @property
    def is_encoded_here(self) -> bool:
        """Tell whether it was received native, and is encoded now."""

    def chunks(self) -> Iterable[Chunk]:
        """Return its data set as it is."""

    def as_received(self, run: Run) -> Iterable[Chunk]:
        """Return its data set as it was received, byte for byte."""

    def decompressed(self, transfer_syntax_uid: str, run: Run) -> bytes:
        """Return the data set of an instance that came compressed, in a native transfer syntax.

        Raises `CodecFailed` too, where it is decoded in another process.
        """


def native_syntaxes(instance: Instance) -> list[str]:
    """Return the native transfer syntaxes its data set can be given in, best first.

    That it was received in comes first: it gives the bytes that were received.
    """
    received = instance.received_syntax
    others = [uids.EXPLICIT_VR_LE, uids.IMPLICIT_VR_LE]
    if received in uids.NATIVE:
        return list(dict.fromkeys([received, *others]))
    # Inflated or decoded by pydicom, where it can.
    return others


def data_set_in(instance: Instance, transfer_syntax_uid: str, run: Run = here) -> Iterable[Chunk]:
    """Return the data set of `instance` in its own or one of its `native_syntaxes`.

    `run` says where the codecs of others do their part.
    """
    received = instance.received_syntax
    if transfer_syntax_uid == instance.transfer_syntax_uid:
        return instance.chunks()
    if received not in uids.NATIVE:
        return [_decompressed(instance, transfer_syntax_uid, run)]
    restored = instance.as_received(run)
    if transfer_syntax_uid == received:
        return restored
    return _converted(b"".join(restored), received, transfer_syntax_uid)


def received_digest(instance: Instance, run: Run = here) -> tuple[str, bytes]:
    """Return the transfer syntax in which `instance` was received, and the SHA-256 of that."""
    received = instance.received_syntax
    digest = hashlib.sha256()
    for chunk in data_set_in(instance, received, run):
        digest.update(chunk)
    return received, digest.digest()


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


def _decompressed(instance: Instance, transfer_syntax_uid: str, run: Run) -> bytes:
    try:
        return instance.decompressed(transfer_syntax_uid, run)
    except CodecFailed as failure:
        raise DecodingFailed(str(failure)) from failure


def decompressed(file: Buffer, transfer_syntax_uid: str) -> bytes:
    """Return the data set of a DICOM file that came compressed, decoded by pydicom.

    The whole instance is in memory: this is the path for what we did not encode ourselves.
    """
    stored = part10.decode(file)[0].transfer_syntax_uid
    import pydicom  # here: what is native never needs it
    from pydicom.filewriter import write_dataset

    try:
        ds = pydicom.dcmread(io.BytesIO(file))
        # A deflated data set has native pixels and was inflated by reading it.
        if ds.file_meta.TransferSyntaxUID.is_encapsulated:
            # as_rgb would change the pixels of what is stored as YBR; the correction of unused bits
            # would clear an overlay in them, which RLE brings along. Others need it for the sign.
            is_rle = stored == uids.RLE_LOSSLESS
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
        raise DecodingFailed(f"{uids.name_of(stored)} cannot be decoded: {why}") from failure
