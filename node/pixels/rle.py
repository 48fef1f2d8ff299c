"""RLE Lossless for one frame: native bytes to an encoded frame and back (PS3.5 Annex G).

The work is done by the C kernel `node.pixels._rle`; where that could not be built pylibjpeg-rle
does it, slower and holding the GIL. `KERNEL` tells which. Both give frames that every decoder
reads; the kernel's are never larger.

`crc32` is here because the kernel is: every instance that is encoded is summed over, too.

`encode`, `decode` and `matches` take any contiguous buffer: bytes, a memory map, a slice of one.
`decode_independent` always uses pylibjpeg-rle's decoder, so that what our encoder wrote can be
proven by code that shares nothing with it.

The fields of a layout are handed to the kernel one by one: `*layout` takes a tenth of the time of a
small frame.

Raises ValueError for arguments that do not fit each other, EncodingFailed and DecodingFailed for
all else. Nothing is logged, kept or retried. Any number of threads may call at once.
"""

from __future__ import annotations

import importlib
import zlib
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, Self, cast

from node.errors import DecodingFailed, EncodingFailed

if TYPE_CHECKING:
    from collections.abc import Container

    from typing_extensions import Buffer

HEADER_BYTES: Final = 64  # PS3.5 G.5: the number of segments and 15 offsets, of 32 bits each
MAX_SEGMENTS: Final = 15
MAX_ITEM_BYTES: Final = 2**32 - 2  # PS3.5 7.5: a length has 32 bits, is even, not FFFFFFFFH
MAX_RUN: Final = 128  # G.3.1: the most bytes that one code stands for; a run of them takes two


class _Layout(NamedTuple):
    """What the kernel wants to know of a frame, in that order."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    planar_configuration: int
    big_endian: bool


class FrameLayout(_Layout):
    """How the bytes of one native frame are ordered, in the words of PS3.3 C.7.6.3."""

    __slots__ = ()

    def __new__(
        cls,
        rows: int,
        columns: int,
        samples: int,
        bits_allocated: int,
        planar_configuration: int = 0,
        big_endian: bool = False,
    ) -> Self:
        """Refuse what cannot be RLE, naming what was given and what was expected."""
        _expect("rows", rows, range(1, 65536))
        _expect("columns", columns, range(1, 65536))
        _expect("bits allocated", bits_allocated, (8, 16, 32, 64))
        _expect("planar configuration", planar_configuration, (0, 1))
        _expect("samples", samples, range(1, MAX_SEGMENTS + 1))
        if (segments := samples * bits_allocated // 8) > MAX_SEGMENTS:
            raise ValueError(
                f"{samples} samples of {bits_allocated} bits need {segments} "
                f"segments, expected at most {MAX_SEGMENTS}"
            )
        return super().__new__(
            cls, rows, columns, samples, bits_allocated, planar_configuration, big_endian
        )

    @property
    def sample_bytes(self) -> int:
        """Bytes allocated for one sample."""
        return self.bits_allocated // 8

    @property
    def segments(self) -> int:
        """The number of byte planes, each encoded as a segment (PS3.5 G.2)."""
        return self.samples * self.sample_bytes

    @property
    def plane_bytes(self) -> int:
        """Bytes of one plane: one for each pixel."""
        return self.rows * self.columns

    @property
    def frame_bytes(self) -> int:
        """Bytes of the native frame."""
        return self.plane_bytes * self.segments


def encode(native: Buffer, layout: FrameLayout) -> bytes:
    """The RLE frame of a native one. Its length is even."""
    try:
        if _kernel is None:
            from node.pixels import pylibjpeg_rle

            return pylibjpeg_rle.encode(native, layout)
        rows, columns, samples, bits, planar, big_endian = layout
        return _kernel.encode(native, rows, columns, samples, bits, planar, big_endian)
    except (OverflowError, MemoryError) as error:
        raise EncodingFailed(f"a frame of {layout.frame_bytes} bytes: {error}") from error


def decode(encoded: Buffer, layout: FrameLayout) -> bytes:
    """The native frame of an RLE one, ordered as `layout` says."""
    if _kernel is None:
        return decode_independent(encoded, layout)
    try:
        rows, columns, samples, bits, planar, big_endian = layout
        return _kernel.decode(encoded, rows, columns, samples, bits, planar, big_endian)
    except (ValueError, MemoryError) as error:
        raise DecodingFailed(f"RLE frame: {error}") from error


def matches(encoded: Buffer, native: Buffer, layout: FrameLayout) -> bool:
    """Whether `encoded` decodes to exactly `native`; one that cannot be decoded does not."""
    if _kernel is not None:
        rows, columns, samples, bits, planar, big_endian = layout
        return _kernel.matches(encoded, native, rows, columns, samples, bits, planar, big_endian)
    from node.pixels import pylibjpeg_rle

    return pylibjpeg_rle.matches(encoded, native, layout)


def decode_independent(encoded: Buffer, layout: FrameLayout) -> bytes:
    """As `decode`, by pylibjpeg-rle's decoder. It holds the GIL."""
    from node.pixels import pylibjpeg_rle  # here and above: it brings numpy

    return pylibjpeg_rle.decode(encoded, layout)


def crc32(data: Buffer, crc: int = 0) -> int:
    """The CRC-32 of `data`, as zlib's; by the kernel as far as it can."""
    view, taken = memoryview(data).cast("B"), 0
    if _kernel is not None:
        crc, taken = _kernel.crc32(view, crc)
    return zlib.crc32(view[taken:], crc)


class _Kernel(Protocol):
    """What the C module offers; a layout is given as its fields."""

    def encode(self, native: Buffer, /, *layout: int) -> bytes: ...

    def decode(self, encoded: Buffer, /, *layout: int) -> bytes: ...

    def matches(self, encoded: Buffer, native: Buffer, /, *layout: int) -> bool: ...

    def crc32(self, data: Buffer, crc: int, /) -> tuple[int, int]: ...


def _load_kernel() -> _Kernel | None:
    """The C kernel, or None where it was not built."""
    try:
        return cast(_Kernel, importlib.import_module("node.pixels._rle"))
    except ImportError:
        return None


_kernel = _load_kernel()
KERNEL: Final[Literal["dcmpress", "pylibjpeg"]] = "pylibjpeg" if _kernel is None else "dcmpress"


def _expect(name: str, given: int, expected: Container[int]) -> None:
    if given not in expected:
        raise ValueError(f"{name} is {given}, expected {_in_words(expected)}")


def _in_words(expected: Container[int]) -> str:
    if isinstance(expected, range):
        return f"{expected.start} to {expected.stop - 1}"
    *others, last = cast("tuple[int, ...]", expected)
    return f"{', '.join(map(str, others))} or {last}"
