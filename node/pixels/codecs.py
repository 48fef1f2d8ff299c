"""The codec table: one way to encode, decode and check a frame for each transfer syntax.

RLE Lossless with our own kernel is the fast path; every other pair of transfer syntax and encoder
goes through pydicom's encoders and decoders, always with the plugin named: unnamed, pydicom falls
from one plugin to the next in silence. pydicom is imported where it is needed, as that takes longer
than the work of many images. A frame here is always native, little endian, with the planar
configuration of its layout.

What others wrote runs where `Options.run` says: in the node, in worker processes.

Raises `BadConfiguration` (from `codec_for`) where an encoder is not installed, saying what to
install; `EncodingFailed` and `DecodingFailed` for a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from node.dicom.layout import Buffer
from node.dicom.uids import (
    HTJ2K_LOSSLESS,
    JPEG_2000_LOSSLESS,
    JPEG_LS_LOSSLESS,
    RLE_LOSSLESS,
    name_of,
)
from node.errors import BadConfiguration, CodecFailed, DecodingFailed, EncodingFailed
from node.pixels import rle
from node.pixels.policy import Options, PixelLayout

if TYPE_CHECKING:
    from pydicom.pixels.encoders.base import Encoder


class Codec(NamedTuple):
    """How the frames of one layout are encoded.

    `planar_configuration` is the value that (0028,0006) must have with more than one sample:
    1 in RLE Lossless (PS3.5 G.2), 0 in the JPEG family (PS3.5 8.2.3, 8.2.4).
    """

    encode: Callable[[Buffer], bytes]
    decode: Callable[[Buffer], bytes]
    is_same: Callable[[Buffer, Buffer], bool]
    planar_configuration: int


#: What encodes the others than RLE Lossless, for which the settings name an encoder.
_PLUGIN = {
    JPEG_LS_LOSSLESS: "pyjpegls",
    JPEG_2000_LOSSLESS: "pylibjpeg",
    HTJ2K_LOSSLESS: "imagecodecs",
}

#: The distributions that bring an encoder.
_EXTRA = {
    (RLE_LOSSLESS, "gdcm"): "python-gdcm",
    (RLE_LOSSLESS, "pylibjpeg"): "pylibjpeg-rle",
    (JPEG_LS_LOSSLESS, "pyjpegls"): "pyjpegls",
    (JPEG_2000_LOSSLESS, "pylibjpeg"): "pylibjpeg-openjpeg",
    (HTJ2K_LOSSLESS, "imagecodecs"): "imagecodecs",
}


def check_installed(options: Options) -> None:
    """Raise `BadConfiguration` where the wanted encoder is not there; do so at start."""
    if options.transfer_syntax_uid and not _is_ours(options):
        _pydicom_encoder(options)


def in_use(options: Options) -> str:
    """Return in words what encodes, for the log."""
    if not options.transfer_syntax_uid:
        return "nothing: compression is off"
    name = name_of(options.transfer_syntax_uid)
    if not _is_ours(options):
        return f"{name} by {_pydicom_encoder(options)[1]}"
    if rle.KERNEL == "dcmpress":
        return f"{name} by our own kernel"
    return f"{name} by pylibjpeg-rle, ten times slower: our kernel was not built (install gcc)"


def codec_for(layout: PixelLayout, options: Options) -> Codec:
    """Return the codec for frames of `layout`."""
    if _is_ours(options):
        return _rle_codec(layout, options)
    return _pydicom_codec(layout, options)


def _is_ours(options: Options) -> bool:
    return options.transfer_syntax_uid == RLE_LOSSLESS and options.encoder == "dcmpress"


def _rle_codec(layout: PixelLayout, options: Options) -> Codec:
    if layout.bits_allocated == 1:
        return _one_bit_codec(layout, options)
    frame = frame_layout(layout)

    def is_same(encoded: Buffer, native: Buffer) -> bool:
        if options.verify == "independent":
            return rle.decode_independent(encoded, frame) == native
        return rle.matches(encoded, native, frame)

    return Codec(
        encode=lambda native: rle.encode(native, frame),
        decode=lambda encoded: rle.decode(encoded, frame),
        is_same=is_same,
        planar_configuration=1,
    )


def _one_bit_codec(layout: PixelLayout, options: Options) -> Codec:
    """As for 8 bits.

    PS3.5 G.2 pads the Composite Pixel Code to whole bytes, and pydicom does the same.
    """
    import numpy as np

    by_byte = _rle_codec(layout._replace(bits_allocated=8), options)

    def unpacked(native: Buffer) -> bytes:
        # The first pixel is in the least significant bit (PS3.5 8.1.1, D).
        return np.unpackbits(np.frombuffer(native, np.uint8), bitorder="little").tobytes()

    def decode(encoded: Buffer) -> bytes:
        pixels = np.frombuffer(by_byte.decode(encoded), np.uint8)
        if pixels.max() > 1:
            raise DecodingFailed("a pixel of one bit is more than 1")
        return np.packbits(pixels, bitorder="little").tobytes()

    return Codec(
        encode=lambda native: by_byte.encode(unpacked(native)),
        decode=decode,
        is_same=lambda encoded, native: by_byte.is_same(encoded, unpacked(native)),
        planar_configuration=1,
    )


def frame_layout(layout: PixelLayout) -> rle.FrameLayout:
    """Return `layout` as the RLE kernel takes it."""
    return rle.FrameLayout(
        rows=layout.rows,
        columns=layout.columns,
        samples=layout.samples_per_pixel,
        bits_allocated=layout.bits_allocated,
        planar_configuration=layout.planar_configuration,
    )


def _pydicom_encoder(options: Options) -> tuple[Encoder, str]:
    """Return pydicom's encoder and the name of the plugin to use with it."""
    uid = options.transfer_syntax_uid
    plugin = _PLUGIN.get(uid, options.encoder)
    try:
        encoder = _encoder_of(uid)
    except NotImplementedError:
        raise BadConfiguration(f"no encoder for {name_of(uid)} exists in this version") from None
    if plugin not in encoder.available_plugins:
        known = ", ".join([*encoder.available_plugins]) or "none"
        package = _EXTRA.get((uid, plugin))
        advice = f"pip install {package}" if package else f"choose one of: {known}"
        raise BadConfiguration(f"encoder {plugin!r} for {name_of(uid)} is not installed: {advice}")
    return encoder, plugin


def _encoder_of(transfer_syntax_uid: str) -> Encoder:
    """Return pydicom's encoder, or ours where pydicom has none; NotImplementedError for none."""
    if transfer_syntax_uid == HTJ2K_LOSSLESS:
        from node.pixels import htj2k

        return htj2k.encoder()
    from pydicom.pixels.encoders.base import get_encoder
    from pydicom.uid import UID

    return get_encoder(UID(transfer_syntax_uid))


def _pydicom_codec(layout: PixelLayout, options: Options) -> Codec:
    _, plugin = _pydicom_encoder(options)
    uid, run = options.transfer_syntax_uid, options.run

    def encode(native: Buffer) -> bytes:
        if plugin == "gdcm" and layout.frame_bytes % 2:
            # GDCM 3.2.6 aborts the whole process.
            raise EncodingFailed("gdcm: cannot encode frames of odd length")
        try:
            return run(
                encode_frame, bytes(native), uid, plugin, layout, work_bytes=layout.frame_bytes
            )
        except CodecFailed as failure:
            raise EncodingFailed(str(failure)) from failure

    def decode(encoded: Buffer) -> bytes:
        try:
            return run(decode_frame, bytes(encoded), uid, layout, work_bytes=layout.frame_bytes)
        except CodecFailed as failure:
            raise DecodingFailed(str(failure)) from failure

    return Codec(
        encode=encode,
        decode=decode,
        is_same=lambda encoded, native: decode(encoded) == native,
        planar_configuration=1 if uid == RLE_LOSSLESS else 0,
    )


def encode_frame(
    native: Buffer, transfer_syntax_uid: str, plugin: str, layout: PixelLayout
) -> bytes:
    """Encode one native frame of `layout` with a plugin of pydicom's encoders."""
    # Planes that pydicom's encoders are given come out as other pixels; pixel by pixel is right.
    description = _described(layout._replace(planar_configuration=0))
    encoder = _encoder_of(transfer_syntax_uid)
    try:
        return encoder.encode(_interleaved(native, layout), encoding_plugin=plugin, **description)
    except Exception as failure:
        # Third-party encoders raise whatever they like.
        raise EncodingFailed(f"{plugin}: {failure}") from failure


def decode_frame(encoded: Buffer, transfer_syntax_uid: str, layout: PixelLayout) -> bytes:
    """Decode one frame with pydicom to native bytes in the planar configuration of `layout`."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    uid = UID(transfer_syntax_uid)
    stored = layout._replace(planar_configuration=1 if uid == RLE_LOSSLESS else 0)
    # What stands in bits that are not stored, an overlay perhaps, came through RLE too.
    options: dict[str, Any] = {"correct_unused_bits": False} if uid == RLE_LOSSLESS else {}
    try:
        array, _ = get_decoder(uid).as_array(
            encapsulate([bytes(encoded)]), raw=True, index=0, **_described(stored), **options
        )
    except Exception as failure:
        raise DecodingFailed(f"{uid.name}: {failure}") from failure
    if layout.samples_per_pixel > 1 and layout.planar_configuration == 1:
        array = array.transpose(2, 0, 1)
    return array.tobytes()


def _interleaved(native: Buffer, layout: PixelLayout) -> bytes:
    """Return a native frame in planar configuration 0."""
    if layout.samples_per_pixel == 1 or layout.planar_configuration == 0:
        return bytes(native)
    import numpy as np

    samples, width = layout.samples_per_pixel, layout.bits_allocated // 8
    planes = np.frombuffer(native, f"u{width}").reshape(samples, -1)
    return planes.T.tobytes()


def _described(layout: PixelLayout) -> dict[str, Any]:
    """Return `layout` in the words of pydicom's coders."""
    description: dict[str, Any] = {
        "pixel_keyword": "PixelData",
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples_per_pixel,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "pixel_representation": layout.pixel_representation,
        "photometric_interpretation": layout.photometric_interpretation,
        "number_of_frames": 1,
    }
    if layout.samples_per_pixel > 1:
        description["planar_configuration"] = layout.planar_configuration
    return description
