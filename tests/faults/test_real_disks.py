"""Real disks that are full, lie, vanish and cannot be written to. Needs root, to mount them."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import peers
import pytest
from faults.ledger import Ledger, Told, at_downstream, in_archive, visible
from faults.made import made
from faults.modality import Modality
from faults.serving import Downstream, Served, kill, served
from peers import wait_until

pytestmark = pytest.mark.peer


def mount(*arguments: object) -> None:
    """Mount, or skip where that is not allowed."""
    done = subprocess.run(
        ["mount", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"mount {' '.join(map(str, arguments))}: {done.stderr.strip()}")


def unmount(place: Path) -> None:
    subprocess.run(["umount", "--lazy", str(place)], check=True, capture_output=True)


@contextlib.contextmanager
def mounted(place: Path, *arguments: object) -> Iterator[Path]:
    """Something mounted at `place` for the block, whatever else is done with it there."""
    place.mkdir(parents=True, exist_ok=True)
    mount(*arguments, place)
    try:
        yield place
    finally:
        while subprocess.run(["umount", "-l", str(place)], capture_output=True).returncode == 0:
            pass


def send_until(modality: Modality, numbers: Iterator[int], *, fails: bool) -> int | None:
    """Send new instances until one fails, or one is taken; return the last answer."""
    for number in itertools.islice(numbers, 20_000):
        answer = modality.send(made(number))
        if (answer != 0) == fails:
            modality.close()
            return answer
    raise AssertionError("it did not happen")


def wait_for_all(told: Told, received: Path) -> None:
    wait_until(lambda: not at_downstream(received, told).lost, "all is downstream", 60)


def require_refused(answer: int | None) -> None:
    """A700 and its like (PS3.4 B.2.3), or no association."""
    assert answer is None or answer >> 8 == 0xA7, answer


def test_a_disk_that_is_full_refuses_and_goes_on_when_it_is_not(tmp_path: Path) -> None:
    port, numbers = peers.free_port(), itertools.count()
    ledger, received = Ledger(tmp_path / "ledger"), tmp_path / "received"
    (tmp_path / "node").mkdir()
    state = tmp_path / "node" / "state"
    with (
        mounted(state, "-t", "tmpfs", "-o", "size=1500k", "none"),
        served(tmp_path / "node", archive=False, downstream=Downstream(port)) as node,
    ):
        modality = Modality(node.port, ledger)
        require_refused(send_until(modality, numbers, fails=True))
        assert node.is_up
        with peers.storescp(received, "--unique-filenames", port=port):
            assert send_until(modality, numbers, fails=False) == 0
            wait_for_all(ledger.read(), received)
        assert node.set_aside() == []
    assert at_downstream(received, ledger.read()).is_well


def test_a_disk_that_says_it_has_written_and_has_not(tmp_path: Path) -> None:
    """ext4 with more room than is behind it: write succeeds, fsync fails, and would then succeed.

    Such a disk breaks its own file system in the end. What can be promised is the answer: what
    failed is refused, what comes after is refused as well or was synced in what room is left.
    """
    numbers, ledger = itertools.count(), Ledger(tmp_path / "ledger")
    root, backing = tmp_path / "node", tmp_path / "backing"
    root.mkdir()
    with mounted(backing, "-t", "tmpfs", "-o", "size=4m", "none"):
        peers.need("mkfs.ext4")
        image = backing / "image"
        with image.open("wb") as file:
            file.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-J", "size=1", str(image)], check=True)
        with (
            mounted(root / "state", "-o", "loop", image),
            served(root, archive=False, downstream=Downstream(peers.free_port())) as node,
        ):
            modality = Modality(node.port, ledger)
            require_refused(send_until(modality, numbers, fails=True))
            for number in itertools.islice(numbers, 5):
                answer = modality.send(made(number))
                if answer != 0:
                    require_refused(answer)
                    modality.close()
            assert node.is_up


def test_a_spool_whose_disk_is_gone_is_not_written_below_its_mount_point(tmp_path: Path) -> None:
    numbers, ledger = itertools.count(), Ledger(tmp_path / "ledger")
    root, real = tmp_path / "node", tmp_path / "real"
    real.mkdir()
    with mounted(root / "state", "--bind", real) as state, served(root) as node:
        modality = Modality(node.port, ledger, patience=2)
        assert send_until(modality, numbers, fails=False) == 0
        wait_until(lambda: node.is_drained, "delivered")
        unmount(state)
        require_refused(send_until(modality, numbers, fails=True))
        # Its children too do not make a spool where there is none.
        for role in ("receiver", "deliverer"):
            kill(node.one(role))
        assert modality.send(made(next(numbers))) != 0
        assert not list(state.rglob("*.dcm"))
        assert not (state / "spool").exists()
        mount("--bind", real, state)
        _wait_until_taken(modality, numbers)
        _wait_for_archive(node, ledger)
        assert in_archive(node.archive, ledger.read()).is_well


def test_an_archive_that_cannot_be_written_to_waits(tmp_path: Path) -> None:
    numbers, ledger = itertools.count(), Ledger(tmp_path / "ledger")
    root, real = tmp_path / "node", tmp_path / "real"
    real.mkdir()
    with (
        mounted(root / "archive", "--bind", real) as archive,
        served(root) as node,
    ):
        mount("-o", "remount,bind,ro", archive)
        modality = Modality(node.port, ledger)
        for number in itertools.islice(numbers, 5):
            assert modality.send(made(number)) == 0
        modality.close()
        wait_until(lambda: "Read-only file system" in node.log.read_text(), "it was tried")
        assert not visible(archive)
        mount("-o", "remount,bind,rw", archive)
        _wait_for_archive(node, ledger)
        assert in_archive(archive, ledger.read()).is_well
        assert node.set_aside() == []


def _wait_until_taken(modality: Modality, numbers: Iterator[int]) -> None:
    instance = made(next(numbers))
    modality.send_until_taken(instance)
    modality.close()


def _wait_for_archive(node: Served, ledger: Ledger) -> None:
    told = ledger.read()
    wait_until(
        lambda: (
            {f"{uid}.dcm" for uid in told.acknowledged}
            <= {path.name for path in visible(node.archive)}
        ),
        "everything acknowledged is in the archive",
        60,
    )
