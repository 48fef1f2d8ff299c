"""The corpus of real files: where it is, and what its manifest says. Absent, its tests skip."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from pathlib import Path

import pydicom

from node.pixels.rle import FrameLayout

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"
ABSENT = f"the corpus is not at {CORPUS.relative_to(CORPUS.parents[1])} beside the checkout"
NATIVE = (
    "Implicit VR Little Endian",
    "Explicit VR Little Endian",
    "Explicit VR Big Endian",
    "Deflated Explicit VR Little Endian",
)


def corpus_root() -> Path | None:
    """The folder of the corpus, or None where it is absent."""
    return CORPUS if (CORPUS / "manifest.csv").is_file() else None


@functools.cache
def _manifest() -> tuple[dict[str, str], ...]:
    root = corpus_root()
    if root is None:
        return ()
    with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def rows() -> list[dict[str, str]]:
    """The manifest, one dict for each file, with `path` relative to the root."""
    return list(_manifest())


def native_rows() -> list[dict[str, str]]:
    """Files whose native Pixel Data pydicom decodes, in whole bytes, chroma not subsampled."""
    return [
        row
        for row in rows()
        if row["transfer_syntax"] in NATIVE
        and row["pixel_element"] == "PixelData"
        and row["pixel_decodes"] == "y"
        and row["bits_allocated"] != "1"
        and row["photometric"] != "YBR_FULL_422"
    ]


def read(row: dict[str, str]) -> pydicom.Dataset:
    """The data set of one file of the manifest."""
    return pydicom.dcmread(CORPUS / row["path"], force=True)


def native_frames(dataset: pydicom.Dataset) -> Iterator[bytes]:
    """The native frames of a data set, without what follows the last one."""
    samples = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel
    length = samples * dataset.BitsAllocated // 8
    for index in range(int(dataset.get("NumberOfFrames") or 1)):
        yield dataset.PixelData[index * length : (index + 1) * length]


def frame_layout(dataset: pydicom.Dataset) -> FrameLayout:
    """The layout of a data set's native frames. Big endian where pydicom read it so."""
    return FrameLayout(
        rows=dataset.Rows,
        columns=dataset.Columns,
        samples=dataset.SamplesPerPixel,
        bits_allocated=dataset.BitsAllocated,
        planar_configuration=int(dataset.get("PlanarConfiguration") or 0),
        big_endian=not dataset.original_encoding[1],
    )
