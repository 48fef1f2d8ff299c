"""RLE Lossless: exact bytes at every boundary, an exhaustive search as judge, and four decoders."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.pixels.encoders.native import _encode_segment
from rle.rle import encode_segment

from node.pixels import rle
from node.pixels.rle import FrameLayout

kernel_only = pytest.mark.skipif(rle.KERNEL != "dcmpress", reason="the C kernel is not built")
INSTRUCTION_SETS = rle._kernel.instruction_sets() if rle._kernel else ()


@pytest.fixture(params=[*INSTRUCTION_SETS, "pylibjpeg"])
def encoder(request, monkeypatch):
    """Each way this machine can encode; what it decodes with changes too."""
    if request.param == "pylibjpeg":
        monkeypatch.setattr(rle, "_kernel", None)
        yield request.param
    else:
        rle._kernel.use(request.param)
        yield request.param
        rle._kernel.use(INSTRUCTION_SETS[0])


def row_layout(columns: int, rows: int = 1) -> FrameLayout:
    return FrameLayout(rows=rows, columns=columns, samples=1, bits_allocated=8)


def singles(count: int) -> bytes:
    """Bytes of which no two neighbours are equal."""
    return bytes(index % 251 for index in range(count))


def segment_of(encoded: bytes) -> bytes:
    assert encoded[:8] == struct.pack("<2L", 1, 64)
    assert encoded[8:64] == bytes(56)
    return encoded[64:]


def literal(data: bytes) -> bytes:
    return bytes([len(data) - 1]) + data


def run(count: int, value: bytes) -> bytes:
    return bytes([257 - count]) + value


# One row of 8-bit pixels, and its segment without the padding to even length.
A, B = b"\xaa", b"\xbb"
ROWS = [
    # Replicate runs: two to 128 bytes take a code of one byte (PS3.5 G.3.1).
    (A, literal(A)),
    (A * 2, run(2, A)),
    (A * 3, run(3, A)),
    (A * 127, run(127, A)),
    (A * 128, run(128, A)),
    (A * 129, run(128, A) + literal(A)),
    (A * 130, run(128, A) + run(2, A)),
    (A * 131, run(128, A) + run(3, A)),
    (A * 256, run(128, A) * 2),
    (A * 257, run(128, A) * 2 + literal(A)),
    # Literals of the same lengths.
    (singles(2), literal(singles(2))),
    (singles(3), literal(singles(3))),
    (singles(127), literal(singles(127))),
    (singles(128), literal(singles(128))),
    (singles(129), literal(singles(129)[:128]) + literal(singles(129)[128:])),
    (singles(256), literal(singles(256)[:128]) + literal(singles(256)[128:])),
    # A pair inside a literal, or at its end, stays: taking it out saves nothing.
    (b"\1" + A * 2 + b"\2", literal(b"\1" + A * 2 + b"\2")),
    (b"\1" + A * 2, literal(b"\1" + A * 2)),
    (b"\1" + A * 2 + B * 2 + b"\2", literal(b"\1" + A * 2 + B * 2 + b"\2")),
    # A pair where no literal is open is a run.
    (A * 2 + b"\1\2", run(2, A) + literal(b"\1\2")),
    (A * 2 + B * 2, run(2, A) + run(2, B)),
    (A * 3 + B * 2 + b"\1", run(3, A) + run(2, B) + literal(b"\1")),
    # Three equal bytes end a literal.
    (b"\1" + A * 3 + b"\2", literal(b"\1") + run(3, A) + literal(b"\2")),
    # A pair at the 128th byte of a literal, before it and after it.
    (singles(126) + A * 2 + b"\1", literal(singles(126) + A * 2) + literal(b"\1")),
    (singles(127) + A * 2 + b"\1", literal(singles(127)) + run(2, A) + literal(b"\1")),
    (singles(128) + A * 2 + b"\1", literal(singles(128)) + run(2, A) + literal(b"\1")),
    (singles(127) + A * 2, literal(singles(127)) + run(2, A)),
    # A run of 129: an open literal takes the odd byte, if it has a place left.
    (b"\1" + A * 129, literal(b"\1" + A) + run(128, A)),
    (b"\1" + A * 257, literal(b"\1" + A) + run(128, A) * 2),
    (singles(127) + A * 129, literal(singles(127) + A) + run(128, A)),
    (singles(128) + A * 129, literal(singles(128)) + run(128, A) + literal(A)),
    (B * 3 + A * 129 + b"\1", run(3, B) + run(128, A) + literal(A + b"\1")),
    (b"\1" + A * 130, literal(b"\1") + run(128, A) + run(2, A)),
]


@kernel_only
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
@pytest.mark.parametrize(("row", "segment"), ROWS)
def test_exact_bytes_of_a_row(row, segment, instructions):
    rle._kernel.use(instructions)
    encoded = rle.encode(row, row_layout(len(row)))
    rle._kernel.use(INSTRUCTION_SETS[0])
    assert segment_of(encoded) == segment + bytes(len(segment) % 2)


def test_rows_are_encoded_apart(encoder):
    """PS3.5 G.3.1: a run does not cross the end of a row."""
    encoded = rle.encode(A * 6, row_layout(3, rows=2))
    assert segment_of(encoded) == run(3, A) * 2


def test_a_segment_of_odd_length_is_padded(encoder):
    layout = FrameLayout(rows=1, columns=2, samples=1, bits_allocated=16)
    encoded = rle.encode(b"\1\2\3\4", layout)
    header = struct.pack("<3L", 2, 64, 68).ljust(64, b"\0")
    assert encoded == header + literal(b"\2\4") + b"\0" + literal(b"\1\3") + b"\0"


# Two pixels of 16 bits: red 1110H and 2120H, green 3130H and 4140H, blue 5150H and 6160H.
@pytest.mark.parametrize(
    ("planar", "big_endian", "native"),
    [
        (0, False, "10 11 30 31 50 51 20 21 40 41 60 61"),
        (0, True, "11 10 31 30 51 50 21 20 41 40 61 60"),
        (1, False, "10 11 20 21 30 31 40 41 50 51 60 61"),
        (1, True, "11 10 21 20 31 30 41 40 51 50 61 60"),
    ],
)
def test_order_of_segments(encoder, planar, big_endian, native):
    """PS3.5 G.2: by sample, then the most significant byte first, whatever the native order."""
    layout = FrameLayout(
        rows=1,
        columns=2,
        samples=3,
        bits_allocated=16,
        planar_configuration=planar,
        big_endian=big_endian,
    )
    encoded = rle.encode(bytes.fromhex(native), layout)
    header = struct.pack("<7L", 6, *range(64, 88, 4)).ljust(64, b"\0")
    segments = [
        literal(bytes.fromhex(pair)) for pair in ("1121", "1020", "3141", "3040", "5161", "5060")
    ]
    assert encoded == header + b"".join(segment + b"\0" for segment in segments)
    assert rle.decode(encoded, layout) == bytes.fromhex(native)


def shortest(row: bytes) -> int:
    """The least bytes any choice of runs and literals takes, by trying all of them."""
    best = [(0, 0)] + [(1 << 30, 0)] * len(row)  # bytes put; minus the places left in the literal
    for at in range(len(row)):
        put, places = best[at]
        after = (put + 1, places + 1) if places else (put + 2, -127)
        best[at + 1] = min(best[at + 1], after)
        for count in range(2, 129):
            if row[at : at + count] != row[at : at + 1] * count:
                break
            best[at + count] = min(best[at + count], (put + 2, 0))
    return best[-1][0]


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


def _with_pairs(source: random.Random, size: int, chance: float):
    value = 0
    for _ in range(size):
        if source.random() >= chance:
            value = (value + source.randrange(1, 255)) % 256
        yield value


@kernel_only
@given(st.one_of(runny, noisy, nearly_noisy, st.builds(bytes.__add__, runny, nearly_noisy)))
def test_no_encoding_of_a_row_is_shorter(row):
    row = row or b"\0"
    segment = segment_of(rle.encode(row, row_layout(len(row))))
    wanted = shortest(row)
    assert len(segment) == wanted + wanted % 2
    assert len(segment) <= len(encode_segment(row, len(row)))
    assert len(segment) <= len(_encode_segment(row, len(row)))
