"""One CT instance, from file to file: next to the tutorial's three lines, and what proof costs.

    python tests/benchmarks/bench_transcode.py

The tutorial's lines are `dcmread`, `Dataset.compress(RLELossless, encoding_plugin="pylibjpeg")` and
`save_as`; ours are what the node does with a received instance: scan, convert, encode, verify, put
together, digest, write. Files are in memory, so that no disk is measured. Figures are processor
milliseconds for one instance, the least of several rounds taken in turns; read the ratios.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import corpus

from node.dicom import convert, part10
from node.dicom.scan import scan
from node.pixels import rle
from node.pixels.files import write_file
from node.pixels.policy import Options

ROUNDS = 7
INSTANCES = 20


def files() -> list[bytes]:
    """CT slices of 512 x 512 from the corpus, Implicit VR."""
    root = corpus.corpus_root()
    rows = (
        row
        for row in corpus.native_rows()
        if row["modality"] == "CT" and row["rows"] == "512" and "Implicit" in row["transfer_syntax"]
    )
    return [
        (root / row["path"]).read_bytes() for row, _ in zip(rows, range(INSTANCES), strict=False)
    ]


def explicit(file: bytes) -> bytes:
    """The same file in Explicit VR."""
    meta, offset = part10.decode(file)
    header = part10.encode(meta._replace(transfer_syntax_uid=ExplicitVRLittleEndian))
    data = file[offset:]
    return header + b"".join(convert.to_explicit_le(data, meta.transfer_syntax_uid))


def ours(options: Options) -> Callable[[bytes], None]:
    """Scan, encode, verify and splice with these options."""

    def transcode(file: bytes) -> None:
        meta, offset = part10.decode(file)
        data_set = scan(memoryview(file)[offset:], meta.transfer_syntax_uid)
        written = write_file(data_set, meta, io.BytesIO(), options)
        assert written.reason is None

    return transcode


def tutorial(file: bytes) -> None:
    """The three lines."""
    ds = pydicom.dcmread(io.BytesIO(file))
    ds.compress(RLELossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    ds.save_as(io.BytesIO())


CONTENDERS: dict[str, Callable[[bytes], None]] = {
    "verify = true": ours(Options()),
    'verify = "independent"': ours(Options(verify="independent")),
    "verify = false": ours(Options(verify=False)),
    "the tutorial": tutorial,
}


def race(some: list[bytes]) -> dict[str, float]:
    """Processor milliseconds for one instance, by contender."""
    best = dict.fromkeys(CONTENDERS, float("inf"))
    for _ in range(ROUNDS):
        for name, transcode in CONTENDERS.items():
            began = time.process_time()
            for file in some:
                transcode(file)
            spent = (time.process_time() - began) / len(some) * 1000
            best[name] = min(best[name], spent)
    return best


def main() -> None:
    """Run it."""
    if corpus.corpus_root() is None:
        sys.exit(corpus.ABSENT)
    implicit = files()
    print(f"kernel: {rle.KERNEL}, {len(implicit)} CT instances")
    for uid, some in (
        (ImplicitVRLittleEndian, implicit),
        (ExplicitVRLittleEndian, [explicit(file) for file in implicit]),
    ):
        spent = race(some)
        print(f"\n{uid.name}")
        for name, milliseconds in spent.items():
            ratio = spent["the tutorial"] / milliseconds
            print(f"  {name:24}{milliseconds:8.2f} ms{ratio:8.1f} x as fast as the tutorial")


if __name__ == "__main__":
    main()
