"""Lossless encoding for programs: of whole files in memory, of data sets, of arrays.

    compress          the bytes of a DICOM file -> the bytes of a smaller one
    compress_file     a DICOM file of any size -> a smaller one, in little memory
    compress_dataset  a pydicom `Dataset`, in place
    compress_array    an array, with the `Dataset` that describes it, in place
    decompress_dataset
    encapsulate_frames
                      frames that somebody else encoded, put into a `Dataset`

What the node does on receipt is done here by the same code: each frame is decoded again and
compared before it counts, the SOP Instance UID stays, Planar Configuration and Pixel Data change
as PS3.5 8.2.2 and A.4 ask. What cannot or should not be encoded stays as it is, and the reason is
the result. But for `compress_file` all of it is in memory.

Raises ValueError for what does not fit together, `BadConfiguration` for an encoder that is not
installed, `CannotUnderstand` for bytes that are no DICOM file, `DecodingFailed`. Safe in threads
as long as each has its own data set.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.encaps import encapsulate, encapsulate_extended

from node.dicom import part10, uids
from node.dicom.scan import scan
from node.errors import DecodingFailed, EncodingFailed
from node.pixels.codecs import codec_for
from node.pixels.datasets import (
    array_of,
    facts_of,
    make_little_endian,
    remove_offset_tables,
    set_pixel_data,
    transfer_syntax_of,
)
from node.pixels.decoders import missing_decoder
from node.pixels.files import write_file
from node.pixels.planning import NotEncoded
from node.pixels.policy import Options, PixelLayout, decide
from node.pixels.stored import StoredInstance, opened
from node.pixels.transcoder import write_all
from node.reasons import KeepReason

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

DEFAULT = Options()

#: What the Basic Offset Table can point to (PS3.5 A.4): beyond, the extended one is needed.
_MOST_OFFSET = 2**32 - 1


def compress(file: bytes, options: Options = DEFAULT) -> bytes:
    """Return the DICOM file `file` with its pixel data encoded, or `file` itself.

    It is returned as it came where there is nothing to encode, where it would not get smaller, and
    where encoding failed. Every other element keeps its bytes; Implicit VR and big endian become
    Explicit VR Little Endian (PS3.5 A.4).

    >>> from pydicom import examples
    >>> file = examples.get_path("ct").read_bytes()
    >>> len(compress(file)) < len(file)
    True
    """
    meta, offset = part10.decode(file)
    if meta.transfer_syntax_uid not in uids.NATIVE:
        return file
    sink = io.BytesIO()
    data_set = scan(memoryview(file)[offset:], meta.transfer_syntax_uid)
    written = write_file(data_set, meta, sink, options)
    smaller = sink.getvalue()
    return smaller if written.reason is None and len(smaller) < len(file) else file


def compress_file(
    source: str | Path, target: str | Path, options: Options = DEFAULT
) -> KeepReason | None:
    """Write the DICOM file `source`, with its pixel data encoded, to the new file `target`.

    As `compress`, for files of any size: memory does not grow with them. The result is None, or why
    `target` has the same bytes as `source`. FileExistsError where `target` is there; where anything
    is raised there is no `target`. It is not synced to the disk.

    >>> from pydicom import examples
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     compress_file(examples.get_path("ct"), pathlib.Path(folder, "ct.dcm")) is None
    True
    """
    with opened(Path(source)) as instance, open(target, "x+b", buffering=0) as sink:
        try:
            return _compressed_or_copied(instance, sink, options)
        except BaseException:
            Path(target).unlink(missing_ok=True)
            raise


def _compressed_or_copied(
    instance: StoredInstance, sink: io.FileIO, options: Options
) -> KeepReason | None:
    reason: KeepReason | None = KeepReason.ALREADY_COMPRESSED
    meta = instance.meta
    if meta.transfer_syntax_uid in uids.NATIVE:
        data_set = scan(instance.data_set, meta.transfer_syntax_uid, release=instance.release)
        reason = write_file(data_set, meta, sink, options, instance.release).reason
        if reason is None and sink.seek(0, io.SEEK_END) < len(instance.buffer):
            return None
    sink.seek(0)
    sink.truncate()
    write_all(sink, [instance.buffer])
    return reason or KeepReason.NOT_SMALLER


def compress_dataset(dataset: Dataset, options: Options = DEFAULT) -> KeepReason | None:
    """Encode the native Pixel Data of `dataset` in place; return None, or why it stays as it is.

    Like `Dataset.compress`, but: the instance keeps its SOP Instance UID, frames are proven, Pixel
    Data of planar configuration 1 comes out right, and it is the kernel of this package that
    encodes. `dataset.file_meta.TransferSyntaxUID` must be there: it says how Pixel Data is encoded
    now. ValueError where it is not, or where it says compressed already. A data set that was read
    from big endian is made Explicit VR Little Endian first, all of it, whatever comes then.

    >>> from pydicom import examples
    >>> dataset = examples.ct
    >>> compress_dataset(dataset) is None
    True
    >>> dataset.file_meta.TransferSyntaxUID.name
    'RLE Lossless'
    """
    syntax = transfer_syntax_of(dataset)
    if syntax.is_compressed and not syntax.is_deflated:
        raise ValueError(f"the data set is {syntax.name} already: decompress it first")
    make_little_endian(dataset)
    layout = decide(facts_of(dataset), options)
    if isinstance(layout, KeepReason):
        return layout
    try:
        frames = _encoded(_native_frames(dataset, layout), layout, options)
    except NotEncoded as kept:
        return kept.reason
    if sum(map(len, frames)) >= layout.value_bytes:
        return KeepReason.NOT_SMALLER
    if layout.samples_per_pixel > 1:
        dataset.PlanarConfiguration = codec_for(layout, options).planar_configuration
    encapsulate_frames(dataset, frames, options.transfer_syntax_uid)
    return None


def compress_array(
    array: NDArray[np.generic], dataset: Dataset, options: Options = DEFAULT
) -> KeepReason | None:
    """Make `array` the Pixel Data of `dataset` and encode it, as `compress_dataset` does.

    The data set describes the array (PS3.3 C.7.6.3): its shape is (Rows, Columns), with Samples
    per Pixel behind where there is more than one, with Number of Frames in front where there is
    more than one; its dtype has Bits Allocated bits and is signed where Pixel Representation is 1.
    ValueError where shape or dtype is another, naming both. Where the result is a reason, Pixel
    Data is the array, native, in Explicit VR Little Endian.

    >>> from pydicom import examples
    >>> dataset = examples.ct
    >>> compress_array(dataset.pixel_array[::-1], dataset) is None
    True
    """
    make_little_endian(dataset)
    shape, dtype = array_of(dataset)
    if array.shape != shape or array.dtype.newbyteorder("=") != dtype:
        raise ValueError(
            f"the array has shape {array.shape} and dtype {array.dtype}, "
            f"its data set describes {shape} and {dtype}"
        )
    native = array.astype(dtype.newbyteorder("<"), copy=False).tobytes()
    if dataset.SamplesPerPixel > 1:
        dataset.PlanarConfiguration = 0
    set_pixel_data(dataset, native + bytes(len(native) % 2), uids.EXPLICIT_VR_LE)
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
    return compress_dataset(dataset, options)


def decompress_dataset(dataset: Dataset) -> None:
    """Decode the Pixel Data of `dataset` in place, to Explicit VR Little Endian.

    pydicom's decoders do the work. The SOP Instance UID stays, and so do the colours: what is
    YBR is not made RGB, unless the compression itself did that (PS3.5 8.2.4). `DecodingFailed`
    where no decoder is installed, saying what to install, or where decoding fails.
    """
    syntax = transfer_syntax_of(dataset)
    if missing := missing_decoder(syntax):
        raise DecodingFailed(missing)
    # RLE keeps the bits above Bits Stored, overlays among them; so must its decoding.
    options: dict[str, Any] = {"correct_unused_bits": False} if syntax == uids.RLE_LOSSLESS else {}
    try:
        dataset.decompress(as_rgb=False, generate_instance_uid=False, **options)
    except Exception as failure:
        # pydicom and its plugins raise whatever they like.
        raise DecodingFailed(f"{syntax.name} cannot be decoded: {failure}") from failure


def encapsulate_frames(
    dataset: Dataset,
    frames: Sequence[bytes],
    transfer_syntax_uid: str,
    *,
    extended: bool | None = None,
) -> None:
    """Put encoded `frames` into `dataset`, encapsulated (PS3.5 A.4), in `transfer_syntax_uid`.

    They are not looked into: that the rest of the data set describes them is for the caller to
    see to. `extended` chooses the Extended Offset Table (7FE0,0001) over the Basic one; unsaid, it
    is used where the basic one's 32 bits do not suffice. ValueError where Number of Frames says
    another number.

    >>> from pydicom import examples
    >>> dataset = examples.ct
    >>> encapsulate_frames(dataset, [b"encoded"], "1.2.840.10008.1.2.4.90", extended=True)
    >>> "ExtendedOffsetTable" in dataset
    True
    """
    expected = int(dataset.get("NumberOfFrames") or 1)
    if len(frames) != expected:
        raise ValueError(f"{len(frames)} frames are given, the data set describes {expected}")
    if extended is None:
        extended = sum(len(frame) + 9 for frame in frames[:-1]) > _MOST_OFFSET
    remove_offset_tables(dataset)
    if extended:
        value, offsets, lengths = encapsulate_extended(list(frames))
        dataset.ExtendedOffsetTable = offsets
        dataset.ExtendedOffsetTableLengths = lengths
    else:
        value = encapsulate(list(frames))
    set_pixel_data(dataset, value, transfer_syntax_uid)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def _native_frames(dataset: Dataset, layout: PixelLayout) -> list[memoryview]:
    view, size = memoryview(dataset.PixelData), layout.frame_bytes
    return [view[at : at + size] for at in range(0, layout.value_bytes, size)]


def _encoded(frames: Iterable[memoryview], layout: PixelLayout, options: Options) -> list[bytes]:
    codec = codec_for(layout, options)
    encoded = []
    for number, native in enumerate(frames, 1):
        try:
            frame = codec.encode(native)
            proven = not options.verify or codec.is_same(frame, native)
        except EncodingFailed as failure:
            raise NotEncoded(KeepReason.ENCODER_FAILED, f"frame {number}: {failure}") from failure
        except DecodingFailed:
            proven = False
        if not proven:
            raise NotEncoded(KeepReason.VERIFY_FAILED, f"frame {number}")
        encoded.append(frame)
    return encoded
