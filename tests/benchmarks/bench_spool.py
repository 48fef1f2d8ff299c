"""The spool with few entries and with a million: one line a size, ratios to the smallest.

    .venv/bin/python tests/benchmarks/bench_spool.py [--sizes 1000,100000,1000000] [--folder DIR]

Processor time per entry, in microseconds, user and system together, so that other work on the
machine does not count; with durability `fsync` the time that waits for the disk is given beside.

    enqueue   arrive, write 1 kB, commit, fan out 64 at a time, in a queue that holds so many
    dequeue   read the queue on, open, read, remove, until it is empty; no destination is asked
    list      all names in order; the memory that takes
    start     from opening the spool to the first entry of its queue, in seconds
    listening from `dcmpress serve` to its line, in seconds of the clock

The queue is filled with links to a few files, which spares the disk and is the same to a folder.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

from node.spool import Disk, Durability, Spool, State

QUEUE = "pacs"
MEASURED = 4_000
FAN_OUT = 64
LINKS_EACH = 1_000
CONTENT = bytes(1024)


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


def enqueue(root: Path, durability: Durability) -> tuple[float, float]:
    """Return processor and clock seconds of one entry."""
    spool = Spool(root / "spool", Disk(durability))
    spool.recover()
    cpu, clock = time.process_time(), time.perf_counter()
    for _ in range(MEASURED // FAN_OUT):
        for _ in range(FAN_OUT):
            with spool.arrive() as incoming:
                incoming.file.write(CONTENT)
                incoming.commit()
        spool.fan_out(list(spool.received()), [QUEUE])
    done = MEASURED // FAN_OUT * FAN_OUT
    spool.close()
    return (time.process_time() - cpu) / done, (time.perf_counter() - clock) / done


def dequeue(root: Path, count: int) -> float:
    """Return processor seconds of one entry, until the queue is empty."""
    spool = Spool(root / "spool", Disk(Durability.NONE))
    began = time.process_time()
    done = 0
    for entry in spool.queued(QUEUE):
        with open(entry.path, "rb", buffering=0) as file:
            file.read()
        spool.delivered(entry)
        done += 1
    assert done >= count
    return (time.process_time() - began) / done


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
    assert line.startswith(b"listening")
    return seconds


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--sizes", default="1000,100000,1000000")
    options.add_argument("--folder", type=Path, default=None, help="on the disk to be measured")
    given = options.parse_args()
    first: dict[str, float] = {}
    print(
        f"{'entries':>9} {'enqueue':>14} {'dequeue':>14} {'list':>13} {'memory':>7} "
        f"{'start':>7} {'listening':>9} {'enqueue, fsync':>22}"
    )
    for size in map(int, given.sizes.split(",")):
        root = Path(tempfile.mkdtemp(prefix="bench-spool-", dir=given.folder))
        try:
            filled(root, size)
            seconds = start(root)
            until = listening(root)
            each, memory = list_all(root, size)
            cpu, _ = min(enqueue(root, Durability.NONE) for _ in range(3))
            safe, clock = enqueue(root, Durability.FSYNC)
            figures = {"enqueue": cpu, "list": each, "dequeue": taken(root, size), "safe": safe}
            first = first or figures
            show = {n: f"{1e6 * s:.1f} us {s / first[n]:.2f}" for n, s in figures.items()}
            print(
                f"{size:>9,} {show['enqueue']:>14} {show['dequeue']:>14} {show['list']:>13} "
                f"{memory:>4.0f} MB {seconds:>5.2f} s {until:>7.2f} s "
                f"{show['safe']:>13}, {1e3 * clock:.2f} ms",
                flush=True,
            )
        finally:
            shutil.rmtree(root)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"most memory of this process: {most} MB")


def taken(root: Path, size: int) -> float:
    """Return `dequeue`, the best of several where the queue is small."""
    rounds = []
    while not rounds or (size < 10_000 and len(rounds) < 10):
        if rounds:
            shutil.rmtree(root / "spool")
            filled(root, size)
        rounds.append(dequeue(root, size))
    return min(rounds)


if __name__ == "__main__":
    main()
