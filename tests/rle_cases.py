"""Frames to encode, and pydicom's decoder to judge them: shared by the RLE tests."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st
from pydicom.pixels.decoders.rle import _rle_decode_frame

from node.pixels.rle import HEADER_BYTES, MAX_RUN, FrameLayout


def row_layout(columns: int, rows: int = 1) -> FrameLayout:
    """Rows of single bytes."""
    return FrameLayout(rows=rows, columns=columns, samples=1, bits_allocated=8)


runny = st.lists(
    st.tuples(st.integers(0, 3), st.one_of(st.integers(1, 4), st.integers(120, 260))), max_size=12
).map(lambda runs: b"".join(bytes([value]) * count for value, count in runs))
noisy = st.binary(max_size=300)
nearly_noisy = st.builds(
    lambda seed, size, chance: bytes(_with_pairs(random.Random(seed), size, chance)),
    st.integers(0, 1 << 32),
    st.integers(1, 700),
    st.floats(0, 0.2),
)


def _with_pairs(source: random.Random, size: int, chance: float) -> Iterator[int]:
    value = 0
    for _ in range(size):
        if source.random() >= chance:
            value = (value + source.randrange(1, 255)) % 256
        yield value


@st.composite
def frames(draw):
    """A layout and a native frame of it: runs, noise, or something between."""
    bits = draw(st.sampled_from([8, 16, 32, 64]))
    layout = FrameLayout(
        rows=draw(st.integers(1, 9)),
        columns=draw(st.one_of(st.integers(1, 70), st.integers(120, 300))),
        samples=draw(st.sampled_from([n for n in (1, 2, 3, 4, 15) if n * bits // 8 <= 15])),
        bits_allocated=bits,
        planar_configuration=draw(st.sampled_from([0, 1])),
        big_endian=draw(st.booleans()),
    )
    pattern = draw(st.one_of(runny, noisy, nearly_noisy)) or b"\0"
    times = -(-layout.frame_bytes // len(pattern))
    return layout, (pattern * times)[: layout.frame_bytes]


def encoded_bound(layout: FrameLayout) -> int:
    """The most bytes a frame can take: all literals, a code for each 128 bytes of a row."""
    segment = layout.rows * (layout.columns + -(-layout.columns // MAX_RUN))
    return HEADER_BYTES + layout.segments * (segment + segment % 2)


def by_pydicom(encoded: bytes, layout: FrameLayout) -> bytes:
    """The native frame by pydicom's decoder, which gives little endian, planar configuration 1."""
    decoded = _rle_decode_frame(
        encoded, layout.rows, layout.columns, layout.samples, layout.bits_allocated
    )
    planes = np.frombuffer(decoded, f"<u{layout.sample_bytes}").reshape(layout.samples, -1)
    ordered = planes if layout.planar_configuration else planes.T
    return ordered.astype(f"{'>' if layout.big_endian else '<'}u{layout.sample_bytes}").tobytes()
