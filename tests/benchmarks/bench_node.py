"""A whole node against DCMTK's storescp, in one run, in turns: seconds and ratios, medians of five.

    python tests/benchmarks/bench_node.py

The sender is `dcmsend` with 128 KiB PDUs and TCP_NODELAY, one association; the series are those of
the corpus. storescp writes as received and syncs nothing; the node compresses, verifies and, with
`fsync`, syncs before it answers.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import corpus

SERIES = {
    "CT 512 x 512, implicit": "didymo+OnkoDICOM/_history/test/testdata/DICOM-RT-TEST",
    "MR, small": "TranslationalML+PACSMAN_data/pacsman_data/data/dicomseries",
}
ENVIRONMENT = {
    **os.environ,
    "TCP_NODELAY": "1",
    "DCMPRESS__SPOOL__RESERVE_BYTES": "0",
    "DCMPRESS__SPOOL__RESERVE_PERCENT": "0",
}
RUNS = 5


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def stopped_at_the_end(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def node(stack: ExitStack, folder: Path, durability: str) -> int:
    """Start a node and return its port."""
    command = [
        sys.executable, "-m", "node", "serve", "--port", "0", "--status-port", "0",
        "--state", str(folder / "state"), "--store", str(folder / "out"),
        "--durability", durability,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=ENVIRONMENT
    )
    stack.enter_context(stopped_at_the_end(process))
    assert process.stdout is not None
    return int(process.stdout.readline().rsplit(":", 1)[1])


def storescp(stack: ExitStack, folder: Path) -> int:
    """Start DCMTK's storescp and return its port."""
    folder.mkdir()
    port = free_port()
    process = subprocess.Popen(
        ["storescp", "-od", str(folder), str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    stack.enter_context(stopped_at_the_end(process))
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return port
        time.sleep(0.05)


def seconds(port: int, series: Path) -> float:
    """Send a series and return how long it took."""
    command = [
        "dcmsend", "--max-send-pdu", "131072", "-aec", "DCMPRESS", "127.0.0.1", str(port),
        "+sd", str(series),
    ]  # fmt: skip
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    return time.perf_counter() - start


def main() -> int:
    """Print the table."""
    root = corpus.corpus_root()
    if root is None or not shutil.which("dcmsend"):
        print("needs the corpus and DCMTK")
        return 1
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".")))
        ports = {
            "storescp, no sync": storescp(stack, folder / "scp"),
            "dcmpress, none": node(stack, folder / "none", "none"),
            "dcmpress, fsync": node(stack, folder / "fsync", "fsync"),
        }
        for name, series in SERIES.items():
            count = sum(1 for path in (root / series).rglob("*") if path.is_file())
            times: dict[str, list[float]] = {receiver: [] for receiver in ports}
            for _ in range(RUNS):
                for receiver, port in ports.items():
                    times[receiver].append(seconds(port, root / series))
            base = statistics.median(times["storescp, no sync"])
            for receiver, taken in times.items():
                median = statistics.median(taken)
                print(
                    f"{name:24} {count:4} files  {receiver:20} {median:6.2f} s  "
                    f"{median / base:5.2f} x storescp"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
