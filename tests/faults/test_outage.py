"""An archive that is off for an hour of load, and one that comes and goes for an hour.

    pytest tests/faults/test_outage.py --long          an hour each; the counts are printed
    DCMPRESS_LONG_SECONDS=600 pytest …  --long         so many seconds each instead
    DCMPRESS_LONG_SECONDS=400 DCMPRESS_LONG_RATE=252 pytest …  --long -k was_off
                                                       an hour's load in 400 seconds

Whatever was acknowledged arrives, as it was sent; after the outage in the order of receipt.
Receiving is measured by the processor time that it takes the receiver, which other work on the
machine changes little: in normal times, with the archive off, and while the queue is drained.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import peers
import pytest
from delivery.scripted_scp import Part, ScriptedSCP
from faults.made import Instance, made
from faults.serving import RECEIVER, Downstream, Served, served
from peers import wait_until
from pydicom.uid import RLELossless

from node.network.store_scu import StoreSCU

#: Instances a second; an hour at this rate queues 100,000.
A_SECOND = int(os.environ.get("DCMPRESS_LONG_RATE", "28"))
SECONDS = float(os.environ.get("DCMPRESS_LONG_SECONDS", "3600"))
#: Of these one figure is made.
MEASURED = 500
#: The receiver's speed that is left at least, in the long form.
LEFT = 0.95
#: What was under way when the archive went may come after its neighbour.
_LATE = 2


class Sums(list[tuple[str, str, bytes]]):
    """What an archive took, with a sum in the place of each data set: there are many."""

    def append(self, taken: tuple[str, str, bytes]) -> None:
        uid, syntax, data = taken
        super().append((uid, syntax, hashlib.sha256(data).digest()))


def archive_at(port: int) -> ScriptedSCP:
    """One that takes no RLE: what it gets can be held against what was sent."""
    part = Part(takes=lambda _, transfer: transfer != RLELossless)
    return ScriptedSCP([part], port=port, taken=Sums())


@dataclass
class Speed:
    """Receiving under one condition: instances a second of the receiver's processor time, and
    of the clock.
    """

    by_processor: list[float] = field(default_factory=list)
    by_clock: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.of_processor:.0f} ({statistics.median(self.by_clock):.0f} by the clock)"

    @property
    def of_processor(self) -> float:
        return statistics.median(self.by_processor)


class Sender:
    """Sends instances, one after the other, and remembers what was acknowledged, in order."""

    def __init__(self, node: Served) -> None:
        self._node = node
        self._numbers = (number for number in itertools.count() if number % 16 != 15)
        looks = [made(number) for number in range(48) if number % 16 != 15]
        proposals = {(look.sop_class_uid, look.transfer_syntax_uid) for look in looks}
        self._proposals = sorted(proposals)
        self.acknowledged: list[tuple[str, bytes]] = []

    def send(self, count: int, seconds: float = 0.0) -> None:
        """Send so many, on one association, evenly over so many seconds."""
        begun = time.monotonic()
        with contextlib.closing(peers.connected(self._node.port, *self._proposals)) as scu:
            for sent in range(count):
                time.sleep(max(0.0, begun + sent * seconds / count - time.monotonic()))
                self._send(scu, made(next(self._numbers)))

    def measured(self, speed: Speed, count: int) -> None:
        """Send so many as fast as they are taken."""
        used, begun = self._processor_seconds(), time.monotonic()
        self.send(count)
        speed.by_clock.append(count / (time.monotonic() - begun))
        # Of few instances it may have used nothing that is counted.
        used = max(0.01, self._processor_seconds() - used)
        speed.by_processor.append(count / used)

    def _send(self, scu: StoreSCU, one: Instance) -> None:
        names = one.sop_class_uid, one.sop_instance_uid, one.transfer_syntax_uid
        assert scu.send(*names, [one.data_set]).status == 0
        self.acknowledged.append((one.sop_instance_uid, bytes.fromhex(one.sha256)))

    def _processor_seconds(self) -> float:
        ticks = 0
        for pid in self._node.processes(RECEIVER):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def sending_to(root: Path, port: int) -> Iterator[tuple[Served, Sender]]:
    """A node that forwards to this port alone, and who sends to it."""
    with served(root, archive=False, downstream=Downstream(port)) as node:
        yield node, Sender(node)


def arrived(*archives: ScriptedSCP) -> list[tuple[str, bytes]]:
    """UIDs and sums of what archives took, in order."""
    return [(uid, digest) for archive in archives for uid, _, digest in archive.taken]


def out_of_turn(here: list[tuple[str, bytes]]) -> int:
    """How many arrived after one that was sent later; UIDs are numbers of one length."""
    return sum(one < before for before, one in itertools.pairwise(uid for uid, _ in here))


@pytest.mark.timeout(300 + 4 * SECONDS)
def test_an_archive_that_was_off_gets_all_in_order_while_receiving_goes_on(
    tmp_path: Path, is_long: bool, counted: list[str]
) -> None:
    seconds, count, rounds = (SECONDS, MEASURED, 20) if is_long else (0.0, 20, 1)
    port = peers.free_port()
    normally, off, draining = Speed(), Speed(), Speed()
    with sending_to(tmp_path / "node", port) as (node, sender):
        with archive_at(port).listening() as before:
            sender.send(count)
            for _ in range(rounds):
                wait_until(lambda: node.is_drained, "nothing is queued", 30 + seconds)
                sender.measured(normally, count)
            wait_until(lambda: node.is_drained, "nothing is queued", 30 + seconds)
            # What it cuts off may come a little later than its turn: it goes when nothing is.
            wait_until(lambda: before.released == before.associations, "nothing is under way")
        begun, first = time.monotonic(), len(sender.acknowledged)
        for _ in range(rounds):
            pause = seconds / rounds
            sender.send(int(A_SECOND * pause), pause)
            sender.measured(off, count)
        lasted, queued = time.monotonic() - begun, len(sender.acknowledged) - first
        with archive_at(port).listening() as after:
            begun = time.monotonic()
            wait_until(lambda: after.taken, "it is found again", 30)
            for _ in range(rounds):
                sender.measured(draining, count)
            total = len(sender.acknowledged) - first
            was_draining = len(after.taken) < total
            wait_until(lambda: len(after.taken) >= total, "all is delivered", 60 + 2 * seconds)
            drained = time.monotonic() - begun
            for _ in range(rounds):
                wait_until(lambda: node.is_drained, "nothing is queued", 30 + seconds)
                sender.measured(normally, count)
            wait_until(lambda: node.is_drained, "nothing is queued", 30 + seconds)
        assert node.set_aside() == []
    here = arrived(before, after)
    assert sorted(here) == sorted(sender.acknowledged)
    late = out_of_turn(here)
    assert late <= _LATE
    kept = [speed.of_processor / normally.of_processor for speed in (off, draining)]
    counted.append(
        f"archive off for {lasted:.0f} s: {queued} instances queued, then drained in order in "
        f"{drained:.0f} s, {late} out of turn; of {len(sender.acknowledged)} acknowledged "
        f"{len(here)} arrived, equal; received a second of processor time: "
        f"normally {normally}, off {off}"
        f" ({kept[0]:.2f}), draining {draining} ({kept[1]:.2f})"
    )
    if is_long:
        assert was_draining
        assert min(kept) >= LEFT


@pytest.mark.timeout(300 + 4 * SECONDS)
def test_an_archive_that_comes_and_goes_gets_all_without_a_storm(
    tmp_path: Path, is_long: bool, counted: list[str]
) -> None:
    seconds, longest = (SECONDS, 10.0) if is_long else (3.0, 0.3)
    port, stop, chance = peers.free_port(), threading.Event(), random.Random(60)
    archives: list[ScriptedSCP] = []

    def flap() -> None:
        while not stop.is_set():
            with archive_at(port).listening() as archive:
                archives.append(archive)
                stop.wait(chance.uniform(longest / 10, longest))
            if not stop.is_set():
                stop.wait(chance.uniform(longest / 10, longest))

    flapping = threading.Thread(target=flap, daemon=True)
    flapping.start()
    try:
        with sending_to(tmp_path / "node", port) as (node, sender):
            sender.send(int(A_SECOND * seconds), seconds)
            wait_until(lambda: node.is_drained, "all is delivered", 60 + seconds)
            assert node.set_aside() == []
    finally:
        stop.set()
        flapping.join(10)
    here = arrived(*archives)
    assert set(here) == set(sender.acknowledged)
    associations = sum(archive.associations for archive in archives)
    # One association for each time it is there, or a second where the first was cut off.
    assert associations <= 4 * len(archives) + 4
    counted.append(
        f"flapping archive: {len(sender.acknowledged)} instances in {seconds:.0f} s, up "
        f"{len(archives)} times, {associations} associations, all arrived, equal; "
        f"{len(here) - len(sender.acknowledged)} sent twice"
    )
