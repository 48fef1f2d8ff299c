"""Names made in advance: a crash or a power cut between any two steps loses nothing promised.

The steps of one instance are recorded from the code itself, and every state that a disk may show
after a power cut is built from them: of the names that were made or removed and not synced any
may be there, each by itself; of a content that was not synced any part.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import instances
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from node.dicom.part10 import FileMeta
from node.dicom.scan import scan
from node.pixels.files import write_file
from node.pixels.policy import Options
from node.spool import Disk, Durability, Entry, Incoming, Spool, State, arriving, takeover
from node.spool.incoming import Arrival

QUEUES = ("disk", "pacs")


def make(root: Path, disk: Disk | None = None) -> Spool:
    spool = Spool(root / "spool", disk or Disk(Durability.FSYNC))
    spool.recover()
    for name in QUEUES:
        spool.add_destination(name)
    return spool


def write(incoming: Incoming) -> None:
    data_set = instances.encoded(instances.image(seed=1, SOPInstanceUID="1.2"))
    meta = FileMeta(
        sop_class_uid="1.2", sop_instance_uid="1.2", transfer_syntax_uid=ExplicitVRLittleEndian
    )
    write_file(scan(data_set, ExplicitVRLittleEndian), meta, incoming.file, Options())


def put(spool: Spool) -> Entry:
    with spool.arrive() as incoming:
        write(incoming)
        return incoming.commit()


def names(spool: Spool, *states: str) -> dict[str, list[str]]:
    """The entries' files in each state's folder, the empty ones made in advance left out."""
    return {
        state: [
            path.name
            for path in (spool.root / state).rglob("*")
            if path.is_file() and path.stat().st_size
        ]
        for state in states or State
    }


def bring_in_order(root: Path) -> Spool:
    """Do what a node that starts does, up to the queues."""
    spool = make(root, Disk(Durability.NONE))
    while True:
        entries = list(spool.received())
        spool.fan_out(entries, QUEUES)
        if spool.take_over(1).is_all and not list(spool.received()):
            return spool


@pytest.fixture(autouse=True)
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "BATCH", 1)
    monkeypatch.setattr(takeover, "_SECONDS_TO_LOCK", 0.0)


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """What the one instance of these tests is as a file."""
    return put(make(tmp_path / "whole")).path.read_bytes()


# -- the way of one instance ---------------------------------------------------------------------


def test_from_arrival_to_the_queues(tmp_path: Path, whole: bytes) -> None:
    spool = make(tmp_path)
    entry = put(spool)
    found = names(spool)
    assert found["received"] == [entry.name]
    [arrived] = found["arriving"]
    assert entry.name.endswith(f"-{arrived}.dcm")
    spool.fan_out([entry], QUEUES)
    assert names(spool, "arriving", "received") == {"arriving": [], "received": []}
    assert [one.path.read_bytes() for name in QUEUES for one in spool.queued(name)] == [whole] * 2


def test_names_made_in_advance_are_given_back(tmp_path: Path) -> None:
    spool = make(tmp_path)
    for _ in range(3):
        entry = put(spool)
    spool.fan_out(list(spool.received()), QUEUES)
    spool.close()
    assert not list((spool.root / "arriving").iterdir())
    assert entry.received_at > 0


def test_an_instance_costs_one_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "BATCH", 32)
    spool = make(tmp_path)
    count, real = itertools.count(), os.fsync

    def counted(descriptor: int) -> None:
        next(count)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    for _ in range(64):
        put(spool)
    assert next(count) == 64 + 2


def test_order_is_that_of_receipt_whoever_received(tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path)
    made = [put(spool).name for spool in (first, second, second, first, second)]
    assert [entry.name for entry in first.received()] == made


def test_without_durability_nothing_is_made_in_advance(tmp_path: Path) -> None:
    spool = make(tmp_path, Disk(Durability.NONE))
    put(spool)
    assert not list((spool.root / "arriving").iterdir())


# -- power cuts ----------------------------------------------------------------------------------


@dataclass
class Recorder(Disk):
    """Records what is done to the one instance, and fails at the call that is to fail."""

    root: Path
    fails_at: str = ""
    steps: list[tuple[str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(Durability.FSYNC)

    def _note(self, what: str, *paths: Path) -> None:
        spool = self.root / "spool"
        if not paths[0].is_relative_to(spool):
            return
        first, second = (*(str(p.relative_to(spool)) for p in paths), "", "")[:2]
        self.steps.append((what, first, second))
        if self.fails_at == f"{what} {first.split('/')[0]}":
            self.fails_at = ""
            raise OSError(errno.EIO, "injected")

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        self._note("create", path)
        return descriptor

    def sync_file(self, descriptor: int) -> None:
        self._note("sync file", Path(os.readlink(f"/proc/self/fd/{descriptor}")))

    def sync_folder(self, folder: Path) -> None:
        self._note("sync folder", folder)

    def link(self, source: Path, target: Path) -> None:
        self._note("link", source, target)
        super().link(source, target)

    def remove(self, path: Path) -> None:
        self._note("remove", path)
        super().remove(path)


@dataclass(frozen=True)
class DiskState:
    """What may be found after a power cut: the names, and how much of the content."""

    names: frozenset[str]
    content: str  # "nothing", "a part" or "all"


def after_power_cut(steps: list[tuple[str, str, str]]) -> Iterator[DiskState]:
    """Yield every state that these steps may have left."""
    durable: set[str] = set()
    pending: list[tuple[str, bool]] = []
    contents = ["nothing"]
    for what, first, second in steps:
        match what:
            case "create":
                pending.append((first, True))
            case "link":
                pending.append((second, True))
                contents = contents if contents == ["all"] else ["nothing", "a part", "all"]
            case "remove":
                pending.append((first, False))
            case "write":
                contents = ["nothing", "a part", "all"]
            case "sync file":
                contents = ["all"]
            case "sync folder":
                for name, there in pending:
                    if os.path.dirname(name) == first:
                        (durable.add if there else durable.discard)(name)
                pending = [one for one in pending if os.path.dirname(one[0]) != first]
    for chosen in itertools.product((True, False), repeat=len(pending)):
        found = set(durable)
        for (name, there), happened in zip(pending, chosen, strict=True):
            if happened:
                (found.add if there else found.discard)(name)
        for content in contents:
            yield DiskState(frozenset(found), content)


def recorded(root: Path, fails_at: str = "") -> list[tuple[str, str, str]]:
    """Return the steps of one instance, `answer` among them where the sender is told."""
    make(root)
    disk = Recorder(root)
    spool = make(root, disk)
    disk.steps.clear()
    disk.fails_at = fails_at
    try:
        with spool.arrive() as incoming:
            write(incoming)
            disk.steps.append(("write", "", ""))
            entry = incoming.commit()
    except OSError:
        disk.steps.append(("answer failure", "", ""))
        return disk.steps
    disk.steps.append(("answer success", "", ""))
    spool.fan_out([entry], QUEUES)
    return disk.steps


def build(root: Path, state: DiskState, whole: bytes) -> None:
    make(root)
    content = {"nothing": b"", "a part": whole[: len(whole) // 2], "all": whole}[state.content]
    inode = root / "inode"
    inode.write_bytes(content)
    for name in state.names:
        os.link(inode, root / "spool" / name)
    inode.unlink()


def test_every_state_after_a_power_cut(tmp_path: Path, whole: bytes, counted: list[str]) -> None:
    steps = recorded(tmp_path / "recorded")
    whats = [what for what, _, _ in steps]
    assert whats[:6] == ["create", "sync folder", "write", "sync file", "link", "answer success"]
    states = {
        (state, "answer success" in whats[:end])
        for end in range(len(steps) + 1)
        for state in after_power_cut(steps[:end])
    }
    all_queued = max(n for n, step in enumerate(steps) if step[0] == "sync folder")
    assert all_queued < whats.index("remove")
    for number, (state, promised) in enumerate(states):
        root = tmp_path / str(number)
        build(root, state, whole)
        spool = bring_in_order(root)
        for name in QUEUES:
            found = [entry.path.read_bytes() for entry in spool.queued(name)]
            assert set(found) <= {whole}, state
            assert found or not promised, state
        assert names(spool, "incoming", "arriving", "received") == {
            "incoming": [],
            "arriving": [],
            "received": [],
        }, state
    counted.append(f"power cuts: {len(states)} states of one instance, nothing lost")
    assert len(states) >= 13


FAILURES = ["sync file arriving", "link arriving", "create arriving", "sync folder arriving"]


@pytest.mark.parametrize("fails_at", FAILURES)
def test_what_was_answered_with_a_failure_never_appears(
    fails_at: str, tmp_path: Path, whole: bytes
) -> None:
    steps = recorded(tmp_path / "recorded", fails_at)
    assert steps[-1][0] == "answer failure"
    for number, state in enumerate(set(after_power_cut(steps))):
        root = tmp_path / str(number)
        build(root, state, whole)
        spool = bring_in_order(root)
        assert not any(names(spool).values()), state


# -- processes that end --------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["sync_file", "link", "after the answer"])
def test_a_killed_receiver(call: str, tmp_path: Path, whole: bytes) -> None:
    """Its files are looked after while the node goes on; what it was writing has no writer."""
    spool = make(tmp_path)
    child = os.fork()
    if not child:  # pragma: no cover - another process
        killing = Disk(Durability.FSYNC)
        if call != "after the answer":
            setattr(killing, call, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        with contextlib.suppress(BaseException):
            put(Spool(spool.root, killing))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    spool.fan_out(list(spool.received()), QUEUES)
    spool.take_over()
    spool.fan_out(list(spool.received()), QUEUES)
    assert [one.path.read_bytes() for one in spool.queued("pacs")] == [whole]
    assert not any(names(spool, "arriving", "received", "incoming").values())


@pytest.mark.parametrize("half", [b"", b"half", b"\0" * 200 + b"DICM"])
def test_what_is_not_whole_is_removed(half: bytes, tmp_path: Path) -> None:
    spool = make(tmp_path)
    (spool.root / "arriving" / "1-2-3").write_bytes(half)
    (spool.root / "incoming" / "4.part").write_bytes(half)
    assert spool.take_over().removed == 2
    assert not list((spool.root / "arriving").iterdir())
    assert not list((spool.root / "incoming").iterdir())


def test_any_damage_to_what_is_not_yet_received_is_seen(tmp_path: Path, whole: bytes) -> None:
    """A flipped bit anywhere behind the preamble, a missing end."""
    spool = make(tmp_path)
    path = spool.root / "arriving" / "1-2-3"
    for at in (128, 160, 400, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        assert spool.take_over().adopted == 0, at
    path.write_bytes(whole[:-1])
    assert spool.take_over().adopted == 0


def test_what_has_a_writer_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bytes
) -> None:
    spool = make(tmp_path)
    with spool.arrive() as arriving_one, spool.begin() as other:
        for one in (arriving_one, other):
            one.file.write(whole)
        found = Spool(spool.root, Disk(Durability.NONE)).take_over()
        assert (found.adopted, found.removed) == (0, 0)
        arriving_one.commit()
        other.commit()
    assert len(list(spool.received())) == 2


def test_what_is_young_and_empty_may_have_a_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "_SECONDS_TO_LOCK", 60.0)
    spool = make(tmp_path)
    (spool.root / "arriving" / "1-2-3").touch()
    (spool.root / "incoming" / "1-2-3.part").touch()
    assert spool.take_over().removed == 0


def test_many_are_taken_over_in_parts(tmp_path: Path, whole: bytes) -> None:
    spool = make(tmp_path)
    for n in range(5):
        (spool.root / "arriving" / f"1-2-{n}").write_bytes(whole)
    found = [spool.take_over(2) for _ in range(3)]
    assert [(one.adopted, one.is_all) for one in found] == [(2, False), (2, False), (1, True)]
    assert len(list(spool.received())) == 5


def test_a_start_with_symbolic_links_and_pipes_in_the_way(tmp_path: Path) -> None:
    spool = make(tmp_path)
    for folder in ("arriving", "incoming", "received"):
        os.mkfifo(spool.root / folder / "1-2-3.dcm")
        (spool.root / folder / "4-5-6.dcm").symlink_to("/etc/passwd")
    spool.fan_out(list(spool.received()), QUEUES)
    found = spool.take_over()
    assert (found.adopted, found.removed) == (0, 0)


def test_threads_take_different_names(tmp_path: Path) -> None:
    spool = make(tmp_path)
    taken: list[str] = []

    def take() -> None:
        for _ in range(50):
            with spool.arrive() as incoming:
                assert isinstance(incoming, Arrival)
                taken.append(incoming.path.name)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(taken)) == 200
