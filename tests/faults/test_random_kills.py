"""SIGKILL at random: receivers, the deliverer and the supervisor, under eight senders.

    pytest tests/faults/test_random_kills.py --long        1,000 kills; the counts are printed

Whatever was acknowledged is there when all is over, whole and equal, on disk and downstream; and
nothing else is to be seen. Every cycle starts the node on what the one before left, so recovery is
killed too.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from faults.ledger import Ledger, Verdict, at_downstream, in_archive
from faults.modality import Sending
from faults.serving import DELIVERER, RECEIVER, SUPERVISOR, Downstream, Served, kill, served
from peers import wait_until

#: A child is killed at the latest so many seconds after the one before.
_LATEST = 0.25
#: Children that are killed before the supervisor is. More would wait longer for each restart.
_CHILDREN = 5
_SENDERS = 8
#: What was queued at the last kill is delivered by then, on a busy machine too.
_DRAIN_SECONDS = 1800


class Kills:
    """Kills what it is told to, and counts."""

    def __init__(self, node: Served, seed: int) -> None:
        self._node = node
        self._random = random.Random(seed)
        self.counted: Counter[str] = Counter()

    @property
    def count(self) -> int:
        return self.counted.total()

    def cycle(self) -> None:
        """Kill children one by one, then the supervisor and what is left; start again."""
        for _ in range(_CHILDREN):
            time.sleep(self._random.uniform(0, _LATEST))
            self._one(self._random.choice((RECEIVER, RECEIVER, DELIVERER)))
        time.sleep(self._random.uniform(0, _LATEST))
        if self._random.random() < 0.2:
            self._supervisor_alone()
        else:
            self.counted["all at once"] += self._node.crash()
        self._node.start()

    def _one(self, role: str) -> None:
        if found := self._node.processes(role):
            self.counted[role] += kill(self._random.choice(found))

    def _supervisor_alone(self) -> None:
        """Its children finish what is under way, and end; the next node waits for the spool."""
        orphans = [*self._node.processes(RECEIVER), *self._node.processes(DELIVERER)]
        self.counted[SUPERVISOR] += kill(self._node.pid)
        self._node.wait_for_orphans(orphans)


def _kill(node: Served, ledger: Ledger, count: int) -> Kills:
    """Kill under load, so many times at least; the node is up afterwards."""
    killing = Kills(node, seed=5)
    sending = Sending(node.port, ledger, associations=_SENDERS, first=0, count=10_000_000)
    try:
        while killing.count < count:
            killing.cycle()
        sending.stop()
    finally:
        sending.kill()
    return killing


def _report(mode: str, killing: Kills, seconds: float, verdicts: Iterable[Verdict]) -> str:
    of_each = ", ".join(f"{n} {what}" for what, n in sorted(killing.counted.items()))
    said = "; ".join(map(str, verdicts))
    return f"{killing.count} random kills in {seconds:.0f} s, {mode} ({of_each}): {said}"


@pytest.mark.peer
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("mode", ["forward", "relay"])
def test_nothing_is_lost(
    mode: str,
    tmp_path: Path,
    downstream: tuple[Downstream, Path],
    is_long: bool,
    counted: list[str],
) -> None:
    """To a folder and a downstream at once, or by relay."""
    archive, received = downstream
    archive = replace(archive, mode=mode)
    kills = {"forward": 750, "relay": 300}[mode] if is_long else 11
    ledger, begin = Ledger(tmp_path / "ledger"), time.monotonic()
    with served(
        tmp_path / "node", receivers=2, archive=mode == "forward", downstream=archive
    ) as node:
        killing = _kill(node, ledger, kills)
        told, seconds = ledger.read(), time.monotonic() - begin
        wait_until(lambda: node.is_drained, "everything is delivered", _DRAIN_SECONDS)
        verdicts = [at_downstream(received, told)]
        if mode == "forward":
            verdicts.append(in_archive(node.archive, told))
        assert node.set_aside() == []
    counted.append(_report(mode, killing, seconds, verdicts))
    assert killing.count >= kills
    assert told.acknowledged, "the node took nothing at all"
    assert all(verdict.is_well for verdict in verdicts), [verdict.seen for verdict in verdicts]
