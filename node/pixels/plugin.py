"""The RLE encoder as an encoding plugin of pydicom, named "dcmpress".

    from node.pixels.plugin import register

    register()
    dataset.compress(RLELossless, encoding_plugin="dcmpress", generate_instance_uid=False)

pydicom's table of plugins is global to the process, so importing this module changes nothing:
`register` is called by who wants the plugin. Without `generate_instance_uid=False` pydicom gives
the instance a new SOP Instance UID.

Where pydicom's own plugins give other pixels without a word, this one does not: Pixel Data of
planar configuration 1 comes out right; so does big endian, if pydicom is told by `byteorder=">"`;
and a frame from which pydicom dropped bytes (see `_encode_frame`) is refused. What the plugin
raises pydicom logs, and raises again as RuntimeError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.uid import RLELossless

from node.pixels.rle import FrameLayout, encode

if TYPE_CHECKING:
    from pydicom.pixels.encoders.base import EncodeRunner

NAME = "dcmpress"

# Read by pydicom: what to install where `is_available` says no. Nothing: our own requirements do.
ENCODER_DEPENDENCIES: dict[str, tuple[str, ...]] = {RLELossless: ()}


def register() -> None:
    """Add the plugin to pydicom's RLE Lossless encoder; a second call changes nothing.

    As pydicom's `add_plugin`, not for two threads at once.
    """
    if NAME not in RLELosslessEncoder.available_plugins:
        RLELosslessEncoder.add_plugin(NAME, (__name__, _encode_frame.__name__))


def is_available(uid: str) -> bool:
    """Whether the plugin encodes to transfer syntax `uid`. Asked by pydicom."""
    return uid in ENCODER_DEPENDENCIES


def _encode_frame(src: bytes, runner: EncodeRunner) -> bytes:
    """One frame of a data set, a buffer or an array, in RLE. Called by pydicom."""
    layout = FrameLayout(
        rows=runner.rows,
        columns=runner.columns,
        samples=runner.samples_per_pixel,
        bits_allocated=runner.bits_allocated,
        planar_configuration=_planar_configuration(runner),
        big_endian=runner.get_option("byteorder", "<") == ">",
    )
    if len(src) != layout.frame_bytes:
        # pydicom keeps only as many bytes of a sample as Bits Stored needs. The result would not
        # be of Bits Allocated, and what stood in the dropped bits, overlays too, would be lost.
        raise ValueError(
            f"pydicom gives a frame of {len(src)} bytes, as Bits Stored is {runner.bits_stored}; "
            f"expected {layout.frame_bytes}, as Bits Allocated is {runner.bits_allocated}"
        )
    return encode(src, layout)


def _planar_configuration(runner: EncodeRunner) -> int:
    """Of the frame given: an array has its samples last, anything else is as the element says."""
    if runner.samples_per_pixel == 1 or runner.is_array:
        return 0
    return runner.planar_configuration
