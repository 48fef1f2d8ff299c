"""A node that is started: on a long queue as soon as on an empty one, and killed while it starts.

    pytest tests/faults/test_start.py --long          100,000 entries queued; killed at every call

A start is measured in processor time, from the command to its line, of all its processes: what
else the machine does changes that little. The seconds of the clock are printed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import peers
import pytest
from faults.ledger import visible
from faults.serving import DELIVERER, RECEIVER, SUPERVISOR, Served, kill, settings
from faults.strace import CHANGES, Traced, need_strace
from peers import wait_until

from node.dicom.part10 import FileMeta, Record, encode
from node.dicom.uids import EXPLICIT_VR_LE
from node.spool import Disk, Durability, Spool, State

#: What is promised; the processes start one beside the other where there are cores for it.
MOST = 5.0
#: What a queue may add, to be told from noise: it is not read before the node listens.
MORE = 1.5
#: A machine that is busy with something else changes processor time too, now and then.
_TRIES = 4
_LINKS_EACH = 1_000


def content(uid: str = "1.3") -> bytes:
    """A small instance as the spool keeps it."""
    data_set = struct.pack("<HH2sH", 8, 5, b"CS", 100) + bytes(100)
    digest = hashlib.sha256(data_set).hexdigest()
    meta = FileMeta("1.2", uid, EXPLICIT_VR_LE, record=Record(sha256=digest, as_received=None))
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
    for attempt in range(_TRIES):
        empty, empty_clock = start(tmp_path / f"empty-{attempt}", 0)
        used, clock = start(tmp_path / f"full-{attempt}", count)
        if used < empty * MORE:
            break
    counted.append(
        f"started with {count} entries queued: {used:.2f} s of processor time until it listens, "
        f"{empty:.2f} s with none; {clock:.1f} s and {empty_clock:.1f} s by the clock"
    )
    assert used < empty * MORE
    if is_long:
        assert used < MOST


#: The short form takes one call of so many.
_STEP = 8


def seed(spool: Spool) -> dict[str, bytes]:
    """Leave what a crash may leave; return by file name what is owed to the archive."""
    spool.add_destination("disk")
    owed = {f"1.3.{number}.dcm": content(f"1.3.{number}") for number in range(1, 8)}
    for number, whole in enumerate(owed.values(), 1):
        if number < 7:
            with spool.arrive() as incoming:
                incoming.file.write(whole)
                incoming.commit()
        else:
            (spool.root / State.ARRIVING / "0000001-of-the-one-before").write_bytes(whole)
        if number == 3:
            spool.fan_out(list(spool.received()), ["disk"])
    for folder in (State.ARRIVING, State.INCOMING):
        (spool.root / folder / "0000001-half").write_bytes(content("1.4")[:-1])
    spool.close()
    return owed


def run_under_strace(config: Path, log: Path, expression: str) -> Traced:
    """Start a supervisor, which is traced alone, until it listens or is killed; then end it."""
    log.unlink(missing_ok=True)
    command = [shutil.which("strace") or "strace", "-o", str(log), "-e", expression]
    command += [sys.executable, "-m", "node", "serve", str(config)]
    with (
        (config.parent / "log").open("ab") as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said) as strace,
    ):
        assert strace.stdout is not None
        # Where it was killed this ends when its children have ended too.
        strace.stdout.readline()
        for child in Path(f"/proc/{strace.pid}/task/{strace.pid}/children").read_text().split():
            kill(int(child))
        strace.wait(60)
    return Traced(log)


@pytest.mark.peer
@pytest.mark.timeout(3600)
def test_killed_at_every_call_of_its_start(
    tmp_path: Path, is_long: bool, counted: list[str]
) -> None:
    """One start after the other, none of which gets to its end: recovery can be repeated (F16)."""
    need_strace()
    root, log, port = tmp_path / "node", tmp_path / "strace", peers.free_port()
    root.mkdir()
    config = settings(root, port=port)
    owed = seed(Spool(root / "state" / "spool", Disk()))
    calls = ",".join(CHANGES)
    traced = run_under_strace(config, log, f"trace={calls}")
    found = Counter(line.partition("(")[0] for line in traced.lines() if "(" in line)
    points = [
        (call, number) for call, most in sorted(found.items()) for number in range(1, most + 1)
    ]
    killed = 0
    for call, number in points[:: 1 if is_long else _STEP]:
        inject = f"inject={call}:signal=KILL:when={number}"
        killed += run_under_strace(config, log, inject).was_killed
    node = Served(root, config, port)
    node.start(120)
    try:
        wait_until(
            lambda: {path.name for path in visible(node.archive)} == owed.keys(), "all there"
        )
        wait_until(lambda: node.is_drained, "all is delivered")
        assert {path.name: path.read_bytes() for path in visible(node.archive)} == owed
        assert node.set_aside() == []
        assert not list((root / "state" / "spool" / State.INCOMING).iterdir())
    finally:
        node.crash()
    counted.append(
        f"killed at {killed} calls of its start in turn: {len(owed)} instances all there"
    )
    assert killed
