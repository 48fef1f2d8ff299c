"""The spool: every state and step, recovery after a stop between any two calls, full disks."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from node.errors import CannotWrite
from node.spool import Disk, Durability, Entry, Spool, State
from node.spool.states import STEPS, IllegalStep, Step, after


def make(root: Path, *destinations: str) -> Spool:
    spool = Spool(root / "spool", Disk(Durability.FSYNC))
    for name in destinations:
        spool.add_destination(name)
    return spool


def put(spool: Spool, content: bytes = b"instance") -> Entry:
    with spool.begin() as incoming:
        incoming.file.write(content)
        return incoming.commit()


def files(spool: Spool) -> set[str]:
    """Every file below the spool's states, by its folder."""
    found = spool.root.rglob("*.dcm")
    return {str(path.parent.relative_to(spool.root)) for path in found}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("step", list(Step))
def test_a_step_is_in_the_table_or_raises(state: State, step: Step) -> None:
    if (state, step) in STEPS:
        assert after(state, step) is STEPS[state, step]
    else:
        with pytest.raises(IllegalStep, match=state.value):
            after(state, step)


def test_an_entry_goes_from_receipt_to_every_destination(tmp_path: Path) -> None:
    spool = make(tmp_path, "disk", "pacs")
    entry = put(spool)
    assert files(spool) == {"received"}
    spool.fan_out([entry], ["disk", "pacs"])
    assert files(spool) == {"queued/disk", "queued/pacs"}
    [first] = spool.queued("disk")
    assert first.path.read_bytes() == b"instance"
    spool.delivered(first)
    assert files(spool) == {"queued/pacs"}


def test_what_is_not_committed_leaves_nothing(tmp_path: Path) -> None:
    spool = make(tmp_path)
    with spool.begin() as incoming:
        incoming.file.write(b"half")
    assert files(spool) == set()


def test_entries_come_in_the_order_of_receipt(tmp_path: Path) -> None:
    spool = make(tmp_path)
    for number in range(20):
        put(spool, b"%d" % number)
    assert [int(entry.path.read_bytes()) for entry in spool.received()] == list(range(20))


def test_a_refused_entry_is_kept_with_its_reason_until_a_human_decides(tmp_path: Path) -> None:
    spool = make(tmp_path, "pacs")
    for _ in range(2):
        spool.fan_out([put(spool)], ["pacs"])
    for entry in spool.queued("pacs"):
        spool.refused(entry, "it said 0122")
    retried, dropped = spool.failed("pacs")
    assert (retried.cause, dropped.cause) == ("it said 0122", "it said 0122")
    spool.retry(retried.entry)
    spool.drop(dropped.entry)
    assert files(spool) == {"queued/pacs"}
    assert list((spool.root / "failed" / "pacs").iterdir()) == []


def of_one_with_a_reason(spool: Spool) -> Path:
    spool.fan_out([put(spool)], ["pacs"])
    [entry] = spool.queued("pacs")
    spool.refused(entry, "it said 0122", 7)
    [reason] = (spool.root / "failed" / "pacs").glob("*.json")
    reason.unlink()
    return reason


FOREIGN: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link": lambda path: path.symlink_to("/etc/passwd"),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a large file": lambda path: path.write_bytes(b" " * (1 << 20) + b"{}"),
    "nothing in it": Path.touch,
    "no text": lambda path: path.write_bytes(b"\xff\xfe"),
    "no object": lambda path: path.write_text("[]"),
    "lists in lists": lambda path: path.write_text("[" * 10_000),
    "a number beyond any": lambda path: path.write_text('{"cause": "x", "tries": Infinity}'),
    "another type": lambda path: path.write_text('{"cause": "x", "tries": {}}'),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_reason_that_nobody_wrote(case: str, tmp_path: Path) -> None:
    spool = make(tmp_path, "pacs")
    FOREIGN[case](of_one_with_a_reason(spool))
    [failed] = spool.failed("pacs")
    assert failed.tries == 1


@pytest.mark.parametrize("case", FOREIGN)
def test_a_marker_that_nobody_wrote(case: str, tmp_path: Path) -> None:
    spool = make(tmp_path)
    marker = spool.root / "spool.json"
    marker.unlink()
    FOREIGN[case](marker)
    assert not spool.is_mounted()


def test_what_is_no_file_is_no_entry(tmp_path: Path) -> None:
    spool = make(tmp_path, "pacs")
    folder = spool.root / "queued" / "pacs"
    (tmp_path / "elsewhere").write_text("x")
    (folder / "link.dcm").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(folder / "pipe.dcm")
    (folder / "folder.dcm").mkdir()
    assert list(spool.queued("pacs")) == []
    for name in ("link.dcm", "pipe.dcm", "folder.dcm", "nothing.dcm", "../pacs/link.dcm", "\0.dcm"):
        assert spool.find(State.QUEUED, "pacs", name) is None


#: What somebody may have put there; some of it would be an entry if it were whole.
NAMES = [b"foreign.dcm", b"00000000000000000001-1.dcm", b"x" * 21 + b"..dcm", b"a b.dcm"]
NAMES += [b"new\nline.dcm", b"\xff\xfe.dcm", b"..dcm", b".dcm", b"-rf.dcm", b"x" * 240 + b".dcm"]


def test_files_that_nobody_received_hold_up_nothing(tmp_path: Path) -> None:
    """Nor does a folder where files are removed at a start."""
    spool = make(tmp_path, "pacs")
    for folder in [path for path in spool.root.rglob("*") if path.is_dir()]:
        (folder / "folder.dcm").mkdir()
        for name in NAMES:
            with open(os.path.join(os.fsencode(folder), name), "wb") as file:
                file.write(b"x")
    again = make(tmp_path, "pacs")
    again.recover()
    again.take_over()
    put(again)
    found = list(again.received())
    assert [entry.name for entry in found if entry.received_at > 1]
    again.fan_out(found, ["pacs"])
    assert list(again.received()) == []
    for entry in again.queued("pacs"):
        assert entry.name.isprintable()
        again.damaged(entry)
    assert list(again.queued("pacs")) == []


@pytest.mark.parametrize("how", ["damaged", "refused"])
def test_a_fan_out_is_not_repeated_for_what_was_set_aside(how: str, tmp_path: Path) -> None:
    """It was interrupted before the received name was gone: that and the queued one are one file,
    and a rename of a file to another of its names does nothing.
    """
    spool = make(tmp_path, "pacs", "disk")
    entry = put(spool)
    for destination in ("pacs", "disk"):
        os.link(entry.path, spool.root / "queued" / destination / entry.name)
    [queued] = spool.queued("pacs")
    if how == "damaged":
        spool.damaged(queued)
    else:
        spool.refused(queued, "it said 0122")
    spool.fan_out([entry], ["pacs", "disk"])
    assert files(spool) == {f"{'corrupt' if how == 'damaged' else 'failed'}/pacs", "queued/disk"}


def test_what_has_the_name_of_an_entry_and_is_another_file_is_not_taken_for_it(
    tmp_path: Path,
) -> None:
    spool = make(tmp_path, "pacs")
    entry = put(spool)
    other = spool.root / "queued" / "pacs" / entry.name
    other.write_bytes(b"another")
    with pytest.raises(FileExistsError):
        spool.fan_out([entry], ["pacs"])
    assert list(spool.received()) == [entry]
    other.unlink()
    spool.fan_out([entry], ["pacs"])
    assert files(spool) == {"queued/pacs"}


def test_a_link_to_a_folder_is_no_queue(tmp_path: Path) -> None:
    spool = make(tmp_path, "pacs")
    (tmp_path / "elsewhere").mkdir()
    (spool.root / "queued" / "link").symlink_to(tmp_path / "elsewhere")
    assert spool.destinations() == ["pacs"]


def test_a_restart_removes_what_was_not_finished_and_keeps_the_rest(tmp_path: Path) -> None:
    spool = make(tmp_path)
    put(spool)
    left_behind = spool.begin()
    left_behind.file.write(b"half")
    left_behind.file.close()
    again = make(tmp_path)
    recovered = again.recover()
    assert (recovered.removed, recovered.received) == (1, 1)
    assert files(again) == {"received"}


def test_a_fan_out_that_was_interrupted_is_repeated_without_harm(tmp_path: Path) -> None:
    spool = make(tmp_path, "disk", "pacs")
    entry = put(spool)
    os.link(entry.path, spool.root / "queued" / "disk" / entry.name)
    spool.fan_out([entry], ["disk", "pacs"])
    assert files(spool) == {"queued/disk", "queued/pacs"}


def test_one_spool_has_one_owner(tmp_path: Path) -> None:
    held = make(tmp_path).lock()
    with pytest.raises(CannotWrite, match="another node is running"):
        make(tmp_path).lock()
    os.close(held)
    os.close(make(tmp_path).lock())


def test_a_spool_of_a_later_version_is_not_touched(tmp_path: Path) -> None:
    spool = make(tmp_path)
    (spool.root / "spool.json").write_text('{"format": 2}')
    with pytest.raises(CannotWrite, match="later version"):
        make(tmp_path)


def test_a_folder_whose_disk_was_unmounted_is_noticed(tmp_path: Path) -> None:
    spool = make(tmp_path)
    assert spool.is_mounted()
    spool.root.rename(tmp_path / "elsewhere")
    spool.root.mkdir()
    assert not spool.is_mounted()


class FailingDisk(Disk):
    """A disk whose n-th call that can fail, fails."""

    def __init__(self, at: int) -> None:
        super().__init__(Durability.FSYNC)
        self.at = at
        self.calls = 0

    def _call(self) -> None:
        self.calls += 1
        if self.calls == self.at:
            raise OSError(errno.EIO, "injected")

    def create(self, path: Path) -> int:
        self._call()
        return super().create(path)

    def sync_file(self, descriptor: int) -> None:
        self._call()
        super().sync_file(descriptor)

    def sync_folder(self, folder: Path) -> None:
        self._call()
        super().sync_folder(folder)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_error_at_any_call_of_a_commit_leaves_nothing_visible(tmp_path: Path, at: int) -> None:
    make(tmp_path)
    disk = FailingDisk(0)
    spool = Spool(tmp_path / "spool", disk)
    disk.at = at
    with pytest.raises(OSError, match="injected"):
        put(spool)
    assert disk.calls == at
    assert files(spool) == set()
    put(spool)
    assert files(spool) == {"received"}


def test_the_whole_commit_is_three_calls_that_can_fail(tmp_path: Path) -> None:
    """So that the table above is complete."""
    make(tmp_path)
    disk = FailingDisk(0)
    put(Spool(tmp_path / "spool", disk))
    assert disk.calls == 3


def test_threads_share_the_fsync_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(Durability.FSYNC)
    disk.sync_folder(tmp_path)
    real, runs, go = os.fsync, [], threading.Event()

    def slow(descriptor: int) -> None:
        runs.append(descriptor)
        go.wait(10)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    threads = [threading.Thread(target=disk.sync_folder, args=(tmp_path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    waiting = disk._folders[tmp_path]._condition._waiters  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while len(waiting) < 7 and time.monotonic() < deadline:
        os.sched_yield()
    go.set()
    for thread in threads:
        thread.join(10)
    assert len(runs) == 2


def test_a_failed_folder_sync_is_told_to_everyone_who_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(Durability.FSYNC)

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "injected")

    monkeypatch.setattr(os, "fsync", broken)
    failures: list[OSError] = []

    def ask() -> None:
        try:
            disk.sync_folder(tmp_path)
        except OSError as failure:
            failures.append(failure)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [failure.errno for failure in failures] == [errno.EIO] * 8


def test_a_folder_on_another_file_system_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make(tmp_path)
    real = os.stat

    def elsewhere(path: object, **options: object) -> object:
        found = real(path, **options)  # type: ignore[call-overload]
        if path != spool.root / "queued":
            return found
        return os.stat_result((*found[:2], found.st_dev + 1, *found[3:]))

    monkeypatch.setattr(os, "stat", elsewhere)
    with pytest.raises(CannotWrite, match="queued is on another file system"):
        spool.recover()


def test_a_marker_that_was_copied_back_is_still_the_same_spool(tmp_path: Path) -> None:
    spool = make(tmp_path)
    marker = spool.root / "spool.json"
    content = marker.read_text()
    marker.unlink()
    assert not spool.is_mounted()
    marker.write_text(content)
    assert spool.is_mounted()


def test_names_that_could_not_be_synced_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To sync them again could succeed though they are not on the disk."""
    spool = Spool(tmp_path / "spool", Disk())
    spool.add_destination("pacs")
    with spool.arrive() as incoming:
        entry = incoming.commit()
    queue = spool.root / "queued" / "pacs"

    def broken(folder: Path) -> None:
        if folder == queue:
            raise OSError(errno.EIO, "injected")

    with monkeypatch.context() as patched:
        patched.setattr(spool.disk, "sync_folder", broken)
        with pytest.raises(OSError, match="injected"):
            spool.fan_out([entry], ["pacs"])
    assert list(queue.iterdir()) == []
    assert list(spool.received()) == [entry]
    spool.fan_out(list(spool.received()), ["pacs"])
    assert [each.name for each in spool.queued("pacs")] == [entry.name]
    assert list(spool.received()) == []
