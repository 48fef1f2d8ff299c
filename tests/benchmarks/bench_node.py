"""A whole node against Orthanc and DCMTK's storescp, in one run, in turns: ratios of medians.

    python tests/benchmarks/bench_node.py [RUNS]           five runs, under six minutes

The senders are DCMTK's `dcmsend`, one or eight at a time, with 128 KiB PDUs and TCP_NODELAY. In
each run each receiver, in an order drawn anew, begins with nothing stored and gets the same
instances. Files are emptied after it and removed at the end: ext4 looks long for an inode where
many were freed just before, and it is chance whom that meets.

    storescp             writes as received, syncs nothing (with --fork, for eight at a time)
    Orthanc              IngestTranscoding to RLE Lossless, its default fdatasync
    dcmpress             compresses, verifies, and with `fsync` syncs before it answers
    dcmpress, forward    the same, to a storescp that takes RLE; timed is the modality
    dcmpress, relay      answers when that storescp has answered
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

sys.path.insert(0, str(Path(__file__).parents[1]))
import corpus
import peers
import pydicom

RUNS = 5
SERIES = {
    "CT": "didymo+OnkoDICOM/_history/test/testdata/DICOM-RT-TEST",
    "MR": "TranslationalML+PACSMAN_data/pacsman_data/data/dicomseries",
}
#: Instances of one association, where it is alone and where there are eight.
COUNTS = {("CT", 1): 105, ("MR", 1): 300, ("CT", 8): 26, ("MR", 8): 150}
RLE = "1.2.840.10008.1.2.5"
ORTHANC_PLUGINS = Path("/usr/share/orthanc/plugins")
NODE_ENVIRONMENT = {
    **peers.ENVIRONMENT,
    "DCMPRESS__SPOOL__RESERVE_BYTES": "0",
    "DCMPRESS__SPOOL__RESERVE_PERCENT": "0",
}

#: Starts a receiver that stores below a folder, for as long as the context lasts; gives its port.
Receiver: TypeAlias = Callable[[Path], AbstractContextManager[int]]


# -- who receives --------------------------------------------------------------------------------


def storescp(*options: str) -> Receiver:
    return lambda folder: peers.storescp(folder / "scp", "--fork", *options)


def node(*arguments: str) -> Receiver:
    @contextlib.contextmanager
    def started(folder: Path) -> Iterator[int]:
        command = [
            sys.executable, "-m", "node", "serve", "--port", "0", "--status-port", "0",
            "--state", str(folder / "state"), *arguments,
        ]  # fmt: skip
        if not {"--to", "--relay"} & set(arguments):
            command += ["--store", str(folder / "store")]
        with running(command, NODE_ENVIRONMENT) as process:
            assert process.stdout is not None
            yield int(process.stdout.readline().rsplit(":", 1)[1])

    return started


def node_before_storescp(option: str) -> Receiver:
    @contextlib.contextmanager
    def started(folder: Path) -> Iterator[int]:
        with storescp("+xr")(folder) as port:
            to = f"{peers.DOWNSTREAM}@127.0.0.1:{port}"
            with node(option, to)(folder) as own:
                yield own

    return started


@contextlib.contextmanager
def orthanc(folder: Path) -> Iterator[int]:
    port = peers.free_port()
    settings = {
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "DicomPort": port,
        "HttpPort": peers.free_port(),
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "IngestTranscoding": RLE,
        "MaximumPduLength": 131072,
        "SaveJobs": False,
        "Plugins": [str(path) for path in sorted(ORTHANC_PLUGINS.glob("*Gdcm*.so"))],
    }
    config = folder / "orthanc.json"
    config.write_text(json.dumps(settings))
    with running(["Orthanc", str(config)], peers.ENVIRONMENT):
        peers.wait_until(lambda: peers.echoscu(port).returncode == 0, "Orthanc answers")
        yield port


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def receivers() -> dict[str, Receiver]:
    found = {
        "storescp": storescp(),
        "dcmpress, none": node("--durability", "none"),
        "dcmpress, fsync": node("--durability", "fsync"),
        "dcmpress, forward": node_before_storescp("--to"),
        "dcmpress, relay": node_before_storescp("--relay"),
    }
    if shutil.which("Orthanc"):
        found["Orthanc"] = orthanc
    else:
        print("Orthanc is not installed: it is left out")
    return found


# -- what is sent --------------------------------------------------------------------------------


def prepare(folder: Path) -> dict[tuple[str, int], list[Path]]:
    """Make files with UIDs of their own; return a folder for each association of each load."""
    root = corpus.corpus_root()
    assert root is not None
    loads = {}
    for (kind, associations), count in COUNTS.items():
        sources = [path for path in sorted((root / SERIES[kind]).rglob("*")) if path.is_file()]
        images = [ds for ds in map(_image, sources) if ds is not None]
        places = [folder / kind / f"{associations}-{at}" for at in range(associations)]
        for place in places:
            place.mkdir(parents=True)
            for number in range(count):
                ds = images[number % len(images)]
                ds.SOPInstanceUID = pydicom.uid.generate_uid()
                ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
                ds.save_as(place / f"{number}.dcm")
        loads[kind, associations] = places
    return loads


def _image(path: Path) -> pydicom.Dataset | None:
    with contextlib.suppress(pydicom.errors.InvalidDicomError):
        ds = pydicom.dcmread(path)
        if "PixelData" in ds and not ds.file_meta.TransferSyntaxUID.is_encapsulated:
            return ds
    return None


def seconds(port: int, places: list[Path]) -> float:
    """Send each folder over an association of its own, at once; return how long it took."""
    begin = time.perf_counter()
    sending = [
        subprocess.Popen(
            ["dcmsend", "--max-send-pdu", "131072", "-aec", peers.NODE, "127.0.0.1", str(port),
             "+sd", str(place)],
            env=peers.ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        for place in places
    ]  # fmt: skip
    for process in sending:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    return time.perf_counter() - begin


# -- the table -----------------------------------------------------------------------------------

Times: TypeAlias = dict[tuple[str, int], dict[str, list[float]]]


def measure(folder: Path, runs: int) -> Times:
    """Take all times. Everything is sent to a receiver that has just started."""
    loads, times = prepare(folder / "files"), defaultdict(lambda: defaultdict(list))
    for number in range(runs):
        started = list(receivers().items())
        for name, receiver in random.sample(started, len(started)):
            place = folder / f"{number}-{name}"
            place.mkdir()
            with receiver(place) as port:
                for load, places in loads.items():
                    times[load][name].append(seconds(port, places))
            for path in place.rglob("*"):
                if path.is_file():
                    os.truncate(path, 0)
    return times


#: What is to be reached: name, the one, how many times the other's time at most, and the other.
GOALS = (
    ("2.5 times Orthanc in one association", "dcmpress, fsync", 1 / 2.5, "Orthanc", 1),
    ("5 times Orthanc in eight", "dcmpress, fsync", 1 / 5, "Orthanc", 8),
    ("without durability as fast as storescp", "dcmpress, none", 1.0, "storescp", 1),
    ("without durability as fast as storescp", "dcmpress, none", 1.0, "storescp", 8),
    ("relay at most 30 % more than direct", "dcmpress, relay", 1.3, "storescp", 1),
    ("relay at most 30 % more than direct", "dcmpress, relay", 1.3, "storescp", 8),
)


def report(times: Times) -> None:
    for (kind, associations), of_each in times.items():
        medians = {name: statistics.median(taken) for name, taken in of_each.items()}
        print(f"\n{kind}, {associations} x {COUNTS[kind, associations]} instances")
        for name, median in sorted(medians.items(), key=lambda item: item[1]):
            ratios = f"{median / medians['storescp']:6.2f} x storescp"
            if "Orthanc" in medians:
                ratios += f"  {medians['Orthanc'] / median:6.2f} times as fast as Orthanc"
            print(f"  {name:20} {median:7.3f} s  {ratios}")
        for goal, one, most, other, of in GOALS:
            if of == associations and other in medians:
                reached = medians[one] / medians[other]
                print(
                    f"  {'reached' if reached <= most else 'NOT reached':12} {goal}: "
                    f"{reached:.2f} of its time, to be {most:.2f}"
                )


def main(arguments: list[str]) -> int:
    """Print the table."""
    if corpus.corpus_root() is None or not shutil.which("dcmsend"):
        print("needs the corpus and DCMTK")
        return 1
    os.sync()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        report(measure(Path(folder), int(arguments[0]) if arguments else RUNS))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
