"""A node that is started on a long queue listens as soon as on an empty one.

    pytest tests/faults/test_start.py --long          100,000 entries queued

Measured in processor time, from the command to its line, of all its processes: what else the
machine does changes that little. The seconds of the clock are printed.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from pathlib import Path

import peers
from faults.serving import DELIVERER, RECEIVER, SUPERVISOR, Served, settings

from node.dicom.part10 import FileMeta, Record, encode
from node.dicom.uids import EXPLICIT_VR_LE
from node.spool import Disk, Durability, Spool, State

#: What is promised; the processes start one beside the other where there are cores for it.
MOST = 5.0
#: What a queue may add, to be told from noise: it is not read before the node listens.
MORE = 1.5
_LINKS_EACH = 1_000


def content() -> bytes:
    """A small instance as the spool keeps it."""
    data_set = struct.pack("<HH2sH", 8, 5, b"CS", 100) + bytes(100)
    digest = hashlib.sha256(data_set).hexdigest()
    meta = FileMeta("1.2", "1.3", EXPLICIT_VR_LE, record=Record(sha256=digest, as_received=None))
    return encode(meta) + data_set


def fill(spool: Spool, count: int) -> None:
    """Queue so many entries, and let them rest."""
    spool.add_destination("disk")
    spool.pause("disk")
    queue, began = spool.root / State.QUEUED / "disk", time.time_ns() - count
    for number in range(count):
        name = queue / f"{began + number:020d}-0000001-{number:09d}.dcm"
        if number % _LINKS_EACH == 0:
            source = name
            name.write_bytes(content())
        else:
            os.link(source, name)


def start(root: Path, count: int) -> tuple[float, float]:
    """Start a node on such a queue; processor and clock seconds until it listens."""
    root.mkdir()
    fill(Spool(root / "state" / "spool", Disk(Durability.NONE)), count)
    port = peers.free_port()
    node = Served(root, settings(root, port=port), port)
    began = time.monotonic()
    node.start()
    seconds = time.monotonic() - began
    try:
        pids = [pid for role in (SUPERVISOR, RECEIVER, DELIVERER) for pid in node.processes(role)]
        return sum(map(_processor_seconds, pids)), seconds
    finally:
        node.crash()


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_long_queue_does_not_keep_it_from_listening(
    tmp_path: Path, is_long: bool, counted: list[str]
) -> None:
    count = 100_000 if is_long else 10_000
    start(tmp_path / "first", 0)
    empty, empty_clock = start(tmp_path / "empty", 0)
    used, clock = start(tmp_path / "full", count)
    counted.append(
        f"started with {count} entries queued: {used:.2f} s of processor time until it listens, "
        f"{empty:.2f} s with none; {clock:.1f} s and {empty_clock:.1f} s by the clock"
    )
    assert used < empty * MORE
    if is_long:
        assert used < MOST
