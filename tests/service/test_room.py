"""The reserve of disk space has two marks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from node.delivery.circuit import Circuit
from node.delivery.progress import Progress
from node.service.observer import Observer
from node.service.page import Page
from node.service.report import Report
from node.service.room import Room, takes
from node.settings import Settings, SpoolSettings
from node.spool import Disk, Durability, Spool

#: Free bytes one after the other, and whether instances are taken, with 1000 to stay free.
COURSES = {
    "plenty": [(5000, True), (1001, True)],
    "down to the reserve and back": [
        (1001, True),
        (1000, False),
        (1001, False),
        (1250, False),
        (1251, True),
        (1001, True),
    ],
    "little from the beginning": [(10, False), (1100, False), (2000, True)],
}


@pytest.mark.parametrize("course", COURSES)
def test_a_course(course: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "spool", Disk(Durability.NONE))
    room = Room(spool, SpoolSettings(reserve_bytes=1000, reserve_percent=0))
    for free, taken in COURSES[course]:
        disk = SimpleNamespace(f_bavail=free, f_frsize=1, f_blocks=10_000)
        monkeypatch.setattr(os, "statvfs", lambda _, disk=disk: disk)
        assert room.is_enough() is taken, free


def test_the_change_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path / "spool", Disk(Durability.NONE))
    room = Room(spool, SpoolSettings(reserve_bytes=0, reserve_percent=10))
    for free in (900, 900, 2000, 2000):
        disk = SimpleNamespace(f_bavail=free, f_frsize=1, f_blocks=10_000)
        monkeypatch.setattr(os, "statvfs", lambda _, disk=disk: disk)
        room.is_enough()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_no_reserve_is_no_reserve() -> None:
    assert takes(1, 0, was_taking=False)


def test_a_disk_that_is_gone_has_no_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", Disk(Durability.NONE))
    room = Room(spool, SpoolSettings(reserve_bytes=0, reserve_percent=0))
    assert room.is_enough()
    spool.root.rename(tmp_path / "elsewhere")
    assert not room.is_enough()
    spool.root.mkdir()
    assert not room.is_enough()


def test_a_disk_that_is_gone_is_no_failure_of_those_who_ask(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", Disk(Durability.NONE))
    observer, settings = Observer(spool), Settings()
    shutil.rmtree(spool.root)
    snapshot = observer.snapshot(settings, ("127.0.0.1", 104), Report(), is_ready=True)
    assert not snapshot.is_ready
    assert (snapshot.disk.total_bytes, snapshot.free_bytes) == (0, 0)
    page = Page(observer, "token").render(snapshot, "", None, may_act=False)
    assert "the disk is not there" in page


@pytest.mark.parametrize(
    ("circuit", "queued", "state"),
    [
        (Circuit.CLOSED, 1, "up"),
        (Circuit.OPEN, 0, "down"),
        (Circuit.OPEN, 1, "down"),
        (Circuit.HALF_OPEN, 1, "down"),
        (Circuit.HALF_OPEN, 0, "up"),  # nothing is there to try it with
    ],
)
def test_a_destination_is_down_while_somebody_misses_it(
    circuit: Circuit, queued: int, state: str, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool", Disk(Durability.NONE))
    spool.add_destination("received")
    for number in range(queued):
        (spool.root / "queued" / "received" / f"00000000000000000001-{number:032x}.dcm").touch()
    report = Report(destinations={"received": Progress(circuit=circuit)})
    snapshot = Observer(spool).snapshot(Settings(), ("127.0.0.1", 104), report, is_ready=True)
    [destination] = snapshot.destinations
    assert (destination.queued, destination.state) == (queued, state)
