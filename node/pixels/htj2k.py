"""HTJ2K Lossless (PS3.5 8.2.14) by imagecodecs' OpenJPH, as an encoding plugin of pydicom.

pydicom has decoders for HTJ2K and no encoder. Colours are encoded as they are, without a transform,
so that Photometric Interpretation stays what it is.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import TYPE_CHECKING

from pydicom.pixels.encoders.base import Encoder
from pydicom.uid import HTJ2KLossless

if TYPE_CHECKING:
    from pydicom.pixels.encoders.base import EncodeRunner

NAME = "imagecodecs"

# Read by pydicom.
ENCODER_DEPENDENCIES: dict[str, tuple[str, ...]] = {HTJ2KLossless: (NAME,)}


def is_available(uid: str) -> bool:
    """Whether the plugin encodes to transfer syntax `uid`. Asked by pydicom."""
    return uid in ENCODER_DEPENDENCIES and importlib.util.find_spec(NAME) is not None


@functools.cache
def encoder() -> Encoder:
    """Return an encoder as pydicom's `get_encoder` gives them; pydicom itself does not know it."""
    found = Encoder(HTJ2KLossless)
    found.add_plugin(NAME, (__name__, _encode_frame.__name__))
    return found


def _encode_frame(src: bytes, runner: EncodeRunner) -> bytes:
    """One frame, pixel by pixel, as an HTJ2K code stream. Called by pydicom."""
    import imagecodecs
    import numpy as np

    width = len(src) // (runner.rows * runner.columns * runner.samples_per_pixel)
    kind = "i" if runner.pixel_representation else "u"
    shape = (runner.rows, runner.columns, runner.samples_per_pixel)
    frame = np.frombuffer(src, f"<{kind}{width}").reshape(shape)
    if runner.samples_per_pixel == 1:
        frame = frame[..., 0]
    return bytes(imagecodecs.htj2k_encode(frame, reversible=True, rgb=False))
