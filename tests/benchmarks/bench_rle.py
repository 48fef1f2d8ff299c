"""The RLE kernel against pylibjpeg-rle and GDCM: ratios of one run, on the corpus.

    python tests/benchmarks/bench_rle.py

Contenders take turns, five rounds; a figure is the median of a contender's rounds. Speeds are
native megabytes a second on one thread, calls from Python included. Read the ratios: they hold on
another machine and under load, the speeds do not. Each contender is given what suits it best:
GDCM is timed inside `ImageChangeTransferSyntax.Change` only, pylibjpeg-rle's decoder gives
planar configuration 1, ours whatever the file has.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rle.rle import decode_frame, encode_frame

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import corpus
import gdcm_rle

from node.pixels import rle
from node.pixels.rle import FrameLayout

ROUNDS = 5
LEAST_SECONDS = 0.02  # a round repeats its frames until our encoder takes this long
DOSE_GRID = 160  # rows and columns
MOST_BYTES = 12_000_000  # of a kind


@dataclass(frozen=True)
class Sample:
    """A native frame, what each side needs to know about it, and its encoded form."""

    native: bytes
    layout: FrameLayout
    photometric: str
    encoded: bytes


Contender = Callable[[list[Sample]], float]

KINDS: dict[str, Callable[[dict[str, str]], bool]] = {
    "CT 16 bits": lambda row: row["modality"] == "CT" and row["rows"] == "512",
    "MR 16 bits": lambda row: row["modality"] == "MR" and row["bits_allocated"] == "16",
    "RGB 8 bits": lambda row: row["samples"] == "3" and row["bits_allocated"] == "8",
    "dose 32 bits": lambda row: row["samples"] == "1" and row["bits_allocated"] == "32",
}


def enlarged(sample: Sample) -> Sample:
    """A frame of 32 bits at the size dose grids have: the corpus has them of 10 x 10 only, which
    measures calls rather than encoding. Linear interpolation keeps it as smooth as dose is.
    """
    layout = sample.layout
    plane = np.frombuffer(sample.native, "<u4").reshape(layout.rows, layout.columns)
    for _ in range(2):
        places = np.linspace(0, len(plane) - 1, DOSE_GRID)
        columns = [np.interp(places, np.arange(len(plane)), column) for column in plane.T]
        plane = np.array(columns)  # transposed, so twice enlarges both ways
    native = plane.round().astype("<u4").tobytes()
    large = FrameLayout(rows=DOSE_GRID, columns=DOSE_GRID, samples=1, bits_allocated=32)
    return Sample(native, large, sample.photometric, rle.encode(native, large))


def samples(wanted: Callable[[dict[str, str]], bool]) -> list[Sample]:
    """Frames of one kind, at most MOST_BYTES, all files in turn."""
    found: list[Sample] = []
    for row in corpus.native_rows():
        if not wanted(row) or row["transfer_syntax"] == "Explicit VR Big Endian":
            continue
        dataset = corpus.read(row)
        layout = corpus.frame_layout(dataset)
        if layout.frame_bytes % 2:
            continue  # GDCM 3.2.6 ends the process on colour frames of odd length
        for native in corpus.native_frames(dataset):
            encoded = rle.encode(native, layout)
            found.append(Sample(native, layout, dataset.PhotometricInterpretation, encoded))
    return thinned(found)


def thinned(found: list[Sample]) -> list[Sample]:
    """Every n-th frame, so that all series stay in."""
    total = sum(len(sample.native) for sample in found)
    return found[:: -(-total // MOST_BYTES)]


def timed(call: Callable[[Sample], object]) -> Contender:
    """The seconds that `call` takes for all samples."""

    def seconds(some: list[Sample]) -> float:
        start = time.perf_counter()
        for sample in some:
            call(sample)
        return time.perf_counter() - start

    return seconds


def gdcm_seconds(some: list[Sample]) -> float:
    """The seconds GDCM takes to encode; making its images is not counted."""
    return sum(
        gdcm_rle.encode(sample.native, sample.layout, sample.photometric)[1] for sample in some
    )


ENCODERS: dict[str, Contender] = {
    "dcmpress": timed(lambda sample: rle.encode(sample.native, sample.layout)),
    "pylibjpeg": timed(lambda sample: encode_frame(sample.native, *peer_layout(sample.layout))),
    "gdcm": gdcm_seconds,
}
DECODERS: dict[str, Contender] = {
    "decode": timed(lambda sample: rle.decode(sample.encoded, sample.layout)),
    "matches": timed(lambda sample: rle.matches(sample.encoded, sample.native, sample.layout)),
    "pylibjpeg": timed(
        lambda sample: decode_frame(
            sample.encoded, sample.layout.plane_bytes, sample.layout.bits_allocated, "<"
        )
    ),
    "independent": timed(lambda sample: rle.decode_independent(sample.encoded, sample.layout)),
}


def peer_layout(layout: FrameLayout) -> tuple[int, int, int, int, str]:
    """The arguments pylibjpeg-rle wants after the frame."""
    return layout.rows, layout.columns, layout.samples, layout.bits_allocated, "<"


def race(contenders: dict[str, Contender], some: list[Sample]) -> dict[str, float]:
    """The median seconds of each contender, who take turns."""
    first = next(iter(contenders.values()))
    work = some * max(1, round(LEAST_SECONDS / first(some)))
    rounds = [{name: run(work) for name, run in contenders.items()} for _ in range(ROUNDS)]
    scale = len(work) / len(some)
    return {name: statistics.median(r[name] for r in rounds) / scale for name in contenders}


def size_against_gdcm(some: list[Sample]) -> float:
    """Our bytes for one of GDCM's. No frame may be larger than GDCM's with its segments padded."""
    ours = theirs = 0
    for sample in some:
        encoded, _ = gdcm_rle.encode(sample.native, sample.layout, sample.photometric)
        assert len(sample.encoded) <= gdcm_rle.padded_size(encoded), "GDCM's frame is smaller"
        ours, theirs = ours + len(sample.encoded), theirs + len(encoded)
    return ours / theirs


def report(kind: str, some: list[Sample]) -> None:
    """Print one kind: sizes, then speeds of encoders and decoders, ours over theirs."""
    native = sum(len(sample.native) for sample in some)
    encoded = sum(len(sample.encoded) for sample in some)
    print(f"\n{kind}: {len(some)} frames, {native / 1e6:.1f} MB, ratio {native / encoded:.3f}")
    print(f"  size     {size_against_gdcm(some):.5f} of GDCM's")
    encoders, decoders = race(ENCODERS, some), race(DECODERS, some)
    for title, seconds in (("encode", encoders), ("decode", decoders)):
        speeds = (f"{name} {native / s / 1e6:,.0f}" for name, s in seconds.items())
        print(f"  {title:8} MB/s  {'   '.join(speeds)}")
    ours = encoders["dcmpress"]
    print(f"  encode   {encoders['pylibjpeg'] / ours:.1f} x pylibjpeg-rle", end=", ")
    print(f"{encoders['gdcm'] / ours:.1f} x GDCM")
    theirs = decoders["pylibjpeg"]
    print(f"  decode   {theirs / decoders['decode']:.1f} x pylibjpeg-rle", end=", ")
    print(f"matches {theirs / decoders['matches']:.1f} x")


def main() -> None:
    """Run all kinds."""
    if corpus.corpus_root() is None:
        sys.exit(corpus.ABSENT)
    print(f"kernel: {rle.KERNEL}")
    for kind, wanted in KINDS.items():
        some = samples(wanted)
        report(kind, some)
        if kind == "dose 32 bits":
            report(f"{kind}, enlarged", [enlarged(sample) for sample in some])


if __name__ == "__main__":
    main()
