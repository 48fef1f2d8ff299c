"""RLE Lossless: exact bytes at every boundary, an exhaustive search as judge, and four decoders."""

from __future__ import annotations

import itertools
import random
import struct
import threading
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels.encoders.native import _encode_segment
from rle.rle import encode_segment
from rle_cases import by_pydicom, encoded_bound, frames, nearly_noisy, noisy, row_layout, runny

from node.errors import DecodingFailed, EncodingFailed
from node.pixels import rle
from node.pixels.rle import FrameLayout

any_time = settings(deadline=None)  # machines that test are busy
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
    lengths = [len(list(group)) for _, group in itertools.groupby(row)]
    equal = [left for length in lengths for left in range(length, 0, -1)]  # from here on
    for at in range(len(row)):
        put, places = best[at]
        after = (put + 1, places + 1) if places else (put + 2, -127)
        best[at + 1] = min(best[at + 1], after)
        for count in range(2, min(equal[at], 128) + 1):
            best[at + count] = min(best[at + count], (put + 2, 0))
    return best[-1][0]


@kernel_only
@any_time
@given(st.one_of(runny, noisy, nearly_noisy, st.builds(bytes.__add__, runny, nearly_noisy)))
def test_no_encoding_of_a_row_is_shorter(row):
    row = row or b"\0"
    segment = segment_of(rle.encode(row, row_layout(len(row))))
    wanted = shortest(row)
    assert len(segment) == wanted + wanted % 2
    assert len(segment) <= len(encode_segment(row, len(row)))
    assert len(segment) <= len(_encode_segment(row, len(row)))


# Frames of every shape.


@kernel_only
@any_time
@given(frames(), st.sampled_from(INSTRUCTION_SETS or ("",)))
def test_every_decoder_gives_the_frame_back(frame, instructions):
    layout, native = frame
    rle._kernel.use(instructions)
    encoded = rle.encode(native, layout)
    decoded, proven = rle.decode(encoded, layout), rle.matches(encoded, native, layout)
    rle._kernel.use(INSTRUCTION_SETS[0])
    assert decoded == native
    assert proven
    assert by_pydicom(encoded, layout) == native
    assert rle.decode_independent(encoded, layout) == native
    assert encoded == rle.encode(native, layout), "instruction sets differ"
    assert len(encoded) <= encoded_bound(layout)


@any_time
@given(frames())
def test_pylibjpeg_serves_the_same_frames(frame):
    layout, native = frame
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rle, "_kernel", None)
        encoded = rle.encode(native, layout)
        assert rle.decode(encoded, layout) == native
        assert rle.matches(encoded, native, layout)
        assert not rle.matches(encoded[:-2], native, layout) or encoded[-2:] == b"\x80\x80"
    assert by_pydicom(encoded, layout) == native
    if rle._kernel:
        assert rle.decode(encoded, layout) == native
        assert len(rle.encode(native, layout)) <= len(encoded)


@any_time
@given(frames(), st.data())
def test_one_changed_byte_does_not_match(frame, data):
    layout, native = frame
    encoded = rle.encode(native, layout)
    place = data.draw(st.integers(0, len(native) - 1))
    changed = bytearray(native)
    changed[place] ^= data.draw(st.integers(1, 255))
    assert not rle.matches(encoded, changed, layout)


@pytest.mark.parametrize("columns", [1, 8191, 8192, 8193, 65535])
def test_rows_about_a_band_and_the_widest(encoder, columns):
    """The kernel works on bands of 8192 bytes, or on one row."""
    layout = FrameLayout(rows=3, columns=columns, samples=1, bits_allocated=16)
    native = random.Random(columns).randbytes(layout.frame_bytes // 2) + bytes(
        layout.frame_bytes - layout.frame_bytes // 2
    )
    encoded = rle.encode(native, layout)
    assert rle.matches(encoded, native, layout)
    assert rle.decode_independent(encoded, layout) == native


def test_buffers_of_other_kinds(encoder):
    layout = row_layout(4)
    padded = memoryview(b"xx1123xx")[2:6]
    encoded = rle.encode(padded, layout)
    assert encoded == rle.encode(bytearray(b"1123"), layout)
    assert encoded == rle.encode(np.frombuffer(b"1123", "<u2"), layout)
    assert rle.decode(memoryview(encoded), layout) == b"1123"
    assert rle.matches(bytearray(encoded), padded, layout)


@kernel_only
def test_the_gil_is_released():
    """Another thread runs while a frame is encoded: it could not, were the GIL held."""
    layout = FrameLayout(rows=4000, columns=4000, samples=1, bits_allocated=16)
    native = random.Random(1).randbytes(layout.frame_bytes)
    began, ended = threading.Event(), threading.Event()
    seen = []

    def encode() -> None:
        began.set()
        rle.encode(native, layout)
        ended.set()

    thread = threading.Thread(target=encode)
    thread.start()
    began.wait()
    while not ended.is_set():
        seen.append(None)
    thread.join()
    assert len(seen) > 100


# Arguments.


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rows": 0}, "rows is 0, expected 1 to 65535"),
        ({"columns": 65536}, "columns is 65536, expected 1 to 65535"),
        ({"samples": 0}, "samples is 0, expected 1 to 15"),
        ({"samples": 16}, "samples is 16, expected 1 to 15"),
        ({"bits_allocated": 12}, "bits allocated is 12, expected 8, 16, 32 or 64"),
        ({"planar_configuration": 2}, "planar configuration is 2, expected 0 or 1"),
        (
            {"samples": 3, "bits_allocated": 64},
            "3 samples of 64 bits need 24 segments, expected at most 15",
        ),
    ],
)
def test_a_layout_is_valid_from_birth(wrong, message):
    right = {"rows": 1, "columns": 1, "samples": 1, "bits_allocated": 8}
    with pytest.raises(ValueError, match=message):
        FrameLayout(**right | wrong)


@pytest.mark.parametrize("size", [0, 5, 7])
def test_a_native_frame_of_another_size(encoder, size):
    message = f"the native frame has {size} bytes, its layout says 6"
    with pytest.raises(ValueError, match=message):
        rle.encode(bytes(size), row_layout(6))
    with pytest.raises(ValueError, match=message):
        rle.matches(rle.encode(bytes(6), row_layout(6)), bytes(size), row_layout(6))


EXTREMES = st.one_of(st.integers(-3, 20), st.integers(-(2**65), 2**65), st.sampled_from([65535]))


@kernel_only
@any_time
@given(st.tuples(*[EXTREMES] * 6))
def test_the_kernel_itself_refuses_any_other_arguments(arguments):
    for call in (rle._kernel.encode, rle._kernel.decode):
        with pytest.raises((ValueError, OverflowError)):
            call(b"12345", *arguments)
    with pytest.raises((ValueError, OverflowError)):
        rle._kernel.matches(bytes(64), b"12345", *arguments)


@kernel_only
@pytest.mark.parametrize("arguments", [(), (b"",), (b"", 1, 1, 1, 8, 0), ("", 1, 1, 1, 8, 0, 0)])
def test_the_kernel_itself_refuses_other_types(arguments):
    for call in (rle._kernel.encode, rle._kernel.decode, rle._kernel.matches):
        with pytest.raises(TypeError):
            call(*arguments)


def test_no_memory_is_a_failed_encoding(monkeypatch):
    class Kernel:
        def encode(self, *_):
            raise MemoryError

    monkeypatch.setattr(rle, "_kernel", Kernel())
    with pytest.raises(EncodingFailed, match="a frame of 6 bytes"):
        rle.encode(bytes(6), row_layout(6))


# Hostile and unusual encoded frames.


def frame_of(*segments: bytes, offsets: list[int] | None = None, count: int | None = None) -> bytes:
    """A frame with these segments, and, where given, with a header that lies about them."""
    if offsets is None:
        offsets = [64 + sum(map(len, segments[:index])) for index in range(len(segments))]
    words = [len(segments) if count is None else count, *offsets]
    header = struct.pack(f"<{len(words)}L", *words).ljust(64, b"\0")
    return header + b"".join(segments)


GOOD = literal(b"abc") + run(3, A)  # fills a plane of six bytes

BAD = [
    ("nothing", b""),
    ("a header cut off", frame_of(GOOD)[:63]),
    ("a header alone", frame_of(GOOD)[:64]),
    ("no segments", frame_of(GOOD, count=0)),
    ("two segments", frame_of(GOOD, GOOD)),
    ("2^32 - 1 segments", frame_of(GOOD, count=2**32 - 1)),
    ("16 segments", frame_of(GOOD, count=16)),
    ("an offset in the header", frame_of(GOOD, offsets=[60])),
    ("an offset of zero", frame_of(GOOD, offsets=[0])),
    ("an offset at the end", frame_of(GOOD, offsets=[64 + len(GOOD)])),
    ("an offset past the end", frame_of(GOOD, offsets=[65 + len(GOOD)])),
    ("an offset of 2^32 - 1", frame_of(GOOD, offsets=[2**32 - 1])),
    ("a literal cut off", frame_of(literal(b"abcdef")[:-1])),
    ("a code alone", frame_of(literal(b"abcde") + b"\xff")),
    ("a literal's code alone", frame_of(literal(b"abcde") + b"\0")),
    ("one byte too few", frame_of(literal(b"abcde"))),
    ("nothing but no-ops", frame_of(b"\x80" * 64)),
]


@pytest.mark.parametrize("encoded", [frame for _, frame in BAD], ids=[name for name, _ in BAD])
def test_what_cannot_fill_the_frame_is_refused(encoder, encoded):
    for decode in (rle.decode, rle.decode_independent):
        with pytest.raises(DecodingFailed):
            decode(encoded, row_layout(6))
    assert not rle.matches(encoded, b"abc" + A * 3, row_layout(6))


@pytest.mark.parametrize(
    "encoded",
    [
        frame_of(GOOD),
        frame_of(GOOD + b"\0"),
        frame_of(GOOD + literal(b"more")),
        frame_of(literal(b"abc") + run(128, A)),
        frame_of(literal(b"abc") + b"\x80\x80" + run(3, A)),
        frame_of(GOOD + b"\xff\xff", offsets=[64]),
        frame_of(b"between", GOOD, offsets=[71], count=1),
    ],
    ids=["plain", "padded", "too long", "a run too long", "no-ops", "waste after", "waste before"],
)
def test_what_other_writers_produce_is_read(encoder, encoded):
    """pydicom reads segments that are too long too (its issue 1438)."""
    native = b"abc" + A * 3
    assert rle.decode(encoded, row_layout(6)) == native
    assert rle.decode_independent(encoded, row_layout(6)) == native
    assert rle.matches(encoded, native, row_layout(6))


@kernel_only
def test_a_literal_cut_off_after_enough_bytes_is_read():
    encoded = frame_of(bytes([127]) + b"abcdef")
    assert rle.decode(encoded, row_layout(6)) == b"abcdef"


def test_offsets_out_of_order(encoder):
    layout = FrameLayout(rows=1, columns=6, samples=1, bits_allocated=16)
    encoded = frame_of(GOOD, GOOD, offsets=[64 + len(GOOD), 64])
    with pytest.raises(DecodingFailed, match="offset"):
        rle.decode(encoded, layout)


@pytest.mark.parametrize("samples", [1, 15])
def test_a_huge_claim_allocates_nothing(encoder, samples):
    """4 GiB and more for each segment, claimed by a frame of some bytes."""
    layout = FrameLayout(rows=65535, columns=65535, samples=samples, bits_allocated=8)
    encoded = frame_of(*[run(128, A)] * samples)
    tracemalloc.start()
    with pytest.raises(DecodingFailed, match="ends before its 4294836225 bytes"):
        rle.decode(encoded, layout)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


@kernel_only
@any_time
@given(frames(), st.data())
def test_a_damaged_frame_decodes_or_fails_and_nothing_else(frame, data):
    layout, native = frame
    damaged = bytearray(rle.encode(native, layout))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    try:
        decoded = rle.decode(damaged, layout)
    except DecodingFailed:
        assert not rle.matches(damaged, native, layout)
    else:
        assert len(decoded) == layout.frame_bytes
        assert rle.matches(damaged, decoded, layout)
        assert rle.matches(damaged, native, layout) == (decoded == native)


LENGTHS = [*range(200), 255, 256, 257, 4095, 4096, 4097, 65535, 65536, 70001]


@pytest.mark.parametrize("kernel", [True, False])
def test_the_checksum_is_that_of_zlib(monkeypatch, kernel):
    """At every length about what is folded at once, from every alignment, going on from another."""
    if not kernel:
        monkeypatch.setattr(rle, "_kernel", None)
    noise = memoryview(random.Random(32).randbytes(80_000))
    for length in LENGTHS:
        for start in (0, 1, 7, 15):
            part = noise[start : start + length]
            for before in (0, 1, 0xFFFFFFFF, 0x12345678):
                assert rle.crc32(part, before) == zlib.crc32(part, before), (length, start)
    for same in (bytes(1000), b"\xff" * 1000):
        assert rle.crc32(same) == zlib.crc32(same)
