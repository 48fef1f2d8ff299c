"""Whether the encoder is well and how fast it is on this machine, and which codecs there are.

Yields findings; raises `BadConfiguration` for an encoder that is named and not installed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from node.dicom.uids import ENCODED_IN
from node.errors import BadConfiguration
from node.pixels.codecs import check_installed, codec_for, in_use
from node.pixels.policy import PixelLayout
from node.service.encoding import check_codecs, options_of
from node.service.findings import Finding, fail, ok, warn
from node.settings import Settings

#: The encoder is measured for so long, in seconds.
_MEASURE_SECONDS = 0.3
_SIDE = 512
_EXTRAS = {
    "JPEGLSLossless": "jpegls",
    "JPEG2000Lossless": "jpeg2000",
    "HTJ2KLossless": "htj2k",
}


def encoder(settings: Settings) -> Iterator[Finding]:
    """Encode a picture for a moment and decode it again."""
    options = options_of(settings.compression)
    check_codecs(settings)
    if not options.transfer_syntax_uid:
        yield warn(
            "encoder",
            "compression is off, everything is kept as it comes",
            'set compression.transfer_syntax = "RLELossless" to save about half the space',
        )
        return
    layout = _layout()
    native = _image()
    codec = codec_for(layout, options)
    encoded, count, began = b"", 0, time.perf_counter()
    while (took := time.perf_counter() - began) < _MEASURE_SECONDS or not count:
        encoded, count = codec.encode(native), count + 1
    speed, ratio = count * len(native) / took / 1e6, len(native) / len(encoded)
    if not codec.is_same(encoded, native) or codec.decode(encoded) != native:
        yield fail(
            "encoder",
            BadConfiguration,
            f"{in_use(options)}: what it encodes is not what it was given",
            "do not use it: choose another compression.encoder, and report this",
        )
        return
    text = f"{in_use(options)}: {speed:.0f} MB/s on one core, ratio {ratio:.2f}, round trip exact"
    slow = "ten times slower" in text
    yield warn("encoder", text, "install gcc and this again") if slow else ok("encoder", text)


def _layout() -> PixelLayout:
    return PixelLayout(
        rows=_SIDE,
        columns=_SIDE,
        samples_per_pixel=1,
        bits_allocated=16,
        bits_stored=12,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
        planar_configuration=0,
        number_of_frames=1,
    )


def _image() -> bytes:
    """Return a picture of 12 bits with as much noise as a scanner's."""
    noise = random.Random(1)
    return b"".join(
        (
            ((x + y) * 2 if (x - 256) ** 2 + (y - 256) ** 2 < 40000 else 0) + noise.getrandbits(3)
        ).to_bytes(2, "little")
        for y in range(_SIDE)
        for x in range(_SIDE)
    )


def codecs(settings: Settings) -> Iterator[Finding]:
    """Tell which codecs are installed, and what would install the others."""
    options = options_of(settings.compression)
    there, missing = [], []
    for keyword, uid in ENCODED_IN.items():
        try:
            check_installed(options._replace(transfer_syntax_uid=uid))
            there.append(keyword)
        except BadConfiguration:
            missing.append(f"{keyword} (pip install 'dcmpress[{_EXTRAS.get(keyword, keyword)}]')")
    more = f"; not installed, and not needed: {', '.join(missing)}" if missing else ""
    yield ok("codecs", f"installed: {', '.join(there)}{more}")
