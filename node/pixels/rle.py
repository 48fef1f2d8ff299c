"""RLE Lossless for one frame: native bytes to an encoded frame and back (PS3.5 Annex G).

The work is done by the C kernel `node.pixels._rle`; where that could not be built pylibjpeg-rle
does it, slower and holding the GIL. `KERNEL` tells which. Both give frames that every decoder
reads; the kernel's are never larger.

`encode`, `decode` and `matches` take any contiguous buffer: bytes, a memory map, a slice of one.
`decode_independent` always uses pylibjpeg-rle's decoder, so that what our encoder wrote can be
proven by code that shares nothing with it.

Raises ValueError for arguments that do not fit each other, EncodingFailed and DecodingFailed for
all else. Nothing is logged, kept or retried. Any number of threads may call at once.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, cast

from node.errors import DecodingFailed, EncodingFailed

if TYPE_CHECKING:
    from collections.abc import Container

    from typing_extensions import Buffer

HEADER_BYTES: Final = 64  # PS3.5 G.5: the number of segments and 15 offsets, of 32 bits each
MAX_SEGMENTS: Final = 15
MAX_ITEM_BYTES: Final = 2**32 - 2  # PS3.5 7.5: a length has 32 bits, is even, not FFFFFFFFH
MAX_RUN: Final = 128  # G.3.1: the most bytes that one code stands for; a run of them takes two

_Arguments: TypeAlias = tuple[int, int, int, int, int, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameLayout:
    """How the bytes of one native frame are ordered, in the words of PS3.3 C.7.6.3."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    planar_configuration: int = 0
    big_endian: bool = False
    _arguments: _Arguments = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be RLE, naming what was given and what was expected."""
        _expect("rows", self.rows, range(1, 65536))
        _expect("columns", self.columns, range(1, 65536))
        _expect("bits allocated", self.bits_allocated, (8, 16, 32, 64))
        _expect("planar configuration", self.planar_configuration, (0, 1))
        _expect("samples", self.samples, range(1, MAX_SEGMENTS + 1))
        if self.segments > MAX_SEGMENTS:
            raise ValueError(
                f"{self.samples} samples of {self.bits_allocated} bits need {self.segments} "
                f"segments, expected at most {MAX_SEGMENTS}"
            )
        # As the kernel wants them; made once, as for a small frame this would be a tenth of it.
        given = (self.rows, self.columns, self.samples, self.bits_allocated)
        order = (self.planar_configuration, self.big_endian)
        object.__setattr__(self, "_arguments", given + order)

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

    @property
    def encoded_bound(self) -> int:
        """The most bytes `encode` can give: all literals, a code for each 128 bytes of a row."""
        row = self.columns + -(-self.columns // MAX_RUN)
        segment = self.rows * row
        return HEADER_BYTES + self.segments * (segment + segment % 2)


def encode(native: Buffer, layout: FrameLayout) -> bytes:
    """The RLE frame of a native one. Its length is even, and at most `layout.encoded_bound`."""
    try:
        if _kernel is None:
            from node.pixels import pylibjpeg_rle

            return pylibjpeg_rle.encode(native, layout)
        return _kernel.encode(native, *layout._arguments)
    except (OverflowError, MemoryError) as error:
        raise EncodingFailed(f"a frame of {layout.frame_bytes} bytes: {error}") from error


def decode(encoded: Buffer, layout: FrameLayout) -> bytes:
    """The native frame of an RLE one, ordered as `layout` says."""
    if _kernel is None:
        return decode_independent(encoded, layout)
    try:
        return _kernel.decode(encoded, *layout._arguments)
    except (ValueError, MemoryError) as error:
        raise DecodingFailed(f"RLE frame: {error}") from error


def matches(encoded: Buffer, native: Buffer, layout: FrameLayout) -> bool:
    """Whether `encoded` decodes to exactly `native`; one that cannot be decoded does not."""
    if _kernel is not None:
        return _kernel.matches(encoded, native, *layout._arguments)
    from node.pixels import pylibjpeg_rle

    return pylibjpeg_rle.matches(encoded, native, layout)


def decode_independent(encoded: Buffer, layout: FrameLayout) -> bytes:
    """As `decode`, by pylibjpeg-rle's decoder. It holds the GIL."""
    from node.pixels import pylibjpeg_rle  # here and above: it brings numpy

    return pylibjpeg_rle.decode(encoded, layout)


class _Kernel(Protocol):
    """What the C module offers; a layout is given as its `_arguments`."""

    def encode(self, native: Buffer, /, *layout: int) -> bytes: ...

    def decode(self, encoded: Buffer, /, *layout: int) -> bytes: ...

    def matches(self, encoded: Buffer, native: Buffer, /, *layout: int) -> bool: ...


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
