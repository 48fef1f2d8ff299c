"""Whether an instance's pixel data is encoded, and if not, why: a pure decision.

`decide` takes facts and options and opens nothing. What may be encoded is the Standard's own
table: PS3.5 Table 8.2.2-1 for RLE Lossless; its neighbours, as pydicom's `ENCODING_PROFILES`, for
the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from node.dicom import uids
from node.reasons import KeepReason

#: No encoded frame is shorter: the header of an RLE frame (PS3.5 G.5), the markers that a JPEG-LS
#: frame cannot be without; those of JPEG 2000 are longer.
_RLE_HEADER_BYTES = 64
_JPEG_MARKER_BYTES = 27

#: Photometric Interpretation, Samples per Pixel, Pixel Representation, Bits Allocated and Stored.
_Profile: TypeAlias = tuple[str, int, Iterable[int], Iterable[int], Iterable[int]]

#: PS3.5 Table 8.2.2-1.
_RLE_PROFILES: tuple[_Profile, ...] = (
    ("MONOCHROME1", 1, (0, 1), (8, 16), range(1, 17)),
    ("MONOCHROME2", 1, (0, 1), (8, 16), range(1, 17)),
    ("PALETTE COLOR", 1, (0,), (8, 16), range(1, 17)),
    ("YBR_FULL", 3, (0,), (8,), range(1, 9)),
    ("RGB", 3, (0,), (8, 16), range(1, 17)),
)

#: Of PS3.5 Table 8.2.14-1, what the encoder takes without a colour transform.
_HTJ2K_PROFILES: tuple[_Profile, ...] = (
    ("MONOCHROME1", 1, (0, 1), (8, 16), range(1, 17)),
    ("MONOCHROME2", 1, (0, 1), (8, 16), range(1, 17)),
    ("PALETTE COLOR", 1, (0,), (8, 16), range(1, 17)),
    ("RGB", 3, (0,), (8, 16), range(1, 17)),
    ("YBR_FULL", 3, (0,), (8, 16), range(1, 17)),
)

Verify: TypeAlias = bool | Literal["independent"]


class Run(Protocol):
    """How the code of others is called: in this process, or in one of its own."""

    def __call__(
        self, function: Callable[..., bytes], /, *arguments: Any, work_bytes: int = 0
    ) -> bytes:
        """Return `function(*arguments)`; `work_bytes` says how much there is to do."""


def here(function: Callable[..., bytes], /, *arguments: Any, work_bytes: int = 0) -> bytes:
    """Call it in this process, for programs that trust their files, and in workers."""
    return function(*arguments)


class Options(NamedTuple):
    """How pixel data is encoded.

    `transfer_syntax_uid`  the wanted one; "" switches compression off
    `encoder`              name of the encoder: dcmpress, pylibjpeg, gdcm, pydicom, pyjpegls
    `verify`               True: decode every frame again with our own decoder; "independent": with
                           somebody else's; False: trust the encoder
    `beyond_table`         also encode what PS3.5 Table 8.2.2-1 leaves out
    `threads`              frames of one instance that are encoded at the same time
    `run`                  how the codecs of others are called; our own kernel needs no process
    """

    transfer_syntax_uid: str = uids.RLE_LOSSLESS
    encoder: str = "dcmpress"
    verify: Verify = True
    beyond_table: bool = False
    threads: int = 1
    run: Run = here


class PixelFacts(NamedTuple):
    """What a native data set says of its pixel data (PS3.3 C.7.6.3); None where it does not say.

    `value_length` is that of the Pixel Data element, in bytes; None where there is none.
    """

    samples_per_pixel: int | None
    photometric_interpretation: str | None
    planar_configuration: int | None
    number_of_frames: int | None
    rows: int | None
    columns: int | None
    bits_allocated: int | None
    bits_stored: int | None
    pixel_representation: int | None
    value_length: int | None
    has_float_pixel_data: bool = False
    is_signed: bool = False


class PixelLayout(NamedTuple):
    """Native frames, fully described and all there: what an encoder needs to know."""

    rows: int
    columns: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    pixel_representation: int
    photometric_interpretation: str
    planar_configuration: int
    number_of_frames: int

    @property
    def frame_bytes(self) -> int:
        """Length of one native frame, in bytes."""
        return self.rows * self.columns * self.samples_per_pixel * self.bits_allocated // 8

    @property
    def value_bytes(self) -> int:
        """Length of all native frames, in bytes, without padding."""
        return self.frame_bytes * self.number_of_frames


def decide(facts: PixelFacts, options: Options) -> PixelLayout | KeepReason:
    """Return how to read the frames that are to be encoded, or why the instance stays as it is."""
    if not options.transfer_syntax_uid:
        return KeepReason.SWITCHED_OFF
    if facts.is_signed:
        return KeepReason.SIGNED
    if facts.has_float_pixel_data:
        return KeepReason.FLOAT_PIXEL_DATA
    if facts.value_length is None:
        return KeepReason.NO_PIXEL_DATA
    if facts.value_length == 0:
        return KeepReason.EMPTY_PIXEL_DATA
    layout = describe(facts)
    if layout is None:
        return KeepReason.INCOMPLETE_DESCRIPTION
    return _refusal(layout, options) or _length_refusal(layout, facts.value_length) or layout


def describe(facts: PixelFacts) -> PixelLayout | None:
    """Return the layout where the facts are complete and possible; None where they are not."""
    rows, columns, samples = facts.rows, facts.columns, facts.samples_per_pixel
    allocated, stored = facts.bits_allocated, facts.bits_stored
    representation, photometric = facts.pixel_representation, facts.photometric_interpretation
    frames = facts.number_of_frames
    if rows is None or columns is None or samples is None or frames is None:
        return None
    if allocated is None or stored is None or representation is None or not photometric:
        return None
    planar = facts.planar_configuration
    # Type 1C: required with more than one sample, and meaningless with one (PS3.3 C.7.6.3.1.3).
    if samples > 1 and planar not in (0, 1):
        return None
    if min(rows, columns, samples, allocated, stored, frames) < 1:
        return None
    if stored > allocated:
        return None
    return PixelLayout(
        rows=rows,
        columns=columns,
        samples_per_pixel=samples,
        bits_allocated=allocated,
        bits_stored=stored,
        pixel_representation=representation,
        photometric_interpretation=photometric,
        planar_configuration=planar if planar is not None and samples > 1 else 0,
        number_of_frames=frames,
    )


def _refusal(layout: PixelLayout, options: Options) -> KeepReason | None:
    if layout.bits_allocated == 1:
        return None if _one_bit_is_wanted(layout, options) else KeepReason.ONE_BIT
    if layout.photometric_interpretation.endswith(("_422", "_420")):
        # Two or four pixels share their chroma: native frames are not Rows x Columns x Samples
        # long (PS3.3 C.7.6.3.1.2), and RLE has no such form.
        return KeepReason.SUBSAMPLED
    if layout.bits_allocated % 8:
        return KeepReason.NOT_IN_TABLE
    if options.beyond_table and options.transfer_syntax_uid == uids.RLE_LOSSLESS:
        # The header of an RLE frame has room for 15 segments (PS3.5 G.5).
        segments = layout.samples_per_pixel * layout.bits_allocated // 8
        possible = segments <= 15 and layout.bits_allocated in (8, 16, 32, 64)
        return None if possible else KeepReason.NOT_IN_TABLE
    return None if _in_table(layout, options) else KeepReason.NOT_IN_TABLE


def _one_bit_is_wanted(layout: PixelLayout, options: Options) -> bool:
    """CP 2301 allows one bit in RLE, and few decoders read it yet, so it has to be asked for.

    Native frames follow each other without a gap (PS3.5 8.1.1), so that one may begin within a
    byte: those stay as they are.
    """
    is_asked_for = options.beyond_table and options.encoder == "dcmpress"
    begins_at_bytes = layout.rows * layout.columns % 8 == 0 and layout.samples_per_pixel == 1
    return is_asked_for and begins_at_bytes and options.transfer_syntax_uid == uids.RLE_LOSSLESS


def _in_table(layout: PixelLayout, options: Options) -> bool:
    return any(
        layout.photometric_interpretation == photometric
        and layout.samples_per_pixel == samples
        and layout.pixel_representation in representations
        and layout.bits_allocated in allocated
        and layout.bits_stored in stored
        for photometric, samples, representations, allocated, stored in _profiles(
            options.transfer_syntax_uid
        )
    )


def _profiles(transfer_syntax_uid: str) -> Iterable[_Profile]:
    """Return the lines of the table for a transfer syntax, as tuples."""
    if transfer_syntax_uid == uids.RLE_LOSSLESS:
        return _RLE_PROFILES
    if transfer_syntax_uid == uids.HTJ2K_LOSSLESS:
        return _HTJ2K_PROFILES
    from pydicom.pixels.encoders.base import ENCODING_PROFILES  # its encoders bring pydicom anyway
    from pydicom.uid import UID

    return ENCODING_PROFILES.get(UID(transfer_syntax_uid), ())


def _length_refusal(layout: PixelLayout, value_length: int) -> KeepReason | None:
    """Compare what is claimed with what is there, before anything is allocated (PS3.5 8.1.1)."""
    if value_length < layout.value_bytes:
        return KeepReason.SHORT_PIXEL_DATA
    if value_length > layout.value_bytes + layout.value_bytes % 2:
        return KeepReason.TRAILING_PIXEL_DATA
    return None


def is_too_small(layout: PixelLayout, options: Options) -> bool:
    """Tell of tiny frames, which cannot get smaller, and of which there may be millions."""
    is_rle = options.transfer_syntax_uid == uids.RLE_LOSSLESS
    return layout.frame_bytes <= (_RLE_HEADER_BYTES if is_rle else _JPEG_MARKER_BYTES)
