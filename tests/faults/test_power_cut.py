"""A node is started on every state that a power cut may leave, from its first call on.

    pytest tests/faults/test_power_cut.py --long        all states, not a part of them

The system calls of a real node are recorded while it is started and sent two instances; the model
in `power_cut` makes the states. On each of them a node is started; then whatever had been
acknowledged before the cut is delivered, whole and equal, nothing that is half written is to be
seen, and the modality can send both again, which are stored once.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import peers
import pytest
from conftest import disk, settings_of
from faults.ledger import Ledger, in_archive, visible
from faults.made import STUDY, Instance, made
from faults.modality import Modality
from faults.power_cut import NEVER, Call, Disk, State, digest, put, recorded, states
from faults.serving import Downstream, settings
from faults.strace import CHANGES, OPENS, TELLS, need_strace
from peers import wait_until

from node.service.node import Node

#: States that the short form takes of each recording.
_SHORT = 60
_SENT = (made(0), made(1))
#: What begins a PDU (PS3.8 9.3): who sends an A-ASSOCIATE-AC is acceptor, and answers by P-DATA-TF.
_REQUEST, _ACCEPT, _DATA = b"\x01", b"\x02", b"\x04"


@dataclass(frozen=True)
class Recording:
    """What a node did; when it accepted the first association, and when which instances had been
    acknowledged and taken downstream.
    """

    calls: Sequence[Call]
    accepted: int
    roots: dict[Path, str]
    acknowledged: Sequence[int]
    taken: Sequence[int]

    def disk(self) -> Disk:
        made_disk = Disk(self.roots)
        for call in self.calls:
            made_disk.take(call)
        return made_disk

    def points(self) -> list[int]:
        """The moments that differ: after each call that counts."""
        return [call.ended for call in self.calls]

    def owed(self, now: int) -> list[Instance]:
        """What the node has acknowledged and is not rid of."""
        done = sum(at <= now for at in self.taken)
        return list(_SENT[done : sum(at <= now for at in self.acknowledged)])


@contextlib.contextmanager
def folder_in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system, and a fast one, where there is such."""
    shared = Path("/dev/shm")
    usable = shared.is_dir() and os.access(shared, os.W_OK)
    with tempfile.TemporaryDirectory(dir=shared if usable else tmp_path) as folder:
        yield Path(folder)


def record(root: Path, archive: Path, to: Downstream | None) -> Recording:
    """Run a node under strace, send it the instances one after the other, and kill it."""
    root.mkdir()
    port, log = peers.free_port(), root / "strace"
    config = settings(root, port=port, archive=to is None, downstream=to)
    config.write_text(config.read_text().replace(f"{root}/archive", str(archive)))
    roots = {root / "state" / "spool": "state/spool", archive: "archive"}
    kinds = ",".join([*CHANGES, *TELLS, *OPENS, "lseek", "recvfrom"])
    command = [peers.need("strace"), "-f", "-y", "-xx", "-s", "1000000", "-o", str(log)]
    command += ["-e", f"trace={kinds}", sys.executable, "-m", "node", "serve", str(config)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=(root / "log").open("wb"), start_new_session=True
    ) as strace:
        assert strace.stdout is not None
        try:
            assert strace.stdout.readline().startswith(b"listening"), (root / "log").read_text()
            _send_both(root, port)
            # A call is seen on the disk before strace is told that it has ended.
            wait_until(
                lambda: said(_read(log, roots)).keys() == there(roots).keys(),
                "the recording tells of everything that is there",
            )
        finally:
            os.killpg(strace.pid, signal.SIGKILL)
    return _read(log, roots)


def _send_both(root: Path, port: int) -> None:
    modality = Modality(port, Ledger(root / "ledger"))
    spool = root / "state" / "spool"
    for instance in _SENT:
        modality.send_until_taken(instance)
        modality.close()
        wait_until(
            lambda: not [path for path in spool.rglob("*.dcm") if path.parent.name != "incoming"],
            "delivered",
        )


def _read(log: Path, roots: dict[Path, str]) -> Recording:
    calls, acknowledged, taken, accepted = [], [], [], NEVER
    acceptors: set[int] = set()
    requestors: set[int] = set()
    for call in recorded(log):
        if call.name in TELLS:
            begin = call.data[:1]
            if begin == _ACCEPT:
                acceptors.add(call.thread)
                accepted = min(accepted, call.began)
            elif begin == _REQUEST:
                requestors.add(call.thread)
            elif begin == _DATA and call.thread in acceptors:
                acknowledged.append(call.began)
        elif call.name == "recvfrom":
            if call.data[:1] == _DATA and call.thread in requestors:
                taken.append(call.ended)
        elif any(str(root) in " ".join(map(_plain, call.arguments)) for root in roots):
            calls.append(call)
    return Recording(calls, accepted, roots, acknowledged, taken)


def _plain(argument: str) -> str:
    if "\\x" not in argument or len(argument) > 4096:
        return argument
    text = argument.replace('"', "")
    begin, _, rest = text.partition("\\x")
    with contextlib.suppress(ValueError):
        return begin + bytes.fromhex(rest.rstrip(">").replace("\\x", "")).decode("utf-8", "replace")
    return argument


#: A moment, what is owed then, and a state that a cut may leave.
Found: TypeAlias = tuple[int, list[Instance], State]


def check(state: State, owed: Sequence[Instance], destination: str, root: Path) -> None:
    """Start a node on a state, and hold it to its promises."""
    put(state, root)
    archive, ledger = root / "archive", Ledger(root / "ledger")
    for instance in _SENT:
        ledger.write(instance, None)
    for instance in owed:
        ledger.write(instance, 0)
    with Node(settings_of(root / "state", disk(archive, destination))) as node:
        wait_until(
            lambda: (
                {f"{one.sop_instance_uid}.dcm" for one in owed}
                <= {path.name for path in visible(archive)}
            ),
            "what was acknowledged is delivered",
        )
        modality = Modality(node.address[1], ledger)
        for instance in _SENT:
            modality.send_until_taken(instance)
        modality.close()
        wait_until(
            lambda: (
                node.progress[destination].delivered
                and len(visible(archive)) >= len(_SENT)
                and not list((root / "state").rglob("queued/*/*.dcm"))
            ),
            "what was sent again is delivered",
        )
    verdict = in_archive(archive, ledger.read())
    assert verdict.is_well, (verdict.seen, verdict.lost)
    assert verdict.seen.whole == {one.sop_instance_uid for one in _SENT}


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("mode", ["disk", "disk on another file system", "forward"])
def test_every_state_after_a_power_cut(
    mode: str, tmp_path: Path, is_long: bool, counted: list[str], request: pytest.FixtureRequest
) -> None:
    need_strace()
    to = request.getfixturevalue("downstream")[0] if mode == "forward" else None
    with folder_in_memory(tmp_path) as memory:
        archive = (memory if "another" in mode else tmp_path) / "recorded-archive"
        recording = record(tmp_path / "recorded", archive, to)
        assert len(recording.acknowledged) == len(_SENT)
        assert len(recording.taken) == (len(_SENT) if to else 0)
        require_that_the_model_is_right(recording)
        found = distinct(recording, recording.disk())
        chosen = found if is_long else spread(found, _SHORT)
        destination = "pacs" if to else "disk"
        for number, (now, owed, state) in enumerate(chosen):
            place = memory / f"{number}"
            try:
                check(state, owed, destination, place)
            except BaseException:
                keep(place, state, now, tmp_path / "failed")
                raise
            shutil.rmtree(place)
    assert any(owed for _, owed, _ in chosen)
    counted.append(
        f"power cut, {mode}: a node started on {len(chosen)} of {len(found)} different states at "
        f"{len(recording.points())} moments: 0 lost, 0 half-written"
    )


def require_that_the_model_is_right(recording: Recording) -> None:
    """With nothing missing it says what is really there."""
    assert said(recording) == there(recording.roots)


def said(recording: Recording) -> dict[str, bytes | None]:
    """Return the files, and the folders as None, that are there by the model."""
    everything = next(states(recording.disk(), NEVER - 1))
    return {path: held and held[1] for path, held in everything.items()}


def there(roots: dict[Path, str]) -> dict[str, bytes | None]:
    """Return what is there."""
    found = {
        f"{name}/{path.relative_to(root)}": None if path.is_dir() else path.read_bytes()
        for root, name in roots.items()
        for path in root.rglob("*")
    }
    return found | dict.fromkeys(roots.values())


def distinct(recording: Recording, made_disk: Disk) -> list[Found]:
    """The states that differ, or in which something else is owed, with a moment of each."""
    found: dict[object, Found] = {}
    for now in recording.points():
        owed = recording.owed(now)
        for state in states(made_disk, now, seed=now):
            found.setdefault((digest(state), len(owed)), (now, owed, state))
    return list(found.values())


def spread(found: Sequence[Found], count: int) -> list[Found]:
    """Some states, of as many moments as can be, half of them such in which something is owed."""
    drawn = random.Random(7)
    chosen = []
    for pool in ([one for one in found if one[1]], [one for one in found if not one[1]]):
        moments: dict[int, list[Found]] = {}
        for one in pool:
            moments.setdefault(one[0], []).append(one)
        of_each = [drawn.sample(ones, len(ones)) for ones in moments.values()]
        drawn.shuffle(of_each)
        in_turn = itertools.chain.from_iterable(itertools.zip_longest(*of_each))
        chosen += list(itertools.islice(filter(None, in_turn), count // 2))
    return chosen


def keep(place: Path, state: State, now: int, where: Path) -> None:
    """Keep what a node did not cope with, and what it was started on."""
    shutil.copytree(place, where)
    held = (f"{path} {held and len(held[1])}" for path, held in sorted(state.items()))
    (where / "state.txt").write_text("\n".join([f"line {now} of the trace", *held]))


def test_a_disk_whose_fsync_does_nothing(tmp_path: Path, counted: list[str]) -> None:
    """Then what was acknowledged may be lost: no program can help that, and it shows that the test
    above would see a sync that is left out. But what is torn is never delivered.
    """
    need_strace()
    with folder_in_memory(tmp_path) as memory:
        recording = record(tmp_path / "recorded", tmp_path / "recorded-archive", None)
        lying = recording.disk()
        lying.forget_syncs(since=recording.accepted)
        lost, chosen = 0, spread(distinct(recording, lying), _SHORT // 2)
        for number, (_, owed, state) in enumerate(chosen):
            lost += is_lost_but_not_torn(state, owed, memory / f"{number}")
    counted.append(
        f"power cut with a lying fsync: something was lost in {lost} of {len(chosen)} states, "
        "nothing torn was delivered"
    )
    assert lost


def is_lost_but_not_torn(state: State, owed: Sequence[Instance], root: Path) -> bool:
    """Start a node; tell whether something acknowledged is gone. What it delivers is whole."""
    put(state, root)
    archive, ledger = root / "archive", Ledger(root / "ledger")
    archive.mkdir(exist_ok=True)
    for instance in _SENT:
        ledger.write(instance, 0 if instance in owed else None)
    # What was in the archive at the cut is not in the hands of the node any more.
    delivered_before = set(visible(archive))
    with Node(settings_of(root / "state", disk(archive))) as node:
        modality = Modality(node.address[1], ledger)
        modality.send_until_taken(made(STUDY))
        modality.close()
        place = f"{made(STUDY).sop_instance_uid}.dcm"
        wait_until(lambda: place in {path.name for path in visible(archive)}, "delivered")
    for path in delivered_before:
        path.unlink(missing_ok=True)
    verdict = in_archive(archive, ledger.read())
    assert verdict.seen.half_written == verdict.seen.different == []
    return any(
        one.sop_instance_uid not in verdict.seen.whole
        and not any(path.stem == one.sop_instance_uid for path in delivered_before)
        for one in owed
    )
