"""The spool with few entries and with a million: one line a size, ratios to the smallest.

    .venv/bin/python tests/benchmarks/bench_spool.py [--sizes 1000,100000,1000000] [--folder DIR]

Processor time per entry, in microseconds, user and system together, so that other work on the
machine does not count; with durability `fsync` the time that waits for the disk is given beside.

    enqueue   arrive, write 1 kB, commit, fan out 64 at a time, in a queue that holds so many
    dequeue   a quarter of the queue through the delivery loop, to a destination that takes at once
    remove    the next quarter listed, opened, read and removed: what the file system alone costs
    list      all names in order; the memory that takes
    start     from opening the spool to the first entry of its queue, in seconds
    listening from `dcmpress serve` to its line, in seconds of the clock

The queue is filled with links to a few files, which spares the disk and is the same to a folder.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

from node.delivery.loop import Loop
from node.delivery.schedule import Backoff
from node.dicom.part10 import FileMeta, Record, encode
from node.dicom.uids import EXPLICIT_VR_LE
from node.model import Delivered, Outcome
from node.pixels.stored import StoredInstance
from node.spool import Disk, Durability, Entry, Spool, State

QUEUE = "pacs"
FAN_OUT = 64
LINKS_EACH = 1_000
COLUMNS = {
    "enqueue": "us",
    "with fsync": "us",
    "waiting": "ms",
    "dequeue": "us",
    "remove": "us",
    "list": "us",
    "memory": "MB",
    "start": "s",
    "listening": "s",
}


def content() -> bytes:
    """Return a small instance as the spool keeps it."""
    data_set = struct.pack("<HH2sH", 8, 5, b"CS", 1000) + bytes(1000)
    digest = hashlib.sha256(data_set).hexdigest()
    meta = FileMeta(
        sop_class_uid="1.2",
        sop_instance_uid="1.3",
        transfer_syntax_uid=EXPLICIT_VR_LE,
        record=Record(sha256=digest, as_received=None),
    )
    return encode(meta) + data_set


CONTENT = content()


def filled(root: Path, count: int) -> Spool:
    """Return a spool whose queue holds so many entries."""
    spool = Spool(root / "spool", Disk(Durability.NONE))
    spool.add_destination(QUEUE)
    queue = spool.root / State.QUEUED / QUEUE
    began = time.time_ns() - count
    for number in range(count):
        name = queue / f"{began + number:020d}-0000001-{number:09d}.dcm"
        if number % LINKS_EACH == 0:
            source = name
            name.write_bytes(CONTENT)
        else:
            os.link(source, name)
    # What was done here is not to be waited for by whoever syncs first.
    os.sync()
    return spool


def enqueue(root: Path, durability: Durability, most: int = 4_000) -> tuple[float, float]:
    """Return processor and clock seconds of one entry."""
    spool = Spool(root / "spool", Disk(durability))
    spool.recover()
    cpu, clock = time.process_time(), time.perf_counter()
    for _ in range(most // FAN_OUT):
        for _ in range(FAN_OUT):
            with spool.arrive() as incoming:
                incoming.file.write(CONTENT)
                incoming.commit()
        spool.fan_out(list(spool.received()), [QUEUE])
    done = most // FAN_OUT * FAN_OUT
    spool.close()
    return (time.process_time() - cpu) / done, (time.perf_counter() - clock) / done


class Taker:
    """A destination that takes everything at once."""

    name = QUEUE
    at_once = 1

    def begin(self, entries: Iterable[Entry]) -> None:
        """Nothing has to be known before."""

    def deliver(self, entry: Entry, instance: StoredInstance) -> Outcome:
        """Take it."""
        return Delivered(destination=QUEUE, status=0)

    def settle(self) -> None:
        """It is safe."""

    def close(self) -> None:
        """Nothing is held."""


def dequeue(root: Path, most: int) -> float:
    """Return processor seconds of one entry, from the queue through the delivery loop."""
    spool = Spool(root / "spool", Disk(Durability.NONE))
    loop = Loop([Taker()], spool, Backoff(1, 1), threading.Event())
    worker = threading.Thread(target=loop.run, daemon=True)
    began = time.process_time()
    worker.start()
    while (done := loop.progress.delivered) < most:
        assert not loop.progress.last_error, loop.progress.last_error
        time.sleep(0.01)
    seconds = time.process_time() - began
    loop.stop.set()
    loop.ring()
    worker.join()
    return seconds / done


def remove(root: Path, most: int) -> float:
    """Return processor seconds of one entry that is only listed, opened, read and removed."""
    spool = Spool(root / "spool", Disk(Durability.NONE))
    began = time.process_time()
    for entry in itertools.islice(spool.queued(QUEUE), most):
        with open(entry.path, "rb", buffering=0) as file:
            file.read()
        spool.delivered(entry)
    return (time.process_time() - began) / most


def list_all(root: Path, count: int) -> tuple[float, float]:
    """Return processor seconds of one entry, and the most megabytes that were held."""
    spool = Spool(root / "spool", Disk(Durability.NONE))
    began = time.process_time()
    found = sum(1 for _ in spool.queued(QUEUE))
    seconds = time.process_time() - began
    assert found >= count
    tracemalloc.start()
    for _ in spool.queued(QUEUE):
        pass
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return seconds / found, most / 1e6


def start(root: Path) -> float:
    """Return the seconds from nothing to the first entry of the queue."""
    began = time.perf_counter()
    spool = Spool(root / "spool", Disk(Durability.FSYNC))
    descriptor = spool.lock()
    spool.recover()
    next(iter(spool.queued(QUEUE)))
    os.close(descriptor)
    return time.perf_counter() - began


def listening(root: Path) -> float:
    """Return the seconds from the command to its line; its one destination is paused."""
    Spool(root / "spool", Disk(Durability.NONE)).pause(QUEUE)
    config = root / "node.toml"
    config.write_text(
        f'[node]\nport = 0\nstate_directory = "{root}"\n[status]\nport = 0\n'
        "[spool]\nreserve_bytes = 0\nreserve_percent = 0\n"
        f'[[destination]]\nname = "{QUEUE}"\ndirectory = "{root / "archive"}"\n'
    )
    command = [sys.executable, "-m", "node", "serve", str(config)]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - began
        process.terminate()
    Spool(root / "spool", Disk(Durability.NONE)).resume(QUEUE)
    assert line.startswith(b"listening")
    return seconds


def measured(root: Path, size: int) -> dict[str, float]:
    """Return the figures of one size, by the names and in the units of `COLUMNS`."""
    filled(root, size)
    seconds = start(root)
    until = listening(root)
    each, memory = list_all(root, size)
    cpu = min(enqueue(root, Durability.NONE)[0] for _ in range(3))
    safe, clock = enqueue(root, Durability.FSYNC, 512)
    # The first entries only warm up.
    remove(root, size // 10)
    return {
        "enqueue": 1e6 * cpu,
        "with fsync": 1e6 * safe,
        "waiting": 1e3 * clock,
        "dequeue": 1e6 * dequeue(root, size // 4),
        "remove": 1e6 * remove(root, size // 4),
        "list": 1e6 * each,
        "memory": memory,
        "start": seconds,
        "listening": until,
    }


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--sizes", default="1000,100000,1000000")
    options.add_argument("--folder", type=Path, default=None, help="on the disk to be measured")
    given = options.parse_args()
    first: dict[str, float] = {}
    print("  entries" + "".join(f"{name:>17}" for name in COLUMNS), flush=True)
    for size in map(int, given.sizes.split(",")):
        root = Path(tempfile.mkdtemp(prefix="bench-spool-", dir=given.folder))
        try:
            figures = measured(root, size)
        finally:
            shutil.rmtree(root)
        first = first or figures
        cells = [
            f"{figure:.{2 if figure < 10 else 0}f} {COLUMNS[name]} ({figure / first[name]:.2f})"
            for name, figure in figures.items()
        ]
        print(f"{size:>9,}" + "".join(f"{cell:>17}" for cell in cells), flush=True)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"most memory of this process: {most} MB")


if __name__ == "__main__":
    main()
